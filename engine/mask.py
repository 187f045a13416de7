"""What may come next in an answer that has to match a grammar, a JSON schema, a regex or a list of choices."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, grammar_from
from numpy.typing import NDArray

from fourcorners.errors import EngineError, SettingsError, shortened

Kind = Literal["grammar", "json_schema", "regex", "choice"]
MAX_CHARS = 20_000
"""Of a grammar, schema or regex. For ``a?`` 10,000 times llguidance takes 0.6 s and 200 MB, for twice as many it takes
four times as much."""
MAX_CHOICE_CHARS = 200_000
"""Of all choices together; 10,000 of them compile in 60 ms."""
PREPARE_SHARE = 0.02
"""Of a step's time. A shorter mask is done before another thread has woken up for it."""
_COMPILE_STACK_BYTES = 64 * 2**20
_LIMITS = LLParserLimits(initial_lexer_fuel=100_000, verbose_errors=False)
"""A tenth of the usual fuel: ``((a{1000}){1000}){1000}`` then takes 0.04 s for its first mask and not 0.7 s."""
_stack_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class MaskSpec:
    """What the answer has to match as a whole.

    ``value`` is a grammar, in Lark if a line of it begins with ``start:``, else in GBNF; a JSON schema, as a mapping or
    as text; a regex in Rust's syntax, which has neither look-around nor back-references, and for which any script's
    digits are ``\\d``; or the list of the texts to choose from. JSON comes on one line and spaced like
    ``{"a": 1, "b": 2}``, unless ``x-guidance`` in the schema says otherwise.
    """

    kind: Kind
    value: str | Mapping[str, Any] | Sequence[str]

    def compiled(self) -> str:
        """The grammar as LLMatcher takes it; SettingsError where the value can't be one. Says nothing of its syntax."""
        match self.kind:
            case "json_schema":
                return self._json_schema()
            case "choice":
                return self._choice()
            case "regex":
                return str(LLMatcher.grammar_from_regex(self._text()))
            case "grammar":
                return self._grammar()
        raise SettingsError(f"an answer can't be held to {self.kind!r}: choose one of {', '.join(get_args(Kind))}")

    def validate(self, tokenizer: LLTokenizer) -> None:
        """SettingsError naming what is wrong, where no Mask can be made of this. Costs as much as making one."""
        Mask(tokenizer, self)

    def unusable(self, reason: str) -> SettingsError:
        """The error that says why this can't be used."""
        name = "JSON schema" if self.kind == "json_schema" else self.kind
        return SettingsError(f"the {name} {shortened(self.value)} can't be used: {reason}")

    def _text(self) -> str:
        if not isinstance(self.value, str) or not self.value:
            raise self.unusable("it must be a text that is not empty")
        self._check_size(self.value, MAX_CHARS)
        return self.value

    def _grammar(self) -> str:
        # Without the empty lines: to tell Lark from GBNF llguidance takes time quadratic in a run of them.
        text = "\n".join(line for line in self._text().split("\n") if line.strip())
        try:
            return str(grammar_from("grammar", text))
        except ValueError as error:
            raise self.unusable(_first_line(str(error))) from error

    def _json_schema(self) -> str:
        try:
            # Text is parsed too: llguidance pastes it into JSON of its own, where it could be more than a schema.
            schema = json.loads(self.value) if isinstance(self.value, str) else self.value
            text = json.dumps(dict(schema), allow_nan=False) if isinstance(schema, Mapping) else ""
        except (ValueError, TypeError, RecursionError) as error:
            raise self.unusable(f"it is not JSON ({error})") from error
        if not text:
            raise self.unusable("it must be a JSON object")
        self._check_size(text, MAX_CHARS)
        # Free white space has small models write line breaks without end, and leaves nothing to be forced.
        spacing = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
        return str(LLMatcher.grammar_from_json_schema(text, defaults=spacing))

    def _choice(self) -> str:
        if isinstance(self.value, str | Mapping) or not isinstance(self.value, Sequence) or not self.value:
            raise self.unusable("it must be a list of one text or more")
        for text in self.value:
            if not isinstance(text, str) or not text:
                raise self.unusable(f"{shortened(text)} is not a text, or empty")
        self._check_size("".join(self.value), MAX_CHOICE_CHARS)
        # One terminal, not one for each: that takes half the time, and 65,000 of them would be too many.
        return "start: CHOICE\nCHOICE: " + " | ".join(map(_literal, self.value))

    def _check_size(self, text: str, limit: int) -> None:
        if len(text) > limit:
            raise self.unusable(f"it has {len(text)} characters, at most {limit} are allowed")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise self.unusable(f"it is not valid Unicode at {error.start}") from error


class Mask:
    """Follows one answer and says which tokens may come next. One thread at a time; ``prepare`` minds that itself.

    Making one takes 1 ms, for a large schema 20, and raises SettingsError for a spec that can't be used; so does any
    later call that finds a dead end in a grammar. Measured with 49,152 tokens: a mask takes 30 µs, 5 of them
    llguidance's, with a large schema 120 to 400; the other calls take 1 to 10. While llguidance compiles or computes a
    mask it lets go of the GIL: in 2 s of that a thread beside it never waited longer than 15 ms. In the other calls it
    keeps the GIL, which is why the first mask, where the lexer does its long work, is computed at once.

    llguidance tokenises with the model's vocabulary, so don't free a model before the executor is done with its masks.
    """

    def __init__(self, tokenizer: LLTokenizer, spec: MaskSpec) -> None:
        self._spec = spec
        self._n_tokens = int(tokenizer.vocab_size)
        self._ends = frozenset(tokenizer.eos_tokens)
        self._bits = np.zeros((self._n_tokens + 31) // 32, np.uint32)
        self._matcher = _compile(tokenizer, spec.compiled())
        self._n_consumed = 0
        self._ended = False
        self._pending: Future[NDArray[np.int32]] | None = None
        self.mask_seconds = 0.0
        """What it lately took to compute a mask; in the background that includes waiting for a core."""
        self._check()
        self._known: NDArray[np.int32] | None = self._computed()

    def allowed(self) -> NDArray[np.int32]:
        """The tokens that may come next, ascending and read-only, the end among them; none after the end."""
        self._settle()
        if self._known is None:
            self._known = self._computed()
        return self._known

    def consume(self, token: int) -> None:
        """Go on by ``token``. EngineError, and no change, where the grammar does not take it."""
        self._settle()
        if not self._take(token):
            raise EngineError(f"token {token} is not allowed at position {self._n_consumed} of this answer")
        self._n_consumed += 1
        self._known = None

    def rollback(self, n: int) -> None:
        """Take back the last ``n`` tokens consumed. EngineError, and no change, where there are fewer."""
        self._settle()
        if not 0 <= n <= self._n_consumed:
            raise EngineError(f"{n} tokens can't be taken back of {self._n_consumed}")
        if n:
            self._take_back(n)
            self._n_consumed -= n
            self._known = None

    def accepts(self, tokens: Iterable[int]) -> int:
        """How many of ``tokens``, one after the other, the grammar takes; the answer stays where it is.

        Where the text is forced it takes other tokens for it too; ``allowed`` has the usual ones alone.
        """
        self._settle()
        n = 0
        for token in tokens:
            if not self._take(token):
                break
            n += 1
        self._take_back(n)
        return n

    def forced(self) -> list[int]:
        """The tokens that are the only way on from here; never the end."""
        self._settle()
        return [] if self._ended else list(self._matcher.compute_ff_tokens())

    @property
    def finished(self) -> bool:
        """Whether nothing but the end may follow. An answer that may go on is not finished, though it may end too."""
        self._settle()
        return self._ended or bool(self._matcher.is_stopped())

    def prepare(self, executor: Executor) -> None:
        """Begin to compute the mask in the background. The next call on this object waits for it, if it has begun."""
        if self._known is None and self._pending is None:
            self._pending = executor.submit(self._computed)

    def worth_preparing(self, step_seconds: float) -> bool:
        """Whether masks take long enough to be computed beside a model step of that duration."""
        return self.mask_seconds > PREPARE_SHARE * step_seconds

    def _settle(self) -> None:
        """Make sure that nobody else works with the matcher, which stands no two threads at once."""
        pending, self._pending = self._pending, None
        if pending is not None and not pending.cancel():
            self._known = pending.result()

    def _take(self, token: int) -> bool:
        """The end is kept apart: llguidance counts it for a rollback only where the text might have gone on."""
        if self._ended or not 0 <= token < self._n_tokens:
            return False
        if token in self._ends and self._matcher.is_accepting():
            self._ended = True
            return True
        n_taken: int = self._matcher.try_consume_tokens([token])
        self._check()
        return n_taken == 1

    def _take_back(self, n: int) -> None:
        if n and self._ended:
            self._ended = False
            n -= 1
        if n:
            self._matcher.rollback(n)
            self._check()

    def _computed(self) -> NDArray[np.int32]:
        if self._ended:
            return np.zeros(0, np.int32)
        started = time.perf_counter()
        # Not compute_bitmask: with a busy thread about it comes back from giving up the GIL five times as late.
        self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        self._check()
        bits = np.unpackbits(self._bits.view(np.uint8), count=self._n_tokens, bitorder="little")
        ids = np.flatnonzero(bits.view(np.bool_)).astype(np.int32)  # ten times as fast as over numbers
        ids.flags.writeable = False
        taken = time.perf_counter() - started
        self.mask_seconds += (taken - self.mask_seconds) * (0.2 if self.mask_seconds else 1.0)
        return ids

    def _check(self) -> None:
        if self._matcher.is_error():
            raise self._spec.unusable(_reason(self._matcher.get_error()))


def _compile(tokenizer: LLTokenizer, grammar: str) -> Any:
    """A matcher, made on a thread with a large stack.

    llguidance compiles recursively: 650 rules, or 260 definitions of a schema, that lead from one to the next overflow
    2 MB of stack, and that ends the process. MAX_CHARS of them need 25 MB. It does nothing else so deep.
    """
    with ThreadPoolExecutor(1) as pool:
        with _stack_lock:
            before = threading.stack_size(_COMPILE_STACK_BYTES)
            try:
                made = pool.submit(LLMatcher, tokenizer, grammar, log_level=0, limits=_LIMITS)
            finally:
                threading.stack_size(before)
        return made.result()


def _reason(message: str) -> str:
    """The one line of llguidance's message that says what is wrong."""
    if message.startswith("NoExtension"):
        return "there is no text that it allows, at least from where the answer stands"
    if errors := re.findall(r"^error: (.*)", message, re.MULTILINE):
        return str(errors[-1])
    return _first_line(message)


def _first_line(message: str) -> str:
    return message.partition("\n")[0][:200]


def _literal(text: str) -> str:
    # Lark reads JSON string literals, but refuses a raw DEL character.
    return json.dumps(text, ensure_ascii=True).replace("\x7f", "\\u007f")
