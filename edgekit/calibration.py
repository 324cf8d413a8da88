"""What `convert` learns of a model from a text, before codes are chosen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgekit import hub
from edgekit.converters.calibrate import Calibrated, gptq, second_moments
from edgekit.converters.calibrate.store import Store
from edgekit.converters.convert import ConvertInput, Progress, silent
from edgekit.converters.quant.grid import Grid
from edgekit.converters.text.corpus import Document, documents, pieces
from edgekit.errors import TemplateError, UnsupportedModel, UsageError
from edgekit.text import ChatTemplate, Tokenizer

BUILT_IN = Path(second_moments.__file__).with_name("text.jsonl")
PIECE = 256  # tokens read from an empty cache
TOKENS = 8192
GRADIENT_TOKENS = 1024
ENDS = ("embed", "head", "ple_embed")
LEFT_BY_GPTQ = 0.35  # of the harm that the nearest codes do, in bodies of two small models
EXACT_BITS = 8  # of a code: from here on it does not matter which is chosen


@contextmanager
def calibrated(
    model: ConvertInput,
    grids: Mapping[str, Grid],
    texts: Sequence[Path] | None = (),
    seed: int = 0,
    tune: int = 0,
    progress: Progress = silent,
) -> Iterator[ConvertInput]:
    """The model with what a text says about its matrices that get codes of less than 8 bits. With `texts`
    their codes are chosen by GPTQ, and scales then tuned on `tune` tokens of them, by torch; without, the
    built-in text weighs the errors of each column. The model itself where `texts` is None, where there are no
    such matrices, and where it has no tokenizer for the built-in text.

    Chosen codes lie in edgekit's cache until all was done with them: after a kill the same call goes on from
    there. Raises UsageError for texts without tokens or use, UnsupportedModel without a tokenizer,
    InvalidFile, TemplateError.
    """
    chosen = {
        name: grid for name, grid in grids.items() if grid.bits < EXACT_BITS and not model.keeps(name, grid)
    }
    if texts and not chosen:
        raise UsageError(
            "a text chooses codes of less than 8 bits; no matrix gets any but those of the checkpoint",
            hint="take a scheme of fewer bits, or leave the text out",
        )
    if texts is None or not chosen or not (texts or model.tokenizer):
        yield model
        return
    ids = token_pieces(model, texts or (BUILT_IN,), TOKENS, seed, strict=bool(texts))
    record: dict[str, Any] = {
        "algorithm": "gptq" if texts else "second moments",
        "texts": [path.name for path in texts] or ["built-in"],
        "tokens": sum(map(len, ids)),
        "seed": seed,
    }
    metadata = {**model.metadata, "calibration": record}
    if not texts:
        moments = second_moments.measure(model, ids, progress)
        yield replace(model, metadata=metadata, calibration=Calibrated(moments))
        return
    source = model.metadata["source"]["sha256"]
    key = json.dumps([version("edgekit"), source, ids, {name: str(grid) for name, grid in chosen.items()}])
    folder = hub.home() / "calibrated"
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(folder / hashlib.sha256(key.encode()).hexdigest()[:32])
    with hub.only_one(store.folder.with_suffix(".lock")):
        found = Calibrated(gptq.choose(model, chosen, ids, store, progress), store)
        if tune:
            more = token_pieces(model, texts, tune, seed)
            state = store.folder / "tuning"
            found, record["tuned"] = _tuned(model, found, chosen, more, state, progress)
        yield replace(model, metadata=metadata, calibration=found)
        store.remove()


def _tuned(
    model: ConvertInput,
    found: Calibrated,
    grids: Mapping[str, Grid],
    ids: Sequence[Sequence[int]],
    state: Path,
    progress: Progress,
) -> tuple[Calibrated, dict[str, Any]]:
    """With scales tuned where that helps; and what to say of it."""
    from edgekit.converters.calibrate.tuning import tune  # needs torch

    state.parent.mkdir(parents=True, exist_ok=True)
    done = tune(replace(model, calibration=found), grids, ids, state=state, progress=progress)
    said = {"tokens": sum(map(len, ids)), "kl_before": done.kl_before, "kl_after": done.kl_after}
    return replace(found, tuned=done.fitted), said


def sensitivities(
    model: ConvertInput, texts: Sequence[Path], seed: int = 0, progress: Progress = silent
) -> dict[str, float] | None:
    """What errors of the nearest codes of each matrix cost once GPTQ has chosen others, as texts tell
    (`converters/calibrate/sensitivity.py`); None without torch, and for models whose layers cannot be run
    one at a time. Raises as `calibrated`.
    """
    if not model.spec.layers_stand_alone:
        return None
    try:
        from edgekit.converters.calibrate import sensitivity
    except UnsupportedModel:
        return None
    found = sensitivity.measure(model, token_pieces(model, texts, GRADIENT_TOKENS, seed), seed, progress)
    least = min(found.values())  # of experts that no token chose
    return {
        name: found.get(name, least) * (1 if name in ENDS else LEFT_BY_GPTQ) for name in model.spec.matrices()
    }


def token_pieces(
    model: ConvertInput, texts: Sequence[Path], tokens: int, seed: int = 0, *, strict: bool = True
) -> list[list[int]]:
    """About `tokens` tokens of texts (plain, or JSONL), in pieces as the model reads them: `seed` says
    which. Conversations that the model's template refuses raise TemplateError, or are left out when not
    `strict`; without a template they are read as plain text.
    """
    if model.tokenizer is None:
        raise UnsupportedModel(
            "the checkpoint has no tokenizer that edgekit reads, so texts say nothing to it"
        )
    tokenizer = Tokenizer.from_bytes(model.tokenizer)
    template = ChatTemplate.from_bytes(model.chat_template) if model.chat_template else None

    def encode(document: Document) -> list[int]:
        if isinstance(document, str):
            ids = tokenizer.encode(document, add_special_tokens=False, parse_special=False)
        elif template is None:
            ids = tokenizer.encode("\n\n".join(str(turn.get("content", "")) for turn in document))
        else:
            try:
                given = {"messages": document, "add_generation_prompt": False}
                ids = template.encode(tokenizer, given, model.metadata.get("special_tokens"))
            except TemplateError:
                if strict:
                    raise
                ids = []
        return [id for id in ids if id < model.spec.vocab_size]

    found = pieces(
        documents(texts),
        encode,
        length=min(PIECE, model.spec.context or PIECE),
        tokens=tokens,
        start=tokenizer.encode(""),
        seed=seed,
    )
    if not found:
        raise UsageError(f"no text to calibrate with in {', '.join(map(str, texts))}; give a longer one")
    return found
