"""ONNX directories, through ONNX Runtime.

Keys and values lie in buffers that are inputs and outputs of a step at once, allocated with the session;
those of an exporter's directory grow with the text instead. A directory with GroupQueryAttention ends at its
window ("context_full"), as does an exporter's; one of standard operators alone lets the oldest tokens go, as
edgekit's own engine does.
"""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.engines import Facts
from edgekit.engines._logits import CHUNK, Logits, LogitsEngine, LogitsSession
from edgekit.errors import InvalidFile, OutOfMemory, UnsupportedModel, UsageError
from edgekit.events import KvType, MemoryPlan

BACKENDS = ("onnx",)
OPTIONS = ()
AUTOMATIC = True
PAST = ("past_key_values.", "past_conv.", "past_state.")  # inputs that are kept from step to step
# Which of their dimensions a graph must fix.
SIZES = {
    "past_key_values": (0, 1, 0, 1),
    "past_conv": (0, 1, 1),
    "logits": (0, 0, 1),
}


def opens(path: Path) -> bool:
    """A directory with a graph in it; one in the folder `onnx` of a checkpoint is not the checkpoint."""
    beside = any(path.glob("onnx/*.onnx")) and not any(path.glob("*.safetensors"))
    return path.is_dir() and (beside or any(path.glob("*.onnx")))


def open(path: Path, threads: int | None, backend: str) -> Engine:
    return Engine(path, threads)


class Engine(LogitsEngine):
    """An ONNX directory: one that `edgekit convert --format onnx` wrote, or another with the same inputs.

    Raises InvalidFile for what is no such directory or damaged, UnsupportedModel for inputs that edgekit does
    not feed.
    """

    NAME = "ONNX Runtime"

    def __init__(self, path: Path, threads: int | None) -> None:
        import onnxruntime

        self.path, self._threads = path, threads or os.cpu_count() or 1
        genai = _read_json(path / "genai_config.json")
        config = _read_json(path / "config.json")
        file = _model_file(path, genai)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3
        try:
            self.runtime = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
            facts = self.runtime.get_modelmeta().custom_metadata_map
        except Exception as error:  # onnxruntime's own exceptions have no common base
            raise InvalidFile(f"{file}: ONNX Runtime cannot open it: {str(error).strip()[:300]}") from None
        self.inputs = {given.name: given for given in self.runtime.get_inputs()}
        self.outputs = {output.name: output for output in self.runtime.get_outputs()}
        self._check(file)
        self.said = {k.removeprefix("edgekit."): v for k, v in facts.items() if k.startswith("edgekit.")}
        self._caches = [given for name, given in self.inputs.items() if name.startswith("past_key_values.")]
        self._item_bytes = 2 if self._caches and "float16" in self._caches[0].type else 4
        self._states = [given for name, given in self.inputs.items() if name.startswith(PAST[1:])]
        self.is_ring = "position" in self.inputs
        self.grows = self.said.get("cache") == "grows"  # keys and values are concatenated, in new buffers
        shares = _members(genai, "search").get("past_present_share_buffer")
        if "scheme" not in self.said and not shares:
            raise UnsupportedModel(
                f"{file}: nothing says that its caches can be input and output at once",
                hint="convert the checkpoint with edgekit, or export it for onnxruntime-genai",
            )
        self._genai, self._config, self._file = genai, config, file

    @property
    def directory(self) -> Path:
        return self.path

    @functools.cached_property
    def metadata(self) -> dict[str, Any]:
        from edgekit.converters.convert import special_tokens

        words = _members(self._genai, "model")
        eos = self._fact("eos_ids", words.get("eos_token_id", self._config.get("eos_token_id")))
        return {
            "eos_ids": [id for id in (eos if isinstance(eos, list) else [eos]) if type(id) is int],
            "special_tokens": _members({"": self._fact("special_tokens", special_tokens(self.path))}, ""),
            "generation": _members({"": self._fact("generation", {})}, ""),
        }

    @functools.cached_property
    def facts(self) -> Facts:
        context = self._fact("context", _members(self._genai, "model").get("context_length"))
        size = sum(p.stat().st_size for p in self._file.parent.glob(f"{self._file.name}*"))
        return Facts(
            vocab_size=int(self.outputs["logits"].shape[-1]),
            n_layers=len({name.split(".")[1] for name in self.inputs if name.startswith(PAST)}),
            d_model=0,
            context=context if type(context) is int and 0 < context < 1 << 31 else 0,
            threads=self._threads,
            isa="onnxruntime",
            model_type=self.said.get("model_type") or str(self._config.get("model_type", "unknown")),
            scheme=self.said.get("scheme", "onnx"),
            file_bytes=size,
            weight_bytes=size,
            n_parameters=0,
            has_chat_template=self.template is not None,
        )

    def kv_type(self, wanted: str) -> KvType:
        own: KvType = "f16" if self._item_bytes == 2 else "f32"
        if wanted not in ("auto", own):
            raise UsageError(f"kv is {wanted!r}; this directory keeps keys and values in {own}")
        return own

    def cache_bytes(self, window: int, kv: KvType) -> int:
        if self.is_ring:
            return sum(
                (2 if "float16" in given.type else 4) * math.prod(given.shape)
                for given in (*self._caches, *self._states)
            )
        return window * sum(self._item_bytes * given.shape[1] * given.shape[3] for given in self._caches)

    def plan(
        self,
        window: int | None = None,
        sinks: int | None = None,
        kv: str = "auto",
        memory_budget: int | None = None,
    ) -> MemoryPlan:
        if not self.is_ring:
            return super().plan(window, sinks, kv, memory_budget)
        window, sinks = self._written_for("window", window), self._written_for("sinks", sinks)
        return self.planned(window, sinks, 1, self.kv_type(kv), memory_budget)

    def _written_for(self, name: str, wanted: int | None) -> int:
        own = int(self.said.get(name, 0))
        if wanted not in (None, own):
            raise UsageError(f"{name} is {wanted}; this directory was written for {own}")
        return own

    def session(self, on_full: str = "evict", **options: Any) -> Session:
        """Only a ring lets tokens go; others end with "context_full"."""
        return Session(self, self.plan(**options), on_full)

    def exact_session(self, tokens: int) -> Session:
        kv = self.kv_type("auto")
        plan = self.plan() if self.is_ring else self.planned(tokens, 0, CHUNK, kv, None)
        return Session(self, plan, "error")

    def _fact(self, name: str, default: Any) -> Any:
        """What the graph's metadata says of the model, or `default`."""
        if name not in self.said:
            return default
        try:
            return json.loads(self.said[name])
        except ValueError:
            raise InvalidFile(f"{self.path}: edgekit.{name} is {self.said[name]!r}") from None

    def _check(self, file: Path) -> None:
        known = ("input_ids", "attention_mask", "position_ids", "position")
        strange = [name for name in self.inputs if name not in known and not name.startswith(PAST)]
        if strange or "input_ids" not in self.inputs or "logits" not in self.outputs:
            raise UnsupportedModel(
                f"{file}: inputs {', '.join(strange) or 'without input_ids'} are not known, or no logits",
                hint="edgekit runs decoders with the inputs of Transformers.js and onnxruntime-genai",
            )
        for name, given in (*self.inputs.items(), ("logits", self.outputs["logits"])):
            kind = name.partition(".")[0]
            if kind in SIZES and (
                len(given.shape) != len(SIZES[kind])
                or any(
                    wanted and type(size) is not int
                    for size, wanted in zip(given.shape, SIZES[kind], strict=True)
                )
            ):
                raise InvalidFile(f"{file}: {name} has the shape {given.shape}")


class Session(LogitsSession):
    """Buffers of keys and values."""

    def __init__(self, model: Engine, plan: MemoryPlan, on_full: str) -> None:
        self.evicts = model.is_ring
        super().__init__(model, plan, on_full)
        self._allocate()

    @property
    def rewinds(self) -> bool:
        return not self.evicts and not any(name.startswith(PAST[1:]) for name in self.model.inputs)

    def keep(self, count: int) -> None:
        if not count:
            self._allocate()
        elif self.model.grows:
            self._cut(count)

    def _cut(self, length: int) -> None:
        """Lets go of all but the first positions of caches that grow."""
        import onnxruntime

        for name, value in self._buffers.items():
            axis = list(self.model.inputs[name].shape).index("past_sequence_length")
            kept = np.ascontiguousarray(value.numpy().take(range(length), axis))
            self._keep(name, onnxruntime.OrtValue.ortvalue_from_numpy(kept))

    # ---- a step

    def _allocate(self) -> None:
        import onnxruntime

        self._buffers: dict[str, Any] = {}
        self._binding = self.model.runtime.io_binding()
        sizes = {"batch_size": 1, "past_sequence_length": 0 if self.model.grows else self.plan.window}
        for name, given in self.model.inputs.items():
            if name.startswith("past"):
                shape = [sizes.get(d, 0) if isinstance(d, str) else int(d) for d in given.shape]
                if 0 in shape and not self.model.grows:
                    raise UnsupportedModel(f"{self.model.path}: input {name} has the shape {given.shape}")
                try:
                    zeros = np.zeros(shape, np.float16 if "float16" in given.type else np.float32)
                except (MemoryError, ValueError):
                    raise OutOfMemory(f"{self.model.path}: no memory for {name} of shape {shape}") from None
                self._keep(name, onnxruntime.OrtValue.ortvalue_from_numpy(zeros))
        for name in self.model.outputs:
            if name != "logits" and not self.model.grows:
                self._binding.bind_ortvalue_output(name, self._buffers[_past(name)])

    def _keep(self, name: str, value: Any) -> None:
        self._buffers[name] = value
        self._binding.bind_ortvalue_input(name, value)

    def step(self, ids: list[int], all_logits: bool) -> Logits:
        binding, end = self._binding, self.position + len(ids)
        # A mask is as long as the text: it is made only where it is asked for.
        feed: dict[str, Callable[[], npt.NDArray[np.int64]]] = {
            "input_ids": lambda: np.array([ids], np.int64),
            "attention_mask": lambda: np.ones((1, end), np.int64),
            "position_ids": lambda: np.arange(self.position, end, dtype=np.int64)[None],
            "position": lambda: np.array([self.position], np.int64),
        }
        for name, values in feed.items():
            if name in self.model.inputs:
                binding.bind_cpu_input(name, values())
        for name in self.model.outputs if self.model.grows else ("logits",):
            binding.bind_output(name, "cpu")
        try:
            self.model.runtime.run_with_iobinding(binding)
        except Exception as error:  # onnxruntime's own exceptions have no common base
            raise InvalidFile(f"{self.model.path}: ONNX Runtime: {str(error).strip()[:300]}") from None
        outputs = dict(zip(self.model.outputs, binding.get_outputs(), strict=True))
        logits = outputs.pop("logits")
        if self.model.grows:
            for name, value in outputs.items():
                self._keep(_past(name), value)
        logits = logits.numpy()[0]
        return np.asarray(logits if all_logits else logits[-1:], np.float32)


def _past(output: str) -> str:
    """The input that takes an output at the next step."""
    return output.replace("present.", "past_key_values.").replace("present_", "past_")


def _model_file(directory: Path, genai: dict[str, Any]) -> Path:
    named = _members(_members(genai, "model"), "decoder").get("filename")
    places = [named] if isinstance(named, str) else ["model.onnx", "onnx/model_q4.onnx", "onnx/model.onnx"]
    for place in places:
        file = (directory / place).resolve()
        if file.is_file() and file.is_relative_to(directory.resolve()):
            return file
    raise InvalidFile(
        f"{directory}: no {' or '.join(places)}", hint="edgekit convert CHECKPOINT --format onnx"
    )


def _members(value: dict[str, Any], name: str) -> dict[str, Any]:
    """A member that is an object; empty when it is missing. Raises InvalidFile."""
    found = value.get(name) or {}
    if not isinstance(found, dict):
        raise InvalidFile(f"genai_config.json: {name!r} is {found!r}; an object is expected")
    return found


def _read_json(path: Path) -> dict[str, Any]:
    from edgekit.converters.checkpoint import read_json

    return read_json(path) if path.exists() else {}
