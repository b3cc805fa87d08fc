"""`record` against a plain full forward with an ordinary hook, for every family."""

import numpy as np
import pytest
import torch
import transformers as tf
from sklearn.linear_model import LogisticRegression
from sparse_probing import (
    KSparseProbe,
    SparseProbe,
    k_curve,
    l1_path,
    neuron_input,
    rank_neurons,
    record,
    sparsity_path,
)
from sparse_probing.activations import batches, hooks, sees_padding
from sparse_probing.examples import Examples
from sparse_probing.sites import knowledge
from sparse_probing.sources import LM

from helpers.tiny import ENCODERS, FAMILIES, LLAMA, SMALL, hooks_of, tiny


def sequences(lengths, seed=0):
    rng, n = np.random.default_rng(seed), len(lengths)
    ids = rng.integers(5, 120, (n, max(lengths))).astype(np.int32)
    lengths = np.array(lengths)
    return Examples(
        ids, lengths, rng.integers(2, lengths), np.arange(n) % 2, np.arange(n), ('a', 'b')
    )


def plain(lm, path, ids, whole_input=True):
    """What enters or leaves the module at a path in a full forward, (rows, tokens, width)."""
    seen = {}
    handle = lm.model.get_submodule(path).register_forward_hook(
        lambda module, inputs, output: seen.update(x=inputs[0] if whole_input else output)
    )
    with torch.inference_mode(): lm.model(torch.as_tensor(ids.astype(np.int64), device=lm.device))
    handle.remove()
    x = seen['x'][0] if isinstance(seen['x'], tuple) else seen['x']
    return x.reshape(*ids.shape, -1).cpu().numpy()


@pytest.mark.parametrize('family', FAMILIES)
def test_neurons_of_a_family_bit_for_bit(family):
    config, path = FAMILIES[family]
    lm, examples = tiny(config, family in ENCODERS), sequences([9] * 6)
    rows = np.arange(6)
    recorded = record(lm, examples, positions=(-2, 0))
    assert recorded.X.shape == (6, 4, 2, lm.neurons)
    assert hooks_of(lm.model) == 0
    for layer in (0, 2, 3):
        assert neuron_input(lm.model, layer) is lm.model.get_submodule(path.format(layer))
        expected = plain(lm, path.format(layer), examples.ids)
        assert np.abs(expected).max() > .01
        assert (recorded.at(layer, -2) == expected[rows, examples.place - 2]).all()
        assert (recorded.at(layer, 0) == expected[rows, examples.place]).all()
        in_other_batches = record(lm, examples, [layer], batch_tokens=20).at(layer)
        assert np.allclose(in_other_batches, recorded.at(layer, 0), atol=1e-5)


@pytest.mark.parametrize('family', FAMILIES)
def test_padding_changes_nothing(family):
    config, path = FAMILIES[family]
    lm, examples = tiny(config, family in ENCODERS), sequences([5, 12, 7, 12, 3])
    recorded = record(lm, examples, [1, 3])
    for row in range(len(examples)):
        alone = plain(lm, path.format(3), examples.ids[[row], :examples.length[row]])
        expected = alone[0, examples.place[row]]
        assert np.allclose(recorded.at(3)[row], expected, atol=1e-5), f'row {row}'


def test_a_batch_keeps_to_its_budget_and_no_row_is_lost():
    lengths = np.random.default_rng(0).integers(1, 50, 200)
    parts = list(batches(lengths, budget=120))
    assert sorted(np.concatenate(parts)) == list(range(200))
    assert all(len(rows) * lengths[rows].max() <= 120 for rows in parts)
    assert len(parts) < 60


@pytest.mark.parametrize(
    'site, path, part',
    [
        ('mlp', 'transformer.h.{}.mlp.c_proj', False),
        ('attention', 'transformer.h.{}.attn.c_proj', False),
        ('residual', 'transformer.h.{}', False),
    ],
)
def test_other_sites(site, path, part):
    lm, examples = tiny(FAMILIES['GPT-2'][0]), sequences([9] * 4)
    for layer in (0, 3):
        expected = plain(lm, path.format(layer), examples.ids, part)[np.arange(4), examples.place]
        assert (record(lm, examples, [layer], site=site).at(layer) == expected).all()


@pytest.mark.parametrize('family', FAMILIES)
def test_every_site_of_every_family_has_the_width_of_the_residual_stream(family):
    lm, examples = tiny(FAMILIES[family][0], family in ENCODERS), sequences([5] * 2)
    for site in ('mlp', 'attention', 'residual'):
        X = record(lm, examples, [0, 3], site=site).X
        assert X.shape == (2, 2, 1, lm.width)
        assert np.isfinite(X).all()
        assert (X[0] != X[1]).any()


MOE = dict(
    num_experts=4,
    num_local_experts=4,
    n_routed_experts=4,
    num_experts_per_tok=2,
    moe_intermediate_size=24,
)
UNKNOWN = {
    'Mixtral': (
        tf.AutoModelForCausalLM,
        tf.MixtralConfig(**LLAMA, num_local_experts=4),
        'mixture of experts',
    ),
    'Qwen2-MoE': (tf.AutoModelForCausalLM, tf.Qwen2MoeConfig(**LLAMA, **MOE), 'mixture of experts'),
    'OLMoE': (
        tf.AutoModelForCausalLM,
        tf.OlmoeConfig(
            **{k: v for k, v in LLAMA.items() if k != 'head_dim'},
            num_experts=4,
            num_experts_per_tok=2,
        ),
        'mixture of experts',
    ),
    'Mamba': (
        tf.AutoModelForCausalLM,
        tf.MambaConfig(vocab_size=120, hidden_size=32, num_hidden_layers=4),
        'not known',
    ),
    'T5': (
        tf.AutoModelForSeq2SeqLM,
        tf.T5Config(vocab_size=120, d_model=32, num_layers=4, num_heads=4, d_kv=8, d_ff=72),
        'not known',
    ),
    'ALBERT': (tf.AutoModelForMaskedLM, tf.AlbertConfig(**SMALL, embedding_size=16), 'not known'),
}


@pytest.mark.parametrize('family', UNKNOWN)
def test_a_family_that_is_not_known_is_refused(family):
    kind, config, reason = UNKNOWN[family]
    lm = LM(kind.from_config(config).eval(), None, family)
    with pytest.raises(ValueError, match=reason): record(lm, sequences([5] * 2), [0])
    assert hooks_of(lm.model) == 0


@pytest.mark.parametrize('layer', [0, 15, 29])
def test_embedded_model(lm, examples, layer):
    windows = examples[80:120]
    expected = plain(lm, f'model.layers.{layer}.mlp.down_proj', windows.ids)[:, 14]
    assert (record(lm, windows, [layer]).at(layer) == expected).all()
    assert np.allclose(record(lm, windows, [layer], batch_tokens=60).at(layer), expected, atol=1e-5)


def test_nothing_runs_after_the_last_layer(lm, examples):
    ran = []
    watch = [
        lm.model.lm_head,
        lm.model.model.norm,
        lm.model.model.layers[4],
        lm.model.model.layers[3].mlp.down_proj,
        lm.model.model.layers[3].mlp.up_proj,
    ]
    handles = [
        m.register_forward_hook(lambda module, inputs, output: ran.append(module)) for m in watch
    ]
    record(lm, examples[:4], [1, 3])
    for handle in handles: handle.remove()
    assert ran == [watch[-1]]


def test_hooks_are_gone_when_the_forward_fails():
    lm = tiny(FAMILIES['Llama'][0])
    with pytest.raises(IndexError), hooks(lm.model, [0, 3], 'neurons', lambda layer, x: None):
        lm.model(torch.full((1, 3), 120))
    assert hooks_of(lm.model) == 0


def test_a_layer_that_never_runs_is_an_error():
    lm = tiny(FAMILIES['Llama'][0])
    with (
        pytest.raises(RuntimeError, match=r'never came to layers \[3\]'),
        hooks(lm.model, [3], 'neurons', lambda layer, x: None),
    ):
        pass
    assert hooks_of(lm.model) == 0


def test_bf16_is_recorded_as_float32():
    lm = tiny(FAMILIES['Llama'][0])
    full = record(lm, sequences([6] * 3), [2]).X
    lm.model.to(torch.bfloat16)
    half = record(lm, sequences([6] * 3), [2]).X
    assert half.dtype == np.float32
    assert 0 < np.abs(half - full).max() < .1 * np.abs(full).max()


@pytest.mark.parametrize(
    'request_, message',
    [
        (dict(layers=[4]), r'layers \[4\] are out of range: .* has layers 0 to 3'),
        (dict(layers=[-1]), 'out of range'),
        (dict(layers=[]), 'nothing to record'),
        (dict(layers=[1, 1]), 'asked for twice'),
        (dict(positions=(0, 0)), 'asked for twice'),
        (dict(positions=[9]), 'positions .* are out of range'),
        (dict(positions=[-9]), 'out of range'),
        (dict(site='heads'), "unknown site 'heads': choose one of neurons"),
    ],
)
def test_a_request_that_cannot_be_met(request_, message):
    lm = tiny(FAMILIES['GPT-2'][0])
    with pytest.raises(ValueError, match=message):
        record(lm, sequences([6] * 3), **{'layers': [0], **request_})
    with pytest.raises(ValueError, match='was not recorded'):
        record(lm, sequences([6] * 3), [0]).at(1)


def test_examples_of_another_tokenizer():
    examples = sequences([6] * 3)
    examples.ids[0, 0] = 5000
    with pytest.raises(ValueError, match='another tokenizer'):
        record(tiny(FAMILIES['GPT-2'][0]), examples, [0])


def test_a_model_in_train_mode_is_read_in_eval_mode_and_put_back():
    lm = tiny(FAMILIES['GPT-2'][0])
    expected = record(lm, sequences([6] * 3), [2]).X
    lm.model.train().transformer.h[1].mlp.eval()
    modes = [m.training for m in lm.model.modules()]
    assert (record(lm, sequences([6] * 3), [2]).X == expected).all()
    assert [m.training for m in lm.model.modules()] == modes
    with pytest.raises(ValueError, match='not read'):
        record(
            LM(
                tiny(
                    tf.MambaConfig(vocab_size=120, hidden_size=32, num_hidden_layers=4)
                ).model.train(),
                None,
                'mamba',
            ),
            sequences([6] * 3),
            [2],
        )


def test_streams_in_front_of_the_rows_are_not_mixed():
    config = tf.Gemma3nTextConfig(
        **LLAMA | dict(intermediate_size=[72] * 4),
        hidden_size_per_layer_input=16,
        vocab_size_per_layer_input=120,
        num_kv_shared_layers=0,
        laurel_rank=8,
        layer_types=['full_attention'] * 4,
        activation_sparsity_pattern=[0.0] * 4,
    )
    lm, examples = tiny(config), sequences([9, 5, 9, 7])
    with pytest.raises(ValueError, match=r'a block gives numbers laid out as \[4, 2, 6, 32\]'):
        record(lm, examples, [1], site='residual')
    for site in ('neurons', 'mlp', 'attention'):
        together = record(lm, examples, [1], site=site).X
        alone = np.concatenate([record(lm, examples[k:k + 1], [1], site=site).X for k in range(4)])
        assert np.allclose(together, alone, atol=1e-5 * abs(alone).max())


@pytest.mark.parametrize(
    'config',
    [
        tf.Lfm2Config(**LLAMA, layer_types=['conv', 'full_attention'] * 2),
        tf.CTRLConfig(vocab_size=120, n_embd=32, n_layer=4, n_head=4, dff=40),
        tf.BartConfig(
            vocab_size=120,
            d_model=32,
            decoder_layers=4,
            encoder_layers=4,
            decoder_attention_heads=4,
            decoder_ffn_dim=40,
            encoder_ffn_dim=72,
        ),
        tf.GPT2Config(vocab_size=120, n_embd=32, n_layer=4, n_head=4),
    ],
    ids=lambda config: config.model_type,
)
def test_the_number_of_neurons_is_what_record_gives(config):
    lm = tiny(config)
    assert lm.neurons == record(lm, sequences([6] * 3), [1]).X.shape[-1]
    assert f'{lm.neurons} neurons' in repr(lm)


def test_a_model_without_neurons_still_has_a_name():
    lm = tiny(tf.MixtralConfig(**LLAMA, num_local_experts=4))
    with pytest.raises(ValueError, match='mixture of experts'): lm.neurons
    assert 'no one number of neurons' in repr(lm)


def test_padding_that_is_seen_is_not_used():
    lm, examples = (
        tiny(
            tf.FNetConfig(
                vocab_size=120, hidden_size=32, num_hidden_layers=4, intermediate_size=72
            ),
            encoder=True,
        ),
        sequences([5, 9, 7, 9, 5]),
    )
    assert sees_padding(lm, [3], 'residual')
    assert not sees_padding(tiny(FAMILIES['BERT'][0], encoder=True), [3])
    alone = np.concatenate(
        [record(lm, examples[k : k + 1], [3], site='residual').X for k in range(5)]
    )
    assert np.allclose(
        record(lm, examples, [3], site='residual').X, alone, atol=1e-5 * abs(alone).max()
    )


LIMITS = {  # configuration of 66 positions -> tokens that a model can take
    'RoBERTa': (tf.RobertaConfig(**SMALL | dict(pad_token_id=1), max_position_embeddings=66), 64),
    'XLM-RoBERTa': (
        tf.XLMRobertaConfig(**SMALL | dict(pad_token_id=1), max_position_embeddings=66),
        64,
    ),
    'MPNet': (tf.MPNetConfig(**SMALL | dict(pad_token_id=1), max_position_embeddings=66), 64),
    'CamemBERT, pad 5': (
        tf.CamembertConfig(**SMALL | dict(pad_token_id=5), max_position_embeddings=66),
        60,
    ),
    'BERT': (tf.BertConfig(**SMALL, max_position_embeddings=66), 66),
    'GPT-2': (tf.GPT2Config(vocab_size=120, n_embd=32, n_layer=4, n_head=4, n_positions=66), 66),
    'OPT': (
        tf.OPTConfig(
            vocab_size=120,
            hidden_size=32,
            num_hidden_layers=4,
            num_attention_heads=4,
            ffn_dim=72,
            word_embed_proj_dim=32,
            max_position_embeddings=66,
        ),
        66,
    ),
    'Llama': (tf.LlamaConfig(**LLAMA, max_position_embeddings=66), 66),
}


@pytest.mark.parametrize('family', LIMITS)
def test_examples_longer_than_a_model_can_take(family):
    config, longest = LIMITS[family]
    lm = tiny(config, encoder=family not in ('GPT-2', 'OPT', 'Llama'))
    assert knowledge(lm.model).longest == longest
    assert record(lm, sequences([longest, 5]), [1]).X.shape[0] == 2
    with pytest.raises(
        ValueError, match=f'the longest example has {longest + 1} tokens, and .* can take {longest}'
    ):
        record(lm, sequences([longest + 1, 5]), [1])


def test_a_model_without_a_limit():
    lm = tiny(FAMILIES['BLOOM'][0])
    assert knowledge(lm.model).longest is None
    assert record(lm, sequences([300]), [1]).X.shape[0] == 1


@pytest.mark.parametrize(
    'words, message',
    [
        (dict(lm='smollm2'), 'an LM is needed, as `load_lm` gives it; got str'),
        (dict(lm=tiny(FAMILIES['GPT-2'][0]).model), r'LM\(model, tokenizer, name\)'),
        (
            dict(lm=LM(torch.nn.DataParallel(tiny(FAMILIES['GPT-2'][0]).model), None, 'wrapped')),
            'the model of an LM is one of transformers.*got DataParallel',
        ),
        (
            dict(examples=['The cat', 'a dog']),
            'Examples are needed, as `contrast`, `from_texts` or `load_task` give them; got list',
        ),
        (dict(examples='text'), 'Examples are needed'),
        (dict(layers='3'), "layers are whole numbers, such as 3 or .0, 3.; got '3'"),
        (dict(layers=1.5), 'layers are whole numbers'),
        (dict(layers=['1', '2']), 'layers are whole numbers'),
        (dict(layers=[[1, 2]]), 'layers are whole numbers'),
        (dict(layers=True), 'layers are whole numbers'),
        (dict(layers=[1, None]), 'layers are whole numbers'),
        (dict(layers={1, 2}), 'layers are whole numbers'),
        (dict(positions='0'), 'positions are whole numbers'),
        (dict(positions=[0.5]), 'positions are whole numbers'),
        (dict(positions=None), 'positions are whole numbers'),
        (dict(layers=[1], site=3), 'unknown site 3'),
        (dict(batch_tokens='2048'), 'batch_tokens'),
        (dict(batch_tokens=0), 'batch_tokens'),
    ],
)
def test_first_mistakes_get_a_sentence(words, message):
    words = dict(lm=tiny(FAMILIES['GPT-2'][0]), examples=sequences([6] * 3), layers=[1]) | words
    with pytest.raises((TypeError, ValueError), match=message): record(**words)


@pytest.mark.parametrize('layers', [1, np.int64(1), [1], (1,), np.array([1]), range(1, 2)])
def test_layers_in_any_spelling(layers):
    lm, examples = tiny(FAMILIES['GPT-2'][0]), sequences([6] * 3)
    assert (record(lm, examples, layers).X == record(lm, examples, [1]).X).all()


@pytest.mark.parametrize(
    'use',
    [
        lambda a, y: SparseProbe().fit(a, y),
        lambda a, y: KSparseProbe().fit(a, y),
        lambda a, y: LogisticRegression().fit(a, y),
        lambda a, y: sparsity_path(a, y),
        lambda a, y: rank_neurons(a, y),
        lambda a, y: k_curve(a, y),
        lambda a, y: l1_path(a, y, [1.0]),
    ],
)
def test_activations_in_place_of_a_matrix(use):
    examples = sequences([6] * 8)
    with pytest.raises(
        TypeError,
        match=r'the matrix of one layer and position: give it `.at\(layer, position\)`',
    ):
        use(record(tiny(FAMILIES['GPT-2'][0]), examples, [1]), examples.y)
