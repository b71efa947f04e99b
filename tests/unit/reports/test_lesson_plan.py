"""A report says all that the analysis says, in its place, and nothing in it is active."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jinja2 import UndefinedError
from jinja2.exceptions import SecurityError
from markdown_it import MarkdownIt
from markdown_it.token import Token
from pydantic import BaseModel

from gsvrd.analysis import Analysis, Chapter, MediaFacts, Picture
from gsvrd.reports import lesson_plan
from gsvrd.reports.lesson_plan import ReportContext, clock, render

PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])

HOSTILE = [
    "<script>alert(1)</script>",
    "</p></details><img src=x onerror=alert(1)>",
    "![p](https://evil.example/p.png) [[wiki]] #tag",
    "a\n---\ntitle: mine\n\n# Heading",
    "{{ 7*7 }} {% include '/etc/passwd' %} {{ ''.__class__.__mro__ }}",
    '"quoted": [yaml, {x: 1}] \\ & *anchor',
    "ends in #",
    "| a | b |",
    "\udce9\u202e\x00",
]


def body_of(report: str) -> str:
    return report.split("\n---\n", 1)[1]


def leaves(report: str) -> Iterator[Token]:
    for token in PARSER.parse(body_of(report)):
        yield token
        yield from token.children or []


def head_of(report: str) -> dict[str, Any]:
    head = report.split("\n---\n", 1)[0]
    assert head.startswith("---\n")
    loaded = yaml.safe_load(head)
    assert isinstance(loaded, dict)
    return loaded


def headings(report: str) -> list[str]:
    return re.findall(r"^#+ .*$", body_of(report), re.MULTILINE)


def with_texts(model: Any, text: str) -> Any:
    """A copy of `model` in which every string a video could have filled is `text`."""
    if isinstance(model, str):
        return text
    if isinstance(model, tuple):
        return tuple(with_texts(item, text) for item in model)
    if isinstance(model, BaseModel) and not isinstance(model, Picture):
        values = {name: getattr(model, name) for name in type(model).model_fields}
        return model.model_copy(
            update={k: v if k in ("language", "sha256") else with_texts(v, text) for k, v in values.items()}
        )
    return model


def test_front_matter_names_the_source_and_its_making(
    analysis: Analysis, facts: MediaFacts, context: ReportContext
) -> None:
    assert head_of(render(analysis, facts, context)) == {
        "title": "Photosynthesis",
        "source": "lecture.mp4",
        "duration": "1:06:40",
        "language": "en",
        "analyzer": "local",
        "template": "lesson_plan",
        "sha256": "ab12" * 16,
        "created": "2026-01-02T03:04:05Z",
        "gsvrd": "0.1.0",
        "task": "17-ab12",
        "attempt": "2",
    }


def test_sections_come_in_the_order_a_teacher_needs(
    analysis: Analysis, facts: MediaFacts, context: ReportContext
) -> None:
    assert headings(render(analysis, facts, context)) == [
        "# Photosynthesis",
        "## Summary",
        "## Objectives",
        "## Contents",
        "## 0:00:00 The leaf",
        "## 1:01:40 Part 2",
        "## Key terms",
        "## Activities",
        "## Quiz",
        "## Transcript",
        "## Resources",
        "## How this was made",
    ]


def test_every_part_of_the_analysis_is_there(analysis: Analysis, facts: MediaFacts, context: ReportContext) -> None:
    report = render(analysis, facts, context)
    for expected in [
        "1:06:40 · English · 2 chapters · lecture.mp4",
        "| 1:01:40 | Part 2 |",
        "![Picture at 0:00:12](lecture%20%281%29.assets/001.jpg)",
        "- Light goes in\n",
        "> The leaf  \n> \\- light\n",
        "- **Stroma** – the space inside (0:01:15)\n",
        "**1.** Which gas?\n\n- **A** Nitrogen\n- **B** Oxygen\n",
        "<p>B – Oxygen (0:01:20)</p>",
        "<p>It reflects green.</p>",
        "<p><b>0:00:00</b> Good morning. <i>It's mumbled.</i></p>",
        "- `https://bio.example.org/x`",
        "- Speech: recognised",
        "- There are no subtitles.",
        "- Picture: h264, 1280×720, 29.97 fps",
        "- two packets are damaged",
    ]:
        assert expected in report


def test_folded_parts_work_in_obsidian_too(analysis: Analysis, facts: MediaFacts, context: ReportContext) -> None:
    report = render(analysis, facts, context)
    folded = re.findall(r"^<details>\n.*?^</details>\n", report, re.DOTALL | re.MULTILINE)
    assert len(folded) == 3
    assert not any("\n\n" in part for part in folded)
    blocks = [token.content for token in leaves(report) if token.type == "html_block"]
    assert blocks == folded


def test_an_analysis_without_content_gives_a_short_report(
    analysis: Analysis, facts: MediaFacts, context: ReportContext
) -> None:
    bare = Analysis(title="", language="und", duration_s=3, summary=(" ",), gaps=("Nothing was said.",))
    report = render(bare, facts.model_copy(update={"notes": ()}), context)
    assert headings(report) == ["# lecture.mp4", "## How this was made"]
    assert "- Nothing was said." in report
    assert "the reasons are at the end" in report
    assert "\n\n\n" not in report
    assert report.endswith("\n")
    assert not report.endswith("\n\n")


def test_without_gaps_none_are_announced(analysis: Analysis, facts: MediaFacts, context: ReportContext) -> None:
    report = render(analysis.model_copy(update={"gaps": ()}), facts, context)
    assert "the reasons are at the end" not in report
    assert "What could not be done" not in report


def test_the_report_speaks_the_language_of_the_video(
    analysis: Analysis, facts: MediaFacts, context: ReportContext
) -> None:
    chinese = render(analysis.model_copy(update={"language": "zh-Hans"}), facts, context)
    assert "## 摘要" in chinese
    assert "## 1:01:40 第 2 部分" in chinese
    assert "![0:00:12 的画面](" in chinese
    assert "## Summary" in render(analysis.model_copy(update={"language": "de"}), facts, context)


def test_a_forced_language_wins(analysis: Analysis, facts: MediaFacts, context: ReportContext) -> None:
    report = render(analysis, facts, replace(context, language="zh"))
    assert "## 摘要" in report
    assert head_of(report)["language"] == "en"


def check_nothing_is_active(
    analysis: Analysis, facts: MediaFacts, context: ReportContext, text: str, plain: str = "plain"
) -> None:
    report = render(with_texts(analysis, text), with_texts(facts, text), replace(context, source=text))
    model = render(with_texts(analysis, plain), with_texts(facts, plain), replace(context, source=plain))
    ignored = ("text", "code_inline", "html_block")
    assert [t.type for t in leaves(report) if t.type not in ignored] == [
        t.type for t in leaves(model) if t.type not in ignored
    ]
    images = [token.attrs["src"] for token in leaves(report) if token.type == "image"]
    assert images == ["lecture%20%281%29.assets/001.jpg"]
    tags = [re.findall(r"<[^>]*>", token.content) for token in leaves(report) if token.type == "html_block"]
    assert tags == [re.findall(r"<[^>]*>", token.content) for token in leaves(model) if token.type == "html_block"]
    assert list(head_of(report)) == list(head_of(model))
    assert head_of(report)["task"] == "17-ab12"


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
@pytest.mark.parametrize("is_open", [False, True], ids=["folded", "open"])
def test_hostile_text_in_every_place_is_only_text(
    analysis: Analysis, facts: MediaFacts, context: ReportContext, text: str, is_open: bool
) -> None:
    check_nothing_is_active(analysis, facts, replace(context, full_transcript=is_open), text)


@given(st.lists(st.sampled_from([*HOSTILE, *"#-*_<>[]()|`:\n &\\"]), min_size=1, max_size=6).map("".join))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_mixtures_of_hostile_text_are_only_text(
    analysis: Analysis, facts: MediaFacts, context: ReportContext, text: str
) -> None:
    for is_open in (False, True):
        check_nothing_is_active(analysis, facts, replace(context, full_transcript=is_open), text + " x")


def test_hostile_text_is_shown_as_it_was(analysis: Analysis, facts: MediaFacts, context: ReportContext) -> None:
    report = render(analysis.model_copy(update={"title": HOSTILE[4], "quiz": ()}), facts, context)
    assert head_of(report)["title"] == HOSTILE[4]
    title = next(token for token in PARSER.parse(body_of(report)) if token.type == "inline")
    assert "".join(child.content for child in title.children or []) == HOSTILE[4]
    spoken = with_texts(analysis, HOSTILE[1])
    assert HOSTILE[1] in unescape(render(spoken, facts, context))


@pytest.mark.parametrize("title", ["1e3", "0123", "yes", "null", "2026-01-02", "- a", "a: b # c", "'", '"', "漢 😀"])
def test_a_title_stays_a_string_in_every_yaml(
    analysis: Analysis, facts: MediaFacts, context: ReportContext, title: str
) -> None:
    report = render(analysis.model_copy(update={"title": title}), facts, context)
    assert head_of(report)["title"] == title
    assert report.splitlines()[1].startswith('title: "')


@pytest.mark.parametrize("file", ["../x.jpg", "a/b.jpg", ".hidden", "a b.jpg", "", "https://evil.example/p.png"])
def test_a_picture_that_is_no_plain_name_is_refused(
    analysis: Analysis, facts: MediaFacts, context: ReportContext, file: str
) -> None:
    chapter = Chapter(start_s=0, end_s=1, title="x", picture=Picture(file=file, at_s=0, width=1, height=1))
    with pytest.raises(ValueError, match="plain file name"):
        render(analysis.model_copy(update={"chapters": (chapter,)}), facts, context)


def test_a_value_put_out_without_a_filter_is_escaped() -> None:
    template = lesson_plan._template().environment.from_string("{{ a }} {{ a ~ '' }} {{ [a] | join }}")
    assert "<" not in template.render(a="<b>")


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}",
        "{{ x.append(1) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ '{0.__class__}'.format(x) }}",
        "{{ missing }}",
    ],
)
def test_a_template_gets_no_further_than_its_values(source: str) -> None:
    template = lesson_plan._template().environment.from_string(source)
    with pytest.raises((SecurityError, UndefinedError)):
        template.render(x=[])


def test_the_template_puts_nothing_behind_a_value_that_could_make_it_a_link() -> None:
    sources = {path.name: path.read_text(encoding="utf-8") for path in lesson_plan.TEMPLATES.rglob("*.j2")}
    assert len(sources) == 1 + len(lesson_plan.SECTIONS)
    assert {name: glued for name, text in sources.items() if (glued := re.findall(r"\}\}[(\[:].*", text))} == {}


def test_times_are_rounded_down() -> None:
    assert [clock(seconds) for seconds in (0, 59.99, 60, 3599, 3600, 360_000)] == [
        "0:00:00",
        "0:00:59",
        "0:01:00",
        "0:59:59",
        "1:00:00",
        "100:00:00",
    ]
