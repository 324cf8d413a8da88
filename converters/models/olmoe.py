"""OLMoE: Llama blocks with a mixture of experts, and a norm over all of q and of k at once."""

from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import MAX_EXPERTS, Config
from edgekit.converters.spec import ModelSpec, Source

DEFAULTS = {
    "rms_norm_eps": 1e-5,
    "num_experts": 64,
    "num_experts_per_tok": 8,
    "max_position_embeddings": 4096,
}


def spec(config: Config) -> ModelSpec:
    config.only("clip_qkv")
    experts = config.integer("num_local_experts", config.integer("num_experts"), maximum=MAX_EXPERTS)
    layers = standard.attention_layers(config, n_experts=experts)
    return standard.spec(config, layers=layers, moe=standard.moe(config, experts), qk_norm="full")


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    biases = ("q", "k", "v", "o") if config.flag("attention_bias") else ()
    return standard.tensors(spec, standard.LAYER | standard.QK_NORM | standard.EXPERTS, biases=biases)
