"""A summary says what became of a batch, links what came out of it, and nothing in it is active."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from support.batches import batch, course, done, failed, shuffled, tried

from gsvrd.model import OutcomeKind
from gsvrd.policy.results import BatchFacts, Lesson, Term, Trouble, Use, reckon
from gsvrd.reports.escape import fold
from gsvrd.reports.naming import slug
from gsvrd.reports.summary import folder_of, head, json_head, render_summary, to_json
from gsvrd.reports.summary_labels import duration, summary_labels
from gsvrd.reports.summary_plot import WIDTH, plot, svg_head

PARSER = MarkdownIt("gfm-like", {"html": True})
SVG = "{http://www.w3.org/2000/svg}"

HOSTILE = [
    "<script>alert(1)</script>",
    "]]><image href='https://evil.example/x'/>",
    "![p](https://evil.example/p.png) [[wiki]] #tag",
    "a](https://evil.example) [b",
    "\\](javascript:alert(1)) `x` **y",
    "a\n---\ntitle: mine\n\n# Heading",
    '"quoted": [yaml, {x: 1}] \\ & *anchor',
    "ends in #",
    "| a | b |",
    "[x] www.evil.example",
    "\udce9\u202e\x00\ufffe",
    "]]]]((((",
    "第一课（上）",
]


def page(facts: BatchFacts, language: str = "en") -> str:
    return render_summary(reckon(facts), language)


def body_of(text: str) -> str:
    return text.split("\n---\n", 1)[1]


def leaves(text: str) -> Iterator[Token]:
    for token in PARSER.parse(body_of(text)):
        yield token
        yield from token.children or []


def links(text: str) -> list[str]:
    return [str(token.attrs["href"]) for token in leaves(text) if token.type == "link_open"]


def shown(text: str) -> str:
    """All that a reader of the rendered page sees."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", PARSER.render(body_of(text)))))


def hostile(facts: BatchFacts, text: str) -> BatchFacts:
    """Every text of the facts is this one."""
    term = Term(f"{text} T", text)
    tasks = (
        done("1.mp4", 0, 60, term, title=text, name=text, report="Algebra/1.md"),
        done("2.mp4", 0, 60, term, title=text, name=f"x/{text}", report="", is_reused=True),
        done("3.mp4", 0, 60, title=text, name=f"{text}.mp4", report=f"{slug(text)}.md"),
        failed("4.mp4", name=f"b/{text}", trouble=Trouble(text, text, text)),
    )
    return replace(facts, name=text, tasks=tasks, use=(Use(text, 1, 1, 1),))


# -- Markdown ------------------------------------------------------------------------------------------------------------


def test_the_page_says_what_became_of_the_batch() -> None:
    text = page(course())
    said = shown(text)
    assert text.startswith(head("3-18c5"))
    for words in (
        "Algebra",
        "5 of 7 videos completed",
        "Success rate 83.3%",
        "Total time 2 min 40 s",
        "Work of all workers 4 min 06 s",
        "Average per video 1 min 00 s",
        "Failed 1",
        "Cancelled 1",
        "Retries 1",
        "Skipped: the same content had a report 1",
        "Reused: studied before, not paid for again 1",
        "Calls 5",
        "Tokens 123,000",
        "Cost 0.0450 USD",
        "broken.mp4 (1 attempt) – the file is damaged",
        "What to do: Convert it.",
        "Gradient – the slope of a line · Lines , Planes",
    ):
        assert words in said, words
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings == ["Timeline", "Lessons", "Failed", "Slowest", "Glossary"]
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def test_the_page_speaks_chinese() -> None:
    text = page(course(), "zh-CN")
    said = shown(text)
    for words in (
        "7 个视频中已完成 5 个",
        "成功率 83.3%",
        "总用时 2 分 40 秒",
        "（尝试 1 次）",
        "处理办法：Convert it.",
    ):
        assert words in said, words
    ours = set(re.findall(r"[A-Za-z]{3,}", " ".join(re.findall(r"^## .*$|^\| [^|]*", body_of(text), re.MULTILINE))))
    # No word of ours is left in English; what stands first in the table of the slowest are names of videos.
    assert ours <= {"UTC", "Algebra", "lesson", "again"}


def test_lessons_are_linked_in_their_order_from_where_the_page_lies() -> None:
    names = ["第十课.mp4", "第二课.mp4", "week 10/a.mp4", "week 2/b.mp4"]
    facts = batch(
        *(done(f"Algebra/{name}") for name in names), done("Algebra/z.mp4", report="2026/z [1].md", title="Z")
    )
    base = PurePosixPath("Algebra")
    found = [PurePosixPath(unquote(link)) for link in links(page(facts))]
    assert [str(link) for link in found] == [
        "week 2/b.md",
        "week 10/a.md",
        "../2026/z [1].md",
        "第二课.md",
        "第十课.md",
    ]
    assert folder_of("folder", "Algebra") == str(base)


def test_a_loose_batch_lies_apart_and_links_up() -> None:
    facts = batch(done("a.mp4"), done("b.mp4"), name="2026-01-02 03:04:05", kind="loose")
    assert folder_of(facts.kind, facts.name) == "_batches/2026-01-02 03_04_05"
    assert links(page(facts)) == ["../../a.md", "../../b.md"]
    assert "# Loose videos of 2026-01-02 03:04:05" in page(facts)


@pytest.mark.parametrize("name", ["..", ".hidden", "a/b", "CON", "x.assets", "", "\x00", "a" * 300])
def test_no_name_of_a_batch_leads_out_of_the_reports(name: str) -> None:
    parts = folder_of("folder", name).split("/")
    assert len(parts) == 1
    assert not parts[0].startswith(".")
    assert 0 < len(parts[0].encode()) <= 200


def test_sections_without_content_are_left_out() -> None:
    for facts in (batch(), batch(failed("a.mp4"))):
        text = page(facts)
        assert "## Lessons" not in text
        assert "## Glossary" not in text
        assert "## Slowest" not in text
        assert "Cost" not in text
    assert "0 of 0 videos completed" in page(batch())
    assert "Success rate | – |" in page(batch())
    assert "## Failed" in page(batch(failed("a.mp4")))


def test_a_batch_of_videos_that_need_no_report_says_so() -> None:
    facts = batch(*(done(f"{n}.mp4", report="old.md", title="Old", is_skipped=True) for n in (1, 2)))
    said = shown(page(facts))
    assert "Old · 1.mp4 · same content, no second report" in said
    assert "Average per video –" in said


def test_a_failure_without_a_record_says_so() -> None:
    assert "no reason on record" in page(batch(failed("a.mp4", trouble=None)))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_shown_and_do_nothing(text: str) -> None:
    facts = hostile(batch(), text)
    markdown = page(facts)
    for token in leaves(markdown):
        assert token.type not in ("html_block", "html_inline", "hr", "blockquote_open", "fence")
        if token.type == "image":
            assert token.attrs["src"] == "_summary.svg"
        if token.type == "link_open":
            target = str(token.attrs["href"])
            assert target.endswith(".md"), target
            assert not re.match(r"[a-z]+:|//|www", target, re.IGNORECASE), target
    headings = re.findall(r"^#+ .*$", body_of(markdown), re.MULTILINE)
    assert len(headings) == 6
    # Nothing is lost either: the title, three lessons, one failure (name, reason, hint), two in the glossary, one slow.
    assert shown(markdown).replace(" ", "").count(fold(text).replace(" ", "")) >= 8
    front = yaml.safe_load(markdown.split("\n---\n", 1)[0])
    assert front["batch"] == fold(text)
    assert set(front) == {"summary_of", "batch", "kind", "language", "completed", "failed", "ended"}


@given(st.text(max_size=40), st.text(max_size=40))
@settings(max_examples=60, deadline=None)
def test_no_text_ends_its_link_or_makes_another(title: str, term: str) -> None:
    facts = batch(done("Algebra/1.mp4", 0, 1, Term(term), title=title))
    found = links(page(facts))
    assert set(found) <= {"1.md"}
    assert found.count("1.md") >= 1


# -- JSON ----------------------------------------------------------------------------------------------------------------


def test_the_json_has_the_whole_result() -> None:
    data = to_json(reckon(course()))
    assert data.decode().startswith(json_head("3-18c5"))
    found: dict[str, Any] = json.loads(data)
    assert (found["schema"], found["folder"], found["total"], found["success_rate"]) == (1, "Algebra", 7, 0.8333)
    assert found["lessons"][2] == {
        "video": "Algebra/lesson 1.mp4",
        "title": "Lines",
        "report": "Algebra/lesson 1.md",
        "seconds": 60.0,
        "is_skipped": False,
        "is_reused": False,
        "link": "",
    }
    assert found["failures"] == [
        {
            "video": "Algebra/broken.mp4",
            "kind": "unreadable",
            "reason": "the file is damaged",
            "what_to_do": "Convert it.",
            "attempts": 1,
            "link": "",
        }
    ]
    assert {stretch["outcome"] for stretch in found["course"]} == {"succeeded", "failed", "snoozed"}
    assert [use["model"] for use in found["models"]] == ["gemini-2.5-flash", "gemini-2.5-pro"]


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_survives_in_the_json(text: str) -> None:
    found = json.loads(to_json(reckon(hostile(batch(), text))))
    assert found["name"] == text


# -- the same bytes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["en", "zh"])
def test_another_order_gives_the_same_bytes(language: str) -> None:
    facts = course()
    first = reckon(facts)
    expected = (render_summary(first, language), to_json(first), plot(first, language))
    for seed in range(10):
        result = reckon(shuffled(facts, seed))
        assert (render_summary(result, language), to_json(result), plot(result, language)) == expected


# -- the picture -----------------------------------------------------------------------------------------------------------


def drawn(facts: BatchFacts, language: str = "en") -> ElementTree.Element:
    return ElementTree.fromstring(plot(reckon(facts), language))


def bars(root: ElementTree.Element, *kinds: str) -> list[ElementTree.Element]:
    """Those with a tip: not the samples of the legend."""
    return [bar for bar in root.iter(f"{SVG}rect") if bar.get("class") in kinds and bar.find(f"{SVG}title") is not None]


def tips(root: ElementTree.Element, *kinds: str) -> list[str]:
    return [bar.findtext(f"{SVG}title") or "" for bar in bars(root, *kinds)]


def test_the_picture_shows_every_attempt_and_what_became_of_it() -> None:
    root = drawn(course())
    assert plot(reckon(course()), "en").startswith(svg_head("3-18c5"))
    assert len(tips(root, "ok")) == 5
    assert tips(root, "bad") == [
        "went wrong · 20 s · attempt 1 · Algebra/lesson 10.mp4",
        "went wrong · 3.0 s · attempt 1 · Algebra/broken.mp4",
    ]
    assert tips(root, "back") == ["given back · 10 s · attempt 2 · Algebra/lesson 10.mp4"]
    assert sum(int(tip) for tip in tips(root, "rate")) == 5
    words = [text.text for text in root.iter(f"{SVG}text")]
    for word in ("Algebra", "Workers", "succeeded", "went wrong", "given back", "2026-01-02 03:04:05 UTC"):
        assert word in words, word


def test_nothing_is_drawn_outside_or_over_another() -> None:
    for facts in (course(), weekly(20), crowd(5000)):
        root = drawn(facts)
        height = float(root.get("height", "0"))
        rows: dict[str, float] = {}
        for bar in root.iter(f"{SVG}rect"):
            x, y = float(bar.get("x", "0")), float(bar.get("y", "0"))
            right, bottom = x + float(bar.get("width", "0")), y + float(bar.get("height", "0"))
            assert 0 <= x <= right <= WIDTH, bar.attrib
            assert 0 <= y <= bottom <= height, bar.attrib
        for bar in bars(root, "ok"):
            x, row = float(bar.get("x", "0")), bar.get("y", "")
            assert x >= rows.get(row, 0.0) - 1.0, bar.attrib
            rows[row] = x + float(bar.get("width", "0"))


def weekly(weeks: int) -> BatchFacts:
    return batch(*(done(f"{week}.mp4", week * 7 * 86400, 180) for week in range(weeks)))


def crowd(videos: int) -> BatchFacts:
    return batch(*(done(f"{n}.mp4", n * 0.25, 1.0) for n in range(videos)))


def test_times_without_work_are_cut_out() -> None:
    root = drawn(weekly(3))
    assert len(tips(root, "ok")) == 3
    assert set(tips(root, "cut")) == {"167 h 57 min without work"}
    assert all(float(bar.get("width", "0")) > 200 for bar in bars(root, "ok"))
    dates = [text.text for text in root.iter(f"{SVG}text") if "2026-" in (text.text or "")]
    assert dates == ["2026-01-02 03:04 UTC", "2026-01-09 03:04", "2026-01-16 03:04"]


def test_a_large_batch_makes_a_small_picture_that_still_counts_all() -> None:
    text = plot(reckon(crowd(20_000)), "en")
    assert len(text) < 400_000
    root = ElementTree.fromstring(text)
    together = [int(match[1]) for tip in tips(root, "ok") if (match := re.match(r"(\d+) attempts", tip))]
    alone = len(tips(root, "ok")) - len(together)
    assert sum(together) + alone == 20_000
    assert sum(int(tip) for tip in tips(root, "rate")) == 20_000


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_stay_text_in_the_picture(text: str) -> None:
    root = drawn(hostile(batch(), text))
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        "svg",
        "title",
        "style",
        "rect",
        "text",
        "path",
    }
    assert not [name for element in root.iter() for name in element.attrib if "href" in name or name.startswith("on")]
    assert "url(" not in plot(reckon(hostile(batch(), text)), "en")
    name = root.findtext(f"{SVG}title")
    assert name == fold(text).replace("\ufffe", "")


def test_a_batch_in_which_nothing_ran_has_a_picture_that_says_so() -> None:
    words = [text.text for text in drawn(batch(), "zh").iter(f"{SVG}text")]
    assert words == ["Algebra", "没有运行记录。"]


def test_an_attempt_without_length_can_be_drawn() -> None:
    facts = batch(
        done("a.mp4", attempts=(tried(1, 0, 0),)), failed("b.mp4", attempts=(tried(1, 0, 0, OutcomeKind.DIED),))
    )
    assert len(tips(drawn(facts), "ok", "bad")) == 2


# -- words -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3599.6, "1 h 00 min")],
)
def test_durations_have_the_two_units_that_matter(seconds: float, words: str) -> None:
    assert duration(seconds, summary_labels("en")) == words


def test_a_title_that_is_empty_leaves_something_to_click() -> None:
    facts = batch(done("Algebra/\u200b.mp4", lesson=Lesson("\u200b"), report="Algebra/x.md"), name="\u200b")
    assert "[Algebra/.mp4](../Algebra/x.md)" in page(facts)
    assert "# –" in page(facts)
