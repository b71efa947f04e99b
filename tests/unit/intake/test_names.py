from __future__ import annotations

import pytest

from gsvrd.intake.names import NameRules, printable


@pytest.mark.parametrize(
    "name",
    [
        *(
            b"a.mp4",
            b"A.MOV",
            b"lesson 1.Mkv",
            b"x.m2ts",
            "课程.webm".encode(),
            b"\xff\xfe.mp4",
            b"-rf.mp4",
            b"a\nb.mp4",
        ),
        *(b"part.mp4", b"intro.download.mp4", b"lecture.part1.mp4", "🎓.mp4".encode()),
    ],
)
def test_a_video_is_known_by_its_suffix_in_any_case(name: bytes) -> None:
    assert NameRules().is_video(name)


@pytest.mark.parametrize(
    "name",
    [
        *(b".a.mp4", b"._a.mp4", b"~a.mp4", b"~$a.mp4", b"a.mp4~", b"a.mp4.part", b"a.mp4.crdownload", b"a.mp4.!qB"),
        *(b"a.mp4.aria2", b"a.mp4.filepart", b".syncthing.a.mp4.tmp", b".a.mp4.Xy12Za", b"a.temp.mp4", b"a.part.mp4"),
        *(b"a.srt", b"a.vtt", b"a.txt", b"mp4", b"", b".mp4", b"a."),
    ],
)
def test_hidden_partial_and_foreign_names_are_no_videos(name: bytes) -> None:
    assert not NameRules().is_video(name)


def test_suffixes_may_be_given_with_a_dot_and_in_capitals() -> None:
    rules = NameRules(suffixes=[".MP4"])
    assert rules.is_video(b"a.mp4")
    assert not rules.is_video(b"a.mov")


def test_an_ignore_pattern_speaks_of_a_name_or_of_a_path() -> None:
    rules = NameRules(ignore=["*-draft.*", "raw/*"])
    assert not rules.is_video(b"week1-DRAFT.mp4")
    assert not rules.admits(b"raw/a.mp4")
    assert rules.admits(b"term/a.mp4")


def test_folders_that_are_hidden_or_belong_to_a_server_are_not_looked_into() -> None:
    rules = NameRules()
    assert not rules.admits(b".hidden/a.mp4")
    assert not rules.admits(b"term/@eaDir/a.mp4/x.mp4")
    assert rules.admits(b"term/week 1/a.mp4")


def test_a_link_is_worth_a_word_when_it_looks_like_a_video_or_a_folder() -> None:
    rules = NameRules()
    assert rules.is_refused_as_link(b"a.mp4")
    assert rules.is_refused_as_link(b"Term 2026")
    assert not rules.is_refused_as_link(b"notes.txt")
    assert not rules.is_refused_as_link(b".config")


def test_a_printable_name_shows_what_cannot_be_printed() -> None:
    assert printable("课程 🎓.mp4".encode()) == "课程 🎓.mp4"
    assert printable(b"a\xff\xfeb") == "a\\xff\\xfeb"
    assert printable(b"a\nb\x1b[31m") == "a\\x0ab\\x1b[31m"
    assert printable("a\u202eb".encode()) == "a\\u202eb"
