"""Writes cpp/src/text/unicode_categories.cpp and unicode_normalization.cpp from the Unicode character database.

    pip install unicodedata2==16.0.0 && python tools/unicode_tables.py

Two versions, because the `tokenizers` package that we agree with id for id uses two: Oniguruma's classes are Unicode 16,
its normalization crate is Unicode 9. The latter is the former without what was assigned since (a code point's
decomposition and combining class never change once assigned).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import unicodedata2 as ucd

TEXT = Path(__file__).resolve().parent.parent / "cpp" / "src" / "text"
# The order of `enum class Category` in unicode.h.
CATEGORIES = "Cn Cc Cf Co Cs Ll Lm Lo Lt Lu Mc Me Mn Nd Nl No Pc Pd Pe Pf Pi Po Ps Sc Sk Sm So Zl Zp Zs".split()
BLOCK = 128
HANGUL = range(0xAC00, 0xD7A4)
JAMO_VOWELS_AND_TAILS = (range(0x1161, 0x1176), range(0x11A8, 0x11C3))
FORMS = ("NFC", "NFKC", "NFD", "NFKD")  # bit i of a property: the form i cannot pass this code point unseen


# Assigned after Unicode 9, and not inert under normalization: (first, last).
AFTER_UNICODE_9 = (
    (0x7fd, 0x7fd), (0x897, 0x89f), (0x8ca, 0x8d3), (0x9fe, 0x9fe), (0xc3c, 0xc3c), (0xd3b, 0xd3c),
    (0xeba, 0xeba), (0x1715, 0x1715), (0x1abf, 0x1ace), (0x1df6, 0x1dfa), (0x32ff, 0x32ff),
    (0xa7f2, 0xa7f4), (0xa82c, 0xa82c), (0xab69, 0xab69), (0x105c9, 0x105c9), (0x105e4, 0x105e4),
    (0x10781, 0x10785), (0x10787, 0x107b0), (0x107b2, 0x107ba), (0x10d24, 0x10d27), (0x10d69, 0x10d6d),
    (0x10eab, 0x10eac), (0x10efd, 0x10eff), (0x10f46, 0x10f50), (0x10f82, 0x10f85), (0x11070, 0x11070),
    (0x1133b, 0x1133b), (0x11383, 0x11383), (0x11385, 0x11385), (0x1138e, 0x1138e), (0x11391, 0x11391),
    (0x113c5, 0x113c5), (0x113c7, 0x113c8), (0x113ce, 0x113d0), (0x1145e, 0x1145e), (0x11839, 0x1183a),
    (0x11938, 0x11938), (0x1193d, 0x1193e), (0x11943, 0x11943), (0x119e0, 0x119e0), (0x11a34, 0x11a34),
    (0x11a47, 0x11a47), (0x11a99, 0x11a99), (0x11d42, 0x11d42), (0x11d44, 0x11d45), (0x11d97, 0x11d97),
    (0x11f41, 0x11f42), (0x16121, 0x16128), (0x1612f, 0x1612f), (0x16d68, 0x16d6a), (0x16ff0, 0x16ff1),
    (0x1ccd6, 0x1ccf9), (0x1e030, 0x1e06d), (0x1e08f, 0x1e08f), (0x1e130, 0x1e136), (0x1e2ae, 0x1e2ae),
    (0x1e2ec, 0x1e2ef), (0x1e4ec, 0x1e4ef), (0x1e5ee, 0x1e5ef), (0x1f16c, 0x1f16c), (0x1fbf0, 0x1fbf9),
)


def array(kind: str, name: str, values: Iterable[int]) -> str:
    lines, line = [], ""
    for value in values:
        cell = f"{value},"
        if len(line) + len(cell) > 108:
            lines.append(line)
            line = ""
        line += cell
    lines.append(line)
    body = "\n".join(lines)
    return f"const {kind} {name}[] = {{\n{body}\n}};\n"


def two_stages(values: Sequence[int]) -> tuple[list[int], list[int]]:
    """-> (block number of each run of 128 code points, the distinct blocks one after the other)."""
    blocks: dict[tuple[int, ...], int] = {}
    index = []
    for start in range(0, len(values), BLOCK):
        index.append(blocks.setdefault(tuple(values[start : start + BLOCK]), len(blocks)))
    return index, [value for block in blocks for value in block]


def categories() -> str:
    number = {name: i for i, name in enumerate(CATEGORIES)}
    index, blocks = two_stages([number[ucd.category(chr(c))] for c in range(0x110000)])
    return array("uint16_t", "category_index", index) + array("uint8_t", "category_blocks", blocks)


def normalization() -> str:
    newer = {c for first, last in AFTER_UNICODE_9 for c in range(first, last + 1)}
    code_points = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000 and c not in newer]
    full: dict[str, dict[int, list[int]]] = {form: {} for form in ("NFD", "NFKD")}
    pairs: list[tuple[int, int, int]] = []
    for c in code_points:
        if c in HANGUL:
            continue
        for form, mapping in full.items():
            text = ucd.normalize(form, chr(c))
            if text != chr(c):
                mapping[c] = [ord(x) for x in text]
        parts = ucd.decomposition(chr(c)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            first, second = (int(part, 16) for part in parts)
            if ucd.normalize("NFC", chr(first) + chr(second)) == chr(c):
                pairs.append((first, second, c))
    seconds = {second for _, second, _ in pairs}.union(*JAMO_VOWELS_AND_TAILS)

    properties: dict[tuple[int, int], int] = {}
    per_code_point = [0] * 0x110000
    properties[0, 0] = 0
    for c in code_points:
        ccc = ucd.combining(chr(c))
        seen = 0
        for bit, form in enumerate(FORMS):
            unstable = ccc != 0 or ucd.normalize(form, chr(c)) != chr(c) or ("C" in form and c in seconds)
            seen |= unstable << bit
        per_code_point[c] = properties.setdefault((ccc, seen), len(properties))
    index, blocks = two_stages(per_code_point)

    out = array("uint16_t", "normalization_index", index) + array("uint8_t", "normalization_blocks", blocks)
    out += array("uint8_t", "normalization_ccc", [ccc for ccc, _ in properties])
    out += array("uint8_t", "normalization_unstable", [seen for _, seen in properties])
    # A compatibility mapping is stored only where it differs from the canonical one.
    full["NFKD"] = {c: m for c, m in full["NFKD"].items() if full["NFD"].get(c) != m}
    for name, mapping in (("canonical", full["NFD"]), ("compatibility", full["NFKD"])):
        starts, pool = [0], []
        for decomposed in mapping.values():
            pool += decomposed
            starts.append(len(pool))
        out += f"const size_t {name}_count = {len(mapping)};\n"
        out += array("uint32_t", f"{name}_keys", mapping)
        out += array("uint16_t", f"{name}_starts", starts)
        out += array("uint32_t", f"{name}_pool", pool)
    pairs.sort()
    out += f"const size_t composition_count = {len(pairs)};\n"
    out += array("uint32_t", "composition_first", [first for first, _, _ in pairs])
    out += array("uint32_t", "composition_second", [second for _, second, _ in pairs])
    return out + array("uint32_t", "composition_result", [result for _, _, result in pairs])


def main() -> None:
    if ucd.unidata_version != "16.0.0":
        sys.exit(f"the tables are made with unicodedata2 16.0.0; this is {ucd.unidata_version}")
    for name, unicode_version, body in (("categories", 16, categories()), ("normalization", 9, normalization())):
        (TEXT / f"unicode_{name}.cpp").write_text(
            f"// Written by tools/unicode_tables.py: Unicode {unicode_version}. Do not edit.\n"
            '\n#include "text/unicode_tables.h"\n\n// clang-format off\nnamespace edgekit::text::tables {\n\n'
            f"{body}\n}}  // namespace edgekit::text::tables\n// clang-format on\n"
        )


if __name__ == "__main__":
    main()
