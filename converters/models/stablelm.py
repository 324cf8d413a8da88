"""StableLM 2, StableLM-3B: LayerNorm with a bias, a quarter of each head rotated, residuals one after another
or parallel.
"""

from edgekit.converters.models import _rotary
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source

QK_NORM = {"q_norm": "self_attn.q_layernorm.norms.{}", "k_norm": "self_attn.k_layernorm.norms.{}"}
DEFAULTS = {"layer_norm_eps": 1e-5, "num_key_value_heads": 32, "max_position_embeddings": 4096}


def spec(config: Config) -> ModelSpec:
    layers = standard.attention_layers(config, parallel=config.flag("use_parallel_residual"))
    return standard.spec(
        config,
        layers=layers,
        ropes=(_rotary.rope(config, layers[0].head_dim, partial=0.25),),
        norm="layer",
        qk_norm="layer_per_head" if config.flag("qk_layernorm") else "none",
        eps="layer_norm_eps",
    )


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    attention = ("q", "k", "v") if config.flag("use_qkv_bias") else ()
    layer = standard.LAYER | (QK_NORM if spec.qk_norm == "layer_per_head" else {})
    return standard.tensors(spec, layer, biases=("attn_norm", "ffn_norm", "final_norm", *attention))
