"""How byte-level tokenizers cut text into words: llama.cpp's name (`tokenizer.ggml.pre`) -> `PreType`.

Where llama.cpp's own expression only stands in for the tokenizer's, here is the tokenizer's. Names are
missing whose rule is no regular expression (kimi-k2, afmoe, superbpe, tiny_aya), whose tokens are not bytes
(gemma4, sarvam-moe, whitespace), and a few of families that edgekit does not read.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.converters.text.tokenizer_steps import BYTE_LEVEL_REGEX


@dataclass(frozen=True)
class PreType:
    """`patterns` cut one after another, each what the one before left. `ignore_merges`: a word that is a
    token needs no merges. `add_bos`: what holds where a file does not say.
    """

    patterns: tuple[str, ...]
    ignore_merges: bool = False
    add_bos: bool = False


CASES = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_ENDS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|" + _ENDS
_LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+|"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_START = r"[^\r\n\p{L}\p{N}]?"
_CAMEL = rf"{_START}{_UPPER}*{_LOWER}+CASES|{_START}{_UPPER}+{_LOWER}*CASES|"
_CAMEL_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + _ENDS
_HAN_AND_KANA = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
_PUNCTUATED = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"""
    r" ?[\p{P}\p{S}]+"
)
_NOT_PUNCTUATION = " ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"

DIGITS = r"\p{N}"
LLAMA3 = f"{CASES}|{_LETTERS}" + r"\p{N}{1,3}" + _TAIL
QWEN2 = f"{CASES}|{_LETTERS}" + DIGITS + _TAIL
QWEN35 = QWEN2.replace(r"\p{L}+|", r"[\p{L}\p{M}]+|").replace(r"[^\s\p{L}\p{N}]", r"[^\s\p{L}\p{M}\p{N}]")
GPT4O = _CAMEL.replace("CASES", f"{CASES}?") + r"\p{N}{1,3}" + _CAMEL_TAIL
TEKKEN = _CAMEL.replace("CASES", "") + DIGITS + _CAMEL_TAIL
YOUTU = (
    "[\uac00-\ud7a3\u3131-\u318e]+|[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c"
    "\u3001-\u303f\ufe30-\ufe4f]+|[\u3105-\u312f]+|" + _HAN_AND_KANA
)

# (names, the one to write first; what they mean). Several rows may share patterns: the flags differ.
_ROWS: tuple[tuple[str, PreType], ...] = (
    (
        "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
        PreType((LLAMA3,), ignore_merges=True, add_bos=True),
    ),
    ("dbrx smaug-bpe chatglm-bpe", PreType((LLAMA3,))),
    ("glm4 glm5", PreType((LLAMA3,), ignore_merges=True)),
    (
        "qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2",
        PreType((QWEN2,)),
    ),
    ("qwen35", PreType((QWEN35,))),
    (
        "gpt-2 phi-2 mpt olmo jais trillion granite-docling gigachat a.x-4.0 mellum exaone4 modern-bert"
        " roberta-bpe jina-es jina-de jina-v1-en jina-v2-es jina-v2-de jina-v2-code",
        PreType((BYTE_LEVEL_REGEX,)),
    ),
    (
        "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2",
        PreType((DIGITS, BYTE_LEVEL_REGEX)),
    ),
    ("tekken", PreType((TEKKEN,), ignore_merges=True, add_bos=True)),
    ("gpt-4o llama4 kanana2 talkie minimax-m2", PreType((GPT4O,))),
    ("youtu", PreType((YOUTU, GPT4O.replace(r"\p{N}{1,3}", DIGITS)), ignore_merges=True)),
    (
        "deepseek-v3 hunyuan-dense joyai-llm hy_v4",
        PreType((r"\p{N}{1,3}", _HAN_AND_KANA, f"{_PUNCTUATED}[\r\n]*|{_ENDS}")),
    ),
    (
        "spark2_5",
        PreType((r"\p{N}{1,3}", _HAN_AND_KANA, _PUNCTUATED + r"|[\r\n]|\s+(?!\S)|\s+", DIGITS)),
    ),
    (
        "deepseek-coder",
        PreType(
            (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+", DIGITS)
        ),
    ),
    ("falcon", PreType((r"[\p{P}\$\+<=>\^~\|`]+", BYTE_LEVEL_REGEX, "[0-9][0-9][0-9]"))),
    ("default", PreType((r"[\p{P}\$\+<=>\^~\|]+", BYTE_LEVEL_REGEX, r"\p{N}+", "[0-9][0-9][0-9]"))),
    ("bloom poro-chat gpt3-finnish", PreType((_NOT_PUNCTUATION,))),
    ("viking", PreType((_NOT_PUNCTUATION, DIGITS))),
    (
        "bailingmoe bailingmoe2 llada-moe",
        PreType((QWEN2.replace(CASES, "'(?i:[sdmt]|ll|ve|re)").replace(r"\s*[\r\n]+", r"\s*[\r\n]"),)),
    ),
    ("seed-coder", PreType((QWEN2.replace(r"[^\s\p{L}\p{N}]+[\r\n]*", r"[^\s\p{L}\p{N}\r\n]+"),))),
    ("ufakzeka", PreType((QWEN2.removeprefix(f"{CASES}|"),))),
    ("laguna", PreType((r"[^\n]+|[\n]+", QWEN2))),
    (
        "minicpm5",
        PreType((r"\p{N}{1,3}", LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}+")), ignore_merges=True),
    ),
)
BY_NAME = {name: meaning for names, meaning in _ROWS for name in names.split()}


def name_of(patterns: tuple[str, ...], ignore_merges: bool) -> str | None:
    """llama.cpp's name for a way of cutting, if it has one; one with the other flag rather than none."""
    same = [(names.split()[0], meaning) for names, meaning in _ROWS if meaning.patterns == patterns]
    fitting = [name for name, meaning in same if meaning.ignore_merges == ignore_merges]
    return next(iter([*fitting, *(name for name, _ in same)]), None)
