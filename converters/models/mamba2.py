"""Mamba-2: recurrent layers alone, without feed-forward parts."""

from edgekit.converters.models import _mamba
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import MAX_HEAD_DIM, MAX_HEADS, Config
from edgekit.converters.spec import Layer, ModelSpec, Source

DEFAULTS = {
    "num_heads": 128,
    "head_dim": 64,
    "vocab_size": 32768,
    "hidden_size": 4096,
    "state_size": 128,
    "num_hidden_layers": 64,
    "layer_norm_epsilon": 1e-5,
    "conv_kernel": 4,
    "n_groups": 8,
    "use_conv_bias": True,
}


def spec(config: Config) -> ModelSpec:
    config.ignore("chunk_size", "expand", "time_step_rank", "time_step_min", "time_step_max")
    config.ignore("time_step_floor", "rescale_prenorm_residual", "residual_in_fp32")
    config.only("rms_norm", True)
    config.only("norm_before_gate", False)
    config.only("hidden_act", "silu")
    config.only("use_bias", False)
    of = _mamba.recurrence(
        config,
        heads=config.integer("num_heads", maximum=MAX_HEADS),
        groups=config.integer("n_groups", maximum=MAX_HEADS),
        head_dim=config.integer("head_dim", maximum=MAX_HEAD_DIM),
        state=config.integer("state_size", maximum=MAX_HEAD_DIM),
        kernel=config.integer("conv_kernel"),
        norm_eps=config.number("layer_norm_epsilon"),
    )
    layers = [standard.recurrent(Layer(), of)] * standard.layer_count(config)
    return standard.spec(config, layers=layers, ropes=(), eps="layer_norm_epsilon", context=0)


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    biases = _mamba.CONVOLUTIONS if config.flag("use_conv_bias") else ()
    layer = {"attn_norm": "norm"} | _mamba.layer("mixer")
    return standard.tensors(
        spec, layer, biases=biases, root="backbone.", embed="embeddings", final_norm="norm_f"
    )
