"""Writes cpp/src/text/template_case.cpp: the case of letters as this Python maps it, as ranges.

    python3.11 tools/unicode_case.py

Chat templates are compared with jinja2, so Python itself is asked and not the Unicode database.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path

OUT = Path(__file__).resolve().parent.parent / "cpp" / "src" / "text" / "template_case.cpp"
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def property_ranges(has: Callable[[str], bool]) -> list[tuple[int, int]]:
    ranges: list[tuple[int, int]] = []
    for c in CODE_POINTS:
        if has(chr(c)):
            if ranges and ranges[-1][1] == c - 1:
                ranges[-1] = (ranges[-1][0], c)
            else:
                ranges.append((c, c))
    return ranges


def mapping_ranges(convert: Callable[[str], str]) -> list[tuple[int, int, int, int]]:
    """(first, last, stride, delta) of the code points that become one other code point."""
    ranges: list[tuple[int, int, int, int]] = []
    for c in CODE_POINTS:
        to = convert(chr(c))
        if len(to) != 1 or to == chr(c):
            continue
        delta = ord(to) - c
        if ranges and ranges[-1][3] == delta:
            first, last, stride, _ = ranges[-1]
            if c - last <= 2 and (first == last or stride == c - last):
                ranges[-1] = (first, c, c - last, delta)
                continue
        ranges.append((c, c, 1, delta))
    return ranges


def expansions(convert: Callable[[str], str]) -> list[tuple[int, str]]:
    return [(c, convert(chr(c))) for c in CODE_POINTS if len(convert(chr(c))) != 1]


def is_cased(c: str) -> bool:
    return (c + "b").title()[-1] == "b"


def is_case_ignorable(c: str) -> bool:
    return ("a" + c + "Σ").lower()[-1] == "ς" and (" " + c + "Σ").lower()[-1] != "ς"


def rows(cells: Iterable[str]) -> str:
    lines, line = [], "   "
    for cell in cells:
        if len(line) + len(cell) > 108:
            lines.append(line)
            line = "   "
        line += " " + cell + ","
    return "\n".join([*lines, line])


def c_string(text: str) -> str:
    return '"' + "".join(f"\\x{byte:02x}" for byte in text.encode()) + '"'


def main() -> None:
    parts = []
    for name, convert in {"upper": str.upper, "lower": str.lower, "title": str.title}.items():
        cells = (
            f"{{0x{a:x}, 0x{b:x}, {stride}, {delta}}}" for a, b, stride, delta in mapping_ranges(convert)
        )
        parts.append(f"constexpr Mapping {name}_mappings[] = {{\n{rows(cells)}\n}};\n")
        cells = (f"{{0x{c:x}, {c_string(to)}}}" for c, to in expansions(convert))
        parts.append(f"constexpr Expansion {name}_expansions[] = {{\n{rows(cells)}\n}};\n")
    properties: dict[str, Callable[[str], bool]] = {
        "upper_letters": str.isupper,
        "lower_letters": str.islower,
        "cased": is_cased,
        "case_ignorable": is_case_ignorable,
        "digit_like": lambda c: c.isdigit() and not c.isdecimal(),
        "numeral_letters": lambda c: c.isnumeric() and unicodedata.category(c)[0] == "L",
    }
    for name, has in properties.items():
        cells = (f"{{0x{a:x}, 0x{b:x}}}" for a, b in property_ranges(has))
        parts.append(f"constexpr Range {name}[] = {{\n{rows(cells)}\n}};\n")
    version = (
        f"Python {sys.version_info.major}.{sys.version_info.minor}, Unicode {unicodedata.unidata_version}"
    )
    OUT.write_text(HEAD.replace("VERSION", version) + "\n".join(parts) + TAIL)


HEAD = """// Written by tools/unicode_case.py: VERSION. Do not edit.

#include "text/template_case.h"

#include <algorithm>
#include <iterator>

#include "text/unicode.h"

// clang-format off
namespace edgekit::tmpl {

namespace {

struct Range { char32_t first, last; };
struct Mapping { char32_t first, last, stride; std::int32_t delta; };
struct Expansion { char32_t from; const char* to; };

"""

TAIL = """
// The entry of a sorted table that may hold `c`: the last that does not start behind it.
const auto* entry_before(const auto& table, char32_t c) {
    const auto* after = std::upper_bound(std::begin(table), std::end(table), c,
                                         [](char32_t x, const auto& entry) { return x < entry.first; });
    return after == std::begin(table) ? nullptr : after - 1;
}

bool is_in(const auto& ranges, char32_t c) {
    const Range* range = entry_before(ranges, c);
    return range && c <= range->last;
}

void append_mapped(std::string& out, char32_t c, const auto& mappings, const auto& expansions) {
    for (const Expansion& expansion : expansions) {
        if (expansion.from == c) {
            out += expansion.to;
            return;
        }
    }
    const Mapping* mapping = entry_before(mappings, c);
    const bool maps = mapping && c <= mapping->last && (c - mapping->first) % mapping->stride == 0;
    text::append_utf8(out, maps ? static_cast<char32_t>(static_cast<std::int32_t>(c) + mapping->delta) : c);
}

}  // namespace

void append_upper(std::string& out, char32_t c) {
    if (c < 0x80) out += static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c);
    else append_mapped(out, c, upper_mappings, upper_expansions);
}

void append_lower(std::string& out, char32_t c) {
    if (c < 0x80) out += static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
    else append_mapped(out, c, lower_mappings, lower_expansions);
}

void append_title(std::string& out, char32_t c) {
    if (c < 0x80) append_upper(out, c);
    else append_mapped(out, c, title_mappings, title_expansions);
}

bool is_upper_letter(char32_t c) { return is_in(upper_letters, c); }
bool is_lower_letter(char32_t c) { return is_in(lower_letters, c); }
bool is_cased(char32_t c) { return is_in(cased, c); }
bool is_case_ignorable(char32_t c) { return is_in(case_ignorable, c); }
bool is_digit_like(char32_t c) { return is_in(digit_like, c); }
bool is_numeral_letter(char32_t c) { return is_in(numeral_letters, c); }

}  // namespace edgekit::tmpl
"""

if __name__ == "__main__":
    main()
