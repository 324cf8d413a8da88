"""The order of things: which engine measures what, and when.

 1. The machine is measured: clock, read bandwidth, dot-product peak; again after each depth, and at the end.
    When no cache holds the model, also after each measurement of ours, for the fractions: what a virtual
    machine gets changes from second to second.
 2. Loads: each engine opens its model in a fresh process and answers 16 tokens, with the files out of the
    page cache (where the system lets them go) and in it.
 3. Rows: for each depth every engine fills its cache once, then the repetitions of every engine and prompt
    alternate in random order; a first round is thrown away. Tokens of the prompt are random. The first token
    belongs to the prompt; `decode` others follow one by one.
 4. Memory of each process, peaks over the whole run.
 5. Sustained: each engine alone, decoding for minutes.

A figure is the median of its repetitions, beside their least and greatest. Fractions are medians too, each of
what the machine did at that moment; of its best in this run where that was not measured.
"""

from __future__ import annotations

import datetime
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgekit.bench import machine, peers, result, rows
from edgekit.bench.child import Child, python_argv
from edgekit.bench.cost import Cost, parameters
from edgekit.errors import InvalidFile, UsageError
from edgekit.files import bytes_of
from edgekit.model import Model
from edgekit.verification import replay

OURS = "edgekit"
FIRST_TOKEN_PROMPT = 16
SAME_SIZE = 1.1  # parameters of two models that may be called one: embeddings are counted in several ways
PLAUSIBLE_BITS = (1.0, 36.0)  # per weight, where only the size of a file is known
BEYOND_CACHES = 256 << 20  # bytes of weights that no cache holds
METRICS = ("prefill_tok_s", "decode_tok_s", "ttft_ms")

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Options:
    prompts: tuple[int, ...] = (128, 512)
    decode: int = 64
    depths: tuple[int, ...] = (0,)
    threads: int = field(default_factory=machine.usable_cpus)
    kv: str = "auto"
    repetitions: int = 5
    sustained_minutes: float = 0.0
    seed: int = 0  # of the order

    @property
    def positions(self) -> int:
        """Room that every engine's cache has."""
        return max(FIRST_TOKEN_PROMPT, max(self.depths) + max(self.prompts)) + self.decode + 8


@dataclass(frozen=True)
class Contender:
    """One engine with one of its settings."""

    engine: str
    model: Path
    settings: dict[str, Any]
    title: str = ""  # of the model, where the engine comes with several

    @property
    def label(self) -> str:
        settings = (f"{name}={value}" for name, value in self.settings.items())
        return " ".join(filter(None, [self.engine, self.title, *settings]))

    @property
    def native(self) -> str | None:
        return machine.native_program() if self.engine == OURS else None

    def start(self) -> Child:
        return Child(self.label, [self.native] if self.native else python_argv(self.engine))

    def open(self, child: Child, options: Options) -> dict[str, Any]:
        settings = self.settings["kv"] if self.native else json.dumps(self.settings, separators=(",", ":"))
        return child.ask("open", options.threads, settings, options.positions, self.model.resolve())


def contenders(model: Path, kv: str, wanted: Sequence[str] = ()) -> list[Contender]:
    """Ours, and the peers `wanted` as "NAME" or "NAME=MODEL", once for each of their settings; a peer may
    come with several models.

    Raises UsageError, InvalidFile.
    """
    models: dict[str, list[Path]] = {OURS: [model]}
    for text in wanted:
        name, _, given = text.partition("=")
        module = peers.load(name)
        path = Path(given) if given else model.with_name(model.stem + module.SUFFIX)
        if not path.exists():
            raise InvalidFile(
                f"{path}: no such model for {name}",
                hint=f"{module.CONVERT.replace('MODEL', str(path))}, or give --peer {name}=MODEL",
            )
        if path not in models.setdefault(name, []):
            models[name].append(path)
    found = []
    for name, paths in models.items():
        ways: Sequence[dict[str, Any]] = [{"kv": kv}] if name == OURS else peers.load(name).SETTINGS
        stems = [path.stem for path in paths]
        for path, stem in zip(paths, stems, strict=True):
            title = "" if len(paths) == 1 else stem if stems.count(stem) == 1 else str(path)
            found += [Contender(name, path, settings, title) for settings in ways]
    return found


def run(
    model: Path, options: Options, wanted_peers: Sequence[str] = (), progress: Progress = lambda *_: None
) -> dict[str, Any]:
    """Measures, and returns the document that `bench --json` prints. Raises BenchmarkFailed, UsageError,
    InvalidFile.
    """
    if min(options.prompts) < 1 or options.decode < 1 or options.repetitions < 1 or min(options.depths) < 0:
        raise UsageError("prompts, decode and repetitions are at least 1, depths at least 0")
    cost = Cost.of(model)
    field_ = contenders(model, options.kv, wanted_peers)
    return _Run(cost, options, field_, progress).document()


class _Run:
    def __init__(self, cost: Cost, options: Options, field_: list[Contender], progress: Progress) -> None:
        self._cost = cost
        self._options = options
        self._field = field_
        self._progress = progress
        self._order = random.Random(options.seed)
        self._probes: list[dict[str, Any]] = []

    def document(self) -> dict[str, Any]:
        created = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        self._progress("computing the package's golden vectors", 0, 0)
        golden = self._golden()
        self._progress("measuring the machine", 0, 0)
        self._probe()
        loads = self._loads()
        with ExitStack() as stack:
            children: dict[str, Child] = {}
            engines: dict[str, dict[str, Any]] = {}
            for contender in self._field:
                children[contender.label] = child = stack.enter_context(contender.start())
                child.ask("ready")
                before = child.memory()
                engines[contender.label] = engine = self._describe(
                    contender, contender.open(child, self._options)
                )
                engine["memory_before"] = asdict(before) if before else None
            samples = list(self._samples(children, engines))
            sustained = self._sustained(children) if self._options.sustained_minutes else {}
        self._probe()
        ours = engines[self._field[0].label]
        return result.complete(
            {
                "created": created,
                "options": asdict(self._options),
                "device": machine.facts() | result.limits(self._probes),
                "build": {name: ours.get(name) for name in ("version", "isa", "driver")},
                "gate": result.gate(self._probes, golden),
                "model": result.model_facts(self._field[0].model, self._cost),
                "engines": engines,
                "loads": loads,
                "rows": rows.rows(samples, engines, self._cost, self._probes, self._options.decode),
                "sustained": sustained,
                "energy": result.energy("host", []),
            }
        )

    # ---- measuring -----------------------------------------------------------------------------------------

    def _probe(self) -> None:
        if found := self._machine():
            self._probes.append(found)

    def _machine(self) -> dict[str, Any]:
        program = machine.native_program()
        if not program:
            return {}
        with Child("the machine", [program]) as child:
            return child.ask("machine", self._options.threads)

    def _golden(self) -> dict[str, Any] | None:
        path = self._field[0].model
        stored = result.metadata_of(path).get("golden")
        if stored is None:
            return None
        with Model(path, self._options.threads) as model:
            found = replay(model, stored)
        return result.golden(found.positions, found.mismatches, found.largest_error)

    def _loads(self) -> list[dict[str, Any]]:
        """Of each contender, cold and warm: medians over fresh processes."""
        samples: dict[tuple[str, str], list[tuple[float, float]]] = {}
        total = 2 * self._options.repetitions * len(self._field)
        done = 0
        for _ in range(self._options.repetitions):
            for cache in ("cold", "warm"):
                for contender in self._order.sample(self._field, len(self._field)):
                    self._progress("loading", done, total)
                    done += 1
                    with contender.start() as child:
                        if cache == "cold" and not machine.drop_from_cache(contender.model):
                            continue
                        load_ms = contender.open(child, self._options)["load_ms"]
                        ttft_ms = child.ask("measure", FIRST_TOKEN_PROMPT, 1)["ttft_ms"]
                        samples.setdefault((contender.label, cache), []).append((load_ms, load_ms + ttft_ms))
        self._progress("loading", total, total)
        return [
            {"engine": label, "cache": cache, "prompt": FIRST_TOKEN_PROMPT}
            | rows.summary(
                {"load_ms": [a for a, _ in pairs], "open_to_first_token_ms": [b for _, b in pairs]}
            )
            for (label, cache), pairs in sorted(samples.items())
        ]

    def _samples(
        self, children: dict[str, Child], engines: dict[str, dict[str, Any]]
    ) -> Iterator[dict[str, Any]]:
        """One measurement each, in the order they are made."""
        options = self._options
        cases = [(label, prompt) for label in children for prompt in options.prompts]
        total = len(options.depths) * len(children) + len(options.depths) * options.repetitions * len(cases)
        done = 0
        for depth in options.depths:
            for child in children.values():
                self._progress("measuring", done, total)
                done += 1
                child.ask("fill", depth)
                child.ask("measure", min(options.prompts), min(8, options.decode))
            for _ in range(options.repetitions):
                for label, prompt in self._order.sample(cases, len(cases)):
                    self._progress("measuring", done, total)
                    done += 1
                    children[label].ask("fill", depth)
                    sample = children[label].ask("measure", prompt, options.decode)
                    if engines[label]["engine"] == OURS and self._cost.weight_bytes > BEYOND_CACHES:
                        sample["machine"] = self._machine()
                    yield {"engine": label, "depth": depth, "prompt": prompt, **sample}
            for label, child in children.items():
                _raise_peak(engines[label], child.memory())
            self._probe()
        self._progress("measuring", total, total)

    def _sustained(self, children: dict[str, Child]) -> dict[str, list[dict[str, Any]]]:
        """Of each contender, alone: decoding over minutes, one point for each stretch of tokens."""
        minutes = self._options.sustained_minutes
        curves: dict[str, list[dict[str, Any]]] = {}
        for label, child in children.items():
            points = curves[label] = []
            start = time.monotonic()
            while (elapsed := (time.monotonic() - start) / 60) < minutes:
                self._progress(f"sustained, {label}", int(60 * elapsed), int(60 * minutes))
                child.ask("fill", 0)
                sample = child.ask("measure", FIRST_TOKEN_PROMPT, self._options.decode)
                memory = child.memory()
                points.append(
                    {
                        "minute": elapsed,
                        "decode_tok_s": rows.rate(sample["decoded"], sample["decode_ms"]),
                        "anonymous_bytes": memory.anonymous_bytes if memory else None,
                        "temperature_c": max(machine.temperatures(), default=None),
                    }
                )
        return curves

    # ---- what was measured ---------------------------------------------------------------------------------

    def _describe(self, contender: Contender, opened: dict[str, Any]) -> dict[str, Any]:
        file_bytes = bytes_of(contender.model)
        count = self._cost.n_parameters if contender.engine == OURS else parameters(contender.model)
        return {
            "engine": contender.engine,
            "settings": contender.settings,
            "model": contender.model.name,
            "driver": "native" if contender.native else "python",
            "file_bytes": file_bytes,
            "n_parameters": count,
            "other_model": not self._is_ours(count, file_bytes),
            "bits_per_weight": 8 * file_bytes / (count or self._cost.n_parameters),
            **{name: value for name, value in opened.items() if name != "load_ms"},
        }

    def _is_ours(self, count: int | None, file_bytes: int) -> bool:
        """Whether a model has as many parameters as ours, as far as can be told."""
        ours = self._cost.n_parameters
        if count is not None:
            return max(count, ours) <= SAME_SIZE * min(count, ours)
        return PLAUSIBLE_BITS[0] <= 8 * file_bytes / ours <= PLAUSIBLE_BITS[1]


def _raise_peak(engine: dict[str, Any], memory: machine.Memory | None) -> None:
    """Keeps the greatest of each kind of memory seen."""
    if memory is not None:
        seen = engine.setdefault("memory", asdict(memory))
        for name, value in asdict(memory).items():
            seen[name] = max(seen[name], value)
