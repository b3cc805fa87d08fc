"""A tiny random model of every causal and masked class of transformers, and, written by hand from
the code of each family, where its blocks and their output projections are.

`tiny` builds the models and `oracle` answers; neither looks for anything in a model, so that both
can judge a search. `walk` compares `record` with the answers; run as a program, it writes the table
of families that the site shows."""
import copy
import dataclasses
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import transformers
from sparse_probing import LM, Examples, record
from sparse_probing.sites import SITES, site_width
from torch import nn
from transformers import PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED

LAYERS = 4
LIMIT = 3_000_000 # parameters of a tiny model at most
STD = .3 # of random weights: large enough that every layer matters
STDS = {'MobileBertForMaskedLM': .15} # its norms only scale, so its stream grows with every layer


class NotBuildable(Exception):
    "A class of which no tiny model can be made from its configuration alone; says why."


def sizes(value, names):
    "The same size under each of the names that families give it."
    return dict.fromkeys(names.split(), value)


# what a field of a configuration becomes, by its name; fields with other names keep their default
SIZES = (
    sizes(120, 'vocab_size decoder_vocab_size vocab_size_per_layer_input pronunciation_vocab_size '
               'shape_vocab_size entity_vocab_size encoder_hash_byte_group_vocab')
    | sizes(32, 'hidden_size d_model n_embd dim emb_dim embedding_dim embedding_size '
                'attention_hidden_size word_embed_proj_dim pooler_hidden_size prediction_head_size '
                'lru_width backbone_hidden_size hidden_size_global')
    | sizes(72, 'intermediate_size ffn_dim decoder_ffn_dim encoder_ffn_dim n_inner hidden_dim dff '
                'dim_ff d_inner ffn_hidden_size feed_forward_size mlp_dim')
    | sizes(LAYERS, 'num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers '
                    'num_blocks num_decoder_layers num_encoder_layers')
    | sizes(4, 'num_attention_heads n_head n_heads num_heads attention_heads '
               'decoder_attention_heads encoder_attention_heads num_decoder_attention_heads '
               'num_encoder_attention_heads swa_num_attention_heads')
    | sizes(2, 'num_key_value_heads num_kv_heads swa_num_key_value_heads kv_n_heads')
    | sizes(8, 'head_dim swa_head_dim attention_head_size attention_head_dim dim_head d_head '
               'kv_channels')
    | sizes(64, 'max_position_embeddings n_positions n_ctx max_seq_len max_target_positions '
                'max_source_positions context_length model_max_length tpu_short_seq_length '
                'original_max_position_embeddings')
    | sizes(4, 'sliding_window sliding_window_size local_attention attention_window '
               'attention_window_size window_size attention_chunk_size')
    | sizes(4, 'num_experts n_routed_experts num_local_experts moe_num_experts')
    | sizes(2, 'num_experts_per_tok num_experts_per_token moe_topk moe_k moe_top_k top_k_experts')
    | sizes(24, 'moe_intermediate_size expert_ffn_hidden_size')
    | sizes(40, 'shared_expert_intermediate_size shared_intermediate_size '
                'shared_experts_intermediate_size moe_shared_expert_intermediate_size '
                'dense_intermediate_size prefix_dense_intermediate_size intermediate_size_mlp')
    | sizes(1, 'first_k_dense_replace num_dense_layers moe_layer_start_index n_group topk_group '
               'num_expert_group n_groups mamba_n_groups mamba_ngroups')
    | sizes(12, 'q_lora_rank qk_head_dim') | sizes(20, 'kv_lora_rank')
    | sizes(8, 'qk_nope_head_dim v_head_dim index_head_dim')
    | sizes(4, 'qk_rope_head_dim rotary_dim')
    # an index over tokens takes all of them: a choice among equals would depend on their number
    | sizes(2, 'index_n_heads indexer_n_heads') | sizes(64, 'index_topk indexer_budget')
    | sizes(8, 'chunk_size mamba_chunk_size block_size mamba_d_state state_size ssm_state_size '
               'time_step_rank mamba_dt_rank')
    | sizes(4, 'mamba_n_heads mamba_num_heads linear_num_heads linear_num_value_heads')
    | sizes(16, 'mamba_d_head mamba_head_dim') | sizes(64, 'mamba_d_ssm')
    | sizes(2, 'linear_num_key_heads') | sizes(8, 'linear_key_head_dim linear_value_head_dim')
    | sizes(8, 'linear_head_dim') | sizes(2, 'type_vocab_size')
    | sizes(0, 'num_nextn_predict_layers num_mtp_layers')
    | sizes(16, 'hidden_size_per_layer_input laurel_rank adapter_rank router_hidden_size '
                'embedding_rank')
    | sizes(0, 'pad_token_id pad_index') | sizes(1, 'bos_token_id bos_index')
    | sizes(2, 'eos_token_id decoder_start_token_id eos_index forced_eos_token_id')
    | sizes(3, 'sep_token_id unk_index eod_token_id cls_token_id')
    | sizes(4, 'mask_token_id mask_index') | sizes(32, 'image_size') | sizes(16, 'patch_size')
)
KINDS = 'layer_types', 'mlp_layer_types', 'layers_block_type', 'indexer_types' # an entry a layer
SLIDING = ['sliding_attention', 'full_attention'] * 2
DOTS3_SLIDING = dict(num_attention_heads=4, num_key_value_heads=4, q_lora_rank=12, kv_lora_rank=20,
                     head_dim=12, qk_nope_head_dim=8, v_head_dim=8)
LATENT = """AXK1 AXK2 BailingHybrid DeepseekV2 DeepseekV3 DeepseekV32 Dots3NoteText Glm4MoeLite
            GlmMoeDsa KimiLinear LongcatFlash MiniCPM3 Youtu""".split()
# what a class needs beyond the sizes, by the name of the configuration or of the model
NEEDS = {f'{name}Config': dict(num_key_value_heads=4) for name in LATENT} # no fewer keys than heads
NEEDS |= {
    'BambaConfig': dict(attn_layer_indices=[1, 3]),
    'BltConfig': dict(use_cache=False),
    'CohereCompassTextConfig': dict(layer_types=SLIDING, rope_parameters={
        kind: {'rope_type': 'default', 'rope_theta': 10_000.} for kind in SLIDING}),
    'DbrxAttentionConfig': dict(rope_theta=10_000., clip_qkv=8.),
    'Dots1Config': dict(n_shared_experts=1, layer_types=SLIDING),
    'Dots3NoteTextConfig': dict(
        num_key_value_heads=4, head_dim=12,
        layer_types=['indexed_attention', 'sliding_attention'] * 2,
        **{f'swa_{name}': size for name, size in DOTS3_SLIDING.items()}),
    'EsmcConfig': dict(num_key_value_heads=4),
    'GPTNeoConfig': dict(attention_types=[[['global', 'local'], 2]]),
    'Gemma3nTextConfig': dict(num_kv_shared_layers=0),
    'Gemma4TextConfig': dict(global_head_dim=16),
    'Gemma4UnifiedTextConfig': dict(global_head_dim=16),
    'GraniteMoeHybridConfig': dict(layer_types=['linear_attention', 'full_attention'] * 2),
    'JambaConfig': dict(attn_layer_period=2, attn_layer_offset=1),
    'Lfm2Config': dict(layer_types=['conv', 'full_attention'] * 2, block_multiple_of=8),
    'Lfm2MoeConfig': dict(layer_types=['conv', 'full_attention'] * 2),
    'LongcatFlashConfig': dict(num_key_value_heads=4, head_dim=4, num_layers=2),
    'Mamba2Config': dict(head_dim=16),
    'MobileBertConfig': dict(intra_bottleneck_size=16),
    'MusicgenDecoderConfig': dict(num_codebooks=1), # with more, ids come in groups of rows
    'MusicgenMelodyDecoderConfig': dict(num_codebooks=1),
    'NeoMMEConfig': dict(rope_parameters={'full_attention': {'partial_rotary_factor': .5}}),
    'PerceiverConfig': dict(
        num_latents=8, d_latents=32, num_self_attends_per_block=4, num_blocks=1, qk_channels=32,
        v_channels=32, num_self_attention_heads=4, num_cross_attention_heads=4),
    'Phi4MultimodalAudioConfig': dict(
        ext_pw_out_channel=32, depthwise_separable_out_channel=32, nemo_conv_channels=32),
    'Phi4MultimodalVisionConfig': dict(crop_size=32),
    'Qwen4ExpTextConfig': dict(
        indexer_kv_heads=1, indexer_head_dim=8, indexer_compress_ratio=2, hc_lowrank=8),
    'ReformerConfig': dict(
        attn_layers=['local', 'lsh'] * 2, axial_pos_embds_dim=(8, 24), axial_pos_shape=(8, 8),
        local_attn_chunk_length=4, lsh_attn_chunk_length=4, num_buckets=2, hash_seed=0),
    'ReformerModelWithLMHead': dict(is_decoder=True),
    'XmodConfig': dict(default_language='en_XX'),
    'ZambaConfig': dict(attention_hidden_size=64, attention_head_dim=16),
    'ZayaConfig': dict(num_experts_per_tok=1),
    'xLSTMConfig': dict( # its keys are a multiple of 64 wide
        hidden_size=64, embedding_dim=64, qk_dim_factor=1.),
}
CANNOT = dict.fromkeys(['Gemma4AssistantForCausalLM', 'Gemma4UnifiedAssistantForCausalLM'],
                       'its forward needs the hidden and key-value states of another model')


def classes():
    "The name of every class of the two mappings, once."
    return list(dict.fromkeys(name for names in (*CAUSAL.values(), *MASKED.values())
                              for name in ((names,) if isinstance(names, str) else names)))


def tiny_config(
    default, # a configuration as its class makes it
    **needs, # fields that the sizes do not give
): # a configuration of the same class
    "Shrunk by the names of its fields, and every kind of layer that it mixes is kept."
    kind, shrunk = type(default), {}
    for name in [field.name for field in dataclasses.fields(kind)]:
        value = vars(default).get(name)
        if isinstance(value, PreTrainedConfig): shrunk[name] = tiny_config(value)
        elif name in SIZES: shrunk[name] = SIZES[name]
        elif name in KINDS and value:
            mixed = list(dict.fromkeys(value))
            shrunk[name] = [mixed[layer % len(mixed)] for layer in range(LAYERS)]
    return kind(**shrunk | NEEDS.get(kind.__name__, {}) | needs)


def fill(model):
    "Random weights under which no path is hidden: no gate, scale or bias stays at zero."
    std = STDS.get(type(model).__name__, STD)
    with torch.no_grad():
        for weight in model.parameters():
            if not weight.is_floating_point(): continue
            if weight.ndim >= 2: nn.init.normal_(weight, std=std)
            else: weight.add_(torch.randn_like(weight) * .1)


def tiny(
    name, # of a class of one of the mappings
): # the model; raises NotBuildable with the reason
    "A tiny random model of a class, the same every time."
    if name in CANNOT: raise NotBuildable(CANNOT[name])
    kind = getattr(transformers, name)
    config = tiny_config(kind.config_class(), **NEEDS.get(name, {}))
    try:
        with torch.device('meta'): skeleton = kind(copy.deepcopy(config))
    except ImportError as error: # a package that is not installed
        raise NotBuildable(str(error).strip().split('. ')[0]) from error
    size = sum(weight.numel() for weight in skeleton.parameters())
    if size > LIMIT: raise NotBuildable(f'{size:,} parameters')
    torch.manual_seed(0)
    model = kind(config).float().eval()
    fill(model)
    return model


@dataclasses.dataclass(frozen=True)
class Family:
    "Where a family keeps its blocks and the output projections in them."
    block: str # path of the block of a layer; the other paths begin there
    mlp: str | dict | None # path of the MLP's output projection; by layer where layers differ
    attention: str | dict | None # the same of the attention; None where there is no right answer
    residual: bool | tuple = True # whether a block's output is the residual stream; in which layers
    why: str | dict = '' # why an answer is missing; by site where the sites differ


def refused(why):
    "A family of which no site has a single right answer."
    return Family('', None, None, False, why)


def experts(block='model.layers.{}', attention='self_attn.o_proj', residual=True, why=None,
            dense=(), mlp='mlp.down_proj'):
    "A mixture of experts in all layers but the dense ones."
    return Family(block, dict.fromkeys(dense, mlp), attention, residual, why or EXPERTS)


def bert(prefix):
    "A family with the paths of BERT."
    return Family(f'{prefix}.encoder.layer.{{}}', 'output.dense', 'attention.output.dense')


def alternating(even, odd):
    "Paths of layers of two kinds that take turns."
    return {0: even, 1: odd, 2: even, 3: odd}


EXPERTS = 'a mixture of experts'
STATE_SPACE = 'a state-space mixer in place of attention'
CONVOLUTION = 'a convolution in place of attention'
STREAMS = 'several residual streams a token'
LLAMA = Family('model.layers.{}', 'mlp.down_proj', 'self_attn.o_proj')
BART = Family('model.decoder.layers.{}', 'fc2', 'self_attn.out_proj')
MULTIMODAL = Family('model.language_model.layers.{}', 'mlp.down_proj', 'self_attn.o_proj')
MAMBA = Family('backbone.layers.{}', None, None,
               why='one state-space mixer a block, no attention and no MLP')
ZAMBA = Family('model.layers.{}', None, None,
               why='layers share one attention and MLP, which lead into a state-space mixer')
XLM = Family('transformer', 'ffns.{}.lin2', 'attentions.{}.out_lin', False,
             'no module holds a block: attentions, MLPs and norms stand in lists of their own')
ODD_ATTENTION = {1: 'self_attn.o_proj', 3: 'self_attn.o_proj'}
LINEAR_ATTENTION = alternating('linear_attn.out_proj', 'self_attn.o_proj')
ORACLE = dict.fromkeys("""
    ApertusForCausalLM ArceeForCausalLM BitNetForCausalLM CohereForCausalLM Cohere2ForCausalLM
    CohereCompassForCausalLM CwmForCausalLM DiffLlamaForCausalLM DogeForCausalLM Emu3ForCausalLM
    Ernie4_5ForCausalLM Exaone4ForCausalLM GemmaForCausalLM Gemma2ForCausalLM Gemma3ForCausalLM
    Gemma4ForCausalLM Gemma4AssistantForCausalLM Gemma4UnifiedForCausalLM
    Gemma4UnifiedAssistantForCausalLM GlmForCausalLM Glm4ForCausalLM GraniteForCausalLM
    GraniteSWAForCausalLM HeliumForCausalLM HunYuanDenseV1ForCausalLM HyperCLOVAXForCausalLM
    LlamaForCausalLM Jais2ForCausalLM MiniCPM3ForCausalLM MinistralForCausalLM
    Ministral3ForCausalLM MistralForCausalLM NemotronForCausalLM OlmoForCausalLM Olmo2ForCausalLM
    Olmo3ForCausalLM Phi3ForCausalLM Phi4MultimodalForCausalLM Qwen2ForCausalLM Qwen3ForCausalLM
    SeedOssForCausalLM SmolLM3ForCausalLM StableLmForCausalLM VaultGemmaForCausalLM
    YoutuForCausalLM EuroBertForMaskedLM UltrabertForMaskedLM""".split(), LLAMA)
ORACLE |= dict.fromkeys("""
    AriaTextForCausalLM Cohere2MoeForCausalLM FlexOlmoForCausalLM GptOssForCausalLM
    GraniteMoeForCausalLM GraniteMoeSWAForCausalLM GraniteMoeSharedForCausalLM
    HunYuanMoEV1ForCausalLM InklingForCausalLM Kolibri1ForCausalLM Llama4ForCausalLM
    MellumForCausalLM MiniMaxM2ForCausalLM MiniMaxM3VLForCausalLM MixtralForCausalLM
    OlmoeForCausalLM PhimoeForCausalLM Qwen2MoeForCausalLM Qwen3MoeForCausalLM
    SolarOpenForCausalLM ZayaForCausalLM""".split(), experts())
ORACLE |= dict.fromkeys("""
    AfmoeForCausalLM DeepseekV2ForCausalLM DeepseekV3ForCausalLM Dots1ForCausalLM
    Ernie4_5_MoeForCausalLM Glm4MoeForCausalLM""".split(), experts(dense=[0]))
ORACLE |= dict.fromkeys("""
    AXK1ForCausalLM AXK2ForCausalLM BailingHybridForCausalLM BeamForCausalLM
    DeepseekV32ForCausalLM Dots3NoteForCausalLM ExaoneMoeForCausalLM Glm4MoeLiteForCausalLM
    GlmMoeDsaForCausalLM HYV3ForCausalLM KimiLinearForCausalLM LagunaForCausalLM
    MiMoV2FlashForCausalLM""".split(), experts(dense=[0, 2]))
ORACLE |= dict.fromkeys("""
    BartForCausalLM BigBirdPegasusForCausalLM BlenderbotForCausalLM BlenderbotSmallForCausalLM
    MarianForCausalLM MBartForCausalLM MusicgenForCausalLM MusicgenMelodyForCausalLM
    MvpForCausalLM OPTForCausalLM PegasusForCausalLM PLBartForCausalLM TrOCRForCausalLM
    WhisperForCausalLM""".split(), BART)
ORACLE |= dict.fromkeys("""
    Gemma3ForConditionalGeneration Gemma4ForConditionalGeneration
    Gemma4UnifiedForConditionalGeneration GotOcr2ForConditionalGeneration
    MossTranscribeDiarizeForConditionalGeneration""".split(), MULTIMODAL)
ORACLE |= {f'{name}For{head}': bert(prefix) for prefix, names in {
    'bert': 'BigBird MegatronBert', 'data2vec_text': 'Data2VecText', 'electra': 'Electra',
    'ernie': 'Ernie', 'rembert': 'RemBert', 'roberta_prelayernorm': 'RobertaPreLayerNorm',
    'roberta': 'Camembert Roberta XLMRoberta XLMRobertaXL Xmod', 'roc_bert': 'RoCBert',
    'roformer': 'RoFormer'}.items() for name in names.split() for head in ('CausalLM', 'MaskedLM')}
ORACLE |= {f'{name}ForMaskedLM': bert(prefix) for prefix, name in {
    'bert': 'Bert', 'convbert': 'ConvBert', 'esm': 'Esm', 'ibert': 'IBert', 'luke': 'Luke',
    'layoutlm': 'LayoutLM', 'longformer': 'Longformer', 'mra': 'Mra', 'tapas': 'Tapas',
    'nystromformer': 'Nystromformer', 'yoso': 'Yoso'}.items()}
ORACLE |= dict.fromkeys(['BertLMHeadModel', 'BertGenerationDecoder'], bert('bert'))
ORACLE |= dict.fromkeys(['DebertaForMaskedLM', 'DebertaV2ForMaskedLM'], bert('deberta'))
ORACLE |= dict.fromkeys(['FalconMambaForCausalLM', 'MambaForCausalLM', 'Mamba2ForCausalLM'], MAMBA)
ORACLE |= dict.fromkeys(['XLMWithLMHeadModel', 'FlaubertWithLMHeadModel'], XLM)
ORACLE |= dict.fromkeys(['ZambaForCausalLM', 'Zamba2ForCausalLM'], ZAMBA)
ORACLE |= dict.fromkeys(['ReformerModelWithLMHead', 'ReformerForMaskedLM'],
                        refused('reversible: a block hands two streams on'))
ORACLE |= dict.fromkeys(['Qwen3_5MoeForCausalLM', 'Qwen3NextForCausalLM'],
                        experts(attention=LINEAR_ATTENTION))
ORACLE |= dict.fromkeys(['BartForConditionalGeneration', 'MBartForConditionalGeneration',
                         'MvpForConditionalGeneration'],
                        refused('an encoder and a decoder: two stacks of blocks'))
ORACLE |= {
    'AlbertForMaskedLM': refused('one block serves all layers'),
    'BambaForCausalLM': Family(
        'model.layers.{}', 'feed_forward.down_proj', ODD_ATTENTION, why=STATE_SPACE),
    'BioGptForCausalLM': Family('biogpt.layers.{}', 'fc2', 'self_attn.out_proj'),
    'BloomForCausalLM': Family('transformer.h.{}', 'mlp.dense_4h_to_h', 'self_attention.dense'),
    'BltForCausalLM': refused('four stacks of blocks, over bytes and over patches of bytes'),
    'CTRLLMHeadModel': Family('transformer.h.{}', 'ffn.2', 'multi_head_attention.dense'),
    'CodeGenForCausalLM': Family('transformer.h.{}', 'mlp.fc_out', 'attn.out_proj'),
    'CpmAntForCausalLM': refused('its blocks see a prompt of its own before the tokens'),
    'DbrxForCausalLM': experts('transformer.blocks.{}', 'norm_attn_norm.attn.out_proj'),
    'DeepseekV4ForCausalLM': experts(
        attention='self_attn.o_b_proj', residual=False, why={'mlp': EXPERTS, 'residual': STREAMS}),
    'DistilBertForMaskedLM': Family(
        'distilbert.transformer.layer.{}', 'ffn.lin2', 'attention.out_lin'),
    'EsmcForMaskedLM': Family('esmc.layers.{}', 'mlp.down_proj', 'self_attn.o_proj'),
    'FNetForMaskedLM': Family('fnet.encoder.layer.{}', 'output.dense', None,
                              why='a Fourier transform in place of attention'),
    'FalconForCausalLM': Family('transformer.h.{}', 'mlp.dense_4h_to_h', 'self_attention.dense'),
    'FalconH1ForCausalLM': Family('model.layers.{}', 'feed_forward.down_proj', None,
                                  why='attention and a state-space mixer side by side'),
    'FlintForCausalLM': experts(dense=[0, 1]),
    'FunnelForMaskedLM': refused('the sequence is pooled between blocks'),
    'FuyuForCausalLM': Family(
        'model.language_model.layers.{}', 'mlp.dense_4h_to_h', 'self_attn.dense'),
    'GPT2LMHeadModel': Family('transformer.h.{}', 'mlp.c_proj', 'attn.c_proj'),
    'GPTBigCodeForCausalLM': Family('transformer.h.{}', 'mlp.c_proj', 'attn.c_proj'),
    'GPTJForCausalLM': Family('transformer.h.{}', 'mlp.fc_out', 'attn.out_proj'),
    'GPTNeoForCausalLM': Family('transformer.h.{}', 'mlp.c_proj', 'attn.attention.out_proj'),
    'GPTNeoXForCausalLM': Family('gpt_neox.layers.{}', 'mlp.dense_4h_to_h', 'attention.dense'),
    'GPTNeoXJapaneseForCausalLM': Family(
        'gpt_neox_japanese.layers.{}', 'mlp.dense_4h_to_h', 'attention.dense'),
    'Gemma3nForCausalLM': Family(
        'model.layers.{}', 'mlp.down_proj', 'self_attn.o_proj', False, STREAMS),
    'Gemma3nForConditionalGeneration': Family(
        'model.language_model.layers.{}', 'mlp.down_proj', 'self_attn.o_proj', False, STREAMS),
    'GitForCausalLM': bert('git'),
    'GraniteMoeHybridForCausalLM': experts(
        attention=ODD_ATTENTION, why={'mlp': EXPERTS, 'attention': STATE_SPACE}),
    'GteForMaskedLM': Family('gte.layers.{}', 'mlp.down_proj', 'self_attn.o_proj'),
    'HYV4ForCausalLM': experts(
        dense=[0, 2], residual=False, why={'mlp': EXPERTS, 'residual': STREAMS}),
    'HrmTextForCausalLM': refused('its blocks run several times in a forward'),
    'Inkling2ForCausalLM': experts(residual=False, why={
        'mlp': EXPERTS, 'residual': 'its stream restarts, and earlier ends of it are attended to'}),
    'JambaForCausalLM': experts(attention=ODD_ATTENTION, dense=[0, 2], mlp='feed_forward.down_proj',
                                why={'mlp': EXPERTS, 'attention': STATE_SPACE}),
    'JetMoeForCausalLM': Family('model.layers.{}', None, None,
                                why='a mixture of experts, of which the attention is one too'),
    'JinaEmbeddingsV3ForMaskedLM': Family('roberta.layers.{}', 'mlp.fc2', 'self_attn.o_proj'),
    'Lfm2ForCausalLM': Family('model.layers.{}', 'feed_forward.w2', why=CONVOLUTION, attention={
        1: 'self_attn.out_proj', 3: 'self_attn.out_proj'}),
    'Lfm2MoeForCausalLM': experts(
        attention={1: 'self_attn.out_proj', 3: 'self_attn.out_proj'}, dense=[0],
        mlp='feed_forward.w2', why={'mlp': EXPERTS, 'attention': CONVOLUTION}),
    'Lfm3ForCausalLM': Family('model.layers.{}', 'feed_forward.w2', why=CONVOLUTION, attention={
        1: 'self_attn.o_proj', 2: 'self_attn.o_proj'}),
    'LongcatFlashForCausalLM': refused('two attentions, two MLPs and experts a block, '
                                       'which the configuration counts as two layers'),
    'MPNetForMaskedLM': Family('mpnet.encoder.layer.{}', 'output.dense', 'attention.attn.o'),
    'MiniMaxForCausalLM': experts(
        attention=alternating('self_attn.o_proj', 'self_attn.out_proj')),
    'MllamaForCausalLM': Family(
        'model.layers.{}', dict.fromkeys([0, 1, 2], 'mlp.down_proj'),
        dict.fromkeys([0, 1, 2], 'self_attn.o_proj'), (0, 1, 2),
        'a block with attention to an image, which is passed over without one'),
    'MobileBertForMaskedLM': Family('mobilebert.encoder.layer.{}', None, None, why={
        'mlp': 'four MLPs a block', 'attention': 'it ends in a narrower stream inside the block'}),
    'ModernBertDecoderForCausalLM': Family('model.layers.{}', 'mlp.Wo', 'attn.Wo'),
    'ModernBertForMaskedLM': Family('model.layers.{}', 'mlp.Wo', 'attn.Wo'),
    'ModernVBertForMaskedLM': Family('model.text_model.layers.{}', 'mlp.Wo', 'attn.Wo'),
    'MoshiForCausalLM': Family('model.layers.{}', 'mlp.fc2', 'self_attn.o_proj.linear'),
    'MptForCausalLM': Family('transformer.blocks.{}', 'ffn.down_proj', 'attn.out_proj'),
    'NanoChatForCausalLM': Family('model.layers.{}', 'mlp.fc2', 'self_attn.o_proj'),
    'NemotronHForCausalLM': Family(
        'model.layers.{}', {3: 'mixer.down_proj'}, {2: 'mixer.o_proj'},
        why='a block is one of a state-space mixer, experts, an attention and an MLP'),
    'NeoMMEForMaskedLM': Family(
        'model.layers.{}', 'mlp.down_proj', 'self_attn.output_projection.o_proj'),
    'NomicBertForMaskedLM': Family('nomic_bert.layers.{}', 'mlp.down_proj', 'self_attn.o_proj'),
    'OlmoHybridForCausalLM': Family(
        'model.layers.{}', 'mlp.down_proj', alternating('linear_attn.o_proj', 'self_attn.o_proj')),
    'OpenAIGPTLMHeadModel': Family('transformer.h.{}', 'mlp.c_proj', 'attn.c_proj'),
    'PerceiverForMaskedLM': refused('its blocks hold latent vectors, not tokens'),
    'PersimmonForCausalLM': Family('model.layers.{}', 'mlp.dense_4h_to_h', 'self_attn.dense'),
    'PhiForCausalLM': Family('model.layers.{}', 'mlp.fc2', 'self_attn.dense'),
    'ProphetNetForCausalLM': refused('its predicted streams follow the tokens on the same axis'),
    'Qwen3_5ForCausalLM': Family('model.layers.{}', 'mlp.down_proj', LINEAR_ATTENTION),
    'Qwen4ExpForCausalLM': experts(
        attention=LINEAR_ATTENTION, residual=False, why={'mlp': EXPERTS, 'residual': STREAMS}),
    'RecurrentGemmaForCausalLM': Family(
        'model.layers.{}', 'mlp_block.down_proj', {2: 'temporal_block.o_proj'},
        why='a recurrence in place of attention'),
    'RwkvForCausalLM': Family('rwkv.blocks.{}', 'feed_forward.value', 'attention.output'),
    'SqueezeBertForMaskedLM': refused('convolutions for linear maps, and channels before tokens'),
    'Starcoder2ForCausalLM': Family('model.layers.{}', 'mlp.c_proj', 'self_attn.o_proj'),
    'UltraVBertForMaskedLM': Family(
        'model.text_model.layers.{}', 'mlp.down_proj', 'self_attn.o_proj'),
    'XGLMForCausalLM': Family('model.layers.{}', 'fc2', 'self_attn.out_proj'),
    'XLNetLMHeadModel': refused('tokens come before rows'),
    'xLSTMForCausalLM': Family('backbone.blocks.{}', 'ffn.proj_down', None,
                               why='a recurrent memory in place of attention'),
}

def oracle(
    name, # of a class
    model, # not looked at: the answer is written down
    site, # 'neurons', 'mlp', 'attention' or 'residual'
    layer, # 0 is the first of four
): # (path of a module, whether to read what enters it), or the reason why there is no answer
    "Where a site is in the tiny model of a class."
    family = ORACLE[name]
    if site == 'residual':
        layers = range(LAYERS) if family.residual is True else family.residual or ()
        place = family.block if layer in layers else None
    else:
        place = family.attention if site == 'attention' else family.mlp
        if isinstance(place, dict): place = place.get(layer)
        place = place and f'{family.block}.{place}'
    if place: return place.replace('{}', str(layer)), site == 'neurons'
    return family.why if isinstance(family.why, str) else family.why[
        'mlp' if site == 'neurons' else site]


def plain(
    model,
    places, # (path of a module, whether to read what enters it), several
    ids, # (rows, tokens)
): # place -> (rows, tokens, width)
    "What ordinary hooks see in one plain full forward."
    values = {place: [] for place in places}
    def keeper(place):
        def keep(module, inputs, output):
            value = inputs if place[1] else output
            value = value[0] if isinstance(value, (tuple, list)) else value
            values[place].append(value.clone()) # some blocks go on to add to it in place
        return keep

    handles = [
        model.get_submodule(place[0]).register_forward_hook(keeper(place)) for place in places
    ]
    try:
        with torch.inference_mode(): model(ids)
    finally:
        for handle in handles: handle.remove()
    assert all(len(seen) == 1 for seen in values.values()), 'a module did not run exactly once'
    return {
        place: seen[0].reshape(len(ids), -1, seen[0].shape[-1]).numpy()
        for place, seen in values.items()
    }


LENGTHS = 9, 6, 7 # tokens of three examples


def examples():
    "Three rows of tokens of different lengths, the last token but one marked."
    rows, lengths = np.arange(len(LENGTHS)), np.array(LENGTHS)
    ids = np.random.default_rng(0).integers(5, 120, (len(rows), max(LENGTHS))).astype(np.int32)
    return Examples(ids, lengths, lengths - 2, rows % 2, rows, ('a', 'b'))


def read_where(lm, site):
    "Layers whose site is read, with its width; and why each of the others is refused."
    widths, reasons = {}, {}
    for layer in range(LAYERS):
        try:
            widths[layer] = site_width(lm.model, [layer], site)
        except ValueError as error:
            reasons[layer] = str(error).partition('is not read: ')[2] or str(error)
    return widths, reasons


def compare(name):
    "One row of the table: for each site 'read', or why not; and what `record` has wrong."
    model = tiny(name)
    lm, rows, wrong = LM(model, None, name), examples(), []
    places = {
        (site, layer): oracle(name, model, site, layer) for site in SITES for layer in range(LAYERS)
    }
    known = {place for place in places.values() if not isinstance(place, str)}
    alone = [
        plain(model, known, torch.as_tensor(rows.ids[[k], :n].astype(int)))
        for k, n in enumerate(LENGTHS)
    ]
    row = {'class': name}
    for site in SITES:
        widths, reasons = read_where(lm, site)
        for layer in widths:
            place = places[site, layer]
            if isinstance(place, str):
                wrong.append(f'{site} of layer {layer} is read, but {place}')
                continue
            X = record(lm, rows, [layer], (-1, 0), site).X[:, 0]
            there = np.stack(
                [values[place][0, at - 1 : at + 1] for values, at in zip(alone, rows.place)]
            )
            if X.shape != there.shape or not np.allclose(X, there, atol=1e-4 * np.abs(there).max()):
                wrong.append(f'{site} of layer {layer} is not {place[0]}')
        whys = dict.fromkeys(reasons.values())
        where = f'read in layer{"s" * (len(widths) > 1)} {", ".join(map(str, widths))}'
        row[site] = '; '.join([where] * bool(widths) + [*whys]) if reasons else 'read'
        if (
            site == 'neurons'
            and not reasons
            and len(set(widths.values())) == 1
            and lm.neurons != widths[0]
        ):
            wrong.append('LM.neurons is not what `record` gives')
    return row, wrong


def walk():
    "All classes: the table of families, and what is wrong, by class."
    table, wrong = [], {}
    for name in classes():
        try:
            row, faults = compare(name)
        except NotBuildable as error:
            row, faults = {'class': name} | dict.fromkeys(SITES, f'not tried: {error}'), []
        table.append(row)
        if faults: wrong[name] = faults
    return pd.DataFrame(table), wrong


TABLE = Path(__file__).parents[2] / 'nbs/reference/families.csv' # shown by the page beside it


if __name__ == '__main__':
    warnings.filterwarnings('ignore')
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1) # threads cost more than such small models gain
    table, wrong = walk()
    for name, faults in wrong.items(): print(name, *faults, sep='\n  ')
    table.to_csv(TABLE, index=False)
    print(
        f'{len(table)} classes, {(table[list(SITES)] == "read").all(axis=1).sum()} of them '
        f'read at all sites, {len(wrong)} wrong: {TABLE}'
    )
