"""What the model is shown of documents that do not fit in its window, and what that leaves out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import regex

from fourcorners.errors import ContextOverflow
from fourcorners.grounding.evidence import Evidence
from fourcorners.grounding.prior import PriorScores, lexical_prior

MAX_CHARS_PER_TOKEN = 12
"""Longer texts are taken not to fit without counting their tokens."""
MAX_MISFITS = 64
"""So many sentences in a row that find no room end the search for more."""
_JOINT = 2
"""Tokens for the blank line between documents, or the line break between sentences."""
MAX_NAMED = 100
"""So many documents are named as left out; the number of all of them is told too."""
_EASY = regex.compile(r"[A-Za-z ]")

CountTokens = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """How many sentences of a document the model is not shown, and of how many characters, parts of sentences too."""

    document: int
    sentences: int
    characters: int


@dataclass(frozen=True, slots=True)
class Packed:
    """What is shown: sentence indices in document order, and the text block of each document that has any.

    ``left_out`` lists the documents that something is missing of. A sentence whose words are shown elsewhere is not.
    ``views`` are the texts of the shown sentences as they are shown, where single sentences were chosen.
    """

    shown: tuple[int, ...]
    blocks: tuple[str, ...]
    left_out: tuple[LeftOut, ...] = ()
    views: tuple[str, ...] = ()

    @property
    def n_left_out(self) -> int:
        """Sentences left out, of all documents."""
        return sum(one.sentences for one in self.left_out)


def pack(
    evidence: Evidence,
    prior: PriorScores | None,
    count_tokens: CountTokens,
    budget_tokens: int,
    max_sentences: int | None = None,
    sentence_tokens: int | None = None,
) -> Packed:
    """The documents within ``budget_tokens``, by the policy that ``evidence.options.packing`` names.

    All are shown whole where they fit. Else "window" shows the best sentences by the prior (None: made here), in
    document order; "rank" whole documents in order, up to the first that does not fit, and of a first document that
    alone is too long its beginning, cut between sentences; "error" raises ContextOverflow. "window" and "rank" raise
    it only where nothing fits at all. ``max_sentences`` is for a model that reads sentences: of what is kept it is
    shown at most so many, the best, a line each, within ``sentence_tokens``. A sentence of more than half the budget
    is shown in part; it can still be quoted whole.
    """
    policy = evidence.options.packing
    texts = {i: body for i, d in enumerate(evidence.documents) if (body := d.text.strip("\r\n")).strip()}
    by_sentence = max_sentences is not None
    if by_sentence and policy == "window":
        return _best(evidence, prior, count_tokens, sentence_tokens or budget_tokens, max_sentences)
    if policy == "error":
        _check_fit(texts.values(), count_tokens, budget_tokens)
        kept = dict(texts)
    else:
        kept = _fitting(texts, count_tokens, budget_tokens)
    views: dict[int, str] = {}
    if len(kept) == len(texts):
        shown = tuple(range(len(evidence.sentences)))
    elif policy == "window":
        return _best(evidence, prior, count_tokens, budget_tokens, None)
    elif kept:
        shown = tuple(i for i, sentence in enumerate(evidence.sentences) if sentence.document in kept)
    else:
        first = next((sentence.document for sentence in evidence.sentences), next(iter(texts)))
        shown, kept[first] = _beginning(evidence, first, count_tokens, budget_tokens)
        views = {shown[0]: kept[first]} if len(shown) == 1 else {}
    if by_sentence:
        return _best(evidence, prior, count_tokens, sentence_tokens or budget_tokens, max_sentences, among=shown)
    return Packed(shown, tuple(kept.values()), _left_out(evidence, shown, views))


def packing_info(packed: Packed, evidence: Evidence) -> dict[str, Any]:
    """What a reply tells of what was left out, in plain types; nothing where all is shown."""
    if not packed.left_out:
        return {}
    named = [
        {
            "index": one.document,
            "document": evidence.documents[one.document].id,
            "sentences": one.sentences,
            "characters": one.characters,
        }
        for one in packed.left_out[:MAX_NAMED]
    ]
    return {"n_left_out": packed.n_left_out, "n_left_out_documents": len(packed.left_out), "left_out": named}


def estimated_tokens(text: str) -> int:
    """Tokens that ``text`` has at most in nearly every vocabulary, for models whose tokenizer is not at hand.

    Three ASCII letters or spaces a token, every other ASCII character one, two bytes of anything else: English text
    comes out about a third too high.
    """
    n_easy, n_bytes = len(_EASY.findall(text)), len(text.encode("utf-8", "replace"))
    n_ascii = sum(map(str.isascii, text)) if n_bytes > len(text) else len(text)
    return -(-n_easy // 3) + (n_ascii - n_easy) + -(-(n_bytes - n_ascii) // 2)


def _fitting(texts: Mapping[int, str], count_tokens: CountTokens, budget_tokens: int) -> dict[int, str]:
    """The documents in order up to the first that does not fit any more."""
    kept: dict[int, str] = {}
    left = budget_tokens
    for index, text in texts.items():
        if len(text) > left * MAX_CHARS_PER_TOKEN:
            break
        left -= count_tokens(text) + _JOINT
        if left < 0:
            break
        kept[index] = text
    return kept


def _check_fit(texts: Iterable[str], count_tokens: CountTokens, budget_tokens: int) -> None:
    needed = sum(count_tokens(text) + _JOINT for text in texts)
    if needed > budget_tokens:
        raise ContextOverflow(
            f"the documents have {needed} tokens, but there is room for {budget_tokens}: give fewer or shorter ones, "
            f"or take packing='window' or 'rank', which leave some out"
        )


def _beginning(
    evidence: Evidence, document: int, count_tokens: CountTokens, budget_tokens: int
) -> tuple[tuple[int, ...], str]:
    """As many sentences from the start of a document as fit, or part of its first; the text from its start to there."""
    text = evidence.documents[document].text
    inside = [i for i, sentence in enumerate(evidence.sentences) if sentence.document == document]
    ends, used = [0], _JOINT
    for index in inside:
        end = evidence.sentences[index].end
        if end - ends[-1] > budget_tokens * MAX_CHARS_PER_TOKEN:
            break
        used += count_tokens(text[ends[-1] : end])
        if used > budget_tokens:
            break
        ends.append(end)
    while len(ends) > 1:
        block = text[: ends[-1]].strip("\r\n")
        if count_tokens(block) + _JOINT <= budget_tokens:
            return tuple(inside[: len(ends) - 1]), block
        ends.pop()
    lead = evidence.sentences[inside[0]].text if inside else text.strip()
    return tuple(inside[:1]), _shortened(lead, count_tokens, budget_tokens, budget_tokens)[0]


def _best(
    evidence: Evidence,
    prior: PriorScores | None,
    count_tokens: CountTokens,
    budget_tokens: int,
    most: int | None,
    among: Iterable[int] | None = None,
) -> Packed:
    """The best distinct sentences, a line each, in document order."""
    if not evidence.sentences:  # nothing but signs, and too many of them
        first, text = next((i, d.text.strip()) for i, d in enumerate(evidence.documents) if d.text.strip())
        view, _ = _shortened(text, count_tokens, budget_tokens, budget_tokens)
        return Packed((), (view,), (LeftOut(first, 0, len(text) - len(view)),))
    scores = (prior or lexical_prior(evidence.question, evidence.sentences)).sentences
    order = np.argsort(-scores, kind="stable")
    if among is not None:
        order = order[np.isin(order, list(among))]
    views: dict[int, str] = {}
    seen: set[str] = set()
    left, misfits = budget_tokens, 0
    for index in order:
        text = evidence.sentences[index].text
        if text in seen:
            continue
        seen.add(text)
        view, cost = _shortened(text, count_tokens, budget_tokens // 2, left)
        if cost <= left:
            views[int(index)] = view
            left, misfits = left - cost, 0
        else:
            misfits += 1
        if len(views) == most or left < 8 or misfits == MAX_MISFITS:
            break
    if not views:
        raise ContextOverflow(f"no sentence of the context fits in the {budget_tokens} tokens that the window leaves")
    blocks: dict[int, list[str]] = {}
    for index in sorted(views):
        blocks.setdefault(evidence.sentences[index].document, []).append(views[index])
    shown = tuple(sorted(views))
    texts = tuple("\n".join(lines) for lines in blocks.values())
    return Packed(shown, texts, _left_out(evidence, shown, views), tuple(views[index] for index in shown))


def _shortened(text: str, count_tokens: CountTokens, limit_tokens: int, left_tokens: int) -> tuple[str, int]:
    """``text`` cut to about ``limit_tokens``, and its tokens; they are not counted where it can't fit what is left."""
    if left_tokens < limit_tokens and len(text) > left_tokens * MAX_CHARS_PER_TOKEN:
        return text, left_tokens + 1
    text = text[: limit_tokens * MAX_CHARS_PER_TOKEN]
    cost = count_tokens(text) + _JOINT
    while cost > limit_tokens and len(text) > 1:
        text = text[: max(1, len(text) * limit_tokens // cost - 1)]
        cost = count_tokens(text) + _JOINT
    return text, cost


def _left_out(evidence: Evidence, shown: Iterable[int], views: Mapping[int, str]) -> tuple[LeftOut, ...]:
    told = {evidence.sentences[index].text for index in shown}
    sentences, characters = dict[int, int](), dict[int, int]()
    for sentence in evidence.sentences:
        if sentence.text not in told:
            sentences[sentence.document] = sentences.get(sentence.document, 0) + 1
            characters[sentence.document] = characters.get(sentence.document, 0) + len(sentence.text)
    for index, view in views.items():
        sentence = evidence.sentences[index]
        if len(view) < len(sentence.text):
            missing = len(sentence.text) - len(view)
            characters[sentence.document] = characters.get(sentence.document, 0) + missing
    return tuple(LeftOut(index, sentences.get(index, 0), characters[index]) for index in sorted(characters))
