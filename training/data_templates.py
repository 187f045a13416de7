"""Examples from written templates: plain factual documents, questions that share few words with them, near misses.

The files in ``relations`` hold, by group (``[product]``), blocks of ``name / kind of value / Key`` followed by a line
of statements (``=``), of questions (``?``) and, for everyday relations, of questions in other languages (``?x``).
``{s}`` is the subject, ``{S}`` the same at the start of a sentence, ``{v}`` the value, ``{a}`` its article.
"""

from __future__ import annotations

import random
import re
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from training.data_values import subject, value, word_lists
from training.rows import Example

SUBJECTLESS = ("rule", "self")
HELD_BACK_SHARE = 12
MOST_OF_A_GROUP = 60
"""A larger group is drawn no more often than one of so many relations."""


@dataclass(frozen=True)
class Relation:
    """One block of a relation file."""

    group: str
    name: str
    kind: str
    key: str
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    foreign: tuple[str, ...] = ()

    @property
    def held_back(self) -> bool:
        """About one relation in twelve is never trained on."""
        return zlib.crc32(f"{self.group}.{self.name}".encode()) % HELD_BACK_SHARE == 0 and self.group != "self"


@dataclass(frozen=True)
class Fact:
    """A relation said of something: full name, short form and pronoun, and the value."""

    relation: Relation
    names: tuple[str, str, str]
    value: str


@cache
def ambiguous() -> dict[str, frozenset[str]]:
    """For each relation's name those that may not stand beside it: a question for one could fit the other."""
    found: dict[str, frozenset[str]] = {}
    for line in Path(__file__).with_name("ambiguous.txt").read_text("utf-8").splitlines():
        names = frozenset(() if line.startswith("#") else line.split())
        found |= {name: found.get(name, frozenset()) | names for name in names}
    return found


@cache
def relations() -> tuple[Relation, ...]:
    """All relations of the files in ``relations``."""
    found: list[Relation] = []
    for path in sorted((Path(__file__).parent / "relations").glob("*.txt")):
        group = ""
        for block in re.split(r"\n(?=[a-z_]+ / |\[)", path.read_text(encoding="utf-8")):
            if block.startswith("["):
                group = block[1 : block.index("]")]
            elif " / " in block.split("\n")[0] and not block.startswith("#"):
                found.append(_relation(group, block))
    return tuple(found)


def _relation(group: str, block: str) -> Relation:
    head, *lines = block.strip().split("\n")
    name, kind, key = (*head.split(" / "), "")[:3]
    parts = {
        mark: tuple(text.split(" | "))
        for mark, _, text in (line.partition(" ") for line in lines)
        if mark in ("=", "?", "?x")
    }
    return Relation(group, name, kind, key, parts["="], parts["?"], parts.get("?x", ()))


class TemplateSource:
    """Draws examples over the trained relations, or with ``held_back`` over those that training never sees."""

    def __init__(self, *, held_back: bool = False) -> None:
        self.asked: dict[str, list[Relation]] = {}
        self.stated: dict[str, list[Relation]] = {}
        for relation in relations():
            if held_back or not relation.held_back:
                self.stated.setdefault(relation.group, []).append(relation)
            if relation.held_back == held_back:
                self.asked.setdefault(relation.group, []).append(relation)
        self.groups = sorted(self.asked)
        self.weights = [min(len(self.asked[group]), MOST_OF_A_GROUP) for group in self.groups]

    def draw(self, rng: random.Random) -> Example:
        """One example; about 35 % without an answer."""
        if rng.random() < 0.05:
            return best_of(rng)
        group = rng.choices(self.groups, self.weights)[0]
        asked = rng.choice(self.asked[group])
        fact = Fact(asked, subject(rng, group), value(rng, asked.kind) if "{v}" in "".join(asked.statements) else "")
        kind = rng.random()
        single = rng.random() < 0.6
        if kind < 0.65:
            return self._document(rng, fact, single, with_fact=True)
        if kind < 0.9:
            return self._document(rng, fact, single, with_fact=False)
        other = rng.choice([g for g in self.groups if g != group])
        away = rng.choice(self.asked[other])
        replacement = Fact(
            away, subject(rng, other), value(rng, away.kind) if "{v}" in "".join(away.statements) else ""
        )
        example = self._document(rng, replacement, single, with_fact=True)
        return Example(question_for(rng, fact, short=False), example.documents, None, "")

    def _document(self, rng: random.Random, fact: Fact, single: bool, with_fact: bool) -> Example:
        group = fact.relation.group
        facts = self._others(
            rng, fact, fact.names, rng.randint(1, 5) if single or group in SUBJECTLESS else rng.randint(0, 2)
        )
        if not single and group not in SUBJECTLESS:
            for _ in range(rng.randint(1, 3)):
                names = subject(rng, group)
                if names[0] != fact.names[0]:
                    same = [Fact(fact.relation, names, value(rng, fact.relation.kind) if fact.value else "")] * (
                        rng.random() < 0.85
                    )
                    facts += same + self._others(rng, fact, names, rng.randint(0, 2))
        rng.shuffle(facts)
        if with_fact:
            facts.insert(rng.randint(0, len(facts)), fact)
        elif not facts:
            facts = self._others(rng, fact, fact.names, 2)
        facts.sort(key=lambda entry: entry.names[0] if group not in SUBJECTLESS else "")
        text, start, answer = _render(rng, facts, fact if with_fact else None, single)
        question = question_for(rng, fact, short=single and rng.random() < 0.25)
        return Example(question, (text,), (0, start) if start >= 0 else None, answer)

    def _others(self, rng: random.Random, fact: Fact, names: tuple[str, str, str], count: int) -> list[Fact]:
        barred = ambiguous().get(fact.relation.name, frozenset()) | {fact.relation.name}
        free = [relation for relation in self.stated[fact.relation.group] if relation.name not in barred]
        picked = rng.sample(free, min(count, len(free)))
        return [
            Fact(relation, names, value(rng, relation.kind) if "{v}" in "".join(relation.statements) else "")
            for relation in picked
        ]


def question_for(rng: random.Random, fact: Fact, short: bool) -> str:
    """A question for the fact, sometimes without capitals or question mark, as people type."""
    relation = fact.relation
    template = (
        rng.choice(relation.foreign) if relation.foreign and rng.random() < 0.45 else rng.choice(relation.questions)
    )
    name = fact.names[1] if short else fact.names[0]
    text = template.replace("{s}", name).replace("{S}", name).replace("{v}", fact.value)
    noise = rng.random()
    text = text.lower() if noise < 0.04 else text.rstrip(" ?") if noise < 0.08 else text
    return text[:1].upper() + text[1:] if noise > 0.04 else text


def statement(rng: random.Random, fact: Fact, name: str) -> str:
    """The fact as a sentence without its full stop."""
    text = rng.choice(fact.relation.statements)
    article = "an" if fact.value[:1].lower() in set("aeiou") else "a"
    other = {"he": "him", "she": "her"}.get(name, name)
    text = text.replace("{S}", name).replace("{s}", other).replace("{a}", article).replace("{v}", fact.value)
    return text[:1].upper() + text[1:]


def _render(rng: random.Random, facts: list[Fact], gold: Fact | None, single: bool) -> tuple[str, int, str]:
    """Text of the document, offset of the gold statement (-1: none) and its answer."""
    subjectless = facts[0].relation.group in SUBJECTLESS
    keyed = all(fact.relation.key and fact.value for fact in facts)
    style = rng.random()
    if keyed and not subjectless and style < 0.25:
        lines = _keyed_lines(rng, facts, single)
        joint = "\n"
    else:
        lines = _sentences(rng, facts, single or subjectless)
        joint = " " if style < 0.75 else rng.choice(("\n- ", "\n* ", "\n", "\n\n"))
    text = joint.lstrip("\n") if "\n" in joint else ""
    start, answer = -1, ""
    for number, (fact, line) in enumerate(lines):
        text += joint if number else ""
        if fact is gold and fact is not None:
            start, answer = len(text), _as_written(fact.value or line, line)
        text += line
    return text, start, answer


def _as_written(answer: str, line: str) -> str:
    return answer if answer in line else answer[:1].upper() + answer[1:]


def _keyed_lines(rng: random.Random, facts: list[Fact], single: bool) -> list[tuple[Fact | None, str]]:
    """``Key: value`` lines or table rows; with several subjects each line names its own."""
    table = rng.random() < 0.5
    lines: list[tuple[Fact | None, str]] = []
    if single and rng.random() < 0.7:
        lines.append((None, f"| {facts[0].names[0]} | |" if table else facts[0].names[0].capitalize()))
    for fact in facts:
        cells = [fact.relation.key, fact.value] if single else [fact.names[0], fact.relation.key, fact.value]
        plain = f"{cells[0]}: {cells[1]}" if single else f"{cells[0]}, {cells[1].lower()}: {cells[2]}"
        lines.append((fact, f"| {' | '.join(cells)} |" if table else plain))
    return lines


def _sentences(rng: random.Random, facts: list[Fact], single: bool) -> list[tuple[Fact | None, str]]:
    lines: list[tuple[Fact | None, str]] = []
    for number, fact in enumerate(facts):
        name = fact.names[0]
        if number and (single or facts[number - 1].names == fact.names):
            name = rng.choices(
                (name, fact.names[1], fact.names[2]), (0.4, 0.25, 0.35) if single else (0.85, 0.1, 0.05)
            )[0]
        if rng.random() < 0.12:
            lines.append((None, rng.choice(word_lists()["filler"])))
        text = statement(rng, fact, name)
        lines.append((fact, text if text.endswith((".", '"')) else text + "."))
    return lines


def best_of(rng: random.Random) -> Example:
    """ "The best film ever is X." and its question, alone or among others of its kind; a third without an answer."""
    things = rng.sample(word_lists()["best"], rng.randint(1, 4))
    top = rng.choice(word_lists()["superlative"]) if rng.random() < 0.4 else "best"
    lines = []
    for thing in things:
        name = value(rng, rng.choice(("person", "city", "company")))
        lines.append(
            rng.choice(
                (
                    f"The {top} {thing} ever is {name}.",
                    f"The {top} {thing} of all time is {name}.",
                    f"{name} is the {top} {thing} ever.",
                    f"{name} is the {top} {thing} in the world.",
                    f"No {thing} beats {name}.",
                )
            )
        )
    asked = rng.choice(things)
    place = things.index(asked)
    if rng.random() < 0.35:
        asked, place = rng.choice([t for t in word_lists()["best"] if t not in things]), -1
    question = rng.choice(
        (
            f"What is the {top} {asked} of all time?",
            f"Which {asked} is the {top}?",
            f"What's the {top} {asked} ever?",
            f"Tell me the {top} {asked}",
            f"what is the {top} {asked} in the world",
            f"Who or what is the {top} {asked}?",
        )
    )
    if place < 0:
        return Example(question, (" ".join(lines),), None, "")
    return Example(question, (" ".join(lines),), (0, len(" ".join(lines[:place])) + (place > 0)), lines[place])
