"""What a conversation is about, as the words that a follow-up leaves out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import regex

from fourcorners.grounding.answer_type import answer_type
from fourcorners.grounding.asked import Asked, asks_what_it_is
from fourcorners.grounding.leaning import Leaning
from fourcorners.grounding.question_words import CONTENT, NOUNS, Word, noun_phrases, same_words

_ITEM_BORDER = regex.compile(r"\s*[,;]\s*(?:and\s|or\s|und\s|oder\s)?\s*|\s+(?:and|or|und|oder)\s+")
_ORDINALS = ("first erst", "second zweit", "third dritt", "fourth viert", "fifth", "sixth")
_LAST = frozenset({"last", "letzte", "letzter", "letztes", "letzten"})
MAX_FOCUS_WORDS = 4


@dataclass(frozen=True)
class Topic:
    """A question that stands alone, and what was answered ("" where that was nothing)."""

    question: Asked
    answer: str

    def words(self, how: Leaning, asked: Asked) -> list[Word]:
        """What ``asked`` is about where it leans in the way of ``how``, most specific first."""
        if how is Leaning.person:
            return self._person()
        if how is Leaning.place:
            return self._place()
        if how is Leaning.plural or (how is Leaning.frame and not asked.has_noun):
            return self._item(asked) or [*self.question.head, *self._nouns] or self._told
        return self._thing()

    def all_said(self, asked: Asked) -> list[Word]:
        """All that the question said; and, where ``asked`` means "that", what was answered."""
        said = [word for word in self.question.words if word.role in CONTENT]
        if answer_type(asked.text) == "time":
            said = [word for word in said if word.role != "time"]
        said.sort(key=lambda word: word.role not in ("name", "number"))
        return said + (self._told if asked.has("demonstrative") or asked.has("pronoun") else [])

    @cached_property
    def _phrases(self) -> list[list[Word]]:
        """The question's noun phrases, but for "price" in "what is the price of …"."""
        is_of = asks_what_it_is(self.question)
        return [
            phrase
            for phrase in self.question.phrases
            if not (is_of and all(word.role == "relational" for word in phrase))
        ]

    @cached_property
    def _nouns(self) -> list[Word]:
        return _names_first(self._phrases) or _names_first(self.question.phrases)

    @cached_property
    def _names(self) -> list[Word]:
        return [word for phrase in self._phrases for word in phrase if word.role == "name"]

    @cached_property
    def _told(self) -> list[Word]:
        """What the answer told: its names that the question had not, else its first words that the question had not."""
        answer, known = Asked(self.answer, self.question.language), same_words(self.question.words)
        fresh = [word for word in answer.words if word.role in CONTENT and word.stem not in known]
        names = [word for word in fresh if word.role == "name"]
        if names and (self.question.language != "german" or self.question.asks_which):
            first = answer.words.index(names[0])
            opens = first == 1 and answer.words[0].role in NOUNS and answer.words[0].stem not in known
            return ([answer.words[0]] if opens else []) + names[:MAX_FOCUS_WORDS]
        run: list[Word] = []
        for word in fresh:
            if run and answer.text[run[-1].end : word.start].strip():
                break
            run.append(word)
        return run[: MAX_FOCUS_WORDS - 1]

    @property
    def _names_told(self) -> list[Word]:
        return [word for word in self._told if word.role == "name"]

    def _person(self) -> list[Word]:
        question = self.question
        # "Who is Inês Moreira?" names the person; "who is the chair of Acme?" leaves that to the answer.
        names_one = asks_what_it_is(question) and question.body[2:3] == self._names[:1] != []
        if not self._names or (question.has("who") and not names_one):
            return self._names_told or self._nouns
        return self._names

    def _place(self) -> list[Word]:
        if asks_what_it_is(self.question) and not self.question.has("who"):
            return [*self._told, *self._names] or self._nouns
        return self._names or self._names_told or self._nouns

    def _thing(self) -> list[Word]:
        question = self.question
        if question.asks_which and self._told:
            heads = {word.stem for word in question.head}
            return [*self._told, *(word for word in self._nouns if word.stem not in heads)]
        if asks_what_it_is(question) and not question.has("who"):
            opens = bool(self._told) and not self.answer[: self._told[0].start].strip()
            return [*(self._told if opens else self._names_told), *self._nouns]
        # What something stands at is not it: "the library" of "when does the library stop at Holm".
        things = [p for p in self._phrases if p != question.head and not question.is_adverbial(p)]
        return sorted(_flat(things), key=lambda word: word.role != "name") or self._nouns or self._told

    def _item(self, asked: Asked) -> list[Word]:
        """The words of the item that "the second" means, where the answer lists several."""
        word = next((word for word in asked.body if word.role == "ordinal"), None)
        items = [line for line in self.answer.splitlines() if line.strip()]
        if len(items) < 2:
            items = [item for item in _ITEM_BORDER.split(self.answer) if item.strip()]
        if word is None or len(items) < 2:
            return []
        number = next((n for n, names in enumerate(_ORDINALS) if any(map(word.folded.startswith, names.split()))), -1)
        if number >= len(items) or (number < 0 and word.folded not in _LAST):
            return []
        found = Asked(items[number], self.question.language)
        phrases = noun_phrases(found.text, found.words)
        # The words before the first item lead in the list: "we sell Brazil, …".
        named = phrases[-1] if phrases and number == 0 else _flat(phrases)
        return (named or found.words)[:MAX_FOCUS_WORDS]


def _flat(phrases: Iterable[Sequence[Word]]) -> list[Word]:
    return [word for phrase in phrases for word in phrase]


def _names_first(phrases: Sequence[list[Word]]) -> list[Word]:
    return _flat(sorted(phrases, key=lambda phrase: not any(word.role == "name" for word in phrase)))
