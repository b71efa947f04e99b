"""How far the work is: when that is looked at, what is told, and the files that tell it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.waiting import eventually

from gsvrd.clock import ManualClock
from gsvrd.daemon import progress_file
from gsvrd.daemon.filing import Filing
from gsvrd.daemon.observing import Observer
from gsvrd.daemon.outlook import PROGRESS, UNSEEN, Allowance, Outlook, Seen
from gsvrd.daemon.progress_file import ProgressFile
from gsvrd.daemon.progressing import AGAIN_S, LEAST_S, PAUSE_RATIO, Progressing
from gsvrd.daemon.supervisor import Timers
from gsvrd.errors import ErrorFacts, ErrorKind
from gsvrd.model import NewTask, OutcomeKind, Task
from gsvrd.policy.limiter import Call, Lane
from gsvrd.policy.spending import Usage
from gsvrd.store.ledger import Ledger
from gsvrd.store.opening import open_database
from gsvrd.store.queue import TaskQueue
from gsvrd.store.standing import Standing

Json = dict[str, Any]


class Table:
    """The loop, the queue and the files around it; the workers are the test's."""

    def __init__(self, home: Path) -> None:
        self.reports = home / "reports"
        self.reports.mkdir()
        self.clock = ManualClock()
        self.database = home / "gsvrd.db"
        self.db = open_database(self.database, create=True)
        self.outlook = Outlook(self.reports, "local", workers=2)
        self.ids = iter(range(1, 100_000))
        self.open()

    def open(self) -> None:
        """A daemon starts."""
        self.timers = Timers(self.clock)
        self.queue = TaskQueue(self.db, self.clock)
        self.looks = 0
        self.observer = Observer(self.database)
        self.progressing = Progressing(
            look=self.look,
            outlook=self.outlook,
            filing=Filing(lambda: None, "progress"),
            clock=self.clock,
            later=self.timers.later,
            remember=self.queue.set_service,
        )
        self.queue.set_service("run", {"state": "running", "reason": "", "since": 0.0, "pid": 1})
        self.queue.commit()
        self.progressing.changed()
        self.settle()

    def look(self, now: float, outlook: Outlook) -> Seen:
        self.looks += 1
        return self.observer.look(now, outlook)

    def commit(self) -> None:
        statements = self.queue.journalled
        self.queue.commit()
        self.progressing.note(statements)

    def settle(self) -> None:
        """Turn until nothing is under way; what waits for a time goes on waiting."""

        def quiet() -> bool:
            self.timers.run_due()
            self.progressing.collect()
            self.commit()
            return not (self.progressing.filing.open or self.queue.journalled)

        eventually(quiet)

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.settle()

    def tell(self) -> None:
        """What was done is committed, the loop has said so, and the second is over."""
        self.queue.commit()
        self.progressing.changed()
        self.settle()
        self.pass_time(LEAST_S)

    # -- work --------------------------------------------------------------------------------------------------------

    def batch(self, number: int, name: str = "Physics") -> int:
        self.queue.add_batch(number, name, "folder")
        return number

    def add(self, batch: int | None = None, size: int = 10**8, **options: Any) -> int:
        ino = next(self.ids)
        said = msgspec.json.encode({name: [value, "the test"] for name, value in options.items()}).decode()
        new = NewTask(f"/inbox/{ino}.mp4".encode(), f"{ino}.mp4", 1, ino, size, 1)
        self.queue.add(new, batch=batch, options=said)
        self.queue.commit()
        return int(self.db.execute("SELECT max(id) FROM tasks").fetchone()[0])

    def begin(self) -> Task:
        task = self.queue.ready()
        assert task is not None
        self.queue.claim(task, worker=7)
        self.queue.commit()
        return task

    def do(self, seconds: float = 60.0, count: int = 1) -> None:
        for _ in range(count):
            task = self.begin()
            self.clock.advance(seconds)
            self.queue.complete(task.id, task.attempt + 1)
            self.queue.commit()

    # -- what is told ------------------------------------------------------------------------------------------------

    @property
    def row(self) -> Json:
        found = self.queue.service(PROGRESS)
        assert isinstance(found, dict)
        return found

    def told(self, number: int) -> Json:
        return next(one for one in self.row["batches"] if one["id"] == number)

    def file(self, name: str = "p.json") -> Json:
        """As it lies there, held against what is promised of it."""
        data = (self.reports / name).read_bytes()
        checked = msgspec.json.decode(data, type=ProgressFile)
        found: Json = json.loads(data)
        assert msgspec.to_builtins(checked) == found
        return found


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    made = Table(tmp_path)
    yield made
    made.progressing.close()
    made.db.close()


# -- when ----------------------------------------------------------------------------------------------------------------


def test_nothing_to_tell_wakes_nobody_and_writes_nothing(table: Table) -> None:
    table.pass_time(10.0)
    looks, changed = table.looks, table.db.total_changes
    table.pass_time(86_400.0)
    assert (table.looks, table.db.total_changes, table.timers.next()) == (looks, changed, None)


def test_a_change_is_told_and_its_own_row_is_none(table: Table) -> None:
    table.pass_time(10.0)
    looks = table.looks
    table.add()
    table.progressing.note(1)
    table.settle()
    table.pass_time(10.0)
    assert table.looks == looks + 1
    assert table.row["overall"]["counts"]["pending"] == 1


def test_it_looks_once_a_second_at_most_and_the_last_change_is_told(table: Table) -> None:
    table.pass_time(10.0)
    looks = table.looks
    for _ in range(50):
        table.add()
        table.progressing.note(1)
        table.settle()
    assert table.looks == looks + 1
    table.pass_time(LEAST_S)
    assert (table.looks, table.row["overall"]["counts"]["pending"]) == (looks + 2, 50)
    assert table.timers.next() is None


def test_what_others_wrote_in_the_same_turn_is_not_taken_for_its_own(table: Table) -> None:
    table.pass_time(10.0)
    looks = table.looks
    table.progressing.changed()
    eventually(table.progressing.collect)
    table.queue.set_service("machine", {})
    table.commit()
    table.pass_time(LEAST_S)
    assert table.looks == looks + 2


def test_a_look_that_takes_long_is_followed_by_a_longer_pause(table: Table) -> None:
    table.pass_time(10.0)
    looks = table.looks
    table.progressing.changed()
    table.clock.advance(2.0)  # while it is under way
    table.settle()
    table.progressing.changed()
    table.pass_time(2.0 * PAUSE_RATIO - 1.0)
    assert table.looks == looks + 1
    table.pass_time(1.0)
    assert table.looks == looks + 2


def test_a_database_that_cannot_be_read_is_looked_at_again(table: Table) -> None:
    table.pass_time(10.0)
    before, good = table.row, table.look
    table.progressing.look = lambda now, outlook: UNSEEN
    table.add()
    table.tell()
    assert table.row == before
    table.progressing.look = good
    table.pass_time(AGAIN_S)
    assert table.row["overall"]["counts"]["pending"] == 1


# -- what ----------------------------------------------------------------------------------------------------------------


def test_counts_and_an_end_are_told_for_all_and_for_each_open_batch(table: Table) -> None:
    first, second = table.batch(1), table.batch(2, "Chemistry")
    for batch in (first, first, first, first, second, second, None):
        table.add(batch)
    table.do(count=4)
    running = table.begin()
    table.queue.progress(running.id, 1, "slides", 0.5)
    table.tell()
    overall = table.row["overall"]
    assert overall["counts"] == {"total": 3, "pending": 2, "running": 1, "completed": 0, "failed": 0, "cancelled": 0}
    assert [one["id"] for one in table.row["batches"]] == [second]
    assert table.told(second)["counts"]["running"] == 1
    performance = overall["performance"]
    assert performance["mean_s"] == pytest.approx(60.0)
    assert 30.0 < performance["remaining_s"]["p50"] < 300.0
    finish = performance["finish_at"]
    assert finish["p10"] <= finish["p50"] <= finish["p90"]
    assert finish["p50"] == pytest.approx(table.row["at"] + performance["remaining_s"]["p50"], abs=0.2)
    assert table.told(second)["state"] == "RUNNING"


def test_too_few_successes_make_no_end_up(table: Table) -> None:
    table.add()
    table.tell()
    performance = table.row["overall"]["performance"]
    assert (performance["finish_at"], performance["binding"]["bound"]) == (None, "unseen")


def test_what_an_earlier_daemon_has_seen_is_learned_from(table: Table) -> None:
    for _ in range(6):
        table.add()
    table.do(count=5)
    table.progressing.close()
    table.open()
    assert table.row["overall"]["performance"]["mean_s"] == pytest.approx(60.0)
    assert table.row["overall"]["performance"]["finish_at"] is not None


def test_a_pause_leaves_the_end_open_and_says_so(table: Table) -> None:
    table.batch(1)
    for _ in range(5):
        table.add(1)
    table.do(count=4)
    table.queue.set_service("run", {"state": "paused", "reason": "paused by a person"})
    table.tell()
    performance = table.row["overall"]["performance"]
    assert performance["finish_at"] is None
    assert performance["binding"] == {"bound": "paused", "reason": "paused by a person", "until": None}
    assert table.told(1)["state"] == "PAUSED"


def test_a_closed_door_leaves_the_end_open_and_says_so(table: Table) -> None:
    for _ in range(5):
        table.add()
    table.do(count=4)
    table.queue.set_service("doors", {"service-budget": {"reason": "the cost limit is reached", "since": 0.0}})
    table.tell()
    assert table.row["overall"]["performance"]["binding"]["bound"] == "cost"


def test_a_batch_that_is_held_has_no_end_and_is_in_nobodys_way(table: Table) -> None:
    held, other = table.batch(1), table.batch(2, "Chemistry")
    for batch in (held, held, other, other, other, other, other):
        table.add(batch)
    table.queue.hold_batch(held, "the cost limit for the batch is $1.00")
    table.queue.commit()
    table.do(count=4)
    table.tell()
    assert table.told(held)["state"] == "PAUSED"
    assert table.told(held)["performance"]["binding"]["bound"] == "cost"
    assert table.told(held)["performance"]["finish_at"] is None
    assert table.told(other)["performance"]["finish_at"] is not None
    assert table.row["overall"]["held"] == 2
    table.do()
    table.tell()
    assert table.row["overall"]["performance"]["finish_at"] is None
    assert "cost limit" in table.row["overall"]["performance"]["binding"]["reason"]


def test_what_waits_for_a_time_ends_after_it(table: Table) -> None:
    for _ in range(5):
        table.add()
    table.do(count=4)
    task = table.begin()
    table.queue.release(task.id, 1, "quota", OutcomeKind.SNOOZED, delay_s=7200.0)
    table.tell()
    performance = table.row["overall"]["performance"]
    assert performance["remaining_s"]["p10"] > 7000.0
    assert performance["binding"]["bound"] == "retry"


def test_the_days_that_a_quota_leaves_are_counted(table: Table) -> None:
    for _ in range(14):
        table.add()
    table.do(count=4)
    ledger = Ledger(table.db, table.clock, table.queue.note)
    for task in range(1, 5):
        permit = ledger.reserve(Call(task, 1, Lane.GENERATE, "p", "m"), 0)
        ledger.sent(permit)
        ledger.settle(permit, "ok", Usage(1, 1), 10)
    days = Allowance("p", "m", requests_per_day=6)
    table.progressing.outlook = replace(table.outlook, allowance=days)
    table.tell()
    performance = table.row["overall"]["performance"]
    day_ends = ledger.today().ends_at
    # Two more today, six tomorrow, the last two on the day after.
    assert performance["finish_at"]["p10"] > day_ends + 86_400.0
    assert performance["finish_at"]["p90"] < day_ends + 2 * 86_400.0
    assert performance["binding"] == {
        "bound": "quota",
        "reason": "6 requests per day",
        "until": day_ends + 86_400.0,
    }
    table.progressing.outlook = replace(table.outlook, allowance=Allowance("p", "m", cost_total=50))
    table.tell()
    assert table.row["overall"]["performance"]["binding"]["bound"] == "cost"


def test_a_long_line_is_read_in_groups_and_counted_whole(table: Table) -> None:
    for number in range(500):
        table.add(size=(number % 50 + 1) << 22)
    table.do(count=5)
    table.tell()
    waiting = Standing(table.db).waiting("local")
    assert sum(one.count for one in waiting) == 495
    assert sum(one.size_bytes * one.count for one in waiting) == pytest.approx(
        sum((number % 50 + 1) << 22 for number in range(500)), rel=0.02
    )
    assert len(waiting) < 64 + 20
    assert table.row["overall"]["counts"]["pending"] == 495


# -- files ---------------------------------------------------------------------------------------------------------------


def test_a_batch_tells_its_file_from_the_first_video_to_the_last(table: Table) -> None:
    table.batch(1)
    for _ in range(3):
        table.add(1, progress_file="sub/p.json")
    table.tell()
    first = table.file("sub/p.json")
    assert (first["status"], first["counts"]["pending"]) == ("INITIALIZING", 3)
    running = table.begin()
    table.queue.progress(running.id, 1, "slides", 0.25)
    table.tell()
    second = table.file("sub/p.json")
    assert second["status"] == "RUNNING"
    (worker,) = second["workers"]
    assert (worker["pid"], worker["stage"], worker["fraction"]) == (7, "slides", 0.25)
    table.queue.fail(running.id, 1, OutcomeKind.FAILED, ErrorFacts(ErrorKind.UNKNOWN, "no video", "Convert it."))
    table.queue.commit()
    table.do(count=2)
    table.tell()
    last = table.file("sub/p.json")
    assert (last["status"], last["workers"], last["performance"]["completion"]) == ("COMPLETED", [], 1.0)
    assert [one["seconds"] for one in last["recent"]] == [60.0, 60.0]
    assert [one["message"] for one in last["errors"]] == ["no video"]
    assert first["sequence"] < second["sequence"] < last["sequence"]
    assert table.row["batches"] == []


def test_a_batch_that_came_and_went_between_two_looks_has_its_file(table: Table) -> None:
    table.batch(1)
    table.add(1, progress_file="p.json")
    table.do()
    table.tell()
    assert table.file()["status"] == "COMPLETED"


def test_a_batch_that_ended_without_being_told_is_told_by_the_next_daemon(table: Table) -> None:
    table.batch(1)
    table.add(1, progress_file="p.json")
    table.tell()
    before = table.file()
    table.do()
    table.progressing.filing.close()  # the daemon dies
    table.open()
    after = table.file()
    assert (before["status"], after["status"]) == ("INITIALIZING", "COMPLETED")
    assert after["sequence"] > before["sequence"]


def test_a_file_is_left_alone_while_it_says_how_it_is(table: Table) -> None:
    table.batch(1)
    table.add(1, progress_file="p.json")
    table.tell()
    before = (table.reports / "p.json").stat()
    table.tell()
    assert (table.reports / "p.json").stat().st_ino == before.st_ino
    (table.reports / "p.json").unlink()
    table.tell()
    assert table.file()["sequence"] == 2


def test_the_configuration_names_the_files_of_all_batches_that_name_none(table: Table) -> None:
    table.progressing.outlook = replace(table.outlook, progress_file="{batch}.json")
    for number, name in ((1, "Physics"), (2, "../a/b")):
        table.add(table.batch(number, name))
    table.tell()
    assert table.file("Physics.json")["batch"]["name"] == "Physics"
    assert sorted(os.listdir(table.reports)) == ["Physics.json", "_a_b.json"]


def test_batches_with_one_file_take_turns_and_it_is_said(table: Table) -> None:
    for number, name in ((1, "Physics"), (2, "Chemistry")):
        table.add(table.batch(number, name), progress_file="p.json")
    table.tell()
    assert table.file()["batch"]["name"] == "Chemistry"
    (note,) = table.row["notes"]
    assert (note["batch"], "Chemistry" in note["reason"]) == ("Physics", True)


def readable(path: Path) -> None:
    path.write_text("# A report\n")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (readable, "something else has this name"),
        (lambda path: path.write_text('{"sequence": 3}'), "something else has this name"),
        (lambda path: path.mkdir(), "something else has this name"),
        (lambda path: path.symlink_to("/etc/hostname"), "something else has this name"),
    ],
    ids=["report", "json", "folder", "link"],
)
def test_what_is_no_progress_file_is_never_replaced(table: Table, spoil: Callable[[Path], object], reason: str) -> None:
    path = table.reports / "p.json"
    spoil(path)
    before = path.lstat()
    table.batch(1)
    table.add(1, progress_file="p.json")
    table.tell()
    assert [note["reason"] for note in table.row["notes"]] == [reason]
    assert (path.lstat().st_ino, path.lstat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert os.listdir(table.reports) == ["p.json"]


@pytest.mark.parametrize("name", ["a.md/p.json", "x" * 300 + ".json"])
def test_a_wrong_path_is_a_note_and_the_other_batches_are_told(table: Table, name: str) -> None:
    (table.reports / "a.md").write_text("# A report\n")
    table.add(table.batch(1), progress_file=name)
    table.add(table.batch(2, "Chemistry"), progress_file="p.json")
    table.tell()
    assert [note["batch"] for note in table.row["notes"]] == ["Physics"]
    assert table.file()["status"] == "INITIALIZING"


def test_a_file_that_could_not_be_written_is_written_when_it_can(table: Table) -> None:
    table.batch(1)
    table.add(1, progress_file="sub/p.json")
    (table.reports / "sub").write_text("in the way")
    table.do()
    table.tell()
    assert "should be" in table.row["notes"][0]["reason"]
    (table.reports / "sub").unlink()
    table.pass_time(AGAIN_S)
    assert table.file("sub/p.json")["status"] == "COMPLETED"
    table.pass_time(LEAST_S)
    assert (table.row["notes"], table.timers.next()) == ([], None)


def test_the_last_look_says_that_the_daemon_has_stopped(table: Table) -> None:
    table.batch(1)
    table.add(1, progress_file="p.json")
    table.tell()
    table.queue.set_service("run", {"state": "stopped", "reason": "stopped by a signal"})
    table.queue.commit()
    table.progressing.close()
    assert table.file()["daemon"] == "stopped"
    assert table.queue.journalled == 1


def test_the_schema_in_the_documentation_is_the_one_in_effect() -> None:
    committed = Path(__file__).parents[3] / "docs" / "progress.schema.json"
    assert committed.read_text() == progress_file.schema()
