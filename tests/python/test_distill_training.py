"""Students with fewer layers, channels and heads, and their training."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny_chat_model
from click.testing import CliRunner
from tiny_models import TINY_CONFIGS, make_checkpoint

torch = pytest.importorskip("torch", reason="needs the [train] extra")

import edgekit
from edgekit import evaluation
from edgekit.cli import cli
from edgekit.converters import convert, train
from edgekit.converters.distill import losses, prune, student, weights
from edgekit.converters.distill.losses import Loss
from edgekit.converters.distill.objective import Objective
from edgekit.converters.distill.recipe import Recipe, read_yaml
from edgekit.converters.distill.student import Parts
from edgekit.converters.distill.targets import Cached, Live
from edgekit.converters.distill.texts import Window, windows
from edgekit.converters.interpreters.torch import TorchDecoder
from edgekit.distillation import corpora
from edgekit.errors import InvalidFile, IoFailure, UnsupportedModel, UsageError

TEXT = "The cat sat on the mat, and the dog sat on the cat. " * 8
IDS = np.random.default_rng(0).integers(0, 199, 24).tolist()


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_chat_model.write(tmp_path_factory.mktemp("teacher") / "m", num_hidden_layers=4)


@pytest.fixture
def text(tmp_path: Path) -> str:
    (tmp_path / "text.txt").write_text(TEXT)
    return str(tmp_path / "text.txt")


def logits(spec: Any, load: Any) -> Any:
    with torch.no_grad():
        return TorchDecoder(spec, weights.fixed(load)).logits(torch.tensor([IDS])).numpy()


FAMILIES = ["llama_mqa", "phi3", "gemma3", "qwen2_window", "smollm3", "openelm", "stablelm_qk_norm", "olmoe"]
FAMILIES += ["helium_bias", "gpt_oss_plain", "apertus", "nanochat"]  # stored in other ways
FAMILIES += ["granitemoehybrid_experts"]  # stacks of two parts


@pytest.mark.parametrize("name", [name for name in FAMILIES if name in TINY_CONFIGS])
def test_a_student_without_a_layer_is_the_teacher_without_it(
    name: str, checkpoints: Path, tmp_path: Path
) -> None:
    theirs = convert.read(make_checkpoint(name, checkpoints), name)
    kept = [number for number in range(len(theirs.spec.layers)) if number != 1]
    (tmp_path / "m").mkdir()
    student.save(student.of(theirs, Parts(layers=kept)), theirs, tmp_path / "m")
    ours = convert.read(tmp_path / "m", "student")
    spec = dataclasses.replace(theirs.spec, layers=tuple(theirs.spec.layers[number] for number in kept))

    def load(name: str) -> Any:
        return theirs.load(re.sub(r"layers\.(\d+)", lambda at: f"layers.{kept[int(at[1])]}", name))

    want = logits(spec, load)
    assert np.allclose(logits(ours.spec, ours.load), want, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("name", ["llama_mqa", "phi3", "gemma3", "starcoder2"])
def test_channels_that_do_nothing_can_go(name: str, checkpoints: Path, tmp_path: Path) -> None:
    """Those whose columns of `down` are 0: the statistics find them, and the logits stay."""
    opened = convert.read(make_checkpoint(name, checkpoints), name)
    width = opened.spec.layers[0].d_ff
    dead = np.random.default_rng(1).permutation(width)[: width // 4]

    def load(name: str) -> Any:
        values = opened.load(name)
        if name.endswith(".down"):
            values = values.copy()
            values[:, dead] = 0
        return values

    kept = prune.channels(opened.spec, weights.fixed(load), [IDS], width - len(dead))
    assert all(sorted(set(range(width)) - set(of)) == sorted(dead) for of in kept.values())
    parts = Parts(channels=kept)
    got = logits(parts.spec(opened.spec), lambda name: parts.load(opened.spec, load, name))
    want = logits(opened.spec, load)
    assert np.allclose(got, want, atol=1e-5 * np.abs(want).max())
    made = student.of(opened, parts)
    assert made.config["intermediate_size"] == width - len(dead)


@pytest.mark.parametrize("name", ["llama", "qwen3", "phi3"])
def test_heads_that_do_nothing_can_go(name: str, checkpoints: Path, tmp_path: Path) -> None:
    opened = convert.read(make_checkpoint(name, checkpoints), name)
    layer = opened.spec.layers[0]
    group = layer.n_heads // layer.n_kv_heads * layer.head_dim

    def load(name: str) -> Any:
        values = opened.load(name)
        if name.endswith(".o"):
            values = values.copy()
            values[:, :group] = 0
        return values

    kept = prune.groups(opened.spec, weights.fixed(load), [IDS], layer.n_kv_heads - 1)
    assert all(0 not in of for of in kept.values())
    parts = Parts(groups=kept)
    got = logits(parts.spec(opened.spec), lambda name: parts.load(opened.spec, load, name))
    want = logits(opened.spec, load)
    assert np.allclose(got, want, atol=1e-5 * np.abs(want).max())
    assert student.of(opened, parts).spec == parts.spec(opened.spec)


@pytest.mark.parametrize("name", ["llama_mqa", "qwen3", "phi3", "olmoe"])
def test_hidden_channels_that_do_nothing_can_go(name: str, checkpoints: Path, tmp_path: Path) -> None:
    """Those that nothing reads or writes. Norms divide by more then; here their gains make up for it."""
    opened = convert.read(make_checkpoint(name, checkpoints), name)
    spec, d = opened.spec, opened.spec.d_model
    wider = dataclasses.replace(spec, d_model=d + 1)
    dead = np.random.default_rng(2).permutation(d)[: d // 4]
    dead = np.sort(dead)

    def load(name: str) -> Any:
        values = opened.load(name)
        if values is not None:
            for axis in student.units(spec, wider, name):
                values = values.copy()
                values[(slice(None),) * axis + (dead,)] = 0
        return values

    kept = prune.width(spec, weights.fixed(load), [IDS], d - len(dead))
    assert sorted(set(range(d)) - set(kept)) == dead.tolist()
    parts = Parts(width=kept)

    def smaller(name: str) -> Any:
        values = parts.load(spec, load, name)
        if values is not None and name.endswith("norm") and student.units(spec, wider, name):
            values = values * np.float32(math.sqrt(d / (d - len(dead))))
        return values

    got, want = logits(parts.spec(spec), smaller), logits(spec, load)
    assert np.allclose(got, want, atol=2e-3 * np.abs(want).max())
    made = student.of(opened, parts)
    assert made.config["hidden_size"] == d - len(dead)
    (tmp_path / "m").mkdir()
    student.save(made, opened, tmp_path / "m")
    assert convert.read(tmp_path / "m", "student").spec == parts.spec(spec)


def test_the_layer_that_does_nothing_goes_first(checkpoints: Path) -> None:
    opened = convert.read(make_checkpoint("llama", checkpoints), "llama")

    def load(name: str) -> Any:
        values = opened.load(name)
        return values if name not in ("layers.1.o", "layers.1.down") else np.zeros_like(values)

    assert prune.layers(opened.spec, weights.fixed(load), [IDS], 2) == [0, 2]


def test_what_a_config_cannot_say_is_refused(checkpoints: Path) -> None:
    opened = convert.read(make_checkpoint("llama", checkpoints), "llama")
    with pytest.raises(UnsupportedModel, match="cannot say"):
        student.of(opened, Parts(channels={0: range(32)}))  # one layer narrower than the others
    with pytest.raises(UsageError, match="4 layers of a model that has 3"):
        prune.layers(opened.spec, weights.fixed(opened.load), [IDS], 4)


def test_models_whose_layers_share_more_than_the_residual_are_not_cut(checkpoints: Path) -> None:
    opened = convert.read(make_checkpoint("gemma4_shared", checkpoints), "gemma4_shared")
    assert student.of(opened, Parts()).spec == opened.spec
    with pytest.raises(UnsupportedModel, match="is not cut"):
        student.of(opened, Parts(tokens=range(50)))
    with pytest.raises(UnsupportedModel, match="none can be dropped"):
        prune.layers(opened.spec, weights.fixed(opened.load), [IDS], 2)


def test_losses_are_divergences() -> None:
    torch.manual_seed(0)
    p, q = torch.randn(2, 5, 30).log_softmax(-1)
    for name in losses.DIVERGENCES:
        loss = Loss(name)
        assert loss.of(p, p).abs().max() < 1e-6
        assert (loss.of(p, q) > 0).all()
    kl = Loss("kl").of(p, q)
    assert torch.allclose(kl, torch.nn.functional.kl_div(q, p, log_target=True, reduction="none").sum(-1))
    assert torch.allclose(Loss("reverse_kl").of(q, p), kl)
    assert torch.allclose(Loss("jsd", beta=0.5).of(p, q), Loss("jsd", beta=0.5).of(q, p))
    assert torch.allclose(Loss("skew_kl", beta=1e-6).of(p, q), kl, rtol=1e-3)
    for wrong in ({"name": "mse"}, {"beta": 1.0}, {"temperature": 0.0}):
        with pytest.raises(UsageError):
            Loss(**wrong)


def gradients(targets: Any, loss: Loss, opened: Any) -> tuple[float, dict[str, Any]]:
    parameters = weights.trained(opened.tensors, opened.load)
    with torch.no_grad():
        for values in parameters.parameters():
            values.mul_(1.1)
    student = TorchDecoder(opened.spec, weights.OnGrids(parameters, {}))
    value = Objective(student, parameters, loss, targets)(Window(tuple(IDS)), len(IDS) - 1)
    value.backward()
    return value.item(), {name: values.grad for name, values in parameters.named_parameters()}


def test_cached_targets_give_the_gradients_of_the_teacher(
    checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all tokens kept those of live ones, to float16; and never more of the teacher is asked for."""
    opened = convert.read(make_checkpoint("llama", checkpoints), "llama")
    loss = Loss("kl")
    live = Live(TorchDecoder(opened.spec, weights.fixed(opened.load)), loss.log_probabilities)
    value, want = gradients(live, loss, opened)
    made_of = {"teacher": "x", "vocab_size": 199}
    for top_k in (199, 64):
        folder = tmp_path / str(top_k)
        gradients(Cached(folder, live, made_of, top_k), loss, opened)
        monkeypatch.setattr(live.teacher, "hidden", None)  # from here on nobody may ask the teacher
        cached, got = gradients(Cached(folder, live, made_of, top_k), loss, opened)
        monkeypatch.undo()
        assert 0 < cached < value * 1.001  # what is not told apart can only bring two distributions nearer
        if top_k == 199:
            assert cached == pytest.approx(value, rel=2e-3)
            for name, gradient in want.items():
                assert (got[name] - gradient).norm() <= 2e-3 * gradient.norm()
    with torch.autocast("cpu", torch.bfloat16):  # mixed precision
        half, _ = gradients(Cached(folder, live, made_of, 64), loss, opened)
    assert half == pytest.approx(cached, rel=0.1)
    with pytest.raises(UsageError, match="another teacher: teacher differ"):
        Cached(folder, live, made_of | {"teacher": "y"}, 64)
    (file,) = folder.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(InvalidFile, match=r"\.safetensors: "):
        Cached(folder, live, made_of, 64)(IDS)


def test_a_teacher_with_more_tokens_is_asked_for_those_that_are_kept(checkpoints: Path) -> None:
    opened = convert.read(make_checkpoint("llama", checkpoints), "llama")
    model, kept = TorchDecoder(opened.spec, weights.fixed(opened.load)), [5, 3, 90, 41]
    target = Live(model, Loss().log_probabilities, kept)([0, 1, 3])
    ours = torch.randn(2, 4)
    theirs = model.logits(torch.tensor([[5, 3, 41]]))[0, 1:, kept].log_softmax(-1)
    assert torch.allclose(target.pair(slice(1, 3), ours)[0], theirs, atol=1e-5)


def test_windows_learn_what_should_be_learned() -> None:
    samples = [{"text": "abcdefg"}, {"prompt": "hi", "completion": "you"}, {"messages": [{"content": "z"}]}]
    found = windows(
        samples, lambda text: [ord(c) for c in text], lambda messages: [7, 7], length=6, around=([1], [2])
    )
    a, *rest = (ord(c) for c in "abcdefg")
    assert found[0] == Window((1, ord("h"), ord("i"), *map(ord, "you")), 3)
    assert [window.ids for window in found[1:]] == [(1, a, *rest[:4]), (1, *rest[4:], 2, 7, 7), (1, 2)]
    with pytest.raises(UsageError, match="nothing to learn"):
        windows([{"text": ""}], list, None, length=6, around=([], []))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no chat template"):
        windows([{"messages": []}], list, None, length=6, around=([], []))  # type: ignore[arg-type]


def run(teacher: Path, out: Path, text: str, **options: Any) -> Any:
    small = {"context": 32, "batch_tokens": 64, "tokens": 640, "learning_rate": 3e-3}
    return edgekit.distill(teacher, out, text=[text], **(small | options))


def log(directory: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (directory / "distillation.jsonl").read_text().splitlines()]


def test_training_heals_and_the_package_runs(teacher: Path, tmp_path: Path, text: str) -> None:
    long = {"context": 480, "batch_tokens": 480, "layers": 3, "held_out": text}
    before = run(teacher, tmp_path / "a", text, tokens=0, **long)
    after = run(teacher, tmp_path / "b", text, tokens=7200, **long)
    assert after.n_layers == 3
    assert after.scores.kl_mean < 0.6 * before.scores.kl_mean
    assert after.scores.bits_per_byte_teacher == before.scores.bits_per_byte_teacher
    assert not list(tmp_path.glob(".*"))  # nothing is left beside it
    edgekit.convert(tmp_path / "b", tmp_path / "b.edge", scheme="q8")


@pytest.mark.parametrize(("cut", "saved_every"), [(KeyboardInterrupt(), 60.0), (SystemExit(), 0.0)])
def test_a_run_that_was_cut_goes_on_to_the_same_weights(
    cut: BaseException,
    saved_every: float,
    teacher: Path,
    tmp_path: Path,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By Ctrl-C, which saves; and by what gives no time for it."""
    run(teacher, tmp_path / "whole", text, layers=3)
    from edgekit.converters.distill import healing

    texts = 0

    class Interrupted(Objective):
        def forward(self, window: Window, count: int) -> Any:
            nonlocal texts
            texts += 1
            if texts == 12:
                raise cut
            return super().forward(window, count)

    monkeypatch.setattr(healing, "Objective", Interrupted)
    monkeypatch.setattr(train, "SAVED_EVERY_S", saved_every)
    with pytest.raises(type(cut)):
        run(teacher, tmp_path / "cut", text, layers=3)
    assert not (tmp_path / "cut").exists()
    run(teacher, tmp_path / "cut", text, layers=3)
    assert texts == 12 + 10  # of two texts a step, five steps of ten were done
    assert len(log(tmp_path / "cut")) == 10
    same = "model.safetensors"
    assert (tmp_path / "cut" / same).read_bytes() == (tmp_path / "whole" / same).read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        {"loss": "reverse_kl"},
        {"loss": "jsd", "temperature": 2.0, "hidden_weight": 0.5},
        {"loss": "skew_kl", "cache": "targets"},
        {"loss": "next_token"},
        {"scheme": "q4"},
        {"kv_heads": 1, "ffn": 64, "width": 48},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_every_way_of_training_learns(
    options: dict[str, Any], teacher: Path, tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(teacher, tmp_path / "m", text, layers=2, tokens=1280, **options)
    losses = log(tmp_path / "m")
    assert math.fsum(losses[-5:]) < 0.9 * math.fsum(losses[:5])


def test_a_student_may_be_given(teacher: Path, tmp_path: Path, text: str) -> None:
    config = json.loads((teacher / "config.json").read_text()) | {"hidden_size": 32, "num_hidden_layers": 1}
    (tmp_path / "small.json").write_text(json.dumps(config))
    planned = run(teacher, tmp_path / "m", text, student=str(tmp_path / "small.json"), dry_run=True)
    assert {path.name for path in tmp_path.iterdir()} == {"text.txt", "small.json"}
    report = run(teacher, tmp_path / "m", text, student=str(tmp_path / "small.json"))
    assert report.n_layers == planned.n_layers == 1
    assert report.n_parameters == planned.n_parameters
    assert edgekit.Model(tmp_path / "m").tokenizer is not None
    (tmp_path / "small.json").write_text(json.dumps(config | {"vocab_size": 300}))
    with pytest.raises(UsageError, match="the student has 300 tokens, the teacher 260"):
        run(teacher, tmp_path / "n", text, student=str(tmp_path / "small.json"))


def test_a_size_is_kept_and_told_before(teacher: Path, tmp_path: Path, text: str) -> None:
    whole = run(teacher, tmp_path / "m", text, tokens=0, layers=4, dry_run=True).n_parameters
    planned = run(teacher, tmp_path / "m", text, target_params=whole - 20000, dry_run=True)
    assert planned.dry_run
    assert planned.memory_bytes > 16 * planned.n_parameters
    assert planned.training_seconds > 0
    assert list(tmp_path.iterdir()) == [Path(text)]
    made = run(teacher, tmp_path / "m", text, target_params=whole - 20000, tokens=0)
    assert whole - 50000 < made.n_parameters == planned.n_parameters <= whole - 20000


def test_the_best_weights_stay(teacher: Path, tmp_path: Path, text: str) -> None:
    """Of a run that is much too fast, those before it began to fail on the validation text."""
    (tmp_path / "other.txt").write_text("Where is the dog? It is on the mat, where the cat was. " * 6)
    other = {"validation": str(tmp_path / "other.txt")}

    def judged(name: str) -> list[float]:
        lines = (tmp_path / name / "distillation.jsonl").read_text().splitlines()
        return [step["validation"] for step in map(json.loads, lines) if "validation" in step]

    run(teacher, tmp_path / "m", text, layers=3, tokens=3200, patience=2, **other)
    assert judged("m").index(min(judged("m"))) == len(judged("m")) - 3
    run(teacher, tmp_path / "n", text, student=str(tmp_path / "m"), tokens=64, learning_rate=1e-9, **other)
    assert judged("n") == pytest.approx([min(judged("m"))], rel=1e-3)


def test_a_report_shows_both_sides(
    teacher: Path, tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "report.html"
    words = ["distill", str(teacher), "-o", str(tmp_path / "m"), "--text", text, "--held-out", text]
    words += ["--layers", "2", "--tokens", "128", "--context", "32", "--batch-tokens", "64"]
    done = CliRunner().invoke(cli, [*words, "--html", str(page)])
    assert done.exit_code == 0, done.output
    assert "before training" in done.stdout
    shown = page.read_text()
    rows = re.findall(r"<tr><td>([^<]+)</td>(?:<td>[^<]*</td>){3}</tr>", shown)
    assert rows == ["parameters", "bits per byte", "KL", "same first choice", "package, q8", "tokens/s"]
    assert shown.count("<polyline") == 1


def test_trackers_are_told_of_every_step(
    teacher: Path, tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, str]] = []

    class Board:
        def __init__(self, folder: str) -> None:
            assert Path(folder).name == "m.tensorboard"

        def add_scalar(self, name: str, value: float, step: int) -> None:
            told.append((step, name))

        def flush(self) -> None: ...

        def log(self, values: dict[str, float], step: int) -> None:
            told.append((step, *values))

    def init(**given: Any) -> Board:
        assert given["config"]["layers"] == 2
        return Board("m.tensorboard")

    for name, module in (
        ("torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Board)),
        ("wandb", SimpleNamespace(init=init)),
    ):
        tracker = name.rpartition(".")[2]
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(UnsupportedModel, match=f"{tracker} is not installed"):
            run(teacher, tmp_path / "m", text, layers=2, tokens=128, track=tracker)
        monkeypatch.setitem(sys.modules, name, module)
        run(teacher, tmp_path / "m", text, layers=2, tokens=128, track=tracker)
        shutil.rmtree(tmp_path / "m")
    assert told == [(0, "loss"), (1, "loss")] * 2


def test_a_student_learns_from_its_own_text(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRL is told of both models, of the prompts and of the options; what it trained is the student."""
    chats = tmp_path / "chats.jsonl"
    chats.write_text('{"prompt": "Where is the cat?", "completion": "On the mat."}\n' * 3)
    given: dict[str, Any] = {}

    class Trainer:
        def __init__(self, **options: Any) -> None:
            given.update(options)

        def remove_callback(self, callback: Any) -> None: ...

        def train(self, resume_from_checkpoint: bool) -> None:
            assert not resume_from_checkpoint

        def save_model(self, folder: str) -> None:
            shutil.copytree(given["model"], folder)

    def of(path: Path, **options: Any) -> Any:
        return path

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(Dataset=SimpleNamespace(from_list=list)))
    own = {"layers": 2, "on_policy": 0.5, "loss": "jsd", "beta": 0.5}
    monkeypatch.setitem(sys.modules, "trl", None)
    with pytest.raises(UnsupportedModel, match="needs TRL, which is not installed"):
        run(teacher, tmp_path / "m", str(chats), **own)
    gkd = SimpleNamespace(GKDConfig=SimpleNamespace, GKDTrainer=Trainer)
    for name in ("trl", "trl.experimental"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace())
    monkeypatch.setitem(sys.modules, "trl.experimental.gkd", gkd)
    import transformers

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", of)
    tokenizer = SimpleNamespace(pad_token=None, eos_token="<|end|>")
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda path: tokenizer)
    report = run(teacher, tmp_path / "m", str(chats), **own)
    assert report.n_layers == 2
    assert given["teacher_model"] == teacher
    assert given["train_dataset"][0]["messages"][0] == {"role": "user", "content": "Where is the cat?"}
    args = given["args"]
    assert (args.lmbda, args.beta, args.max_steps, args.gradient_accumulation_steps) == (0.5, 0.5, 10, 2)
    assert tokenizer.pad_token == "<|end|>"
    for options, match in (
        ({"loss": "kl"}, "learned by --loss jsd"),
        ({"on_policy": 2.0}, "a share, 0 to 1"),
    ):
        with pytest.raises(UsageError, match=match):
            run(teacher, tmp_path / "n", str(chats), **(own | options))


def test_a_data_set_becomes_a_file(teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load_dataset(*names: Any, split: str, streaming: bool) -> Any:
        asked.append((*names, split))
        if names[0] == "no/text":
            return iter([{"label": 1}])
        if names[0] == "no/where":
            raise ValueError("no such data set")
        return ({"prompt": "Where is it?", "completion": " On the mat.", "id": n} for n in itertools.count())

    monkeypatch.setenv("EDGEKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UnsupportedModel, match="datasets, which is not installed"):
        corpora.resolve("owner/chats", 100)
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    path = corpora.resolve("owner/chats@small:test", 1000)
    assert asked == [("owner/chats", "small", "test")]
    assert 1000 <= path.stat().st_size < 1100
    assert json.loads(path.read_text().splitlines()[-1]) == {
        "prompt": "Where is it?",
        "completion": " On the mat.",
    }
    assert corpora.resolve("owner/chats@small:test", 1000) == path
    assert len(asked) == 1
    for name, error, match in (
        ("no/text", UsageError, "has none of text, messages"),
        ("no/where", IoFailure, "no such data set"),
    ):
        with pytest.raises(error, match=match):
            corpora.resolve(name, 1000)


def test_a_student_goes_into_all_formats(teacher: Path, tmp_path: Path, text: str) -> None:
    """Distilled, trained for 4 bits, packed and run."""
    run(teacher, tmp_path / "small", text, layers=3, tokens=128)
    run(teacher, tmp_path / "q4", text, student=str(tmp_path / "small"), tokens=128, scheme="q4")
    for name in ("edge", "mlx", "onnx", "coreml"):
        out = tmp_path / f"packed.{name}"
        edgekit.convert(tmp_path / "q4", out, format=name, calibrate=None)
        with edgekit.Model(out) as model:
            assert list(model.session().generate("The cat", max_tokens=4))
    # llama.cpp takes no tokenizer without merges, as this one is: the file is read by us.
    edgekit.convert(tmp_path / "q4", tmp_path / "packed.gguf", format="gguf", calibrate=None, verify=False)
    edgekit.convert(tmp_path / "packed.gguf", tmp_path / "again.edge", calibrate=None)


def test_a_package_holds_what_was_trained_for_it(teacher: Path, tmp_path: Path, text: str) -> None:
    """It is nearer to the teacher than one of the same bytes whose codes GPTQ chose."""
    edgekit.convert(teacher, tmp_path / "before.edge", scheme="q4_block32", calibrate=[text], verify=False)
    long = {"context": 512, "batch_tokens": 512, "tokens": 12800, "learning_rate": 1e-3}
    run(teacher, tmp_path / "m", text, scheme="q4_block32", **long)
    edgekit.convert(
        tmp_path / "m", tmp_path / "after.edge", scheme="q4_block32", calibrate=None, verify=False
    )
    edgekit.convert(teacher, tmp_path / "f32.edge", scheme="f32", verify=False)
    kl = {}
    for name in ("before", "after"):
        (found,) = evaluation.evaluate([tmp_path / f"{name}.edge"], tmp_path / "f32.edge", TEXT * 2)
        kl[name] = found.kl_mean
    assert kl["after"] < 0.85 * kl["before"]


def test_a_recipe_is_a_file_too(tmp_path: Path) -> None:
    recipe = Recipe.of({"teacher": "big", "text": ["a", "b"], "layers": 3, "learning_rate": 1}, "test")
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    assert Recipe.of(read_yaml(tmp_path / "recipe.yaml"), "recipe.yaml") == recipe
    for text, match in (("layers: [", "not YAML"), ("- a", "a list where")):
        (tmp_path / "recipe.yaml").write_text(text)
        with pytest.raises(InvalidFile, match=match):
            read_yaml(tmp_path / "recipe.yaml")


def test_a_loss_that_is_no_number_ends_the_run(teacher: Path, tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"the loss of step \d is nan"):
        run(teacher, tmp_path / "m", text, learning_rate=1e30, layers=2)
    assert not (tmp_path / "m").exists()


def test_a_full_disk_ends_the_run_and_loses_nothing(
    teacher: Path, tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was saved stays, and the run goes on from it."""
    run(teacher, tmp_path / "whole", text, layers=3)
    saved, writes = torch.save, 0

    class Full:
        room = 1000

        def write(self, data: Any) -> int:
            self.room -= len(data)
            if self.room < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return len(data)

    def full(state: Any, file: Any) -> None:
        nonlocal writes
        writes += 1
        saved(state, Full() if writes == 4 else file)

    monkeypatch.setattr(torch, "save", full)
    monkeypatch.setattr(train, "SAVED_EVERY_S", 0.0)
    with pytest.raises(IoFailure, match="the disk is full"):
        run(teacher, tmp_path / "m", text, layers=3)
    assert not (tmp_path / "m").exists()
    run(teacher, tmp_path / "m", text, layers=3)
    assert writes == 4 + 7 + 1  # of ten steps three were saved; and once at the end
    same = "model.safetensors"
    assert (tmp_path / "m" / same).read_bytes() == (tmp_path / "whole" / same).read_bytes()


def test_a_student_of_another_tokenizer_is_refused(teacher: Path, tmp_path: Path, text: str) -> None:
    other = tiny_chat_model.write(tmp_path / "other", num_hidden_layers=1)
    definition = json.loads((other / "tokenizer.json").read_text())
    vocab = definition["model"]["vocab"]
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
    (other / "tokenizer.json").write_text(json.dumps(definition))
    with pytest.raises(UsageError, match="tokenizer is another one than the teacher's"):
        run(teacher, tmp_path / "m", text, student=str(other))


@pytest.mark.parametrize("missing", ["torch", "accelerate"])
def test_training_says_what_it_needs(missing: str, teacher: Path, tmp_path: Path, text: str) -> None:
    given = f"{str(teacher)!r}, {str(tmp_path / 'm')!r}, text=[{text!r}], tokens=64"
    program = f"import sys; sys.modules[{missing!r}] = None; import edgekit; edgekit.distill({given})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert f"{missing}, which is not installed" in done.stderr
    assert not (tmp_path / "m").exists()


def test_mistakes_are_told(teacher: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{"texts": "b"}\n')
    (tmp_path / "empty.txt").write_text("")
    for text, error, match in (
        ("bad.jsonl", InvalidFile, r"line 2 has neither 'text'"),
        ("empty.txt", UsageError, "no text in the files"),
        ("none.txt", InvalidFile, "cannot read it"),
    ):
        with pytest.raises(error, match=match):
            run(teacher, tmp_path / "m", str(tmp_path / text))
    for options, match in (
        ({"tokens": 100}, "need a text"),
        ({"layers": 2, "student": "x", "text": ["y"]}, "the one or the other"),
        ({"loss": "mse", "text": [str(tmp_path / "bad.jsonl")], "tokens": 10}, "no loss 'mse'"),
        ({"context": 1}, "a text two tokens"),
        ({"scheme": "q9", "vocabulary": "latin"}, "no scheme 'q9'; choose one of: q"),
    ):
        with pytest.raises(UsageError, match=match):
            edgekit.distill(teacher, tmp_path / "m", dry_run=True, **options)
    assert not (tmp_path / "m").exists()
