"""Command R7B: LayerNorm without bias, attention and feed-forward part side by side; three of four layers
have a window, and only those rotate, neighbouring numbers together.
"""

from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source

DEFAULTS = {
    "layer_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "logit_scale": 0.0625,
    "sliding_window": 4096,
    "max_position_embeddings": 8192,
}


def spec(config: Config) -> ModelSpec:
    config.only("rotary_pct", 1.0)
    config.only("use_parallel_block", True)
    config.ignore("layer_switch", "order_of_interleaved_layers", "position_embedding_type")
    config.ignore("use_embedding_sharing", "use_gated_activation")
    every = config.integer("sliding_window_pattern", 4)
    types = standard.layer_types(config, standard.one_full_in(config, every))
    layers = standard.attention_layers(
        config,
        windows=standard.windows(config, types),
        ropes=[0 if kind == "sliding_attention" else None for kind in types],
        parallel=True,
    )
    scale = config.number("logit_scale")
    return standard.spec(config, layers=layers, norm="layer", eps="layer_norm_eps", logit_scale=scale)


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    biases = ("q", "k", "v", "o") if config.flag("attention_bias") else ()
    return standard.tensors(spec, biases=biases, pairs=True)
