from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from gsvrd.clock import ManualClock
from gsvrd.errors import ErrorFacts, ErrorKind
from gsvrd.model import NewTask, OutcomeKind, Task
from gsvrd.policy.limiter import Call, Lane
from gsvrd.policy.spending import Usage
from gsvrd.store.ledger import QUOTA_DAY, Ledger
from gsvrd.store.measuring import Measuring
from gsvrd.store.opening import open_database
from gsvrd.store.queue import TaskQueue

PROJECT, MODEL = "mine", "gemini-3.8-flash"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    conn = open_database(tmp_path / "gsvrd.db", create=True)
    yield conn
    conn.close()


@pytest.fixture
def queue(db: sqlite3.Connection, clock: ManualClock) -> TaskQueue:
    return TaskQueue(db, clock)


@pytest.fixture
def measuring(tmp_path: Path, queue: TaskQueue) -> Measuring:
    """It began when the database was empty."""
    made = Measuring(tmp_path / "gsvrd.db")
    made.begin()
    return made


def add(queue: TaskQueue, number: int, batch: int | None = None) -> None:
    queue.add(NewTask(b"/inbox/%d.mp4" % number, f"{number}.mp4", 1, number, 1000, number), batch=batch)
    queue.commit()


def claim(queue: TaskQueue) -> Task:
    task = queue.ready()
    assert task is not None
    queue.claim(task, worker=1)
    queue.commit()
    return task


def test_tasks_are_told_by_state_and_pending_ones_by_what_they_wait_for(
    queue: TaskQueue, measuring: Measuring, clock: ManualClock
) -> None:
    for number in range(1, 5):
        add(queue, number)
    task = claim(queue)
    queue.retry(task, 1, OutcomeKind.FAILED, ErrorFacts(ErrorKind.NETWORK, "away"), 60.0)
    queue.add_batch(1, "held", "folder")
    queue.commit()
    queue.hold_batch(1, "too dear")
    queue.commit()
    add(queue, 5, batch=1)
    clock.advance(30.0)
    found = measuring.look(clock.wall(), PROJECT)
    assert found.tasks["pending"] == 5
    assert (found.in_line, found.waiting, found.held, found.held_batches) == (3, 1, 1, 1)
    assert found.head_age_s == pytest.approx(30.0)


def test_transitions_and_attempts_are_counted_once_from_when_it_began(
    queue: TaskQueue, measuring: Measuring, clock: ManualClock, tmp_path: Path
) -> None:
    add(queue, 1)
    add(queue, 2)
    later = Measuring(tmp_path / "gsvrd.db")
    later.begin()
    task = claim(queue)
    clock.advance(4.0)
    queue.retry(task, 1, OutcomeKind.FAILED, ErrorFacts(ErrorKind.NETWORK, "away"), 0.0)
    queue.commit()
    for _ in range(3):
        measuring.look(clock.wall(), PROJECT)
        later.look(clock.wall(), PROJECT)
    assert measuring.transitions == {"add": 2, "claim": 1, "retry": 1}
    assert later.transitions == {"claim": 1, "retry": 1}
    [(outcome, tally)] = measuring.attempts.read()
    assert (outcome, tally.read()[-1]) == ("failed", 1)
    assert tally.total == pytest.approx(4.0)


def test_the_cancelling_of_a_waiting_task_is_not_taken_for_the_end_of_its_last_attempt(
    queue: TaskQueue, measuring: Measuring, clock: ManualClock
) -> None:
    add(queue, 1)
    task = claim(queue)
    clock.advance(2.0)
    queue.release(task.id, 1, "shutdown")
    queue.commit()
    clock.advance(2.0)
    queue.cancel(task.id, "not wanted")
    queue.commit()
    measuring.look(clock.wall(), PROJECT)
    [(outcome, tally)] = measuring.attempts.read()
    assert (outcome, tally.read()[-1]) == ("released", 1)


def test_calls_of_the_minute_and_the_day_are_those_of_the_project(
    queue: TaskQueue, db: sqlite3.Connection, measuring: Measuring, clock: ManualClock
) -> None:
    ledger = Ledger(db, clock, queue.note)
    for project, lane, tokens in (
        (PROJECT, Lane.GENERATE, 700),
        (PROJECT, Lane.UPLOAD, 0),
        ("other", Lane.GENERATE, 9),
    ):
        permit = ledger.reserve(Call(1, 1, lane, project, MODEL if tokens else "", tokens), 5_000_000, None)
        ledger.sent(permit)
    queue.commit()
    found = measuring.look(clock.wall(), PROJECT)
    use = found.models[MODEL]
    assert (use.requests_minute, use.tokens_minute, use.requests_today, use.requests) == (1, 700, 1, 2)
    assert found.reserved == 15_000_000
    clock.advance(120.0)
    assert measuring.look(clock.wall(), PROJECT).models[MODEL].requests_minute == 0


def test_what_was_spent_is_no_longer_reserved_and_a_day_that_is_used_up_is_told(
    queue: TaskQueue, db: sqlite3.Connection, measuring: Measuring, clock: ManualClock
) -> None:
    ledger = Ledger(db, clock, queue.note)
    permit = ledger.reserve(Call(1, 1, Lane.GENERATE, PROJECT, MODEL, 700), 5_000_000, None)
    ledger.sent(permit)
    ledger.settle(permit, QUOTA_DAY, Usage(600, 50), 2_000_000)
    queue.commit()
    found = measuring.look(clock.wall(), PROJECT)
    assert (found.reserved, found.cost_today, found.models[MODEL].cost) == (0, 2_000_000, 2_000_000)
    assert (found.models[MODEL].tokens, found.models[MODEL].tokens_minute) == (650, 600)
    assert found.models[MODEL].is_used_up


def test_a_look_writes_nothing_and_leaves_no_connection(
    measuring: Measuring, clock: ManualClock, db: sqlite3.Connection
) -> None:
    before = db.execute("PRAGMA data_version").fetchone()
    measuring.look(clock.wall(), PROJECT)
    assert db.execute("PRAGMA data_version").fetchone() == before
    assert db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0  # nobody reads any more
