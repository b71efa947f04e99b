"""Names stay inside the reports directory whatever goes into them."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from pathlib import PurePosixPath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gsvrd.reports.naming import (
    FIELDS,
    NameFields,
    assets_name,
    check_pattern,
    failure_name,
    numbered,
    report_name,
    slug,
)

LECTURE = NameFields(
    title="Photosynthesis: light & dark",
    source="Biology/Week 1/lecture 03.mp4",
    queued_at=1_767_323_045.0,
    template="lesson_plan",
    batch="term-1",
    sha256="0123456789abcdef" * 4,
)

NASTY = [
    *("../../etc/passwd", "/abs", "..", ".", ".hidden", "-rf", "con", "NUL.txt", "COM1", "aux.md", "a/../b", "~", "%s"),
    *("x\x00y", "\udce9", "\u202egpj.exe", "\U0001f4a9", "<b>", "a|b", "CON\u200b", "AUX", "LPT¹.x", "\u2028"),
    *("x.assets", "x.md", "{title}", "{0.__class__}", "/", " ", "-", "\\", "é", "漢" * 90),
]
hostile = st.one_of(
    st.text(max_size=400),
    st.text(st.characters(categories=["Cs", "Cc", "Cf", "Zs", "Mn", "Po"]), max_size=30),
    st.lists(st.sampled_from(NASTY), max_size=12).map("".join),
)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("{relpath}", "Biology/Week 1/lecture 03.md"),
        ("{title}.md", "Photosynthesis_ light & dark.md"),
        ("{batch}/{date}-{stem}", "term-1/2026-01-02-lecture 03.md"),
        ("{template}/{timestamp} {hash8}", "lesson_plan/20260102T030405Z 01234567.md"),
        ("always the same", "always the same.md"),
    ],
)
def test_a_pattern_names_the_report(pattern: str, name: str) -> None:
    assert check_pattern(pattern) == []
    assert report_name(pattern, LECTURE) == name


def test_a_loose_file_gets_no_batch_folder() -> None:
    assert report_name("{batch}/{stem}", replace(LECTURE, batch="")) == "lecture 03.md"


def test_a_video_without_a_title_is_named_after_its_file() -> None:
    assert report_name("{title}", replace(LECTURE, title="\u202e")) == "lecture 03.md"


@pytest.mark.parametrize(
    ("pattern", "word"),
    [
        ("{titel}", "unknown field {titel}"),
        ("{title.__class__}", "unknown field"),
        ("{title!r}", "unknown field"),
        ("{}", "unknown field"),
        ("{title", "bracket"),
        ("/etc/{title}", "absolute"),
        ("~/{title}", "absolute"),
        ("../{title}", "'..'"),
        ("a/../{title}", "'..'"),
        ("./{title}", "'.'"),
        ("{title}/", "file name is missing"),
        ("  ", "empty"),
        ("a\\{title}", "not allowed"),
        ("a\n{title}", "not allowed"),
    ],
)
def test_a_bad_pattern_is_refused_with_its_reason(pattern: str, word: str) -> None:
    assert any(word in problem for problem in check_pattern(pattern))
    with pytest.raises(ValueError, match="output pattern"):
        report_name(pattern, LECTURE)


def test_values_are_never_read_as_patterns() -> None:
    assert report_name("{title}", replace(LECTURE, title="{stem} {title.__class__} {{7*7}}")) == (
        "{stem} {title.__class__} {{7_7}}.md"
    )


@given(hostile, hostile, st.lists(st.sampled_from([*FIELDS, "/", " ", "-", "x", ".assets"]), min_size=1, max_size=6))
@settings(max_examples=300, deadline=None)
@example("..", "../../..", ["relpath"])
@example("", "", ["title"])
@example("x", "a/" * 2000 + "b", ["relpath"])
def test_a_hostile_value_never_escapes(title: str, source: str, parts: list[str]) -> None:
    pattern = "".join(f"{{{part}}}" if part in FIELDS else part for part in parts)
    if check_pattern(pattern):
        return
    fields = NameFields(title, source, LECTURE.queued_at, title, source, title)
    name = report_name(pattern, fields)
    path = PurePosixPath(name)
    assert not path.is_absolute()
    assert "//" not in name
    assert name.endswith(".md")
    assert all(0 < len(part.encode()) <= 200 for part in path.parts)
    assert not any(part.startswith((".", "-", " ")) or part.endswith((".", " ")) for part in name.split("/"))
    assert not any(part.lower().endswith((".md", ".assets")) for part in path.parts[:-1])
    assert len(name.encode()) <= 1000
    assert not any(unicodedata.category(char) in ("Cc", "Cs") or char in '<>:"|?*\\' for char in name)
    for derived in (numbered(name, 99_999), assets_name(name), assets_name(numbered(name, 99_999))):
        assert len(PurePosixPath(derived).name.encode()) <= 255
        assert PurePosixPath(derived).parent == path.parent


@given(hostile)
@settings(max_examples=500, deadline=None)
@example("NUL" + " " * 300)
@example("e\u200b\u0301")
@example("<\u0338")
@example("漢" * 100 + ".")
def test_a_slug_is_one_component_and_its_own_slug(text: str) -> None:
    name = slug(text)
    assert slug(name) == name
    assert name
    assert "/" not in name
    assert len(name.encode()) <= 200
    assert name == unicodedata.normalize("NFC", name)
    assert name.split(".")[0].rstrip().upper() not in {"CON", "PRN", "AUX", "NUL", "COM1", "LPT9"}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("光合作用 第一课", "光合作用 第一课"),
        ("e\u0301tude", "étude"),
        ("C# and R&D (draft) [2]", "C# and R&D (draft) [2]"),
        ("--help", "help"),
        ("...", "_"),
        ("nul.tar", "nul_.tar"),
        ("console", "console"),
        ("a\tb\n c", "a b c"),
        ("caf\udce9", "caf_"),
        ("\u202egpj.exe", "gpj.exe"),
    ],
)
def test_a_slug_stays_close_to_its_text(text: str, name: str) -> None:
    assert slug(text) == name


def test_long_names_that_differ_at_the_end_stay_apart() -> None:
    one, two = slug("漢" * 100 + "1"), slug("漢" * 100 + "2")
    assert one != two
    assert one.startswith("漢" * 60)


def test_a_folder_never_takes_the_place_of_a_report_or_its_pictures() -> None:
    fields = replace(LECTURE, source="a.MD/b.assets/c.mp4")
    assert report_name("{relpath}", fields) == "a.MD_/b.assets_/c.md"


def test_a_number_goes_before_the_suffix() -> None:
    assert numbered("dir/name.md", 2) == "dir/name-2.md"
    assert assets_name("dir/name.md") == "dir/name.assets"


def test_a_failure_record_keeps_the_whole_name_of_its_source() -> None:
    assert failure_name("lecture.mp4") == "lecture.mp4.error.json"
    assert failure_name("bad\udcff.mov") == "bad_.mov.error.json"
    assert len(failure_name("x" * 255).encode()) <= 255
