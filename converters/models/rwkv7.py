"""RWKV-7: layers of time mixing and of channel mixing by turns, without attention."""

from dataclasses import replace

from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import MAX_HEAD_DIM, Config
from edgekit.converters.spec import Layer, ModelSpec, Rwkv, Source
from edgekit.errors import InvalidFile

DEFAULTS = {"head_dim": 64, "norm_eps": 1e-5, "hidden_act": "sqrelu"}
RANKS = {"decay_rank": "decay", "rate_rank": "a", "value_rank": "v", "gate_rank": "gate"}
IGNORED = """
    attn attn_mode fuse_cross_entropy fuse_linear_cross_entropy fuse_norm hidden_ratio max_position_embeddings
    num_heads use_l2warp value_dim
""".split()
LOW_RANK = {"w": "w_lora", "a": "a_lora", "u": "v_lora", "g": "g_lora"}
TIME = {
    "attn_norm": "attn_norm",
    **{f"rwkv_{part}": f"attn.{part}_proj" for part in "rkvo"},
    **{f"rwkv_{part}_down": f"attn.{name}.lora.0" for part, name in LOW_RANK.items()},
    **{f"rwkv_{part}_up": f"attn.{name}.lora.2" for part, name in LOW_RANK.items()},
    **{"rwkv_removed": "attn.k_k", "rwkv_replaced": "attn.k_a", "rwkv_bonus": "attn.r_k"},
    "rwkv_norm": "attn.g_norm",
}
CHANNELS = {"attn_norm": "ffn_norm", "rwkv_up": "ffn.key", "rwkv_down": "ffn.value", "rwkv_mix": "ffn.x_k"}
BIASED = ("attn_norm", "final_norm", "rwkv_norm", "rwkv_w_up", "rwkv_a_up", "rwkv_u_up")


def spec(config: Config) -> ModelSpec:
    config.ignore(*IGNORED)
    config.only("hidden_act", "sqrelu", "relu2")
    for name in ("norm_first", "norm_bias"):
        config.only(name, True)
    width, head_dim = config.integer("hidden_size"), config.integer("head_dim", maximum=MAX_HEAD_DIM)
    if width % head_dim:
        raise InvalidFile(f"config: hidden_size {width} is no multiple of head_dim {head_dim}")
    ranks = {ours: config.integer(f"{theirs}_low_rank_dim") for ours, theirs in RANKS.items()}
    time = Layer("rwkv_time", rope=None, rwkv=Rwkv(width // head_dim, head_dim, **ranks))
    mixed = Rwkv(d_ff=config.integer("intermediate_size", 4 * width))
    channels = Layer("rwkv_channels", rope=None, rwkv=mixed)
    layers = [time, channels] * standard.layer_count(config)
    assert time.rwkv is not None
    layers[0] = replace(time, rwkv=replace(time.rwkv, value_rank=0))
    return standard.spec(
        config,
        layers=layers,
        ropes=(),
        eps="norm_eps",
        norm="layer",
        gated=False,
        activation="relu2",
        context=0,
    )


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    blocks = [index // 2 for index in range(len(spec.layers))]
    of = {
        mixer: standard.tensors(spec, layer, biases=BIASED, embed="embeddings", blocks=blocks)
        for mixer, layer in (("rwkv_time", TIME), ("rwkv_channels", CHANNELS))
    }
    found = {name: where for name, where in of["rwkv_time"].items() if not name.startswith("layers.")}
    for index, layer in enumerate(spec.layers):
        at = f"layers.{index}."
        found |= {name: where for name, where in of[layer.mixer].items() if name.startswith(at)}
        if layer.mixer == "rwkv_time":
            first, *rest = (f"model.layers.{blocks[index]}.attn.x_{part}" for part in "rwkvag")
            found[f"{at}rwkv_mix"] = Source(first, stack=tuple(rest), shape=spec.shape(f"{at}rwkv_mix"))
    for part in ("", "_bias"):
        found[f"embed_norm{part}"] = Source(f"model.layers.0.pre_norm.{part.strip('_') or 'weight'}")
    return found
