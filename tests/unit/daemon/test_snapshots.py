"""When snapshots are made: by the clock, by the count, and how much time they may take."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.waiting import eventually

from gsvrd.clock import ManualClock
from gsvrd.daemon.filing import Filing
from gsvrd.daemon.snapshots import AFTER_FAILURE_S, PAUSE_RATIO, TROUBLE, Often, Snapshots
from gsvrd.daemon.supervisor import Timers
from gsvrd.store.checkpoints import CheckpointManager
from gsvrd.store.opening import open_database


class Table:
    """The loop and the database around the snapshots."""

    def __init__(self, path: Path) -> None:
        self.clock = ManualClock()
        self.timers = Timers(self.clock)
        self.db = open_database(path, create=True)
        self.manager = CheckpointManager(path, self.clock.wall)
        self.rows: list[tuple[str, object]] = []
        self.snapshots = Snapshots(
            manager=self.manager,
            often=Often(interval_s=300.0, every_tasks=10, keep=3),
            filing=Filing(lambda: None, "snapshots"),
            clock=self.clock,
            later=self.timers.later,
            remember=lambda key, value: self.rows.append((key, value)),
        )
        self.snapshots.start()
        self.rows.clear()

    def write(self) -> None:
        with self.db:
            self.db.execute("INSERT OR REPLACE INTO service VALUES ('k', '0', 0)")
        # As if a tick of the file system's clock had passed.
        wal = Path(f"{self.manager._database}-wal")
        os.utime(wal, ns=(0, wal.stat().st_mtime_ns + 1_000_000))

    def complete(self, times: int) -> None:
        for _ in range(times):
            self.snapshots.note_completed()

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.timers.run_due()

    def settle(self) -> None:
        eventually(lambda: self.snapshots.collect() or not self.snapshots.filing.open)

    @property
    def reasons(self) -> list[str]:
        """Of the snapshots, oldest first."""
        return [found.reason for found in reversed(self.manager.list())]


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    made = Table(tmp_path / "gsvrd.db")
    yield made
    made.snapshots.close()
    made.db.close()


def test_there_is_one_every_interval_in_which_something_was_written(table: Table) -> None:
    for is_written, most in ((True, 1), (False, 1), (False, 1), (True, 2)):
        if is_written:
            table.write()
        table.pass_time(300)
        table.settle()
        assert table.reasons == ["interval"] * most


def test_there_is_one_after_so_many_completed_tasks(table: Table) -> None:
    table.complete(9)
    table.settle()
    assert table.reasons == []
    table.complete(1)
    table.settle()
    assert table.reasons == ["tasks"]


def test_the_newest_are_kept(table: Table) -> None:
    for _ in range(5):
        table.complete(10)
        table.settle()
    assert len(table.reasons) == 3


def test_copying_gets_no_more_than_a_twentieth_of_the_time(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of a large database takes two seconds, while ten tasks end every moment."""
    slow_copy(table, monkeypatch, lambda: table.clock.advance(2.0))
    table.complete(10)
    table.settle()
    for _ in range(int(2.0 * PAUSE_RATIO) - 1):
        table.complete(10)
        table.pass_time(1.0)
        table.settle()
    assert table.reasons == ["tasks"]
    table.pass_time(1.0)
    table.settle()
    assert table.reasons == ["tasks", "tasks"]


def test_neither_the_loop_nor_the_other_filing_waits_for_a_copy(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    slow_copy(table, monkeypatch, lambda: go_on.wait(60))
    other = Filing(lambda: None)
    done: list[int] = []
    try:
        table.complete(10)  # returns at once, or this test never ends
        other.submit(lambda: 1, done.append, lambda _: None)
        eventually(other.collect)
        assert done == [1]
        assert table.snapshots.filing.open
    finally:
        go_on.set()
        other.close()
    table.settle()
    assert table.reasons == ["tasks"]


def test_tasks_that_end_during_a_copy_count_for_the_next(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    slow_copy(table, monkeypatch, lambda: go_on.wait(60))
    table.complete(10)
    table.complete(10)
    go_on.set()
    table.settle()
    table.settle()
    assert table.reasons == ["tasks", "tasks"]


def test_a_copy_that_fails_is_told_once_and_tried_again_after_a_while(table: Table) -> None:
    in_the_way = table.manager.folder
    in_the_way.write_text("a file where the folder should be")
    table.complete(10)
    table.settle()
    assert [key for key, _ in table.rows] == [TROUBLE]
    assert "File exists" in str(table.rows[0][1]) or "Not a directory" in str(table.rows[0][1])
    table.complete(50)
    table.settle()
    assert len(table.rows) == 1
    in_the_way.unlink()
    table.pass_time(AFTER_FAILURE_S)
    table.settle()
    assert table.reasons == ["tasks"]
    assert table.rows[1:] == [(TROUBLE, None)]


def slow_copy(table: Table, monkeypatch: pytest.MonkeyPatch, wait: Callable[[], object]) -> None:
    create = CheckpointManager.create

    def slowly(self: CheckpointManager, reason: str, *, routine: bool = False) -> object:
        wait()
        return create(self, reason, routine=routine)

    monkeypatch.setattr(CheckpointManager, "create", slowly)
