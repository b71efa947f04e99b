from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsvrd.clock import ManualClock
from gsvrd.errors import ErrorFacts, ErrorKind, StateError
from gsvrd.model import TRANSITIONS, Home, NewTask, OutcomeKind, Priorities, Task, TaskState
from gsvrd.store.opening import open_database
from gsvrd.store.queue import TaskQueue
from gsvrd.store.reading import Reading
from gsvrd.store.schema import SCHEMA_VERSION

ERROR = ErrorFacts(ErrorKind.UNREADABLE, "broken", "Convert it.")


def video(number: int, size: int = 200_000_000, path: bytes | None = None) -> NewTask:
    return NewTask(path or b"/inbox/%d.mp4" % number, f"{number}.mp4", 1, number, size, 7)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gsvrd.db"


@pytest.fixture
def db(path: Path) -> Iterator[sqlite3.Connection]:
    opened = open_database(path, create=True)
    yield opened
    opened.close()


@pytest.fixture
def queue(db: sqlite3.Connection, clock: ManualClock) -> TaskQueue:
    return TaskQueue(db, clock)


def count(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT count(*) FROM tasks").fetchone()[0])


def row(db: sqlite3.Connection, task: int) -> dict[str, Any]:
    cursor = db.execute("SELECT * FROM tasks WHERE id = ?", [task])
    return dict(zip([column[0] for column in cursor.description], cursor.fetchone(), strict=True))


def claimed(queue: TaskQueue) -> Task:
    task = queue.ready()
    assert task is not None
    queue.claim(task, worker=99)
    queue.commit()
    return task


# -- the state table ---------------------------------------------------------------------------------------------------

ACTS: dict[str, Callable[[TaskQueue, Task], object]] = {
    "claim": lambda queue, task: queue.claim(task, 1),
    "complete": lambda queue, task: queue.complete(task.id, 1),
    "fail": lambda queue, task: queue.fail(task.id, 1, OutcomeKind.FAILED, ERROR),
    "retry": lambda queue, task: queue.retry(task, 1, OutcomeKind.FAILED, ERROR, 10.0),
    "release": lambda queue, task: queue.release(task.id, 1, "shutdown"),
    "cancel": lambda queue, task: queue.cancel(task.id, "a person"),
    "requeue": lambda queue, task: queue.requeue(task.id, "a person"),
}


def in_state(queue: TaskQueue, state: TaskState) -> Task:
    """A task in `state` whose attempt number is 1 where it has one."""
    queue.add(video(1))
    queue.commit()
    task = queue.ready()
    assert task is not None
    if state is TaskState.PENDING:
        return task
    queue.claim(task, 1)
    if state is TaskState.COMPLETED:
        queue.complete(task.id, 1)
    elif state is TaskState.FAILED:
        queue.fail(task.id, 1, OutcomeKind.FAILED, ERROR)
    elif state is TaskState.CANCELLED:
        queue.cancel(task.id, "a person")
    queue.commit()
    return task


@pytest.mark.parametrize("state", list(TaskState))
@pytest.mark.parametrize("name", list(ACTS))
def test_every_transition_from_every_state_does_what_the_table_says(
    queue: TaskQueue, db: sqlite3.Connection, state: TaskState, name: str
) -> None:
    task = in_state(queue, state)
    transition = next(found for found in TRANSITIONS if found.name == name)
    events_before = len(Reading(db).events(task.id))
    ACTS[name](queue, task)
    queue.commit()
    is_allowed = state in transition.sources
    assert row(db, task.id)["state"] == (transition.target if is_allowed else state)
    new_events = Reading(db).events(task.id)[events_before:]
    assert [event["change"] for event in new_events] == ([name] if is_allowed else [])


def test_the_acts_of_this_test_are_all_transitions_of_an_existing_task() -> None:
    assert set(ACTS) == {transition.name for transition in TRANSITIONS if transition.sources}


# -- fencing -------------------------------------------------------------------------------------------------------------


def test_a_late_result_of_an_attempt_that_was_given_back_changes_nothing(
    queue: TaskQueue, db: sqlite3.Connection
) -> None:
    queue.add(video(1))
    queue.commit()
    task = claimed(queue)
    queue.release(task.id, 1, "shutdown")
    queue.commit()
    claimed(queue)
    lost: list[str] = []
    queue.complete(task.id, 1, on_lost=lambda: lost.append("complete"))
    queue.fail(task.id, 1, OutcomeKind.FAILED, ERROR)
    queue.keep(task.id, 1, "probe", b"{}")
    queue.commit()
    assert lost == ["complete"]
    assert (row(db, task.id)["state"], row(db, task.id)["attempt"]) == ("running", 2)
    assert queue.kept(task.id) == {}


def test_a_claim_that_an_operators_cancel_came_before_is_reported_lost(
    queue: TaskQueue, path: Path, clock: ManualClock
) -> None:
    queue.add(video(1))
    queue.commit()
    task = queue.ready()
    assert task is not None
    other = TaskQueue(open_database(path, create=False), clock, actor="gsvrctl")
    other.cancel(task.id, "not wanted")
    other.commit()
    lost: list[int] = []
    queue.claim(task, 1, on_lost=lambda: lost.append(task.id))
    queue.complete(task.id, 1)
    queue.commit()
    assert lost == [task.id]


# -- what is recorded ----------------------------------------------------------------------------------------------------


def test_each_transition_leaves_an_event_with_who_when_and_why(
    queue: TaskQueue, db: sqlite3.Connection, clock: ManualClock
) -> None:
    queue.add(video(1), why="found by the scan")
    queue.commit()
    clock.advance(5)
    task = claimed(queue)
    clock.advance(5)
    queue.retry(task, 1, OutcomeKind.FAILED, ErrorFacts(ErrorKind.NETWORK, "no route"), 30.0)
    queue.commit()
    events = Reading(db).events(task.id)
    assert [(event["change"], event["state"], event["actor"], event["why"]) for event in events] == [
        ("add", "pending", "daemon", "found by the scan"),
        ("claim", "running", "daemon", ""),
        ("retry", "pending", "daemon", "no route; next try in 30 s"),
    ]
    assert [event["at"] - events[0]["at"] for event in events] == [0, 5, 10]


def test_each_attempt_is_a_row_with_its_worker_its_times_and_its_end(
    queue: TaskQueue, db: sqlite3.Connection, clock: ManualClock
) -> None:
    queue.add(video(1))
    queue.commit()
    task = claimed(queue)
    queue.progress(task.id, 1, "speech", 0.25)
    clock.advance(60)
    queue.fail(task.id, 1, OutcomeKind.DIED, ERROR, death=True)
    queue.commit()
    (attempt,) = Reading(db).attempts(task.id)
    assert (attempt["number"], attempt["worker"], attempt["outcome"]) == (1, 99, "died")
    assert attempt["ended_at"] - attempt["started_at"] == 60
    assert (attempt["stage"], attempt["fraction"]) == ("speech", 0.25)
    assert attempt["error"] == {"kind": "unreadable", "message": "broken", "hint": "Convert it.", "detail": ""}
    assert row(db, task.id)["deaths"] == 1


def test_finished_stages_are_kept_for_the_next_attempt_and_forgotten_at_the_end(queue: TaskQueue) -> None:
    queue.add(video(1))
    queue.commit()
    task = claimed(queue)
    queue.keep(task.id, 1, "probe", b'{"a": 1}')
    queue.retry(task, 1, OutcomeKind.FAILED, ERROR, 0.0)
    queue.commit()
    assert queue.kept(task.id) == {"probe": b'{"a": 1}'}
    claimed(queue)
    queue.complete(task.id, 2)
    queue.commit()
    assert queue.kept(task.id) == {}


def test_at_start_running_tasks_are_given_back_with_the_death_on_record_and_the_attempt_not_spent(
    queue: TaskQueue, db: sqlite3.Connection, path: Path, clock: ManualClock
) -> None:
    queue.add(video(1))
    queue.commit()
    task = claimed(queue)
    restarted = TaskQueue(open_database(path, create=True), clock)
    restarted.recover()
    restarted.commit()
    assert (row(db, task.id)["state"], row(db, task.id)["spent"]) == ("pending", 0)
    (attempt,) = Reading(db).attempts(task.id)
    assert attempt["outcome"] == "died"


# -- identity ------------------------------------------------------------------------------------------------------------


def test_a_file_is_queued_once_however_often_it_is_found(queue: TaskQueue, db: sqlite3.Connection) -> None:
    queue.add(video(1))
    queue.add(video(1))
    queue.commit()
    queue.add(video(1))
    queue.commit()
    assert count(db) == 1


def test_a_file_that_stays_in_the_inbox_after_its_end_is_not_queued_again(
    queue: TaskQueue, db: sqlite3.Connection
) -> None:
    task = in_state(queue, TaskState.COMPLETED)
    for home in (Home.INBOX, Home.KEPT):
        queue.moved(task.id, home)
        queue.add(video(1))
        queue.commit()
        assert count(db) == 1
    queue.moved(task.id, Home.ARCHIVE)
    queue.add(video(1))
    queue.commit()
    assert count(db) == 2


def test_a_renamed_file_keeps_its_task_and_gets_its_new_path(queue: TaskQueue, db: sqlite3.Connection) -> None:
    queue.add(video(1))
    queue.commit()
    queue.add(video(1, path=b"/inbox/renamed.mp4"))
    queue.commit()
    task = queue.ready()
    assert task is not None
    assert task.path == b"/inbox/renamed.mp4"
    assert count(db) == 1
    assert queue.place_of(task.id)[0] == b"/inbox/renamed.mp4"


def test_a_refusal_is_on_record_as_failed_once(queue: TaskQueue, db: sqlite3.Connection) -> None:
    numbers: list[int] = []
    for _ in range(2):
        queue.refuse(video(1), ERROR, on_row=numbers.append)
        queue.commit()
    assert len(numbers) == 1
    assert Reading(db).last_errors(5)[0]["error"]["message"] == "broken"


def test_names_that_are_no_text_survive(queue: TaskQueue) -> None:
    queue.add(video(1, path=b"/inbox/\xff\xfe.mp4"))
    queue.commit()
    task = queue.ready()
    assert task is not None
    assert task.path == b"/inbox/\xff\xfe.mp4"


# -- order ---------------------------------------------------------------------------------------------------------------


def in_line(queue: TaskQueue) -> list[int]:
    found = []
    while (task := queue.ready()) is not None:
        found.append(task.ino)
    return found


def test_small_files_run_before_and_large_files_after_plain_ones(queue: TaskQueue) -> None:
    for number, size in ((1, 600_000_000), (2, 200_000_000), (3, 1_000_000)):
        queue.add(video(number, size))
    queue.commit()
    assert in_line(queue) == [3, 2, 1]


def test_waiting_outweighs_priority_after_a_bounded_time(queue: TaskQueue, clock: ManualClock) -> None:
    queue.add(video(1, 600_000_000))
    clock.advance(20 * Priorities().ageing_s + 1)
    queue.add(video(2, 1_000))
    queue.commit()
    assert in_line(queue) == [1, 2]


def test_a_retry_costs_points_and_waits_out_of_the_way_until_it_is_due(
    queue: TaskQueue, db: sqlite3.Connection, clock: ManualClock
) -> None:
    queue.add(video(1))
    queue.commit()
    task = claimed(queue)
    queue.retry(task, 1, OutcomeKind.FAILED, ERROR, 30.0)
    queue.commit()
    assert row(db, task.id)["priority"] == 70
    assert queue.ready() is None
    assert queue.next_due() == clock.wall() + 30
    clock.advance(30)
    queue.promote()
    queue.commit()
    assert in_line(queue) == [1]
    assert queue.next_due() is None


def test_nobody_is_handed_out_twice_in_one_turn(queue: TaskQueue) -> None:
    for number in range(100):
        queue.add(video(number))
    queue.commit()
    assert sorted(in_line(queue)) == list(range(100))


def test_what_another_process_adds_is_seen_at_the_next_look(queue: TaskQueue, path: Path, clock: ManualClock) -> None:
    assert queue.ready() is None
    other = TaskQueue(open_database(path, create=False), clock)
    other.add(video(1))
    other.commit()
    assert queue.look()
    assert not queue.look()
    assert in_line(queue) == [1]


def test_claims_walk_the_index_of_ready_tasks_alone(db: sqlite3.Connection) -> None:
    plan = db.execute(
        "EXPLAIN QUERY PLAN SELECT id FROM tasks WHERE state = 'pending' AND due_at IS NULL ORDER BY rank, id LIMIT 8"
    ).fetchall()
    assert [line[3] for line in plan] == ["SCAN tasks USING INDEX tasks_ready"]


# -- the transaction -----------------------------------------------------------------------------------------------------


def test_nothing_is_on_disk_before_the_commit_and_all_of_it_after(queue: TaskQueue, path: Path) -> None:
    queue.add(video(1))
    queue.add(video(2))
    other = open_database(path, create=False)
    assert count(other) == 0
    queue.commit()
    assert count(other) == 2


def test_a_commit_that_fails_keeps_the_journal_and_the_next_one_writes_it(
    queue: TaskQueue, db: sqlite3.Connection, path: Path
) -> None:
    db.execute("PRAGMA busy_timeout = 10")
    other = sqlite3.connect(path)
    other.execute("BEGIN IMMEDIATE")
    queue.add(video(1))
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        queue.commit()
    assert queue.journalled == 1
    other.rollback()
    queue.commit()
    assert count(db) == 1
    assert queue.journalled == 0


def test_small_facts_about_the_service_are_kept(queue: TaskQueue, db: sqlite3.Connection) -> None:
    assert queue.service("pause") is None
    queue.set_service("pause", {"paused": True})
    queue.set_service("pause", {"paused": False, "by": "测试"})
    queue.commit()
    assert queue.service("pause") == {"paused": False, "by": "测试"}


# -- opening -------------------------------------------------------------------------------------------------------------


def test_the_database_is_safe_against_power_cuts(db: sqlite3.Connection) -> None:
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert db.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_database_of_a_newer_version_is_refused(path: Path) -> None:
    opened = open_database(path, create=True)
    opened.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    opened.close()
    with pytest.raises(StateError, match=f"version {SCHEMA_VERSION + 1}"):
        open_database(path, create=True)


def test_a_damaged_database_is_refused_with_the_word_corrupt(path: Path) -> None:
    path.write_bytes(b"this is no database" * 500)
    with pytest.raises(StateError, match="corrupt"):
        open_database(path, create=True)


def test_reading_an_absent_database_is_a_clear_error_and_makes_none(path: Path) -> None:
    with pytest.raises(StateError, match="no database"):
        open_database(path, create=False)
    assert not path.exists()


def test_a_new_database_is_private(db: sqlite3.Connection, path: Path) -> None:
    assert path.stat().st_mode & 0o077 == 0


@given(st.lists(st.tuples(st.integers(1, 600), st.integers(-100, 100)), max_size=40), st.integers(-100, 100))
def test_nothing_waits_longer_than_its_points_are_worth(others: list[tuple[int, int]], points: int) -> None:
    """A bound on the wait: whoever comes so much later stands behind, however urgent."""
    priorities = Priorities()
    slowest = priorities.base + priorities.large_penalty + points
    quickest = priorities.base - priorities.small_bonus + min((own for _, own in others), default=0)
    bound_s = max(0.0, (slowest - quickest) * priorities.ageing_s)
    mine = priorities.rank(slowest, 0.0)
    for size_mb, own in others:
        came_at = bound_s + 1.0
        theirs = priorities.rank(priorities.priority(size_mb * 1_000_000) + own, came_at)
        assert mine < theirs


# -- looking past the first --------------------------------------------------------------------------------------------


def test_of_the_first_forty_in_line_the_first_that_may_start_is_given(queue: TaskQueue) -> None:
    for number in range(1, 61):
        queue.add(video(number))
    queue.commit()
    asked: list[tuple[int, int]] = []

    def may(task: Task, head: Task) -> bool:
        asked.append((task.id, head.id))
        return task.id == 35

    found = queue.ready(may)
    assert found is not None
    assert found.id == 35
    assert asked == [(number, 1) for number in range(1, 36)]
    queue.claim(found, 1)
    queue.commit()
    assert queue.ready(lambda task, head: task.id == 42) is None  # the 41st that waits
    assert not queue.is_unread
    again = queue.ready()
    assert again is not None
    assert again.id == 1


def test_while_none_may_start_the_queue_has_nothing_to_say_until_it_is_asked_again_or_changed(
    queue: TaskQueue,
) -> None:
    for number in range(1, 4):
        queue.add(video(number))
    queue.commit()
    assert queue.is_unread
    assert queue.ready(lambda task, head: False) is None
    assert not queue.is_unread
    queue.add(video(9))
    queue.commit()
    assert queue.is_unread


def test_what_could_start_is_counted_by_batch_and_options_without_what_waits(queue: TaskQueue) -> None:
    queue.add_batch(1, "class", "folder")
    for number in range(1, 5):
        queue.add(
            video(number), batch=1 if number > 1 else None, options='{"parallel":[2,"x"]}' if number == 4 else "{}"
        )
    queue.commit()
    assert sorted(queue.in_line(10)) == [(0, "{}", 1), (1, '{"parallel":[2,"x"]}', 1), (1, "{}", 2)]
    assert sum(count for _, _, count in queue.in_line(2)) == 2
    queue.leave_out(frozenset({1}))
    assert queue.in_line(10) == [(0, "{}", 1)]
