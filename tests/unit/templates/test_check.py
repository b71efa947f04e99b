"""A good answer passes without a word; each way to be bad is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from gsvrd.analysis import Analysis, Chapter, KeyTerm, Line, Question
from gsvrd.templates.model import Template

Shipped = Mapping[str, Template]
Check = Callable[..., list[str]]


@pytest.fixture
def check_lesson(shipped: Shipped, lesson: Analysis) -> Check:
    def check(language: str = "auto", duration_s: float = 600, **changes: object) -> list[str]:
        return shipped["comprehensive_lesson"].in_language(language).check(_with(lesson, changes), duration_s)

    return check


@pytest.fixture
def check_transcript(shipped: Shipped, transcript: Analysis) -> Check:
    def check(duration_s: float = 600, quiet: Any = (), **changes: object) -> list[str]:
        return shipped["chinese_transcript"].check(_with(transcript, changes), duration_s, quiet)

    return check


def _with(analysis: Analysis, changes: dict[str, Any]) -> Analysis:
    return Analysis.model_validate(analysis.model_dump() | changes)


def _lines(analysis: Analysis, keep: Callable[[Line], bool]) -> tuple[Line, ...]:
    return tuple(line for line in analysis.transcript if keep(line))


def test_good_answers_pass(check_lesson: Check, check_transcript: Check) -> None:
    assert check_lesson() == []
    assert check_lesson("en-GB") == []
    assert check_transcript() == []


# Sections


@pytest.mark.parametrize("empty", [(), ("", " \n")])
def test_a_required_section_that_is_missing_or_blank_is_named(check_lesson: Check, empty: tuple[str, ...]) -> None:
    assert check_lesson(summary=empty) == ["The section summary is missing or empty."]


def test_a_section_that_is_not_required_may_be_missing(check_lesson: Check) -> None:
    assert check_lesson(resources=(), transcript=()) == []


# Times


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"transcript": (Line(start_s=700, end_s=705, text="x"),)},
            "In transcript, 1 time is after the end of the video (10:00); the first is 11:40.",
        ),
        (
            {"key_terms": (KeyTerm(term="a", meaning="b", at_s=4000), KeyTerm(term="c", meaning="d", at_s=601.5))},
            "In key_terms, 2 times are after the end of the video (10:00); the first is 1:06:40.",
        ),
        ({"quiz": (Question(prompt="a", answer="b", at_s=605),)}, "In quiz, 1 time is after the end of the video"),
        (
            {"transcript": (Line(start_s=90, end_s=95, text="x"), Line(start_s=60, end_s=65, text="y"))},
            "In transcript, 1 time is not after the one before; the first is 01:00.",
        ),
        (
            {"transcript": (Line(start_s=90, end_s=80, text="x"),)},
            "In transcript, the entry at 01:30 ends before it st",
        ),
    ],
)
def test_a_wrong_time_is_named(check_lesson: Check, changes: dict[str, object], problem: str) -> None:
    found = check_lesson(**changes)
    assert found[0].startswith(problem)


def test_times_are_held_against_the_real_video_and_not_against_the_answer(check_lesson: Check) -> None:
    assert "In chapters, 1 time is after the end of the video (08:20); the first is 10:00." in check_lesson(
        duration_s=500
    )


def test_two_chapters_do_not_start_together(check_lesson: Check) -> None:
    twins = tuple(Chapter(start_s=0, end_s=600, title=title) for title in ("One", "Two"))
    assert check_lesson(chapters=twins) == ["In chapters, 1 time is not after the one before; the first is 00:00."]


def test_chapters_that_stop_early_or_come_late_are_named(check_lesson: Check, lesson: Analysis) -> None:
    assert check_lesson(chapters=lesson.chapters[:2]) == ["The chapters end at 06:40, but the video lasts 10:00."]
    assert check_lesson(chapters=lesson.chapters[1:]) == ["The chapters begin only at 03:20."]


def test_minutes_taken_for_seconds_are_seen(check_lesson: Check, lesson: Analysis) -> None:
    chapters = tuple(Chapter(start_s=c.start_s / 60, end_s=c.end_s / 60, title=c.title) for c in lesson.chapters)
    assert any("The chapters end at 00:10" in problem for problem in check_lesson(chapters=chapters))


# Language


CHINESE = ("植物利用阳光把水和二氧化碳变成养料，同时放出氧气，这个过程叫作光合作用，是地球上生命的基础。",)
RUSSIAN = (
    "Растения превращают свет воду и воздух в сахар и выделяют кислород это основа жизни на всей планете Земля и мы",
)


def test_an_answer_in_another_language_than_asked_is_refused(check_lesson: Check) -> None:
    found = check_lesson("zh")
    assert found[0] == "The language is en; asked for was zh."
    assert any(problem.startswith("Only 0% of chapters is written in the script of zh") for problem in found)


@pytest.mark.parametrize("text", [CHINESE, RUSSIAN])
def test_an_answer_that_only_says_it_is_english_is_refused(check_lesson: Check, text: tuple[str, ...]) -> None:
    assert check_lesson(summary=text) == ["Only 0% of summary is written in the script of en; 60% is needed."]


def test_chinese_with_english_terms_is_chinese_enough(check_lesson: Check, shipped: Shipped, lesson: Analysis) -> None:
    text = ("我们先用 Python 的 list 保存数据，再用 for 循环逐个处理，最后把结果写进文件里，方便以后查看。",)
    answer = _with(lesson, {"language": "zh-CN", "summary": text})
    found = shipped["comprehensive_lesson"].in_language("zh").check(answer, 600)
    assert not any("summary" in problem or "asked for" in problem for problem in found)


def test_excerpts_may_be_in_the_language_of_the_video(check_lesson: Check) -> None:
    assert check_lesson(transcript=(Line(start_s=1, end_s=20, text=CHINESE[0] * 2, speaker="王老师"),)) == []


def test_japanese_is_no_chinese(check_transcript: Check) -> None:
    text = "わたしたちはひかりとみずからさとうをつくるしょくぶつについてまなびます。"
    assert check_transcript(summary=(text,)) == ["Only 0% of summary is written in the script of zh; 80% is needed."]


def test_a_language_whose_script_is_not_known_is_not_judged(shipped: Shipped, lesson: Analysis) -> None:
    assert shipped["comprehensive_lesson"].check(_with(lesson, {"language": "am"}), 600) == []


def test_a_pure_chinese_transcript_with_an_english_half_is_refused(
    check_transcript: Check, transcript: Analysis
) -> None:
    mixed = [
        line
        if line.start_s < 300
        else line.model_copy(
            update={"text": f"Look at part {line.start_s} of how a plant uses light, water and air for food."}
        )
        for line in transcript.transcript
    ]
    assert any(
        "of transcript is written in the script of zh; 80% is needed" in p for p in check_transcript(transcript=mixed)
    )


# Full transcripts


def test_a_hole_in_a_full_transcript_is_named_with_its_place(check_transcript: Check, transcript: Analysis) -> None:
    lines = _lines(transcript, lambda line: not 180 <= line.start_s < 260)
    assert check_transcript(transcript=lines) == ["The transcript leaves out: 02:58 to 04:20."]


@pytest.mark.parametrize(("keep_until", "left_out"), [(300, "04:58 to 10:00"), (60, "00:58 to 10:00")])
def test_a_transcript_that_breaks_off_is_refused(
    check_transcript: Check, transcript: Analysis, keep_until: float, left_out: str
) -> None:
    found = check_transcript(transcript=_lines(transcript, lambda line: line.start_s < keep_until))
    assert found[-1] == f"The transcript leaves out: {left_out}."
    assert found[0].startswith("The transcript covers ")


def test_many_small_holes_are_too_little_coverage(check_transcript: Check, transcript: Analysis) -> None:
    found = check_transcript(transcript=_lines(transcript, lambda line: line.start_s % 60 == 0))
    assert found == ["The transcript covers 30% of the video; 80% is needed."]


def test_a_hole_in_which_nothing_is_heard_is_no_hole(check_transcript: Check, transcript: Analysis) -> None:
    lines = _lines(transcript, lambda line: not 180 <= line.start_s < 260)
    assert check_transcript(transcript=lines, quiet=[(175.0, 262.0)]) == []
    assert check_transcript(transcript=lines, quiet=[(175.0, 190.0)]) != []


@pytest.mark.parametrize("text", ["[无语音]", "【无语音：学生做练习】", "[No speech: music]"])
def test_a_marked_silence_is_no_hole_and_needs_no_speaker(
    check_transcript: Check, transcript: Analysis, text: str
) -> None:
    mark = Line(start_s=180, end_s=260, text=text)
    lines = _lines(transcript, lambda line: line.start_s < 180)
    assert check_transcript(transcript=(*lines, mark, *_lines(transcript, lambda line: line.start_s >= 260))) == []


def test_what_is_left_out_cannot_be_called_silence(check_transcript: Check, transcript: Analysis) -> None:
    lines = _lines(transcript, lambda line: line.start_s < 60)
    assert check_transcript(transcript=(*lines, Line(start_s=60, end_s=600, text="[无语音]"))) == [
        "The transcript says of more than half of the video that nobody speaks in it; write down what is said."
    ]
    omitted = Line(start_s=60, end_s=600, text="（以下省略）", speaker="主讲人")
    assert any("leaves out" in problem for problem in check_transcript(transcript=(*lines, omitted)))


def test_a_long_line_with_few_words_covers_no_hour(check_transcript: Check) -> None:
    found = check_transcript(transcript=(Line(start_s=0, end_s=600, text="大家好。", speaker="主讲人"),))
    assert found[1].startswith("The transcript leaves out: 00:1")


def test_lines_without_speakers_are_counted(check_transcript: Check, transcript: Analysis) -> None:
    lines = [line.model_copy(update={"speaker": " "}) for line in transcript.transcript]
    assert check_transcript(transcript=lines) == ["In transcript, 30 of 30 lines name no speaker."]
    assert check_transcript(transcript=[*transcript.transcript[:29], lines[29]]) == []


def test_a_film_in_which_nobody_speaks_can_pass(check_transcript: Check) -> None:
    assert check_transcript(transcript=(Line(start_s=0, end_s=600, text="[无语音：全片只有音乐]"),)) == []


def test_an_unknown_duration_is_no_reason_to_refuse(check_lesson: Check, check_transcript: Check) -> None:
    assert check_lesson(duration_s=0) == []
    assert check_transcript(duration_s=0) == []


# Repetition


def test_endless_repetition_is_refused(check_lesson: Check, check_transcript: Check, transcript: Analysis) -> None:
    assert "repeats itself endlessly: 'and so on'" in check_lesson(summary=("It is so " + "and so on " * 300,))[0]
    same = [line.model_copy(update={"text": "好的，我们再看一遍这个例子。"}) for line in transcript.transcript]
    assert any("The section transcript repeats itself endlessly" in p for p in check_transcript(transcript=same))


def test_the_same_question_again_and_again_is_refused(check_lesson: Check) -> None:
    quiz = tuple(Question(prompt="Which gas?", answer=f"Answer {n}") for n in range(8))
    assert check_lesson(quiz=quiz) == ["Most entries of quiz are the same."]


def test_a_teacher_may_repeat_herself(check_transcript: Check, transcript: Analysis) -> None:
    lines = [
        line.model_copy(update={"text": f"{line.text}对不对？对不对？"}) if n % 2 else line
        for n, line in enumerate(transcript.transcript)
    ]
    lines[4] = lines[4].model_copy(update={"text": "哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈，好，我们继续往下看。"})
    assert check_transcript(transcript=lines) == []
