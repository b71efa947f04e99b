from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from support.intakes import put

from gsvrd.cli.looking import look
from gsvrd.config.models import Settings
from gsvrd.store.tracing import Problem

UP: dict[str, Any] = {"pid": 1, "state": "running", "intake": {"mode": "events", "trouble": ""}, "doors": {}}


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def ask(inbox: Path, name: str | bytes, daemon: dict[str, Any] | None = None, **intake: Any) -> Problem:
    settings = Settings.model_validate({"intake": intake}).intake
    return look(os.fsencode(name), os.fsencode(inbox), settings, daemon or UP)


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        (".hidden.mp4", "hidden", "`.`"),
        ("~draft.mp4", "hidden", "`~`"),
        ("课.mp4.part", "partial", "`.part`"),
        ("a.mp4.crdownload", "partial", "`.crdownload`"),
        ("a.temp.mp4", "partial", "`.temp.mp4`"),
        ("slides.pdf", "suffix", "`.pdf`"),
        ("课", "suffix", "no ending"),
        ("draft-1.mp4", "ignored", "`draft-*`"),
        (".git/a.mp4", "ignored_folder", ".git"),
        ("@eaDir/a.mp4", "ignored_folder", "@eaDir"),
        ("drafts/a.mp4", "ignored_folder", "`drafts`"),
    ],
)
def test_a_name_that_is_left_alone_is_explained(inbox: Path, name: str, code: str, says: str) -> None:
    put(inbox / name)
    problem = ask(inbox, name, ignore=["draft-*", "drafts"])
    assert problem.code == code
    assert says in problem.message


def test_only_the_pattern_that_matches_is_blamed(inbox: Path) -> None:
    put(inbox / "@eaDir" / "a.mp4")
    assert "`.*`" not in ask(inbox, "@eaDir/a.mp4").message


def test_what_is_no_plain_file_is_named(inbox: Path) -> None:
    put(inbox / "real.mp4")
    (inbox / "link.mp4").symlink_to("real.mp4")
    os.mkfifo(inbox / "pipe.mp4")
    (inbox / "folder.mp4").mkdir()
    (inbox / "away").symlink_to(".")
    told = {name: ask(inbox, name) for name in ("link.mp4", "pipe.mp4", "folder.mp4", "away/real.mp4")}
    assert {name: problem.code for name, problem in told.items()} == {
        "link.mp4": "special",
        "pipe.mp4": "special",
        "folder.mp4": "folder",
        "away/real.mp4": "special",
    }
    assert "symbolic link" in told["link.mp4"].message
    assert "named pipe" in told["pipe.mp4"].message
    assert "the folder away is a symbolic link" in told["away/real.mp4"].message


def test_a_hard_link_is_explained_unless_they_are_allowed(inbox: Path) -> None:
    put(inbox / "a.mp4")
    os.link(inbox / "a.mp4", inbox / "b.mp4")
    assert ask(inbox, "a.mp4").code == "hard_link"
    assert ask(inbox, "a.mp4", hard_links="true").code == "not_seen"


@pytest.fixture
def written(inbox: Path) -> Iterator[BinaryIO]:
    with (inbox / "w.mp4").open("wb") as file:
        yield file


def test_a_file_that_is_open_for_writing_is_waited_for(inbox: Path, written: BinaryIO) -> None:
    written.write(b"video")
    written.flush()
    assert ask(inbox, "w.mp4").code == "writing"
    written.close()
    assert ask(inbox, "w.mp4").code == "not_seen"


def test_a_download_manager_that_is_not_done_is_named(inbox: Path) -> None:
    put(inbox / "a.mp4")
    put(inbox / "a.mp4.aria2")
    problem = ask(inbox, "a.mp4")
    assert problem.code == "partial"
    assert "a.mp4.aria2" in problem.message


def test_an_empty_file_must_stand_still_first(inbox: Path) -> None:
    put(inbox / "a.mp4", b"")
    assert ask(inbox, "a.mp4", settle="1h").code == "settling"
    assert ask(inbox, "a.mp4", settle="0s").code == "not_seen"


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"pid": None, "state": "stopped", "intake": None}, "daemon_down", "does not run"),
        ({"state": "draining"}, "draining", "about to stop"),
        ({"intake": {"mode": "events", "trouble": "the inbox is away"}}, "inbox_trouble", "the inbox is away"),
        ({"doors": {"inbox": {"reason": "cannot be synced", "since": 1}}}, "inbox_trouble", "cannot be synced"),
        ({"intake": {"mode": "events", "trouble": ""}}, "not_seen", "within 30 s"),
        ({"intake": {"mode": "polling", "trouble": ""}}, "not_seen", "within 5 s"),
    ],
)
def test_with_a_good_file_it_is_said_what_the_daemon_is_about(
    inbox: Path, change: dict[str, Any], code: str, says: str
) -> None:
    put(inbox / "a.mp4")
    problem = ask(inbox, "a.mp4", UP | change)
    assert problem.code == code
    assert says in f"{problem.message} {problem.hint}"


def test_control_characters_and_stray_bytes_are_escaped(inbox: Path) -> None:
    name = b"a\x1b[31m\xff.exe\n"
    put(os.path.join(os.fsencode(inbox), name))
    problem = ask(inbox, name)
    assert problem.code == "suffix"
    assert problem.message.isprintable()
