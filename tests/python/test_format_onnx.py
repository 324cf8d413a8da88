"""The ONNX directory: what ONNX Runtime computes from it, token by token and at once."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx as onnx_format
import onnxruntime
import pytest
from numpy.typing import NDArray

from edgekit.converters import convert
from edgekit.converters.convert import ConvertInput
from edgekit.converters.formats import onnx
from edgekit.converters.interpreters.numpy import Reference
from edgekit.converters.quant import blocks
from edgekit.converters.quant.blocks import Blocks
from edgekit.errors import UnsupportedModel, UsageError

pytest.importorskip("transformers", reason="needs the [test] extra")

from tiny_models import EDGE_ALONE, RECURRENT, TINY_CONFIGS, make_checkpoint

TAKEN = [name for name in TINY_CONFIGS if name not in RECURRENT + EDGE_ALONE]
IDS = [int(i) for i in np.random.default_rng(0).integers(0, 199, 40)]
PREFILL = 30  # tokens at once; the rest one by one
SAMPLE = Path(__file__).parents[2] / "samples" / "model"
GENAI = ["llama_llama3", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "smollm3"]
GENAI += ["olmo2", "granite", "stablelm", "olmoe", "qwen3_moe"]
needs_genai = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime_genai") is None,
    reason="onnxruntime-genai is not installed (the [peers] extra)",
)


def read(name: str, tmp_path: Path) -> ConvertInput:
    return convert.read(make_checkpoint(name, tmp_path / "hf"), name)


def ort_logits(file: Path, ids: list[int], prefill: int = PREFILL) -> NDArray[np.float32]:
    """`[len(ids), vocab_size]`, through the cache."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    past = {}
    for given in session.get_inputs():
        if given.name.startswith("past"):
            sizes = {"batch_size": 1, "past_sequence_length": 0}
            shape = [sizes.get(d, d) for d in given.shape]
            past[given.name] = np.zeros(shape, np.float16 if "float16" in given.type else np.float32)
    logits, seen = [], 0
    for part in [ids[:prefill], *([i] for i in ids[prefill:])]:
        seen += len(part)
        feed = {"input_ids": np.array([part]), "attention_mask": np.ones((1, seen), np.int64), **past}
        names = [output.name for output in session.get_outputs()]
        out = dict(zip(names, session.run(None, feed), strict=True))
        logits.append(out.pop("logits")[0])
        past = {
            n.replace("present_conv", "past_conv").replace("present.", "past_key_values."): v
            for n, v in out.items()
        }
    return np.concatenate(logits)


def relative(got: NDArray[np.float32], want: NDArray[np.float32]) -> float:
    return float(np.abs(got - want).max() / np.abs(want).max())


@pytest.mark.parametrize("name", TAKEN)
def test_every_family_gives_the_checkpoints_logits(name: str, tmp_path: Path) -> None:
    model = read(name, tmp_path)
    if any(layer.head_dim % 8 for layer in model.spec.layers):
        with pytest.raises(UnsupportedModel, match="multiples of 8"):
            onnx.write(model, tmp_path / "out", "f32")
        assert not (tmp_path / "out").exists()
        return
    onnx.write(model, tmp_path / "out", "f32")
    ids = IDS[
        : min((r.original_context or len(IDS) for r in model.spec.ropes if r.long_inv_freq), default=40)
    ]
    want = Reference(model.spec, model.load).logits(ids)
    assert relative(ort_logits(tmp_path / "out" / "model.onnx", ids), want) <= 1e-5


def test_layers_without_a_form_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="no form for what mamba2 computes: recurrent layers"):
        onnx.write(read("mamba2", tmp_path), tmp_path / "out", "f32")
    for write in (onnx.write, onnx.write_ring):
        with pytest.raises(UnsupportedModel, match=r"no form for what youtu computes: latent attention$"):
            write(read("youtu", tmp_path), tmp_path / "out", "f32")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("scheme", ["f32", "q4_f32"])
def test_a_real_model_gives_the_checkpoints_logits(scheme: str, tmp_path: Path) -> None:
    model = convert.read(SAMPLE, "sample")
    onnx.write(model, tmp_path / "out", scheme)
    file = tmp_path / "out" / "model.onnx"
    want = Reference(model.spec, model.load if scheme == "f32" else onnx.read_back(file.parent).load).logits(
        IDS
    )
    assert relative(ort_logits(file, IDS), want) <= 1e-4


@pytest.mark.parametrize(
    ("name", "scheme", "limit"),
    [
        ("llama", "q4_f32", 1e-5),
        ("llama_mqa", "q4_f32", 1e-5),  # tied, and rows that are no whole number of blocks
        ("qwen2", "q8_f32", 1e-5),  # tied
        ("gemma3", "q4_f32", 1e-5),
        ("olmoe", "q4_f32", 1e-5),
        ("lfm2", "q8_f32", 1e-5),
        ("llama", "q4", 0.05),  # activations rounded to 8 bits
        ("llama", "f16", 5e-3),
        ("llama", "q4f16", 5e-2),
    ],
)
def test_quantized_directories_give_the_logits_of_their_own_weights(
    name: str, scheme: str, limit: float, tmp_path: Path
) -> None:
    model = read(name, tmp_path)
    onnx.write(model, tmp_path / "out", scheme)
    file = tmp_path / "out" / "model.onnx"
    want = Reference(model.spec, onnx.read_back(file.parent).load).logits(IDS)
    assert relative(ort_logits(file, IDS), want) <= limit


@needs_genai
@pytest.mark.parametrize("name", GENAI)
def test_genai_runs_the_directory(name: str, tmp_path: Path) -> None:
    import onnxruntime_genai as genai

    model = read(name, tmp_path)
    onnx.write(model, tmp_path / "out", "f32")
    engine = genai.Model(str(tmp_path / "out"))
    parameters = genai.GeneratorParams(engine)
    parameters.set_search_options(max_length=len(IDS), do_sample=False)
    generator = genai.Generator(engine, parameters)
    want = Reference(model.spec, model.load).logits(IDS)
    got = []
    for part in [IDS[:PREFILL], *([i] for i in IDS[PREFILL:])]:
        generator.append_tokens(np.array([part], np.int32))
        got.append(np.asarray(generator.get_logits()).reshape(-1)[-model.spec.vocab_size :])
    assert relative(np.stack(got), want[PREFILL - 1 :]) <= 1e-4


def test_tied_matrices_lie_in_the_file_once(tmp_path: Path) -> None:
    model = read("qwen2", tmp_path)
    onnx.write(model, tmp_path / "out", "q8")
    matrices = sum(
        model.spec.shape(name)[0] * model.spec.shape(name)[1]
        for name in model.tensors
        if len(model.spec.shape(name)) == 2
    )
    assert (tmp_path / "out" / "model.onnx_data").stat().st_size < matrices * (1 + 4 / 32) + 60 * 4096


def test_transformers_js_finds_its_file(tmp_path: Path) -> None:
    model = read("llama", tmp_path)
    onnx.write_transformers_js(model, tmp_path / "out", "q4")
    assert (tmp_path / "out" / "onnx" / "model_q4.onnx_data").exists()
    assert (
        relative(
            ort_logits(tmp_path / "out" / "onnx" / "model_q4.onnx", IDS),
            Reference(model.spec, model.load).logits(IDS),
        )
        < 0.5
    )
    with pytest.raises(UsageError, match="q2"):
        onnx.write_transformers_js(model, tmp_path / "other", "q2")


@pytest.mark.parametrize("bits", blocks.BITS)
def test_codes_come_back(bits: int) -> None:
    rows = np.random.default_rng(bits).standard_normal((4, 50)).astype(np.float32)
    grid = Blocks(bits, 32)
    fitted = grid.quantize(rows)
    packed, _ = grid.pack(fitted)
    assert packed.shape == (4, 64 * bits // 8)
    assert np.array_equal(blocks.unpack(packed, bits)[:, :50], fitted.codes)
    error = np.linalg.norm(grid.restore(fitted) - rows) / np.linalg.norm(rows)
    assert error < {2: 0.5, 4: 0.1, 8: 0.01}[bits]


def test_unknown_scheme_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="q7"):
        onnx.write(read("llama", tmp_path), tmp_path / "out", "q7")


RING = {"window": 12, "sinks": 3}


def ring_logits(file: Path, ids: list[int]) -> NDArray[np.float32]:
    """`[len(ids), vocab_size]`, one token after another; the caches' buffers are inputs and outputs at
    once.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    kept = {}
    for given in session.get_inputs():
        if given.name.startswith("past"):
            kept[given.name] = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(given.shape, np.float32))
            binding.bind_ortvalue_input(given.name, kept[given.name])
    for output in session.get_outputs():
        if output.name != "logits":
            name = output.name.replace("present.", "past_key_values.").replace("present_", "past_")
            binding.bind_ortvalue_output(output.name, kept[name])
    logits = []
    for position, id in enumerate(ids):
        binding.bind_cpu_input("input_ids", np.array([[id]]))
        binding.bind_cpu_input("position", np.array([position]))
        binding.bind_output("logits", "cpu")
        session.run_with_iobinding(binding)
        logits.append(binding.get_outputs()[index_of(session)].numpy()[0])
    return np.concatenate(logits)


def index_of(session: onnxruntime.InferenceSession) -> int:
    return [output.name for output in session.get_outputs()].index("logits")


@pytest.mark.parametrize("name", [name for name in TINY_CONFIGS if name not in EDGE_ALONE])
def test_the_ring_agrees_with_the_reference_past_its_end(name: str, tmp_path: Path) -> None:
    model = read(name, tmp_path)
    onnx.write_ring(model, tmp_path / "out", "f32", **RING)
    file = tmp_path / "out" / "model.onnx"
    domains = {node.domain for node in onnx_format.load(str(file), load_external_data=False).graph.node}
    assert domains == {""}
    onnx_format.checker.check_model(str(file))
    want = Reference(model.spec, model.load, cache=(RING["sinks"], RING["window"]), context=1).logits(IDS)
    assert relative(ring_logits(file, IDS), want) <= 1e-5


def test_a_session_has_the_states_of_recurrent_layers(tmp_path: Path) -> None:
    edgekit = pytest.importorskip("edgekit.model", reason="the native module is not built")
    model = read("qwen3_5", tmp_path)
    onnx.write_ring(model, tmp_path / "out", "f32", **RING)
    want = Reference(model.spec, model.load, cache=(RING["sinks"], RING["window"])).logits(IDS)
    with edgekit.Model(tmp_path / "out") as engine, engine.session() as session:
        assert engine.n_layers == 4
        assert session.plan.cache_bytes > 4 * sum(
            x.recurrence.numbers for x in model.spec.layers if x.recurrence
        )
        for _ in range(2):
            assert relative(session.forward(IDS), want) <= 1e-5
            session.reset()


def test_long_texts_take_the_long_angles(tmp_path: Path) -> None:
    model = read("phi3_long", tmp_path)
    original = model.spec.ropes[0].original_context
    assert original == 32
    onnx.write(model, tmp_path / "out", "f32")
    file = tmp_path / "out" / "model.onnx"
    want = Reference(model.spec, model.load, context=40).logits(IDS)
    assert relative(ort_logits(file, IDS, prefill=original + 1), want) <= 1e-5
    short = Reference(model.spec, model.load, context=original).logits(IDS[:original])
    assert relative(want[:original], short) > 1e-2
    # A session decides by the size of its buffers, so that all of a text has the same angles.
    edgekit = pytest.importorskip("edgekit.model", reason="the native module is not built")
    with edgekit.Model(tmp_path / "out") as engine:
        assert engine.context == model.spec.context
        for window, expected in ((original, short), (original + 1, want)):
            with engine.session(window=window) as session:
                assert relative(session.forward(IDS[:20]), expected[:20]) <= 1e-5


@pytest.mark.parametrize("window", [12, 29])
def test_the_ring_takes_the_angles_of_its_size(window: int, tmp_path: Path) -> None:
    model = read("phi3_long", tmp_path)
    onnx.write_ring(model, tmp_path / "out", "f32", window=window, sinks=4)
    want = Reference(model.spec, model.load, cache=(4, window), context=window + 4).logits(IDS)
    assert relative(ring_logits(tmp_path / "out" / "model.onnx", IDS), want) <= 1e-5


@pytest.mark.parametrize(("scheme", "limit"), [("q8", 0.05), ("q4", 0.5)])
def test_the_quantized_ring_is_near(scheme: str, limit: float, tmp_path: Path) -> None:
    model = read("qwen2", tmp_path)
    onnx.write_ring(model, tmp_path / "out", scheme, **RING)
    want = Reference(model.spec, model.load, cache=(RING["sinks"], RING["window"])).logits(IDS)
    assert relative(ring_logits(tmp_path / "out" / "model.onnx", IDS), want) <= limit
