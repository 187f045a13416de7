"""Prompts of real English prose: the same for every server, others in every round, so that no cache can carry over."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

DATA = Path(__file__).resolve().parent / "data"
CONTEXT_TOKENS = 700
SHORT_PROMPT_TOKENS = 50


class Texts:
    """Contexts put together from the documents of the question sets. ``count`` tells the tokens of a text.

    A key always gives the same text; texts of different keys differ from the first line on.
    """

    def __init__(self, count: Callable[[str], int]) -> None:
        self._count = count
        self.documents: dict[str, list[str]] = {}
        """Each document with the questions that it answers."""
        self._questions: list[str] = []
        for path in sorted(DATA.glob("plain_*.jsonl")):
            for line in path.read_text("utf-8").splitlines():
                row = json.loads(line)
                answered = self.documents.setdefault(row["context"], [])
                answered += [row["question"]] if row["answerable"] else []
                self._questions.append(row["question"])

    def context(self, key: str, n_tokens: int = CONTEXT_TOKENS) -> str:
        """Prose of at most ``n_tokens`` tokens, and not many fewer, under a first line of its own."""
        chance = random.Random(key)
        text = f"File {chance.getrandbits(40):010x}"
        for document in chance.sample(list(self.documents), len(self.documents)):
            text += f"\n\n{document}"
            if self._count(text) >= n_tokens:
                break
        while (found := self._count(text)) > n_tokens:
            text = text[: len(text) * n_tokens // found].rsplit(maxsplit=1)[0]
        return text

    def questions(self, key: str, n: int) -> list[str]:
        """``n`` different questions."""
        return random.Random(key).sample(self._questions, n)

    def prompts(self, key: str, n: int) -> list[str]:
        """``n`` questions on one context."""
        context = self.context(key)
        return [f"{context}\n\nQuestion: {question}\nAnswer:" for question in self.questions(key, n)]
