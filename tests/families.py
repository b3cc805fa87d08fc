"""A tiny random model of every causal and masked family of transformers, and where each keeps its projections."""
import copy
import dataclasses
import time
import warnings
from collections import Counter

import torch
import transformers
from torch import nn
from transformers import PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED

LIMIT = 3_000_000 # parameters of a tiny model at most
LAYERS = 4
STD = .3 # large enough that every layer matters
STDS = {'MobileBertForMaskedLM': .15} # its norms only scale, so the stream grows from layer to layer


class NotBuildable(Exception):
    "A family of which no tiny model can be made from its configuration alone; says why."


def same(value, names):
    "The same value under each of the names that families give it."
    return dict.fromkeys(names.split(), value)


# what a field of a configuration becomes, by its name; fields of other names keep their default
SIZES = (
    same(120, 'vocab_size decoder_vocab_size vocab_size_per_layer_input pronunciation_vocab_size shape_vocab_size entity_vocab_size')
    | same(32, 'hidden_size d_model n_embd dim emb_dim embedding_dim embedding_size attention_hidden_size word_embed_proj_dim true_hidden_size '
               'pooler_hidden_size prediction_head_size lru_width backbone_hidden_size hidden_size_global')
    | same(72, 'intermediate_size ffn_dim decoder_ffn_dim encoder_ffn_dim n_inner hidden_dim dff dim_ff d_inner ffn_hidden_size feed_forward_size mlp_dim')
    | same(LAYERS, 'num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers num_blocks num_decoder_layers num_encoder_layers')
    | same(4, 'num_attention_heads n_head n_heads num_heads attention_heads decoder_attention_heads encoder_attention_heads '
              'num_decoder_attention_heads num_encoder_attention_heads swa_num_attention_heads')
    | same(2, 'num_key_value_heads num_kv_heads swa_num_key_value_heads kv_n_heads')
    | same(8, 'head_dim global_head_dim swa_head_dim attention_head_size attention_head_dim dim_head d_head kv_channels d_kv')
    | same(64, 'max_position_embeddings n_positions n_ctx max_seq_len max_target_positions max_source_positions context_length model_max_length '
               'tpu_short_seq_length original_max_position_embeddings')
    | same(4, 'sliding_window sliding_window_size local_attention attention_window attention_window_size window_size attention_chunk_size')
    | same(4, 'num_experts n_routed_experts num_local_experts moe_num_experts') | same(2, 'num_experts_per_tok num_experts_per_token moe_topk moe_k moe_top_k top_k_experts')
    | same(24, 'moe_intermediate_size expert_ffn_hidden_size')
    | same(40, 'shared_expert_intermediate_size shared_intermediate_size shared_experts_intermediate_size moe_shared_expert_intermediate_size '
               'dense_intermediate_size prefix_dense_intermediate_size intermediate_size_mlp')
    | same(1, 'first_k_dense_replace num_dense_layers moe_layer_start_index n_group topk_group num_expert_group n_groups mamba_n_groups mamba_ngroups')
    | same(12, 'q_lora_rank qk_head_dim') | same(20, 'kv_lora_rank') | same(8, 'qk_nope_head_dim v_head_dim') | same(4, 'qk_rope_head_dim rotary_dim')
    | same(2, 'index_n_heads') | same(8, 'index_head_dim') | same(64, 'index_topk') # all tokens: a choice among equals would depend on their number
    | same(8, 'chunk_size mamba_chunk_size block_size mamba_d_state state_size ssm_state_size time_step_rank mamba_dt_rank')
    | same(4, 'mamba_n_heads mamba_num_heads linear_num_heads linear_num_value_heads') | same(16, 'mamba_d_head mamba_head_dim mamba_headdim')
    | same(64, 'mamba_d_ssm') | same(2, 'linear_num_key_heads') | same(8, 'linear_key_head_dim linear_value_head_dim linear_head_dim')
    | same(2, 'type_vocab_size') | same(0, 'num_nextn_predict_layers num_mtp_layers')
    | same(16, 'hidden_size_per_layer_input laurel_rank adapter_rank router_hidden_size embedding_rank')
    | same(0, 'pad_token_id pad_index') | same(1, 'bos_token_id bos_index') | same(2, 'eos_token_id decoder_start_token_id eos_index forced_eos_token_id')
    | same(3, 'sep_token_id unk_index eod_token_id cls_token_id') | same(4, 'mask_token_id mask_index')
    | same(32, 'image_size') | same(16, 'patch_size')
)
# what a family needs on top, by the class of the configuration
LATENT = dict(num_key_value_heads=4) # every head has its own keys where they come from a shared latent vector
NEEDS = {
    'BltConfig': dict(encoder_hash_byte_group_vocab=120, use_cache=False),
    'DbrxAttentionConfig': dict(rope_theta=10_000., clip_qkv=8.),
    'BambaConfig': dict(attn_layer_indices=[1, 3]),
    'CohereCompassTextConfig': dict(layer_types=['sliding_attention', 'full_attention'] * 2, rope_parameters={
        kind: {'rope_type': 'default', 'rope_theta': 10_000.} for kind in ('sliding_attention', 'full_attention')}),
    'Dots1Config': dict(n_shared_experts=1, layer_types=['sliding_attention', 'full_attention'] * 2),
    'Dots3NoteTextConfig': dict(num_key_value_heads=4, layer_types=['indexed_attention', 'sliding_attention'] * 2, head_dim=12, **{
        f'swa_{name}': size for name, size in dict(num_attention_heads=4, num_key_value_heads=4, q_lora_rank=12, kv_lora_rank=20, head_dim=12,
                                                   qk_nope_head_dim=8, v_head_dim=8).items()}),
    'EsmcConfig': dict(num_key_value_heads=4),
    'Gemma3nTextConfig': dict(num_kv_shared_layers=0),
    'Gemma4TextConfig': dict(global_head_dim=16),
    'Gemma4UnifiedTextConfig': dict(global_head_dim=16),
    'GPTNeoConfig': dict(attention_types=[[['global', 'local'], 2]]),
    'GraniteMoeHybridConfig': dict(layer_types=['linear_attention', 'full_attention'] * 2),
    'JambaConfig': dict(attn_layer_period=2, attn_layer_offset=1),
    'Lfm2Config': dict(layer_types=['conv', 'full_attention'] * 2, block_multiple_of=8),
    'Lfm2MoeConfig': dict(layer_types=['conv', 'full_attention'] * 2),
    'LongcatFlashConfig': dict(num_layers=2, num_key_value_heads=4, head_dim=4),
    'Mamba2Config': dict(head_dim=16),
    'MobileBertConfig': dict(intra_bottleneck_size=16, true_hidden_size=16),
    'MusicgenDecoderConfig': dict(num_codebooks=1), # with more, ids come in groups of rows
    'MusicgenMelodyDecoderConfig': dict(num_codebooks=1),
    'NeoMMEConfig': dict(rope_parameters={'full_attention': {'partial_rotary_factor': .5}}),
    'PerceiverConfig': dict(num_latents=8, d_latents=32, num_self_attends_per_block=4, num_blocks=1, num_self_attention_heads=4,
                            num_cross_attention_heads=4, qk_channels=32, v_channels=32),
    'Phi4MultimodalAudioConfig': dict(ext_pw_out_channel=32, depthwise_separable_out_channel=32, nemo_conv_channels=32),
    'Phi4MultimodalVisionConfig': dict(crop_size=32),
    'Qwen4ExpTextConfig': dict(indexer_n_heads=2, indexer_kv_heads=1, indexer_head_dim=8, indexer_budget=64, indexer_compress_ratio=2, hc_lowrank=8),
    'ReformerConfig': dict(attn_layers=['local', 'lsh'] * 2, axial_pos_embds_dim=(8, 24), axial_pos_shape=(8, 8), local_attn_chunk_length=4,
                           lsh_attn_chunk_length=4, num_buckets=2, hash_seed=0),
    'ReformerModelWithLMHead': dict(is_decoder=True),
    'xLSTMConfig': dict(hidden_size=64, embedding_dim=64, qk_dim_factor=1.), # keys are a multiple of 64 wide
    'XmodConfig': dict(default_language='en_XX'),
    'ZambaConfig': dict(attention_hidden_size=64, attention_head_dim=16),
    'ZayaConfig': dict(num_experts_per_tok=1),
} | dict.fromkeys('AXK1Config AXK2Config BailingHybridConfig DeepseekV2Config DeepseekV3Config DeepseekV32Config Glm4MoeLiteConfig GlmMoeDsaConfig '
                  'KimiLinearConfig MiniCPM3Config YoutuConfig'.split(), LATENT)


CANNOT = dict.fromkeys(['Gemma4AssistantForCausalLM', 'Gemma4UnifiedAssistantForCausalLM'],
                       'its forward needs the hidden and key-value states of another model')


def cut(field, default):
    "A list with one entry a layer, four long, with each kind of entry in it."
    kinds = list(dict.fromkeys(default))
    return type(default)(kinds[i % len(kinds)] for i in range(LAYERS))


def tiny_config(kind, default=None, needs=()):
    "A configuration of a class, shrunk by the names of its fields."
    given = {}
    if default is None:
        try: default = kind()
        except Exception: default = None # some defaults are not valid together
    fields = {f.name for f in dataclasses.fields(kind)} | set(getattr(kind, 'attribute_map', {}).values())
    for name in fields:
        if name in SIZES: given[name] = SIZES[name]
        elif default is not None:
            value = vars(default).get(name)
            if name in ('layer_types', 'mlp_layer_types', 'layers_block_type', 'indexer_types') and value: given[name] = cut(name, value)
    for name, sub in (getattr(kind, 'sub_configs', None) or {}).items():
        value = vars(default).get(name) if default is not None else None
        if isinstance(value, PreTrainedConfig): given[name] = tiny_config(type(value), value)
    return kind(**given | NEEDS.get(kind.__name__, {}) | dict(needs))


def classes():
    "The name of every class of the two mappings, once."
    return list(dict.fromkeys(name for names in (*CAUSAL.values(), *MASKED.values())
                              for name in ((names,) if isinstance(names, str) else names)))


def fill(model):
    "Random weights under which no path is hidden: no gate, scale or bias stays at zero."
    std = STDS.get(type(model).__name__, STD)
    with torch.no_grad():
        for weight in model.parameters():
            if not weight.is_floating_point(): continue
            if weight.ndim >= 2: nn.init.normal_(weight, std=std)
            else: weight.add_(torch.randn_like(weight) * .1)


def tiny(name):
    "A tiny random model of a class."
    if name in CANNOT: raise NotBuildable(CANNOT[name])
    kind = getattr(transformers, name)
    config = tiny_config(kind.config_class, needs=NEEDS.get(name, {}))
    try:
        with torch.device('meta'): size = sum(w.numel() for w in kind(copy.deepcopy(config)).parameters())
    except ImportError as error: raise NotBuildable(str(error).strip().split('. ')[0]) from error
    if size > LIMIT: raise NotBuildable(f'{size:,} parameters')
    torch.manual_seed(0)
    model = kind(config).float().eval()
    fill(model)
    return model


@dataclasses.dataclass(frozen=True)
class Family:
    "Where a family keeps its blocks and their output projections: written by hand, from its code."
    block: str # path of the block of a layer; the other paths begin there
    mlp: str | dict | None # path of the MLP's output projection, by layer where layers differ; None where there is no right answer
    attention: str | dict | None # the same of the attention
    residual: bool | tuple = True # whether what the block gives is the residual stream; the layers where it is
    why: str | dict = '' # why an answer is missing, by site where the sites differ


EXPERTS = 'a mixture of experts'
STATE_SPACE = 'a state-space mixer in place of attention'
CONVOLUTION = 'a convolution in place of attention'


def refused(why):
    "A family of which no site has a single right answer."
    return Family('', None, None, False, why)


def gpt(block, mlp, attention): return Family(block, mlp, attention)
def experts(block='model.layers.{}', dense=(), attention='self_attn.o_proj', residual=True, why=EXPERTS, mlp='mlp.down_proj'):
    "A family with experts in all of its layers but some."
    return Family(block, dict.fromkeys(dense, mlp), attention, residual, why)


def bert(prefix): return Family(f'{prefix}.encoder.layer.{{}}', 'output.dense', 'attention.output.dense')
def pair(path, *layers): return dict.fromkeys(layers, path)


LLAMA = Family('model.layers.{}', 'mlp.down_proj', 'self_attn.o_proj')
BART = Family('model.decoder.layers.{}', 'fc2', 'self_attn.out_proj')
MULTIMODAL = Family('model.language_model.layers.{}', 'mlp.down_proj', 'self_attn.o_proj')
MAMBA = Family('backbone.layers.{}', None, None, why='one state-space mixer a block, no attention and no MLP')
ENCODER_DECODER = refused('an encoder and a decoder: two stacks of blocks')
ORACLE = dict.fromkeys("""
    ApertusForCausalLM ArceeForCausalLM BitNetForCausalLM CohereForCausalLM Cohere2ForCausalLM CohereCompassForCausalLM CwmForCausalLM
    DiffLlamaForCausalLM DogeForCausalLM Emu3ForCausalLM Ernie4_5ForCausalLM Exaone4ForCausalLM GemmaForCausalLM Gemma2ForCausalLM
    Gemma3ForCausalLM Gemma4ForCausalLM Gemma4UnifiedForCausalLM GlmForCausalLM Glm4ForCausalLM GraniteForCausalLM GraniteSWAForCausalLM
    HeliumForCausalLM HunYuanDenseV1ForCausalLM HyperCLOVAXForCausalLM LlamaForCausalLM Jais2ForCausalLM MiniCPM3ForCausalLM
    MinistralForCausalLM Ministral3ForCausalLM MistralForCausalLM NemotronForCausalLM OlmoForCausalLM Olmo2ForCausalLM Olmo3ForCausalLM
    Phi3ForCausalLM Phi4MultimodalForCausalLM Qwen2ForCausalLM Qwen3ForCausalLM SeedOssForCausalLM SmolLM3ForCausalLM StableLmForCausalLM
    VaultGemmaForCausalLM YoutuForCausalLM EuroBertForMaskedLM UltrabertForMaskedLM""".split(), LLAMA)
ORACLE |= dict.fromkeys("""
    AriaTextForCausalLM Cohere2MoeForCausalLM FlexOlmoForCausalLM GptOssForCausalLM GraniteMoeForCausalLM GraniteMoeSWAForCausalLM
    GraniteMoeSharedForCausalLM HunYuanMoEV1ForCausalLM InklingForCausalLM Kolibri1ForCausalLM Llama4ForCausalLM MellumForCausalLM
    MiniMaxM2ForCausalLM MiniMaxM3VLForCausalLM MixtralForCausalLM OlmoeForCausalLM PhimoeForCausalLM Qwen2MoeForCausalLM
    Qwen3MoeForCausalLM SolarOpenForCausalLM ZayaForCausalLM""".split(), experts())
ORACLE |= dict.fromkeys("""
    AfmoeForCausalLM DeepseekV2ForCausalLM DeepseekV3ForCausalLM Dots1ForCausalLM Ernie4_5_MoeForCausalLM
    Glm4MoeForCausalLM""".split(), experts(dense=[0]))
ORACLE |= dict.fromkeys("""
    AXK1ForCausalLM AXK2ForCausalLM BailingHybridForCausalLM BeamForCausalLM DeepseekV32ForCausalLM Dots3NoteForCausalLM
    ExaoneMoeForCausalLM Glm4MoeLiteForCausalLM GlmMoeDsaForCausalLM HYV3ForCausalLM KimiLinearForCausalLM LagunaForCausalLM
    MiMoV2FlashForCausalLM""".split(), experts(dense=[0, 2]))
ORACLE |= dict.fromkeys("""
    BartForCausalLM BigBirdPegasusForCausalLM BlenderbotForCausalLM BlenderbotSmallForCausalLM MarianForCausalLM MBartForCausalLM
    MusicgenForCausalLM MusicgenMelodyForCausalLM MvpForCausalLM OPTForCausalLM PegasusForCausalLM PLBartForCausalLM TrOCRForCausalLM
    WhisperForCausalLM""".split(), BART)
ORACLE |= dict.fromkeys("""
    Gemma3ForConditionalGeneration Gemma3nForConditionalGeneration Gemma4ForConditionalGeneration Gemma4UnifiedForConditionalGeneration
    GotOcr2ForConditionalGeneration MossTranscribeDiarizeForConditionalGeneration""".split(), MULTIMODAL)
ORACLE |= {f'{name}For{head}': bert(prefix) for prefix, names in dict(
    bert='BigBird MegatronBert', roberta='Camembert Roberta XLMRoberta XLMRobertaXL Xmod', data2vec_text='Data2VecText', electra='Electra',
    ernie='Ernie', rembert='RemBert', roberta_prelayernorm='RobertaPreLayerNorm', roc_bert='RoCBert', roformer='RoFormer').items()
    for name in names.split() for head in ('CausalLM', 'MaskedLM')}
ORACLE |= {f'{name}ForMaskedLM': bert(prefix) for prefix, name in dict(
    bert='Bert', convbert='ConvBert', esm='Esm', ibert='IBert', layoutlm='LayoutLM', longformer='Longformer', luke='Luke', mra='Mra',
    nystromformer='Nystromformer', tapas='Tapas', yoso='Yoso').items()}
ORACLE |= dict.fromkeys(['DebertaForMaskedLM', 'DebertaV2ForMaskedLM'], bert('deberta'))
ORACLE |= dict.fromkeys(['BertLMHeadModel', 'BertGenerationDecoder'], bert('bert'))
ORACLE |= dict.fromkeys(['FalconMambaForCausalLM', 'MambaForCausalLM', 'Mamba2ForCausalLM'], MAMBA)
ORACLE |= dict.fromkeys(['BartForConditionalGeneration', 'MBartForConditionalGeneration', 'MvpForConditionalGeneration'], ENCODER_DECODER)
ORACLE |= dict.fromkeys(['ReformerModelWithLMHead', 'ReformerForMaskedLM'], refused('reversible: a block hands two streams on'))
ORACLE |= dict.fromkeys(['XLMWithLMHeadModel', 'FlaubertWithLMHeadModel'], Family(
    'transformer', 'ffns.{}.lin2', 'attentions.{}.out_lin', False, 'no module holds a block: attentions, MLPs and norms stand in lists of their own'))
ORACLE |= dict.fromkeys(['ZambaForCausalLM', 'Zamba2ForCausalLM'], Family(
    'model.layers.{}', None, None, why='one attention and MLP are shared by layers and lead into the state-space mixer'))
ORACLE |= dict.fromkeys(['Gemma4AssistantForCausalLM', 'Gemma4UnifiedAssistantForCausalLM'], Family(
    'model.layers.{}', 'mlp.down_proj', 'self_attn.o_proj'))
ORACLE |= dict.fromkeys(['Qwen3_5MoeForCausalLM', 'Qwen3NextForCausalLM'], experts(
    attention=pair('linear_attn.out_proj', 0, 2) | pair('self_attn.o_proj', 1, 3)))
ORACLE |= {
    'AlbertForMaskedLM': refused('one block serves all layers'),
    'BambaForCausalLM': Family('model.layers.{}', 'feed_forward.down_proj', pair('self_attn.o_proj', 1, 3), why=STATE_SPACE),
    'BioGptForCausalLM': gpt('biogpt.layers.{}', 'fc2', 'self_attn.out_proj'),
    'BloomForCausalLM': gpt('transformer.h.{}', 'mlp.dense_4h_to_h', 'self_attention.dense'),
    'BltForCausalLM': refused('four stacks of blocks, over bytes and over patches of bytes'),
    'CTRLLMHeadModel': gpt('transformer.h.{}', 'ffn.2', 'multi_head_attention.dense'),
    'CodeGenForCausalLM': gpt('transformer.h.{}', 'mlp.fc_out', 'attn.out_proj'),
    'CpmAntForCausalLM': refused('its blocks see a prompt of its own before the tokens'),
    'DbrxForCausalLM': experts('transformer.blocks.{}', attention='norm_attn_norm.attn.out_proj'),
    'DeepseekV4ForCausalLM': experts(attention='self_attn.o_b_proj', residual=False,
                                     why={'mlp': EXPERTS, 'residual': 'several residual streams a token'}),
    'DistilBertForMaskedLM': gpt('distilbert.transformer.layer.{}', 'ffn.lin2', 'attention.out_lin'),
    'EsmcForMaskedLM': gpt('esmc.layers.{}', 'mlp.down_proj', 'self_attn.o_proj'),
    'FNetForMaskedLM': Family('fnet.encoder.layer.{}', 'output.dense', None, why='a Fourier transform in place of attention'),
    'FalconForCausalLM': gpt('transformer.h.{}', 'mlp.dense_4h_to_h', 'self_attention.dense'),
    'FalconH1ForCausalLM': Family('model.layers.{}', 'feed_forward.down_proj', None, why='attention and a state-space mixer side by side'),
    'FlintForCausalLM': experts(dense=[0, 1]),
    'FunnelForMaskedLM': refused('the sequence is pooled between blocks'),
    'FuyuForCausalLM': gpt('model.language_model.layers.{}', 'mlp.dense_4h_to_h', 'self_attn.dense'),
    'GPT2LMHeadModel': gpt('transformer.h.{}', 'mlp.c_proj', 'attn.c_proj'),
    'GPTBigCodeForCausalLM': gpt('transformer.h.{}', 'mlp.c_proj', 'attn.c_proj'),
    'GPTJForCausalLM': gpt('transformer.h.{}', 'mlp.fc_out', 'attn.out_proj'),
    'GPTNeoForCausalLM': gpt('transformer.h.{}', 'mlp.c_proj', 'attn.attention.out_proj'),
    'GPTNeoXForCausalLM': gpt('gpt_neox.layers.{}', 'mlp.dense_4h_to_h', 'attention.dense'),
    'GPTNeoXJapaneseForCausalLM': gpt('gpt_neox_japanese.layers.{}', 'mlp.dense_4h_to_h', 'attention.dense'),
    'Gemma3nForCausalLM': Family('model.layers.{}', 'mlp.down_proj', 'self_attn.o_proj', False, 'four residual streams a token'),
    'GitForCausalLM': bert('git'),
    'GraniteMoeHybridForCausalLM': experts(attention=pair('self_attn.o_proj', 1, 3), why={'mlp': EXPERTS, 'attention': STATE_SPACE}),
    'GteForMaskedLM': gpt('gte.layers.{}', 'mlp.down_proj', 'self_attn.o_proj'),
    'HYV4ForCausalLM': experts(dense=[0, 2], residual=False, why={'mlp': EXPERTS, 'residual': 'several residual streams a token'}),
    'HrmTextForCausalLM': refused('its blocks run several times in a forward'),
    'Inkling2ForCausalLM': experts(residual=False, why={'mlp': EXPERTS, 'residual': 'the stream restarts and earlier states are attended to'}),
    'JambaForCausalLM': experts(dense=[0, 2], mlp='feed_forward.down_proj', attention=pair('self_attn.o_proj', 1, 3),
                                why={'mlp': EXPERTS, 'attention': STATE_SPACE}),
    'JetMoeForCausalLM': Family('model.layers.{}', None, None, why='a mixture of experts, of attentions too'),
    'JinaEmbeddingsV3ForMaskedLM': gpt('roberta.layers.{}', 'mlp.fc2', 'self_attn.o_proj'),
    'Lfm2ForCausalLM': Family('model.layers.{}', 'feed_forward.w2', pair('self_attn.out_proj', 1, 3), why=CONVOLUTION),
    'Lfm2MoeForCausalLM': experts(dense=[0], mlp='feed_forward.w2', attention=pair('self_attn.out_proj', 1, 3),
                                  why={'mlp': EXPERTS, 'attention': CONVOLUTION}),
    'Lfm3ForCausalLM': Family('model.layers.{}', 'feed_forward.w2', pair('self_attn.o_proj', 1, 2), why=CONVOLUTION),
    'LongcatFlashForCausalLM': refused('two attentions, two MLPs and experts a block; the configuration counts each block twice'),
    'MPNetForMaskedLM': gpt('mpnet.encoder.layer.{}', 'output.dense', 'attention.attn.o'),
    'MiniMaxForCausalLM': experts(attention=pair('self_attn.o_proj', 0, 2) | pair('self_attn.out_proj', 1, 3)),
    'MllamaForCausalLM': Family('model.layers.{}', pair('mlp.down_proj', 0, 1, 2), pair('self_attn.o_proj', 0, 1, 2), (0, 1, 2),
                                'a block with cross-attention, which is passed over where there is no image'),
    'MobileBertForMaskedLM': Family('mobilebert.encoder.layer.{}', None, None, why={
        'mlp': 'four MLPs a block', 'attention': 'it works in a narrower space inside the block'}),
    'ModernBertDecoderForCausalLM': gpt('model.layers.{}', 'mlp.Wo', 'attn.Wo'),
    'ModernBertForMaskedLM': gpt('model.layers.{}', 'mlp.Wo', 'attn.Wo'),
    'ModernVBertForMaskedLM': gpt('model.text_model.layers.{}', 'mlp.Wo', 'attn.Wo'),
    'MoshiForCausalLM': gpt('model.layers.{}', 'mlp.fc2', 'self_attn.o_proj.linear'),
    'MptForCausalLM': gpt('transformer.blocks.{}', 'ffn.down_proj', 'attn.out_proj'),
    'NanoChatForCausalLM': gpt('model.layers.{}', 'mlp.fc2', 'self_attn.o_proj'),
    'NemotronHForCausalLM': Family('model.layers.{}', {3: 'mixer.down_proj'}, {2: 'mixer.o_proj'},
                                   why='a block holds one of a state-space mixer, experts, an attention and an MLP'),
    'NeoMMEForMaskedLM': gpt('model.layers.{}', 'mlp.down_proj', 'self_attn.output_projection.o_proj'),
    'NomicBertForMaskedLM': gpt('nomic_bert.layers.{}', 'mlp.down_proj', 'self_attn.o_proj'),
    'OlmoHybridForCausalLM': gpt('model.layers.{}', 'mlp.down_proj', pair('linear_attn.o_proj', 0, 2) | pair('self_attn.o_proj', 1, 3)),
    'OpenAIGPTLMHeadModel': gpt('transformer.h.{}', 'mlp.c_proj', 'attn.c_proj'),
    'PerceiverForMaskedLM': refused('its blocks hold latent vectors, not tokens'),
    'PersimmonForCausalLM': gpt('model.layers.{}', 'mlp.dense_4h_to_h', 'self_attn.dense'),
    'PhiForCausalLM': gpt('model.layers.{}', 'mlp.fc2', 'self_attn.dense'),
    'ProphetNetForCausalLM': refused('its predicted streams follow the tokens along the same axis'),
    'Qwen3_5ForCausalLM': gpt('model.layers.{}', 'mlp.down_proj', pair('linear_attn.out_proj', 0, 2) | pair('self_attn.o_proj', 1, 3)),
    'Qwen4ExpForCausalLM': experts(attention=pair('linear_attn.out_proj', 0, 2) | pair('self_attn.o_proj', 1, 3), residual=False,
                                   why={'mlp': EXPERTS, 'residual': 'several residual streams a token'}),
    'RecurrentGemmaForCausalLM': Family('model.layers.{}', 'mlp_block.down_proj', {2: 'temporal_block.o_proj'},
                                        why='a recurrence in place of attention'),
    'RwkvForCausalLM': gpt('rwkv.blocks.{}', 'feed_forward.value', 'attention.output'),
    'SqueezeBertForMaskedLM': refused('convolutions in place of linear maps, and channels before tokens'),
    'Starcoder2ForCausalLM': gpt('model.layers.{}', 'mlp.c_proj', 'self_attn.o_proj'),
    'UltraVBertForMaskedLM': gpt('model.text_model.layers.{}', 'mlp.down_proj', 'self_attn.o_proj'),
    'XGLMForCausalLM': gpt('model.layers.{}', 'fc2', 'self_attn.out_proj'),
    'XLNetLMHeadModel': refused('tokens come before rows'),
    'xLSTMForCausalLM': Family('backbone.blocks.{}', 'ffn.proj_down', None, why='a recurrent memory in place of attention'),
}

# families of which the real tokens see the padding behind them, although it is masked: by convolution, Fourier transform or hashing
SEES_PADDING = {'ConvBertForMaskedLM', 'FNetForMaskedLM', 'MobileBertForMaskedLM', 'NystromformerForMaskedLM', 'YosoForMaskedLM'}


def oracle(name, model, site, layer):
    "Where a site of a layer is and whether it is what enters the module there, or why there is no single right answer."
    family = ORACLE[name]
    reason = family.why if isinstance(family.why, str) else family.why.get('mlp' if site == 'neurons' else site, '')
    if site == 'residual':
        there = family.residual if isinstance(family.residual, bool) else layer in family.residual
        return (family.block.format(layer), False) if there else reason
    path = family.attention if site == 'attention' else family.mlp
    if isinstance(path, dict): path = path.get(layer)
    return (f'{family.block}.{path}'.format(*[layer] * 2), site == 'neurons') if path else reason


def plain(model, path, ids, before):
    "What enters or leaves the module at a path in a plain full forward, (rows, tokens, width)."
    seen = []
    def hook(module, inputs, output):
        value = inputs if before else output
        value = value[0] if isinstance(value, (tuple, list)) else value
        seen.append(value.clone()) # some blocks go on to add to it in place
    handle = model.get_submodule(path).register_forward_hook(hook)
    try:
        with torch.inference_mode(): model(ids)
    finally: handle.remove()
    [value] = seen # a module that runs twice has no single answer
    return value.reshape(len(ids), -1, value.shape[-1])


def answers(name):
    "The oracle's answers of a family in one line: a path a site, and the layers that have none with the reason."
    texts = [ORACLE[name].block or '-']
    for site in ('mlp', 'attention', 'residual'):
        by_layer = [oracle(name, None, site, layer) for layer in range(LAYERS)]
        for answer in dict.fromkeys(answer if isinstance(answer, str) else answer[0].replace(f'.{layer}', '.{}', 1)
                                    for layer, answer in enumerate(by_layer)):
            texts.append(f'{site}: {answer.removeprefix(ORACLE[name].block).removeprefix(".") or "block"}')
    return ' | '.join(texts)


def walk():
    "A line a class: its size and seconds, whether its logits are finite, its last residual, the oracle's answers."
    ids = torch.randint(5, 120, (2, 9), generator=torch.Generator().manual_seed(0))
    outcomes = Counter()
    for name in classes():
        start = time.perf_counter()
        try: model = tiny(name)
        except NotBuildable as error:
            outcomes[f'not buildable: {name}, {error}'] += 1
            print(f'{name:48} not buildable: {error}')
            continue
        with torch.inference_mode():
            logits = model(ids)[0]
            model.base_model(ids)
        place = oracle(name, model, 'residual', LAYERS - 1)
        largest = '-' if isinstance(place, str) else f'{plain(model, place[0], ids, False).abs().max():.3g}'
        seconds, size = time.perf_counter() - start, sum(w.numel() for w in model.parameters())
        finite = bool(torch.isfinite(logits).all())
        outcomes['buildable' if finite else 'buildable, logits not finite'] += 1
        print(f'{name:48} {size:8,} {seconds:5.2f} s {finite!s:5} {largest:>8}  {answers(name)}')
    for outcome, count in outcomes.items(): print(count, outcome)


if __name__ == '__main__':
    warnings.filterwarnings('ignore')
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1) # threads cost more than such small models gain
    walk()
