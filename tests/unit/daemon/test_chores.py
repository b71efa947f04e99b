"""What ended tasks leave at a service, with a real queue and a worker in a thread."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.waiting import eventually

from gsvrd.clock import ManualClock
from gsvrd.daemon.chores import PAUSE_S, Chores
from gsvrd.daemon.supervisor import AfterCommit, Timers
from gsvrd.errors import ErrorFacts, ErrorKind, Snooze, TaskError
from gsvrd.model import REMOTE_STAGE, NewTask, OutcomeKind, Task
from gsvrd.pool.inline import InlinePool
from gsvrd.pool.messages import Assign, Finished
from gsvrd.pool.worker import Desk
from gsvrd.store.opening import open_database
from gsvrd.store.queue import TaskQueue

LOST = ErrorFacts(ErrorKind.ANSWER, "no use")


@dataclass
class Rig:
    """The loop is the test's."""

    folder: Path
    clock: ManualClock = field(default_factory=ManualClock)
    done: list[tuple[int, bytes]] = field(default_factory=list)
    """Chores, by the worker's own word."""
    trouble: list[Exception] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.db = open_database(self.folder / "gsvrd.db", create=True)
        self.queue = TaskQueue(self.db, self.clock)
        self.timers, self.after_commit = Timers(self.clock), AfterCommit()
        self.pool = InlinePool(lambda: self._work, self.clock)
        self.pool.resize(1)
        self.chores = Chores(self.queue, self.pool, self.clock, self.after_commit, self.timers.later)
        eventually(lambda: self.pool.events() or self.pool.free())

    def _work(self, assign: Assign, desk: Desk) -> Finished:
        assert assign.is_chore
        self.done.append((assign.task, assign.kept[REMOTE_STAGE]))
        if self.trouble:
            raise self.trouble.pop(0)
        return Finished(assign.task, assign.attempt)

    def turn(self) -> None:
        self.timers.run_due()
        for event in self.pool.events():
            self.chores.hear(event)
        self.chores.dispatch()
        self.commit()

    def commit(self) -> None:
        self.queue.commit()
        self.after_commit.run()

    def rest(self) -> None:
        """Turn until no chore is under way and none may start."""

        def quiet() -> bool:
            self.turn()
            return self.pool.free() == 1 and not self.queue.journalled and not self.after_commit

        for _ in range(3):
            eventually(quiet)

    def started(self, name: str = "a", *, kept: bool = True) -> Task:
        self.queue.add(NewTask(os.fsencode(f"/in/{name}"), name, 1, zlib.crc32(name.encode()), 10, 7))
        self.commit()
        task = self.queue.ready()
        assert task is not None
        self.queue.claim(task, worker=1)
        self.commit()
        if kept:
            self.queue.keep(task.id, 1, REMOTE_STAGE, name.encode())
        self.queue.keep(task.id, 1, "probe", b"{}")
        self.commit()
        return task

    def failed(self, name: str = "a") -> Task:
        task = self.started(name)
        self.queue.fail(task.id, 1, OutcomeKind.FAILED, LOST)
        self.commit()
        return task

    def stages(self) -> list[tuple[int, str]]:
        return [tuple(row) for row in self.db.execute("SELECT task, stage FROM stages ORDER BY task, stage")]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.pool.close()


def test_what_a_failed_task_left_is_taken_away_once(rig: Rig) -> None:
    rig.rest()
    task = rig.failed()
    assert rig.stages() == [(task.id, REMOTE_STAGE)], "only this is kept of an ended task"
    rig.rest()
    assert rig.done == [(-task.id, b"a")]
    assert rig.stages() == []


def test_what_a_replaced_task_left_is_taken_away(rig: Rig) -> None:
    task = rig.started()
    rig.rest()
    assert rig.done == [], "nobody touches what a running task needs"
    rig.queue.cancel(task.id, "replaced")
    rig.commit()
    rig.rest()
    assert rig.done == [(-task.id, b"a")]
    assert rig.stages() == []


def test_what_a_task_left_that_an_operator_has_cancelled_is_taken_away(rig: Rig) -> None:
    task = rig.started()
    rig.rest()
    other = TaskQueue(open_database(rig.folder / "gsvrd.db", create=False), rig.clock, actor="gsvrctl")
    other.cancel(task.id, "a person")
    other.commit()
    rig.queue.look()
    rig.rest()
    assert rig.done == [(-task.id, b"a")]


def test_a_worker_that_has_deleted_its_file_leaves_no_chore(rig: Rig) -> None:
    task = rig.started()
    rig.queue.forget(task.id, 1, REMOTE_STAGE)
    rig.queue.complete(task.id, 1)
    rig.commit()
    rig.rest()
    assert rig.done == []
    assert rig.stages() == []


def test_what_an_older_attempt_says_is_forgotten_stays(rig: Rig) -> None:
    task = rig.started()
    rig.queue.forget(task.id, 0, REMOTE_STAGE)
    rig.commit()
    assert (task.id, REMOTE_STAGE) in rig.stages()


@pytest.mark.parametrize("trouble", [TaskError(ErrorKind.NETWORK, "no way out"), Snooze(3.0, "not now")])
def test_a_chore_that_failed_is_tried_again_after_a_pause_that_grows(rig: Rig, trouble: Exception) -> None:
    rig.trouble = [trouble, trouble]
    task = rig.failed()
    rig.rest()
    assert len(rig.done) == 1
    rig.clock.advance(PAUSE_S + 1)
    rig.rest()
    assert len(rig.done) == 2
    rig.clock.advance(PAUSE_S + 1)
    rig.rest()
    assert len(rig.done) == 2
    rig.clock.advance(PAUSE_S)
    rig.rest()
    assert rig.done == [(-task.id, b"a")] * 3
    assert rig.stages() == []


def test_one_chore_that_cannot_be_done_does_not_bar_the_others(rig: Rig) -> None:
    first, second = rig.failed("a"), rig.failed("b")
    rig.trouble = [TaskError(ErrorKind.REQUEST, "never")]
    rig.rest()
    rig.clock.advance(PAUSE_S + 1)
    rig.rest()
    assert [task for task, _ in rig.done] == [-first.id, -second.id, -first.id]


def test_a_task_that_is_tried_again_gets_what_it_had_left(rig: Rig) -> None:
    task = rig.failed()
    rig.queue.requeue(task.id, "a person")
    rig.commit()
    rig.rest()
    assert rig.done == []
    assert rig.queue.kept(task.id) == {REMOTE_STAGE: b"a"}


def test_what_a_dead_daemon_had_not_come_to_is_done_at_the_next_start(rig: Rig, tmp_path: Path) -> None:
    task = rig.failed()
    rig.pool.close()
    again = Rig(tmp_path)
    assert again.queue.kept_everywhere(REMOTE_STAGE) == [], "no live task wants it"
    again.queue.recover()
    again.commit()
    again.rest()
    again.pool.close()
    assert again.done == [(-task.id, b"a")]


def test_what_a_dead_daemon_had_in_hand_is_known_by_its_content(rig: Rig) -> None:
    running, _, done = rig.started("a"), rig.started("b"), rig.started("c")
    for task in (running, done):
        rig.queue.know(task.id, 1, task.name * 64)
    rig.queue.complete(done.id, 1)
    rig.commit()
    assert rig.queue.contents_running() == ["a" * 64]
