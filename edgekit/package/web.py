"""A folder for a web app: the npm package `edgekit`, the model, and a page that tries both.

edgekit/                      `npm install ./edgekit`, or imported as it lies, without a bundler
index.html                    the model in a page of some twenty lines
NAME.edge, README.md
"""

from __future__ import annotations

import shutil
from pathlib import Path

from edgekit.errors import UsageError
from edgekit.package import ROOT, Report, sources

VARIANTS = ("simd", "simd-threads", "relaxed", "relaxed-threads")


def package(model: Path | None, out: Path, report: Report) -> list[Path]:
    """Fills `out`. Raises UsageError when the SDK is not built."""
    source, dist = sources("web"), built()
    report("copying the SDK and the model", 0, 0)
    shutil.copytree(dist, out / "edgekit" / "dist")
    for path in (source / "package.json", source / "README.md", ROOT / "LICENSE"):
        shutil.copyfile(path, out / "edgekit" / path.name)
    if model is not None:
        shutil.copyfile(model, out / model.name)
    words = {"MODEL": model.name if model else "model.edge", "SIZES": sizes(out)}
    for path in (source / "embed").iterdir():
        text = path.read_text(encoding="utf-8")
        for word, value in words.items():
            text = text.replace(word, value)
        (out / path.name).write_text(text, encoding="utf-8")
    return [path for path in out.rglob("*") if path.is_file()]


def built() -> Path:
    """The folder of the built SDK. Raises UsageError."""
    dist = sources("web") / "dist"
    needed = ["index.js", *(f"wasm/edgekit-{variant}.wasm" for variant in VARIANTS)]
    if missing := [name for name in needed if not (dist / name).is_file()]:
        raise UsageError(
            f"the web SDK is not built: {', '.join(missing)} missing in {dist}",
            hint="in edgekit's repository run runtimes/web/build.sh, which needs npm and brings emscripten on"
            " Debian; a wheel built after it has the SDK inside",
        )
    return dist


def sizes(out: Path) -> str:
    """The rows of the README's table."""
    files = [*sorted(out.glob("edgekit/dist/wasm/*.wasm")), *out.glob("*.edge")]
    rows = [(path.name, path.stat().st_size) for path in files]
    rows.append(("JavaScript", sum(path.stat().st_size for path in out.glob("edgekit/dist/*.js"))))
    return "\n".join(f"| {name} | {size:,} |" for name, size in rows)
