"""A report follows the layout of its template: which sections, in which order, and how the transcript is shown."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import get_args

import pytest
from markdown_it import MarkdownIt

from gsvrd.analysis import Analysis, Line, MediaFacts
from gsvrd.reports.lesson_plan import SECTIONS, ReportContext, render
from gsvrd.templates.layout import SectionName
from gsvrd.templates.load import load_templates

TALK = (
    Line(start_s=0, end_s=4, text="今天讲光合作用。", speaker="主讲人"),
    Line(start_s=4, end_s=6, text="大概是叶绿素。", speaker="主讲人", unclear=True),
    Line(start_s=6, end_s=9, text="它吸收光。", speaker="主讲人"),
    Line(start_s=9, end_s=12, text="为什么是绿色？", speaker="学生甲"),
    Line(start_s=12, end_s=40, text="[无语音：学生做练习]"),
)


def headings(report: str) -> list[str]:
    return re.findall(r"^#+ .*$", report.split("\n---\n", 1)[1], re.MULTILINE)


def laid_out(context: ReportContext, template: str) -> ReportContext:
    output = load_templates(None)[template].output
    return replace(context, sections=output.sections, full_transcript=output.full_transcript, speakers=output.speakers)


def test_reports_know_the_sections_that_templates_may_name() -> None:
    assert get_args(SectionName) == SECTIONS


def test_only_the_sections_named_are_printed_in_their_order(
    analysis: Analysis, facts: MediaFacts, context: ReportContext
) -> None:
    report = render(analysis, facts, replace(context, sections=("resources", "quiz", "summary")))
    assert headings(report) == [
        "# Photosynthesis",
        "## Resources",
        "## Quiz",
        "## Summary",
        "## How this was made",
    ]
    assert report.startswith('---\ntitle: "Photosynthesis"\n')
    assert "\n\n\n" not in report


@pytest.mark.parametrize("name", SECTIONS)
def test_each_section_can_stand_alone(analysis: Analysis, facts: MediaFacts, context: ReportContext, name: str) -> None:
    report = render(analysis, facts, replace(context, sections=(name,)))
    others = render(analysis, facts, replace(context, sections=tuple(other for other in SECTIONS if other != name)))
    full = headings(render(analysis, facts, context))
    assert [heading for heading in full if heading in headings(report)] == headings(report)
    assert sorted(headings(report)[1:-1] + headings(others)[1:-1]) == sorted(full[1:-1])
    assert len(headings(report)) > 2


def test_a_section_without_content_is_left_out(analysis: Analysis, facts: MediaFacts, context: ReportContext) -> None:
    silent = analysis.model_copy(update={"transcript": (), "summary": ()})
    report = render(silent, facts, laid_out(context, "chinese_transcript"))
    assert headings(report) == ["# Photosynthesis", "## How this was made"]
    assert "- There are no subtitles." in report
    assert "told apart" not in report


def test_a_section_that_does_not_exist_is_refused(
    analysis: Analysis, facts: MediaFacts, context: ReportContext
) -> None:
    with pytest.raises(ValueError, match="no section 'homework'"):
        render(analysis, facts, replace(context, sections=("summary", "homework")))


def test_a_report_without_chapters_neither_counts_nor_pictures_them(
    analysis: Analysis, facts: MediaFacts, context: ReportContext
) -> None:
    report = render(analysis, facts, replace(context, sections=("summary",)))
    assert "\n1:06:40 · English · lecture.mp4\n" in report
    assert "001.jpg" not in report


def test_the_comprehensive_lesson_is_the_report_that_asks_for_no_layout(
    analysis: Analysis, facts: MediaFacts, context: ReportContext
) -> None:
    assert render(analysis, facts, laid_out(context, "comprehensive_lesson")) == render(analysis, facts, context)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("summary_report", ["Summary", "Contents", "0:00:00 The leaf", "1:01:40 Part 2", "Key terms", "Resources"]),
        (
            "study_notes",
            [
                "Summary",
                "Objectives",
                "Contents",
                "0:00:00 The leaf",
                "1:01:40 Part 2",
                "Key terms",
                "Quiz",
                "Resources",
            ],
        ),
        ("chinese_transcript", ["Full transcript", "Summary"]),
    ],
)
def test_each_shipped_template_has_its_own_report(
    analysis: Analysis, facts: MediaFacts, context: ReportContext, template: str, expected: list[str]
) -> None:
    report = render(analysis, facts, laid_out(context, template))
    assert [heading.removeprefix("## ") for heading in headings(report)[1:-1]] == expected


def test_a_chinese_transcript_is_open_with_times_and_speakers_and_then_the_summary(
    facts: MediaFacts, context: ReportContext
) -> None:
    plan = Analysis(title="光合作用", language="zh", duration_s=40, transcript=TALK, summary=("我讲了光合作用。",))
    report = render(plan, facts, laid_out(context, "chinese_transcript"))
    assert headings(report) == ["# 光合作用", "## 逐字稿", "## 摘要", "## 本报告的生成方式"]
    assert (
        "## 逐字稿\n\n斜体部分的语音识别结果不够确定。\n\n"
        "**0:00:00** **主讲人** 今天讲光合作用。<i>大概是叶绿素。</i>它吸收光。\n\n"
        "**0:00:09** **学生甲** 为什么是绿色？\n\n"
        "**0:00:12** [无语音：学生做练习]\n\n"
        "## 摘要\n"
    ) in report
    assert "<details>" not in report
    shown = MarkdownIt("commonmark").render(report.split("\n---\n", 1)[1])
    assert "<p><strong>0:00:09</strong> <strong>学生甲</strong> 为什么是绿色？</p>" in shown


@pytest.mark.parametrize(("language", "said"), [("zh", "未能分辨说话人。"), ("en", "could not be told apart.")])
def test_a_transcript_that_was_to_name_speakers_says_when_it_names_none(
    facts: MediaFacts, context: ReportContext, language: str, said: str
) -> None:
    nameless = tuple(line.model_copy(update={"speaker": ""}) for line in TALK)
    plan = Analysis(title="x", language=language, duration_s=40, transcript=nameless)
    wanted = laid_out(context, "chinese_transcript")
    assert said in render(plan, facts, wanted)
    assert said not in render(plan, facts, replace(wanted, speakers=False))
    assert said not in render(plan.model_copy(update={"transcript": TALK}), facts, wanted)


@pytest.mark.parametrize(("is_open", "count"), [(True, 8), (False, 2)])
def test_an_open_transcript_has_a_time_every_few_sentences(
    facts: MediaFacts, context: ReportContext, is_open: bool, count: int
) -> None:
    talk = tuple(Line(start_s=5 * number, end_s=5 * number + 5, text="Yes.") for number in range(24))
    plan = Analysis(title="x", language="en", duration_s=120, transcript=talk)
    report = render(plan, facts, replace(context, full_transcript=is_open))
    assert len(re.findall(r"^(?:\*\*|<p><b>)\d:\d\d:\d\d", report, re.MULTILINE)) == count


def test_a_transcript_meant_for_looking_up_is_folded(
    analysis: Analysis, facts: MediaFacts, context: ReportContext
) -> None:
    report = render(analysis, facts, replace(context, sections=("transcript",)))
    assert "## Transcript\n\nIn italics: the speech recognition was not sure.\n\n<details>\n" in report
