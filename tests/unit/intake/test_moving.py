from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.intakes import put

from gsvrd.intake import moving
from gsvrd.intake.identity import Identity
from gsvrd.intake.moving import Source, delete, move_out, move_special, sidecars


class Yard:
    """An inbox and an archive, and a source to move from the one to the other."""

    def __init__(self, root: Path) -> None:
        self.inbox, self.archive = root / "inbox", root / "archive"
        self.inbox.mkdir()
        self.archive.mkdir()

    def source(self, name: str = "a.mp4", content: bytes = b"video") -> Source:
        put(self.inbox / name, content)
        return self.known(name)

    def known(self, name: str) -> Source:
        path = self.inbox / name
        return Source(os.fsencode(path), os.fsencode(self.inbox), Identity.of(os.lstat(path)))

    def move(self, source: Source) -> bytes | None:
        return move_out(source, os.fsencode(self.archive))

    def archived(self) -> dict[str, bytes]:
        return files(self.archive)

    def left(self) -> dict[str, bytes]:
        return files(self.inbox)


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path)


@pytest.fixture
def other_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The archive lies on another file system: nothing of the inbox can be linked into it."""
    link = os.link

    def refuse(source: Any, target: Any, **more: Any) -> None:
        if bytes(source).startswith(b"/proc/"):
            with contextlib.suppress(FileNotFoundError):  # the kernel looks for the name first
                os.stat(target, dir_fd=more["dst_dir_fd"], follow_symlinks=False)
                raise FileExistsError(errno.EEXIST, "there", target)
            raise OSError(errno.EXDEV, "another device", target)
        link(source, target, **more)

    monkeypatch.setattr(os, "link", refuse)


# -- on one file system ------------------------------------------------------------------------------------------------


def test_a_source_moves_to_the_same_place_without_being_copied(yard: Yard) -> None:
    source = yard.source("term/week 1/a.mp4")
    assert yard.move(source)
    assert yard.archived() == {"term/week 1/a.mp4": b"video"}
    assert yard.left() == {}
    assert (yard.archive / "term/week 1/a.mp4").stat().st_ino == source.identity.ino


def test_a_taken_name_gets_a_number_and_the_file_that_has_it_is_left_alone(yard: Yard) -> None:
    for content in (b"first", b"second", b"third"):
        assert yard.move(yard.source(content=content))
    assert yard.archived() == {"a.mp4": b"first", "a-2.mp4": b"second", "a-3.mp4": b"third"}


def test_a_name_as_long_as_names_can_be_gets_a_number_too(yard: Yard) -> None:
    name = "n" * 251 + ".mp4"
    for content in (b"first", b"second"):
        assert yard.move(yard.source(name, content))
    assert yard.archived() == {name: b"first", "n" * 249 + "-2.mp4": b"second"}


def test_a_name_of_no_text_is_moved_as_it_is(yard: Yard) -> None:
    path = os.fsencode(yard.inbox) + b"/\xff\xfe.mp4"
    put(path)
    assert yard.move(Source(path, os.fsencode(yard.inbox), Identity.of(os.lstat(path))))
    assert os.listdir(os.fsencode(yard.archive)) == [b"\xff\xfe.mp4"]


def test_a_move_that_died_between_link_and_unlink_is_finished_by_the_next(yard: Yard) -> None:
    source = yard.source()
    os.link(source.path, yard.archive / "a.mp4")
    assert yard.move(source)
    assert (yard.archived(), yard.left()) == ({"a.mp4": b"video"}, {})


def test_a_move_that_died_after_its_end_counts_as_done(yard: Yard) -> None:
    source = yard.source()
    assert yard.move(source)
    assert yard.move(source)
    assert yard.archived() == {"a.mp4": b"video"}


def test_a_source_that_was_changed_stays_and_nothing_is_moved(yard: Yard) -> None:
    source = yard.source()
    put(yard.inbox / "a.srt", b"subtitles")
    put(yard.inbox / "a.mp4", b"newer content")
    assert not yard.move(source)
    assert (yard.archived(), yard.left()) == ({}, {"a.mp4": b"newer content", "a.srt": b"subtitles"})


def test_a_source_that_is_gone_is_not_moved_and_an_old_namesake_is_not_taken_for_it(yard: Yard) -> None:
    put(yard.archive / "a.mp4", b"older")
    source = yard.source()
    os.unlink(source.path)
    assert not yard.move(source)
    assert yard.archived() == {"a.mp4": b"older"}


def test_an_inbox_that_is_gone_is_trouble_and_no_vanished_source(yard: Yard) -> None:
    source = yard.source()
    yard.inbox.rename(yard.inbox.with_name("elsewhere"))
    with pytest.raises(OSError, match="inbox"):
        yard.move(source)


def test_a_file_in_the_way_of_a_folder_is_trouble_and_the_source_stays(yard: Yard) -> None:
    source = yard.source("week/a.mp4")
    put(yard.archive / "week", b"no folder")
    with pytest.raises(OSError, match="week"):
        yard.move(source)
    assert yard.left() == {"week/a.mp4": b"video"}


# -- what lies beside it -----------------------------------------------------------------------------------------------


def test_subtitles_go_along_and_those_of_others_stay(yard: Yard) -> None:
    source = yard.source("a.mp4")
    for name in ("a.srt", "a.en.vtt", "ab.srt", "a.txt"):
        put(yard.inbox / name, name.encode())
    assert yard.move(source)
    assert set(yard.archived()) == {"a.mp4", "a.srt", "a.en.vtt"}
    assert set(yard.left()) == {"ab.srt", "a.txt"}


def test_subtitles_are_found_best_first_and_links_are_no_subtitles(yard: Yard) -> None:
    source = yard.source("a.mp4")
    for name in ("a.en.vtt", "a.SRT"):
        put(yard.inbox / name)
    (yard.inbox / "a.zh.srt").symlink_to("/etc/passwd")
    assert [os.path.basename(path) for path in sidecars(source.path)] == [b"a.SRT", b"a.en.vtt"]


def test_a_move_that_died_among_the_subtitles_is_finished_by_the_next(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = yard.source("a.mp4")
    put(yard.inbox / "a.srt", b"subtitles")
    place = moving._place
    monkeypatch.setattr(moving, "_place", dies_at(place, call=2))
    with pytest.raises(KeyboardInterrupt):
        yard.move(source)
    monkeypatch.setattr(moving, "_place", place)
    assert yard.move(source)
    assert (yard.archived(), yard.left()) == ({"a.mp4": b"video", "a.srt": b"subtitles"}, {})


# -- to another file system --------------------------------------------------------------------------------------------


def test_to_another_file_system_goes_a_copy_with_the_same_time(yard: Yard, other_disk: None) -> None:
    source = yard.source("week/a.mp4")
    assert yard.move(source)
    assert (yard.archived(), yard.left()) == ({"week/a.mp4": b"video"}, {})
    assert (yard.archive / "week/a.mp4").stat().st_mtime_ns == source.identity.mtime_ns


def test_there_a_taken_name_gets_a_number_too(yard: Yard, other_disk: None) -> None:
    for content in (b"first", b"later"):
        assert yard.move(yard.source(content=content))
    assert yard.archived() == {"a.mp4": b"first", "a-2.mp4": b"later"}


@pytest.mark.parametrize("died_in", ["_write_copy", "_name_copy", "_unlink_same"])
@pytest.mark.parametrize("before", [True, False])
def test_a_copy_that_died_anywhere_is_finished_by_the_next_and_leaves_one_file(
    yard: Yard, other_disk: None, monkeypatch: pytest.MonkeyPatch, died_in: str, before: bool
) -> None:
    source = yard.source()
    with monkeypatch.context() as patch:
        unlink = os.unlink
        patch.setattr(moving, died_in, dies_at(getattr(moving, died_in), call=1, before=before))
        if died_in != "_unlink_same":  # the dead tidy nothing up
            patch.setattr(os, "unlink", lambda path: None if b".gsvrd-" in path else unlink(path))
        with pytest.raises(KeyboardInterrupt):
            yard.move(source)
    assert yard.move(source)
    assert (yard.archived(), yard.left()) == ({"a.mp4": b"video"}, {})


def test_a_copy_never_writes_into_a_file_that_an_earlier_one_has_placed(yard: Yard, other_disk: None) -> None:
    source = yard.source(content=b"second")
    put(yard.archive / "a.mp4", b"first!")
    os.link(yard.archive / "a.mp4", yard.archive / f".gsvrd-copy-{source.identity.ino}")
    assert yard.move(source)
    assert yard.archived() == {"a.mp4": b"first!", "a-2.mp4": b"second"}


def test_a_full_disk_leaves_the_source_and_no_half_copy(
    yard: Yard, other_disk: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = yard.source()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="full"):
        yard.move(source)
    assert (yard.archived(), yard.left()) == ({}, {"a.mp4": b"video"})


def test_a_link_of_the_same_name_is_not_looked_through(yard: Yard, other_disk: None) -> None:
    put(yard.archive.with_name("elsewhere"), b"video")
    (yard.archive / "a.mp4").symlink_to(yard.archive.with_name("elsewhere"))
    assert yard.move(yard.source())
    assert sorted(os.listdir(yard.archive)) == ["a-2.mp4", "a.mp4"]
    assert (yard.archive / "a.mp4").is_symlink()


# -- other ends --------------------------------------------------------------------------------------------------------


def test_delete_removes_the_source_and_only_if_it_is_the_same(yard: Yard) -> None:
    assert delete(yard.source("a.mp4"))
    changed = yard.source("b.mp4")
    put(yard.inbox / "b.mp4", b"newer content")
    assert not delete(changed)
    assert yard.left() == {"b.mp4": b"newer content"}


def test_links_and_pipes_are_moved_without_being_followed_or_opened(yard: Yard) -> None:
    put(yard.inbox.with_name("secret"), b"secret")
    (yard.inbox / "link.mp4").symlink_to(yard.inbox.with_name("secret"))
    os.mkfifo(yard.inbox / "pipe.mp4")
    for name in ("link.mp4", "pipe.mp4"):
        assert move_special(yard.known(name), os.fsencode(yard.archive))
    assert (yard.archive / "link.mp4").is_symlink()
    assert (yard.archive / "pipe.mp4").is_fifo()
    assert os.listdir(yard.inbox) == []


def test_folders_and_exchanged_things_stay(yard: Yard) -> None:
    (yard.inbox / "folder.mp4").mkdir()
    os.mkfifo(yard.inbox / "pipe.mp4")
    pipe = yard.known("pipe.mp4")
    os.rename(pipe.path, yard.inbox / "older")
    os.mkfifo(yard.inbox / "pipe.mp4")
    for source in (yard.known("folder.mp4"), pipe):
        assert not move_special(source, os.fsencode(yard.archive))
    assert os.listdir(yard.archive) == []


def dies_at(act: Callable[..., Any], call: int, *, before: bool = True) -> Callable[..., Any]:
    """`act`, ended for good at its `call`th call, before or after it has done its work."""
    calls = 0

    def dying(*words: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and before:
            raise KeyboardInterrupt
        result = act(*words)
        if calls == call:
            raise KeyboardInterrupt
        return result

    return dying
