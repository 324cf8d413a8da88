"""Gives lower-cased stories their capitals back, from what a cased text of the same kind shows."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable

TOKEN = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)?|[^A-Za-z]+")
NAMED = re.compile(r"\b(?:named|called|name is|name was|i'm|i am|mr\.|mrs\.|miss) ([a-z]+)\b")
INTRODUCED = re.compile(r"\b(?:named|name is|name was) ([a-z]+)\b")
SPEECH = re.compile(
    "said|says|asked|asks|replied|replies|shouted|shouts|cried|cries|yelled|yells|exclaimed|whispered|answered|"
    "called|screamed|laughed|thought|added|smiled|begged|told|giggled|sang|responded|agreed|explained|announced|"
    "continued|barked|roared|growled"
)


def sentence_starts(tokens: list[str]) -> list[bool]:
    """For each token, whether a word there begins a sentence (so its capital says nothing about the word)."""
    starts = []
    before = ""  # the text since the last word
    in_quote = False
    for i, token in enumerate(tokens):
        if not token[0].isalpha():
            before = token
            starts.append(False)
            if "\n" in token:
                in_quote = False
            for _ in range(token.count('"')):
                in_quote = not in_quote
            continue
        gap = before.rstrip()
        if i == 0 or "\n" in before or ('"' in before and in_quote):
            start = True
        elif gap.endswith(('!"', '?"')):  # "Stop!" she said.  but  "Stop!" She ran.
            following = [t for t in tokens[i : i + 8] if t[0].isalpha()][:4]
            start = not any(SPEECH.fullmatch(word.lower()) for word in following)
        else:
            start = gap.rstrip('"').endswith((".", "!", "?")) and not gap.endswith("...")
        starts.append(start)
        before = ""
    return starts


class Truecaser:
    """How each word is spelled inside a sentence, by itself and after the word before it."""

    def __init__(self, cased: Iterable[str]) -> None:
        words: defaultdict[str, Counter[str]] = defaultdict(Counter)
        pairs: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        known: set[str] = set()
        for story in cased:
            tokens = TOKEN.findall(story)
            previous = ""
            for token, start in zip(tokens, sentence_starts(tokens), strict=True):
                if not token[0].isalpha():
                    previous = previous if token == " " else token.strip()[-1:]
                    continue
                key = token.lower()
                known.add(key)
                if not start:
                    words[key][token] += 1
                    pairs[previous, key][token] += 1
                previous = key
        self.known = known
        self.words = {word: forms.most_common(1)[0][0] for word, forms in words.items()}
        self.pairs = {
            pair: forms.most_common(1)[0][0] for pair, forms in pairs.items() if len(words[pair[1]]) > 1
        }

    def learn_names(self, stories: Iterable[str]) -> None:
        """Words that the cased text lacks and that somebody is named by are names everywhere."""
        for story in stories:
            for name in NAMED.findall(story):
                if name not in self.known:
                    self.words[name] = name.capitalize()

    def restore(self, story: str) -> str:
        """The story with capitals; its letters are otherwise unchanged."""
        tokens = TOKEN.findall(story)
        names = set(INTRODUCED.findall(story))
        result = []
        previous = ""
        for token, start in zip(tokens, sentence_starts(tokens), strict=True):
            if not token[0].isalpha():
                previous = previous if token == " " else token.strip()[-1:]
                result.append(token)
                continue
            stem = token.partition("'")[0]
            form = self.pairs.get((previous, token)) or self.words.get(token)
            if form is None and stem in self.words:
                form = self.words[stem] + token[len(stem) :]
            form = form or token
            if start or stem in names:
                form = form[0].upper() + form[1:]
            result.append(form)
            previous = token
        return "".join(result)


def accuracy(restored: Iterable[str], truth: Iterable[str]) -> float:
    """The share of words spelled as in the true text, 0..1."""
    right = total = 0
    for mine, true in zip(restored, truth, strict=True):
        for a, b in zip(TOKEN.findall(mine), TOKEN.findall(true), strict=True):
            if a[0].isalpha():
                total += 1
                right += a == b
    return right / total
