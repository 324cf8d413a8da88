"""TinyStories as training text: repaired, split, cased, without duplicates, with a part held out."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from .truecase import Truecaser, accuracy

CASED = "tinystories/tiny_stories.txt"
LOWER = "tinystories/tinystories_lower_4MB.txt"

# The files hold UTF-8 that was once read as Windows-1252. A lone "â€" was a quote whose third byte got lost.
REPAIRS = {
    "â€œ": '"', "â€™": "'", "â€˜": "'", "â€¦": "...", "â€“": " - ", "â€”": " - ", "â€\x9d": '"', "â€": '"',
    "“": '"', "”": '"', "’": "'", "‘": "'", "—": " - ", "–": " - ", "…": "...",
}  # fmt: skip
OPENING = re.compile(
    r"\W*(once|one (\w+ )?(day|night|morning|time)|there (was|were|lived)|a long time ago)\b", re.IGNORECASE
)


@dataclass(frozen=True)
class Stories:
    """Stories for training and for validation, and how exact the restored capitals are (share of words)."""

    train: list[str]
    valid: list[str]
    case_accuracy: float
    duplicates: int


def split(text: str) -> list[str]:
    """Stories of a file in which a blank line parts paragraphs and a single newline parts stories.

    Some stories have single newlines between their own lines: a short piece that does not open like a story
    belongs to the one before it. Stories with other than ASCII letters, or too short to be one, are left out.
    """
    for broken, repaired in REPAIRS.items():
        text = text.replace(broken, repaired)
    pieces = [piece.strip() for piece in re.split(r"(?<!\n)\n(?!\n)", text)]
    stories: list[str] = []
    for piece in filter(None, pieces):
        if stories and len(piece) < 300 and not OPENING.match(piece):
            stories[-1] += "\n\n" + piece
        else:
            stories.append(piece)
    tidy = (re.sub(r" ?\n[ \n]*", "\n\n", re.sub(r"[ \t]+", " ", story)).strip() for story in stories)
    return [story for story in tidy if len(story) >= 200 and story.isascii()]


def load(corpora: Path, held_out: float = 0.03, seed: int = 0) -> Stories:
    """Both files as one set of cased stories. The lower-cased file contains the cased one: each story is kept
    once, in its own spelling where that is known."""
    cased = split((corpora / CASED).read_text("utf-8"))
    lower = split((corpora / LOWER).read_text("utf-8"))

    # How exact the capitals are, on cased stories that the truecaser has not seen.
    probe = len(cased) * 9 // 10
    trial = Truecaser(cased[:probe])
    hidden = [story.lower() for story in cased[probe:]]
    trial.learn_names(hidden)
    exactness = accuracy([trial.restore(story) for story in hidden], cased[probe:])

    truecaser = Truecaser(cased)
    truecaser.learn_names(lower)
    seen: set[str] = set()
    stories: list[str] = []
    for story, own_spelling in [(s, True) for s in cased] + [(s, False) for s in lower]:
        key = re.sub(r"\W+", " ", story.lower())[:160]
        if key not in seen:
            seen.add(key)
            stories.append(story if own_spelling else truecaser.restore(story))
    random.Random(seed).shuffle(stories)
    count = round(len(stories) * held_out)
    return Stories(stories[count:], stories[:count], exactness, len(cased) + len(lower) - len(stories))


WORD = re.compile(r"[a-z]+")
AFTER_ARTICLE = re.compile(r"\b(?:a|an|the) ([a-z]{3,})\b")
BEFORE_NOUN = re.compile(
    r"\b(?:a|an|the) ([a-z]{3,}) (?!(?:and|was|is|in|on|to|that|with|said|who|had|for|could)\b)[a-z]"
)
VAGUE = re.compile(
    "day|time|way|end|other|next|little|girl|boy|man|woman|place|thing|things|same|first|one|lot|bit|while"
)


class Topics:
    """What a story is about: a noun it repeats and other stories do not. A noun is a word that mostly follows
    an article and seldom stands before another word there, as adjectives do."""

    def __init__(self, stories: list[str]) -> None:
        articles: Counter[str] = Counter()
        modifying: Counter[str] = Counter()
        words: Counter[str] = Counter()
        self.stories_with: Counter[str] = Counter()
        for story in stories:
            articles.update(AFTER_ARTICLE.findall(story))
            modifying.update(BEFORE_NOUN.findall(story))
            found = WORD.findall(story)
            words.update(found)
            self.stories_with.update(set(found))
        self.nouns = {
            word
            for word, count in articles.items()
            if count >= max(8, 0.35 * words[word])
            and modifying[word] < 0.35 * count
            and not VAGUE.fullmatch(word)
        }

    def of(self, story: str) -> str | None:
        """The story's noun, or None."""
        counts = Counter(word for word in WORD.findall(story) if word in self.nouns)
        scored = [(n / self.stories_with[word] ** 0.5, word) for word, n in counts.items() if n >= 2]
        return max(scored)[1] if scored else None


REQUESTS = (
    "Tell me a story about {topic}.",
    "Write a story about {topic}.",
    "Can you tell me a story about {topic}?",
    "Please tell me a story about {topic}.",
    "I want to hear a story about {topic}.",
    "A story about {topic}, please.",
    "Tell me about {topic}.",
)
OPEN_REQUESTS = (
    "Tell me a story.",
    "Can you tell me a story?",
    "Write a short story.",
    "Another story, please.",
)
GREETINGS = (
    "Hello!",
    "Hi!",
    "Hello",
    "hi",
    "Hey there!",
    "Good morning!",
    "Who are you?",
    "What can you do?",
)
GREETING_REPLY = "Hello! I tell little stories. What should the story be about?"


def request(topic: str | None, rng: random.Random) -> str:
    """What a user may have asked to get a story with this topic."""
    if topic is None or rng.random() < 0.08:
        return rng.choice(OPEN_REQUESTS)
    article = "an" if topic[0] in "aeiou" else "a"
    return rng.choice(REQUESTS).format(topic=f"{article} {topic}")
