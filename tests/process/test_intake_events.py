"""The intake with real events from the kernel: what watchdog's reader tells, and what it must not miss."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.intakes import Door, put
from watchdog.utils import BaseThread

from gsvrd.intake.intake import IntakeSettings
from gsvrd.intake.tap import Tap

SLOW: dict[str, Any] = {"rescan_interval_s": 3600.0, "poll_interval_s": 3600.0}
"""With these only events can bring a file in, once the first scans are over."""

Eventually = Callable[..., Any]


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


@pytest.fixture
def watching(inbox: Path) -> Iterator[Door]:
    """An intake that has made its first scans and believes in events."""
    with Door(inbox, IntakeSettings(settle_s=0.2, **SLOW)) as door:
        until_quiet(door)
        assert door.intake.describe()["mode"] == "events"
        yield door


def until_quiet(door: Door) -> None:
    def is_quiet() -> bool:
        described = door.intake.describe()
        deadline = door.intake.next_deadline()
        return (
            described["why"] not in ("not started", "starting")
            and described["last_scan"] is not None
            and deadline is not None
            and deadline > time.monotonic() + 60
        )

    door.until(is_quiet)


def test_a_closed_file_is_found_at_once_and_once(watching: Door, inbox: Path) -> None:
    assert watching.intake.describe()["why"] == "the probe file raised its event"
    scanned = watching.intake.describe()["last_scan"]
    put(inbox / "a.mp4")
    watching.until(lambda: watching.names == ["a.mp4"], 2.0)
    put(inbox / "b.mp4")
    watching.until(lambda: watching.names == ["a.mp4", "b.mp4"], 2.0)
    assert watching.intake.describe()["last_scan"] == scanned


def test_the_probe_leaves_nothing_behind(watching: Door, inbox: Path) -> None:
    assert os.listdir(inbox) == []
    assert watching.candidates == []


def test_a_writer_is_waited_for_and_its_closing_is_noticed(watching: Door, inbox: Path) -> None:
    with (inbox / "a.mp4").open("wb", buffering=0) as writer:
        writer.write(b"half")
        watching.until(lambda: watching.intake.describe()["settling"] == 1)
        writer.write(b"whole")
        watching.turn()
        assert watching.names == []
    watching.until(lambda: watching.names == ["a.mp4"])
    assert watching.candidates[0].identity.size == 9


def test_a_file_renamed_into_place_is_found_once(watching: Door, inbox: Path) -> None:
    put(inbox / "a.mp4.part")
    os.rename(inbox / "a.mp4.part", inbox / "a.mp4")
    put(inbox.parent / "b.mp4")
    os.rename(inbox.parent / "b.mp4", inbox / "b.mp4")
    watching.until(lambda: len(watching.names) == 2)
    assert sorted(watching.names) == ["a.mp4", "b.mp4"]


def test_a_file_that_only_gets_a_name_is_found(watching: Door, inbox: Path) -> None:
    put(inbox.parent / "a.mp4")
    os.link(inbox.parent / "a.mp4", inbox / "a.mp4")
    os.unlink(inbox.parent / "a.mp4")
    watching.until(lambda: watching.names == ["a.mp4"])
    os.mkfifo(inbox / "pipe.mp4")
    (inbox / "link.mp4").symlink_to("a.mp4")
    (inbox / "folder.mp4").mkdir()
    watching.until(lambda: len(watching.refusals) == 3)
    assert sorted(watching.refused) == ["folder.mp4", "link.mp4", "pipe.mp4"]


def test_new_folders_are_watched_however_deep(watching: Door, inbox: Path) -> None:
    put(inbox / "term/week 1/day/a.mp4")
    watching.until(lambda: watching.names == ["term/week 1/day/a.mp4"])
    put(inbox / "term/week 1/day/b.mp4")
    watching.until(lambda: len(watching.names) == 2)


def test_a_folder_that_is_moved_in_brings_its_videos(watching: Door, inbox: Path) -> None:
    for number in range(20):
        put(inbox.parent / f"term/week{number % 3}/{number}.mp4")
    os.rename(inbox.parent / "term", inbox / "term")
    watching.until(lambda: len(watching.names) == 20)
    put(inbox / "term/week1/later.mp4")
    watching.until(lambda: "term/week1/later.mp4" in watching.names)
    assert len(watching.names) == 21


def test_a_renamed_folder_goes_on_being_watched_under_its_new_name(watching: Door, inbox: Path) -> None:
    put(inbox / "old/inner/a.mp4")
    watching.until(lambda: watching.names == ["old/inner/a.mp4"])
    os.rename(inbox / "old", inbox / "new")
    watching.until(lambda: watching.names[-1] == "new/inner/a.mp4")
    put(inbox / "new/inner/b.mp4")
    watching.until(lambda: watching.names[-1] == "new/inner/b.mp4")
    assert len(watching.names) == 3


def test_folders_renamed_the_moment_they_are_made_are_watched(watching: Door, inbox: Path) -> None:
    for number in range(25):
        (inbox / f"new{number}/inner").mkdir(parents=True)
        os.rename(inbox / f"new{number}", inbox / f"term{number}")
    until_quiet(watching)
    for number in range(25):
        put(inbox / f"term{number}/inner/a.mp4")
    watching.until(lambda: len(watching.names) == 25)


def test_a_folder_moved_out_is_no_longer_watched_and_its_name_can_be_used_again(watching: Door, inbox: Path) -> None:
    def watched() -> list[bytes]:
        observer = watching.intake._watcher._observer
        assert observer is not None
        return sorted(watch.path for watch in observer._tap._watches.values())

    put(inbox / "term/week/a.mp4")
    watching.until(lambda: len(watching.names) == 1)
    os.rename(inbox / "term", inbox.parent / "away")
    watching.until(lambda: watched() == [b""])
    put(inbox / "term/week/b.mp4")
    watching.until(lambda: watched() == [b"", b"term", b"term/week"])
    shutil.rmtree(inbox / "term")
    shutil.rmtree(inbox.parent / "away")
    watching.until(lambda: watched() == [b""])
    put(inbox / "term/week/c.mp4")
    watching.until(lambda: "term/week/c.mp4" in watching.names)
    assert watching.intake.describe()["why"] == "the probe file raised its event"


def test_a_watcher_whose_thread_died_is_replaced(watching: Door, inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(tap: Tap, event: object) -> None:
        raise KeyError("planted")

    with monkeypatch.context() as planted:
        planted.setattr(Tap, "handle_event", fail)
        put(inbox / "a.mp4")
        watching.until(lambda: "planted" in watching.intake.describe()["why"] or watching.names)
    watching.until(lambda: watching.names == ["a.mp4"])
    until_quiet(watching)
    put(inbox / "b.mp4")
    watching.until(lambda: watching.names == ["a.mp4", "b.mp4"])


def test_a_move_out_does_not_hold_up_what_follows(watching: Door, inbox: Path) -> None:
    put(inbox / "leaves.mp4")
    (inbox / "leaves").mkdir()
    watching.until(lambda: watching.names == ["leaves.mp4"])
    began = time.monotonic()
    os.rename(inbox / "leaves.mp4", inbox.parent / "left.mp4")
    os.rename(inbox / "leaves", inbox.parent / "left")
    put(inbox / "next.mp4")
    watching.until(lambda: watching.names[-1] == "next.mp4")
    assert time.monotonic() - began < 0.4, "watchdog holds an unmatched move for 0.5 s"


def test_foreign_and_hidden_names_do_not_even_wake_the_loop(watching: Door, inbox: Path) -> None:
    before = watching.pokes
    for name in ("a.doc", ".a.mp4", "a.mp4.part", "~a.mp4"):
        put(inbox / name)
    put(inbox / "a.mp4")
    watching.until(lambda: watching.names == ["a.mp4"])
    assert watching.pokes - before <= 2  # creation and closing of the one video


def test_a_file_that_changes_under_way_is_found_in_each_settled_form(watching: Door, inbox: Path) -> None:
    put(inbox / "a.mp4", b"1")
    watching.until(lambda: len(watching.names) == 1)
    with (inbox / "a.mp4").open("ab") as file:
        file.write(b"2")
    watching.until(lambda: len(watching.names) == 2)
    assert [found.identity.size for found in watching.candidates] == [1, 2]


def test_a_flood_of_files_arrives_exactly_once(watching: Door, inbox: Path) -> None:
    def flood(part: int) -> None:
        for number in range(1500):
            path = inbox / f"part{part}" / f"{number}.mp4"
            if number % 3:
                put(path)
            else:
                put(path.with_suffix(".tmp"))
                os.rename(path.with_suffix(".tmp"), path)

    writers = [threading.Thread(target=flood, args=(part,)) for part in range(2)]
    for writer in writers:
        writer.start()
    watching.until(lambda: len(watching.names) >= 3000, 60.0)
    for writer in writers:
        writer.join()
    until_quiet(watching)
    assert len(watching.names) == len(set(watching.names)) == 3000


def test_a_removed_inbox_is_watched_again_when_it_returns(inbox: Path) -> None:
    settings = IntakeSettings(settle_s=0.2, rescan_interval_s=3600.0, poll_interval_s=0.05)
    with Door(inbox, settings) as door:
        until_quiet(door)
        shutil.rmtree(inbox)
        door.until(lambda: door.intake.trouble)
        put(inbox / "a.mp4")
        door.until(lambda: door.names == ["a.mp4"])
        assert door.intake.trouble == ""
        until_quiet(door)
        scanned = door.intake.describe()["last_scan"]
        put(inbox / "b.mp4")
        door.until(lambda: door.names == ["a.mp4", "b.mp4"])
        assert door.intake.describe()["last_scan"] == scanned  # by its event


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_an_unmounted_inbox_is_trouble_and_goes_on_when_it_is_back(inbox: Path) -> None:
    def mount() -> None:
        subprocess.run(["mount", "-t", "tmpfs", "gsvrd-test", inbox], check=True, capture_output=True)

    try:
        mount()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this container may not mount")
    try:
        settings = IntakeSettings(settle_s=0.2, rescan_interval_s=3600.0, poll_interval_s=0.05)
        with Door(inbox, settings) as door:
            put(inbox / "a.mp4")
            door.until(lambda: door.names == ["a.mp4"])
            until_quiet(door)
            subprocess.run(["umount", inbox], check=True)  # fails when a descriptor of ours keeps it busy
            door.until(lambda: "mounted" in door.intake.trouble)
            mount()
            put(inbox / "b.mp4")
            door.until(lambda: door.names == ["a.mp4", "b.mp4"])
            assert door.intake.trouble == ""
    finally:
        subprocess.run(["umount", "-l", inbox], check=False, capture_output=True)


def test_a_link_laid_where_the_probe_goes_is_not_followed(inbox: Path) -> None:
    put(inbox.parent / "precious", b"precious")
    (inbox / ".gsvrd-probe-file").symlink_to(inbox.parent / "precious")
    with Door(inbox, IntakeSettings(**SLOW)) as door:
        until_quiet(door)
        assert door.intake.describe()["why"] == "the probe file raised its event"
    assert (inbox.parent / "precious").read_bytes() == b"precious"


def test_an_inbox_behind_a_link_is_watched(inbox: Path) -> None:
    link = inbox.parent / "link"
    link.symlink_to(inbox)
    with Door(link, IntakeSettings(**SLOW)) as door:
        until_quiet(door)
        assert door.intake.describe()["mode"] == "events"
        put(inbox / "term/a.mp4")
        door.until(lambda: door.names == ["term/a.mp4"])
        assert door.candidates[0].path == os.fsencode(link / "term/a.mp4")


def test_stopping_ends_watchdogs_threads_and_gives_back_its_descriptors(inbox: Path, eventually: Eventually) -> None:
    def kept() -> tuple[int, int]:
        links = [os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
        instances = [link for link in links if os.path.lexists(link) and "inotify" in os.readlink(link)]
        return sum(isinstance(thread, BaseThread) for thread in threading.enumerate()), len(instances)

    eventually(lambda: kept() == (0, 0))  # those of the tests before
    with Door(inbox, IntakeSettings(**SLOW)) as door:
        until_quiet(door)
        assert kept() == (3, 1)
    eventually(lambda: kept() == (0, 0))


# In a process of its own: faults that are not for the whole test run.

CHILD = """
import json, select, os, sys, time
from pathlib import Path
from gsvrd.clock import SystemClock
from gsvrd.intake.intake import Intake, IntakeSettings

reader, writer = os.pipe()
os.set_blocking(writer, False)
def wake():
    try:
        os.write(writer, b"!")
    except BlockingIOError:
        pass
intake = Intake(IntakeSettings(**json.loads(sys.argv[2])), Path(sys.argv[1]), SystemClock(), wake)
intake.start()
told = None
while os.getppid() != 1:
    deadline = intake.next_deadline()
    pause = 0.5 if deadline is None else max(0.0, min(0.5, deadline - time.monotonic()))
    if select.select([reader], [], [], pause)[0]:
        os.read(reader, 4096)
    names = [found.name for found in intake.turn().candidates]
    described = intake.describe()
    state = [described[key] for key in ("mode", "why", "overflows")] + [described["last_scan"] is not None]
    if names or state != told:
        told = state
        print(json.dumps({"names": names, **described}), flush=True)
"""


class Child:
    """An intake in another process; a thread reads what it prints."""

    def __init__(self, inbox: Path, prefix: tuple[str, ...] = (), **settings: Any) -> None:
        command = [*prefix, sys.executable, "-c", CHILD, os.fspath(inbox), json.dumps(settings)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.names: list[str] = []
        self.last: dict[str, Any] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.last = json.loads(line)
            self.names.extend(self.last["names"])

    def end(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()
        self._reader.join()


def test_files_lost_in_an_overflow_of_the_kernels_queue_are_found_by_a_scan(
    inbox: Path, eventually: Eventually
) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 20_000:
        pytest.skip("the kernel's queue is so long here that filling it would take too long")
    child = Child(inbox, watch="events", rescan_interval_s=3600)
    try:
        eventually(lambda: child.last.get("last_scan") and child.last["why"] == "as configured")
        child.process.send_signal(signal.SIGSTOP)
        files = limit // 2 + 500  # each is told of twice: created, closed
        for number in range(files):
            put(inbox / f"{number}.mp4")
        child.process.send_signal(signal.SIGCONT)
        eventually(lambda: len(child.names) >= files, 30.0)
        assert child.last["overflows"] == 1
        assert len(set(child.names)) == len(child.names) == files
        put(inbox / "after.mp4")
        eventually(lambda: "after.mp4" in child.names)
    finally:
        child.end()


def limited(setting: str, figure: int) -> tuple[str, ...]:
    """A command prefix: as root of a user name space whose inotify limits are ours to set."""
    script = f'echo {figure} > /proc/sys/user/{setting} && exec "$@"'
    prefix = ("unshare", "--user", "--map-root-user", "sh", "-c", script, "sh")
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no user name spaces here")
    return prefix


def test_folders_beyond_the_watch_limit_are_scanned_instead(inbox: Path, eventually: Eventually) -> None:
    for number in range(10):
        (inbox / f"folder{number}").mkdir()
    prefix = limited("max_inotify_watches", 5)
    child = Child(inbox, prefix, rescan_interval_s=3600, poll_interval_s=0.2)
    try:
        eventually(lambda: "max_user_watches" in child.last.get("why", ""))
        for number in range(10):
            put(inbox / f"folder{number}/a.mp4")
        eventually(lambda: len(child.names) == 10)
        assert child.last["mode"] == "events"
    finally:
        child.end()


@pytest.mark.parametrize("setting", ["max_inotify_watches", "max_inotify_instances"])
def test_where_inotify_cannot_be_had_at_all_the_inbox_is_polled(
    inbox: Path, setting: str, eventually: Eventually
) -> None:
    child = Child(inbox, limited(setting, 0), rescan_interval_s=3600, poll_interval_s=0.2)
    try:
        eventually(lambda: child.last.get("mode") == "polling" and "inotify" in child.last["why"])
        put(inbox / "a.mp4")
        eventually(lambda: child.names == ["a.mp4"])
    finally:
        child.end()


def test_a_writer_that_comes_while_the_lease_is_held_does_not_kill_the_daemon(
    inbox: Path, eventually: Eventually
) -> None:
    child = Child(inbox, rescan_interval_s=0.01, poll_interval_s=0.01)
    try:
        eventually(lambda: child.last.get("last_scan"))
        child.process.send_signal(signal.SIGIO)  # what the kernel sends then
        put(inbox / "a.mp4")
        eventually(lambda: child.names == ["a.mp4"])
        assert child.process.poll() is None
    finally:
        child.end()
