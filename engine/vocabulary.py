"""The vocabulary of a GGUF: text to token ids and back, with untrusted text kept free of control tokens."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import llama_cpp
import regex
from llguidance import LLTokenizer

from fourcorners.errors import EngineClosed

MAX_PIECE_BYTES = 8_000
"""llama.cpp's tokenizers overflow the stack on unbroken runs of 40-80 kB, so text goes in piece by piece."""

_Tokenize = ctypes.CFUNCTYPE(
    ctypes.c_int32,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_int32,
    ctypes.c_void_p,
    ctypes.c_int32,
    ctypes.c_bool,
    ctypes.c_bool,
)
_native_tokenize: Callable[..., int] = _Tokenize(
    ctypes.cast(llama_cpp.llama_cpp._lib.llama_tokenize, ctypes.c_void_p).value or 0
)
_callbacks: list[Any] = []
"""llguidance may call them as long as the process lives."""

_SPECIAL = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED


class _Access:
    """The way to a model's vocabulary, until it is closed."""

    def __init__(self, vocab: Any) -> None:
        self._vocab = vocab
        self._lock = threading.Lock()

    def close(self) -> None:
        with self._lock:
            self._vocab = None

    @contextmanager
    def __call__(self) -> Iterator[Any]:
        with self._lock:
            if self._vocab is None:
                raise EngineClosed("the engine was closed: make a new one")
            yield self._vocab

    def tokenize(self, _: Any, text: int, length: int, tokens: int, room: int, special: bool, parse: bool) -> int:
        """``llama_tokenize`` for llguidance, which would call it with a model that was freed: then nothing is found."""
        with self._lock:
            return _native_tokenize(self._vocab, text, length, tokens, room, special, parse) if self._vocab else 0


class Vocabulary:
    """Safe from any thread. After ``close`` every method that needs the model raises EngineClosed."""

    def __init__(self, vocab: Any) -> None:
        self._open = _Access(vocab)
        self.n_tokens = int(llama_cpp.llama_vocab_n_tokens(vocab))
        self.eos = int(llama_cpp.llama_vocab_eos(vocab))
        self.is_spm = llama_cpp.llama_vocab_type(vocab) == llama_cpp.LLAMA_VOCAB_TYPE_SPM

    def close(self) -> None:
        """Let go of the model, which is about to be freed; waits for a call under way."""
        self._open.close()

    @cached_property
    def end_tokens(self) -> frozenset[int]:
        """Tokens that end a generation (end of text, end of turn)."""
        with self._open() as vocab:
            ends = [token for token in range(self.n_tokens) if llama_cpp.llama_vocab_is_eog(vocab, token)]
        return frozenset(ends) | {self.eos}

    @cached_property
    def pieces(self) -> tuple[bytes, ...]:
        """The bytes that each token stands for; empty for control tokens, which never stand for text."""
        return tuple(self._piece(token, special=False) for token in range(self.n_tokens))

    @cached_property
    def constraint_tokenizer(self) -> LLTokenizer:
        """The vocabulary as llguidance wants it, for grammar masks. Takes about a second for 100,000 tokens, once.

        It may be used when the model is gone, though it finds no forced tokens then.
        """
        with self._open() as vocab:
            attributes = [llama_cpp.llama_vocab_get_attr(vocab, token) for token in range(self.n_tokens)]
        pieces = [self._piece(token, special=True) for token in range(self.n_tokens)]
        tokens = [b"\xff" + p if _is_control(a, p) else p for a, p in zip(attributes, pieces, strict=True)]
        callback = _Tokenize(self._open.tokenize)
        _callbacks.append(callback)
        address = ctypes.cast(callback, ctypes.c_void_p).value
        # The first pointer is only handed on to the callback, which knows better.
        return LLTokenizer.from_llamacpp(tokens=tokens, vocab_ptr=1, tokenize_fptr=address, eos_token=self.eos)

    def control(self, text: str) -> list[int]:
        """Tokens of trusted template text; control-token text in it becomes control tokens."""
        return self._tokenize(text.encode(), parse_special=True)

    def plain(self, text: str) -> list[int]:
        """Tokens of untrusted text: never a control token, whatever the text says. About 1 MB/s."""
        tokens: list[int] = []
        for piece in _bounded_pieces(text):
            for part in self._without_specials(piece):
                tokens.extend(self._tokenize_bare(part))
        return tokens

    def raw(self, text: str) -> list[int]:
        """Tokens of a whole prompt that its caller vouches for, control tokens included."""
        tokens: list[int] = []
        for number, piece in enumerate(_bounded_pieces(text)):
            tokens.extend(self._tokenize_bare(piece, parse_special=True) if number else self.control(piece))
        return tokens

    def begins(self) -> list[int]:
        """The begin-of-text token where this model wants one."""
        with self._open() as vocab:
            bos = int(llama_cpp.llama_vocab_bos(vocab)) if llama_cpp.llama_vocab_get_add_bos(vocab) else -1
        return [bos] if bos >= 0 else []

    def bos_and_eos(self) -> tuple[str, str]:
        """How the begin- and end-of-text tokens are written, as chat templates want them; "" where there is none."""
        with self._open() as vocab:
            ids = [int(llama_cpp.llama_vocab_bos(vocab)), self.eos]
        first, last = (
            self._piece(token, special=True).decode("utf-8", "replace") if token >= 0 else "" for token in ids
        )
        return first, last

    def text(self, tokens: list[int]) -> str:
        """The text of ``tokens``; bytes that are not UTF-8 become U+FFFD."""
        return b"".join(self.pieces[token] for token in tokens).decode("utf-8", "replace")

    @cached_property
    def _special_pattern(self) -> regex.Pattern[str] | None:
        pieces = set()
        with self._open() as vocab:
            special = [t for t in range(self.n_tokens) if llama_cpp.llama_vocab_get_attr(vocab, t) & _SPECIAL]
        for token in special:
            piece = self._piece(token, special=True).decode("utf-8", "replace")
            if len(piece) > 2 and piece.strip():
                pieces.add(piece)
        if not pieces:
            return None
        return regex.compile("|".join(regex.escape(piece) for piece in sorted(pieces, key=len, reverse=True)))

    def _without_specials(self, text: str) -> Iterator[str]:
        """Cut ``text`` inside everything that reads as a special token: ``parse_special=False`` does not stop all."""
        start = 0
        if self._special_pattern is not None:
            for match in self._special_pattern.finditer(text, overlapped=True):
                if match.start() + 1 > start:
                    yield text[start : match.start() + 1]
                    start = match.start() + 1
        if start < len(text):
            yield text[start:]

    @cached_property
    def _newline(self) -> list[int]:
        return self._tokenize(b"\n", parse_special=False)

    def _tokenize_bare(self, text: str, *, parse_special: bool = False) -> list[int]:
        if not self.is_spm:
            return self._tokenize(text.encode(), parse_special=parse_special)
        # SentencePiece vocabularies put a space before every piece: a newline takes it, and is dropped again.
        lead = self._newline
        tokens = self._tokenize(b"\n" + text.encode(), parse_special=parse_special)
        if tokens[: len(lead)] == lead:
            return tokens[len(lead) :]
        return self._tokenize(text.encode(), parse_special=parse_special)

    def _tokenize(self, text: bytes, *, parse_special: bool) -> list[int]:
        room = len(text) + 8
        for _ in range(2):
            buffer = (llama_cpp.llama_token * room)()
            with self._open() as vocab:
                count = llama_cpp.llama_tokenize(vocab, text, len(text), buffer, room, False, parse_special)
            if count >= 0:
                return list(buffer[:count])
            room = -count
        raise RuntimeError(f"llama.cpp could not tokenize {len(text)} bytes")

    def _piece(self, token: int, *, special: bool) -> bytes:
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            with self._open() as vocab:
                if not special and llama_cpp.llama_vocab_is_control(vocab, token):
                    return b""
                count = llama_cpp.llama_token_to_piece(vocab, token, buffer, room, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            room = -count


def _is_control(attributes: int, piece: bytes) -> bool:
    """Whether llguidance is to keep a token out of texts, as its own reader of llama.cpp's vocabularies has it."""
    if attributes & llama_cpp.LLAMA_TOKEN_ATTR_CONTROL:
        return True
    looks_so = piece.startswith(b"<") and piece.endswith(b">")
    return bool(attributes & llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED) and looks_so


def _bounded_pieces(text: str) -> Iterator[str]:
    """Pieces of at most MAX_PIECE_BYTES, cut before white space where there is some, never inside a character."""
    limit = MAX_PIECE_BYTES // 4
    start = 0
    while len(text) - start > limit:
        end = next((at for at in range(start + limit, start + limit // 2, -1) if text[at].isspace()), start + limit)
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]
