"""`edgekit package web`: the folder is whole, and says how large it is and what to paste."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from edgekit import package
from edgekit.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "tests" / "golden" / "engine" / "text.edge"


@pytest.fixture
def built() -> None:
    if not (ROOT / "runtimes/web/dist/wasm/edgekit-relaxed-threads.wasm").is_file():
        pytest.skip("runtimes/web/dist is not built: runtimes/web/build.sh")


@pytest.mark.usefixtures("built")
def test_folder(tmp_path: Path) -> None:
    files = package.package("web", MODEL, tmp_path / "out")
    names = {str(path.relative_to(tmp_path / "out")) for path in files}
    assert {"README.md", "index.html", "text.edge", "edgekit/package.json", "edgekit/LICENSE"} <= names
    assert len([name for name in names if name.endswith(".wasm")]) == 4
    readme = (tmp_path / "out" / "README.md").read_text()
    assert f"| text.edge | {MODEL.stat().st_size:,} |" in readme and 'Model.load("/text.edge"' in readme
    page = (tmp_path / "out" / "index.html").read_text()
    links = re.findall(r'(?:from |load\()"([^"]+)"', page)
    assert len(links) == 2
    for link in links:
        assert (tmp_path / "out" / link).is_file(), f"index.html reads {link}"


@pytest.mark.usefixtures("built")
def test_without_a_model(tmp_path: Path) -> None:
    files = package.package("web", None, tmp_path / "out")
    assert not [path for path in files if path.suffix == ".edge"]
    assert 'Model.load("/model.edge"' in (tmp_path / "out" / "README.md").read_text()


def test_version() -> None:
    header = (ROOT / "cpp/include/edgekit/version.h").read_text()
    version = json.loads((ROOT / "runtimes/web/package.json").read_text())["version"]
    assert f'EDGEKIT_VERSION "{version}"' in header


def test_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgekit.package import web

    monkeypatch.setattr(web, "sources", lambda target: tmp_path)
    with pytest.raises(UsageError, match=r"edgekit-simd\.wasm") as caught:
        package.package("web", None, tmp_path / "out")
    assert "build.sh" in (caught.value.hint or "")
    assert not (tmp_path / "out").exists()
