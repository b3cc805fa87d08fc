"""A site is written as it is read: at one place of one layer, and never after its hook is gone."""
from functools import cache

import numpy as np
import pytest
import torch
from helpers.tiny import ENCODERS, FAMILIES, hooks_of, tiny
from transformers.pytorch_utils import Conv1D

from sparse_probing import record
from sparse_probing.activations import hooks
from sparse_probing.examples import Examples
from sparse_probing.sites import SITES, Handles, Site, Verdict, find_site

IDS = torch.randint(5, 120, (3, 7), generator=torch.Generator().manual_seed(0))
SILENCED = [1, 4, 9]


def logits(lm):
    with torch.inference_mode(): return lm.model(IDS).logits


@cache
def model_of(family): return tiny(FAMILIES[family][0], family in ENCODERS)


def silence(x):
    x[..., SILENCED] = 0
    return x


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('name', SITES)
def test_writing_what_was_read_changes_no_bit(family, name):
    lm = model_of(family)
    before = logits(lm)
    with find_site(lm.model, 1, name).write(lambda x: x): after = logits(lm)
    assert torch.equal(before, after)


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('name', SITES)
def test_an_edit_gets_a_vector_for_each_token_of_each_row(family, name):
    lm, shapes = model_of(family), []
    site = find_site(lm.model, 2, name)
    def edit(x):
        shapes.append(tuple(x.shape))
        return x
    with site.write(edit): logits(lm)
    assert shapes == [(*IDS.shape, site.width)]


@pytest.mark.parametrize('family', FAMILIES)
def test_silencing_neurons_is_the_same_as_taking_their_weights_away(family):
    lm = model_of(family)
    before, site = logits(lm), find_site(lm.model, 1, 'neurons')
    with site.write(silence): silenced = logits(lm)
    weight = site.module.weight # a row for each neuron in a Conv1D, a column in a Linear
    if not isinstance(site.module, Conv1D): weight = weight.T
    saved = weight[SILENCED].clone()
    with torch.no_grad():
        weight[SILENCED] = 0
        edited = logits(lm)
        weight[SILENCED] = saved
    assert not torch.equal(silenced, before)
    assert torch.allclose(silenced, edited, atol=1e-5 * silenced.abs().max())


@pytest.mark.parametrize('family', ['GPT-2', 'Llama', 'OPT', 'BLOOM', 'BERT'])
@pytest.mark.parametrize('name', SITES)
def test_what_was_written_is_what_the_next_reader_sees(family, name):
    lm, values = model_of(family), []
    site = find_site(lm.model, 1, name)
    with site.write(silence), site.read(values.append): logits(lm)
    assert (values[0][..., SILENCED] == 0).all()
    assert (values[0] != 0).any()


@pytest.mark.parametrize('family', ['GPT-2', 'Llama', 'OPT', 'BERT'])
def test_one_token_of_one_row_can_be_written(family):
    lm = model_of(family)
    before = logits(lm)
    def push(x):
        x[1, 4] += 1
        return x
    with find_site(lm.model, 3, 'residual').write(push): moved = (logits(lm) != before).any(-1)
    assert moved.nonzero().tolist() == [[1, 4]]


def test_a_whole_stream_can_be_put_in_its_place():
    lm, residual = model_of('Llama'), []
    with find_site(lm.model, 0, 'residual').read(residual.append): before = logits(lm)
    site = find_site(lm.model, 0, 'residual')
    with site.write(torch.zeros_like): assert (logits(lm) != before).any()
    with site.write(lambda x: residual[0]): assert torch.equal(logits(lm), before)


@pytest.mark.parametrize('name', SITES)
def test_no_hook_is_left(name):
    lm = model_of('OPT')
    before = logits(lm)
    handle = find_site(lm.model, 1, name).write(torch.zeros_like)
    assert not torch.equal(logits(lm), before)
    handle.remove()
    assert hooks_of(lm.model) == 0
    assert torch.equal(logits(lm), before)


def test_no_hook_is_left_when_the_edit_fails():
    lm = model_of('GPT-2')
    with pytest.raises(ZeroDivisionError):
        with find_site(lm.model, 1, 'mlp').write(lambda x: 1 / 0): logits(lm)
    assert hooks_of(lm.model) == 0


@pytest.mark.parametrize('edit', [lambda x: x[0], lambda x: x[..., :3], lambda x: None])
def test_an_edit_of_another_shape_is_refused(edit):
    lm = model_of('GPT-2')
    message = r'an edit gives back activations of shape \[3, 7, 32\]; got '
    with pytest.raises(ValueError, match=message):
        with find_site(lm.model, 1, 'mlp').write(edit): logits(lm)


def test_an_edit_may_be_computed_in_another_precision():
    lm = model_of('Llama')
    before = logits(lm)
    with find_site(lm.model, 1, 'neurons').write(lambda x: x.double()): after = logits(lm)
    assert torch.equal(before, after)


def test_an_edit_does_not_reach_what_the_model_uses_elsewhere():
    lm, residual = model_of('Llama'), []
    block = lm.model.model.layers[1]
    site = find_site(lm.model, 1, 'neurons')
    def keep(module, inputs): residual.append(inputs[0].clone())
    with block.register_forward_pre_hook(keep):
        with site.write(silence): logits(lm)
        logits(lm)
    assert torch.equal(*residual)


def test_gradients_pass_through_an_edit():
    lm = model_of('Llama')
    scale = torch.ones((), requires_grad=True)
    with find_site(lm.model, 1, 'neurons').write(lambda x: x * scale):
        lm.model(IDS).logits.sum().backward()
    assert scale.grad.abs() > 0


def test_embeddings_may_come_in_place_of_tokens():
    lm = model_of('OPT')
    embeddings = lm.model.get_input_embeddings()(IDS).detach()
    with find_site(lm.model, 1, 'neurons').write(silence):
        assert torch.allclose(lm.model(inputs_embeds=embeddings).logits, logits(lm))


class Doubled(Site):
    """A site of one's own: every number of the neurons twice as large."""

    def read(self, keep): return super().read(lambda value: keep(2 * value))


def test_a_site_of_ones_own_is_one_entry_of_the_table(monkeypatch):
    lm = model_of('Llama')
    find_site(lm.model, 1, 'mlp') # the layer is known already
    monkeypatch.setitem(SITES, 'first', lambda subject: Verdict(subject.mlp, True, 72))
    assert find_site(lm.model, 1, 'first') == find_site(lm.model, 1, 'neurons')


def test_a_class_of_ones_own_is_read_as_any_other():
    lm, values, doubled = model_of('Llama'), [], []
    site = find_site(lm.model, 1, 'neurons')
    with site.read(values.append), Doubled(*vars(site).values()).read(doubled.append): logits(lm)
    assert torch.equal(2 * values[0], doubled[0])


def test_reading_and_recording_agree():
    lm, values = model_of('GPT-2'), []
    ids, full, zeros = IDS.numpy().astype(np.int32), np.full(3, 7), np.zeros(3, int)
    with find_site(lm.model, 2, 'residual').read(values.append): logits(lm)
    X = record(lm, Examples(ids, full, full - 1, zeros, zeros, ('text',)), 2, site='residual').at(2)
    assert (X == values[0][:, -1].numpy()).all()


def test_reading_inside_an_edit_sees_the_edit():
    lm, values = model_of('GPT-2'), {}
    with find_site(lm.model, 0, 'residual').write(torch.zeros_like):
        with hooks(lm.model, [0, 1], 'residual', values.__setitem__): logits(lm)
    assert (values[0] == 0).all() and (values[1] != values[0]).any()


def test_handles_end_together():
    ended = []
    class Handle:
        def remove(self): ended.append(self)
    with Handles([Handle(), Handle()]): assert not ended
    assert len(ended) == 2
