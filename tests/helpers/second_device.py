"""A second device, for machines without one: tensors that only torch's own operations reach."""
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

THERE = torch.device('meta') # a device that no one mistakes for the processor


class There(torch.Tensor):
    """A tensor whose numbers numpy cannot see; what is copied over is counted."""
    copied = 0 # numbers that came over since it was last set to zero

    @staticmethod
    def __new__(cls, held):
        own = torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), dtype=held.dtype, device=THERE)
        own.held = held
        return own

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        comes_over = kwargs.get('device') == torch.device('cpu')
        if 'device' in kwargs: kwargs['device'] = torch.device('cpu')
        bare = tree_map(lambda a: a.held if isinstance(a, There) else a, (args, kwargs))
        out = function(*bare[0], **bare[1])
        if comes_over: cls.copied += out.numel()
        return out if comes_over else tree_map(
            lambda a: There(a) if isinstance(a, torch.Tensor) else a, out)


class SecondDevice(TorchFunctionMode):
    """While this is on, tensors made on the second device hold their numbers."""
    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.as_tensor and kwargs.get('device') == THERE:
            return There(function(*args))
        return function(*args, **kwargs)
