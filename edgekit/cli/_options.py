"""Options that several verbs share."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgekit.errors import InvalidFile, UsageError

if TYPE_CHECKING:
    from edgekit.model import Model

Function = TypeVar("Function", bound=Callable[..., Any])
Decorator = Callable[[Function], Function]


_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_DECIMAL_UNITS = {"K": 10**3, "M": 10**6, "G": 10**9}


class Size(click.ParamType[int]):
    """Bytes: "256MiB", "1.5GB", "65536"."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?)(i?)B?", value.strip(), re.IGNORECASE)
        if match is None:
            self.fail(f"{value!r} is no size; write for example 256MiB, 1.5GB or 65536", param, ctx)
        number, unit, binary = match[1], match[2].upper(), match[3]
        decimal = unit and not binary and value.strip().upper().endswith("B")
        return int(float(number) * (_DECIMAL_UNITS if decimal else _UNITS)[unit])


def _all(*options: Callable[[Any], Any]) -> Decorator[Any]:
    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")

threads_option = click.option(
    "--threads", type=click.IntRange(1, 64), metavar="N", help="Threads; the engine chooses by default."
)

cache_options = _all(
    click.option("--window", type=click.IntRange(1), metavar="N", help="Recent tokens kept in the cache."),
    click.option(
        "--sinks",
        type=click.IntRange(0),
        metavar="N",
        help="First tokens kept for ever; by default 4, and a conversation's system prompt.",
    ),
    click.option(
        "--kv",
        type=click.Choice(["auto", "f32", "f16", "int8", "int4"]),
        default="auto",
        show_default=True,
        help="How keys and values are stored.",
    ),
    click.option(
        "--memory-budget",
        type=Size(),
        metavar="SIZE",
        help="Bytes a session may allocate (256MiB); chooses window and kv to fit.",
    ),
)

session_options = _all(
    cache_options,
    click.option(
        "--on-full",
        type=click.Choice(["evict", "stop", "error"]),
        default="evict",
        show_default=True,
        help="When the cache is full: let the oldest tokens go, end the text, or fail.",
    ),
    threads_option,
    click.option("--isa", metavar="NAME", help="Instruction set to use (avx2, neon, …) instead of the best."),
    click.option(
        "--backend",
        type=click.Choice(["auto", "coreai", "coreml", "cpu", "gpu", "llama_cpp", "mlx", "onnx"]),
        default="auto",
        show_default=True,
        help="Engine that runs the model; auto: edgekit's own, or ONNX Runtime for a directory of its.",
    ),
)

sampling_options = _all(
    click.option(
        "--temperature", type=click.FloatRange(0), metavar="T", help="0 always takes the likeliest token."
    ),
    click.option(
        "--top-k", type=click.IntRange(0), metavar="K", help="Sample from the K likeliest; 0: from all."
    ),
    click.option(
        "--top-p", type=click.FloatRange(0, 1), metavar="P", help="Sample from the likeliest with mass P."
    ),
    click.option(
        "--min-p",
        type=click.FloatRange(0, 1),
        metavar="P",
        help="Drop tokens less likely than P times the likeliest.",
    ),
    click.option(
        "--typical-p", type=click.FloatRange(0, 1), metavar="P", help="Locally typical sampling; 1: off."
    ),
    click.option(
        "--repetition-penalty", type=float, metavar="X", help="Divide the logits of recent tokens; 1: off."
    ),
    click.option(
        "--presence-penalty", type=float, metavar="X", help="Subtract from recent tokens, once; 0: off."
    ),
    click.option(
        "--frequency-penalty", type=float, metavar="X", help="Subtract for each occurrence; 0: off."
    ),
    click.option(
        "--seed",
        type=click.IntRange(0, 2**64 - 1),
        metavar="S",
        help="Same seed, same text; random by default.",
    ),
    click.option("--stop", multiple=True, metavar="TEXT", help="End the text before TEXT; may be repeated."),
    click.option(
        "--speculation", type=click.IntRange(0, 7), metavar="N", help="Longest prompt-lookup draft; 0: off."
    ),
)

SAMPLING = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "stop",
    "speculation",
)


def open_model(name: str, options: Mapping[str, Any]) -> Model:
    """The model called `name`, fetched and packed when it has to be, in the engine that runs it."""
    from edgekit.cli import _output
    from edgekit.model import Model

    with _output.progress() as progress:
        opened = Model(
            name, options["threads"], options["isa"], backend=options["backend"], progress=progress
        )
    if opened.relayed:
        _output.note(f"note: the processor computes: {opened.relayed}")
    return opened


def session(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `Model.session`."""
    return {name: options[name] for name in ("window", "sinks", "kv", "memory_budget", "on_full")}


def sampling(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `Session.generate` that the user gave."""
    return {name: options[name] for name in SAMPLING if options[name] is not None}


def text_argument(value: str) -> str:
    """A prompt from the command line. Raises UsageError when it is not UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"the prompt is not valid UTF-8 (byte {error.start}); give it in UTF-8, or in a file"
        ) from None
    return value


def read_stdin() -> str:
    """All of stdin as text. Raises InvalidFile when it is not UTF-8."""
    return decode(sys.stdin.buffer.read(), "stdin")


def decode(data: bytes, what: str | Path) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidFile(
            f"{what} is not valid UTF-8 (byte {error.start} is 0x{data[error.start]:02x})"
        ) from None
