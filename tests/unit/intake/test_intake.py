"""The intake with a clock that stands, and scans instead of events: what is accepted, when, and how often."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.intakes import Door, put

from gsvrd.clock import ManualClock
from gsvrd.errors import ErrorKind
from gsvrd.intake import intake
from gsvrd.intake.identity import Identity
from gsvrd.intake.intake import BATCH, IntakeSettings
from gsvrd.intake.mounts import Mounts
from gsvrd.intake.settle import WaitingRoom

POLLING = {"watch": "polling", "poll_interval_s": 5.0, "settle_s": 2.0}


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def nfs(inbox: Path, tmp_path: Path) -> Mounts:
    """A mount table in which the inbox is on NFS."""
    device = inbox.stat().st_dev
    table = tmp_path / "mountinfo"
    table.write_text(f"1 0 {os.major(device)}:{os.minor(device)} / / rw - nfs4 server:/ rw\n")
    return Mounts(table)


def door(inbox: Path, clock: ManualClock, mounts: Mounts | None = None, **settings: Any) -> Door:
    return Door(inbox, IntakeSettings(**{**POLLING, **settings}), clock, mounts)


def later(door: Door, clock: ManualClock, seconds: float) -> None:
    clock.advance(seconds)
    door.rest()


def test_what_lies_there_at_the_start_is_found_once(inbox: Path, clock: ManualClock) -> None:
    put(inbox / "a.mp4", b"12345")
    put(inbox / "term/b.mov")
    put(inbox / "term/b.srt")
    with door(inbox, clock) as it:
        it.rest()
        assert sorted(it.names) == ["a.mp4", "term/b.mov"]
        first = next(found for found in it.candidates if found.name == "a.mp4")
        assert first.path == os.fsencode(inbox / "a.mp4")
        assert first.identity == Identity.of(os.stat(inbox / "a.mp4"))
        assert first.identity.size == 5
        for _ in range(5):
            later(it, clock, 5.0)
        assert len(it.names) == 2


def test_a_file_that_changes_is_found_again_in_its_new_form(inbox: Path, clock: ManualClock) -> None:
    put(inbox / "a.mp4", b"first")
    with door(inbox, clock) as it:
        it.rest()
        put(inbox / "a.mp4", b"second form")
        later(it, clock, 5.0)
        assert [found.identity.size for found in it.candidates] == [5, 11]


def test_a_renamed_file_is_found_under_its_new_name_with_the_same_identity(inbox: Path, clock: ManualClock) -> None:
    put(inbox / "a.mp4")
    with door(inbox, clock) as it:
        it.rest()
        os.rename(inbox / "a.mp4", inbox / "b.mp4")
        later(it, clock, 5.0)
        assert it.names == ["a.mp4", "b.mp4"]
        assert it.candidates[0].identity == it.candidates[1].identity


def test_a_file_that_left_is_forgotten_and_found_again_when_it_returns(inbox: Path, clock: ManualClock) -> None:
    put(inbox / "a.mp4")
    put(inbox / "stays.mp4")
    with door(inbox, clock) as it:
        it.rest()
        os.rename(inbox / "a.mp4", inbox.parent / "a.mp4")
        later(it, clock, 5.0)
        assert len(it.intake._known) == 1
        os.rename(inbox.parent / "a.mp4", inbox / "a.mp4")
        later(it, clock, 5.0)
        assert sorted(it.names) == ["a.mp4", "a.mp4", "stays.mp4"]


def test_a_file_being_written_settles_however_long_it_is_silent(inbox: Path, clock: ManualClock) -> None:
    with door(inbox, clock) as it:
        with (inbox / "a.mp4").open("wb", buffering=0) as writer:
            writer.write(b"half")
            for _ in range(10):
                later(it, clock, 60.0)
            assert it.names == []
            assert it.intake.describe()["settling"] == 1
        later(it, clock, 30.0)
        assert it.names == ["a.mp4"]
        assert it.intake.describe()["settling"] == 0


def test_an_empty_file_is_accepted_after_standing_still(inbox: Path, clock: ManualClock) -> None:
    put(inbox / "a.mp4", b"")
    with door(inbox, clock) as it:
        it.rest()
        later(it, clock, 1.9)
        assert it.names == []
        later(it, clock, 0.1)
        assert it.names == ["a.mp4"]


def test_without_leases_a_file_must_stand_still(inbox: Path, clock: ManualClock, nfs: Mounts) -> None:
    put(inbox / "a.mp4", b"1")
    with door(inbox, clock, nfs) as it:
        it.rest()
        for size in range(2, 6):
            clock.advance(1.9)
            put(inbox / "a.mp4", b"x" * size)
            it.intake.rescan()
            it.rest()
        assert it.names == []
        later(it, clock, 2.0)
        assert [found.identity.size for found in it.candidates] == [5]


def test_auto_polls_where_others_write(inbox: Path, clock: ManualClock, nfs: Mounts) -> None:
    with door(inbox, clock, nfs, watch="auto") as it:
        it.rest()
        described = it.intake.describe()
        assert described["mode"] == "polling"
        assert "nfs4" in described["why"]
        assert it.intake.next_deadline() == clock.now + 5.0


def test_hidden_partial_foreign_and_sidecar_names_are_left_in_silence(inbox: Path, clock: ManualClock) -> None:
    for name in (".a.mp4", ".hidden/a.mp4", "a.mp4.part", "~a.mp4", "a.srt", "a.doc", "a.temp.mp4", "draft/a.mp4"):
        put(inbox / name)
    with door(inbox, clock, ignore=("draft/*",)) as it:
        it.rest()
        later(it, clock, 10.0)
        assert it.names == []
        assert it.refused == {}
        assert it.intake.describe()["last_scan"]["ignored"] >= 5


@pytest.mark.timeout(20)
def test_what_is_no_file_is_refused_once_and_never_opened(inbox: Path, clock: ManualClock) -> None:
    secret = inbox.parent / "secret"
    put(secret / "s.mp4", b"secret")
    os.mkfifo(inbox / "pipe.mp4")
    (inbox / "link.mp4").symlink_to(secret / "s.mp4")
    (inbox / "dangling.mp4").symlink_to("nowhere")
    (inbox / "folder").symlink_to(secret)
    put(inbox / "dir.mp4/inner.mp4")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(inbox / "socket.mp4"))
        with door(inbox, clock) as it:
            it.rest()
            put(inbox / "dir.mp4/second.mp4")  # the folder's size and time change
            for _ in range(3):
                later(it, clock, 5.0)
    assert sorted(it.names) == ["dir.mp4/inner.mp4", "dir.mp4/second.mp4"]
    assert {name: message.split(" ", 2)[2] for name, message in it.refused.items()} == {
        "pipe.mp4": "a named pipe",
        "link.mp4": "a symbolic link",
        "dangling.mp4": "a symbolic link",
        "folder": "a symbolic link",
        "dir.mp4": "a folder with the name of a video",
        "socket.mp4": "a socket",
    }
    assert len(it.refusals) == 6
    assert {refusal.facts.kind for refusal in it.refusals} == {ErrorKind.NOT_REGULAR}
    assert all(refusal.facts.hint for refusal in it.refusals)


@pytest.mark.skipif(os.geteuid() != 0, reason="making a device node needs root")
def test_a_device_is_refused(inbox: Path, clock: ManualClock) -> None:
    try:
        os.mknod(inbox / "null.mp4", 0o20666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("no devices may be made in this container")
    with door(inbox, clock) as it:
        it.rest()
        assert it.refused == {"null.mp4": "it is a character device"}


def test_a_hard_link_is_refused_after_standing_still_and_taken_when_the_other_name_goes(
    inbox: Path, clock: ManualClock
) -> None:
    put(inbox.parent / "elsewhere.mp4")
    os.link(inbox.parent / "elsewhere.mp4", inbox / "a.mp4")
    with door(inbox, clock) as it:
        it.rest()
        assert it.refusals == []
        later(it, clock, 2.0)
        assert list(it.refused) == ["a.mp4"]
        later(it, clock, 20.0)
        assert len(it.refusals) == 1
        assert it.names == []
        os.unlink(inbox.parent / "elsewhere.mp4")
        later(it, clock, 5.0)
        assert it.names == ["a.mp4"]


def test_link_then_unlink_brings_a_file_in_without_a_refusal(inbox: Path, clock: ManualClock) -> None:
    put(inbox / ".tmp-1")
    os.link(inbox / ".tmp-1", inbox / "a.mp4")
    with door(inbox, clock) as it:
        it.rest()
        os.unlink(inbox / ".tmp-1")
        later(it, clock, 2.0)
        assert it.names == ["a.mp4"]
        assert it.refusals == []


def test_hard_links_are_taken_where_they_are_allowed(inbox: Path, clock: ManualClock) -> None:
    put(inbox / "a.mp4")
    os.link(inbox / "a.mp4", inbox / "b.mp4")
    with door(inbox, clock, hard_links=True) as it:
        it.rest()
        assert sorted(it.names) == ["a.mp4", "b.mp4"]


def test_an_accepted_file_that_is_linked_into_the_archive_is_not_refused(inbox: Path, clock: ManualClock) -> None:
    put(inbox / "a.mp4")
    with door(inbox, clock) as it:
        it.rest()
        os.link(inbox / "a.mp4", inbox.parent / "archived.mp4")
        for _ in range(3):
            later(it, clock, 5.0)
        assert it.names == ["a.mp4"]
        assert it.refusals == []


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """An inbox of root's, used by a user who owns nothing in it."""
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    top = Path(tempfile.mkdtemp())
    top.chmod(0o755)
    (top / "inbox").mkdir(mode=0o755)
    yield top / "inbox"
    os.seteuid(0)
    shutil.rmtree(top)


def test_a_file_of_another_user_must_stand_still_since_its_lease_is_refused(
    as_nobody: Path, clock: ManualClock
) -> None:
    put(as_nobody / "a.mp4")
    with door(as_nobody, clock) as it:
        os.seteuid(65534)
        it.rest()
        assert it.names == []
        later(it, clock, 2.0)
        assert it.names == ["a.mp4"]


def test_an_unreadable_file_is_refused_after_standing_still_and_taken_once_it_is_readable(
    as_nobody: Path, clock: ManualClock
) -> None:
    put(as_nobody / "a.mp4")
    (as_nobody / "a.mp4").chmod(0)
    with door(as_nobody, clock) as it:
        os.seteuid(65534)
        it.rest()
        assert it.refusals == []
        later(it, clock, 2.0)
        assert [refusal.facts.kind for refusal in it.refusals] == [ErrorKind.PERMISSION]
        later(it, clock, 20.0)
        assert len(it.refusals) == 1
        os.seteuid(0)
        (as_nobody / "a.mp4").chmod(0o644)
        os.seteuid(65534)
        later(it, clock, 5.0)
        later(it, clock, 2.0)
        assert it.names == ["a.mp4"]


def test_a_folder_that_cannot_be_read_is_reported_and_nothing_is_forgotten(as_nobody: Path, clock: ManualClock) -> None:
    put(as_nobody / "a.mp4")
    put(as_nobody / "term/b.mp4")
    with door(as_nobody, clock) as it:
        it.rest()
        (as_nobody / "term").chmod(0o700)
        os.seteuid(65534)
        later(it, clock, 5.0)
        assert it.intake.describe()["last_scan"]["problems"] == ["term cannot be read: Permission denied"]
        os.seteuid(0)
        later(it, clock, 5.0)
        assert it.intake.describe()["last_scan"]["problems"] == []
        assert sorted(it.names) == ["a.mp4", "term/b.mp4"]


def test_a_missing_inbox_is_reported_and_forgets_nothing(inbox: Path, clock: ManualClock) -> None:
    put(inbox / "a.mp4")
    with door(inbox, clock) as it:
        it.rest()
        os.rename(inbox, inbox.parent / "away")
        later(it, clock, 5.0)
        assert "cannot be opened" in it.intake.trouble
        assert it.intake.describe()["trouble"] == it.intake.trouble
        later(it, clock, 60.0)
        os.rename(inbox.parent / "away", inbox)
        put(inbox / "b.mp4")
        later(it, clock, 5.0)
        assert it.intake.trouble == ""
        assert it.names == ["a.mp4", "b.mp4"]


def test_another_empty_folder_in_the_inboxs_place_looks_like_a_lost_mount(inbox: Path, clock: ManualClock) -> None:
    put(inbox / "a.mp4")
    with door(inbox, clock) as it:
        it.rest()
        os.rename(inbox, inbox.parent / "away")
        inbox.mkdir()
        later(it, clock, 5.0)
        assert "is its file system mounted" in it.intake.trouble
        inbox.rmdir()
        os.rename(inbox.parent / "away", inbox)
        later(it, clock, 5.0)
        assert it.intake.trouble == ""
        assert it.names == ["a.mp4"]


def test_an_inbox_that_is_suddenly_empty_forgets_nothing(inbox: Path, clock: ManualClock) -> None:
    put(inbox / "a.mp4")
    with door(inbox, clock) as it:
        it.rest()
        os.rename(inbox / "a.mp4", inbox.parent / "a.mp4")
        later(it, clock, 5.0)
        os.rename(inbox.parent / "a.mp4", inbox / "a.mp4")
        later(it, clock, 5.0)
        assert it.names == ["a.mp4"]


def test_an_inbox_that_does_not_exist_yet_is_waited_for(tmp_path: Path, clock: ManualClock) -> None:
    with door(tmp_path / "later", clock) as it:
        it.rest()
        assert it.intake.trouble
        put(tmp_path / "later/a.mp4")
        later(it, clock, 5.0)
        assert it.names == ["a.mp4"]


def test_a_large_inbox_comes_in_bounded_batches_and_each_file_once(inbox: Path, clock: ManualClock) -> None:
    for number in range(2 * BATCH + 500):
        put(inbox / f"{number}.mp4")
    with door(inbox, clock) as it:
        sizes: list[int] = []
        while not sizes or sizes[-1]:
            found = it.intake.turn()
            sizes.append(len(found.candidates))
            it.candidates.extend(found.candidates)
        assert max(sizes) <= BATCH
        assert len(set(it.names)) == len(it.names) == 2 * BATCH + 500


def test_a_crowd_of_waiting_files_is_let_in_by_turns(
    inbox: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "WaitingRoom", lambda settle_s: WaitingRoom(settle_s, room=10))
    for number in range(35):
        put(inbox / f"{number}.mp4", b"")
    with door(inbox, clock, poll_interval_s=3600.0) as it:
        it.rest()
        for _ in range(12):
            assert it.intake.describe()["settling"] <= 10
            later(it, clock, 2.0)
        assert len(set(it.names)) == len(it.names) == 35


def test_names_in_no_encoding_can_be_opened_and_printed(inbox: Path, clock: ManualClock) -> None:
    strange = [
        b"\xff\xfe.mp4",
        b"-rf.mp4",
        b"a\nb.mp4",
        "🎓.mp4".encode(),
        b"f\xe9e/x.mp4",
        b" .mp4",
        b"n" * 251 + b".mp4",
    ]
    for name in strange:
        put(os.fsencode(inbox) + b"/" + name)
    with door(inbox, clock) as it:
        it.rest()
        assert {found.path for found in it.candidates} == {os.fsencode(inbox) + b"/" + name for name in strange}
        assert all(found.name.isprintable() for found in it.candidates)


def test_an_idle_turn_does_nothing_until_the_next_scan_is_due(inbox: Path, clock: ManualClock) -> None:
    with door(inbox, clock) as it:
        it.rest()
        put(inbox / "a.mp4")
        clock.advance(4.9)
        it.turn()
        assert it.names == []
        assert it.intake.next_deadline() == pytest.approx(clock.now + 0.1)
        clock.advance(0.1)
        it.rest()
        assert it.names == ["a.mp4"]


def test_a_rescan_may_be_asked_for_at_any_time(inbox: Path, clock: ManualClock) -> None:
    with door(inbox, clock) as it:
        it.rest()
        put(inbox / "a.mp4")
        it.intake.rescan()
        it.rest()
        assert it.names == ["a.mp4"]


def test_stopping_leaves_no_descriptor_and_no_deadline(inbox: Path, clock: ManualClock) -> None:
    for number in range(BATCH + 1):
        put(inbox / f"{number}.mp4")
    before = len(os.listdir("/proc/self/fd"))
    with door(inbox, clock) as it:
        it.turn()
        assert it.intake.describe()["scanning"]
    assert len(os.listdir("/proc/self/fd")) == before
    assert it.intake.next_deadline() is None
