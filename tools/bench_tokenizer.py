"""Encoding speed beside the `tokenizers` package: one thread, the same texts, turn by turn.

    python tools/bench_tokenizer.py CHECKPOINT_OR_TOKENIZER_JSON... [--turns 7] [--english FILE] [--json]

The faster of the package's `encode` and `encode_batch_fast` counts. Medians over the turns; both are warm.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"
import tokenizers

from edgekit.converters.text.tokenizer import compile_tokenizer
from edgekit.text import Tokenizer

ROOT = Path(__file__).resolve().parent.parent
ENGLISH_WORDS = (
    "the of and to in that was his he it with is for as had you not be her on at by which have or from"
    " this him but all she they were my are me one their so an said them we who would been will no when"
    " there if more out up into do any your what has man could other than our some very time upon about"
    " may its only now little like then can made should did us such great before must two these see know"
    " over much down after first good men own never most old shall day elephant mountainous unreadable"
    " tokenization"
).split()
CHINESE_CLAUSES = (
    "今天天气很好 我们去公园散步 他在北京大学学习计算机科学 这个模型可以在手机上运行 人工智能正在改变世界"
    " 请把这份报告发给我 中国有五千年的历史 春天的花开得很美 火车从上海开往广州 老师让学生们安静下来"
    " 语言模型的推理速度取决于内存带宽 她买了一本关于哲学的书 市场经济的发展带来了新的挑战 孩子们在河边玩耍"
).split()
EMOJI = "😀 😂 🥰 👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 ❤️ 🔥 🎉 🤖 🚀 ✨ 🙏 💯".split()


def texts(english: Path | None, size: int = 200_000) -> dict[str, str]:
    """About `size` bytes of each kind, the same at every call."""
    rng = random.Random(0)

    def fill(piece: Callable[[], str]) -> str:
        out: list[str] = []
        length = 0
        while length < size:
            out.append(piece())
            length += len(out[-1].encode())
        return "".join(out)

    sources = sorted((ROOT / "cpp" / "src").rglob("*.cpp")) + sorted((ROOT / "converters").rglob("*.py"))
    code = "".join(path.read_text(encoding="utf-8") for path in sources if "unicode_" not in path.name)
    return {
        "english": english.read_text(encoding="utf-8")[:size]
        if english
        else fill(lambda: rng.choice(ENGLISH_WORDS) + rng.choice([" ", " ", " ", ", ", ". "])),
        "code": code[:size],
        "chinese": fill(lambda: rng.choice(CHINESE_CLAUSES) + rng.choice("，。、")),
        "emoji": fill(lambda: rng.choice(EMOJI) + rng.choice(["", " ", " nice! "])),
    }


def seconds(work: Callable[[], object]) -> float:
    start = time.thread_time()  # of this thread: what others do on the machine does not count
    work()
    return time.thread_time() - start


def measure(path: Path, samples: dict[str, str], turns: int) -> list[dict[str, object]]:
    file = path / "tokenizer.json" if path.is_dir() else path
    with tempfile.TemporaryDirectory() as directory:
        shutil.copy(file, Path(directory) / "tokenizer.json")
        compiled = compile_tokenizer(Path(directory))
    assert compiled is not None
    ours = Tokenizer.from_bytes(compiled.blob)
    theirs = tokenizers.Tokenizer.from_file(str(file))
    rows: list[dict[str, object]] = []
    for kind, text in samples.items():
        times: dict[str, list[float]] = {"ours": [], "encode": [], "encode_batch_fast": []}
        agree = ours.encode(text) == theirs.encode(text).ids
        for _ in range(turns):
            times["ours"].append(seconds(lambda text=text: ours.encode(text)))
            times["encode"].append(seconds(lambda text=text: theirs.encode(text)))
            times["encode_batch_fast"].append(seconds(lambda text=text: theirs.encode_batch_fast([text])))
        median = {name: statistics.median(values) for name, values in times.items()}
        rows.append(
            {
                "tokenizer": str(path.parent.name if path.is_file() else path.name),
                "text": kind,
                "ids_agree": agree,
                "mb_per_s": len(text.encode()) / median["ours"] / 1e6,
                "tokenizers_mb_per_s": len(text.encode())
                / min(median["encode"], median["encode_batch_fast"])
                / 1e6,
                "ratio": min(median["encode"], median["encode_batch_fast"]) / median["ours"],
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tokenizer", type=Path, nargs="+")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--english", type=Path, help="a text to use instead of random English words")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    samples = texts(options.english)
    rows = [row for path in options.tokenizer for row in measure(path, samples, options.turns)]
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'tokenizer':<16}{'text':<10}{'MB/s':>8}{'tokenizers':>12}{'ratio':>8}  same ids")
    for row in rows:
        print(
            f"{row['tokenizer']:<16}{row['text']:<10}{row['mb_per_s']:>8.1f}{row['tokenizers_mb_per_s']:>12.1f}"
            f"{row['ratio']:>8.1f}  {row['ids_agree']}"
        )


if __name__ == "__main__":
    main()
