"""Answers in the model's own words, each sentence checked against the documents before it is released."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from langchain_core.language_models import BaseLanguageModel
from langchain_core.runnables import Runnable, RunnableConfig, RunnableGenerator
from langchain_core.runnables.config import run_in_executor
from langchain_core.runnables.utils import AddableDict

from fourcorners.chains.reply import Collector, numbered, usage_of
from fourcorners.chains.texts import atexts, texts
from fourcorners.grounding.evidence import Citation
from fourcorners.grounding.marks import MarkFilter, without_marks
from fourcorners.grounding.packing import packing_info
from fourcorners.grounding.sentence_stream import SentenceStream
from fourcorners.grounding.support import Checker, SupportCheck
from fourcorners.prompts.grounded import GroundedText

UNSUPPORTED = " [unsupported]"


class FreeAnswers:
    """The steps of a checked free answer, sync and async; holds no state between calls.

    ``support_check``: a model's opinion beside the rules, see ``grounding.support.SupportCheck``. In async calls it
    runs on a thread, as all checking does. What it raises ends the answer; it is never taken for a verdict.
    """

    def __init__(self, llm: BaseLanguageModel[Any] | Runnable[Any, Any], support_check: SupportCheck | None) -> None:
        self._llm = llm
        self._support_check = support_check

    def as_texts(self) -> Runnable[Any, str]:
        """A runnable from the value of a grounded prompt to the answer with its marks, in pieces."""

        def transform(values: Iterator[Any], config: RunnableConfig) -> Iterator[str]:
            for value in values:
                yield from (chunk["answer"] for chunk in self.chunks(value, config) if "answer" in chunk)

        async def atransform(values: AsyncIterator[Any], config: RunnableConfig) -> AsyncIterator[str]:
            async for value in values:
                async for chunk in self.achunks(value, config):
                    if "answer" in chunk:
                        yield chunk["answer"]

        made: Any = RunnableGenerator[Any, str]
        checked: Runnable[Any, str] = made(transform, atransform, name="checked_answer")
        return checked

    def chunks(self, value: Any, config: RunnableConfig) -> Iterator[AddableDict]:
        """The reply without question and context: a chunk for each sentence released, then the rest."""
        answer = self._begun(value)
        if answer.has_context:
            for piece in texts(self._llm, value, answer.collector.added_to(config)):
                for sentence in answer.feed(piece):
                    yield from answer.released(sentence)
            for sentence in answer.end():
                yield from answer.released(sentence)
        yield from answer.tail()

    async def achunks(self, value: Any, config: RunnableConfig) -> AsyncIterator[AddableDict]:
        """As ``chunks``."""
        answer = self._begun(value)
        if answer.has_context:
            async for piece in atexts(self._llm, value, answer.collector.added_to(config)):
                for sentence in answer.feed(piece):
                    for chunk in await run_in_executor(config, _listed, answer, sentence):
                        yield chunk
            for sentence in answer.end():
                for chunk in await run_in_executor(config, _listed, answer, sentence):
                    yield chunk
        for chunk in answer.tail():
            yield chunk

    def _begun(self, value: Any) -> _Answer:
        text = value.to_string()
        assert isinstance(text, GroundedText)
        return _Answer(text, self._support_check)


class _Answer:
    """One answer on its way: pieces in, sentences out, and what is known at the end."""

    def __init__(self, prompt: GroundedText, support_check: SupportCheck | None) -> None:
        evidence = self._evidence = prompt.evidence
        self._options, self._packed = evidence.options, prompt.packed
        self._checker = Checker(evidence, support_check)
        self._marks, self._stream = MarkFilter(), SentenceStream()
        self._held: list[str] = []
        self._may_refuse = True
        self._numbers: dict[tuple[int, int, int], int] = {}
        self._length = self._n_left_out = 0
        self._gap = ""
        self._refused = False
        self.collector = Collector()

    @property
    def has_context(self) -> bool:
        """Whether there is anything to answer from; else the model is not asked."""
        return bool(self._evidence.sentences)

    def feed(self, piece: str) -> Iterator[str]:
        """Sentences to release now."""
        for sentence in self._stream.feed(self._marks.feed(piece)):
            yield from self._unless_refusal(sentence)

    def end(self) -> Iterator[str]:
        """Sentences to release at the end of the model's text."""
        for sentence in [*self._stream.feed(self._marks.end()), *self._stream.end()]:
            yield from self._unless_refusal(sentence)
        if self._held and _plain("".join(self._held)) == _plain(self._options.refusal):
            # The model took the refusal's branch: its whole answer is the phrase. Amid other sentences the phrase
            # is a sentence like any other, and one that no document supports.
            self._refused, self._held = True, []
        yield from self._held
        self._held = []

    def released(self, sentence: str) -> Iterator[AddableDict]:
        """The chunk for a sentence, once it is checked; none where ``strict`` leaves it out."""
        text = without_marks(sentence).strip()
        gap = sentence[len(sentence.rstrip()) :]
        if not any(char.isalnum() for char in text):
            if text and not self._options.strict:
                yield AddableDict(answer=self._appended(text, gap), sentences=[], citations=[])
            return
        verdict = self._checker.check(text)
        if not verdict.supported and self._options.strict:
            self._n_left_out += 1
            self._gap = gap if "\n" in gap and self._length else self._gap
            return
        new = [citation for citation in verdict.citations if _place(citation) not in self._numbers]
        first = len(self._numbers) + 1
        for citation in new:
            self._numbers.setdefault(_place(citation), len(self._numbers) + 1)
        numbers = list(dict.fromkeys(self._numbers[_place(citation)] for citation in verdict.citations))
        marks = " " + "".join(f"[{number}]" for number in numbers) if verdict.supported else UNSUPPORTED
        start = self._length + len(self._joint)
        entry = {
            "text": text,
            "start": start,
            "end": start + len(text),
            "supported": verdict.supported,
            "reason": verdict.reason,
            "citations": numbers,
        }
        fresh = {_place(citation): citation.as_dict() for citation in new}
        cited = numbered(self._evidence, fresh.values(), first)
        yield AddableDict(answer=self._appended(text + marks, gap), sentences=[entry], citations=cited)

    def tail(self) -> Iterator[AddableDict]:
        """What is known at the end."""
        # A lax answer of no words stays empty, and is no refusal: nobody took that branch, and "not in the context"
        # would dress up what may be a filter, a stop string, a limit of no tokens. A strict answer is what was found
        # to be supported, or the refusal; there the branch is taken here, because nothing was.
        if self._refused or not self.has_context or (self._options.strict and not self._length):
            self._refused = True
            yield AddableDict(answer=self._options.refusal, sentences=[], citations=[])
        elif not self._length:
            yield AddableDict(answer="", sentences=[], citations=[])
        packing = packing_info(self._packed, self._evidence) if self._packed else {}
        told = usage_of(self.collector.info | packing)
        if self._n_left_out:
            told["usage"]["left_out_unsupported"] = self._n_left_out
        yield AddableDict(refused=self._refused, score=None, threshold=None, guarantee="verified", **told)

    def _unless_refusal(self, sentence: str) -> Iterator[str]:
        """Sentences are held back for as long as all of the answer may turn out to be the refusal phrase."""
        self._held.append(sentence)
        self._may_refuse &= _plain(self._options.refusal).startswith(_plain("".join(self._held)))
        if not self._may_refuse:
            yield from self._held
            self._held = []

    @property
    def _joint(self) -> str:
        """What stands between the answer so far and the next sentence."""
        return (self._gap or " ") if self._length else ""

    def _appended(self, text: str, gap: str) -> str:
        piece = self._joint + text
        self._length += len(piece)
        self._gap = gap
        return piece


def _listed(answer: _Answer, sentence: str) -> list[AddableDict]:
    return list(answer.released(sentence))


def _plain(text: str) -> str:
    return " ".join(text.split()).rstrip(".")


def _place(citation: Citation) -> tuple[int, int, int]:
    return citation.document, citation.start, citation.end
