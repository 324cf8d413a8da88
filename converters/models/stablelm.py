"""StableLM 2, StableLM-3B: LayerNorm with a bias, a quarter of each head rotated, residuals one after another
or parallel.
"""

from edgekit.converters.models import _rotary
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source

DEFAULTS = {"num_key_value_heads": 32, "max_position_embeddings": 4096}


def spec(config: Config) -> ModelSpec:
    config.only("qk_layernorm", False)
    layers = standard.attention_layers(config, parallel=config.flag("use_parallel_residual"))
    return standard.spec(
        config,
        layers=layers,
        ropes=(_rotary.rope(config, layers[0].head_dim, partial=0.25),),
        norm="layer",
        norm_eps=config.number("layer_norm_eps", 1e-5),
    )


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    attention = ("q", "k", "v") if config.flag("use_qkv_bias") else ()
    return standard.tensors(spec, biases=("attn_norm", "ffn_norm", "final_norm", *attention))
