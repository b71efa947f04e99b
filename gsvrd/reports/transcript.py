"""Groups the lines of a transcript into paragraphs that can be read. Pure; used by the renderer."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from gsvrd.analysis import Line
from gsvrd.reports.escape import fold

PAUSE_S = 2.5
"""A silence that ends a paragraph."""
LONG_S = 60.0
LONG_CHARS = 400
"""From either on, the end of a sentence ends the paragraph: a reader wants a time stamp now and then."""
LONGEST_CHARS = 900
"""From here on anything does: recognisers may leave out punctuation."""
_SENTENCE_ENDS = (".", "!", "?", "…", "。", "！", "？")


@dataclass(frozen=True, slots=True)
class Pace:
    """How much a paragraph holds; what the three mean is told above."""

    long_s: float
    long_chars: int
    longest_chars: int


FLOWING = Pace(LONG_S, LONG_CHARS, LONGEST_CHARS)
"""To read on and on."""
STAMPED = Pace(long_s=15.0, long_chars=160, longest_chars=400)
"""To quote from: the place of each statement is found at once."""


@dataclass(frozen=True, slots=True)
class Run:
    """Text of one certainty."""

    text: str
    unclear: bool


@dataclass(frozen=True, slots=True)
class Paragraph:
    """What one speaker said without a break. `start_s`: seconds from the start of the video."""

    start_s: float
    speaker: str
    runs: tuple[Run, ...]


def paragraphs(lines: Iterable[Line], chapter_starts: Sequence[float], pace: Pace = FLOWING) -> tuple[Paragraph, ...]:
    """The lines in order, broken at chapters, speakers, pauses and, when long, at sentences; blank ones dropped."""
    groups: list[list[Line]] = []
    for line in lines:
        if not fold(line.text):
            continue
        if not groups or _breaks(groups[-1], line, chapter_starts, pace):
            groups.append([])
        groups[-1].append(line)
    return tuple(_paragraph(group) for group in groups)


def _breaks(group: Sequence[Line], line: Line, chapter_starts: Sequence[float], pace: Pace) -> bool:
    last = group[-1]
    chars = sum(len(each.text) for each in group)
    is_long = chars >= pace.long_chars or last.end_s - group[0].start_s >= pace.long_s
    return (
        line.speaker != last.speaker
        or line.start_s - last.end_s >= PAUSE_S
        or any(last.start_s < start <= line.start_s for start in chapter_starts)
        or (is_long and last.text.rstrip().endswith(_SENTENCE_ENDS))
        or chars >= pace.longest_chars
    )


def _paragraph(lines: Sequence[Line]) -> Paragraph:
    runs = tuple(
        Run(join(line.text for line in group), unclear) for unclear, group in groupby(lines, lambda line: line.unclear)
    )
    return Paragraph(lines[0].start_s, fold(lines[0].speaker), runs)


def join(texts: Iterable[str]) -> str:
    """Texts in a row, with a space where the script has spaces."""
    joined = ""
    for text in map(fold, texts):
        joined += space_between(joined, text) + text
    return joined


def space_between(left: str, right: str) -> str:
    """What goes between two pieces of speech: nothing beside a Chinese or Japanese character."""
    return " " if left and right and not (_is_wide(left[-1]) or _is_wide(right[0])) else ""


def _is_wide(char: str) -> bool:
    return unicodedata.east_asian_width(char) in "WF" and not "\uac00" <= char <= "\ud7a3"  # Korean has spaces
