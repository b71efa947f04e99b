"""The small rooms: doors, timers, the filing thread, run state, signals, the doorbell, the lock, the notifier."""

from __future__ import annotations

import os
import select
import signal
import socket
import sqlite3
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from support.house import House
from support.waiting import eventually

from gsvrd.clock import ManualClock
from gsvrd.daemon.doors import Doors
from gsvrd.daemon.filing import Filing
from gsvrd.daemon.runstate import RunState
from gsvrd.daemon.service import Lock, Notifier, holder
from gsvrd.daemon.signals import Doorbell, Signals, Wake, ring
from gsvrd.daemon.supervisor import AfterCommit, Timers
from gsvrd.errors import LockHeldError
from gsvrd.pool.base import WorkerFacts
from gsvrd.store.queue import TaskQueue

# -- doors -------------------------------------------------------------------------------------------------------------


def test_a_closed_door_keeps_its_first_moment_and_its_newest_reason() -> None:
    doors = Doors()
    doors.close("reports", "full", 10.0)
    doors.close("reports", "read-only", 20.0)
    assert (doors.closed["reports"].since, doors.reason) == (10.0, "read-only")
    doors.close("inbox", "gone", 30.0)
    assert doors.reason == "read-only; gone"
    doors.open("reports")
    doors.open("inbox")
    assert (doors.reason, doors.closed) == ("", {})


def test_doors_tell_of_changes_and_only_of_changes() -> None:
    doors = Doors(changed=False)
    doors.open("state")
    assert not doors.changed
    doors.close("state", "full", 1.0)
    assert doors.changed
    doors.changed = False
    doors.close("state", "full", 2.0)
    assert not doors.changed
    doors.open("state")
    assert doors.changed


# -- timers and what waits for a commit ----------------------------------------------------------------------------------


def test_timers_call_in_the_order_of_their_moments_and_not_before() -> None:
    clock, called = ManualClock(), list[str]()
    timers = Timers(clock)
    for delay_s, name in ((2.0, "late"), (1.0, "first"), (1.0, "second")):
        timers.later(delay_s, partial(called.append, name))
    timers.run_due()
    assert (called, timers.next()) == ([], clock.monotonic() + 1.0)
    clock.advance(1.0)
    timers.run_due()
    assert called == ["first", "second"]
    clock.advance(1.0)
    timers.run_due()
    assert (called, timers.next()) == (["first", "second", "late"], None)


def test_what_is_added_while_a_commit_ends_waits_for_the_next() -> None:
    after, called = AfterCommit(), list[str]()
    after(lambda: after(lambda: called.append("second")))
    after.run()
    assert (called, bool(after)) == ([], True)
    after.run()
    assert (called, bool(after)) == (["second"], False)


def test_a_commit_that_failed_is_tried_again_with_everything_and_once(house: House) -> None:
    task = house.add("done:")
    house.until(house.pool.free, start=False)
    called = []
    house.attempts.dispatch(1)
    house.after_commit(lambda: called.append("after"))
    house.db.execute("PRAGMA busy_timeout = 1")
    with sqlite3.connect(house.config.state / "gsvrd.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            house.commit()
        assert (called, house.queue.journalled) == ([], 1)
        other.execute("ROLLBACK")
    other.close()
    house.rest()
    assert called == ["after"]
    assert house.changes(task) == ["add", "claim", "complete"]


# -- the filing thread -------------------------------------------------------------------------------------------------


@pytest.fixture
def filing() -> Iterator[Filing]:
    made = Filing(lambda: None)
    yield made
    made.close()


def test_filing_acts_in_order_in_its_thread_and_ends_in_ours(filing: Filing) -> None:
    acted, ended = list[tuple[int, int]](), list[tuple[int, int]]()
    for number in range(3):
        filing.submit(partial(note, acted, number), lambda number: ended.append((number, threading.get_ident())), fail)
    eventually(lambda: filing.collect() and not filing.open)
    (thread,) = {thread for _, thread in acted}
    assert thread != threading.get_ident()
    assert [number for number, _ in acted] == [0, 1, 2]
    assert ended == [(number, threading.get_ident()) for number in range(3)]


def note(where: list[tuple[int, int]], number: int) -> int:
    where.append((number, threading.get_ident()))
    return number


def fail(error: OSError) -> None:
    raise AssertionError(error)


def test_filing_hands_trouble_of_the_machine_to_its_ending(filing: Filing) -> None:
    told = list[OSError]()
    filing.submit(lambda: os.stat("/no/such/file"), fail_with, told.append)
    eventually(lambda: filing.collect() or not filing.open)
    assert [type(error) for error in told] == [FileNotFoundError]


def fail_with(result: object) -> None:
    raise AssertionError(result)


def test_a_fault_in_filing_ends_the_loop_and_not_just_the_thread(filing: Filing) -> None:
    filing.submit(lambda: 1 / 0, fail_with, fail)
    with pytest.raises(ZeroDivisionError):
        eventually(filing.collect)


def test_endings_that_take_long_are_heard_over_several_turns_and_the_loop_comes_back_for_them() -> None:
    pokes, ended = list[None](), list[object]()
    filing = Filing(lambda: pokes.append(None))
    for _ in range(3):
        filing.submit(lambda: None, ended.append, fail)
    filing.close()
    for heard in (1, 2, 3):
        pokes.clear()
        assert filing.collect(0.0)
        assert len(ended) == heard
        assert bool(pokes) == (heard < 3)


def test_filing_finishes_what_it_has_before_it_ends() -> None:
    done, gate = list[tuple[int, int]](), threading.Event()
    filing = Filing(lambda: None)
    filing.submit(lambda: gate.wait(10), ignore, fail)
    for number in range(3):
        filing.submit(partial(note, done, number), ignore, fail)
    gate.set()
    filing.close()
    assert [number for number, _ in done] == [0, 1, 2]


def ignore(result: object) -> None:
    pass


# -- run state ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def state(house: House) -> RunState:
    return RunState(house.queue, house.clock, house.doors, Notifier({}), {"analyzer": "probe"})


def restarted(house: House) -> RunState:
    house.commit()
    again = RunState(TaskQueue(house.db, house.clock), house.clock, Doors(), Notifier({}), {})
    again.restore()
    return again


def test_a_pause_survives_a_restart_and_a_resume_too(house: House, state: RunState) -> None:
    state.restore()
    assert (state.paused, state.word) == (False, "running")
    state.pause("SIGUSR1")
    again = restarted(house)
    assert (again.paused, again.word) == (True, "paused")
    state.resume("SIGUSR2")
    assert not restarted(house).paused


def test_a_pause_while_it_drains_is_kept_for_the_next_start_and_still_drains(house: House, state: RunState) -> None:
    state.restore()
    state.drain("SIGTERM", 0, 30.0)
    state.pause("SIGUSR1")
    assert state.word == "draining"
    assert restarted(house).word == "paused"


def test_an_idle_daemon_writes_nothing(house: House, state: RunState) -> None:
    state.restore()
    workers = [WorkerFacts(7, None)]
    state.tell(workers, {"mode": "events", "scanning": False})
    house.commit()
    state.tell(workers, {"mode": "events", "scanning": True})
    assert house.queue.journalled == 0
    state.tell([WorkerFacts(8, None)], {"mode": "events"})
    assert house.queue.journalled == 1


def test_closed_doors_stand_in_the_status(house: House, state: RunState) -> None:
    house.doors.close("reports", "full", 5.0)
    state.tell([], {})
    house.commit()
    assert house.reading.service("doors") == {"reports": {"reason": "full", "since": 5.0}}
    house.doors.open("reports")
    state.tell([], {})
    house.commit()
    assert house.reading.service("doors") == {}


# -- signals and the doorbell --------------------------------------------------------------------------------------------


def readable(source: Wake | Doorbell) -> bool:
    return bool(select.select([source], [], [], 0)[0])


def test_signals_wake_the_loop_and_are_taken_once_in_order() -> None:
    wake = Wake()
    signals = Signals(wake)
    try:
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
            os.kill(os.getpid(), number)
        assert readable(wake)
        assert signals.take() == [signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP]
        assert signals.take() == []
        wake.clear()
        assert not readable(wake)
    finally:
        signals.restore()
        wake.close()


def test_a_thousand_pokes_are_one_waking_and_block_nobody() -> None:
    wake = Wake()
    for _ in range(100_000):  # more than a pipe holds
        wake.poke()
    assert readable(wake)
    wake.clear()
    assert not readable(wake)
    wake.close()


def test_a_ring_is_heard_and_rings_without_a_daemon_are_harmless(tmp_path: Path) -> None:
    path = tmp_path / "doorbell"
    assert not ring(path)
    bell = Doorbell(path)
    assert ring(path)
    assert readable(bell)
    bell.clear()
    assert not readable(bell)
    bell.close()
    assert not ring(path)
    Doorbell(path).close()  # what a dead daemon left is replaced


# -- one instance --------------------------------------------------------------------------------------------------------


def test_the_lock_is_held_by_one_and_names_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert holder(path) is None
    first, second = Lock(path), Lock(path)
    first.acquire()
    assert holder(path) == os.getpid()
    with pytest.raises(LockHeldError, match=f"pid {os.getpid()}"):
        second.acquire(patience_s=0)
    first.release()
    assert holder(path) is None
    second.acquire(patience_s=0)
    second.release()


def test_a_starting_daemon_waits_for_one_that_is_just_ending(tmp_path: Path) -> None:
    first, second = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    first.acquire()
    ending = threading.Timer(0.2, first.release)
    ending.start()
    second.acquire(patience_s=10)
    second.release()
    ending.join()


# -- words for the service manager -----------------------------------------------------------------------------------------


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(str(tmp_path / "notify"))
    made.setblocking(False)
    yield made
    made.close()


def test_the_notifier_speaks_utf_8_and_repeats_no_status(manager: socket.socket, tmp_path: Path) -> None:
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    notifier = Notifier(environ)
    notifier.status("running 第一课")
    notifier.status("running 第一课")
    notifier.ready()
    assert [manager.recv(4096).decode() for _ in range(2)] == ["STATUS=running 第一课", "READY=1"]
    with pytest.raises(BlockingIOError):
        manager.recv(4096)
    assert environ == {}


def test_a_service_manager_that_does_not_listen_holds_nobody_up(manager: socket.socket, tmp_path: Path) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    for _ in range(10_000):  # more than a socket holds
        notifier.alive()
    manager.close()
    notifier.ready()


@pytest.mark.parametrize(
    ("pid", "expected"), [(None, 10.0), (os.getpid(), 10.0), (1, None)], ids=["anybody", "us", "init"]
)
def test_the_watchdog_is_fed_only_if_it_watches_us(
    manager: socket.socket, tmp_path: Path, pid: int | None, expected: float | None
) -> None:
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000"}
    if pid is not None:
        environ["WATCHDOG_PID"] = str(pid)
    assert Notifier(environ).watchdog_s == expected
