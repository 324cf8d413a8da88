"""What README.md and docs/app.md tell a user to type works as it stands, in its order: on the model of
`make demo-chat` where that was fetched, else on the sample model under its name.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import edgekit

ROOT = Path(__file__).resolve().parent.parent
MODEL = "build/demo/smollm2-135m.gguf"
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "samples").glob("*/README.md"),
]
TYPED = ["README.md", "docs/app.md"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands are typed: a folder that has the samples, as the repository's root does."""
    if not (ROOT / "samples" / "model" / "config.json").is_file():
        pytest.skip("samples/model is not in this checkout")
    path = tmp_path_factory.mktemp("readme")
    (path / "samples").symlink_to(ROOT / "samples")
    (path / MODEL).parent.mkdir(parents=True)
    if (ROOT / MODEL).exists():
        (path / MODEL).symlink_to(ROOT / MODEL)
    else:
        edgekit.convert(ROOT / "samples" / "model", path / MODEL, format="gguf", scheme="q8", verify=False)
    return path


def commands(page: str) -> list[str]:
    """All but what takes another system's toolchain: tests/web, tests/android and tests/apple run that."""
    lines = re.findall(
        r"^    (edgekit (?!package).*)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE
    )
    return [re.split("   +#", line)[0].strip() for line in lines]


@pytest.mark.parametrize("page", TYPED)
def test_commands(folder: Path, page: str) -> None:
    assert len(commands(page)) >= 3
    for command in commands(page):
        program, *arguments = shlex.split(command)
        done = subprocess.run(
            [sys.executable, "-m", program, *arguments],
            cwd=folder,
            input="Tell me about a cat.\n",
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        assert done.stdout.strip() or "convert" in command, f"{command} printed nothing"


@pytest.mark.parametrize("page", TYPED)
def test_python(folder: Path, page: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        done = subprocess.run(
            [sys.executable, "-c", block], cwd=folder, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()


def test_make_targets() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(
        r"^    make ([\w-]+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    ):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"README names make {target}"


def test_outputs_have_a_folder_in_a_clean_clone() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    for page in PAGES:
        for out in re.findall(
            r"^    edgekit convert .* -o (samples/\S+)", page.read_text(encoding="utf-8"), re.MULTILINE
        ):
            assert any(file.startswith(out.rpartition("/")[0] + "/") for file in tracked), f"{page}: {out}"


def test_links() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.relative_to(ROOT)} links to {link}"
