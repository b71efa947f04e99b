"""After a snapshot was restored: what has ended since is known by its files, and nothing is done twice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.house import House

from gsvrd.config.models import Config
from gsvrd.daemon.reconciling import after_restore
from gsvrd.model import TaskState
from gsvrd.store.checkpoints import CheckpointManager
from gsvrd.store.opening import last_restored, open_database
from gsvrd.store.reading import Reading


def snapshot(house: House) -> str:
    return manager(house).create("test").name


def manager(house: House) -> CheckpointManager:
    return CheckpointManager(house.config.state / "gsvrd.db", house.clock.wall)


def go_back(house: House, name: str) -> None:
    """The daemon ends, the snapshot is restored, the daemon starts."""
    house.close()
    house.db.close()
    manager(house).restore(name, "test")
    start(house)


def start(house: House) -> None:
    house.db = open_database(house.config.state / "gsvrd.db", create=True)
    house.reading = Reading(house.db)
    house.open()
    after_restore(last_restored(house.db), house.queue, house.config, house.clock)
    house.places.recover()
    house.settle()


def state(house: House, task: int) -> tuple[str, str]:
    row = house.row(task)
    return row["state"], row["home"]


def test_a_task_that_was_completed_since_is_completed_and_its_source_known_to_be_archived(house: House) -> None:
    task = house.add()
    name = snapshot(house)
    house.rest()
    before = house.files()
    go_back(house, name)
    assert state(house, task) == (TaskState.COMPLETED, "archive")
    assert house.row(task)["report"] == "a.md"
    assert house.files() == before == {"reports": ["a.md"], "archive": ["a.mp4"]}


def test_so_is_one_that_ran_when_the_snapshot_was_made(house: House) -> None:
    task = house.add()
    ready = house.queue.ready()
    assert ready is not None
    house.queue.claim(ready, worker=1)
    house.queue.commit()
    name = snapshot(house)
    house.crash()
    house.rest()
    go_back(house, name)
    assert state(house, task) == (TaskState.COMPLETED, "archive")
    assert house.outcomes(task) == ["succeeded"]


def test_a_task_that_failed_since_is_failed_for_the_same_reason_and_has_one_record(house: House) -> None:
    task = house.add("refuse:unreadable")
    name = snapshot(house)
    house.rest()
    before = house.files()
    go_back(house, name)
    assert state(house, task) == (TaskState.FAILED, "failed")
    assert house.row(task)["error"]["kind"] == "unreadable"
    assert house.files() == before == {"failed": ["a.mp4", "a.mp4.error.json"]}


def test_a_task_that_was_forgiven_before_the_snapshot_is_tried_again(house: House) -> None:
    task = house.add("refuse:unreadable")
    house.rest()
    house.clock.advance(5)
    house.queue.requeue(task, "test")
    house.queue.commit()
    name = snapshot(house)
    go_back(house, name)
    assert house.row(task)["state"] == TaskState.PENDING


def test_a_task_that_is_still_to_be_done_is_done(house: House) -> None:
    task = house.add()
    go_back(house, snapshot(house))
    assert state(house, task) == (TaskState.PENDING, "inbox")
    house.rest()
    assert state(house, task) == (TaskState.COMPLETED, "archive")


def test_a_source_that_stays_in_the_inbox_is_not_done_twice(config: Config, tmp_path: Path) -> None:
    house = House(config.model_copy(update={"after_success": "keep"}))
    task = house.add()
    name = snapshot(house)
    house.rest()
    go_back(house, name)
    house.rest()
    assert state(house, task) == (TaskState.COMPLETED, "kept")
    assert house.files() == {"inbox": ["a.mp4"], "reports": ["a.md"]}
    assert len(house.outcomes(task)) == 1
    house.close()
    house.db.close()


def test_reports_and_records_of_others_prove_nothing(house: House) -> None:
    task = house.add("report:b.md")
    (house.config.reports / "a.md").write_text("---\ntask: 99-abc\n---\nanother task's")
    (house.config.reports / "notes.md").write_text("no front matter")
    (house.config.reports / "link.md").symlink_to("/etc/passwd")
    for number, text in enumerate(['{"task": 1}', "[" * 5000, "[1]", '{"task": 1, "source": "a.mp4", "at": "soon"}']):
        (house.config.failed / f"{number}.error.json").write_text(text)
    name = snapshot(house)
    os.unlink(house.config.inbox / "a.mp4")
    go_back(house, name)
    assert house.row(task)["state"] == TaskState.PENDING


def test_it_is_told_until_the_next_clean_start(house: House) -> None:
    house.add()
    go_back(house, snapshot(house))
    told = house.reading.service("restored")
    assert told["reconciled_at"] == pytest.approx(house.clock.wall())
    house.close()
    house.db.close()
    start(house)
    assert house.reading.service("restored") is None
