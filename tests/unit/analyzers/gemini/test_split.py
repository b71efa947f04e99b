"""Where long videos are cut, and that nothing is lost or told twice at the seams."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsvrd.analysis import Analysis, Chapter, KeyTerm, Line, Question
from gsvrd.analyzers.gemini.split import Part, halves, merge, plan


@given(st.floats(1.0, 100_000.0), st.floats(61.0, 10_000.0), st.floats(0.0, 30.0))
def test_parts_cover_the_video_overlap_and_are_short_enough(
    length_s: float, longest_s: float, overlap_s: float
) -> None:
    parts = plan(0.0, length_s, longest_s, overlap_s)
    assert parts[0].start_s == 0.0
    assert parts[-1].end_s == length_s
    assert all(0 < part.length_s <= longest_s + 1e-6 for part in parts)
    for part, following in pairwise(parts):
        assert part.end_s - following.start_s == pytest.approx(overlap_s, abs=1e-6)
        assert following.start_s > part.start_s


def test_a_video_that_fits_is_one_part() -> None:
    assert plan(0.0, 60.0, 60.0, 30.0) == [Part(0.0, 60.0)]


def test_halves_share_their_overlap() -> None:
    assert halves(Part(100.0, 300.0), 20.0) == [Part(100.0, 210.0), Part(190.0, 300.0)]


def analysis(length_s: float, **parts: object) -> Analysis:
    return Analysis.model_validate({"title": "T", "language": "en", "duration_s": length_s, **parts})


def test_one_part_stays_what_it_is() -> None:
    one = analysis(60.0, summary=("a",))
    assert merge([(Part(0.0, 60.0), one)]) is one


def chapter(start_s: float, end_s: float, title: str) -> Chapter:
    return Chapter(start_s=start_s, end_s=end_s, title=title)


def test_chapters_are_put_together_at_the_middle_of_the_overlap() -> None:
    first = analysis(110.0, chapters=(chapter(0, 60, "A"), chapter(60, 95, "B"), chapter(101, 110, "C as seen first")))
    second = analysis(110.0, chapters=(chapter(0, 4, "B's end"), chapter(4, 50, "C"), chapter(50, 110, "D")))
    whole = merge([(Part(0.0, 110.0), first), (Part(90.0, 200.0), second)])
    assert [(c.start_s, c.end_s, c.title) for c in whole.chapters] == [
        (0, 60, "A"),
        (60, 94, "B"),
        (94, 140, "C"),
        (140, 200, "D"),
    ]
    assert whole.duration_s == 200.0


def test_a_line_in_the_overlap_is_told_once() -> None:
    said = [(92.0, 95.0, "one"), (96.0, 99.0, "two"), (101.0, 104.0, "three"), (105.0, 108.0, "four")]
    first = analysis(110.0, transcript=tuple(Line(start_s=s, end_s=e, text=t) for s, e, t in said))
    second = analysis(110.0, transcript=tuple(Line(start_s=s - 90, end_s=e - 90, text=t) for s, e, t in said))
    whole = merge([(Part(0.0, 110.0), first), (Part(90.0, 200.0), second)])
    assert [(line.start_s, line.text) for line in whole.transcript] == [(s, t) for s, _, t in said]


def test_lists_are_joined_in_order_without_what_was_said_before() -> None:
    first = analysis(
        110.0,
        summary=("a", "b"),
        key_terms=(KeyTerm(term="Light", meaning="first", at_s=5.0),),
        quiz=(Question(prompt="Why?", answer="1", at_s=9.0),),
        gaps=("g",),
    )
    second = analysis(
        110.0,
        summary=("B ", "c"),
        key_terms=(KeyTerm(term="light", meaning="second"), KeyTerm(term="Wave", at_s=10.0)),
        quiz=(Question(prompt="why?", answer="2"), Question(prompt="How?", answer="3", at_s=1.0)),
        gaps=("g",),
    )
    whole = merge([(Part(0.0, 110.0), first), (Part(90.0, 200.0), second)])
    assert whole.summary == ("a", "b", "c")
    assert [(t.term, t.meaning, t.at_s) for t in whole.key_terms] == [("Light", "first", 5.0), ("Wave", "", 100.0)]
    assert [(q.prompt, q.at_s) for q in whole.quiz] == [("Why?", 9.0), ("How?", 91.0)]
    assert whole.gaps == ("g",)


@given(st.lists(st.lists(st.tuples(st.floats(0, 110), st.floats(0, 110)), max_size=8), min_size=2, max_size=4))
def test_whatever_the_parts_hold_the_whole_is_in_order(told: list[list[tuple[float, float]]]) -> None:
    found = []
    for number, spans in enumerate(told):
        chapters = tuple(chapter(min(s), max(s), "x") for s in sorted(spans, key=min))
        found.append((Part(90.0 * number, 90.0 * number + 110.0), analysis(110.0, chapters=chapters)))
    whole = merge(found)  # `Analysis` refuses chapters that do not rise
    for one, following in zip(whole.chapters, whole.chapters[1:], strict=False):
        assert one.end_s <= following.start_s
