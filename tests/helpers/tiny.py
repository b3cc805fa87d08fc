"""Small models with random weights, one of each family, and where their neurons are."""
import torch
import transformers as tf

from sparse_probing import LM

COMMON = dict(vocab_size=120, hidden_size=32, num_hidden_layers=4, num_attention_heads=4)
SMALL = COMMON | dict(intermediate_size=72, pad_token_id=0)
LLAMA = SMALL | dict(num_key_value_heads=2, head_dim=8)
GPT = dict(vocab_size=120, n_embd=32, n_layer=4, n_head=4)
OPT = COMMON | dict(ffn_dim=72, word_embed_proj_dim=32)

# family -> configuration, path of the MLP's output projection, written down by hand
FAMILIES = {
    'GPT-2': (tf.GPT2Config(**GPT), 'transformer.h.{}.mlp.c_proj'),
    'GPT-2, odd width': (tf.GPT2Config(**GPT, n_inner=32), 'transformer.h.{}.mlp.c_proj'),
    'GPT-NeoX': (tf.GPTNeoXConfig(**SMALL), 'gpt_neox.layers.{}.mlp.dense_4h_to_h'),
    'GPT-J': (tf.GPTJConfig(**GPT, rotary_dim=4), 'transformer.h.{}.mlp.fc_out'),
    'Llama': (tf.LlamaConfig(**LLAMA), 'model.layers.{}.mlp.down_proj'),
    'Mistral': (tf.MistralConfig(**LLAMA), 'model.layers.{}.mlp.down_proj'),
    'Qwen2': (tf.Qwen2Config(**LLAMA), 'model.layers.{}.mlp.down_proj'),
    'Qwen3': (tf.Qwen3Config(**LLAMA), 'model.layers.{}.mlp.down_proj'),
    'Gemma': (tf.GemmaConfig(**LLAMA), 'model.layers.{}.mlp.down_proj'),
    'Gemma 2': (tf.Gemma2Config(**LLAMA), 'model.layers.{}.mlp.down_proj'),
    'Gemma 3': (tf.Gemma3TextConfig(**LLAMA), 'model.layers.{}.mlp.down_proj'),
    'OPT': (tf.OPTConfig(**OPT), 'model.decoder.layers.{}.fc2'),
    'BLOOM': (tf.BloomConfig(vocab_size=120, hidden_size=32, n_layer=4, n_head=4),
              'transformer.h.{}.mlp.dense_4h_to_h'),
    'Falcon': (tf.FalconConfig(**COMMON), 'transformer.h.{}.mlp.dense_4h_to_h'),
    'Phi': (tf.PhiConfig(**SMALL), 'model.layers.{}.mlp.fc2'),
    'Phi-3': (tf.Phi3Config(**SMALL), 'model.layers.{}.mlp.down_proj'),
    'BERT': (tf.BertConfig(**SMALL), 'bert.encoder.layer.{}.output.dense'),
    'RoBERTa': (tf.RobertaConfig(**SMALL), 'roberta.encoder.layer.{}.output.dense'),
    'DistilBERT': (tf.DistilBertConfig(vocab_size=120, dim=32, n_layers=4, n_heads=4,
                                       hidden_dim=72),
                   'distilbert.transformer.layer.{}.ffn.lin2'),
}
ENCODERS = 'BERT', 'RoBERTa', 'DistilBERT'


def tiny(config, encoder=False):
    """A model of a configuration as an LM, with weights so large that every layer matters."""
    torch.manual_seed(0)
    model = (tf.AutoModelForMaskedLM if encoder else tf.AutoModelForCausalLM).from_config(config)
    for weight in model.parameters(): torch.nn.init.normal_(weight, std=.3)
    return LM(model.float().eval(), None, type(model).__name__)


def hooks_of(model):
    """How many hooks are on the modules of a model."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
