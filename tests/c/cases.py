"""Writes tests/golden/engine/cases.json as a header for golden_test.c, which has no JSON.

python tests/c/cases.py cases.h
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "engine"


def string(value: str | None) -> str:
    """A C literal and its size: octal escapes, so that no byte runs into the next."""
    if value is None:
        return "{NULL, 0}"
    data = value.encode()
    return '{"' + "".join(f"\\{byte:03o}" for byte in data) + f'", {len(data)}}}'


def ids(name: str, values: list[int] | None) -> tuple[str, str]:
    """(the array's definition, a reference to it)."""
    if not values:
        return "", "{NULL, 0}"
    return (
        f"static const int32_t {name}[] = {{{', '.join(map(str, values))}}};\n",
        f"{{{name}, {len(values)}}}",
    )


def options(number: int, wanted: dict[str, Any]) -> str:
    scalars = {name: value for name, value in wanted.items() if name != "stop_ids"}
    lines = "".join(f"    options->{name} = {json.dumps(value)};\n" for name, value in scalars.items())
    return f"static void options_{number}(edgekit_generate_options* options) {{\n{lines}}}\n"


def header(cases: dict[str, Any]) -> str:
    definitions, rows = "", []
    for number, case in enumerate(cases["cases"]):
        session = case["session"]
        prompt, prompt_ref = ids(f"prompt_{number}", case.get("prompt_ids"))
        output, output_ref = ids(f"ids_{number}", case["ids"])
        stops, stops_ref = ids(f"stops_{number}", case["generate"].get("stop_ids"))
        messages = json.dumps(case["messages"]) if "messages" in case else None
        definitions += prompt + output + stops + options(number, case["generate"])
        rows.append(
            f'{{"{case["model"]}", {session["window"]}, {session["sinks"]}, '
            f"EDGEKIT_KV_{session['kv'].upper()}, "
            f"{string(case.get('prompt'))}, {prompt_ref}, {string(messages)}, options_{number}, {stops_ref}, "
            f"{output_ref}, "
            f"{string(case['text'])}, EDGEKIT_FINISH_{case['finish'].upper()}}}"
        )
    chats = []
    for number, chat in enumerate(cases["chats"]):
        encoded, encoded_ref = ids(f"chat_{number}", chat["ids"])
        definitions += encoded
        messages = string(json.dumps(chat["messages"]))
        chats.append(f'{{"{chat["model"]}", {messages}, {string(chat["text"])}, {encoded_ref}}}')
    return (
        f"{definitions}static const golden_case cases[] = {{\n{','.join(rows)}\n}};\n"
        f"static const golden_chat chats[] = {{\n{','.join(chats)}\n}};\n"
        f'static const char* const golden_dir = "{GOLDEN.as_posix()}/";\n'
    )


if __name__ == "__main__":
    out = header(json.loads((GOLDEN / "cases.json").read_text()))
    Path(sys.argv[1]).write_text(out.replace("= true;", "= 1;"))
