"""Turn markers in text that is not ours, broken up by a space in the copy that the model is shown.

Some vocabularies have no token for a marker (``[/INST]`` is text to Llama 2's), and some servers tokenise the whole
prompt, so that ``<|im_end|>`` in a document would end the turn. Quotes are always taken from the original.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import accumulate

import regex

from fourcorners.grounding.lookalike import plain_shape
from fourcorners.prompts.contract import Segment

_NAMES = (
    "s|bos|eos|eot|eod|eop|eoh|eoa|sop|pad|unk|mask|sep|cls|think|tool_call|tool_response|tools|human|bot|ai"
    "|system|user|assistant|start_of_turn|end_of_turn|start_of_image|end_of_image|image_soft_token"
    "|start_of_audio|end_of_audio|beginning_of_sentence|end_of_sentence|end_of_utterance|end_of_text|endoftext"
    "|file_sep|repo_name|reponame|gh_stars|filename|empty_output|code_to_intermediate|intermediate_to_code|pr"
    "|name|email|key|password|用户"
)
_BRACKETED = (
    "inst|system_prompt|available_tools|tool_calls|tool_results|tool_content|args|call_id|prefix|middle|suffix"
    "|img|img_break|img_end|audio|begin_audio|transcribe|think|ref|model_settings|gmask|smask|mask|cls|sep|unk"
    "|bos|eos"
)
_COMMON = "|".join(
    (
        r"<\|[^<>|\s]{1,64}\|>",  # ChatML, Llama 3, Phi, Command R, Granite, gpt-oss …; DeepSeek's ｜ looks the same
        r"<\|[a-z_]{1,32}>|<[a-z_]{1,32}\|>",  # Gemma 4
        rf"</?(?:{_NAMES})(?:_token)?>",
        r"<(?:fim|issue|commit|jupyter|reserved|unused|extra_id|extra|special|vision|pad|mask)_?[a-z0-9_]{0,24}>",
        r"<pr_[a-z_]{1,32}>|>>[a-z]{3,20}<<",  # StarCoder, Falcon
        r"<</?sys>>",
        rf"\[/?(?:{_BRACKETED}|control_\d+|pad\d*)\]",
        r"\[\|[^\[\]|\s]{1,32}\|\]",  # EXAONE
        r"\]~b\]|\]~!b\[|\[e~\[",  # MiniMax
    )
)
"""Special tokens of the common families, in plain shape (see ``plain_shape``)."""
_BRACKETS = str.maketrans(
    {**dict.fromkeys("‹⟨〈❮❬ᐸ˂", "<"), **dict.fromkeys("›⟩〉❯❭ᐳ˃", ">"), **dict.fromkeys("∣ǀ│┃￨¦", "|")}
)
_UNSEEN = regex.compile(r"[\p{M}\p{Cc}\p{Cf}\p{Cn}\p{Co}\p{Default_Ignorable_Code_Point}]")
_PASSES = 8
"""One breaks up everything but what overlaps; the second finds nothing more in all that was tried."""


@cache
def marker_pattern(markers: frozenset[str], common: bool = False) -> regex.Pattern[str] | None:
    """What finds ``markers`` in plain shape, and with ``common`` the special tokens of the common families too."""
    shapes = {r"\s*".join(map(regex.escape, _shape_of(marker).split())) for marker in markers}
    parts = [*sorted(shapes - {""}, key=len, reverse=True), *([_COMMON] if common else [])]
    return regex.compile("|".join(parts)) if parts else None


def guard(segments: Sequence[Segment], pattern: regex.Pattern[str] | None) -> list[Segment]:
    """``segments`` with a space in every match that is not trusted throughout.

    The segments are looked at as one text: a marker whose halves stand in two of them is found. So are other forms of a
    marker: capitals, wide or Cyrillic letters, what is invisible in between. Trusted text stays as it is. Takes about
    5 ms for a million characters of ASCII, 50 ms for a million of Chinese.
    """
    if pattern is None:
        return list(segments)
    texts = [segment.text for segment in segments]
    for _ in range(_PASSES):
        cuts = _cuts(texts, [segment.trusted for segment in segments], pattern)
        if not cuts:
            break
        for number, at in sorted(cuts, reverse=True):
            texts[number] = f"{texts[number][:at]} {texts[number][at:]}"
    return [Segment(text, segment.trusted) for text, segment in zip(texts, segments, strict=True)]


def as_message(segments: Sequence[Segment], pattern: regex.Pattern[str] | None = None) -> str:
    """``segments`` as the content of one message, for a server that puts the turn markers around it itself.

    Special tokens of the common families are broken up in what is not trusted, and what ``pattern`` finds.
    """
    return "".join(segment.text for segment in guard(guard(segments, pattern), marker_pattern(frozenset(), True)))


def _cuts(texts: Sequence[str], trusted: Sequence[bool], pattern: regex.Pattern[str]) -> set[tuple[int, int]]:
    """Where spaces go, as (segment, position in it)."""
    whole = "".join(texts)
    ends = list(accumulate(map(len, texts)))
    cuts = set()
    for first, last in _places(whole, pattern):
        for at in range(last, first, -1):
            before, after = bisect_right(ends, at - 1), bisect_right(ends, at)
            # In the segment that is not trusted: at its end, or before its character.
            number = after if not trusted[after] else before
            if not trusted[number]:
                cuts.add((number, at - (ends[number] - len(texts[number]))))
                break
    return cuts


def _places(text: str, pattern: regex.Pattern[str]) -> Iterator[tuple[int, int]]:
    """First and last character of every match, those that overlap too."""
    shape = text.translate(_SHAPES)
    if pattern.search(shape) is None:
        return
    # Where each character's shape ends; none has an empty text before its first.
    ends = list(accumulate(len(char.translate(_SHAPES)) for char in text)) if len(shape) != len(text) else None
    for match in pattern.finditer(shape, overlapped=True):
        first, last = match.start(), match.end() - 1
        if match[0][-2:-1].isspace():
            last -= len(match[0]) - len(
                match[0][:-1].rstrip()
            )  # a space more before its last character changes nothing
        if ends is not None:
            first, last = bisect_right(ends, first), bisect_right(ends, last)
        yield first, last


class _Shapes(dict[int, str]):
    """For ``str.translate``: each character's plain shape, found when it is first met."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        plain = " " if char.isspace() else plain_shape(char).translate(_BRACKETS)
        shape = "".join(" " if c.isspace() else c for c in _UNSEEN.sub("", plain))
        if len(self) < 50_000:
            self[code] = shape
        return shape


_SHAPES = _Shapes()


def _shape_of(text: str) -> str:
    return text.translate(_SHAPES)
