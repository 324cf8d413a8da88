"""The Core ML package: what its saved program computes from its saved weights, over prefill, decode and past
the end of the ring.
"""

from __future__ import annotations

import importlib.util
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
from coremltools.converters.mil.frontend.milproto.load import load as load_program
from coremltools.libmilstoragepython import _BlobStorageReader
from packed_checkpoints import quantize
from tiny_models import TINY_CONFIGS, make_checkpoint

from edgekit.conversion import convert as convert_checkpoint
from edgekit.converters import convert
from edgekit.converters.convert import ConvertInput
from edgekit.converters.formats import coreml
from edgekit.converters.formats._coreml_session import HIDDEN, Cache, Ring, Session, facts
from edgekit.converters.formats._coreml_weights import Tensor, WeightFile
from edgekit.converters.interpreters.mil import MIL, MilProgram
from edgekit.converters.interpreters.numpy import Loader, Reference
from edgekit.converters.quant.palette import Palette
from edgekit.converters.spec import ModelSpec
from edgekit.errors import UnsupportedModel, UsageError

ROOT = Path(__file__).resolve().parents[2]
WINDOW, SINKS, CHUNK = 12, 3, 8
# Tokens at a step, 55 in all: through rings of 32 slots and less.
STEPS = [8, 5, 1, 1, 8, 3, 1, 1, 8, 6, 2, 1, 1, 8, 1]
IDS = [int(i) for i in np.random.default_rng(0).integers(0, 199, sum(STEPS))]
F32 = NDArray[np.float32]
# The first config of each family.
# Families with parts that have no form there.
REFUSED = ("apertus", "bitnet", "gpt_oss", "granite_swa", "hunyuan_v1_dense", "lfm3", "nanochat")
TAKEN = {name: kind for name, c in TINY_CONFIGS.items() if (kind := c["model_type"]) not in REFUSED}
FAMILIES = list({kind: name for name, kind in reversed(TAKEN.items())}.values())


Reader = Callable[[str], ConvertInput]


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """Tiny checkpoints by name."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return lambda name: convert.read(make_checkpoint(name, folder), name)


def written(model: ConvertInput, tmp_path: Path, scheme: str) -> Path:
    coreml.write(model, tmp_path / scheme, scheme, window=WINDOW, sinks=SINKS, chunk=CHUNK)
    return tmp_path / scheme


def session(program: MilProgram, path: Path) -> Session:
    """One text; both functions share its states."""
    state = program.make_state("decode")
    known, inputs = coreml.described(path)
    return Session(known, inputs, lambda name, given: program.predict(name, given, state)["logits"])


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
    return replace(told.spec, **scales), told.load


@pytest.mark.parametrize("kind", REFUSED)
def test_families_without_a_form_are_refused_by_name(read: Reader, kind: str, tmp_path: Path) -> None:
    name = next(name for name, config in TINY_CONFIGS.items() if config["model_type"] == kind)
    with pytest.raises(UnsupportedModel, match=f"Core ML output has no form for what {kind} computes"):
        coreml.write(read(name), tmp_path / "out", "f32")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", TAKEN)
def test_every_family_gives_the_checkpoints_logits(read: Reader, name: str, tmp_path: Path) -> None:
    model = read(name)
    path = written(model, tmp_path, "f32")
    got = stepped(session(MilProgram(path / coreml.PACKAGE), path))
    assert relative(got, expected(model)) <= 1e-3  # the caches are float16


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_runs_in_the_layout_of_the_neural_engine(
    read: Reader, name: str, tmp_path: Path
) -> None:
    model = read(name)
    path = written(model, tmp_path, "neural_engine_q8")
    program = MilProgram(path / coreml.PACKAGE, exact=False)
    want = expected(model, own(path, "neural_engine_q8"))
    assert relative(stepped(session(program, path)), want) <= 2e-5


@pytest.mark.parametrize("name", ["llama_mqa", "gemma3", "lfm2"])
@pytest.mark.parametrize("scheme", [s for s in coreml.SCHEMES if s != "f32"])
def test_packages_give_the_logits_of_their_own_weights(
    read: Reader, name: str, scheme: str, tmp_path: Path
) -> None:
    model = read(name)
    path = written(model, tmp_path, scheme)
    program = MilProgram(path / coreml.PACKAGE, exact=False)
    want = expected(model, own(path, scheme))
    assert relative(stepped(session(program, path)), want) <= 2e-5
    rounded = stepped(session(MilProgram(path / coreml.PACKAGE), path))
    assert relative(rounded, want) <= 1e-2  # in float16


@pytest.mark.parametrize("scheme", coreml.SCHEMES)
def test_restored_rows_are_those_of_the_package(read: Reader, scheme: str, tmp_path: Path) -> None:
    model = read("llama")
    values = MilProgram(written(model, tmp_path, scheme) / coreml.PACKAGE).constants("decode")
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
    program = MilProgram(path / coreml.PACKAGE, exact=False)
    values = program.constants("decode")
    kept = [name for name in model.tensors if model.layout(name) is not None]
    assert len(kept) == 3 * 7
    grids = coreml.grids(model, scheme)
    for name in kept:
        layout, want = model.layout(name), model.load(name)
        assert layout is not None and grids[name].keeping(layout) == grids[name] and want is not None
        found = values[name.replace(".", "_")]
        assert np.abs(found - want).max() <= 1e-3 * np.abs(want).max(), name  # scales are float16
    want = expected(model, own(path, scheme))
    assert relative(stepped(session(program, path)), want) <= 2e-5


def test_dry_run_knows_sizes(tmp_path: Path) -> None:
    checkpoint = make_checkpoint("gemma3", tmp_path)
    report = convert_checkpoint(checkpoint, tmp_path / "out", format="coreml", dry_run=True)
    assert report.preflight is not None
    model = convert.read(checkpoint, "gemma3")
    coreml.write(model, tmp_path / "out")
    states = MilProgram(tmp_path / "out" / coreml.PACKAGE).make_state("decode")
    assert coreml.cache_bytes(model, "q4", 1) == sum(state.nbytes for state in states.values())


@pytest.mark.parametrize("scheme", ["q4", "neural_engine_q6", "neural_engine_f16"])
def test_coremltools_reads_the_package(read: Reader, scheme: str, tmp_path: Path) -> None:
    """Its own reader of weights gives our values, and its own types are those of our program."""
    path = written(read("llama"), tmp_path, scheme) / coreml.PACKAGE
    model = coremltools.models.MLModel(str(path), skip_model_load=True)
    weights = path / "Data" / "com.apple.CoreML" / "weights"
    loaded = load_program(
        model.get_spec(), specification_version=model.get_spec().specificationVersion,
        file_weights_dir=str(weights),
    )  # fmt: skip
    assert set(loaded.functions) == {"decode", "prefill"}

    program = MilProgram(path)
    reader = _BlobStorageReader(str(weights / "weight.bin"))
    read_as = {
        MIL.FLOAT16: lambda at: reader.read_fp16_data(at).view(np.float16),
        MIL.FLOAT32: reader.read_float_data,
        MIL.INT4: reader.read_int4_data,
        MIL.INT8: reader.read_int8_data,
        MIL.UINT6: reader.read_uint6_data,
    }
    program.constants("decode")
    program.constants("prefill")
    assert len(program._values) > 20
    for (offset, type, shape), values in program._values.items():
        assert np.array_equal(read_as[type](offset).reshape(shape), values)


def test_the_functions_share_their_weights(read: Reader, tmp_path: Path) -> None:
    path = written(read("qwen2"), tmp_path, "q8")
    program = MilProgram(path / coreml.PACKAGE)
    program.constants("decode")
    alone = len(program._values)
    program.constants("prefill")
    assert len(program._values) == alone
    description = program.model.description
    assert description.defaultFunctionName == "decode"
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
    size = (path / coreml.PACKAGE / "Data/com.apple.CoreML/weights/weight.bin").stat().st_size
    assert sum(n * k for n, k in matrices) < size < most + slack
    program = (path / coreml.PACKAGE / "Data/com.apple.CoreML/model.mlmodel").stat().st_size
    assert coreml.size_bytes(model, scheme) == pytest.approx(size + program, rel=0.02)


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
        program = MilProgram(path / coreml.PACKAGE, exact=False)
        last = program.constants("decode")["embed_rows_192"]
        assert last.shape == (vocab_size - 192, 64, 1, 1)
        if scheme == "neural_engine_q6" and vocab_size == 208:
            assert len(np.unique(last)) <= 64
        want = expected(model, own(path, scheme))
        assert relative(stepped(session(program, path)), want) <= 2e-5


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
        slots = sinks + window + chunk - 1 + int(random.integers(3))
        ring = Ring(sinks, window, slots)
        held: dict[int, int] = {}
        for position in [*range(sinks), *range(max(sinks, start - slots), start)]:
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
    got = session(MilProgram(path / coreml.PACKAGE), path).feed(IDS[:CHUNK])
    assert relative(got, reference.logits(IDS[:CHUNK])[-1]) <= 2e-2


def test_facts_are_what_a_driver_needs(read: Reader, tmp_path: Path) -> None:
    model = read("gemma3")
    known, inputs = coreml.described(written(model, tmp_path, "q4"))
    plain = json.loads(json.dumps(facts(model.spec, Cache(WINDOW, SINKS, CHUNK))))
    assert known == plain | {"scheme": "q4", "eos_ids": model.metadata["eos_ids"]}
    assert [ring["sinks"] for ring in known["rings"]] == [0, SINKS]
    assert {"input_ids", "slot_0", "mask_1", "cos_1", "sink_sin_0"} <= set(inputs["decode"])
    assert {"write_0", "select"} <= set(inputs["prefill"])


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
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="coremltools"):
        coreml.write(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
