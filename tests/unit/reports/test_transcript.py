"""Lines become paragraphs that a person can read."""

from __future__ import annotations

from gsvrd.analysis import Line
from gsvrd.reports.transcript import LONG_CHARS, LONGEST_CHARS, join, paragraphs


def line(start_s: float, text: str, speaker: str = "", unclear: bool = False) -> Line:
    return Line(start_s=start_s, end_s=start_s + 1.9, text=text, speaker=speaker, unclear=unclear)


def texts(*lines: Line, chapters: tuple[float, ...] = (0.0,)) -> list[str]:
    return [" / ".join(run.text for run in block.runs) for block in paragraphs(lines, chapters)]


def test_lines_that_follow_each_other_flow_together() -> None:
    assert texts(line(0, "Good morning."), line(2, " "), line(2, "We begin.")) == ["Good morning. We begin."]


def test_a_pause_a_speaker_and_a_chapter_break_the_flow() -> None:
    assert texts(line(0, "a"), line(5, "b")) == ["a", "b"]
    assert texts(line(0, "a", "Lee"), line(2, "b", "Kim")) == ["a", "b"]
    assert texts(line(0, "a"), line(2, "b"), line(4, "c"), chapters=(0, 3)) == ["a b", "c"]


def test_a_long_paragraph_ends_with_a_sentence() -> None:
    long = "x" * LONG_CHARS
    assert texts(line(0, long), line(2, "end."), line(4, "Next.")) == [f"{long} end.", "Next."]


def test_speech_without_punctuation_is_broken_all_the_same() -> None:
    assert texts(line(0, "x" * LONGEST_CHARS), line(2, "y")) == ["x" * LONGEST_CHARS, "y"]


def test_slow_speech_gets_a_time_stamp_a_minute() -> None:
    blocks = paragraphs([line(2 * number, "Yes.") for number in range(90)], [0.0])
    assert [block.start_s for block in blocks] == [0.0, 62.0, 124.0]


def test_unclear_lines_stay_told_apart() -> None:
    (block,) = paragraphs([line(0, "sure"), line(2, "not", unclear=True), line(4, "so", unclear=True)], [])
    assert [(run.text, run.unclear) for run in block.runs] == [("sure", False), ("not so", True)]


def test_chinese_is_joined_without_spaces_and_korean_with() -> None:
    assert join(["光合作用。", "叶绿素"]) == "光合作用。叶绿素"
    assert join(["ATP", "合成"]) == "ATP合成"
    assert join(["안녕", "하세요"]) == "안녕 하세요"
