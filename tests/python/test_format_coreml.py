"""The Core ML package: what its saved program computes from its saved weights, in every function and past the
end of the ring, and whether it keeps Apple's rules.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("coremltools", reason="needs coremltools (the [coreml] extra)")
pytest.importorskip("transformers", reason="needs the [test] extra")

import coremltools
from coreml_rules import broken_rules, cache_traffic
from coremltools.converters.mil.frontend.milproto.load import load as load_program
from coremltools.libmilstoragepython import _BlobStorageReader
from packed_checkpoints import quantize
from tiny_models import EDGE_ALONE, RECURRENT, TINY_CONFIGS, make_checkpoint

from edgekit.conversion import convert as convert_checkpoint
from edgekit.converters import convert
from edgekit.converters.convert import ConvertInput
from edgekit.converters.formats import _coreml_session, _embeddings, coreml
from edgekit.converters.formats._coreml_session import HIDDEN, Cache, Ring, Session, facts
from edgekit.converters.formats._coreml_weights import Tensor, WeightFile
from edgekit.converters.interpreters.mil import MIL, MilProgram
from edgekit.converters.interpreters.numpy import Loader, Reference
from edgekit.converters.quant.palette import Palette
from edgekit.converters.spec import ModelSpec
from edgekit.engines.coreml import Engine
from edgekit.errors import InvalidFile, UnsupportedModel, UsageError

ROOT = Path(__file__).resolve().parents[2]
WINDOW, SINKS, CHUNK = 12, 3, 8
# Tokens at a step, 55 in all: through rings of 32 slots and less.
STEPS = [8, 5, 1, 1, 8, 3, 1, 1, 8, 6, 2, 1, 1, 8, 1]
IDS = [int(i) for i in np.random.default_rng(0).integers(0, 199, sum(STEPS))]
F32 = NDArray[np.float32]
# Families, and a config, with parts that have no form there.
REFUSED = (
    "apertus",
    "bitnet",
    "gemma4_text",
    "gpt_oss",
    "deepseek_v3",
    "falcon_h1",
    "glm4_moe_lite",
    "granite_swa",
    "granitemoehybrid_experts",
    "hunyuan_v1_dense",
    "lfm3",
    "mamba2",
    "minicpm3",
    "nanochat",
    "nemotron_h",
    "olmo_hybrid",
    "qwen3_5_text",
    "qwen3_next",
)
TAKEN = {
    name: kind
    for name, config in TINY_CONFIGS.items()
    if not {name, kind := config["model_type"]} & {*REFUSED, *RECURRENT, *EDGE_ALONE}
}
# The first config of each family.
FAMILIES = list({kind: name for name, kind in reversed(TAKEN.items())}.values())


Reader = Callable[[str], ConvertInput]


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """Tiny checkpoints by name."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return lambda name: convert.read(make_checkpoint(name, folder), name)


def written(model: ConvertInput, tmp_path: Path, scheme: str) -> Path:
    coreml.write(model, tmp_path / scheme, scheme, window=WINDOW, sinks=SINKS, chunk=chunk_of(scheme))
    return tmp_path / scheme


def chunk_of(scheme: str) -> int:
    return coreml.WIDTH if scheme.startswith("neural_engine") else CHUNK


def program(path: Path) -> MilProgram:
    """Of its only package, computed in float32."""
    (package,) = path.glob("*.mlpackage")
    return MilProgram(package, exact=False)


def session(path: Path, exact: bool = False) -> Session:
    """One text. `exact`: every float16 value is rounded to float16."""
    engine = Engine(path)
    for part in engine.programs:
        part.program.exact = exact
    return Session(engine.said, engine.inputs, engine.embed, engine.predictor())


def stepped(text: Session, ids: list[int] = IDS) -> F32:
    """Logits `[len(STEPS), vocab_size]` after each step."""
    ends = np.cumsum(STEPS)
    return np.stack([text.feed(ids[end - n : end]) for n, end in zip(STEPS, ends, strict=True)])


def expected(model: ConvertInput, own: tuple[ModelSpec, Loader] | None = None) -> F32:
    spec, load = own or (model.spec, model.load)
    reference = Reference(spec, load, cache=(SINKS, WINDOW), context=WINDOW + SINKS)
    return reference.logits(IDS)[np.cumsum(STEPS) - 1]


def relative(got: F32, want: F32) -> float:
    return float(np.abs(got - want).max() / np.abs(want).max())


def narrowed(value: float) -> float:
    return float(np.float16(value))


def own(path: Path, scheme: str) -> tuple[ModelSpec, Loader]:
    """What the program of a package computes: its weights, and its scales as the program has them."""
    told = coreml.read_back(path)
    names = ["attn_scale", "logit_scale"]
    if scheme.startswith("neural_engine"):
        names += ["embed_scale", "residual_scale", "norm_eps"]
    scales = {name: narrowed(getattr(told.spec, name)) for name in names}
    return replace(told.spec, tied=False, **scales), told.load


@pytest.mark.parametrize("kind", REFUSED)
def test_families_without_a_form_are_refused_by_name(read: Reader, kind: str, tmp_path: Path) -> None:
    name = next(name for name, config in TINY_CONFIGS.items() if kind in (name, config["model_type"]))
    family = TINY_CONFIGS[name]["model_type"]
    with pytest.raises(UnsupportedModel, match=f"Core ML output has no form for what {family} computes"):
        coreml.write(read(name), tmp_path / "out", "f32")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", TAKEN)
def test_every_family_gives_the_checkpoints_logits(read: Reader, name: str, tmp_path: Path) -> None:
    model = read(name)
    path = written(model, tmp_path, "f32")
    assert relative(stepped(session(path, exact=True)), expected(model)) <= 1e-3  # the caches are float16


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_runs_in_the_layout_of_the_neural_engine(
    read: Reader, name: str, tmp_path: Path
) -> None:
    model = read(name)
    path = written(model, tmp_path, "neural_engine_q8")
    want = expected(model, own(path, "neural_engine_q8"))
    assert relative(stepped(session(path)), want) <= 2e-5
    assert broken_rules(program(path)) == []


@pytest.mark.parametrize("name", ["llama_mqa", "gemma3", "lfm2"])
@pytest.mark.parametrize("scheme", [s for s in coreml.SCHEMES if s != "f32"])
def test_packages_give_the_logits_of_their_own_weights(
    read: Reader, name: str, scheme: str, tmp_path: Path
) -> None:
    model = read(name)
    path = written(model, tmp_path, scheme)
    want = expected(model, own(path, scheme))
    assert relative(stepped(session(path)), want) <= 2e-5
    assert relative(stepped(session(path, exact=True)), want) <= 1e-2  # in float16


@pytest.mark.parametrize(
    ("name", "scheme"), [("gemma3", "f16"), ("gemma3", "neural_engine_f16"), ("lfm2", "neural_engine_f16")]
)
def test_every_function_gives_the_logits(
    read: Reader, name: str, scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of texts that grow from the shortest context to past the end of the ring."""
    monkeypatch.setattr(_coreml_session, "SHORTEST", 32)
    model, window, chunk = read(name), 130, chunk_of(scheme)
    coreml.write(model, tmp_path / "out", scheme, window=window, sinks=SINKS, chunk=chunk)
    ids = [int(i) for i in np.random.default_rng(1).integers(0, 199, 250)]
    spec, load = own(tmp_path / "out", scheme)
    reference = Reference(spec, load, cache=(SINKS, window), context=window + SINKS).logits(ids)
    used = set()
    for counts, length in ([chunk + 3, 1, 2], len(ids)), ([1, chunk + 3], 40):
        text, count = session(tmp_path / "out"), itertools.cycle(counts)
        predict = text.predict
        text.predict = lambda name, given, run=predict: (used.add(name), run(name, given))[1]
        while text.position < length:
            first = text.position
            got = text.feed(ids[first : first + next(count)])
            assert relative(got, reference[text.position - 1]) <= 2e-5, text.position
    assert len(text.facts["contexts"]) == 4
    assert used == text.inputs.keys()


@pytest.mark.parametrize("scheme", ["q4", "neural_engine_q8"])
def test_models_in_parts(read: Reader, scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coreml, "PART_BYTES", 40_000)
    model = read("llama")
    path = written(model, tmp_path, scheme)
    packages = sorted(package.name for package in path.glob("*.mlpackage"))
    assert packages == ["model_1.mlpackage", "model_2.mlpackage", "model_3.mlpackage"]
    assert coreml.holds(path)
    want = expected(model, own(path, scheme))
    assert relative(stepped(session(path)), want) <= 2e-5
    (first, *_) = session(path).inputs
    constants = [set(MilProgram(path / package).constant_names(first)) for package in packages]
    assert [sorted(n for n in names if n.endswith("_down")) for names in constants] == [
        ["layers_0_down"], ["layers_1_down"], ["layers_2_down"],
    ]  # fmt: skip


@pytest.mark.parametrize("scheme", coreml.SCHEMES)
def test_restored_rows_are_those_of_the_package(read: Reader, scheme: str, tmp_path: Path) -> None:
    model = read("llama")
    saved = program(written(model, tmp_path, scheme))
    values = saved.constants(next(iter(saved.functions)))
    rows = model.load("layers.1.gate")
    assert rows is not None and rows.shape == (112, 64)
    found = values["layers_1_gate"].reshape(rows.shape).astype(np.float32)
    grid = coreml.grids(model, scheme)["layers.1.gate"]
    assert np.allclose(grid.changed(rows), found, atol=1e-3 * np.abs(rows).max())


@pytest.mark.parametrize(
    ("method", "bits", "symmetric", "scheme"),
    [
        ("gptq", 4, False, "q4"),
        ("awq", 4, False, "q4"),
        ("pack-quantized", 4, True, "q4"),
        ("gptq", 2, False, "q4"),
        ("gptq", 4, True, "q8"),
        ("int-quantized", 8, False, "q8"),
    ],
)
def test_codes_of_quantized_checkpoints_are_kept(
    method: str, bits: int, symmetric: bool, scheme: str, tmp_path: Path
) -> None:
    source = make_checkpoint("llama", tmp_path / "hf")
    packed, _ = quantize(source, tmp_path / "packed", method, bits, symmetric=symmetric)
    model = convert.read(packed, "packed")
    path = written(model, tmp_path, scheme)
    values = program(path).constants("extend_64_1")
    kept = [name for name in model.tensors if model.layout(name) is not None]
    assert len(kept) == 3 * 7
    grids = coreml.grids(model, scheme)
    for name in kept:
        layout, want = model.layout(name), model.load(name)
        assert layout is not None and grids[name].keeping(layout) == grids[name] and want is not None
        found = values[name.replace(".", "_")]
        assert np.abs(found - want).max() <= 1e-3 * np.abs(want).max(), name  # scales are float16
    want = expected(model, own(path, scheme))
    assert relative(stepped(session(path)), want) <= 2e-5


def test_dry_run_knows_sizes(tmp_path: Path) -> None:
    checkpoint = make_checkpoint("gemma3", tmp_path)
    report = convert_checkpoint(checkpoint, tmp_path / "out", format="coreml", dry_run=True)
    assert report.preflight is not None
    model = convert.read(checkpoint, "gemma3")
    coreml.write(model, tmp_path / "out")
    (package,) = (tmp_path / "out").glob("*.mlpackage")
    saved = MilProgram(package)
    states = saved.make_state(next(iter(saved.functions)))
    assert coreml.cache_bytes(model, "q4", 1) == sum(state.nbytes for state in states.values())


@pytest.mark.parametrize("scheme", ["q4", "neural_engine_q6", "neural_engine_f16"])
def test_coremltools_reads_the_package(read: Reader, scheme: str, tmp_path: Path) -> None:
    """Its own reader of weights gives our values, and its own types are those of our program."""
    (path,) = written(read("llama"), tmp_path, scheme).glob("*.mlpackage")
    model = coremltools.models.MLModel(str(path), skip_model_load=True)
    weights = path / "Data" / "com.apple.CoreML" / "weights"
    loaded = load_program(
        model.get_spec(), specification_version=model.get_spec().specificationVersion,
        file_weights_dir=str(weights),
    )  # fmt: skip
    saved = MilProgram(path)
    assert set(loaded.functions) == set(saved.functions)
    reader = _BlobStorageReader(str(weights / "weight.bin"))
    read_as = {
        MIL.FLOAT16: lambda at: reader.read_fp16_data(at).view(np.float16),
        MIL.FLOAT32: reader.read_float_data,
        MIL.INT4: reader.read_int4_data,
        MIL.INT8: reader.read_int8_data,
        MIL.UINT6: reader.read_uint6_data,
    }
    for function in saved.functions:
        saved.constants(function)
    assert len(saved._values) > 20
    for (offset, type, shape), values in saved._values.items():
        assert np.array_equal(read_as[type](offset).reshape(shape), values)


def test_the_functions_share_their_weights(read: Reader, tmp_path: Path) -> None:
    saved = program(written(read("qwen2"), tmp_path, "q8"))
    saved.constants("extend_64_1")
    alone = len(saved._values)
    saved.constants("prompt_64_8")
    assert len(saved._values) == alone
    description = saved.model.description
    assert description.defaultFunctionName == "extend_64_1"
    states = [[(s.name, s.type.SerializeToString()) for s in f.state] for f in description.functions]
    assert states[0] == states[1] and len(states[0]) == 6
    assert all(
        s.type.stateType.arrayType.dataType == 65552 for s in description.functions[0].state
    )  # FLOAT16


@pytest.mark.parametrize("scheme", ["q8", "neural_engine_q8"])
def test_tied_matrices_lie_in_the_file_once(read: Reader, scheme: str, tmp_path: Path) -> None:
    model = read("qwen2")
    path = written(model, tmp_path, scheme)
    shapes = [model.spec.shape(name) for name in model.tensors]
    matrices = [shape for shape in shapes if len(shape) == 2]
    most = sum(n * k * (2 if scheme == "q8" and k % 32 else 1 + 2 / 32) for n, k in matrices)
    slack = 320 * len(shapes)
    assert slack < model.spec.vocab_size * model.spec.d_model
    data = path / "model.mlpackage/Data/com.apple.CoreML"
    size = (data / "weights/weight.bin").stat().st_size
    assert sum(n * k for n, k in matrices) < size < most + slack
    size += (data / "model.mlmodel").stat().st_size + (path / _embeddings.FILE).stat().st_size
    assert coreml.size_bytes(model, scheme) == pytest.approx(size, rel=0.02)


@pytest.mark.parametrize("vocab_size", [199, 208])
def test_chunks_of_the_output_matrix_are_rows_of_the_embedding(
    vocab_size: int, read: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgekit.converters.formats import _coreml_decoder

    monkeypatch.setattr(_coreml_decoder, "HEAD_ROWS", 64)
    name = f"qwen2_{vocab_size}"
    monkeypatch.setitem(TINY_CONFIGS, name, TINY_CONFIGS["qwen2"] | {"vocab_size": vocab_size})
    model = read(name)
    for scheme in ("neural_engine_q8", "neural_engine_q6", "neural_engine_f16"):
        path = written(model, tmp_path, scheme)
        last = program(path).constants("extend_128_32")["embed_rows_192"]
        assert last.shape == (vocab_size - 192, 64, 1, 1)
        if scheme == "neural_engine_q6" and vocab_size == 208:
            assert len(np.unique(last)) <= 64
        want = expected(model, own(path, scheme))
        assert relative(stepped(session(path)), want) <= 2e-5


@pytest.mark.parametrize("scheme", ["q4", "neural_engine_q6"])
def test_the_sample_model(read: Reader, scheme: str, tmp_path: Path) -> None:
    if not (ROOT / "samples" / "model" / "config.json").is_file():
        pytest.skip("samples/model is not in this checkout")
    report = convert_checkpoint(ROOT / "samples" / "model", tmp_path / "out", format="coreml", scheme=scheme)
    assert report.engine is not None and report.engine.error is not None and report.engine.limit is not None
    assert report.engine.error <= report.engine.limit / 2
    assert report.quality is not None and report.quality.text == "edgekit"
    assert report.quality.relative_error < {"q4": 0.5, "neural_engine_q6": 0.2}[scheme]
    assert (tmp_path / "out" / "tokenizer.json").exists()
    assert coreml.described(tmp_path / "out")[0]["window"] == 512


def test_masks_and_slots_of_the_ring() -> None:
    """Against a plain loop: what each slot holds after every step, and which of it a token sees."""
    random = np.random.default_rng(1)
    for sinks, window, chunk, start in [
        (3, 5, 4, 0),
        (0, 7, 1, 0),
        (4, 20, 8, 0),
        (2, 6, 5, 10**12),
        (0, 3, 3, 1),
    ]:
        turn = window + chunk - 1
        slots = sinks + turn + int(random.integers(3))
        ring = Ring(sinks, window, turn, slots)
        held: dict[int, int] = {}
        for position in [*range(sinks), *range(max(sinks, start - turn), start)]:
            held[ring.slot(position)] = position
        position = start
        for _ in range(60):
            new = range(position, position + int(random.integers(1, chunk + 1)))
            held |= {ring.slot(p): p for p in new}
            want = np.full((len(new), slots), HIDDEN, np.float32)
            seen = set()
            for row, query in enumerate(new):
                for slot, key in held.items():
                    if key <= query and (query - key < window or key < sinks):
                        want[row, slot] = 0
                        seen.add((query, key))
            assert all(
                (query, key) in seen for query in new for key in range(max(0, query - window + 1), query)
            )
            assert np.array_equal(ring.mask(np.array(new), new[-1]), want)
            position = new[-1] + 1


@pytest.mark.parametrize("scheme", ["f16", "neural_engine_f16"])
def test_residuals_that_outgrow_float16(scheme: str, tmp_path: Path) -> None:
    """As Gemma 3's do."""
    from safetensors.numpy import load_file, save_file

    file = make_checkpoint("gemma3", tmp_path) / "model.safetensors"
    tensors = load_file(file)
    for name, values in tensors.items():
        if name.endswith("post_attention_layernorm.weight"):
            tensors[name] = values + np.float32(4e4)
    save_file(tensors, file, {"format": "pt"})
    model = convert.read(file.parent, "gemma3")
    reference = Reference(model.spec, model.load)
    path = written(model, tmp_path, scheme)
    got = session(path, exact=True).feed(IDS[:CHUNK])
    assert relative(got, reference.logits(IDS[:CHUNK])[-1]) <= 2e-2


def test_facts_are_what_a_driver_needs(read: Reader, tmp_path: Path) -> None:
    model = read("gemma3")
    known, (inputs,) = coreml.described(written(model, tmp_path, "q4"))
    plain = json.loads(json.dumps(facts(model.spec, Cache(WINDOW, SINKS, CHUNK), columns=False)))
    more = {"scheme": "q4", "eos_ids": model.metadata["eos_ids"], "packages": ["model.mlpackage"]}
    assert known == plain | more
    assert [ring["sinks"] for ring in known["rings"]] == [0, SINKS]
    assert set(inputs) == {"extend_64_1", "prompt_64_8"}
    for names in inputs.values():
        assert {"embeddings", "slot_0", "mask_1", "cos_1", "sink_sin_0"} <= set(names)


@pytest.mark.parametrize("scheme", ["q4", "neural_engine_q6"])
def test_the_cache_is_read_once_and_written_in_slices(read: Reader, scheme: str, tmp_path: Path) -> None:
    """What a token's step moves, counted in the program, beside the slots that it sees."""
    model = read("llama_llama3")
    coreml.write(model, tmp_path / "out", scheme, window=2048, sinks=4)
    saved = program(tmp_path / "out")
    layer = model.spec.layers[0]
    slot = 2 * len(model.spec.layers) * 2 * layer.n_kv_heads * layer.head_dim
    contexts = coreml.described(tmp_path / "out")[0]["contexts"]
    assert contexts == [256, 512, 1024, 2048, 2176]
    for context in contexts:
        width = 1 if scheme == "q4" else coreml.WIDTH
        used = min(context, 2052) * slot
        assert used <= cache_traffic(saved, f"extend_{context}_{width}") <= 1.1 * used + width * slot


def test_rules_name_the_operation_that_breaks_them(read: Reader, tmp_path: Path) -> None:
    """What is laid out for GPUs breaks most of the Neural Engine's."""
    broken = broken_rules(program(written(read("lfm2"), tmp_path, "f16")))
    for rule in ("float32", "transpose", "64 bytes", "mask", "convolution"):
        assert any(rule in one and "prompt_64_8: " in one for one in broken), (rule, broken)


def test_embeddings_lie_beside_the_program(read: Reader, tmp_path: Path) -> None:
    model = read("qwen2")
    path = written(model, tmp_path, "neural_engine_q6")
    scheme = coreml.SCHEME_OF_NAME["neural_engine_q6"]
    rows = _embeddings.reader(path, scheme, 199, model.spec.d_model)
    want = model.load("embed")
    assert want is not None
    assert np.abs(rows([5, 198, 5]) - want[[5, 198, 5]]).max() <= np.abs(want).max() / 250
    (path / _embeddings.FILE).write_bytes(b"short")
    with pytest.raises(InvalidFile, match="199 rows"):
        _embeddings.reader(path, scheme, 199, model.spec.d_model)


@pytest.mark.parametrize(("bits", "error"), [(4, 0.0985), (6, 0.0275)])
def test_palettes_are_as_good_as_they_can_be(bits: int, error: float) -> None:
    """Lloyd and Max's quantizers of a Gaussian have relative errors of 0.0975 and 0.0260."""
    rows = np.random.default_rng(0).standard_normal((48, 1024)).astype(np.float32)
    palette = Palette(bits, "F16")
    assert np.linalg.norm(palette.changed(rows) - rows) / np.linalg.norm(rows) < error
    few = np.array([[1.0, -2.0, 1.0, 0.5]], np.float32)
    assert np.allclose(palette.changed(few), few, atol=2e-3)


def test_values_that_fill_no_whole_bytes(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 64, (9, 7)).astype(np.uint8)
    weights = WeightFile()
    weights.add("a", Tensor("uint6", 9, 7, lambda: iter([values[:2], values[2:5], values[5:]])))
    weights.save(tmp_path / "weight.bin", lambda *_: None)
    reader = _BlobStorageReader(str(tmp_path / "weight.bin"))
    assert np.array_equal(reader.read_uint6_data(weights.record("a")), values.reshape(-1))
    assert (tmp_path / "weight.bin").stat().st_size == weights.size_bytes


def test_refusals(read: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = read("llama")
    with pytest.raises(UsageError, match="q7"):
        coreml.write(model, tmp_path / "out", "q7")
    with pytest.raises(UsageError, match="window of 0"):
        coreml.write(model, tmp_path / "out", window=0)
    with pytest.raises(UsageError, match="multiples of 32"):
        coreml.write(model, tmp_path / "out", "neural_engine_q6", chunk=8)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="coremltools"):
        coreml.write(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
