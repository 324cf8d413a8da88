from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli import _options, _output, _wrap, chat
from edgekit.errors import InternalError

if TYPE_CHECKING:
    from edgekit.events import Event
    from edgekit.model import Model, Session


@click.command()
@click.argument("model")
@click.argument("prompt", required=False)
@click.option(
    "-n",
    "--max-tokens",
    type=click.IntRange(0),
    default=512,
    show_default=True,
    metavar="N",
    help="0: until the model ends.",
)
@_options.sampling_options
@_options.session_options
@click.option("--system", metavar="TEXT", help="System message, for models with a chat template.")
@click.option("--raw", is_flag=True, help="Continue PROMPT as it is, without the chat template.")
@click.option("--ids", is_flag=True, help="PROMPT and output are token ids, separated by spaces or commas.")
@click.option("--echo", is_flag=True, help="Print PROMPT before the text.")
@click.option("--ignore-eos", is_flag=True, help="Go on when the model would end.")
@_options.json_option
def command(model: str, prompt: str | None, **options: Any) -> None:
    """Generate text, streamed to the screen.

    MODEL is a .edge file, a URL of one, org/name/file.edge on Hugging Face, or a directory in ONNX format. A
    checkpoint (an MLX or Hugging Face directory, a .gguf file) is packed into the cache first, at 8 bits if
    it is quantized, else at 16; convert it to choose, and to have it verified.

    PROMPT "-" reads stdin; without PROMPT, on a terminal, a chat begins. A model with a chat template gets
    PROMPT as a user's message, unless --raw; any other continues PROMPT.

    Sampling options that are not given are the model's own, or the engine's where it has none.

    \b
    edgekit run model.edge "Why is the sky blue?"
    edgekit run model.edge --raw --temperature 0 -n 200 "Once upon a time"
    git diff | edgekit run model.edge --system "Write a commit message." -
    edgekit run model.edge --memory-budget 256MiB --json "Hello" | jq -r .text
    """
    if prompt is None and not sys.stdin.isatty():
        raise click.UsageError("PROMPT is missing; give one, or - to read stdin")
    text = _options.read_stdin() if prompt == "-" else _options.text_argument(prompt or "")
    with _options.open_model(model, options) as package:
        if prompt is None:
            if not package.has_chat_template or options["raw"] or options["ids"]:
                raise click.UsageError(
                    "PROMPT is missing; a chat needs none, but a chat template, and no --raw or --ids"
                )
            chat.converse(package, options)
            return
        given = _prompt(package, text, options)
        sampling = _options.sampling(options) | {"max_tokens": options["max_tokens"] or math.inf}
        with package.session(**_options.session(options)) as session:
            events = session.generate(given, ignore_eos=options["ignore_eos"], **sampling)
            write = _wrap.Writer().write
            show = (lambda _: None) if options["as_json"] else write
            if options["echo"]:
                show(text)
            result = _stream(events, session, show, as_ids=options["ids"])
            if result["relayed"] and not package.relayed:
                _output.note(f"\nnote: the processor went on: {result['relayed']}")
            if options["as_json"]:
                facts = {"isa": package.isa, "threads": package.threads}
                _output.emit_json(result | facts | {"memory_plan": asdict(session.plan)})
                return
    if sys.stdout.isatty():
        write("\n")
    if sys.stderr.isatty():
        _output.note(
            f"[{result['prompt_tokens']} prompt tokens, {result['prefill_tok_s']:.1f}/s; "
            f"{result['generated_tokens']} generated, {result['decode_tok_s']:.1f}/s; "
            f"ended by {result['finish']}; seed {result['seed']}]"
        )


def _prompt(package: Model, text: str, options: dict[str, Any]) -> Any:
    """What `Session.generate` takes: token ids, messages, or the text as it is."""
    if options["ids"]:
        try:
            return [int(part) for part in text.replace(",", " ").split()]
        except ValueError:
            raise click.UsageError(f"--ids wants numbers, PROMPT is {text!r}") from None
    if package.has_chat_template and not options["raw"]:
        system = [{"role": "system", "content": options["system"]}] if options["system"] else []
        return [*system, {"role": "user", "content": text}]
    if options["system"]:
        raise click.UsageError("--system needs a chat template; without one, put the text into PROMPT")
    return text


def _stream(
    events: Iterator[Event], session: Session, show: Callable[[str], None], *, as_ids: bool
) -> dict[str, Any]:
    """Shows a generation as it comes; what it was, at the end."""
    text: list[str] = []
    tokens: list[int] = []
    evicted = 0
    for event in events:
        if event.kind == "done":
            stats = event.stats
            speed = {"prefill_tok_s": stats.prefill_tok_s, "decode_tok_s": stats.decode_tok_s}
            result = {
                "text": "".join(text),
                "tokens": tokens,
                "finish": event.finish,
                "evicted_tokens": evicted,
                "seed": event.seed,
                "relayed": event.relayed,
            }
            return result | asdict(stats) | speed
        if event.kind == "evicted":
            if not evicted:
                plan = session.plan
                seen = f"the first {plan.sinks} tokens and the last {plan.window}"
                _output.note(f"\nnote: the cache is full; from now on the model sees {seen}")
            evicted += event.count
            continue
        tokens += event.tokens
        piece = "".join(f"{id} " for id in event.tokens) if as_ids else event.text
        text.append(piece)
        show(piece)
    raise InternalError("the generation ended without its last event")
