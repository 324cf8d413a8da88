"""The arrays of a compiled tokenizer that are used in place: hash tables, tries, packed texts.

They mirror cpp/src/text/vocabulary.h, bpe.cpp and tokenizer_layout.h, the hash functions bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

HASH_SEED = np.uint64(0x9E3779B97F4A7C15)
HASH_FACTOR = np.uint64(0xD6E8FEB86659FD93)
EMPTY_MERGE = np.uint64(0xFFFFFFFFFFFFFFFF)
NO_RANK = np.int64(1 << 40)
# Longer tokens (runs of spaces, rulers) are left to the merge loop.
LONGEST_WHOLE = 48

VOCAB_ENTRY = np.dtype([("tag", "<u4"), ("id", "<i4")])
TRIE_NODE = np.dtype(
    [("first_child", "<u4"), ("child_count", "<u2"), ("label", "u1"), ("reserved", "u1"), ("value", "<i4")]
)


def pack(texts: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """-> (all texts joined, the n + 1 offsets between them)."""
    starts = np.zeros(len(texts) + 1, "<u4")
    np.cumsum([len(text) for text in texts], out=starts[1:])
    return np.frombuffer(b"".join(texts), np.uint8), starts


def hash_texts(texts: Sequence[bytes]) -> NDArray[np.uint64]:
    """`hash_text` of vocabulary.h, of many texts at once."""
    sizes = np.array([len(text) for text in texts], np.uint64)
    rounds = np.maximum((sizes.astype(np.int64) + 7) // 8, 1)
    hashes: NDArray[np.uint64] = np.multiply(HASH_SEED, sizes + np.uint64(1), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for i in range(int(rounds.max(initial=1))):
            live = np.flatnonzero(rounds > i).tolist()
            words = b"".join(texts[k][8 * i : 8 * i + 8].ljust(8, b"\0") for k in live)
            h = (hashes[live] ^ np.frombuffer(words, "<u8")) * HASH_FACTOR
            hashes[live] = h ^ (h >> np.uint64(29))
    return hashes


def place(hashes: NDArray[np.uint64], slots: int) -> tuple[NDArray[np.int64], int]:
    """Linear probing without wrap-around. -> (the entry of each hash, entries of the table with an empty
    last).
    """
    home = ((hashes >> np.uint64(32)) * np.uint64(slots) >> np.uint64(32)).astype(np.int64)
    order = np.argsort(home, kind="stable")
    rising = np.arange(len(home))
    at = np.empty_like(home)
    at[order] = np.maximum.accumulate(home[order] - rising) + rising if len(home) else 0
    return at, max(slots, int(at.max(initial=-1)) + 1) + 1


def vocab_table(texts: Sequence[bytes], ids: Sequence[int]) -> tuple[NDArray[np.void], int]:
    """-> (table, slots) that finds the id of each text."""
    slots = 2 * len(texts) + 1
    hashes = hash_texts(texts)
    at, size = place(hashes, slots)
    table = np.zeros(size, VOCAB_ENTRY)
    table["id"] = -1
    table["tag"][at] = hashes.astype(np.uint32)
    table["id"][at] = ids
    return table, slots


def merge_table(left: NDArray[np.int64], right: NDArray[np.int64]) -> tuple[NDArray[np.uint64], int]:
    """-> (table, slots) that finds the rank (the index) of each pair of ids; pairs must be distinct."""
    slots = 2 * len(left) + 1
    keys = (left << 20 | right).astype(np.uint64)
    with np.errstate(over="ignore"):
        at, size = place(keys * HASH_FACTOR, slots)
    table = np.full(size, EMPTY_MERGE, "<u8")
    table[at] = keys << np.uint64(24) | np.arange(len(left), dtype=np.uint64)
    return table, slots


def whole_tokens(
    symbols: Mapping[int, Sequence[int]],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    result: NDArray[np.int64],
) -> set[int]:
    """The tokens that byte-pair encoding of their own text gives back. `symbols`: token -> its first ids."""
    keys = left << 20 | right
    order = np.argsort(keys)
    keys = keys[order]
    found = {token for token, start in symbols.items() if len(start) == 1 and start[0] == token}
    by_length: dict[int, list[int]] = {}
    for token, start in symbols.items():
        if 1 < len(start) <= LONGEST_WHOLE:
            by_length.setdefault(len(start), []).append(token)
    if not len(keys):
        return found
    for length, tokens in by_length.items():
        names = np.array(tokens)
        rows = np.array([symbols[token] for token in tokens], np.int64)
        for remaining in range(length, 1, -1):
            pairs = rows[:, :-1] << 20 | rows[:, 1:]
            at = np.minimum(np.searchsorted(keys, pairs), len(keys) - 1)
            ranks = np.where(keys[at] == pairs, order[at], NO_RANK)
            best = ranks.argmin(axis=1)
            lowest = np.take_along_axis(ranks, best[:, None], axis=1)[:, 0]
            merges = lowest < NO_RANK
            rows, names, best, lowest = rows[merges], names[merges], best[merges], lowest[merges]
            np.put_along_axis(rows, best[:, None], result[lowest][:, None], axis=1)
            columns = np.arange(remaining - 1)[None, :]
            rows = np.take_along_axis(rows, columns + (columns > best[:, None]), axis=1)
        found.update(names[rows[:, 0] == names].tolist())
    return found


def trie(entries: Mapping[bytes, int]) -> NDArray[np.void]:
    """Nodes breadth first, children sorted by label; empty without entries."""
    if not entries:
        return np.zeros(0, TRIE_NODE)
    keys = sorted(entries)
    nodes: list[tuple[int, int, int, int, int]] = []
    level = [(0, len(keys), 0)]  # the keys of each node of this depth, and its label
    depth = 0
    while level:
        following: list[tuple[int, int, int]] = []
        next_start = len(nodes) + len(level)
        for begin, end, label in level:
            value = entries[keys[begin]] if len(keys[begin]) == depth else -1
            begin += value >= 0
            first_child = next_start + len(following)
            while begin < end:
                byte = keys[begin][depth]
                stop = begin + 1
                while stop < end and keys[stop][depth] == byte:
                    stop += 1
                following.append((begin, stop, byte))
                begin = stop
            nodes.append((first_child, next_start + len(following) - first_child, label, 0, value))
        level = following
        depth += 1
    return np.array(nodes, TRIE_NODE)
