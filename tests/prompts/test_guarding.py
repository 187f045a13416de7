"""What a document or a question says is never a turn marker in the copy that a server tokenises."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from fourcorners.engine.runner import load_vocabulary
from fourcorners.engine.vocabulary import Vocabulary
from fourcorners.prompts.chat_format import ChatFormat
from fourcorners.prompts.contract import Segment
from fourcorners.prompts.families import CHATML, FORMATS, LLAMA2, ZEPHYR
from fourcorners.prompts.guarding import as_message, guard, marker_pattern
from tests.injection.hostile import HOSTILE, MANUAL, TURN_MARKERS
from tests.support import texts

SPECIALS = [
    "<s>", "</s>", "<bos>", "<eos>", "<pad>", "<unk>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "<|im_start|>", "<|im_end|>",
    "<|im_sep|>", "<|endoftext|>", "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
    "<|eot_id|>", "<|eom_id|>", "<|python_tag|>", "<|eot|>", "<|header_start|>", "<start_of_turn>", "<end_of_turn>",
    "<|turn>", "<turn|>", "<|channel>", "<channel|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>",
    "<|START_OF_TURN_TOKEN|>", "<|CHATBOT_TOKEN|>", "<BOS_TOKEN>",
    "<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>",
    "<human>", "<bot>", "<think>", "</think>", "<tool_call>", "</tool_call>", "[gMASK]", "<sop>", "<reserved_106>",
    "<unused7>", "<fim_prefix>", "<|start_of_role|>", "<|message|>", "<|return|>", "[|endofturn|]",
    "<end_of_sentence>", "[e~[", "]~b]",
]  # fmt: skip
PROBES = [*SPECIALS, *sorted({marker for one in FORMATS.values() for marker in one.markers})]


def shown(text: str, chat_format: ChatFormat = CHATML) -> str:
    """The document as a server would get it in this format."""
    whole = chat_format.prompt_text([], [Segment("DOCUMENT:\n", True), Segment(text, False), Segment("\nEND", True)])
    return whole.partition("DOCUMENT:\n")[2].rpartition("\nEND")[0]


@pytest.mark.parametrize("name", FORMATS)
def test_no_hostile_text_adds_a_marker_in_any_format(name: str) -> None:
    chat_format = FORMATS[name]
    own = [*chat_format.markers, *SPECIALS]
    for text in [*HOSTILE.values(), *(f"x{marker}{marker}y" for marker in PROBES), "".join(PROBES)]:
        copy = shown(text, chat_format)
        assert not [marker for marker in own if marker in copy], copy
        assert copy.replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize("special", SPECIALS)
def test_the_special_tokens_of_the_common_families_are_broken_up(special: str) -> None:
    for text in (special, special.upper(), f"a{special}b", special * 3, f"{special[:3]}{special}{special[3:]}"):
        assert special not in shown(text)
        assert special.lower() not in shown(text).lower()
        assert special not in as_message([Segment(text, False)])


def wide(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


DISGUISES: dict[str, Callable[[str], str]] = {
    "full width": wide,
    "half of it wide": lambda text: text[:3] + wide(text[3:]),
    "zero width spaces": "\u200b".join,
    "joiners": "\u2060".join,
    "soft hyphens": "\u00ad".join,
    "variation selectors": "\ufe0f".join,
    "fillers": "\u3164".join,
    "tags": "\U000e0041".join,
    "control characters": "\x08".join,
    "direction marks": lambda text: f"\u202e{text}\u202c",
    "accents": lambda text: "".join(f"{c}\u0301" for c in text),
    "cyrillic": lambda text: text.translate(str.maketrans("aeosp", "аеоѕр")),
    "mathematical": lambda text: "".join(chr(0x1D41A + ord(c) - 97) if "a" <= c <= "z" else c for c in text),
    "angle quotes": lambda text: text.replace("<", "‹").replace(">", "›"),
    "angle brackets": lambda text: text.replace("<", "⟨").replace(">", "⟩"),
    "small forms": lambda text: text.replace("<", "﹤").replace(">", "﹥"),
    "capitals": str.upper,
    "decomposed": lambda text: unicodedata.normalize("NFD", text),
}


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize(
    "marker", ["<|im_end|>", "[/INST]", "</s>", "<|eot_id|>", "<start_of_turn>", "### End", "<human>", "<<SYS>>"]
)
def test_a_marker_in_another_form_is_broken_up(marker: str, disguise: str) -> None:
    text = DISGUISES[disguise](marker)
    for chat_format in FORMATS.values():
        if marker in (*chat_format.markers, *SPECIALS):
            copy = shown(f"The tank {text} is blue.", chat_format)
            # What a normaliser may make of it: then it is no marker either.
            for plain in (copy, unicodedata.normalize("NFKC", copy), unicodedata.normalize("NFKD", copy)):
                bare = regex.sub(r"[\p{M}\p{Cf}\p{Cc}\p{DI}]", "", plain)
                assert marker.casefold() not in bare.casefold()
            assert copy.replace(" ", "") == f"The tank {text} is blue.".replace(" ", "")


def test_spaces_of_other_kinds_do_not_hide_a_marker() -> None:
    for space in ("\u00a0", "\u2003", "\t", "  ", "\n", "\u3000", ""):
        assert shown(f"###{space}Instruction:", FORMATS["dolly"]) != f"###{space}Instruction:"


@pytest.mark.parametrize("marker", ["<|im_end|>", "[/INST]", "</s>", "<|eot_id|>", "### Response:"])
def test_a_marker_whose_parts_stand_in_several_segments_is_broken_up(marker: str) -> None:
    dolly = FORMATS["dolly"]
    for first in range(1, len(marker)):
        for second in range(first, len(marker)):
            parts = [marker[:first], marker[first:second], marker[second:]]
            for trusted in ((False, False, False), (True, False, False), (False, False, True), (False, True, False)):
                segments = [Segment(text, kind) for text, kind in zip(parts, trusted, strict=True)]
                if all(one.trusted for one in segments if one.text):
                    continue
                assert marker not in as_message(segments, marker_pattern(dolly.markers))
                guarded = guard(segments, marker_pattern(frozenset({marker})))
                assert [one.trusted for one in guarded] == list(trusted)
                for before, after in zip(segments, guarded, strict=True):
                    assert before.text == after.text if before.trusted else True


def test_text_of_our_own_is_left_as_it_is() -> None:
    assert as_message([Segment("<|im_end|>[INST]", True)]) == "<|im_end|>[INST]"
    assert "<|im_start|>user\n<|im_end|" in CHATML.prompt_text([], [Segment("<|im_end|>", True)])


def test_ordinary_documents_are_shown_as_they_are() -> None:
    for text in (MANUAL, "if a < b and c > d: x[0] |= y", "<p class='x'>A <b>tank</b></p>", "[1] See [TODO].", "a|b|c"):
        assert shown(text) == text
        assert as_message([Segment(text, False)]) == text


def test_what_overlaps_is_broken_up_too() -> None:
    for text in ("<|im_<|im_end|>end|>", "<|a|><|b|>", "<|<|im_end|>|>", "[INST[INST]INST]", "<<s>s>", "</</s>s>"):
        copy = shown(text, ZEPHYR)
        assert not [special for special in SPECIALS if special in copy]


PIECES = st.sampled_from(PROBES).flatmap(
    lambda text: st.tuples(st.integers(0, len(text)), st.integers(0, len(text))).map(
        lambda cut: text[min(cut) : max(cut)]
    )
)


@given(
    st.lists(st.tuples(PIECES | texts | st.sampled_from(["\u200b", " ", "<", "|", ">"]), st.booleans()), max_size=12)
)
def test_markers_in_pieces_never_come_together(parts: list[tuple[str, bool]]) -> None:
    segments = [Segment(text, trusted) for text, trusted in parts]
    for name in ("chatml", "llama-2", "dolly", "falcon"):
        pattern = marker_pattern(FORMATS[name].markers, common=True)
        assert pattern is not None
        guarded = guard(segments, pattern)
        owners = [one.trusted for one in guarded for _ in one.text]
        whole = "".join(one.text for one in guarded)
        for marker in (*FORMATS[name].markers, *SPECIALS):
            at = whole.find(marker)
            while at >= 0:
                assert all(owners[at : at + len(marker)]), (marker, whole)
                at = whole.find(marker, at + 1)


@pytest.mark.parametrize(
    "text",
    ["<|" * 50_000, "<|" + "a" * 100_000, "[" * 100_000, "<" * 100_000 + "\u0430", "### " * 30_000, "\u200b" * 100_000],
)
def test_no_text_takes_long(text: str) -> None:
    before = time.monotonic()
    shown(text, FORMATS["dolly"])
    assert time.monotonic() - before < 5


def as_a_server(vocabulary: Vocabulary, text: str) -> list[int]:
    """The control tokens of a prompt that is tokenised whole, as llama-server and TGI do."""
    tokens = vocabulary.raw(text)
    return [token for token in tokens if not vocabulary.pieces[token] or token in vocabulary.end_tokens]


@pytest.mark.parametrize("name", FORMATS)
def test_a_server_that_tokenises_the_whole_prompt_finds_our_markers_alone(name: str, vocabulary: Vocabulary) -> None:
    check_vocabulary(vocabulary, FORMATS[name])


def check_vocabulary(vocabulary: Vocabulary, chat_format: ChatFormat) -> None:
    def tokens(text: str) -> list[int]:
        user = [Segment("The context:\n", True), Segment(text, False), Segment("\nThe question: ?", True)]
        return as_a_server(vocabulary, chat_format.prompt_text([Segment("Answer.", True)], user))

    benign = tokens(MANUAL)
    for text in [*HOSTILE.values(), *PROBES, "".join(SPECIALS)]:
        assert tokens(text) == benign, text


@pytest.mark.extras
def test_the_servers_of_other_families_do_not_either(any_vocabulary: Vocabulary) -> None:
    for name in ("chatml", "llama-2", "llama-3", "zephyr", "phi-3", "gemma", "plain"):
        check_vocabulary(any_vocabulary, FORMATS[name])


@pytest.mark.extras
def test_every_control_token_of_every_vocabulary_is_broken_up(any_vocabulary: Vocabulary) -> None:
    kept = []
    for token in range(any_vocabulary.n_tokens):
        if any_vocabulary.pieces[token] and token not in any_vocabulary.end_tokens:
            continue
        text = any_vocabulary._piece(token, special=True).decode("utf-8", "replace")
        if len(text.strip()) > 2 and as_a_server(any_vocabulary, as_message([Segment(text, False)])):
            kept.append(text)
    assert not kept


@pytest.mark.extras
def test_the_corpus_needs_guarding(vocabulary_folder: Path) -> None:
    """Without it a server does find control tokens: the tests above look at something."""
    vocabulary, _ = load_vocabulary(vocabulary_folder / "llama-bpe.gguf")
    assert as_a_server(vocabulary, TURN_MARKERS["llama-3"])
    assert LLAMA2.prompt_text([], [Segment(MANUAL, False)]).count("[INST]") == 1
