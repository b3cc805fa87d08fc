"""Contexts against a pass that keeps everything, output tokens against a frozen model, and text."""
import tracemalloc
from itertools import islice

import numpy as np
import pytest
import torch
import transformers as tf
from bs4 import BeautifulSoup
from helpers.tiny import ENCODERS, FAMILIES, LLAMA, tiny
from tokenizers import Tokenizer, models, pre_tokenizers

from sparse_probing import LM, Tokens, find, harvest, read_documents, tokenize
from sparse_probing.neurons import TokenHeatmap, Way, output_tokens, token_heatmap, top_contexts
from sparse_probing.sites import blocks, neuron_input


@pytest.fixture(scope='module')
def corpus(lm): return tokenize(islice(read_documents('news'), 30), lm)


def every_value(lm, tokens, layer, neurons, chunk=256, before=16):
    """Each token's activations by a plain hook, a chunk at a time."""
    values = np.full((len(tokens), len(neurons)), np.nan, np.float32)
    seen = []
    handle = neuron_input(lm.model, layer).register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0][0]))
    for start, end in zip(tokens.starts, tokens.ends):
        first = start
        while True:
            last = min(first + chunk, end)
            seen.clear()
            with torch.inference_mode():
                lm.model(torch.tensor(tokens.ids[None, first:last].astype(int)))
            fresh = first if first == start else first + before
            values[fresh:last] = seen[0][fresh - first:, list(neurons)].numpy()
            if last == end: break
            first += chunk - before
    handle.remove()
    assert np.isfinite(values).all()
    return values


NEURONS = 3, 938, 77


@pytest.mark.parametrize('apart', [False, True])
def test_contexts_are_those_of_a_pass_that_keeps_everything(lm, corpus, apart):
    values = every_value(lm, corpus, 2, NEURONS)
    table = top_contexts(lm, corpus, 2, NEURONS, k=7, one_a_document=apart, sample=10**6)
    document = corpus.document_of(np.arange(len(corpus)))
    for column, neuron in enumerate(NEURONS):
        own = table[table.neuron == neuron]
        for end, sign in (('highest', -1), ('lowest', 1)):
            order = np.argsort(sign * values[:, column], kind='stable')
            if apart: order = order[np.sort(np.unique(document[order], return_index=True)[1])]
            rows, wanted = own[own.end == end], order[:7]
            assert np.allclose(rows.value, values[wanted, column], atol=1e-4)
            assert rows.document.tolist() == document[wanted].tolist()
            assert (rows.place + corpus.starts[document[wanted]]).tolist() == wanted.tolist()
        for row in own[own['end'] == 'quantile'].itertuples():
            assert abs(row.value - np.quantile(values[:, column], row.level)) < 1e-2


def test_contexts_say_the_text_around_the_token(lm, corpus):
    table = top_contexts(lm, corpus, 2, 938, k=3, before=5, after=2)
    for row in table.itertuples():
        at = corpus.starts[row.document] + row.place
        start, end = corpus.starts[row.document], corpus.ends[row.document]
        text = lm.tokenizer.decode(corpus.ids[max(start, at - 5):min(end, at + 3)])
        assert row.left + row.token + row.right == text


def test_documents_batches_and_portions_change_nothing(lm, corpus, monkeypatch):
    table = top_contexts(lm, corpus, 2, NEURONS, k=5, sample=500)
    monkeypatch.setattr('sparse_probing.neurons.PORTION', 700)
    for text, words in ((corpus, {}), (corpus, {'batch_tokens': 300}),
                        (islice(read_documents('news'), 30), {})):
        other = top_contexts(lm, text, 2, NEURONS, k=5, sample=500, **words)
        ends = table.end != 'quantile' # in the middle two tokens may be equally near, on two sides
        assert np.allclose(other.value[ends], table.value[ends], atol=1e-4)
        assert np.allclose(other.value, table.value, atol=.02) # of the neighbours there
        assert other.token[ends].tolist() == table.token[ends].tolist()
        assert other.place[ends].tolist() == table.place[ends].tolist()


def test_a_store_gives_what_the_text_gives(lm, tmp_path):
    """With chunks cut alike, the same values at the same tokens; what follows is not in a store."""
    store = harvest('news', lm, {'any': 1}, out=tmp_path / 'store', layers=[2], context=256,
                    before=16, after=0, limit=8, ranks=1, workers=1)
    tokens = tokenize(islice(read_documents('news'), 8), lm)
    table, other = (top_contexts(lm, text, 2, NEURONS, k=4, sample=10**6)
                    for text in (tokens, store))
    assert np.allclose(other.value, table.value, atol=1e-4)
    ends = table.end != 'quantile' # in the middle two tokens may be equally near
    for column in ('place', 'left', 'token'):
        assert other[column][ends].tolist() == table[column][ends].tolist()
    with pytest.raises(ValueError, match='harvest that, or give the text'):
        top_contexts(lm, store, 3, NEURONS)


def test_memory_does_not_grow_with_the_corpus(lm):
    """What Python holds at most, over four times the text."""
    peaks = []
    for count in (40, 160):
        documents = islice(read_documents('news'), count)
        tracemalloc.start()
        top_contexts(lm, documents, 0, 5, k=3, sample=200)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


@pytest.mark.parametrize('words, message', [
    (dict(neurons=[]), 'neurons'), (dict(neurons=[3, 3]), 'different'),
    (dict(neurons=[1536]), 'out of range'), (dict(neurons=[-1]), 'out of range'),
    (dict(neurons=1.5), 'whole numbers'), (dict(layer=30), 'out of range'),
    (dict(layer='3'), 'whole number'), (dict(k=0), 'at least 1'), (dict(k=2.), 'whole number'),
    (dict(quantiles=(.5, 1.)), 'between 0 and 1'), (dict(before=256), 'longer than before'),
    (dict(text='wiki'), 'as `read_documents` gives them'),
    (dict(text=None), 'a corpus is'),
    (dict(text=[]), 'empty'), (dict(site='head'), 'site')])
def test_what_cannot_be_looked_up_is_refused(lm, corpus, words, message):
    given = dict(text=corpus, layer=2, neurons=938) | words
    with pytest.raises((ValueError, TypeError), match=message): top_contexts(lm, **given)


def with_words(lm):
    """A tiny model with a tokenizer of 120 words."""
    words = 'It was the first of its kind in world , and'.split()
    vocabulary = {word: k for k, word in enumerate([*words, *(f'w{k}' for k in range(109))])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token='w108'))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = tf.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token='w108')
    return LM(lm.model.double(), tokenizer, lm.name)


def is_norm(module): return 'Norm' in type(module).__name__


def hold(norm, given, gave):
    """A norm as the linear map that it is while what it divides by, and its mean, are held."""
    centred = isinstance(norm, torch.nn.LayerNorm) or 'LayerNorm' in type(norm).__name__
    eps = getattr(norm, 'eps', None) or getattr(norm, 'variance_epsilon', 1e-5)
    gain = norm.weight + ('Gemma' in type(norm).__name__)
    size = (given.var(-1, keepdim=True, unbiased=False) if centred
            else given.square().mean(-1, keepdim=True)).add(eps).sqrt()
    def forward(x, *others):
        step = x - given
        return gave + gain * (step - step.mean(-1, keepdim=True) if centred else step) / size
    norm.forward = forward


def frozen_change(lm, layer, neuron, ids, step=1e-3):
    """Change of the last token's logits a unit of a neuron, everything after it held, by hand."""
    model, stack = lm.model, blocks(lm.model)
    noted, handles = {}, []
    def note(module, inputs, output):
        first = output[0] if isinstance(output, tuple) else output
        noted[module] = inputs[0].clone(), first.clone()
    norms = [m for m in model.modules() if is_norm(m)]
    for module in [*norms, *stack]: handles.append(module.register_forward_hook(note))
    before = model(ids, use_cache=False).logits[0, -1]
    for handle in handles: handle.remove()
    for norm in norms: hold(norm, *noted[norm])
    def later(module, inputs, output):
        given, gave = noted[module]
        moved = gave + inputs[0] - given
        return (moved, *output[1:]) if isinstance(output, tuple) else moved
    for block in stack[layer + 1:]: block.register_forward_hook(later)
    def move(module, inputs):
        value = inputs[0].clone()
        value.reshape(-1, value.shape[-1])[-1, neuron] += step
        return (value,)
    neuron_input(lm.model, layer).register_forward_pre_hook(move)
    return (model(ids, use_cache=False).logits[0, -1] - before) / step


CONFIGS = {name: config for name, (config, _) in FAMILIES.items() if name not in ENCODERS} | {
    'OLMo 2': tf.Olmo2Config(**LLAMA),
    'Granite': tf.GraniteConfig(**LLAMA, residual_multiplier=.3, logits_scaling=4.),
    'Cohere': tf.CohereConfig(**LLAMA, logit_scale=.1)}


@pytest.mark.parametrize('family', CONFIGS)
@torch.no_grad()
def test_output_tokens_are_the_change_of_logits_with_all_else_frozen(family, tell):
    lm, neuron, layer = with_words(tiny(CONFIGS[family])), 5, 1
    table = output_tokens(lm, layer, neuron, k=120)
    towards = table[table.direction == 'towards'].sort_values('id').value.to_numpy()
    ids = Way(lm, layer).ids
    plain = frozen_change(lm, layer, neuron, ids)[:120].numpy()
    if family == 'Gemma 2': # puts a cap on its logits, which is left out: the order is the same
        assert (np.argsort(plain) == np.argsort(towards)).mean() > .9
        return
    error = abs(plain - towards).max() / abs(plain).max()
    tell(f'output tokens, {family}: relative error {error:.1e}')
    assert error < 1e-3


def test_directions_are_ends_of_one_order(lm):
    table = output_tokens(lm, 29, [720, 3], k=4)
    assert table.groupby(['neuron', 'direction']).size().tolist() == [4] * 4
    assert (table.value[table.direction == 'towards'] > 0).all()
    assert (table.value[table.direction == 'against'] < 0).all()
    assert ' an' in table[table.neuron == 720].token.tolist()


def test_an_encoder_and_a_neuron_that_is_not_there_are_refused(lm):
    with pytest.raises(ValueError, match='out of range'): output_tokens(lm, 3, 1536)
    with pytest.raises(ValueError, match='whole number'): output_tokens(lm, 3, 3, k='all')
    config = FAMILIES['Llama'][0]
    torch.manual_seed(0)
    bare = with_words(LM(tf.LlamaModel(config).eval(), None, 'bare'))
    with pytest.raises(ValueError, match='no unembedding'): output_tokens(bare, 1, 3)


def test_nothing_is_left_on_the_model(lm):
    before = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in lm.model.modules())
    output_tokens(lm, 3, 3)
    top_contexts(lm, Tokens(np.arange(100, 200, dtype=np.int32), np.zeros(1, int)), 3, 3)
    after = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in lm.model.modules())
    assert before == after


def test_a_heatmap_has_the_recorded_values(lm, corpus):
    text = 'The old man and an umbrella'
    shaded = token_heatmap(lm, text, 3, 938)
    tokens = tokenize([next(read_documents('news'))], lm)
    tokens = Tokens(np.array(lm.tokenizer(text)['input_ids'], np.int32), np.zeros(1, int))
    assert np.allclose(shaded.values, every_value(lm, tokens, 3, [938])[:, 0], atol=1e-4)
    assert ''.join(shaded.tokens) == text
    assert len(find(tokens, lm, ' an')) == 1


class Sum:
    def decision_function(self, X): return X.sum(1)


def test_a_heatmap_of_a_probe_has_its_scores(lm):
    shaded = token_heatmap(lm, 'One, two', 3, probe=Sum())
    assert 'Score of the probe' in shaded.label and len(shaded.values) == len(shaded.tokens)


@pytest.mark.parametrize('words', [dict(), dict(neuron=3, probe=Sum()), dict(neuron=1536),
                                   dict(neuron=-1), dict(text='', neuron=3),
                                   dict(text=None, neuron=3), dict(text=['a'], neuron=3)])
def test_what_cannot_be_shaded_is_refused(lm, words):
    with pytest.raises(ValueError): token_heatmap(lm, **dict(text='a', layer=3) | words)


NASTY = ['<script>alert(1)</script>', '"><img src=x onerror=alert(1)>',
         "' onclick='alert(1)", '&amp;',
         '\n', '\t', '\x00', '\u2028', '  ', '', '{{7*7}}', ']]>', '-->', '\u202eabc']


@pytest.mark.parametrize('token', NASTY)
def test_text_stays_text(token):
    shaded = TokenHeatmap([token, 'b'], [1., -2.], f'label {token}')
    soup = BeautifulSoup(shaded.html(), 'html.parser')
    assert {tag.name for tag in soup.find_all()} <= {'figure', 'figcaption', 'div', 'span', 'sub'}
    for tag in soup.find_all():
        assert set(tag.attrs) <= {'class', 'style', 'title', 'data-token', 'data-value'}
    spans = soup.select('.tok')
    assert len(spans) == 2 and spans[0]['data-value'] == '1.00'
    assert spans[0].get_text().strip()
    assert shaded.alt in soup.figcaption.get_text() and '-2.00' in shaded.alt


def luminance(colour):
    parts = np.array([int(c) for c in colour.split('(')[1].rstrip(')').split(',')]) / 255
    linear = np.where(parts <= .04045, parts / 12.92, ((parts + .055) / 1.055) ** 2.4)
    return linear @ [.2126, .7152, .0722]


@pytest.mark.parametrize('value', [-2., -1., -.1, 0., .1, 1., 2.])
def test_dark_text_is_legible_on_every_shade(value):
    from sparse_probing.neurons import shade
    dark = luminance('rgb(31, 35, 40)')
    assert (luminance(shade(value, 2.)) + .05) / (dark + .05) > 4.5
    assert shade(value, 0.) == 'rgb(255, 255, 255)'
