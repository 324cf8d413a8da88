"""Writes cpp/src/text/unicode_categories.cpp and unicode_normalization.cpp from the Unicode database.

    pip install unicodedata2==16.0.0 && python tools/unicode_tables.py

Two versions, because the `tokenizers` package that we agree with id for id uses two: Oniguruma's classes are
Unicode 16, its normalization crate is Unicode 9. The latter is the former without what was assigned since
(a code
point's decomposition and combining class never change once assigned).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import unicodedata2 as ucd

TEXT = Path(__file__).resolve().parent.parent / "cpp" / "src" / "text"
# The order of `enum class Category` in unicode.h.
CATEGORIES = (
    "Cn Cc Cf Co Cs Ll Lm Lo Lt Lu Mc Me Mn Nd Nl No Pc Pd Pe Pf Pi Po Ps Sc Sk Sm So Zl Zp Zs".split()
)
BLOCK = 128
HANGUL = range(0xAC00, 0xD7A4)
JAMO_VOWELS_AND_TAILS = (range(0x1161, 0x1176), range(0x11A8, 0x11C3))
FORMS = ("NFC", "NFKC", "NFD", "NFKD")  # bit i of a property: the form i cannot pass this code point unseen


# Assigned after Unicode 9, and not inert under normalization: (first, last).
AFTER_UNICODE_9 = (
    (0x7FD, 0x7FD),
    (0x897, 0x89F),
    (0x8CA, 0x8D3),
    (0x9FE, 0x9FE),
    (0xC3C, 0xC3C),
    (0xD3B, 0xD3C),
    (0xEBA, 0xEBA),
    (0x1715, 0x1715),
    (0x1ABF, 0x1ACE),
    (0x1DF6, 0x1DFA),
    (0x32FF, 0x32FF),
    (0xA7F2, 0xA7F4),
    (0xA82C, 0xA82C),
    (0xAB69, 0xAB69),
    (0x105C9, 0x105C9),
    (0x105E4, 0x105E4),
    (0x10781, 0x10785),
    (0x10787, 0x107B0),
    (0x107B2, 0x107BA),
    (0x10D24, 0x10D27),
    (0x10D69, 0x10D6D),
    (0x10EAB, 0x10EAC),
    (0x10EFD, 0x10EFF),
    (0x10F46, 0x10F50),
    (0x10F82, 0x10F85),
    (0x11070, 0x11070),
    (0x1133B, 0x1133B),
    (0x11383, 0x11383),
    (0x11385, 0x11385),
    (0x1138E, 0x1138E),
    (0x11391, 0x11391),
    (0x113C5, 0x113C5),
    (0x113C7, 0x113C8),
    (0x113CE, 0x113D0),
    (0x1145E, 0x1145E),
    (0x11839, 0x1183A),
    (0x11938, 0x11938),
    (0x1193D, 0x1193E),
    (0x11943, 0x11943),
    (0x119E0, 0x119E0),
    (0x11A34, 0x11A34),
    (0x11A47, 0x11A47),
    (0x11A99, 0x11A99),
    (0x11D42, 0x11D42),
    (0x11D44, 0x11D45),
    (0x11D97, 0x11D97),
    (0x11F41, 0x11F42),
    (0x16121, 0x16128),
    (0x1612F, 0x1612F),
    (0x16D68, 0x16D6A),
    (0x16FF0, 0x16FF1),
    (0x1CCD6, 0x1CCF9),
    (0x1E030, 0x1E06D),
    (0x1E08F, 0x1E08F),
    (0x1E130, 0x1E136),
    (0x1E2AE, 0x1E2AE),
    (0x1E2EC, 0x1E2EF),
    (0x1E4EC, 0x1E4EF),
    (0x1E5EE, 0x1E5EF),
    (0x1F16C, 0x1F16C),
    (0x1FBF0, 0x1FBF9),
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
    for name, unicode_version, body in (
        ("categories", 16, categories()),
        ("normalization", 9, normalization()),
    ):
        (TEXT / f"unicode_{name}.cpp").write_text(
            f"// Written by tools/unicode_tables.py: Unicode {unicode_version}. Do not edit.\n"
            '\n#include "text/unicode_tables.h"\n\n// clang-format off\nnamespace edgekit::text::tables {\n\n'
            f"{body}\n}}  // namespace edgekit::text::tables\n// clang-format on\n"
        )


if __name__ == "__main__":
    main()
