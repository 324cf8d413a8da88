"""Holds a document to results-schema.json: the part of JSON Schema that this file uses, and no more."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list, tuple),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}
KEYWORDS = {
    *("$schema", "$id", "$defs", "$ref", "title", "description"),
    *("type", "enum", "const", "pattern", "minimum"),
    *("properties", "required", "additionalProperties", "items", "minItems"),
}


@functools.cache
def load() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(Path(__file__).with_name("results-schema.json").read_text("utf-8"))
    return schema


def faults(document: Any, schema: Mapping[str, Any] | None = None) -> list[str]:
    """Where a document is not what the schema says: "rows[0].depth: is -1, at least 0"; empty where it is."""
    return list(_faults(document, load() if schema is None else schema, "the document"))


def _faults(value: Any, schema: Mapping[str, Any], at: str) -> Iterator[str]:
    if "$ref" in schema:
        yield from _faults(value, load()["$defs"][schema["$ref"].rpartition("/")[2]], at)
        return
    if "type" in schema and not _is(value, schema["type"]):
        wanted = schema["type"] if isinstance(schema["type"], str) else " or ".join(schema["type"])
        yield f"{at}: is {_short(value)}, no {wanted}"
        return
    if "const" in schema and value != schema["const"]:
        yield f"{at}: is {_short(value)}, not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: is {_short(value)}, none of {schema['enum']}"
    if "minimum" in schema and _is(value, "number") and value < schema["minimum"]:
        yield f"{at}: is {_short(value)}, at least {schema['minimum']}"
    if "pattern" in schema and isinstance(value, str) and not re.search(schema["pattern"], value):
        yield f"{at}: is {_short(value)}, not of the form {schema['pattern']}"
    if isinstance(value, dict):
        known = schema.get("properties", {})
        yield from (f"{at}: has no {name}" for name in schema.get("required", ()) if name not in value)
        for name, member in value.items():
            inner = known.get(name, schema.get("additionalProperties", True))
            if inner is False:
                yield f"{at}: has {name}, which is not known"
            elif isinstance(inner, dict):
                yield from _faults(member, inner, name if at == "the document" else f"{at}.{name}")
    if isinstance(value, (list, tuple)):
        if len(value) < schema.get("minItems", 0):
            yield f"{at}: has {len(value)} items, at least {schema['minItems']}"
        for index, item in enumerate(value):
            yield from _faults(item, schema.get("items", {}), f"{at}[{index}]")


def _is(value: Any, wanted: str | list[str]) -> bool:
    names = [wanted] if isinstance(wanted, str) else wanted
    if isinstance(value, bool):
        return "boolean" in names
    return any(isinstance(value, TYPES[name]) for name in names)


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 40 else f"{text[:37]}..."
