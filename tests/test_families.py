"""Every causal and masked class is read where its code says, or refused with a reason."""

from helpers import families
import numpy as np
import pandas as pd
import peft
import pytest
import torch
import transformers as tf
from sparse_probing import LM, record
from sparse_probing.sites import SITES, find_site, knowledge, layer_kind

GROUPS = {
    'equal at all sites': lambda sites: (sites == 'read').all(axis=1),
    'refused at all sites': lambda sites: (
        ~sites.apply(lambda column: column.str.startswith(('read', 'not tried'))).any(axis=1)
    ),
    'not buildable': lambda sites: sites.neurons.str.startswith('not tried'),
}


@pytest.fixture(scope='module')
def walked():
    threads = torch.get_num_threads()
    torch.set_num_threads(1) # threads cost more than such small models gain
    yield families.walk()
    torch.set_num_threads(threads)


def test_none_is_read_in_the_wrong_place(walked, tell):
    table, wrong = walked
    counts = {name: int(members(table[list(SITES)]).sum()) for name, members in GROUPS.items()}
    tell(
        f'{len(table)} classes of transformers: '
        + ', '.join(f'{n} {name}' for name, n in counts.items())
        + f', {len(table) - sum(counts.values())} equal at some sites and refused at others; '
        + f'{len(wrong)} wrong'
    )
    assert wrong == {}


def test_the_table_of_families_is_that_of_this_run(walked):
    committed = pd.read_csv(families.TABLE, keep_default_na=False)
    assert committed.to_dict('records') == walked[0].to_dict('records'), (
        'run `python tests/helpers/families.py`'
    )


@pytest.mark.parametrize(
    'name',
    [
        'GPT2LMHeadModel',
        'GPTNeoXForCausalLM',
        'LlamaForCausalLM',
        'MistralForCausalLM',
        'Qwen2ForCausalLM',
        'Qwen3ForCausalLM',
        'GemmaForCausalLM',
        'Gemma2ForCausalLM',
        'Gemma3ForCausalLM',
        'OPTForCausalLM',
        'BloomForCausalLM',
        'PhiForCausalLM',
        'Phi3ForCausalLM',
        'BertForMaskedLM',
        'RobertaForMaskedLM',
    ],
)
def test_a_family_that_is_promised_is_read_at_all_sites(walked, name):
    row = walked[0].set_index('class').loc[name]
    assert row.to_dict() == dict.fromkeys(SITES, 'read')



BASE = tf.GPT2Config(vocab_size=120, n_embd=32, n_layer=4, n_head=4)
LLAMA = tf.LlamaConfig(
    vocab_size=120,
    hidden_size=32,
    num_hidden_layers=4,
    num_attention_heads=4,
    intermediate_size=72,
    pad_token_id=0,
)
ADAPTERS = {
    'LoRA': dict(kind=peft.LoraConfig, r=4, target_modules='all-linear', init_lora_weights=False),
    'LoRA of rank 32, the width': dict(
        kind=peft.LoraConfig, r=32, target_modules='all-linear', init_lora_weights=False
    ),
    'DoRA': dict(
        kind=peft.LoraConfig,
        r=4,
        target_modules='all-linear',
        init_lora_weights=False,
        use_dora=True,
    ),
    'LoHa': dict(
        kind=peft.LoHaConfig,
        r=4,
        target_modules=['q_proj', 'o_proj', 'down_proj'],
        init_weights=False,
    ),
    'IA3': dict(
        kind=peft.IA3Config,
        target_modules=['k_proj', 'down_proj'],
        feedforward_modules=['down_proj'],
        init_ia3_weights=False,
    ),
    'OFT': dict(
        kind=peft.OFTConfig,
        r=0,
        oft_block_size=4,
        target_modules=['q_proj', 'o_proj'],
        init_weights=False,
    ),
}


def adapted(name, config, **options):
    torch.manual_seed(0)
    model = tf.AutoModelForCausalLM.from_config(config)
    families.fill(model)
    return peft.get_peft_model(
        model,
        ADAPTERS[name]['kind'](
            task_type='CAUSAL_LM',
            **{k: v for k, v in ADAPTERS[name].items() if k != 'kind'},
            **options,
        ),
    ).eval()


@pytest.mark.parametrize('name', ADAPTERS)
def test_an_adapter_is_read_as_the_model_sees_it(name):
    model, rows = adapted(name, LLAMA), families.examples()
    recorded = {site: record(LM(model, None, name), rows, [1, 3], site=site).X for site in SITES}
    merged = LM(model.merge_and_unload(), None, 'merged')
    for site in SITES:
        X = record(merged, rows, [1, 3], site=site).X
        # IA3 scales the neurons in the adapter and, merged, the weights that they meet
        if (name, site) != ('IA3', 'neurons'):
            assert np.allclose(recorded[site], X, atol=1e-4 * abs(X).max()), site


def test_an_adapter_of_a_family_with_maps_of_its_own_class():
    model, rows = adapted('LoRA', BASE, fan_in_fan_out=True), families.examples()
    X = record(LM(model, None, 'lora'), rows, [1]).X
    assert X.shape[-1] == 128
    assert np.allclose(
        X,
        record(LM(model.merge_and_unload(), None, 'merged'), rows, [1]).X,
        atol=1e-4 * abs(X).max(),
    )


def test_an_adapter_that_is_added_later_is_seen():
    torch.manual_seed(0)
    model = tf.LlamaForCausalLM(LLAMA).eval()
    before = record(LM(model, None, 'llama'), families.examples(), [2], site='mlp').X
    model.add_adapter(peft.LoraConfig(r=4, target_modules='all-linear', init_lora_weights=False))
    after = record(LM(model, None, 'llama'), families.examples(), [2], site='mlp').X
    assert find_site(model, 2, 'mlp').module.base_layer
    assert not np.allclose(before, after)


@pytest.mark.parametrize(
    'config',
    [
        peft.PromptTuningConfig(num_virtual_tokens=3, task_type='CAUSAL_LM'),
        peft.PrefixTuningConfig(num_virtual_tokens=3, task_type='CAUSAL_LM'),
        peft.PromptEncoderConfig(num_virtual_tokens=3, task_type='CAUSAL_LM'),
        peft.AdaptionPromptConfig(adapter_len=3, adapter_layers=2, task_type='CAUSAL_LM'),
    ],
    ids=lambda config: config.peft_type.value,
)
def test_virtual_tokens_are_refused(config):
    model = peft.get_peft_model(tf.LlamaForCausalLM(LLAMA), config).eval()
    for site in SITES:
        with pytest.raises(ValueError, match='puts virtual tokens before the text'):
            record(LM(model, None, 'prompted'), families.examples(), [1], site=site)


@pytest.mark.parametrize(
    'change, reason',
    [
        (
            lambda block: setattr(
                block, 'mlp', torch.nn.Sequential(block.mlp.up_proj, block.mlp.down_proj)
            ),
            'seen: none',
        ),  # two linear maps in a row
        (
            lambda block: setattr(block.mlp, 'act_fn', torch.nn.Identity()),
            None,
        ),  # a product of two maps is no linear function
        (
            lambda block: block.mlp.register_forward_hook(
                lambda module, inputs, output: 0 * output
            ),
            'seen: none',
        ),  # never arrives
        (
            lambda block: block.mlp.register_forward_hook(
                lambda module, inputs, output: output.cumsum(1)
            ),
            'seen: none',
        ),  # mixes tokens on its way
        (
            lambda block: block.mlp.register_forward_pre_hook(
                lambda module, inputs: (inputs[0].cumsum(1),)
            ),
            'seen: none',
        ),  # or before
    ],
)
def test_what_the_maps_do_decides_and_not_their_names(change, reason):
    torch.manual_seed(0)
    model = tf.LlamaForCausalLM(LLAMA).eval()
    for block in model.model.layers: change(block)
    if reason is None:
        assert find_site(model, 1, 'neurons').module is model.model.layers[1].mlp.down_proj
    else:
        with pytest.raises(ValueError, match=reason): find_site(model, 1, 'neurons')


def test_blocks_that_run_twice_are_refused():
    torch.manual_seed(0)
    model = tf.LlamaForCausalLM(LLAMA).eval()
    plain = model.model.norm.forward
    def again(hidden):  # the whole stack once more, as a looped model has it
        for layer in model.model.layers:
            hidden = layer(
                hidden,
                position_embeddings=model.model.rotary_emb(
                    hidden, torch.arange(hidden.shape[1])[None]
                ),
            )
        return plain(hidden)
    model.model.norm.forward = again
    with pytest.raises(ValueError, match=r'the layers run in the order \[0, 1, 2, 3, 0, 1, 2, 3\]'):
        find_site(model, 1, 'residual')


def test_a_module_that_layers_share_is_refused():
    model = tf.LlamaForCausalLM(LLAMA).eval()
    model.model.layers[2].mlp = model.model.layers[1].mlp
    with pytest.raises(ValueError, match='shares mlp.down_proj with another layer'):
        find_site(model, 1, 'neurons')
    with pytest.raises(ValueError, match='is not read'): find_site(model, 2, 'neurons')
    assert find_site(model, 2, 'attention').module is model.model.layers[2].self_attn.o_proj


def test_a_model_without_weights_is_refused():
    with torch.device('meta'): model = tf.LlamaForCausalLM(LLAMA)
    with pytest.raises(ValueError, match='it was tried out on 6 tokens, and failed'):
        find_site(model.eval(), 1, 'neurons')


def test_layers_of_one_make_are_tried_once_and_nothing_stays_behind():
    model = tf.LlamaForCausalLM(LLAMA).train()
    for layer in range(4): find_site(model, layer, 'neurons')
    assert list(knowledge(model).verdicts) == [layer_kind(model.model.layers[0])]
    assert all(
        m.training
        and not m._forward_hooks
        and not m._forward_pre_hooks
        and 'forward' not in vars(m)
        for m in model.modules()
    )
