"""What the database says of a batch, as the queue and the ledger have written it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from gsvrd.analysis import Analysis, KeyTerm
from gsvrd.clock import ManualClock
from gsvrd.errors import ErrorFacts, ErrorKind
from gsvrd.model import NewTask, OutcomeKind, Task, TaskState
from gsvrd.policy.limiter import Call, Lane
from gsvrd.policy.results import BatchFacts, Lesson, TaskFacts, Term, Trouble, Use
from gsvrd.policy.spending import Usage
from gsvrd.store import resting
from gsvrd.store.ledger import Ledger
from gsvrd.store.opening import open_database
from gsvrd.store.queue import TaskQueue
from gsvrd.store.resting import ended_since, is_open
from gsvrd.store.results import collect, open_results

ERROR = ErrorFacts(ErrorKind.UNREADABLE, "broken", "Convert it.")
WAVES = Analysis(title="Waves", language="en", duration_s=5, key_terms=(KeyTerm(term="Crest", meaning="top", at_s=1),))


class Office:
    """A queue with two batches, and what becomes of their videos."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = ManualClock()
        self.db = open_database(path, create=True)
        self.queue = TaskQueue(self.db, self.clock)
        self.queue.add_batch(1, "Algebra", "folder")
        self.queue.add_batch(2, "Biology", "folder")
        self.queue.commit()

    def add(self, name: str, batch: int | None = 1) -> None:
        number = self.db.execute("SELECT count(*) FROM tasks").fetchone()[0]
        self.queue.add(NewTask(f"/inbox/{name}".encode(), name, 1, number, 5, 7), batch=batch)
        self.queue.commit()

    def claim(self, name: str = "") -> Task:
        if name:
            self.add(name)
        task = self.queue.ready()
        assert task is not None
        self.queue.claim(task, worker=99)
        self.queue.commit()
        self.clock.advance(10)
        return task

    def study(self, name: str, key: str, analysis: Analysis | None = WAVES) -> Task:
        """The task is completed; without an analysis it took over the one on record."""
        task = self.claim(name)
        self.queue.want(task.id, 1, key)
        if analysis is not None:
            self.queue.keep(task.id, 1, "analyze", analysis.model_dump_json().encode())
        self.queue.reserve(task.id, 1, f"{name}.md")
        self.complete(task)
        return task

    def complete(self, task: Task, attempt: int = 1) -> None:
        self.queue.complete(task.id, attempt)
        self.queue.commit()
        self.clock.advance(5)

    def facts(self, batch: int = 1) -> BatchFacts:
        with open_results(self.path) as conn:
            found = collect(conn, batch, "de")
        assert found is not None
        return found

    def task(self, name: str) -> TaskFacts:
        return next(task for task in self.facts().tasks if task.name == name)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path / "gsvrd.db")
    yield made
    made.db.close()


def test_a_completed_task_has_its_report_its_attempt_and_what_it_is_about(office: Office) -> None:
    began = office.clock.wall()
    office.study("waves.mp4", "k")
    found = office.task("waves.mp4")
    assert (found.state, found.report, found.is_skipped, found.is_reused) == (
        TaskState.COMPLETED,
        "waves.mp4.md",
        False,
        False,
    )
    assert [(a.number, a.started_at, a.ended_at, a.outcome) for a in found.attempts] == [
        (1, began, began + 10, OutcomeKind.SUCCEEDED)
    ]
    assert found.lesson == Lesson("Waves", "en", (Term("Crest", "top"),))


def test_a_batch_knows_its_name_its_mark_and_its_language(office: Office) -> None:
    office.study("waves.mp4", "k")
    facts = office.facts()
    assert (facts.name, facts.kind, facts.tasks[0].language) == ("Algebra", "folder", "de")
    assert facts.mark == f"1-{int(office.db.execute('SELECT created_at FROM batches').fetchone()[0] * 1000):x}"
    with office.db:
        office.db.execute(
            "UPDATE batches SET options = ?", (msgspec.json.encode({"language": ["zh", "here"]}).decode(),)
        )
    assert office.facts().tasks[0].language == "zh"
    with office.db:
        office.db.execute("UPDATE tasks SET options = ?", (msgspec.json.encode({"language": ["fr", "row"]}).decode(),))
    assert office.facts().tasks[0].language == "fr"


def test_only_what_is_of_the_batch_is_in_it(office: Office) -> None:
    office.add("a.mp4")
    office.add("b.mp4", batch=2)
    office.add("c.mp4", batch=None)
    assert [task.name for task in office.facts().tasks] == ["a.mp4"]
    assert [task.name for task in office.facts(2).tasks] == ["b.mp4"]


def test_a_failed_task_says_why_and_names_no_report(office: Office) -> None:
    task = office.claim("a.mp4")
    office.queue.reserve(task.id, 1, "a.md")
    office.queue.fail(task.id, 1, OutcomeKind.FAILED, ERROR)
    office.queue.commit()
    found = office.task("a.mp4")
    assert (found.state, found.report) == (TaskState.FAILED, "")
    assert found.trouble == Trouble("unreadable", "broken", "Convert it.")
    assert [attempt.outcome for attempt in found.attempts] == [OutcomeKind.FAILED]


def test_every_attempt_is_there_and_one_under_way_is_not(office: Office) -> None:
    task = office.claim("a.mp4")
    office.queue.retry(task, 1, OutcomeKind.TIMED_OUT, ERROR, 0.0)
    office.queue.commit()
    office.claim()
    assert [attempt.outcome for attempt in office.task("a.mp4").attempts] == [OutcomeKind.TIMED_OUT]
    assert office.task("a.mp4").state is TaskState.RUNNING
    assert office.task("a.mp4").trouble is None  # it may well be mended yet


def test_an_analysis_taken_over_is_told_from_one_made(office: Office) -> None:
    office.study("first.mp4", "k")
    office.study("second.mp4", "k", None)
    office.study("forced.mp4", "k")  # studied anew: the one on record is its own from now on
    assert [office.task(name).is_reused for name in ("first.mp4", "second.mp4", "forced.mp4")] == [False, False, False]
    office.study("last.mp4", "k", None)
    assert [office.task(name).is_reused for name in ("first.mp4", "forced.mp4", "last.mp4")] == [False, False, True]
    assert office.task("last.mp4").lesson.title == "Waves"


def test_a_task_that_needed_no_report_names_the_one_that_serves(office: Office) -> None:
    office.study("first.mp4", "k")
    task = office.claim("second.mp4")
    office.queue.want(task.id, 1, "k")
    office.queue.reuse(task.id, 1, "first.mp4.md")
    office.complete(task)
    found = office.task("second.mp4")
    assert (found.report, found.is_skipped, found.is_reused) == ("first.mp4.md", True, False)


@pytest.mark.parametrize("result", [b"{}", b"no json", b'{"title": 7}', b"[]", b"\xff"])
def test_an_analysis_of_another_version_does_no_harm(office: Office, result: bytes) -> None:
    office.study("a.mp4", "k")
    with office.db:
        office.db.execute("UPDATE analyses SET result = ?", (result,))
    assert office.task("a.mp4").lesson == Lesson()


def test_calls_tokens_and_money_of_the_batch_are_summed_by_model(office: Office) -> None:
    ledger = Ledger(office.db, office.clock, office.queue.note)

    def call(model: str, batch: int, micro: int) -> None:
        permit = ledger.reserve(Call(1, 1, Lane.GENERATE, "p", model, 500), 900, batch)
        ledger.sent(permit)
        ledger.settle(permit, "ok", Usage(100, 20, 3), micro)
        office.queue.commit()

    call("pro", 1, 40)
    office.clock.advance(2 * 86_400)
    call("pro", 1, 2)
    call("flash", 1, 1)
    call("pro", 2, 1000)
    unsent = ledger.reserve(Call(1, 1, Lane.GENERATE, "p", "never", 500), 900, 1)
    ledger.void(unsent, "cancelled")
    office.queue.commit()
    assert sorted(office.facts().use, key=lambda use: use.model) == [Use("flash", 1, 123, 1), Use("pro", 2, 246, 42)]


def test_a_batch_is_open_while_something_waits_or_runs(office: Office) -> None:
    assert not is_open(office.db, 1)
    office.add("a.mp4")
    office.add("b.mp4", batch=2)
    assert is_open(office.db, 1)
    task = office.claim()
    assert is_open(office.db, 1)
    office.complete(task)
    assert not is_open(office.db, 1)
    assert is_open(office.db, 2)


def test_asking_whether_a_batch_is_open_is_a_step_into_an_index(office: Office) -> None:
    plan = office.db.execute(f"EXPLAIN QUERY PLAN {resting._OPEN}", (1,)).fetchall()
    assert [row[3] for row in plan] == ["SEARCH tasks USING COVERING INDEX tasks_batch (batch=? AND state=?)"]


def test_what_has_ended_since_is_known_by_batch(office: Office) -> None:
    office.complete(office.claim("a.mp4"))
    office.clock.advance(100)
    since = office.clock.wall()
    office.add("b.mp4", batch=2)
    task = office.claim()
    office.queue.fail(task.id, 1, OutcomeKind.FAILED, ERROR)
    office.add("c.mp4", batch=None)
    office.queue.commit()
    office.complete(office.claim())
    assert sorted(ended_since(office.db, 0.0)) == [1, 2]
    assert ended_since(office.db, since) == [2]


def test_there_are_no_facts_of_a_batch_that_does_not_exist(office: Office) -> None:
    with open_results(office.path) as conn:
        assert collect(conn, 9, "auto") is None


def test_what_is_read_is_of_one_moment_and_nothing_can_be_written(office: Office) -> None:
    office.add("a.mp4")
    with open_results(office.path) as conn:
        assert len(getattr(collect(conn, 1, "auto"), "tasks", ())) == 1
        office.add("b.mp4")
        assert len(getattr(collect(conn, 1, "auto"), "tasks", ())) == 1
        with pytest.raises(sqlite3.OperationalError):
            conn.execute("DELETE FROM tasks")
    assert len(office.facts().tasks) == 2
