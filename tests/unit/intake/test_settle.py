from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.intakes import put

from gsvrd.intake.settle import FIRST_LOOK_S, LAST_LOOK_S, Reading, WaitingRoom, read


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def reading(folder: int, name: bytes = b"a.mp4", *, leases: bool = True, hard_links: bool = False) -> Reading:
    seen = os.stat(name, dir_fd=folder, follow_symlinks=False)
    return read(folder, name, seen, leases=leases, hard_links=hard_links)[0]


def test_a_silent_writer_is_noticed_and_its_closing_too(folder: int, tmp_path: Path) -> None:
    with (tmp_path / "a.mp4").open("wb", buffering=0) as writer:
        writer.write(b"half")
        assert reading(folder) is Reading.WRITING
    assert reading(folder) is Reading.READY


def test_readers_do_not_matter(folder: int, tmp_path: Path) -> None:
    put(tmp_path / "a.mp4")
    with (tmp_path / "a.mp4").open("rb"):
        assert reading(folder) is Reading.READY


def test_the_lease_is_given_back_at_once(folder: int, tmp_path: Path) -> None:
    put(tmp_path / "a.mp4")
    assert reading(folder) is Reading.READY
    # With a lease still held this open would fail with EWOULDBLOCK.
    os.close(os.open(tmp_path / "a.mp4", os.O_WRONLY | os.O_NONBLOCK))


def test_without_leases_or_bytes_nothing_is_proven(folder: int, tmp_path: Path) -> None:
    put(tmp_path / "a.mp4")
    put(tmp_path / "empty.mp4", b"")
    assert reading(folder, leases=False) is Reading.UNPROVEN
    assert reading(folder, b"empty.mp4") is Reading.UNPROVEN


def test_a_download_with_its_control_file_is_not_finished(folder: int, tmp_path: Path) -> None:
    put(tmp_path / "a.mp4")
    put(tmp_path / "a.mp4.aria2")
    assert reading(folder) is Reading.WRITING
    (tmp_path / "a.mp4.aria2").unlink()
    assert reading(folder) is Reading.READY


def test_an_empty_place_holder_is_not_finished(folder: int, tmp_path: Path) -> None:
    put(tmp_path / "a.mp4", b"")
    put(tmp_path / "a.mp4.part")
    assert reading(folder) is Reading.WRITING


def test_a_second_name_is_noticed_unless_it_is_allowed(folder: int, tmp_path: Path) -> None:
    put(tmp_path / "a.mp4")
    os.link(tmp_path / "a.mp4", tmp_path / "b.mp4")
    assert reading(folder) is Reading.LINKED
    assert reading(folder, hard_links=True) is Reading.READY


def test_what_was_exchanged_meanwhile_is_gone(folder: int, tmp_path: Path) -> None:
    put(tmp_path / "a.mp4")
    seen = os.stat(tmp_path / "a.mp4")
    put(tmp_path / "b.mp4")
    os.replace(tmp_path / "b.mp4", tmp_path / "a.mp4")
    assert read(folder, b"a.mp4", seen, leases=True, hard_links=False)[0] is Reading.GONE
    os.unlink(tmp_path / "a.mp4")
    assert read(folder, b"a.mp4", seen, leases=True, hard_links=False)[0] is Reading.GONE
    os.symlink("/etc/passwd", tmp_path / "a.mp4")
    assert read(folder, b"a.mp4", seen, leases=True, hard_links=False)[0] is Reading.GONE


def test_too_many_open_files_say_nothing_about_the_file(folder: int, tmp_path: Path) -> None:
    put(tmp_path / "a.mp4")
    taken = []
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 10, limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(folder))
        assert reading(folder) is Reading.HINDERED
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_who_stands_still_for_the_settle_time_is_let_through() -> None:
    room = WaitingRoom(settle_s=2.0)
    assert not room.has_stood_still(b"a", 1, 10.0)
    assert room.next_due == 12.0
    assert not room.has_stood_still(b"a", 1, 11.9)
    assert room.has_stood_still(b"a", 1, 12.0)


def test_a_change_begins_the_time_anew() -> None:
    room = WaitingRoom(settle_s=2.0)
    room.has_stood_still(b"a", 1, 10.0)
    assert not room.has_stood_still(b"a", 2, 11.5)
    assert not room.has_stood_still(b"a", 2, 13.0)
    assert room.has_stood_still(b"a", 2, 13.5)


def test_time_under_a_writers_hand_does_not_count_as_standing_still() -> None:
    room = WaitingRoom(settle_s=2.0)
    room.look_later(b"a", 1, 10.0)
    room.look_later(b"a", 1, 14.0)
    assert not room.has_stood_still(b"a", 1, 14.5)
    assert room.has_stood_still(b"a", 1, 16.0)


def test_looks_at_a_writer_grow_apart_up_to_a_limit() -> None:
    room = WaitingRoom(settle_s=2.0)
    now, distances = 0.0, []
    room.look_later(b"a", 1, now)
    for _ in range(12):
        due = room.next_due
        assert due is not None
        distances.append(due - now)
        now = due
        assert list(room.due(now)) == [b"a"]
        room.look_later(b"a", 1, now)
    assert distances[0] == FIRST_LOOK_S
    assert distances == sorted(distances)
    assert distances[-1] == LAST_LOOK_S


def test_who_is_due_is_named_once_and_who_left_is_not() -> None:
    room = WaitingRoom(settle_s=2.0)
    for name in (b"a", b"b", b"c"):
        room.has_stood_still(name, 1, 0.0)
        room.has_stood_still(name, 2, 0.5)
    room.leave(b"b")
    assert list(room.due(2.0)) == []
    assert sorted(room.due(2.5)) == [b"a", b"c"]
    assert list(room.due(2.5)) == []


def test_a_full_room_turns_away_and_says_so() -> None:
    room = WaitingRoom(settle_s=2.0, room=2)
    for name in (b"a", b"b", b"c"):
        assert not room.has_stood_still(name, 1, 0.0)
    assert len(room) == 2
    assert room.is_crowded
