"""GLM-4.7-Flash: DeepSeek-V3 of which the types of the layers are listed."""

from edgekit.converters.models import _standard as standard
from edgekit.converters.models import deepseek_v3
from edgekit.converters.models._config import Config
from edgekit.converters.models.deepseek_v3 import tensors, unused
from edgekit.converters.spec import ModelSpec
from edgekit.errors import UnsupportedModel

__all__ = ["DEFAULTS", "spec", "tensors", "unused"]

DEFAULTS = deepseek_v3.DEFAULTS | {
    "n_group": 1,
    "q_lora_rank": 768,
    "qk_nope_head_dim": 192,
    "v_head_dim": 256,
    "num_experts_per_tok": 4,
    "routed_scaling_factor": 1.8,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 202752,
}


def spec(config: Config) -> ModelSpec:
    config.ignore("first_k_dense_replace")
    count = standard.layer_count(config)
    types = config.items("mlp_layer_types", count, ["dense"] + ["sparse"] * (count - 1))
    dense = types.count("dense")
    if types != ["dense"] * dense + ["sparse"] * (count - dense):
        raise UnsupportedModel(
            f"config: mlp_layer_types is {types}; dense layers before sparse are supported"
        )
    return deepseek_v3.spec(config, dense)
