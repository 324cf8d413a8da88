"""edgekit.convert and edgekit.verify: what comes out, what is refused, and that nothing is left behind."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_chat_model
from safetensors.numpy import load_file, save_file

import edgekit
from edgekit.converters import convert as source
from edgekit.converters.formats import edge
from edgekit.engines import edge as engine

SHARED = Path(os.environ.get("EDGEKIT_SHARED") or Path(__file__).parents[3] / "shared")


def shared(path: str) -> Path:
    if not (SHARED / path).exists():
        pytest.skip(f"{path} is not in the shared data")
    return SHARED / path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return tiny_chat_model.write(tmp_path / "tiny")


def left_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("scheme", [name for name in edge.SCHEMES if name != "mix"])
def test_every_scheme_is_verified(checkpoint: Path, tmp_path: Path, scheme: str) -> None:
    report = edgekit.convert(checkpoint, tmp_path / "m.edge", scheme=scheme)
    assert report.quality is not None and report.bytes == (tmp_path / "m.edge").stat().st_size
    assert report.engine is not None and report.engine.error is not None and report.engine.limit is not None
    assert report.engine.error <= report.engine.limit / 2
    limits = {"f32": 1e-4, "f16": 1e-2, "q3": 1, "q3_block32": 1}
    assert report.quality.relative_error < limits.get(scheme, 0.8)
    with edgekit.Model(tmp_path / "m.edge", verify_hashes=True) as model:
        assert model.metadata["quality"] == json.loads(json.dumps(asdict(report.quality)))
        assert model.scheme == scheme
    again = edgekit.verify(tmp_path / "m.edge", checkpoint)
    assert again.golden is not None and again.golden.mismatches == 0 and again.same_source is True
    assert again.quality is not None
    assert again.quality.kl_mean == pytest.approx(report.quality.kl_mean, rel=0.05, abs=1e-7)
    assert left_in(tmp_path) == ["m.edge", "tiny"]


def test_the_name_of_the_source_holds_no_path(checkpoint: Path, tmp_path: Path) -> None:
    edgekit.convert(checkpoint, tmp_path / "m.edge", verify=False)
    with edgekit.Model(tmp_path / "m.edge") as model:
        assert model.metadata["source"]["name"] == "tiny"
        assert len(model.metadata["source"]["sha256"]) == 64
        assert str(tmp_path) not in json.dumps(model.metadata)


def test_the_name_of_the_output(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    report = edgekit.convert("tiny", scheme="q8", verify=False)
    assert report.path == "tiny-q8.edge" and Path("tiny-q8.edge").exists()


def test_a_dry_run_writes_nothing(checkpoint: Path, tmp_path: Path) -> None:
    report = edgekit.convert(checkpoint, tmp_path / "m.edge", dry_run=True)
    assert (
        report.dry_run
        and report.n_parameters == 260 * 64 + 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96 + 128) + 64
    )
    assert left_in(tmp_path) == ["tiny"]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "perceptron"}, "perceptron"),
        ({"hidden_act": "swiglu_oai"}, "swiglu_oai"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "dynamic"),
        ({"a_new_way_to_attend": True, "auto_map": {"AutoModel": "own.Code"}}, "a_new_way_to_attend"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_not_supported_is_refused(tmp_path: Path, config: dict[str, Any], words: str) -> None:
    checkpoint = tiny_chat_model.write(tmp_path / "tiny", **config)
    with pytest.raises(edgekit.UnsupportedModel, match=words):
        edgekit.convert(checkpoint, tmp_path / "m.edge")
    assert left_in(tmp_path) == ["tiny"]


def test_weights_that_are_not_numbers_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    weights = load_file(checkpoint / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] = np.nan
    save_file(weights, checkpoint / "model.safetensors")
    with pytest.raises(edgekit.InvalidFile, match="NaN"):
        edgekit.convert(checkpoint, tmp_path / "m.edge")
    assert left_in(tmp_path) == ["tiny"]


def test_a_failed_conversion_leaves_the_old_package(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "m.edge").write_bytes(b"old")
    weights = load_file(checkpoint / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, checkpoint / "model.safetensors")
    with pytest.raises(edgekit.InvalidFile, match=r"model\.norm\.weight"):
        edgekit.convert(checkpoint, tmp_path / "m.edge")
    assert (tmp_path / "m.edge").read_bytes() == b"old"


@pytest.mark.parametrize("scheme", ["f32", "q8", "q4"])
def test_a_package_that_computes_something_else_is_refused(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setattr(
        source.ConvertInput,
        "given",
        lambda self, name, grid, rows: grid.quantize(self.load(name, rows)[::-1]),
    )
    with pytest.raises(edgekit.VerificationFailed, match=r"stored .* is not the checkpoint's"):
        edgekit.convert(checkpoint, tmp_path / "m.edge", scheme=scheme)
    assert left_in(tmp_path) == ["tiny"]


def test_an_engine_that_computes_something_else_is_refused(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = engine.Engine.exact_session

    def wrong(self: engine.Engine, tokens: int) -> engine.Session:
        session = good(self, tokens)
        right = session.forward
        session.forward = lambda ids, all_logits: right(np.roll(ids, -1), all_logits)
        return session

    monkeypatch.setattr(engine.Engine, "exact_session", wrong)
    with pytest.raises(edgekit.VerificationFailed, match="does not compute what the stored weights say"):
        edgekit.convert(checkpoint, tmp_path / "m.edge", scheme="q8")
    assert left_in(tmp_path) == ["tiny"]


@pytest.mark.parametrize(
    ("out", "words"),
    [("no/such/m.edge", "no directory"), ("tiny", "files in it")],
    ids=["parent", "directory"],
)
def test_outputs_that_cannot_be_are_refused(checkpoint: Path, tmp_path: Path, out: str, words: str) -> None:
    with pytest.raises(edgekit.UsageError, match=words):
        edgekit.convert(checkpoint, tmp_path / out)


def test_a_mix_fills_the_bytes_it_is_given(checkpoint: Path, tmp_path: Path) -> None:
    sizes = [
        edgekit.convert(checkpoint, tmp_path / "m.edge", scheme=scheme, dry_run=True).bytes or 0
        for scheme in ("q4", "q8")
    ]
    wanted = sum(sizes) // 2
    report = edgekit.convert(checkpoint, tmp_path / "m.edge", target_bytes=wanted, verify=False)
    # Of so small a model the header is a part, and a matrix's next grid is more than some bytes away.
    assert report.scheme == "mix" and report.bytes == pytest.approx(wanted, rel=0.05)
    assert report.grids is not None and len(set(report.grids.values())) > 1
    with pytest.raises(
        edgekit.UsageError, match=r"^1 bytes are asked for; a mix of this model takes [\d,]+ to [\d,]+ "
    ):
        edgekit.convert(checkpoint, tmp_path / "wrong.edge", target_bytes=1)
    for wrong in ({"target_bpw": 5, "scheme": "q4"}, {"scheme": "mix"}):
        with pytest.raises(edgekit.UsageError):
            edgekit.convert(checkpoint, tmp_path / "m.edge", verify=False, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["mlx", "onnx", "gguf"])
def test_other_formats_mix_too(checkpoint: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / ("m.gguf" if name == "gguf" else "m")
    sizes = [
        edgekit.convert(checkpoint, out, format=name, scheme=scheme, dry_run=True).bytes or 0
        for scheme in ("q4", "q8")
    ]
    wanted = sum(sizes) // 2
    plan = edgekit.convert(checkpoint, out, format=name, target_bytes=wanted, dry_run=True)
    assert plan.bytes is not None and plan.bytes <= wanted and plan.bytes == pytest.approx(wanted, rel=0.1)
    # ONNX Runtime is everywhere, so what it computes is checked.
    report = edgekit.convert(checkpoint, out, format=name, target_bytes=wanted, verify=name == "onnx")
    assert report.grids is not None and len({*report.grids.values()} - {"f32"}) > 1
    with pytest.raises(edgekit.UsageError, match="these have: edge, gguf, mlx, onnx"):
        edgekit.convert(checkpoint, out, format="coreml", target_bpw=5)


def test_unknown_formats_and_schemes_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(edgekit.UsageError, match="edge"):
        edgekit.convert(checkpoint, tmp_path / "m", format="tape")
    with pytest.raises(edgekit.UsageError, match="q4"):
        edgekit.convert(checkpoint, tmp_path / "m", scheme="q7")


def test_a_chat_template_beyond_us_is_said_and_left_out(tmp_path: Path) -> None:
    template = "{% include 'other' %}{% for message in messages %}{{ message.content }}{% endfor %}"
    checkpoint = tiny_chat_model.write(tmp_path / "tiny", template=template)
    report = edgekit.convert(checkpoint, tmp_path / "m.edge", verify=False)
    assert any("no chat template" in text for text in report.warnings)
    with edgekit.Model(tmp_path / "m.edge") as model:
        assert not model.has_chat_template


def test_verify_takes_the_names_that_convert_takes(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(checkpoint.parent))
    edgekit.convert(f"~/{checkpoint.name}", checkpoint.parent / "home.edge", scheme="f32")
    report = edgekit.verify("~/home.edge", f"~/{checkpoint.name}")
    assert report.same_source and report.path == str(checkpoint.parent / "home.edge")


def test_verify_without_golden_vectors_asks_numpy(checkpoint: Path, tmp_path: Path) -> None:
    edgekit.convert(checkpoint, tmp_path / "m.edge", verify=False)
    alone = edgekit.verify(tmp_path / "m.edge")
    assert alone.golden is None and alone.quality is None
    assert alone.engine is not None and alone.engine.error is not None
    assert edgekit.verify(tmp_path / "m.edge", checkpoint).quality is not None


def test_verify_finds_another_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    edgekit.convert(checkpoint, tmp_path / "m.edge", scheme="q8")
    weights = load_file(checkpoint / "model.safetensors")
    weights["model.layers.0.self_attn.q_proj.weight"] *= -1
    save_file(weights, checkpoint / "model.safetensors")
    with pytest.raises(edgekit.VerificationFailed, match=r"layers\.0\.q is not the checkpoint's"):
        edgekit.verify(tmp_path / "m.edge", checkpoint)


def test_verify_finds_golden_vectors_that_differ(checkpoint: Path, tmp_path: Path) -> None:
    edgekit.convert(checkpoint, tmp_path / "m.edge", scheme="f32")
    with edgekit.Model(tmp_path / "m.edge") as model:
        golden = model.metadata["golden"]
    golden["logits"] = [[id, value + 0.2 * golden["spread"]] for id, value in golden["logits"]]
    edge.attach(tmp_path / "m.edge", {"golden": golden})
    with pytest.raises(edgekit.VerificationFailed, match="golden"):
        edgekit.verify(tmp_path / "m.edge")


@pytest.mark.parametrize("name", ["stories260K", "babyllama-tok105"])
def test_real_models_give_their_golden_logits(tmp_path: Path, name: str) -> None:
    checkpoint = shared(f"data/weights/{name}/hf-derived")
    report = edgekit.convert(checkpoint, tmp_path / "m.edge", scheme="f32")
    assert report.quality is not None and report.quality.top1_agreement == 1.0
    cases = json.loads((checkpoint / "golden_logits.json").read_text())["cases"]
    with edgekit.Model(tmp_path / "m.edge") as model:
        for case in cases:
            assert model.tokenizer.encode(case["prompt"]) == case["ids"]
            with model.session(kv="f32") as session:
                got = session.forward(case["ids"], all_logits=False)[0]
            np.testing.assert_allclose(got, case["last_logits"], atol=1e-4)


def edit(file: Path, **members: Any) -> None:
    values = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(values | members))


def test_an_index_may_name_the_output_matrix_of_a_tied_model(checkpoint: Path, tmp_path: Path) -> None:
    weights = load_file(checkpoint / "model.safetensors")
    (checkpoint / "model.safetensors").rename(checkpoint / "a.safetensors")
    index = dict.fromkeys([*weights, "lm_head.weight"], "a.safetensors")
    weights.pop("lm_head.weight", None)
    save_file(weights, checkpoint / "a.safetensors")
    edit(checkpoint / "model.safetensors.index.json", weight_map=index)
    edit(checkpoint / "config.json", tie_word_embeddings=True)
    assert source.read(checkpoint, "tiny").spec.tied
    edit(checkpoint / "config.json", tie_word_embeddings=False)
    with pytest.raises(edgekit.InvalidFile, match=r"lacks 1 tensors.*lm_head\.weight"):
        source.read(checkpoint, "tiny")


def test_tokens_beyond_the_embedding_are_said(checkpoint: Path, tmp_path: Path) -> None:
    assert source.read(checkpoint, "tiny").warnings == ()
    definition = json.loads((checkpoint / "tokenizer.json").read_text())
    rows = source.read(checkpoint, "tiny").spec.vocab_size
    token = definition["added_tokens"][0] | {"id": rows, "content": "lighthouse"}  # in what verify reads
    edit(checkpoint / "tokenizer.json", added_tokens=[*definition["added_tokens"], token])
    (said,) = source.read(checkpoint, "tiny").warnings
    assert f"tokens {rows} to {rows} cannot be run" in said
    assert edgekit.convert(checkpoint, tmp_path / "m.edge").engine is not None


def test_advice_that_no_engine_takes_is_left_out(checkpoint: Path) -> None:
    unusable = {"top_k": -1, "top_p": 0, "min_p": 2, "repetition_penalty": 0}
    edit(checkpoint / "generation_config.json", temperature=0.6, **unusable)
    assert source.read(checkpoint, "tiny").metadata["generation"] == {"temperature": 0.6}


def test_onnx_has_the_checkpoints_padding_and_first_token(checkpoint: Path, tmp_path: Path) -> None:
    edit(checkpoint / "generation_config.json", eos_token_id=[3, 2], bos_token_id=1, pad_token_id=5)
    edgekit.convert(checkpoint, tmp_path / "out", format="onnx", scheme="f32", verify=False)
    config = json.loads((tmp_path / "out" / "genai_config.json").read_text())["model"]
    assert (config["bos_token_id"], config["pad_token_id"]) == (1, 5)
    assert config["eos_token_id"][:2] == [3, 2]
