"""The arrays of a compiled tokenizer that are used in place: hash tables, tries, offsets.

They mirror cpp/src/text/vocabulary.h, bpe.cpp and tokenizer_layout.h, the hash functions bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import UnsupportedModel

HASH_SEED = np.uint64(0x9E3779B97F4A7C15)
HASH_FACTOR = np.uint64(0xD6E8FEB86659FD93)
OFFSETS_BLOCK = 32
VOCAB_ID_BITS = 20
VOCAB_EMPTY = 0xFFFFFFFF
NO_RANK = np.int64(1 << 40)
# Longer tokens (runs of spaces, rulers) are left to the merge loop.
LONGEST_WHOLE = 48

MERGE_RUN = np.dtype([("place", "<u4"), ("rank", "<u4")])
TRIE_NODE = np.dtype(
    [("first_child", "<u4"), ("child_count", "<u2"), ("label", "u1"), ("reserved", "u1"), ("value", "<i4")]
)


def offsets(sizes: NDArray[np.int64], of: str) -> tuple[NDArray[np.uint32], NDArray[np.uint16]]:
    """The `n + 1` rising numbers between things of these sizes, as bases of blocks and what is added. `of`
    says in an error what is too large. Raises UnsupportedModel.
    """
    starts = np.concatenate([[0], np.cumsum(sizes)])
    base = starts[::OFFSETS_BLOCK]
    beside = starts - np.repeat(base, OFFSETS_BLOCK)[: len(starts)]
    if beside.max() > 0xFFFF or base[-1] > 0xFFFFFFFF:
        first = int(beside.argmax()) // OFFSETS_BLOCK * OFFSETS_BLOCK
        raise UnsupportedModel(
            f"a tokenizer whose tokens {first} to {first + OFFSETS_BLOCK - 1} have more than 65535 {of}"
        )
    return base.astype("<u4"), beside.astype("<u2")


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


def vocab_table(texts: Sequence[bytes], ids: Sequence[int]) -> tuple[NDArray[np.uint32], int]:
    """-> (table, slots) that finds the id of each text."""
    slots = 2 * len(texts) + 1
    hashes = hash_texts(texts)
    at, size = place(hashes, slots)
    table = np.full(size, VOCAB_EMPTY, "<u4")
    table[at] = hashes.astype(np.uint32) << np.uint32(VOCAB_ID_BITS) | np.array(ids, np.uint32)
    return table, slots


def merge_tables(
    left_bytes: NDArray[np.int64], result: NDArray[np.int64], vocab_size: int
) -> dict[str, NDArray[Any]]:
    """The sections of merges, given by rank: the bytes of their left parts, and the tokens they make."""
    order = np.argsort(result, kind="stable")
    width = "u1" if left_bytes.max(initial=0) < 256 else "<u2"
    if left_bytes.max(initial=0) > 0xFFFF:
        raise UnsupportedModel(f"a tokenizer with a token of over {left_bytes.max()} bytes")
    base, offset = offsets(np.bincount(result, minlength=vocab_size), "merges")
    places = np.flatnonzero(np.diff(order, prepend=-2) != 1)
    runs = np.zeros(len(places), MERGE_RUN)
    runs["place"], runs["rank"] = places, order[places]
    return {
        "merge_left": left_bytes[order].astype(width),
        "merge_base": base,
        "merge_offset": offset,
        "merge_runs": runs,
    }


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
