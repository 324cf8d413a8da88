"""GLM-4 0414 (9B, Z1): GLM with norms after each part too."""

from edgekit.converters.models import glm
from edgekit.converters.models._config import Config
from edgekit.converters.models.glm import DEFAULTS, spec
from edgekit.converters.spec import ModelSpec, Source

__all__ = ["DEFAULTS", "spec", "tensors"]

LAYER = glm.LAYER | {"attn_post_norm": "post_self_attn_layernorm", "ffn_post_norm": "post_mlp_layernorm"}


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    return glm.tensors(config, spec, LAYER)
