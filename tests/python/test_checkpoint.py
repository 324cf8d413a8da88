"""The checkpoint reader: what it reads, and what it refuses."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.converters.checkpoint import Checkpoint, read_header
from edgekit.converters.spec import Source
from edgekit.errors import InvalidFile

Entry = dict[str, Any]


def write(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    """A safetensors file, or something that claims to be one: `header` as bytes is written as it is."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def entry(dtype: str, shape: list[int], begin: int, end: int) -> Entry:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def checkpoint(
    directory: Path, tensors: dict[str, tuple[str, np.ndarray]], file: str = "model.safetensors"
) -> Path:
    header, data = {}, b""
    for name, (dtype, values) in tensors.items():
        header[name] = entry(dtype, list(values.shape), len(data), len(data) + values.nbytes)
        data += values.tobytes()
    (directory / "config.json").write_text('{"model_type": "llama"}')
    write(directory / file, header, data)
    return directory


VALUES = np.array([[1.5, -2.0, 0.375], [0.0, 3e4, -0.0078125]])
BFLOAT16 = (VALUES.astype("<f4").view("<u4") >> 16).astype("<u2")


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [("F32", VALUES.astype("<f4")), ("F16", VALUES.astype("<f2")), ("F64", VALUES), ("BF16", BFLOAT16)],
)
def test_reads_each_float_type_and_rows(tmp_path: Path, dtype: str, bits: np.ndarray) -> None:
    reader = Checkpoint(checkpoint(tmp_path, {"first": ("F64", np.ones(3)), "w": (dtype, bits)}))
    expected = VALUES.astype("<f2").astype(np.float32) if dtype == "F16" else VALUES.astype(np.float32)
    if dtype == "BF16":
        expected = (bits.astype(np.uint32) << 16).view(np.float32)
    assert reader.names() == ["first", "w"]
    assert reader.info("w") == (dtype, (2, 3))
    assert reader.read("w").dtype == np.float32
    np.testing.assert_array_equal(reader.read("w"), expected)
    np.testing.assert_array_equal(reader.read("w", (1, 2)), expected[1:])
    raw_type, raw = reader.read_raw("w")
    assert raw_type == dtype
    np.testing.assert_array_equal(raw, bits)


def test_source_slices_reshapes_and_adds(tmp_path: Path) -> None:
    reader = Checkpoint(checkpoint(tmp_path, {"w": ("F32", np.arange(12, dtype="<f4").reshape(4, 1, 3))}))
    read = reader.source(Source("w", rows=(1, 3), add=1.0, shape=(2, 3)))
    np.testing.assert_array_equal(read, np.arange(3, 9, dtype=np.float32).reshape(2, 3) + 1)


def test_shards_and_a_single_file_read_alike(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    sharded = tmp_path / "shards"
    values = {name: ("F32", np.full((2, 2), i, "<f4")) for i, name in enumerate("ab")}
    for name in "ab":
        checkpoint(sharded, {name: values[name]}, f"{name}.safetensors")
    index = {"weight_map": {name: f"{name}.safetensors" for name in "ab"}}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    reader = Checkpoint(sharded)
    assert reader.names() == ["a", "b"]
    assert reader.read("b")[0, 0] == 1
    single = Checkpoint(checkpoint(tmp_path, values, "other.safetensors") / "other.safetensors")
    assert single.names() == ["a", "b"]
    assert single.path == tmp_path
    assert len(single.sha256()) == 64 and single.sha256() != reader.sha256()

    (sharded / "b.safetensors").unlink()
    with pytest.raises(InvalidFile, match=r"1 of 2 shards are missing: b\.safetensors"):
        Checkpoint(sharded)
    index["weight_map"]["b"] = "a.safetensors"
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    assert Checkpoint(sharded).names() == ["a"]  # what is missing, only a family can say


@pytest.mark.parametrize("shard", ["../a.safetensors", "/etc/passwd", "sub/a.safetensors", "..", "", "a\\b"])
def test_shards_outside_the_directory_are_refused(tmp_path: Path, shard: str) -> None:
    checkpoint(tmp_path, {"a": ("F32", np.ones(1, "<f4"))}, "a.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(InvalidFile, match="not a file name in the checkpoint's directory"):
        Checkpoint(tmp_path)


def test_the_same_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    for name in ("x", "y"):
        checkpoint(
            tmp_path,
            {"a": ("F32", np.ones(1, "<f4")), name: ("F32", np.ones(1, "<f4"))},
            f"{name}.safetensors",
        )
    index = {"weight_map": {"a": "x.safetensors", "x": "x.safetensors", "y": "y.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InvalidFile, match=r"'a' is in both x\.safetensors and y\.safetensors"):
        Checkpoint(tmp_path)


F32_PAIR = entry("F32", [2], 0, 8)
HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty file": (lambda p: p.write_bytes(b""), "the header should take 0 bytes, the file has 0"),
    "header of 2^63 bytes": (lambda p: write(p, {}, length=1 << 63), "9223372036854775808 bytes"),
    "header of 2^64 - 1 bytes": (lambda p: write(p, {}, length=(1 << 64) - 1), "18446744073709551615 bytes"),
    "header cut short": (lambda p: write(p, b'{"a": ', length=100), "should take 100 bytes"),
    "not JSON": (lambda p: write(p, b"[[[["), "not valid JSON"),
    "not UTF-8": (lambda p: write(p, b'{"\xff": 1}'), "not valid JSON"),
    "deep nesting": (lambda p: write(p, b"[" * 100000), "not valid JSON"),
    "an array": (lambda p: write(p, []), "a JSON object is expected, not list"),
    "duplicate name": (
        lambda p: write(p, b'{"a": %b, "a": %b}' % ((json.dumps(F32_PAIR).encode(),) * 2), bytes(8)),
        "'a' appears twice",
    ),
    "data cut short": (lambda p: write(p, {"a": F32_PAIR}, bytes(7)), "ends at byte 8 of 7"),
    "bytes too many": (lambda p: write(p, {"a": F32_PAIR}, bytes(9)), "1 bytes after the last tensor"),
    "overlap": (lambda p: write(p, {"a": F32_PAIR, "b": entry("F32", [2], 4, 12)}, bytes(12)), "overlaps"),
    "hole": (
        lambda p: write(p, {"a": F32_PAIR, "b": entry("F32", [1], 12, 16)}, bytes(16)),
        "hole of 4 bytes",
    ),
    "misaligned": (
        lambda p: write(p, {"a": entry("U8", [1], 0, 1), "b": entry("F32", [1], 1, 5)}, bytes(5)),
        "misaligned, at byte 1",
    ),
    "shape and bytes differ": (lambda p: write(p, {"a": entry("F32", [3], 0, 8)}, bytes(8)), "in 8 bytes"),
    "shape that overflows": (
        lambda p: write(p, {"a": entry("F32", [1 << 62, 1 << 62], 0, 8)}, bytes(8)),
        "in 8 bytes",
    ),
    "unknown type": (lambda p: write(p, {"a": entry("F128", [1], 0, 16)}, bytes(16)), "unknown type 'F128'"),
    "type of a wrong kind": (lambda p: write(p, {"a": entry(["F32"], [1], 0, 4)}, bytes(4)), "unknown type"),  # type: ignore[arg-type]
    "negative size": (lambda p: write(p, {"a": entry("F32", [-2], 0, 8)}, bytes(8)), "malformed"),
    "offsets reversed": (lambda p: write(p, {"a": entry("F32", [0], 8, 0)}, bytes(8)), "malformed"),
    "fractional size": (lambda p: write(p, {"a": entry("F32", [2.0], 0, 8)}, bytes(8)), "malformed"),  # type: ignore[list-item]
    "true as a size": (lambda p: write(p, {"a": entry("F32", [True], 0, 4)}, bytes(4)), "malformed"),
    "one offset": (
        lambda p: write(p, {"a": {"dtype": "F32", "shape": [], "data_offsets": [0]}}),
        "malformed",
    ),
    "no shape": (lambda p: write(p, {"a": {"dtype": "F32", "data_offsets": [0, 4]}}, bytes(4)), "malformed"),
    "entry is a number": (lambda p: write(p, {"a": 3}), "malformed"),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_hostile_headers_are_refused_with_what_is_wrong(tmp_path: Path, attack: str) -> None:
    make, message = HOSTILE[attack]
    path = tmp_path / "model.safetensors"
    make(path)
    with pytest.raises(InvalidFile, match=message) as caught:
        read_header(path)
    assert "model.safetensors" in str(caught.value)
    assert caught.value.exit_code == 4


def test_a_file_cut_at_any_byte_is_refused(tmp_path: Path) -> None:
    whole = checkpoint(tmp_path, {"a": ("F32", np.ones((2, 3), "<f4"))}) / "model.safetensors"
    content = whole.read_bytes()
    for length in range(len(content)):
        whole.write_bytes(content[:length])
        with pytest.raises(InvalidFile):
            Checkpoint(tmp_path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_unless_unchecked(tmp_path: Path, bad: float) -> None:
    values = np.ones((3, 3), "<f4")
    values[1, 2] = bad
    checkpoint(tmp_path, {"w": ("F32", values)})
    with pytest.raises(InvalidFile, match="'w' has NaN or infinite values"):
        Checkpoint(tmp_path).read("w")
    np.testing.assert_array_equal(Checkpoint(tmp_path, check=False).read("w"), values)


def test_a_float64_beyond_float32_is_refused(tmp_path: Path) -> None:
    checkpoint(tmp_path, {"w": ("F64", np.array([1e300]))})
    with pytest.raises(InvalidFile, match="as float32"):
        Checkpoint(tmp_path).read("w")


def test_integers_and_8_bit_floats_are_no_weights(tmp_path: Path) -> None:
    checkpoint(tmp_path, {"i": ("I32", np.ones(2, "<i4")), "q": ("F8_E4M3", np.ones(2, "u1"))})
    for name in "iq":
        with pytest.raises(InvalidFile, match="has type"):
            Checkpoint(tmp_path).read(name)
    assert Checkpoint(tmp_path).read_raw("i")[1].tolist() == [1, 1]


def test_missing_pieces_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="checkpoint not found"):
        Checkpoint(tmp_path / "nowhere")
    with pytest.raises(InvalidFile, match=r"config\.json: No such file"):
        Checkpoint(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(InvalidFile, match="no weights") as caught:
        Checkpoint(tmp_path)
    assert caught.value.hint is not None and "safetensors" in caught.value.hint
    reader = Checkpoint(checkpoint(tmp_path, {"a": ("F32", np.ones(1, "<f4"))}))
    with pytest.raises(InvalidFile, match="no tensor named 'b'"):
        reader.read("b")
    with pytest.raises(InvalidFile, match=r"rows 0\.\.2"):
        reader.read("a", (0, 2))


def test_memory_stays_bounded(tmp_path: Path) -> None:
    """Reading a large tensor slice by slice allocates no more than slices."""
    import tracemalloc

    rows, width = 4096, 1024
    header = {"w": entry("BF16", [rows, width], 0, rows * width * 2)}
    write(tmp_path / "model.safetensors", header, bytes(rows * width * 2))
    (tmp_path / "config.json").write_text("{}")
    reader = Checkpoint(tmp_path)
    tracemalloc.start()
    for begin in range(0, rows, 64):
        reader.read("w", (begin, begin + 64))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 64 * width * 4
