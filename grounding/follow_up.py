"""A follow-up question made to stand alone, by rule: the words of the conversation that it leans on are added.

The rule knows words and places, no grammar. What it can't tell it leaves alone: a question that names what it asks for
stays as it is, so that no word of an old topic gets into a new one. English and German best; the other languages of
``follow_up_words.txt`` with pronouns, openers and fragments. Deterministic, well below a millisecond a turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fourcorners.grounding.answer_type import answer_type
from fourcorners.grounding.asked import Asked
from fourcorners.grounding.fragment import in_frame
from fourcorners.grounding.leaning import Leaning, leaning
from fourcorners.grounding.question_words import CONTENT, NOUNS, Word, language_of
from fourcorners.grounding.topic import Topic

MAX_TURNS = 8
"""Turns before these are not looked at."""
MAX_QUESTION_CHARS = 500
"""A longer question has words enough of its own."""
MAX_ANSWER_CHARS = 1_000
MAX_WORDS = 5
"""So many words are added at most: each also draws the sentence that was the answer before."""
MAX_CLAUSE_WORDS = 7
"""And for a question that has none of its own."""


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
        topic = Topic(last, turn.answer)
        how = leaning(asked, last)
        if how is Leaning.nothing:
            return question
        if how is Leaning.frame and (framed := in_frame(asked, last)) is not None:
            return framed
        if how is Leaning.clause:
            return _with_words(question, topic.all_said(asked), asked, MAX_CLAUSE_WORDS)
        return _with_words(question, topic.words(how, asked), asked, MAX_WORDS)
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
