"""What a folder of modules offers: there, a file's name is the name of what is in it."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable


def submodules(package_path: Iterable[str]) -> list[str]:
    """The public modules of a package, given its `__path__`; sorted."""
    return sorted(m.name for m in pkgutil.iter_modules(package_path) if not m.name.startswith("_"))
