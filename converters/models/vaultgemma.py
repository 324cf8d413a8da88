"""VaultGemma: Gemma 2 without the norms after each part."""

from edgekit.converters.models import _standard as standard
from edgekit.converters.models import gemma2
from edgekit.converters.models._config import Config
from edgekit.converters.models.gemma2 import DEFAULTS, spec
from edgekit.converters.spec import ModelSpec, Source

__all__ = ["DEFAULTS", "spec", "tensors"]

LAYER = standard.LAYER | {"ffn_norm": gemma2.LAYER["ffn_norm"]}


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    biases = ("q", "k", "v", "o") if config.flag("attention_bias") else ()
    return standard.tensors(spec, LAYER, biases=biases, norm_offset=1.0)
