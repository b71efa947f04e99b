from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.intakes import put

from gsvrd.clock import ManualClock
from gsvrd.errors import ErrorFacts, ErrorKind, StateError
from gsvrd.intake.identity import Identity
from gsvrd.model import Home, NewTask, OutcomeKind, Task
from gsvrd.store.opening import open_database
from gsvrd.store.operating import Answer, Operator, operator
from gsvrd.store.queue import TaskQueue

NETWORK = ErrorFacts(ErrorKind.NETWORK, "no connection", "Look at the cable.")
BROKEN = ErrorFacts(ErrorKind.UNREADABLE, "broken", "Convert it.")


@dataclass
class Desk:
    """A queue as the daemon has it, with files, and the operator's way in."""

    inbox: Path
    database: Path
    db: sqlite3.Connection
    queue: TaskQueue

    def add(self, name: str) -> int:
        path = self.inbox / name
        if not path.exists():
            put(path, name.encode())
        found = Identity.of(os.lstat(path))
        self.queue.add(NewTask(os.fsencode(path), name, found.dev, found.ino, found.size, found.mtime_ns))
        self.queue.commit()
        return int(self.db.execute("SELECT max(id) FROM tasks").fetchone()[0])

    def claim(self, task: int) -> Task:
        while (ready := self.queue.ready()) is not None:
            if ready.id == task:
                self.queue.claim(ready, worker=99)
                self.queue.commit()
                return ready
        raise AssertionError(f"task {task} is not in line")

    def complete(self, name: str) -> int:
        task = self.add(name)
        self.claim(task)
        self.queue.complete(task, 1)
        self.queue.moved(task, Home.ARCHIVE)
        self.queue.commit()
        return task

    def fail(self, name: str, error: ErrorFacts = BROKEN) -> int:
        task = self.add(name)
        self.claim(task)
        self.queue.fail(task, 1, OutcomeKind.FAILED, error, death=True)
        self.queue.commit()
        return task

    def cancel(self, *words: str, dry_run: bool = False) -> list[Answer]:
        with operator(self.database, dry_run=dry_run) as opened:
            return opened.cancel(words)

    def retry(self, *words: str, dry_run: bool = False) -> list[Answer]:
        with operator(self.database, dry_run=dry_run) as opened:
            return opened.retry(words)

    def row(self, task: int) -> dict[str, Any]:
        cursor = self.db.execute("SELECT * FROM tasks WHERE id = ?", [task])
        return dict(zip([column[0] for column in cursor.description], cursor.fetchone(), strict=True))

    def states(self) -> dict[int, str]:
        return dict(self.db.execute("SELECT id, state FROM tasks"))

    def everything(self) -> list[str]:
        return list(self.db.iterdump())


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    database = tmp_path / "gsvrd.db"
    opened = open_database(database, create=True)
    yield Desk(tmp_path / "inbox", database, opened, TaskQueue(opened, ManualClock()))
    opened.close()


def codes(answers: Iterable[Answer]) -> list[str]:
    return [answer.problem.code if answer.problem else "done" for answer in answers]


# -- which task is meant -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["1", "课程/第一课.mp4", "第一课.mp4"])
def test_a_task_is_named_by_its_number_its_name_or_the_end_of_its_name(desk: Desk, word: str) -> None:
    desk.add("课程/第一课.mp4")
    desk.add("课程/第二课.mp4")
    assert codes(desk.cancel(word)) == ["done"]
    assert desk.states() == {1: "cancelled", 2: "pending"}


def test_a_path_names_a_task_also_relative_to_the_working_directory(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.add("a.mp4")
    desk.add("b.mp4")
    monkeypatch.chdir(desk.inbox.parent)
    assert codes(desk.cancel(str(desk.inbox / "a.mp4"), "inbox/b.mp4")) == ["done", "done"]


def test_half_a_file_name_names_nothing(desk: Desk) -> None:
    desk.add("lecture.mp4")
    assert codes(desk.cancel("ture.mp4", "99", "9" * 30)) == ["unknown", "unknown", "unknown"]


def test_a_name_that_several_files_end_with_is_listed_and_never_guessed(desk: Desk) -> None:
    desk.add("a/x.mp4")
    desk.add("b/x.mp4")
    (answer,) = desk.cancel("x.mp4")
    assert answer.problem is not None
    assert answer.problem.code == "ambiguous"
    assert [match["name"] for match in answer.matches] == ["b/x.mp4", "a/x.mp4"]
    assert desk.states() == {1: "pending", 2: "pending"}


def test_a_whole_name_goes_before_names_that_end_with_it(desk: Desk) -> None:
    desk.add("b/x.mp4")
    desk.add("x.mp4")
    assert codes(desk.cancel("x.mp4")) == ["done"]
    assert desk.states() == {1: "pending", 2: "cancelled"}


def test_of_one_name_the_newest_task_is_meant_when_it_can_only_be_that(desk: Desk) -> None:
    desk.complete("x.mp4")
    newest = desk.add("x.mp4")
    assert codes(desk.cancel("x.mp4")) == ["done"]
    assert desk.row(newest)["state"] == "cancelled"


def test_an_old_failure_is_not_retried_by_a_name_whose_newest_task_is_completed(desk: Desk) -> None:
    old = desk.fail("x.mp4")
    desk.queue.moved(old, Home.FAILED)
    desk.queue.commit()
    desk.complete("x.mp4")
    assert codes(desk.retry("x.mp4")) == ["ambiguous"]


def test_a_task_named_twice_is_told_once(desk: Desk) -> None:
    desk.add("x.mp4")
    assert codes(desk.cancel("1", "x.mp4")) == ["done"]


# -- cancel --------------------------------------------------------------------------------------------------------------


def test_pending_and_running_tasks_are_cancelled_and_ended_ones_say_why_not(desk: Desk) -> None:
    done, failed, running, pending = desk.complete("a.mp4"), desk.fail("b.mp4"), desk.add("c.mp4"), desk.add("d.mp4")
    desk.claim(running)
    words = [str(task) for task in (done, failed, running, pending, pending)]
    assert codes(desk.cancel(*words)) == ["completed", "failed", "done", "done"]
    assert codes(desk.cancel(str(pending))) == ["cancelled"]
    attempt = desk.db.execute("SELECT outcome FROM attempts WHERE task = ?", (running,)).fetchone()
    assert attempt == ("cancelled",)
    assert desk.row(running)["home"] == "inbox"


def test_what_an_operator_does_is_on_record_as_his(desk: Desk) -> None:
    task = desk.add("a.mp4")
    desk.cancel("a.mp4")
    desk.retry("a.mp4")
    events = desk.db.execute("SELECT actor, change FROM events WHERE task = ? ORDER BY id", (task,)).fetchall()
    assert events == [("daemon", "add"), ("gsvrctl", "cancel"), ("gsvrctl", "requeue")]


def test_a_cancel_that_comes_second_says_what_came_first(desk: Desk) -> None:
    """The daemon completes the task between the operator's look and his statement."""
    task = desk.add("a.mp4")
    desk.claim(task)
    desk.db.execute("BEGIN IMMEDIATE")
    waits = threading.Event()
    answers: list[Answer] = []

    def cancel() -> None:
        db = open_database(desk.database, create=False)
        db.set_trace_callback(lambda sql: waits.set() if sql.startswith("BEGIN IMMEDIATE") else None)
        answers.extend(Operator(db, dry_run=False).cancel(["a.mp4"]))
        db.close()

    thread = threading.Thread(target=cancel)
    thread.start()
    assert waits.wait(10)
    desk.db.execute("UPDATE tasks SET state = 'completed', change = 'complete' WHERE id = ?", (task,))
    desk.db.execute("COMMIT")
    thread.join()
    assert codes(answers) == ["completed"]
    assert desk.row(task)["state"] == "completed"


# -- retry ---------------------------------------------------------------------------------------------------------------


def test_a_retried_task_begins_from_the_start(desk: Desk) -> None:
    task = desk.fail("a.mp4")
    before = desk.row(task)
    assert (before["spent"], before["deaths"], before["outcome"]) == (1, 1, "failed")
    assert codes(desk.retry("a.mp4")) == ["done"]
    after = desk.row(task)
    assert (after["state"], after["spent"], after["deaths"], after["error"]) == ("pending", 0, 0, None)


def test_pending_running_and_completed_tasks_are_not_retried(desk: Desk) -> None:
    done, running, pending = desk.complete("a.mp4"), desk.add("c.mp4"), desk.add("d.mp4")
    desk.claim(running)
    assert codes(desk.retry(str(done), str(running), str(pending))) == ["completed", "running", "pending"]
    assert desk.states() == {done: "completed", running: "running", pending: "pending"}


def _take_away(path: Path) -> None:
    path.unlink()


def _write_another(path: Path) -> None:
    path.write_bytes(b"something else")


def _put_a_folder_there(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("change", "code"), [(_take_away, "gone"), (_write_another, "replaced"), (_put_a_folder_there, "replaced")]
)
def test_a_task_whose_source_is_not_there_is_not_retried(desk: Desk, change: Callable[[Path], None], code: str) -> None:
    task = desk.fail("a.mp4")
    change(desk.inbox / "a.mp4")
    (answer,) = desk.retry("a.mp4")
    assert answer.problem is not None
    assert answer.problem.code == code
    assert str(desk.inbox / "a.mp4") in answer.problem.message
    assert desk.row(task)["state"] == "failed"


def test_what_was_refused_is_not_retried(desk: Desk) -> None:
    path = desk.inbox / "p.mp4"
    put(path)
    facts = ErrorFacts(ErrorKind.NOT_REGULAR, "it is a named pipe", "Drop the video itself.")
    found = Identity.of(os.lstat(path))
    new = NewTask(os.fsencode(path), "p.mp4", found.dev, found.ino, found.size, found.mtime_ns)
    desk.queue.refuse(new, facts, on_row=lambda _: None)
    desk.queue.commit()
    (answer,) = desk.retry("p.mp4")
    assert answer.problem is not None
    assert (answer.problem.code, answer.problem.hint) == ("refused", "Drop the video itself.")
    assert "named pipe" in answer.problem.message


def test_all_failed_tasks_or_those_of_one_kind_are_retried(desk: Desk) -> None:
    network, broken, lost = desk.fail("a.mp4", NETWORK), desk.fail("b.mp4"), desk.fail("c.mp4", NETWORK)
    (desk.inbox / "c.mp4").unlink()
    with operator(desk.database, dry_run=False) as opened:
        assert codes(opened.retry_failed("network")) == ["done", "gone"]
        assert desk.states() == {network: "pending", broken: "failed", lost: "failed"}
        assert codes(opened.retry_failed(None)) == ["done", "gone"]
    assert desk.states() == {network: "pending", broken: "pending", lost: "failed"}


# -- dry run, and databases that are not fit -------------------------------------------------------------------------------


def test_a_dry_run_says_the_same_and_changes_nothing(desk: Desk) -> None:
    desk.fail("a.mp4")
    desk.add("b.mp4")
    before = desk.everything()
    assert codes(desk.retry("a.mp4", "b.mp4", dry_run=True)) == ["done", "pending"]
    assert codes(desk.cancel("a.mp4", "b.mp4", dry_run=True)) == ["failed", "done"]
    assert desk.everything() == before
    assert codes(desk.retry("a.mp4", "b.mp4")) == ["done", "pending"]
    assert desk.everything() != before


def test_a_database_of_an_older_version_is_left_alone(desk: Desk) -> None:
    desk.db.execute("PRAGMA user_version = 2")
    with pytest.raises(StateError, match="older version 2"), operator(desk.database, dry_run=False):
        raise AssertionError("opened")
    assert desk.db.execute("PRAGMA user_version").fetchone() == (2,)


def test_what_a_cancelled_task_had_finished_is_forgotten_at_once_but_not_what_lies_at_a_service(desk: Desk) -> None:
    task = desk.add("a.mp4")
    desk.claim(task)
    for stage in ("probe", "upload"):
        desk.queue.keep(task, 1, stage, b"{}")
    desk.queue.commit()
    with operator(desk.database, dry_run=False) as other:
        (answer,) = other.cancel([str(task)])
    assert answer.problem is None
    assert desk.db.execute("SELECT stage FROM stages").fetchall() == [("upload",)]
