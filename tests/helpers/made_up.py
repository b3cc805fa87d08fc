"""Activations of no model."""
import numpy as np

from sparse_probing import Activations, Examples


def made_up(n=160, layers=3):
    """Noise in layer 0; later layers know more and more."""
    rng, y = np.random.default_rng(0), np.arange(n) % 2
    X = rng.normal(size=(n, layers, 2, 12)).astype('f4')
    X[..., 0] += np.arange(layers)[:, None] * (2 * y - 1)[:, None, None]
    length, place, group = np.full(n, 3), np.full(n, 2), np.arange(n) // 4
    examples = Examples(np.zeros((n, 3), np.int32), length, place, y, group, ('no', 'yes'))
    return Activations(X, examples, tuple(range(layers)), (-1, 0), 'neurons', 'made up')
