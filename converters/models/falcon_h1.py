"""Falcon-H1: Mamba-2 and attention beside each other in every block; what multiplies activations there (muP)
multiplies the matrices here.
"""

from dataclasses import replace

from edgekit.converters.models import _mamba
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import MAX_HEADS, Config
from edgekit.converters.spec import Layer, ModelSpec, Source

DEFAULTS = {
    "vocab_size": 128000, "hidden_size": 4096, "intermediate_size": 14336, "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5, "max_position_embeddings": 8192, "mamba_d_ssm": 1024, "mamba_n_heads": 128,
    "mamba_n_groups": 1, "mamba_d_state": 256, "mamba_d_conv": 4, "mamba_conv_bias": True,
    "mamba_norm_before_gate": True, "mamba_rms_norm": False,
}  # fmt: skip
IGNORED = "mamba_chunk_size mamba_expand mamba_use_mlp mlp_expansion_factor num_logits_to_keep".split()
UNKNOWN = ("attention_bias", "mamba_proj_bias", "mlp_bias", "projectors_bias")
FEED_FORWARD = {part: f"feed_forward.{part}_proj" for part in ("gate", "up", "down")}
LAYER = standard.LAYER | {"ffn_norm": "pre_ff_layernorm"} | FEED_FORWARD | _mamba.layer("mamba")


def spec(config: Config) -> ModelSpec:
    config.ignore(*IGNORED)
    for name in UNKNOWN:
        config.only(name, False)
    heads, width = config.integer("mamba_n_heads", maximum=MAX_HEADS), config.integer("mamba_d_ssm")
    config.only("mamba_d_head", "auto", width // heads)
    of = _mamba.recurrence(
        config,
        heads=heads,
        groups=config.integer("mamba_n_groups", maximum=MAX_HEADS),
        head_dim=width // heads,
        state=config.integer("mamba_d_state"),
        kernel=config.integer("mamba_d_conv"),
        norm="group" if config.flag("mamba_rms_norm") else "none",
        norm_eps=config.number("rms_norm_eps"),
        gate_first=not config.flag("mamba_norm_before_gate"),
    )
    mamba = replace(standard.recurrent(Layer(), of), beside=True)
    return standard.spec(
        config,
        layers=[each for layer in standard.attention_layers(config) for each in (mamba, layer)],
        embed_scale=config.number("embedding_multiplier", 1.0),
        logit_scale=config.number("lm_head_multiplier", 1.0),
    )


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    blocks = [index // 2 for index in range(len(spec.layers))]
    biases = _mamba.CONVOLUTIONS if config.flag("mamba_conv_bias") else ()
    layer = {
        part: name for part, name in LAYER.items() if part != "state_scale" or config.flag("mamba_rms_norm")
    }
    found = standard.tensors(spec, layer, biases=biases, final_norm="final_layernorm", blocks=blocks)
    scales = _multipliers(config)
    read_twice = {f"layers.{index}.attn_norm" for index in range(1, len(spec.layers), 2)}
    return {
        name: replace(where, scale=scales.get(name.rpartition(".")[2], 1.0))
        for name, where in found.items()
        if name not in read_twice
    }


def _multipliers(config: Config) -> dict[str, float]:
    """Of what each matrix gives."""
    read, key, written, states, mixed = (
        config.number(f"{name}_multiplier", 1.0)
        for name in ("attention_in", "key", "attention_out", "ssm_in", "ssm_out")
    )
    parts = config.numbers("ssm_multipliers", 5, [1.0] * 5)
    gate, down = config.numbers("mlp_multipliers", 2, [1.0] * 2)
    ssm = {
        f"state_{part}": states * scale for part, scale in zip(("z", "v", "k", "q", "dt"), parts, strict=True)
    }
    attention = {"q": read, "k": read * key, "v": read, "o": written}
    return {**attention, **ssm, "state_o": mixed, "gate": gate, "down": down}
