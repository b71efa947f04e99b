from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gsvrd.clock import ManualClock
from gsvrd.errors import ErrorFacts, ErrorKind, StateError
from gsvrd.model import NewTask, OutcomeKind
from gsvrd.policy.limiter import Call, Lane
from gsvrd.policy.spending import Usage
from gsvrd.store.courses import Course, Courses, open_for_courses
from gsvrd.store.ledger import Ledger
from gsvrd.store.opening import open_database
from gsvrd.store.queue import TaskQueue
from gsvrd.store.schema import SCHEMA_VERSION
from gsvrd.store.standing import BatchState
from gsvrd.store.steering import PAUSED, Steering, steering

BROKEN = ErrorFacts(ErrorKind.UNREADABLE, "broken", "Convert it.")


@dataclass
class Room:
    """A queue as the daemon has it, and batches as people see them."""

    path: Path
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.conn = open_database(self.path, create=True)
        self.queue = TaskQueue(self.conn, self.clock)
        self.ledger = Ledger(self.conn, self.clock, self.queue.note)
        self.courses = Courses(self.conn)
        self._files = 0

    def batch(self, number: int, name: str, videos: int = 0, kind: str = "folder") -> list[int]:
        self.queue.add_batch(number, name, kind)
        self.queue.commit()
        return [self.add(number, f"{name}/{video}.mp4") for video in range(1, videos + 1)]

    def add(self, batch: int | None, name: str) -> int:
        self._files += 1
        self.queue.add(NewTask(name.encode(), name, 1, self._files, 1000, 5), batch=batch)
        self.queue.commit()
        return int(self.conn.execute("SELECT max(id) FROM tasks").fetchone()[0])

    def claim(self, task: int) -> int:
        row = next(one for one in self.queue.waiting() if one.id == task)
        attempt = self.queue.claim(row, worker=7)
        self.queue.commit()
        return attempt

    def complete(self, task: int, reused: str = "") -> None:
        attempt = self.claim(task)
        if reused:
            self.queue.reuse(task, attempt, reused)
        else:
            self.queue.reserve(task, attempt, f"{task}.md")
        self.queue.complete(task, attempt)
        self.queue.commit()

    def fail(self, task: int) -> None:
        self.queue.fail(task, self.claim(task), OutcomeKind.FAILED, BROKEN)
        self.queue.commit()

    def cancel(self, task: int) -> None:
        self.queue.cancel(task, "test")
        self.queue.commit()

    def one(self, number: int) -> Course:
        found = self.courses.one(number)
        assert found is not None
        return found

    def spend(self, task: int, batch: int, cost_micro: int) -> None:
        call = Call(task, 1, Lane.GENERATE, "p", "m", 100)
        permit = self.ledger.reserve(call, 90_000, batch)
        self.ledger.sent(permit)
        if cost_micro:
            self.ledger.settle(permit, "ok", Usage(70, 20, 10), cost_micro)
        self.queue.commit()

    def ready(self) -> list[str]:
        rows = self.conn.execute("SELECT name FROM tasks WHERE state = 'pending' AND due_at IS NULL ORDER BY id")
        return [row[0] for row in rows]


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path / "gsvrd.db")
    yield made
    made.conn.close()


# -- where a batch stands ------------------------------------------------------------------------------------------------


def test_a_batch_goes_from_initializing_to_completed_and_a_late_video_opens_it_again(room: Room) -> None:
    room.batch(1, "physics")
    assert room.one(1).state is BatchState.INITIALIZING
    first, second = room.add(1, "physics/1.mp4"), room.add(1, "physics/2.mp4")
    room.complete(first)
    assert room.one(1).state is BatchState.RUNNING
    assert room.one(1).ended_at is None
    room.clock.advance(50)
    room.fail(second)
    ended = room.one(1)
    assert (ended.state, ended.ended_at) == (BatchState.COMPLETED, room.clock.wall())
    room.add(1, "physics/3.mp4")
    assert (room.one(1).state, room.one(1).ended_at) == (BatchState.RUNNING, None)


def test_a_batch_is_cancelled_only_when_all_of_it_is(room: Room) -> None:
    one, two = room.batch(1, "physics", 2)
    room.cancel(one)
    assert room.one(1).state is not BatchState.CANCELLED
    room.cancel(two)
    assert room.one(1).state is BatchState.CANCELLED
    (three,) = room.batch(2, "history", 1)
    room.complete(three)
    room.cancel(room.add(2, "history/2.mp4"))
    assert room.one(2).state is BatchState.COMPLETED


def test_a_paused_daemon_pauses_what_is_open_and_nothing_else(room: Room) -> None:
    (one, _), (two,) = room.batch(1, "physics", 2), room.batch(2, "history", 1)
    room.complete(one)
    room.complete(two)
    room.queue.set_service("pause", {"paused": True})
    room.queue.commit()
    assert [found.state for found in room.courses.newest(9)] == [BatchState.COMPLETED, BatchState.PAUSED]


def test_what_a_batch_has_done_and_cost_is_counted(room: Room) -> None:
    one, two, three, four, _ = room.batch(1, "physics", 5)
    (other,) = room.batch(2, "history", 1)
    room.clock.advance(10)
    room.complete(one)
    room.clock.advance(10)
    room.complete(two, reused="1.md")
    room.fail(three)
    room.claim(four)
    room.spend(one, 1, 20_000)
    room.spend(four, 1, 0)
    room.spend(other, 2, 77)
    found = room.one(1)
    assert found.counts == {"pending": 1, "running": 1, "completed": 2, "failed": 1, "cancelled": 0}
    assert (found.reused, found.requests, found.tokens, found.cost_micro, found.reserved_micro) == (
        *(1, 2, 100),
        *(20_000, 90_000),
    )
    assert found.started_at == found.created_at + 10
    tasks = {task["task"]: task for task in room.courses.tasks(1)}
    assert len(tasks) == 5
    assert (tasks[one]["cost_micro"], tasks[one]["tokens"], tasks[one]["report"]) == (20_000, 100, "1.md")
    assert tasks[two]["reused"] == "1.md"
    assert tasks[three]["error"]["hint"] == "Convert it."
    assert tasks[four]["started_at"] is not None
    assert tasks[one]["started_at"] is None


# -- which batch is meant ------------------------------------------------------------------------------------------------


def test_batches_are_listed_newest_first_by_state_and_no_more_than_asked(room: Room) -> None:
    for number in range(1, 6):
        (task,) = room.batch(number, f"week {number}", 1)
        if number % 2:
            room.complete(task)
    assert [found.number for found in room.courses.newest(2)] == [5, 4]
    assert [found.number for found in room.courses.newest(2, BatchState.COMPLETED)] == [5, 3]
    assert [found.number for found in room.courses.newest(9, BatchState.INITIALIZING)] == [4, 2]


def test_a_batch_is_meant_by_number_or_whole_name_and_both_are_told_apart(room: Room) -> None:
    room.batch(1, "3")
    room.batch(2, "physics")
    room.batch(3, "physics", kind="manifest")

    def meant(word: str) -> list[int]:
        return [found.number for found in room.courses.meant(word)]

    assert meant("2") == [2]
    assert meant("physics") == [3, 2]
    assert meant("3") == [3, 1]
    assert meant("1") == [1]
    assert meant("phys") == []
    assert meant("9" * 30) == []
    assert meant("² ") == []
    assert meant("²") == []


def test_a_database_of_an_older_version_is_named_and_left_alone(room: Room) -> None:
    room.conn.execute(f"PRAGMA user_version = {SCHEMA_VERSION - 1}")
    for opening in (lambda: open_for_courses(room.path), lambda: steering(room.path, dry_run=True).__enter__()):
        with pytest.raises(StateError, match="older version"):
            opening()


# -- steering ------------------------------------------------------------------------------------------------------------


def test_a_paused_batch_leaves_the_line_with_what_comes_late_and_the_others_stay(room: Room) -> None:
    room.batch(1, "a", 1)
    room.batch(2, "b", 1)
    deed = Steering(room.conn, dry_run=False).pause(room.one(1))
    assert (deed.problem, deed.after.state) == (None, BatchState.PAUSED)
    room.add(1, "a/late.mp4")
    assert room.ready() == ["b/1.mp4"]
    assert Steering(room.conn, dry_run=False).resume(room.one(1)).after.hold == ""
    assert room.ready() == ["a/1.mp4", "b/1.mp4", "a/late.mp4"]


def test_pausing_what_the_daemon_holds_does_not_free_it_at_the_first_resume(room: Room) -> None:
    room.batch(1, "a", 1)
    room.queue.hold_batch(1, "the cost limit is $1")
    room.queue.commit()
    steer = Steering(room.conn, dry_run=False)
    assert steer.pause(room.one(1)).after.hold.startswith(PAUSED)
    assert steer.pause(room.one(1)).note == "it was paused already"
    first = steer.resume(room.one(1))
    assert (first.after.hold, first.note) == ("the cost limit is $1", "it is held as before: the cost limit is $1")
    assert "may be again" in steer.resume(room.one(1)).note
    assert room.ready() == ["a/1.mp4"]
    assert steer.resume(room.one(1)).note == "it was not paused"


def test_cancelling_a_batch_spares_what_has_ended_and_other_batches(room: Room) -> None:
    one, two, three = room.batch(1, "a", 3)
    (other,) = room.batch(2, "b", 1)
    room.complete(one)
    room.claim(two)
    deed = Steering(room.conn, dry_run=False).cancel(room.one(1))
    assert (deed.tasks, deed.problem) == (2, None)
    states = dict(room.conn.execute("SELECT id, state FROM tasks"))
    assert states == {one: "completed", two: "cancelled", three: "cancelled", other: "pending"}
    why = room.conn.execute("SELECT why, actor FROM events WHERE task = ? ORDER BY id DESC", (three,)).fetchone()
    assert why == ("cancelled by gsvrctl, with its batch a", "gsvrctl")
    again = Steering(room.conn, dry_run=False).cancel(room.one(1))
    assert again.problem is not None
    assert again.problem.code == "completed"


def test_a_batch_of_more_videos_than_one_transaction_is_cancelled_whole(room: Room) -> None:
    room.queue.add_batch(1, "a", "folder")
    for number in range(450):
        room.queue.add(NewTask(b"%d" % number, str(number), 1, 10_000 + number, 1, 5), batch=1)
    room.queue.commit()
    assert Steering(room.conn, dry_run=False).cancel(room.one(1)).tasks == 450
    assert room.one(1).state is BatchState.CANCELLED


def test_a_dry_run_changes_no_batch(room: Room) -> None:
    room.batch(1, "a", 2)
    before = room.one(1)
    steer = Steering(room.conn, dry_run=True)
    assert steer.cancel(before).tasks == 2
    steer.pause(before)
    assert room.one(1) == before


def test_a_database_that_another_holds_is_said_to_be_busy(room: Room) -> None:
    room.batch(1, "a", 1)
    batch, steer = room.one(1), Steering(room.conn, dry_run=False)
    room.conn.execute("PRAGMA busy_timeout = 1")
    with sqlite3.connect(room.path) as other:
        other.execute("BEGIN IMMEDIATE")
        for deed in (steer.pause(batch), Steering(room.conn, dry_run=False).cancel(batch)):
            assert deed.problem is not None
            assert deed.problem.code == "busy"
        other.rollback()
    assert room.one(1) == batch
