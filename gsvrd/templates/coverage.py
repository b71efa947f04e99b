"""How much of a video a full transcript covers, and where it has holes. Pure; used by `check`.

A line covers what it could hold as speech and no more, so that ten words over an hour are no transcript of an hour. A
line that says that nobody speaks covers its whole stretch. The model's word for it is believed up to half of the video.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gsvrd.analysis import Line
from gsvrd.templates.contract import NO_SPEECH
from gsvrd.templates.scripts import units

Span = tuple[float, float]
"""Start and end in seconds from the start of the video."""

_BRIDGED_S = 10.0
"""A pause as short as this is part of speaking."""
_UNIT_S = 2.0
"""Slower than a word or Chinese character in this time, nobody speaks."""


def is_silence(line: Line) -> bool:
    """Whether the line says that nobody speaks."""
    return line.text.strip().lower().replace("【", "[").replace("［", "[").startswith(NO_SPEECH)


def covered(transcript: Iterable[Line], quiet: Iterable[Span], duration_s: float) -> list[Span]:
    """The covered stretches, in order, apart by more than a short pause, inside the video."""
    spans = sorted([*map(_span, transcript), *quiet])
    merged: list[Span] = []
    for start, end in spans:
        start, end = max(0.0, start), min(end, duration_s)
        if end <= start:
            continue
        if merged and start - merged[-1][1] <= _BRIDGED_S:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def holes(spans: Sequence[Span], duration_s: float, longest_s: float) -> list[Span]:
    """The stretches between `spans`, and before and after them, that are longer than `longest_s`."""
    starts = [0.0, *(end for _, end in spans)]
    ends = [*(start for start, _ in spans), duration_s]
    return [(start, end) for start, end in zip(starts, ends, strict=True) if end - start > longest_s]


def length(spans: Iterable[Span]) -> float:
    """Seconds in all."""
    return sum(end - start for start, end in spans)


def _span(line: Line) -> Span:
    if is_silence(line):
        return line.start_s, line.end_s
    return line.start_s, min(line.end_s, line.start_s + _BRIDGED_S + _UNIT_S * units([line.text]).total())
