"""A follow-up question made to stand alone, by rule: the words of the conversation that it leans on are added.

The rule knows words and places, no grammar. What it can't tell it leaves alone: a question that names what it asks for
stays as it is, so that no word of an old topic gets into a new one. English and German best; the other languages of
``follow_up_words.txt`` with pronouns, openers and fragments. Deterministic, well below a millisecond a turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import regex

from fourcorners.grounding.answer_type import answer_type
from fourcorners.grounding.fragment import in_frame
from fourcorners.grounding.leaning import Asked, Leaning, asks_what_it_is, leaning
from fourcorners.grounding.question_words import CONTENT, NOUNS, Word, language_of, noun_phrases, same_words

MAX_TURNS = 8
"""Turns before these are not looked at."""
MAX_QUESTION_CHARS = 500
"""A longer question has words enough of its own."""
MAX_ANSWER_CHARS = 1_000
MAX_WORDS = 5
"""So many words are added at most: each also draws the sentence that was the answer before."""
MAX_CLAUSE_WORDS = 7
"""And for a question that has none of its own."""
_ITEM_BORDER = regex.compile(r"\s*[,;]\s*(?:and\s|or\s|und\s|oder\s)?\s*|\s+(?:and|or|und|oder)\s+")
_ORDINALS = ("first erst", "second zweit", "third dritt", "fourth viert", "fifth", "sixth")


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and what was answered; ``answer`` is empty where that was the refusal, or nothing."""

    question: str
    answer: str = ""


def standalone_question(question: str, turns: Sequence[Turn]) -> str:
    """``question`` with the words of ``turns`` (oldest first) that it leans on; as it is where it leans on none."""
    settled: list[Turn] = []
    for turn in turns[-MAX_TURNS:]:
        if turn.question.strip():
            settled.append(Turn(_settled(turn.question, settled), turn.answer[:MAX_ANSWER_CHARS]))
    return _settled(question, settled)


def _settled(question: str, turns: Sequence[Turn]) -> str:
    if not turns or len(question) > MAX_QUESTION_CHARS:
        return question
    recent = (text[:MAX_ANSWER_CHARS] for turn in turns[-2:] for text in (turn.question, turn.answer))
    language = language_of(question, *recent)
    asked = Asked(question, language)
    for turn in reversed(turns):
        last = Asked(turn.question[:MAX_QUESTION_CHARS], language)
        if last.is_polite or not any(word.role in CONTENT for word in last.words):
            continue  # a greeting, say: the one before it is what is talked about
        how = leaning(asked, last)
        if how is Leaning.nothing:
            return question
        if how is Leaning.frame and (framed := in_frame(asked, last)) is not None:
            return framed
        if how is Leaning.clause:
            return _with_words(question, _clause_words(asked, last, turn), asked, MAX_CLAUSE_WORDS)
        return _with_words(question, _words_about(how, asked, last, turn), asked, MAX_WORDS)
    return question


def _with_words(question: str, words: Iterable[Word], asked: Asked, most: int) -> str:
    """The question with the words that it lacks, in brackets; none that would make it ask for something else."""
    known, wanted, added = {word.stem for word in asked.words}, answer_type(question), list[str]()
    for word in words:
        if word.stem in known or (wanted and answer_type(f"{question} {word.text}") != wanted):
            continue
        known.add(word.stem)
        added.append(word.text)
        if len(added) == most:
            break
    return f"{question.rstrip()} ({' '.join(added)})" if added else question


def _words_about(how: Leaning, asked: Asked, last: Asked, turn: Turn) -> list[Word]:
    """The words for what the question is about, most specific first."""
    phrases = [phrase for phrase in last.phrases if not _is_asked_of(last, phrase)]
    fresh = _focus(turn, last)
    names = [word for phrase in phrases for word in phrase if word.role == "name"]
    of_question = _flat(sorted(phrases, key=lambda phrase: not any(word.role == "name" for word in phrase)))
    of_question = of_question or _flat(last.phrases)
    if how is Leaning.person:
        told = [word for word in fresh if word.role == "name"]
        is_about_one = not names or (last.has("who") and not (asks_what_it_is(last) and last.phrases[0][0] in names))
        return (told or of_question) if is_about_one else names
    if how is Leaning.place:
        told = [word for word in fresh if word.role == "name" or asks_what_it_is(last)]
        return (
            [*told, *names] if names and not last.has("who") and asks_what_it_is(last) else names or told or of_question
        )
    if how is Leaning.plural or (how is Leaning.frame and not asked.has_noun):
        item = _item(asked, turn, last.language)
        return item or [*last.head, *of_question] or fresh
    if last.asks_which and fresh:
        heads = {word.stem for word in last.head}
        return [*fresh, *(word for word in of_question if word.stem not in heads)]
    if asks_what_it_is(last) and not last.has("who"):
        opens = bool(fresh) and not turn.answer[: fresh[0].start].strip()
        return [*(word for word in fresh if opens or word.role == "name"), *of_question]
    # What stands at a place or in a time is not it: "the library" of "when does the library stop at Holm".
    things = _flat(phrase for phrase in phrases if phrase != last.head and not last.is_adverbial(phrase))
    return sorted(things, key=lambda word: word.role != "name") or of_question or fresh


def _is_asked_of(last: Asked, phrase: Sequence[Word]) -> bool:
    """Whether it is "price" in "what is the price of …": what was asked, not what it was about."""
    return asks_what_it_is(last) and all(word.role == "relational" for word in phrase)


def _flat(phrases: Iterable[Sequence[Word]]) -> list[Word]:
    return [word for phrase in phrases for word in phrase]


def _focus(turn: Turn, last: Asked) -> list[Word]:
    """What the answer told: its names that the question had not, else its first words that the question had not."""
    answer, known = Asked(turn.answer, last.language), same_words(last.words)
    fresh = [word for word in answer.words if word.role in CONTENT and word.stem not in known]
    names = [] if last.language == "german" else [word for word in fresh if word.role == "name"]
    if names:
        first = answer.words.index(names[0])
        opens = first == 1 and answer.words[0].role in NOUNS and answer.words[0].stem not in known
        return ([answer.words[0]] if opens else []) + names[:4]
    run: list[Word] = []
    for word in fresh:
        if run and answer.text[run[-1].end : word.start].strip():
            break
        run.append(word)
    return run[:3]


def _clause_words(asked: Asked, last: Asked, turn: Turn) -> list[Word]:
    """All that the last question said; and, where "that" is meant, what was answered."""
    said = [word for word in last.words if word.role in CONTENT]
    if answer_type(asked.text) == "time":
        said = [word for word in said if word.role != "time"]
    said.sort(key=lambda word: word.role not in ("name", "number"))
    return said + (_focus(turn, last) if asked.has("demonstrative") or asked.has("pronoun") else [])


def _item(asked: Asked, turn: Turn, language: str) -> list[Word]:
    """The words of the item that "the second" means, where the answer lists several."""
    word = next((word for word in asked.body if word.role == "ordinal"), None)
    if word is None:
        return []
    items = [line for line in turn.answer.splitlines() if line.strip()]
    if len(items) < 2:
        items = [item for item in _ITEM_BORDER.split(turn.answer) if item.strip()]
    if len(items) < 2:
        return []
    number = next((n for n, names in enumerate(_ORDINALS) if any(map(word.folded.startswith, names.split()))), -1)
    if number >= len(items) or (number < 0 and word.folded not in ("last", "letzte", "letzter", "letztes", "letzten")):
        return []
    found = Asked(items[number], language)
    phrases = noun_phrases(found.text, found.words)
    named = phrases[-1] if phrases and number == 0 else _flat(phrases)
    return (named or found.words)[:4]


MAX_REWRITTEN_CHARS = 400
"""Or twice the question's length, where that is more."""


def rewriting_problem(rewritten: str, question: str, turns: Sequence[Turn]) -> str | None:
    """What is wrong with a model's rewriting of ``question``; None where it may be used.

    It must be one line of bounded length, keep words of the question, and hold no name or number, and not mostly words,
    that neither question nor conversation has.
    """
    if not rewritten.strip():
        return "the rewriting was empty"
    if len(rewritten.splitlines()) > 1:
        return "the rewriting had more than one line"
    if len(rewritten) > max(MAX_REWRITTEN_CHARS, 2 * len(question)):
        return f"the rewriting had {len(rewritten)} characters"
    language = language_of(question, *(turn.question for turn in turns))
    said = [Asked(text, language) for turn in turns for text in (turn.question, turn.answer)]
    asked, made = Asked(question, language), Asked(rewritten, language)
    known = {word.stem for one in (asked, *said) for word in one.words}
    own = [word for word in asked.words if word.role in NOUNS | {"number", "verb"}]
    kept = {word.stem for word in made.words}
    if own and not any(word.stem in kept for word in own):
        return "the rewriting kept no word of the question"
    content = [word for word in made.words if word.role in CONTENT]
    new = [word for word in content if word.stem not in known]
    invented = [word.text for word in new if word.role == "number" or (word.role == "name" and language != "german")]
    if invented:
        return f"the rewriting brought in {', '.join(invented[:3])}"
    if content and len(new) * 2 > len(content):
        return "the rewriting has mostly words that nobody said"
    return None
