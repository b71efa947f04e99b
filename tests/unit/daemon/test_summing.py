"""When a batch is summed up: when it has come to rest, again when it was re-opened, and after a crash."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.waiting import eventually

from gsvrd.clock import ManualClock
from gsvrd.daemon.filing import Filing
from gsvrd.daemon.summing import AFTER_FAILURE_S, PAUSE_RATIO, SLACK_S, SUMMED_UNTIL, TROUBLE, Summing
from gsvrd.daemon.supervisor import Timers
from gsvrd.errors import ErrorFacts, ErrorKind
from gsvrd.model import NewTask, OutcomeKind, Task
from gsvrd.reports.summary_files import write_summary
from gsvrd.store.opening import open_database
from gsvrd.store.queue import TaskQueue

ERROR = ErrorFacts(ErrorKind.UNREADABLE, "broken", "Convert it.")


class Class:
    """The loop, the queue and the database around the summing, with batches 1 and 2 (folders) and 3 (loose)."""

    def __init__(self, home: Path) -> None:
        self.clock = ManualClock()
        self.path, self.reports = home / "gsvrd.db", home / "reports"
        self.reports.mkdir()
        self.db = open_database(self.path, create=True)
        self.queue = TaskQueue(self.db, self.clock)
        for number, (name, kind) in enumerate([("Algebra", "folder"), ("Biology", "folder"), ("Monday", "loose")], 1):
            self.queue.add_batch(number, name, kind)
        self.queue.commit()
        self.open()

    def open(self) -> None:
        """A daemon starts."""
        self.timers = Timers(self.clock)
        self.summing = Summing(
            conn=self.db,
            database=self.path,
            reports=self.reports,
            language="auto",
            filing=Filing(lambda: None, "summing"),
            clock=self.clock,
            later=self.timers.later,
            remember=self.queue.set_service,
        )
        self.summing.restore(self.queue.service(SUMMED_UNTIL))
        eventually(self.summing.collect)
        self.queue.commit()

    def add(self, name: str, batch: int | None = 1) -> int:
        number = self.db.execute("SELECT coalesce(max(id), 0) + 1 FROM tasks").fetchone()[0]
        self.queue.add(NewTask(f"/inbox/{name}".encode(), name, 1, number, 5, 7), batch=batch)
        self.queue.commit()
        return int(number)

    def end(self, *, fails: bool = False, heard: bool = True) -> Task:
        """The next task in line ends; it is heard of, or the daemon dies before."""
        task = self.queue.ready()
        assert task is not None
        self.queue.claim(task, worker=9)
        self.queue.reserve(task.id, task.attempt + 1, f"{task.name}.md")
        if fails:
            self.queue.fail(task.id, task.attempt + 1, OutcomeKind.FAILED, ERROR)
        else:
            self.queue.complete(task.id, task.attempt + 1)
        self.queue.commit()
        if heard:
            self.summing.note_ended(task.batch)
        return task

    def settle(self) -> None:
        eventually(lambda: self.summing.collect() or not self.summing.filing.open)
        self.queue.commit()

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.timers.run_due()
        self.settle()

    def summary(self, folder: str = "Algebra") -> dict[str, Any] | None:
        path = self.reports / folder / "_summary.json"
        found: dict[str, Any] | None = json.loads(path.read_bytes()) if path.exists() else None
        return found

    def total(self, folder: str = "Algebra") -> int | None:
        found = self.summary(folder)
        return None if found is None else int(found["total"])


@pytest.fixture
def school(tmp_path: Path) -> Iterator[Class]:
    made = Class(tmp_path)
    yield made
    made.summing.close()
    made.db.close()


def test_a_batch_is_summed_up_when_nothing_of_it_is_left_to_do(school: Class) -> None:
    school.add("a.mp4")
    school.add("b.mp4")
    school.end()
    school.settle()
    assert school.total() is None
    school.end(fails=True)
    school.settle()
    found = school.summary()
    assert found is not None
    assert (found["completed"], found["failed"]) == (1, 1)
    assert {path.name for path in (school.reports / "Algebra").iterdir()} == {
        "_summary.json",
        "_summary.md",
        "_summary.svg",
    }


def test_batches_do_not_wait_for_each_other(school: Class) -> None:
    school.add("a.mp4")
    school.end()
    school.add("b.mp4", 2)
    school.settle()
    assert (school.total("Algebra"), school.total("Biology")) == (1, None)


def test_a_batch_that_was_opened_again_is_summed_up_again(school: Class) -> None:
    for total in (1, 2, 3):
        school.add(f"{total}.mp4")
        school.end()
        school.settle()
        assert school.total() == total


def test_a_task_tried_again_is_counted_anew(school: Class) -> None:
    task = school.add("a.mp4")
    school.end(fails=True)
    school.settle()
    school.queue.requeue(task, "again")
    school.queue.commit()
    school.summing.look_again()
    school.end()
    school.settle()
    found = school.summary()
    assert found is not None
    assert (found["completed"], found["failed"], found["retries"]) == (1, 0, 1)


def test_the_last_task_may_be_cancelled_by_another_process(school: Class) -> None:
    school.add("a.mp4")
    last = school.add("b.mp4")
    school.end()
    with school.db:
        school.db.execute("UPDATE tasks SET state = 'cancelled' WHERE id = ?", (last,))
    school.settle()
    assert school.total() is None
    school.summing.look_again()
    school.settle()
    found = school.summary()
    assert found is not None
    assert (found["completed"], found["cancelled"]) == (1, 1)


def test_of_one_loose_video_its_report_says_it_all(school: Class) -> None:
    school.add("a.mp4", 3)
    school.end()
    school.settle()
    assert list(school.reports.iterdir()) == []
    school.add("b.mp4", 3)
    school.end()
    school.settle()
    assert school.total("_batches/Monday") == 2


def test_a_task_without_a_batch_is_no_trouble(school: Class) -> None:
    school.add("a.mp4", None)
    school.end()
    school.settle()
    assert list(school.reports.iterdir()) == []


def test_what_a_daemon_that_died_had_not_summed_up_is_made_up_for(school: Class) -> None:
    school.add("a.mp4")
    school.end(heard=False)
    school.summing.close()
    school.open()
    school.settle()
    assert school.total() == 1
    # And after that it has been: nothing is due when another daemon starts much later.
    (school.reports / "Algebra" / "_summary.json").unlink()
    school.pass_time(10 * SLACK_S)
    school.add("b.mp4", 2)
    school.end()
    school.settle()
    school.summing.close()
    school.open()
    school.settle()
    assert (school.total(), school.total("Biology")) == (None, 1)


def test_what_waits_to_be_summed_up_is_not_forgotten_for_another(school: Class) -> None:
    school.add("a.mp4")
    school.add("later.mp4")
    school.end()
    school.pass_time(10 * SLACK_S)
    with school.db:  # it will not be heard of: the daemon dies
        school.db.execute("UPDATE tasks SET state = 'cancelled' WHERE name = 'later.mp4'")
    school.add("b.mp4", 2)
    school.end()
    school.settle()
    assert (school.total(), school.total("Biology")) == (None, 1)
    school.summing.close()
    school.open()
    school.settle()
    assert school.total() == 2


def test_summaries_get_no_more_than_a_twentieth_of_the_time(school: Class, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*values: Any) -> Path:
        school.clock.advance(2.0)
        return write_summary(*values)

    monkeypatch.setattr("gsvrd.daemon.summaries.write_summary", write)
    school.add("1.mp4")
    school.end()
    school.settle()
    for number in (2, 3, 4):
        school.add(f"{number}.mp4")
        school.end()
        school.settle()
        assert school.total() == 1
    school.pass_time(2.0 * PAUSE_RATIO - 1)
    assert school.total() == 1
    school.pass_time(2)
    assert school.total() == 4


def test_trouble_is_shown_and_tried_again_and_stops_nothing(school: Class) -> None:
    in_the_way = school.reports / "Algebra"
    in_the_way.write_text("mine")
    school.add("a.mp4")
    school.end()
    school.settle()
    told = school.queue.service(TROUBLE)
    assert isinstance(told, dict)
    assert (told["batch"], told["at"]) == (1, school.clock.wall())
    assert "a link or file stands where a folder should be" in told["reason"]
    school.add("b.mp4", 2)
    school.end()
    school.settle()
    in_the_way.unlink()
    school.pass_time(AFTER_FAILURE_S - 1)
    assert school.total() is None
    school.pass_time(2)
    school.pass_time(1)
    assert (school.total(), school.total("Biology")) == (1, 1)
    assert school.queue.service(TROUBLE) is None


def test_a_fault_in_a_summary_does_not_end_the_daemon(school: Class, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(*_: Any) -> Path:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("gsvrd.daemon.summaries.write_summary", fault)
    school.add("a.mp4")
    school.end()
    school.settle()
    told = school.queue.service(TROUBLE)
    assert isinstance(told, dict)
    assert told["reason"] == "ZeroDivisionError: oh"


def test_a_database_that_does_not_answer_ends_nothing(school: Class) -> None:
    school.add("a.mp4")
    school.summing.conn = sqlite3.connect(":memory:")
    school.end()
    school.settle()
    assert school.total() is None
    school.summing.conn = school.db
    school.summing.look_again()
    school.settle()
    assert school.total() == 1


def test_what_is_not_remembered_is_read_from_the_reports(school: Class) -> None:
    text = '---\ntitle: "Wellen"\nlanguage: "en"\n---\n\n# Wellen\n\n## Key terms\n\n- **Crest** – top (0:00:01)\n'
    (school.reports / "a.mp4.md").write_text(text)
    school.add("a.mp4")
    school.end()
    school.settle()
    found = school.summary()
    assert found is not None
    assert found["lessons"][0]["title"] == "Wellen"
    assert found["glossary"] == [{"term": "Crest", "meaning": "top", "reports": ["a.mp4.md"]}]
