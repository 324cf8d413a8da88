"""Random Unicode text that tokenizers disagree about: spaces, scripts, marks, emoji, special tokens."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

SPACES = " \t\n\r\v\f\u0085\u00a0\u1680\u2002\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
CONTRACTIONS = ("'s", "'S", "'t", "'re", "'VE", "'m", "'ll", "'D", "\u2019s", "'\u017f", "'lL")
WORDS = (
    "the",
    "Hello",
    "WORLD",
    "camelCaseWord",
    "naïve",
    "straße",
    "été",
    "don't",
    "x86_64",
    "0xFF",
    "3.14",
    "e-mail",
)
CODE = (
    "def f(x):\n    return x\n",
    "#include <a.h>\r\n",
    "{\n\t\t}",
    "a[i]++;",
    "// ----",
    "</div>",
    "===",
    "\\n",
    "\u2581",
)
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
EMOJI = (
    "\U0001f600",
    FAMILY,
    "\U0001f44d\U0001f3fd",
    "\u2764\ufe0f",
    "\U0001f1e9\U0001f1ea",
    "1\ufe0f\u20e3",
    "\U0001f3f4",
)
# Where the characters of one script, or of one kind, are.
BLOCKS = (
    (0x20, 0x7E), (0xA0, 0xFF), (0x100, 0x24F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x52F), (0x5D0,
    0x5EA),
    (0x600, 0x6FF), (0x900, 0x97F), (0xE00, 0xE7F), (0x1100, 0x11FF), (0x1E00, 0x1EFF), (0x2000, 0x206F),
    (0x2070, 0x218F), (0x2190, 0x23FF), (0x3040, 0x30FF), (0x3130, 0x318F), (0x4E00, 0x9FFF), (0xAC00,
    0xD7A3),
    (0xF900, 0xFAFF), (0xFB00, 0xFB4F), (0xFE00, 0xFE0F), (0xFF00, 0xFFEF), (0x1F300, 0x1FAFF), (0x1D400,
    0x1D7FF),
    (0x20000, 0x2A6DF), (0x0, 0x1F), (0x7F, 0x9F), (0xE000, 0xF8FF), (0xFFF0, 0xFFFF), (0x10000, 0x10FFFF),
)  # fmt: skip


def character(rng: random.Random, first: int, last: int) -> str:
    while True:
        code_point = rng.randint(first, last)
        if not 0xD800 <= code_point < 0xE000:
            return chr(code_point)


def random_text(rng: random.Random, special: Sequence[str] = (), longest: int = 24) -> str:
    """Up to `longest` pieces; `special`: tokens to put in at times."""

    def run(first: int, last: int) -> str:
        return "".join(character(rng, first, last) for _ in range(rng.randint(1, 8)))

    kinds: list[Callable[[], str]] = [
        lambda: rng.choice(WORDS),
        lambda: " " + rng.choice(WORDS),
        lambda: " " * rng.randint(1, 9),
        lambda: "".join(rng.choice(SPACES) for _ in range(rng.randint(1, 5))),
        lambda: rng.choice(CONTRACTIONS),
        lambda: str(rng.randint(0, 10 ** rng.randint(1, 9))),
        lambda: rng.choice(CODE),
        lambda: rng.choice(EMOJI),
        lambda: run(0x20, 0x7E),
        lambda: run(*rng.choice(BLOCKS)),
        lambda: run(*rng.choice(BLOCKS)),
        lambda: character(rng, 0, 0x10FFFF),
        lambda: (
            rng.choice("aeouAEKYn") + "".join(character(rng, 0x300, 0x36F) for _ in range(rng.randint(1, 3)))
        ),
        lambda: rng.choice(special) if special else "<|none|>",
    ]
    return "".join(rng.choice(kinds)() for _ in range(rng.randint(1, longest)))
