"""Numbers as people read them."""

from __future__ import annotations


def size(count: float) -> str:
    """12345678 -> "11.8 MiB"."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"


def quantity(count: int) -> str:
    """1235814400 -> "1.24 B"."""
    for unit, scale in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if count >= scale:
            return f"{count / scale:.2f} {unit}"
    return str(count)


def number(value: float) -> str:
    """Four digits, and no exponent."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
