"""A question taken apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from fourcorners.grounding.question_words import NOUNS, Lists, Word, noun_phrases, question_words, word_lists


@dataclass(frozen=True)
class Asked:
    """A question taken apart."""

    text: str
    language: str

    @cached_property
    def lists(self) -> Lists:
        """The word lists of its language."""
        return word_lists(self.language)

    @cached_property
    def words(self) -> list[Word]:
        """All words."""
        return question_words(self.text, self.language)

    @cached_property
    def body(self) -> list[Word]:
        """The words behind "and", "what about"."""
        folded = [word.folded for word in self.words]
        for length in range(min(5, len(folded)), 0, -1):
            # In French "ou" is "or", but "où" is "where".
            is_plain = length > 1 or self.language == "german" or self.words[0].text.casefold() == folded[0]
            if is_plain and "_".join(folded[:length]) in self.lists["opener"]:
                return self.words[length:]
        return self.words

    @property
    def is_opened(self) -> bool:
        """Whether it begins with "and", "what about" and the like."""
        return len(self.body) < len(self.words)

    @cached_property
    def phrases(self) -> list[list[Word]]:
        """Its noun phrases."""
        return noun_phrases(self.text, self.words)

    @cached_property
    def head(self) -> list[Word]:
        """The noun phrase right behind "which", "what", "how many"; empty where there is none."""
        for phrase in self.phrases:
            index = self.words.index(phrase[0])
            before = self.words[max(0, index - 2) : index]
            if not before or not self.text[before[-1].end : phrase[0].start].isspace():
                continue
            counts = len(before) == 2 and before[0].folded in self.lists["degree"]
            if counts or before[-1].folded in self.lists["which"]:
                return phrase
        return []

    @property
    def is_polite(self) -> bool:
        """Whether it asks nothing: "thanks", "ok"."""
        return bool(self.body) and all(word.folded in self.lists["polite"] for word in self.body)

    @property
    def asks_which(self) -> bool:
        """ "Which nozzle", "what book": the answer names what it is. Not "how many people", "what colour"."""
        index = self.words.index(self.head[0]) - 1 if self.head else -1
        is_which = index >= 0 and self.words[index].folded in self.lists["which"]
        return is_which and all(word.role != "relational" for word in self.head)

    def is_adverbial(self, phrase: Sequence[Word]) -> bool:
        """Whether it says where, behind a verb: "stop at Holm", not "the ferry to Holm"."""
        index = self.words.index(phrase[0])
        before = [word for word in self.words[max(0, index - 3) : index] if word.folded not in self.lists["det"]]
        places = bool(before) and before[-1].folded in self.lists["placing"]
        return places and len(before) > 1 and before[-2].role not in NOUNS | {"relational", "number"}

    @property
    def nouns(self) -> list[Word]:
        """Nouns and names of its body."""
        return [word for word in self.body if word.role in NOUNS]

    @property
    def has_noun(self) -> bool:
        """Whether its body has a noun, a name or a number."""
        return any(word.role in NOUNS | {"relational", "number", "time"} for word in self.body)

    def has(self, kind: str) -> bool:
        """Whether a word of its body is in the list ``kind``."""
        return any(word.folded in self.lists[kind] for word in self.body)


def asks_what_it_is(last: Asked) -> bool:
    """ "What is the …", "who was the …"."""
    opens = [word.folded for word in last.body[:2]]
    asks = len(opens) == 2 and (opens[0] in last.lists["which"] or opens[0] in last.lists["who"])
    return asks and opens[1] in last.lists["be"]
