"""Whether a question leans on what was said before, and how: by its openers, pronouns, fragments and missing nouns."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from fourcorners.grounding.asked import Asked
from fourcorners.grounding.question_words import (
    CONTENT,
    NOUNS,
    Lists,
    Word,
    noun_phrases,
    same_words,
)


class Leaning(StrEnum):
    """What a question lacks."""

    nothing = "nothing"
    clause = "clause"
    """All but its question word: "and why is that?"."""
    frame = "frame"
    """All but what is new: "and for children?"."""
    thing = "thing"
    """What it is about: "how much does it cost?"."""
    person = "person"
    place = "place"
    plural = "plural"
    """What several things are: "which is the strongest of those?"."""


def leaning(asked: Asked, last: Asked) -> Leaning:
    """How ``asked`` leans on ``last``, the question before it, and its answer."""
    body = asked.body
    if not asked.words or asked.is_polite:
        return Leaning.nothing
    if body and body[0].folded in asked.lists["tell"]:
        body = body[1:]
    content = [word for word in body if word.role in CONTENT]
    stands_for = _stands_for(asked)
    if _is_fragment(asked, content):
        return Leaning.frame
    if not content:
        tells = len(body) < len(asked.body)
        return Leaning.clause if tells and stands_for is Leaning.nothing else _without_content(asked, stands_for)
    if stands_for is not Leaning.nothing:
        return stands_for
    if _is_impersonal(asked):
        return Leaning.nothing
    return _by_nouns(asked, last, body)


def _is_impersonal(asked: Asked) -> bool:
    """ "What time is it?": "it" is nothing at all. "Gibt es" leaves open whether the rest leans."""
    has_expletive = any(_is_expletive(asked, index) for index in range(len(asked.body)))
    return has_expletive and not (asked.language == "german" and asked.has("existential"))


def _by_nouns(asked: Asked, last: Asked, body: list[Word]) -> Leaning:
    """Without a pronoun: a question leans where no noun says what it is about."""
    if _is_choice_without_noun(asked):
        return Leaning.plural
    if asked.has("nearest") and not any(word.folded in ("to", "from") for word in body):
        return Leaning.thing
    phrases = noun_phrases(asked.text, body)
    is_specific = any(word.role in NOUNS or (word.role == "number" and len(word.text) > 3) for word in body)
    if not is_specific and not any(_is_general(asked, phrase) for phrase in phrases):
        return Leaning.plural if any(word.role in ("adjective", "ordinal") for word in body) else Leaning.thing
    few = len(phrases) <= 1 and not any(word.role == "name" for word in asked.nouns)
    is_new = not same_words(body) & same_words([word for word in last.words if word.role not in NOUNS])
    # German nouns all count as names here: an opener alone is enough for one of them.
    opened_on = asked.is_opened and is_new and (few or (asked.language == "german" and len(asked.nouns) <= 1))
    return Leaning.thing if opened_on else Leaning.nothing


def _is_general(asked: Asked, phrase: Sequence[Word]) -> bool:
    """A relational noun that nothing leads in: "what is language?", not "what is the language?"."""
    index = asked.words.index(phrase[0])
    before = asked.words[index - 1].folded if index else ""
    leads = (asked.lists[kind] for kind in ("det", "which", "possessive", "degree"))
    return all(word.role == "relational" for word in phrase) and not any(before in words for words in leads)


def _without_content(asked: Asked, stands_for: Leaning) -> Leaning:
    """ "And when?", "why is that?" lean on all that was said, "how tall is it?", "where is it?" on its subject."""
    if stands_for is Leaning.nothing:
        return Leaning.nothing if asked.has("you") else Leaning.clause
    folded = [word.folded for word in asked.body]
    how = next((at for at, word in enumerate(folded) if word in asked.lists["degree"]), len(folded))
    has_degree = any(word not in asked.lists["aux"] for word in folded[how + 1 : how + 2])
    if stands_for is not Leaning.thing or has_degree:
        return stands_for
    return Leaning.clause if asked.has("demonstrative") or asked.has("why") or not asked.has("wh") else stands_for


def _is_choice_without_noun(asked: Asked) -> bool:
    """ "Which is best for travelling?", not "which is the best hotel?"."""
    body = asked.body
    if body[0].folded not in asked.lists["which"] or body[0].folded in ("what", "was"):
        return False
    first = next((at for at, word in enumerate(body) if word.role != "frame"), len(body))
    after = body[first + 1 : first + 2]
    return (
        body[first : first + 1] != [] and body[first].role == "adjective" and not (after and after[0].role in CONTENT)
    )


def _is_fragment(asked: Asked, content: Sequence[Word]) -> bool:
    """No verb and no question word: "for children?", "Germany?", "the second one?"."""
    body = asked.body
    if not body or not content or asked.has("wh") or asked.has("aux"):
        return False
    if body[0].folded in asked.lists["tell"] or (not asked.is_opened and any(word.role == "verb" for word in body)):
        return False
    starts_with_preposition = body[0].folded in asked.lists["prep"]
    return asked.is_opened or starts_with_preposition or len(content) == 1 or asked.has("set")


def _stands_for(asked: Asked) -> Leaning:
    """What the first word stands for that points out of the question; nothing where none does."""
    weak = Leaning.nothing
    for index, word in enumerate(asked.body):
        if word.role != "frame":
            continue
        if word.folded in asked.lists["else"]:
            weak = Leaning.thing
        elif (found := _pointed_at(asked, index)) is not Leaning.nothing:
            return found
    return weak


def _pointed_at(asked: Asked, index: int) -> Leaning:
    lists, body, word = asked.lists, asked.body, asked.body[index]
    followed = index + 1 < len(body) and body[index + 1].role in (CONTENT - {"verb"})
    if word.folded in lists["place"]:
        is_here = _is_existential(asked, index) or _named_before(asked, index, places=True)
        return Leaning.nothing if is_here else Leaning.place
    if word.folded in lists["demonstrative"] | lists["set"]:
        is_several = word.folded in lists["plural"] | lists["set"]
        pointed_at = Leaning.plural if is_several else Leaning.thing
        return pointed_at if _points_back(asked, index, followed) else Leaning.nothing
    if word.folded in lists["possessive"] and (followed or word.folded not in lists["pronoun"]):
        return Leaning.nothing if _named_before(asked, index, anywhere=True) else _of_pronoun(word, lists)
    if word.folded not in lists["pronoun"] | lists["plural"]:
        return Leaning.nothing
    is_free = _is_polite_form(asked, word) or _is_expletive(asked, index) or _named_before(asked, index)
    return Leaning.nothing if is_free else _of_pronoun(word, lists)


def _of_pronoun(word: Word, lists: Lists) -> Leaning:
    if word.folded in lists["plural"] or word.folded in ("their", "theirs"):
        return Leaning.plural
    return Leaning.person if word.folded in lists["person"] else Leaning.thing


def _points_back(asked: Asked, index: int, followed: bool) -> bool:
    """ "why is that?", "those boats", "the red one"; not "the bus that goes", "this year", "one adult"."""
    lists, body, word = asked.lists, asked.body, asked.body[index]
    following = body[index + 1] if index + 1 < len(body) else None
    previous = body[index - 1] if index else None
    if followed and following is not None and following.role == "time":
        return False
    if word.folded in lists["set"] and word.folded not in lists["demonstrative"]:
        return not followed and not (previous and previous.folded == "no")
    if asked.language == "german" and word.folded == "das" and following is not None:
        # An article stands before a noun or its adjective; as a pronoun it stands alone or before the frame.
        return following.role not in ("name", "noun", "adjective", "ordinal", "relational", "number")
    if word.folded == "that" and previous is not None:
        return following is None or previous.role == "frame"
    return True


def _is_existential(asked: Asked, index: int) -> bool:
    near = asked.body[max(0, index - 1) : index] + asked.body[index + 1 : index + 2]
    is_last = index == len(asked.body) - 1
    return not is_last and any(word.folded in asked.lists["existential"] for word in near)


def _is_expletive(asked: Asked, index: int) -> bool:
    """ "how long does it take to …", "is it true that …", "what time is it", "gibt es"."""
    folded = [word.folded for word in asked.body]
    if folded[index] not in ("it", "es"):
        return False
    if "time" in folded[:index] or (asked.language == "german" and {"gibt", "uhr", "spat"} & set(folded)):
        return True
    if index + 1 < len(folded) and asked.body[index + 1].stem in ("rain", "snow", "regn", "schnei"):
        return True
    behind = folded[index + 1 :]
    clause = next((at for at, word in enumerate(behind) if word in ("to", "that", "if", "zu", "dass", "ob")), 0)
    takes = bool(behind) and behind[0] in ("take", "takes", "took", "dauert")
    is_be = index > 0 and folded[index - 1] in ("is", "was", "ist", "war")
    return clause > 0 and clause + 1 < len(behind) and (takes or is_be)


def _is_polite_form(asked: Asked, word: Word) -> bool:
    """German "Sie" and "Ihnen" inside a question are whom it speaks to."""
    return asked.language == "german" and word.text in ("Sie", "Ihnen", "Ihre", "Ihr") and word is not asked.words[0]


def _named_before(asked: Asked, index: int, *, anywhere: bool = False, places: bool = False) -> bool:
    """Whether the question itself names, in an earlier clause, what the pronoun at ``index`` may stand for."""
    lists, body = asked.lists, asked.body
    border = next((at for at in range(index, 0, -1) if _begins_clause(asked, at)), 0)
    end = index if anywhere else border
    head = {id(word) for word in asked.head}
    for at, word in enumerate(body[:end]):
        if word.role not in NOUNS or id(word) in head:
            continue
        if not places:
            return True
        before = [other.folded for other in body[max(0, at - 3) : at]]
        if word.role == "name" or any(other in lists["prep"] for other in before):
            return True
    return False


def _begins_clause(asked: Asked, at: int) -> bool:
    between = asked.text[asked.body[at - 1].end : asked.body[at].start]
    return asked.body[at].folded in asked.lists["clause"] or "," in between or ";" in between
