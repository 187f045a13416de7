"""The documents as the check of free answers looks things up in them. All of it is made when first asked for."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from functools import cached_property, lru_cache

from fourcorners.grounding.alignment import Place
from fourcorners.grounding.claims import Claims, claims_of
from fourcorners.grounding.copied import WordAutomaton
from fourcorners.grounding.evidence import Evidence
from fourcorners.grounding.table_rows import spelled_out_row
from fourcorners.grounding.words import folded_words, function_words, guess_language, stem

MAX_CANDIDATES = 10
MAX_ANTECEDENTS = 2


class Sources:
    """The sentences of ``evidence`` by their words, taken apart, with what stands around them."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    def ranked(self, said: Claims, hints: frozenset[str]) -> list[int]:
        """The sentences that have most in common with ``said``, best first."""
        scores: Counter[int] = Counter()
        n = len(self._evidence.sentences)
        words = {token.stem for token in said.tokens} | hints
        for word in words:
            holding = self._index.get(word, ())
            weight = math.log(1 + n / (1 + len(holding)))
            for i in holding:
                scores[i] += weight  # type: ignore[assignment]
        # A sentence's first occurrence only; the same words elsewhere are found by their stems.
        for _, length, start in self._automaton.runs(folded_words(said.text)):
            scores[self._owners[start]] += length / 2  # type: ignore[assignment]
        if len(scores) < MAX_CANDIDATES and (n <= MAX_CANDIDATES or said.facts):
            scores.update(dict.fromkeys(range(min(n, MAX_CANDIDATES)), 0))
        return [i for i, _ in sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:MAX_CANDIDATES]]

    def place(self, first: int, last: int) -> Place:
        """Sentences ``first`` to ``last`` with what stands over and before them."""
        sentence = self._evidence.sentences[first]
        over = [self.claims_at(i, i) for i in sentence.under]
        opening = self.openings[sentence.document]
        if (
            opening < first
            and opening not in sentence.under
            and self._evidence.sentences[opening].kind in ("heading", "title")
        ):
            over.append(self.claims_at(opening, opening))
        # Of two sentences the second may be about something else.
        leans = first == last or self.claims_at(last, last).anaphoric
        before = [self.claims_at(i, i) for i in self.antecedents(first)] if leans else []
        return Place(self.claims_at(first, last), tuple(over), tuple(before))

    @cached_property
    def openings(self) -> dict[int, int]:
        """The first sentence of each document."""
        openings: dict[int, int] = {}
        for i, sentence in enumerate(self._evidence.sentences):
            openings.setdefault(sentence.document, i)
        return openings

    def antecedents(self, index: int) -> list[int]:
        """The sentences that a pronoun of sentence ``index`` may refer to, nearest first."""
        found: list[int] = []
        sentences = self._evidence.sentences
        while self.claims_at(index, index).anaphoric and len(found) < MAX_ANTECEDENTS:
            index -= 1
            if index < 0 or sentences[index].document != sentences[index + 1].document:
                break
            found.append(index)
        return found

    def claims_at(self, first: int, last: int) -> Claims:
        """Sentences ``first`` to ``last`` taken apart; a table row with its headers."""
        sentences = self._evidence.sentences
        document = sentences[first].document
        if first == last:
            sentence = sentences[first]
            row = spelled_out_row(self._evidence.documents[document].text, sentence.start, sentence.end)
            text = row or " ".join(sentence.text.split())
        else:
            text = "\n".join(" ".join(sentence.text.split()) for sentence in sentences[first : last + 1])
        return _cached_claims(text, self.languages[document])

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """The language of each document."""
        return tuple(guess_language(folded_words(d.text[:5_000])) or "english" for d in self._evidence.documents)

    def language_of(self, text: str) -> str:
        """The language of ``text``, or of the first document."""
        known = guess_language(folded_words(text))
        return known or next(iter(self.languages), "english")

    @cached_property
    def question(self) -> set[str]:
        """The stems of what is asked."""
        language = self.language_of(self._evidence.question)
        words = (stem(word, language) for word in folded_words(self._evidence.question))
        return {word for word in words if word not in function_words(language)}

    @cached_property
    def _words(self) -> list[list[str]]:
        return [folded_words(sentence.text) for sentence in self._evidence.sentences]

    @cached_property
    def _index(self) -> dict[str, list[int]]:
        """Stems to the sentences that hold them, and to those under a heading that does."""
        index: dict[str, list[int]] = defaultdict(list)
        for i, (sentence, words) in enumerate(zip(self._evidence.sentences, self._words, strict=True)):
            language = self.languages[sentence.document]
            over = [word for above in sentence.under[:1] for word in self._words[above]]
            for word in {stem(w, language) for w in (*words, *over)}:
                index[word].append(i)
        return index

    @cached_property
    def _automaton(self) -> WordAutomaton:
        return WordAutomaton(word for words in self._words for word in words)

    @cached_property
    def _owners(self) -> list[int]:
        """The sentence of each word of the automaton's text."""
        return [i for i, words in enumerate(self._words) for _ in words]

    def premise(self, first: int, last: int) -> str:
        """What a model is shown: the place, what stands over it, and a neighbour on either side."""
        sentences = self._evidence.sentences
        document = sentences[first].document
        low = max(first - 1, self.openings[document])
        high = last + 1 if last + 1 < len(sentences) and sentences[last + 1].document == document else last
        over = [sentences[i].text for i in sentences[first].under if i < low]
        return "\n".join([*over, self._evidence.documents[document].text[sentences[low].start : sentences[high].end]])

    @cached_property
    def borders(self) -> tuple[dict[tuple[int, int], int], dict[tuple[int, int], int]]:
        """The sentences by document and start, and by document and end."""
        sentences = self._evidence.sentences
        return (
            {(s.document, s.start): i for i, s in enumerate(sentences)},
            {(s.document, s.end): i for i, s in enumerate(sentences)},
        )


@lru_cache(maxsize=4_096)
def _cached_claims(text: str, language: str) -> Claims:
    return claims_of(text, language)
