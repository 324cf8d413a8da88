"""Regular expressions of pre-tokenizers and normalizers, compiled for cpp/src/text/pattern.h.

The subset is what tokenizers in use are written in: alternatives, character classes (with `\\p{..}`),
greedy and possessive quantifiers on a class, optional groups, `(?i:...)`, and look-ahead at one class. All
else is refused by name.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import UnsupportedModel

# In the order of `enum class Category` in cpp/src/text/unicode.h; the first letter is the major class.
CATEGORIES = tuple(
    "Cn Cc Cf Co Cs Ll Lm Lo Lt Lu Mc Me Mn Nd Nl No Pc Pd Pe Pf Pi Po Ps Sc Sk Sm So Zl Zp Zs".split()
)
ALL_CATEGORIES = (1 << len(CATEGORIES)) - 1
HAN = (
    (0x2E80, 0x2E99), (0x2E9B, 0x2EF3), (0x2F00, 0x2FD5), (0x3005, 0x3005), (0x3007, 0x3007), (0x3021,
    0x3029),
    (0x3038, 0x303B), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFA6D), (0xFA70, 0xFAD9), (0x16FE2,
    0x16FE3),
    (0x16FF0, 0x16FF1), (0x20000, 0x2A6DF), (0x2A700, 0x2B739), (0x2B740, 0x2B81D), (0x2B820, 0x2CEA1),
    (0x2CEB0, 0x2EBE0), (0x2EBF0, 0x2EE5D), (0x2F800, 0x2FA1D), (0x30000, 0x3134A), (0x31350, 0x323AF),
)  # fmt: skip
# Characters that case-insensitive matching adds to an ASCII letter besides its other case.
FOLDS = {"k": "\u212a", "s": "\u017f"}
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v", "0": "\0", "a": "\a", "e": "\x1b"}
UNLIMITED = 0xFFFFFFFF
MAX_ALTERNATIVES = 32

CLASS = np.dtype(
    [
        ("ascii", "<u4", 4),
        ("categories", "<u4"),
        ("negated", "<u4"),
        ("first_range", "<u4"),
        ("range_count", "<u4"),
    ]
)
RANGE = np.dtype([("first", "<u4"), ("last", "<u4")])
INSTRUCTION = np.dtype(
    [
        ("opcode", "<u4"),
        ("char_class", "<u4"),
        ("min", "<u4"),
        ("max", "<u4"),
        ("backtrack", "<u4"),
        ("target", "<u4"),
    ]
)
PATTERN = np.dtype(
    [("alternative_count", "<u4"), ("alternatives", "<u4", MAX_ALTERNATIVES), ("first", "<u4", 256)]
)
MATCH, RUN, SPLIT, JUMP, AHEAD, NOT_AHEAD = range(6)


def category_mask(name: str) -> int:
    """`L`, `Lu` … -> one bit a category; 0 for an unknown name."""
    return sum(1 << i for i, category in enumerate(CATEGORIES) if category.startswith(name))


@dataclass(frozen=True)
class CharClass:
    """A set of code points: (category in `categories`, or in `ranges`, or in `ascii`) != `negated`.

    `categories` and `ranges` speak of code points above 127 only, `ascii` of those below 128 (bit = code
    point).
    """

    ascii: int = 0
    categories: int = 0
    ranges: tuple[tuple[int, int], ...] = ()
    negated: bool = False

    def __or__(self, other: CharClass) -> CharClass:
        assert not self.negated and not other.negated
        return CharClass(
            self.ascii | other.ascii, self.categories | other.categories, self.ranges + other.ranges, False
        )

    def complement(self) -> CharClass:
        return CharClass(self.ascii, self.categories, self.ranges, not self.negated)

    def ascii_members(self) -> int:
        return self.ascii ^ ((1 << 128) - 1) if self.negated else self.ascii

    def reaches_beyond_ascii(self) -> bool:
        return self.negated or bool(self.categories or self.ranges)


def interval(first: int, last: int) -> CharClass:
    low = sum(1 << c for c in range(first, min(last, 127) + 1))
    return CharClass(low, 0, ((max(first, 128), last),) if last > 127 else ())


def by_category(mask: int) -> CharClass:
    # Of unicodedata only ASCII is asked, which no version changes.
    low = sum(1 << c for c in range(128) if mask >> CATEGORIES.index(unicodedata.category(chr(c))) & 1)
    return CharClass(low, mask)


def characters(text: str) -> CharClass:
    out = CharClass()
    for c in text:
        out |= interval(ord(c), ord(c))
    return out


SPACE = by_category(category_mask("Z")) | characters("\t\n\v\f\r\x85")
DIGIT = by_category(category_mask("Nd"))
NUMERIC = by_category(category_mask("N"))
PUNCTUATION = by_category(category_mask("P")) | characters("$+<=>^`|~")


@dataclass(frozen=True)
class Run:
    char_class: CharClass
    min: int = 1
    max: int = 1
    possessive: bool = False


@dataclass(frozen=True)
class Group:
    alternatives: tuple[tuple[Node, ...], ...]
    optional: bool = False


@dataclass(frozen=True)
class Look:
    char_class: CharClass
    negative: bool


Node = Run | Group | Look


class Parser:
    """One regular expression -> alternatives, each a sequence of nodes."""

    def __init__(self, regex: str) -> None:
        self.regex = regex
        self.at = 0

    def refuse(self, what: str) -> UnsupportedModel:
        return UnsupportedModel(
            f"the tokenizer's regular expression uses {what} at character {self.at}: {self.regex!r}; "
            "edgekit's patterns have no such thing"
        )

    def peek(self, text: str) -> bool:
        return self.regex.startswith(text, self.at)

    def take(self, text: str) -> bool:
        found = self.peek(text)
        self.at += len(text) if found else 0
        return found

    def next(self) -> str:
        if self.at >= len(self.regex):
            raise self.refuse("an unfinished expression")
        self.at += 1
        return self.regex[self.at - 1]

    def until(self, close: str) -> str:
        """What stands before `close`, which is taken too."""
        end = self.regex.find(close, self.at)
        if end < 0:
            raise self.refuse(f"an opening without its {close!r}")
        self.at, text = end + 1, self.regex[self.at : end]
        return text

    def parse(self) -> tuple[tuple[Node, ...], ...]:
        alternatives = self.alternatives(fold=False)
        if self.at != len(self.regex):
            raise self.refuse("an unmatched ')'")
        return alternatives

    def alternatives(self, fold: bool) -> tuple[tuple[Node, ...], ...]:
        found = []
        while True:
            sequence: list[Node] = []
            while self.at < len(self.regex) and not self.peek("|") and not self.peek(")"):
                sequence.append(self.item(fold))
            found.append(tuple(sequence))
            if not self.take("|"):
                return tuple(found)

    def item(self, fold: bool) -> Node:
        if self.take("(?!") or self.take("(?="):
            negative = self.regex[self.at - 1] == "!"
            alternatives = self.alternatives(fold)
            self.close()
            if len(alternatives) != 1 or len(alternatives[0]) != 1 or not isinstance(alternatives[0][0], Run):
                raise self.refuse("look-ahead at more than one class")
            run = alternatives[0][0]
            if (run.min, run.max) != (1, 1):
                raise self.refuse("look-ahead at a repetition")
            return Look(run.char_class, negative)
        if self.take("$"):  # Oniguruma's: the end of the text or of a line
            return Look(characters("\n").complement(), negative=True)
        if self.take("("):
            inner_fold = fold
            if self.take("?i:"):
                inner_fold = True
            elif not self.take("?:") and self.peek("?"):
                raise self.refuse("a group other than (?:…), (?i:…), (?=…) and (?!…)")
            alternatives = self.alternatives(inner_fold)
            self.close()
            low, high, possessive = self.quantifier()
            only = alternatives[0][0] if len(alternatives) == 1 and len(alternatives[0]) == 1 else None
            if isinstance(only, Run) and (only.min, only.max) == (1, 1):
                return Run(only.char_class, low, high, possessive)
            if (low, high) not in ((1, 1), (0, 1)) or possessive:
                raise self.refuse("a repeated group")
            return Group(alternatives, optional=low == 0)
        char_class = self.char_class(fold)
        return Run(char_class, *self.quantifier())

    def close(self) -> None:
        if not self.take(")"):
            raise self.refuse("an unfinished group")

    def quantifier(self) -> tuple[int, int, bool]:
        low, high = 1, 1
        if self.take("?"):
            low, high = 0, 1
        elif self.take("*"):
            low, high = 0, UNLIMITED
        elif self.take("+"):
            low, high = 1, UNLIMITED
        elif self.take("{"):
            bounds = self.until("}").split(",")
            if (
                not bounds[0].isdecimal()
                or not all(b.isdecimal() or b == "" for b in bounds)
                or len(bounds) > 2
            ):
                raise self.refuse("a brace that is no repetition")
            low = int(bounds[0])
            high = int(bounds[-1]) if bounds[-1] else UNLIMITED
            if high < max(low, 1):
                raise self.refuse("an empty repetition")
            if self.take("+"):  # Oniguruma's: not possessive, but one or more times the repetition
                if low > 1:
                    raise self.refuse("a repeated repetition")
                high = UNLIMITED
        else:
            return low, high, False
        if self.take("?"):
            raise self.refuse("a lazy repetition")
        return low, high, self.take("+")

    def char_class(self, fold: bool) -> CharClass:
        c = self.next()
        if c == "[":
            return self.bracket(fold)
        if c == "\\":
            return self.escape(fold)
        if c == ".":
            return characters("\n").complement()
        if c in "^*+?{":
            self.at -= 1
            raise self.refuse(f"{c!r}")
        return self.literal(c, fold)

    def literal(self, c: str, fold: bool) -> CharClass:
        if not fold or not c.isalpha():
            return characters(c)
        if not c.isascii():
            raise self.refuse("case-insensitive matching beyond ASCII")
        return characters(c.lower() + c.upper() + FOLDS.get(c.lower(), ""))

    def escape(self, fold: bool) -> CharClass:
        c = self.next()
        if c in "pP":
            if not self.take("{"):
                raise self.refuse("\\p without braces")
            name = self.until("}")
            negative = (c == "P") != name.startswith("^")
            name = name.lstrip("^")
            if name == "Han":
                found = CharClass(0, 0, HAN)
            elif category_mask(name) and len(name) <= 2:
                found = by_category(category_mask(name))
            else:
                raise self.refuse(f"\\p{{{name}}}")
            return found.complement() if negative else found
        if c in "sSdD":
            found = SPACE if c in "sS" else DIGIT
            return found.complement() if c.isupper() else found
        if c in "ux":
            width = 4 if c == "u" else 2
            digits = self.until("}") if self.take("{") else "".join(self.next() for _ in range(width))
            try:
                return self.literal(chr(int(digits, 16)), fold)
            except (ValueError, OverflowError):
                raise self.refuse(f"\\{c} without a code point") from None
        if c in ESCAPES:
            return characters(ESCAPES[c])
        if c.isalnum():
            raise self.refuse(f"\\{c}")
        return characters(c)

    def bracket(self, fold: bool) -> CharClass:
        negative = self.take("^")
        found = CharClass()
        start = self.at
        while not self.peek("]") or self.at == start:
            if self.peek("[") or self.peek("&&"):
                raise self.refuse("a class within a class")
            part = self.escape(fold) if self.take("\\") else self.literal(self.next(), fold)
            if self.peek("-") and not self.regex.startswith("-]", self.at):
                self.take("-")
                last = self.escape(fold) if self.take("\\") else self.literal(self.next(), fold)
                part = interval(self.only(part), self.only(last))
            if part.negated:
                part = self.positive(part)
            found |= part
        self.take("]")
        return found.complement() if negative else found

    def only(self, char_class: CharClass) -> int:
        """The one member of a class that has one."""
        if char_class.ascii.bit_count() == 1 and not char_class.reaches_beyond_ascii():
            return char_class.ascii.bit_length() - 1
        if (
            char_class.ascii == 0
            and len(char_class.ranges) == 1
            and char_class.ranges[0][0] == char_class.ranges[0][1]
        ):
            return char_class.ranges[0][0]
        raise self.refuse("a range between classes")

    def positive(self, char_class: CharClass) -> CharClass:
        """The same set, spelt without negation."""
        if char_class.ranges:
            raise self.refuse("a negated class within a class")
        return CharClass(char_class.ascii_members(), ALL_CATEGORIES ^ char_class.categories)


@dataclass
class PatternCompiler:
    """Collects patterns; `sections()` gives the arrays that the runtime maps."""

    instructions: list[tuple[int, int, int, int, int, int]] = field(default_factory=list)
    classes: dict[CharClass, int] = field(default_factory=dict)
    patterns: list[tuple[list[int], list[int]]] = field(default_factory=list)
    known: dict[tuple[tuple[Node, ...], ...], int] = field(default_factory=dict)

    def regex(self, regex: str) -> int:
        """-> the number of the pattern. Throws UnsupportedModel for what the runtime lacks."""
        alternatives = Parser(regex).parse()
        if any(nullable(sequence) for sequence in alternatives):
            raise UnsupportedModel(
                f"the tokenizer's regular expression {regex!r} can match nothing; edgekit needs a character"
            )
        return self.add(alternatives)

    def text(self, text: str) -> int:
        return self.add((tuple(Run(characters(c)) for c in text),))

    def char_class(self, char_class: CharClass) -> int:
        return self.add(((Run(char_class),),))

    def add(self, alternatives: tuple[tuple[Node, ...], ...]) -> int:
        if alternatives in self.known:
            return self.known[alternatives]
        if len(alternatives) > MAX_ALTERNATIVES:
            raise UnsupportedModel(
                f"a regular expression of {len(alternatives)} alternatives; edgekit takes {MAX_ALTERNATIVES}"
            )
        starts = []
        first = [0] * 256
        for i, sequence in enumerate(alternatives):
            starts.append(len(self.instructions))
            self.emit(sequence, can_fail_after=False)
            self.instructions.append((MATCH, 0, 0, 0, 0, 0))
            ascii_members, beyond = first_characters(sequence)
            for byte in range(256):
                if (ascii_members >> byte & 1) if byte < 128 else beyond:
                    first[byte] |= 1 << i
        self.patterns.append((starts, first))
        self.known[alternatives] = len(self.patterns) - 1
        return len(self.patterns) - 1

    def emit(self, sequence: tuple[Node, ...], can_fail_after: bool) -> None:
        for i, node in enumerate(sequence):
            can_fail = can_fail_after or any(fallible(rest) for rest in sequence[i + 1 :])
            match node:
                case Run(char_class, low, high, possessive):
                    backtrack = int(can_fail and not possessive and low != high)
                    self.instructions.append((RUN, self.number(char_class), low, high, backtrack, 0))
                case Look(char_class, negative):
                    self.instructions.append(
                        (NOT_AHEAD if negative else AHEAD, self.number(char_class), 0, 0, 0, 0)
                    )
                case Group(alternatives, optional):
                    branches = alternatives + (((),) if optional else ())
                    jumps = []
                    for k, branch in enumerate(branches):
                        last = k == len(branches) - 1
                        split = len(self.instructions)
                        if not last:
                            self.instructions.append((SPLIT, 0, 0, 0, 0, 0))
                        self.emit(branch, can_fail)
                        if not last:
                            jumps.append(len(self.instructions))
                            self.instructions.append((JUMP, 0, 0, 0, 0, 0))
                            self.instructions[split] = (SPLIT, 0, 0, 0, 0, len(self.instructions))
                    for jump in jumps:
                        self.instructions[jump] = (JUMP, 0, 0, 0, 0, len(self.instructions))

    def number(self, char_class: CharClass) -> int:
        return self.classes.setdefault(char_class, len(self.classes))

    def sections(self) -> dict[str, NDArray[Any]]:
        ranges: list[tuple[int, int]] = []
        classes = np.zeros(len(self.classes), CLASS)
        for row, char_class in zip(classes, self.classes, strict=True):
            members = char_class.ascii_members()
            row["ascii"] = [members >> shift & 0xFFFFFFFF for shift in (0, 32, 64, 96)]
            row["categories"], row["negated"] = char_class.categories, char_class.negated
            row["first_range"], row["range_count"] = len(ranges), len(char_class.ranges)
            ranges += char_class.ranges
        patterns = np.zeros(len(self.patterns), PATTERN)
        for row, (starts, first) in zip(patterns, self.patterns, strict=True):
            row["alternative_count"] = len(starts)
            row["alternatives"][: len(starts)] = starts
            row["first"] = first
        return {
            "patterns": patterns,
            "instructions": np.array(self.instructions, INSTRUCTION),
            "char_classes": classes,
            "char_ranges": np.array(ranges, RANGE),
        }


def fallible(node: Node) -> bool:
    match node:
        case Run(_, low, _, _):
            return low > 0
        case Look():
            return True
        case Group(alternatives, optional):
            return not optional and all(any(fallible(n) for n in branch) for branch in alternatives)


def nullable(sequence: tuple[Node, ...]) -> bool:
    return all(
        isinstance(node, Look)
        or (isinstance(node, Run) and node.min == 0)
        or (
            isinstance(node, Group)
            and (node.optional or any(nullable(branch) for branch in node.alternatives))
        )
        for node in sequence
    )


def first_characters(sequence: tuple[Node, ...]) -> tuple[int, bool]:
    """-> (ASCII characters that the sequence can start with, whether others too), or more."""
    members, beyond = 0, False
    for node in sequence:
        if isinstance(node, Run):
            members |= node.char_class.ascii_members()
            beyond |= node.char_class.reaches_beyond_ascii()
        elif isinstance(node, Group):
            for branch in node.alternatives:
                branch_members, branch_beyond = first_characters(branch)
                members |= branch_members
                beyond |= branch_beyond
        if not nullable((node,)):
            break
    return members, beyond
