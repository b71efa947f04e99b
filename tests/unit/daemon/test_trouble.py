"""The machine in trouble: nothing new starts, and work goes on by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.waiting import eventually

from gsvrd.clock import ManualClock
from gsvrd.daemon.doors import Doors
from gsvrd.daemon.filing import Filing
from gsvrd.daemon.supervisor import Timers
from gsvrd.daemon.trouble import DOOR, TRIAL_S, Trouble


class Machine:
    """A few folders, and time that passes at will."""

    def __init__(self, *folders: Path) -> None:
        self.clock, self.doors, self.filing = ManualClock(), Doors(), Filing(lambda: None)
        self.timers = Timers(self.clock)
        self.trouble = Trouble(folders, self.filing, self.doors, self.clock, self.timers.later)

    def trial(self) -> None:
        """The next trial comes, and ends."""
        self.clock.advance(TRIAL_S)
        self.timers.run_due()
        eventually(lambda: self.filing.collect() and not self.filing.open)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path / "reports", tmp_path / "archive")
    (tmp_path / "reports").mkdir()
    (tmp_path / "archive").mkdir()
    yield made
    made.filing.close()


def test_the_door_is_closed_until_a_trial_has_passed(machine: Machine) -> None:
    machine.trouble.met("the disk is full")
    assert machine.doors.reason == "the disk is full"
    machine.trial()
    assert DOOR not in machine.doors.closed


def test_a_trial_that_fails_names_the_folder_and_is_followed_by_another(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "archive").rmdir()
    machine.trouble.met("something")
    machine.trial()
    assert f"{tmp_path / 'archive'} cannot be written" in machine.doors.reason
    (tmp_path / "archive").mkdir()
    machine.trial()
    assert machine.doors.closed == {}


def test_trouble_met_many_times_is_tried_once(machine: Machine) -> None:
    for _ in range(5):
        machine.trouble.met("the disk is full")
    machine.trial()
    machine.clock.advance(TRIAL_S)
    machine.timers.run_due()
    assert machine.filing.open == 0


def test_a_trial_leaves_nothing(machine: Machine, tmp_path: Path) -> None:
    machine.trouble.met("the disk is full")
    machine.trial()
    assert [list(path.iterdir()) for path in (tmp_path / "reports", tmp_path / "archive")] == [[], []]
