"""Snapshots that a batch has wished for: when, where, how many, and what is said when there can be none."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.waiting import eventually

from gsvrd.clock import ManualClock
from gsvrd.config.models import Batch, Checkpoints, Config
from gsvrd.config.options import Options
from gsvrd.daemon.batch_snapshots import BatchSnapshots, Wish
from gsvrd.daemon.filing import Filing
from gsvrd.daemon.incoming import wrong_folder
from gsvrd.daemon.snapshots import AFTER_FAILURE_S, TROUBLE
from gsvrd.daemon.supervisor import Timers
from gsvrd.store.checkpoints import CheckpointManager
from gsvrd.store.opening import open_database


class Table:
    """The loop and the database around them."""

    def __init__(self, home: Path, *roots: str) -> None:
        self.clock = ManualClock()
        self.timers = Timers(self.clock)
        self.config = Config(home=home, checkpoint=Checkpoints(roots=roots))
        self.config.state.mkdir()
        self.db = open_database(home / "state" / "gsvrd.db", create=True)
        self.rows: list[tuple[str, object]] = []
        self.wished = BatchSnapshots(
            database=home / "state" / "gsvrd.db",
            folder_of=self.config.checkpoint_folder,
            usual=Wish("", 300.0),
            keep=3,
            filing=Filing(lambda: None, "snapshots"),
            clock=self.clock,
            later=self.timers.later,
            remember=lambda key, value: self.rows.append((key, value)),
        )

    def write(self) -> None:
        with self.db:
            self.db.execute("INSERT OR REPLACE INTO service VALUES ('k', '0', 0)")
        wal = self.config.state / "gsvrd.db-wal"
        os.utime(wal, ns=(0, wal.stat().st_mtime_ns + 1_000_000))  # as if a tick of the file system's clock had passed

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.timers.run_due()
        eventually(lambda: self.wished.filing.collect() or not self.wished.filing.open)

    def reasons(self, folder: Path) -> list[str]:
        manager = CheckpointManager(self.config.state / "gsvrd.db", folder=folder)
        return [manager.verify(found.name).reason for found in reversed(manager.list())]


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    made = Table(tmp_path, "elsewhere")
    yield made
    made.wished.filing.close()
    made.db.close()


def options(folder: object, interval: float = 60.0) -> str:
    return json.dumps({"checkpoint_dir": [str(folder), "a test"], "checkpoint_interval": [interval, "a test"]})


def test_while_a_batch_is_under_way_there_is_one_every_interval_in_which_something_was_written(table: Table) -> None:
    algebra = table.config.checkpoints / "algebra"
    table.wished.note_started(1, options("algebra"))
    for is_written, most in ((True, 1), (False, 1), (True, 2)):
        if is_written:
            table.write()
        table.pass_time(60)
        assert table.reasons(algebra) == ["interval of a batch"] * most


def test_the_last_one_is_of_its_end_and_then_there_are_no_more(table: Table) -> None:
    table.wished.note_started(1, options("algebra"))
    table.wished.note_rest(1, options("algebra"))
    table.pass_time(0)
    for _ in range(3):
        table.write()
        table.pass_time(60)
    assert table.reasons(table.config.checkpoints / "algebra") == ["end of a batch"]


def test_a_batch_that_goes_on_has_its_snapshots_again(table: Table) -> None:
    for _ in range(2):
        table.wished.note_started(1, options("algebra"))
        table.write()
        table.pass_time(60)
        table.wished.note_rest(1, options("algebra"))
        table.pass_time(0)
        table.pass_time(60)
    algebra = table.reasons(table.config.checkpoints / "algebra")
    assert algebra == ["end of a batch", "interval of a batch", "end of a batch"]


def test_the_newest_are_kept_and_files_of_others_left_alone(table: Table) -> None:
    elsewhere = table.config.home / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "film.mp4.part").touch()
    table.wished.note_started(1, options(elsewhere))
    for _ in range(5):
        table.write()
        table.pass_time(60)
    assert len(table.reasons(elsewhere)) == 3
    assert (elsewhere / "film.mp4.part").exists()


def test_a_batch_without_such_a_wish_has_none(table: Table) -> None:
    table.wished.note_started(1, "{}")
    table.wished.note_rest(1, "{}")
    table.write()
    table.pass_time(300)
    assert not table.config.checkpoints.exists()


def test_one_that_cannot_be_written_is_told_and_made_up_for(table: Table) -> None:
    algebra = table.config.checkpoints / "algebra"
    algebra.parent.mkdir()
    algebra.touch()
    table.wished.note_started(1, options("algebra"))
    table.wished.note_rest(1, options("algebra"))
    table.pass_time(0)
    (row,) = table.rows
    assert row[0] == TROUBLE
    assert "algebra" in str(row[1])
    algebra.unlink()
    table.pass_time(AFTER_FAILURE_S)
    assert table.reasons(algebra) == ["end of a batch"]
    assert table.rows[-1] == (TROUBLE, None)


@pytest.mark.parametrize(
    ("said", "is_allowed"),
    [
        ("algebra", True),
        ("{home}/elsewhere", True),
        ("{home}/elsewhere/a/b", True),
        ("{home}/inbox", False),
        ("../../inbox", False),
        ("{home}/elsewhere/../inbox", False),
        ("{home}/elsewhere/link", False),
    ],
)
def test_only_directories_that_the_operator_named_are_written_into(table: Table, said: str, is_allowed: bool) -> None:
    home = table.config.home
    (home / "elsewhere").mkdir()
    (home / "elsewhere" / "link").symlink_to(home)
    folder = said.format(home=home)
    wrong = wrong_folder([("week 1/gsvrd.yaml", Options(checkpoint_dir=folder))], table.config)
    assert (not wrong) is is_allowed
    assert is_allowed or "week 1/gsvrd.yaml: checkpoint_dir" in wrong
    table.wished.note_rest(1, options(folder))
    table.pass_time(0)
    assert bool(list(home.rglob("*.db"))[1:]) is is_allowed


def test_the_operators_own_directory_may_be_anywhere(tmp_path: Path) -> None:
    config = Config(home=tmp_path, batch=Batch(checkpoint_dir="/mnt/backup"))
    assert config.checkpoint_folder("/mnt/backup") == Path("/mnt/backup")
    assert config.checkpoint_folder("/mnt/other") is None
