"""MLX directories, through mlx-lm. On Apple it computes on the GPU; elsewhere it is a slow reference."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.engines import Facts
from edgekit.engines._logits import CHUNK, Logits, LogitsEngine, LogitsSession
from edgekit.errors import InvalidFile, UnsupportedModel, UsageError
from edgekit.events import KvType, MemoryPlan

BACKENDS = ("mlx",)
OPTIONS = ()
AUTOMATIC = False
INSTALL = "pip install 'edgekit[mlx]'"


def opens(path: Path) -> bool:
    """A quantized directory: any other is Hugging Face's as well."""
    try:
        config = json.loads((path / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and "quantization" in config


def open(path: Path, threads: int | None, backend: str) -> Engine:
    return Engine(path)


class Engine(LogitsEngine):
    """Threads are MLX's own business. Raises UnsupportedModel where mlx-lm is not installed or has not the
    model, InvalidFile for what it cannot load.
    """

    NAME = "mlx-lm"

    def __init__(self, path: Path) -> None:
        try:
            import mlx.core
            from mlx_lm.models import cache
            from mlx_lm.utils import load_model
        except ImportError:
            raise UnsupportedModel(
                f"{path}: an MLX directory runs in mlx-lm, which is not installed", hint=INSTALL
            ) from None
        self.path, self.mx, self.caches = path, mlx.core, cache
        try:
            self.model, self._config = load_model(path)
        except (KeyError, OSError, TypeError, ValueError) as error:
            raise InvalidFile(f"{path}: mlx-lm cannot load it: {error}") from None
        self.vocab_size = int(self._config["vocab_size"])
        self.isa = str(self.mx.default_device())

    @property
    def directory(self) -> Path:
        return self.path

    @functools.cached_property
    def metadata(self) -> dict[str, Any]:
        from edgekit.converters.convert import describe

        return {"generation": {}, **describe(self.path, self._config, self.vocab_size)}

    @functools.cached_property
    def _checkpoint(self) -> Any:
        """The directory as a checkpoint, for what mlx-lm does not tell."""
        from edgekit.converters.models import open_model
        from edgekit.converters.sources.mlx import MlxCheckpoint

        return open_model(MlxCheckpoint(self.path))

    @functools.cached_property
    def facts(self) -> Facts:
        spec = self._checkpoint.spec
        size = sum(file.stat().st_size for file in self.path.glob("*.safetensors"))
        return Facts(
            vocab_size=self.vocab_size,
            n_layers=len(self.model.layers),
            d_model=spec.d_model,
            context=spec.context,
            threads=os.cpu_count() or 1,
            isa=self.isa,
            model_type=spec.model_type,
            scheme="mlx",
            file_bytes=size,
            weight_bytes=size,
            n_parameters=spec.parameters(self._checkpoint.tensors),
            has_chat_template=self.template is not None,
        )

    def kv_type(self, wanted: str) -> KvType:
        if wanted not in ("auto", "f32"):
            raise UsageError(f"kv is {wanted!r}; mlx-lm keeps keys and values as it computes them, or in f32")
        return "f32" if wanted == "f32" else "f16"

    def cache_bytes(self, window: int, kv: KvType) -> int:
        return self._checkpoint.spec.cache_numbers(window) * (4 if kv == "f32" else 2)

    def session(self, on_full: str = "evict", **options: Any) -> Session:
        return Session(self, self.plan(**options), on_full)

    def exact_session(self, tokens: int) -> Session:
        return Session(self, self.planned(tokens, 0, CHUNK, "f32", None), "error")


class Context:
    """A text in mlx-lm."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.cache = engine.caches.make_prompt_cache(engine.model)

    @property
    def rewinds(self) -> bool:
        return bool(self._engine.caches.can_trim_prompt_cache(self.cache))

    def keep(self, count: int) -> None:
        """The first `count` tokens; the others are let go."""
        surplus = int(self.cache[0].offset) - count
        if not count:
            self.cache = self._engine.caches.make_prompt_cache(self._engine.model)
        elif surplus and self._engine.caches.trim_prompt_cache(self.cache, surplus) != surplus:
            raise UnsupportedModel("mlx-lm cannot take tokens of this model back")

    def logits(self, ids: Any) -> Any:
        """Of MLX's: `[len(ids), vocab_size]`, computed when they are read."""
        return self._engine.model(self._engine.mx.array(ids).reshape(1, -1), cache=self.cache)[0]


class Session(LogitsSession):
    """With `kv` f32 the whole model computes in float32 from now on, whatever its directory's type."""

    def __init__(self, model: Engine, plan: MemoryPlan, on_full: str) -> None:
        super().__init__(model, plan, on_full)
        if plan.kv == "f32":
            model.model.set_dtype(model.mx.float32)
        self._context = Context(model)

    @property
    def rewinds(self) -> bool:
        return self._context.rewinds

    def keep(self, count: int) -> None:
        self._context.keep(count)

    def step(self, ids: list[int], all_logits: bool) -> Logits:
        logits = self._context.logits(ids)
        return np.array((logits if all_logits else logits[-1:]).astype(self.model.mx.float32))
