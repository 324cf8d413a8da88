"""A JSON file that a checkpoint may have beside its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgekit.errors import InvalidFile


def read_json(path: Path) -> dict[str, Any]:
    """Its object; an absent file is an empty one. Raises InvalidFile."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InvalidFile(f"{path}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidFile(f"{path}: a {type(value).__name__} where a JSON object belongs")
    return value
