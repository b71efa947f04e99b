"""Long videos: where to cut them, and how what was found in the parts becomes one analysis. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import TypeVar

from gsvrd.analysis import Analysis, Chapter, Line

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a video, in seconds from its start."""

    start_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        """Seconds."""
        return self.end_s - self.start_s


def plan(start_s: float, end_s: float, longest_s: float, overlap_s: float) -> list[Part]:
    """Equal parts, none longer than `longest_s`, each sharing `overlap_s` with the next. `longest_s` > `overlap_s`."""
    length_s = end_s - start_s
    if length_s <= longest_s:
        return [Part(start_s, end_s)]
    count = math.ceil((length_s - overlap_s) / (longest_s - overlap_s))
    step_s = (length_s - overlap_s) / count
    starts = [start_s + step_s * number for number in range(count)]
    return [Part(s, end_s if s is starts[-1] else s + step_s + overlap_s) for s in starts]


def halves(part: Part, overlap_s: float) -> list[Part]:
    """Two parts that share `overlap_s`."""
    middle = (part.start_s + part.end_s) / 2
    return [Part(part.start_s, middle + overlap_s / 2), Part(middle - overlap_s / 2, part.end_s)]


def merge(found: Sequence[tuple[Part, Analysis]]) -> Analysis:
    """One analysis of all parts, whose times count from the start of the first.

    `found` in order, times in each from its part's start. What lies where two parts overlap is taken from the one in
    whose half its middle falls, so nothing is told twice and nothing is lost.
    """
    if len(found) == 1:
        return found[0][1]
    origin = found[0][0].start_s
    moved = [_moved(analysis, part.start_s - origin) for part, analysis in found]
    seams = [(a.end_s + b.start_s) / 2 - origin for (a, _), (b, _) in pairwise(found)]
    edges = list(zip([-math.inf, *seams], [*seams, math.inf], strict=True))
    first = moved[0]
    return Analysis(
        title=first.title,
        language=first.language,
        duration_s=found[-1][0].end_s - origin,
        summary=_once((text for one in moved for text in one.summary), _folded),
        objectives=_once((text for one in moved for text in one.objectives), _folded),
        chapters=tuple(_joined(c for one, edge in zip(moved, edges, strict=True) for c in _inside(one.chapters, edge))),
        key_terms=_once((term for one in moved for term in one.key_terms), lambda term: _folded(term.term)),
        transcript=tuple(
            line for one, edge in zip(moved, edges, strict=True) for line in _inside(one.transcript, edge)
        ),
        activities=_once((text for one in moved for text in one.activities), _folded),
        quiz=_once((question for one in moved for question in one.quiz), lambda question: _folded(question.prompt)),
        resources=_once((text for one in moved for text in one.resources), _folded),
        gaps=_once((text for one in moved for text in one.gaps), _folded),
    )


def _moved(analysis: Analysis, by_s: float) -> Analysis:
    """The same with all times later."""

    def later(at_s: float | None) -> float | None:
        return None if at_s is None else at_s + by_s

    def spans(items: Iterable[_Span]) -> tuple[_Span, ...]:
        return tuple(
            item.model_copy(update={"start_s": item.start_s + by_s, "end_s": item.end_s + by_s}) for item in items
        )

    return analysis.model_copy(
        update={
            "duration_s": analysis.duration_s + by_s,
            "chapters": spans(analysis.chapters),
            "transcript": spans(analysis.transcript),
            "key_terms": tuple(t.model_copy(update={"at_s": later(t.at_s)}) for t in analysis.key_terms),
            "quiz": tuple(q.model_copy(update={"at_s": later(q.at_s)}) for q in analysis.quiz),
        }
    )


_Span = TypeVar("_Span", Chapter, Line)


def _inside(spans: Iterable[_Span], edge: tuple[float, float]) -> Iterator[_Span]:
    return (span for span in spans if edge[0] <= (span.start_s + span.end_s) / 2 < edge[1])


def _joined(chapters: Iterable[Chapter]) -> Iterator[Chapter]:
    """In order; each ends where the next begins, at the latest."""
    ordered = sorted(chapters, key=lambda chapter: chapter.start_s)
    for chapter, following in zip_longest(ordered, ordered[1:]):
        end_s = min(chapter.end_s, following.start_s) if following else chapter.end_s
        yield chapter.model_copy(update={"end_s": end_s})


def _once(items: Iterable[_Item], key: Callable[[_Item], Hashable]) -> tuple[_Item, ...]:
    """The first of each kind."""
    kept: dict[Hashable, _Item] = {}
    for item in items:
        kept.setdefault(key(item), item)
    return tuple(kept.values())


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())
