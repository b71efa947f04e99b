"""A summary is put in place whole, once, and never over what is somebody else's; and reports can be read back."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.batches import batch, course, done, shuffled

from gsvrd.analysis import Analysis, KeyTerm, MediaFacts
from gsvrd.policy.results import Lesson, Term, reckon
from gsvrd.reports import escape
from gsvrd.reports.glance import _plain, glance
from gsvrd.reports.lesson_plan import ReportContext, render
from gsvrd.reports.summary_files import write_summary

NAMES = ["_summary.json", "_summary.md", "_summary.svg"]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_three_files_lie_in_the_batchs_folder(tmp_path: Path) -> None:
    page = write_summary(tmp_path, reckon(course()))
    assert page == tmp_path / "Algebra" / "_summary.md"
    assert files(page.parent) == NAMES
    assert files(tmp_path) == ["Algebra"]
    assert "(_summary.svg)" in page.read_text()


def test_the_next_summary_of_a_batch_replaces_the_last(tmp_path: Path) -> None:
    write_summary(tmp_path, reckon(batch(done("a.mp4"))))
    page = write_summary(tmp_path, reckon(course()))
    assert files(page.parent) == NAMES
    assert "5 of 7" in page.read_text()
    assert json.loads(page.with_suffix(".json").read_bytes())["total"] == 7
    assert "went wrong" in page.with_suffix(".svg").read_text()
    assert files(tmp_path) == ["Algebra"]


def test_what_is_the_same_is_not_written_again(tmp_path: Path) -> None:
    page = write_summary(tmp_path, reckon(course()))
    before = {name: os.stat(page.parent / name).st_ino for name in NAMES}
    for seed in range(3):
        write_summary(tmp_path, reckon(shuffled(course(), seed)))
    assert {name: os.stat(page.parent / name).st_ino for name in NAMES} == before


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", [b"", b"mine", b'---\ntask: "3-18c5"\n---\n', b'---\nsummary_of: "4-18c5"\n'])
def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path, name: str, content: bytes) -> None:
    theirs = tmp_path / "Algebra" / name
    theirs.parent.mkdir()
    theirs.write_bytes(content)
    page = write_summary(tmp_path, reckon(course()))
    assert theirs.read_bytes() == content
    assert files(page.parent) == sorted([name, "_summary-2.json", "_summary-2.md", "_summary-2.svg"])
    assert "(_summary-2.svg)" in page.read_text()
    assert write_summary(tmp_path, reckon(course())) == page


def test_two_batches_that_share_a_folder_have_a_summary_each(tmp_path: Path) -> None:
    first = write_summary(tmp_path, reckon(course()))
    second = write_summary(tmp_path, reckon(replace(course(), mark="4-18c6", kind="manifest")))
    assert (first.name, second.name) == ("_summary.md", "_summary-2.md")


def test_no_link_is_followed(tmp_path: Path) -> None:
    reports, elsewhere = tmp_path / "reports", tmp_path / "elsewhere"
    reports.mkdir()
    elsewhere.mkdir()
    (reports / "Algebra").symlink_to(elsewhere)
    with pytest.raises(NotADirectoryError):
        write_summary(reports, reckon(course()))
    (reports / "Algebra").unlink()
    (reports / "Algebra").mkdir()
    victim = elsewhere / "victim"
    victim.write_text("mine")
    (reports / "Algebra" / "_summary.md").symlink_to(victim)
    assert write_summary(reports, reckon(course())).name == "_summary-2.md"
    assert victim.read_text() == "mine"


def test_what_a_crash_left_is_no_hindrance(tmp_path: Path) -> None:
    for suffix in (".svg", ".json", ".md"):
        (tmp_path / f".gsvrd-summary{suffix}").write_bytes(b"half")
    write_summary(tmp_path, reckon(course()))
    assert files(tmp_path) == ["Algebra"]


# -- reading reports back --------------------------------------------------------------------------------------------------

TERMS = [
    ("Stroma", "the space inside", 75.0),
    ("a*b_c [d](e) <i>", "see https://x.example/a_b & `c`", None),
    ("光合作用", "植物（上）", 3.0),
    ("alone", "", None),
]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_report_says_what_its_analysis_said(
    tmp_path: Path, analysis: Analysis, facts: MediaFacts, context: ReportContext, language: str
) -> None:
    terms = tuple(KeyTerm(term=term, meaning=meaning, at_s=at_s) for term, meaning, at_s in TERMS)
    studied = analysis.model_copy(update={"title": 'A "b" \\ 课', "language": language, "key_terms": terms})
    (tmp_path / "a.md").write_text(render(studied, facts, context))
    expected = tuple(Term(term, meaning) for term, meaning, _ in TERMS)
    assert glance(tmp_path, "a.md") == Lesson('A "b" \\ 课', language, expected)


@given(st.text(max_size=30))
def test_escaping_can_be_undone(text: str) -> None:
    assert _plain(escape.inline(text)) == escape.fold(text)


@pytest.mark.parametrize(
    "content", [b"", b"---\n", b"# Mine\n", b"\xff\xfe", b'---\ntitle: "half\n---\n## Key terms\n']
)
def test_a_file_that_is_no_report_says_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.md").write_bytes(content)
    assert glance(tmp_path, "a.md") == Lesson()


def test_a_report_that_is_gone_says_nothing(tmp_path: Path) -> None:
    assert glance(tmp_path, "gone/a.md") == Lesson()
    assert files(tmp_path) == []
