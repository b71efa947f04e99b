"""Work in a thread gets its share of the time, and what is loaded for it once is not held against it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.waiting import eventually

from gsvrd.clock import ManualClock
from gsvrd.daemon.filing import Filing
from gsvrd.daemon.pacing import Pacer
from gsvrd.daemon.supervisor import Timers


class Desk:
    """Work that takes two seconds each time it is admitted."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.timers = Timers(self.clock)
        self.filing = Filing(lambda: None)
        self.pacer = Pacer(self.clock, self.timers.later, self.begin, ratio=3.0)
        self.done = 0

    def begin(self) -> None:
        if self.pacer.admits():
            self.done += 1
            self.clock.advance(2.0)
            self.pacer.rest()

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.timers.run_due()


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.filing.close()


def test_after_work_there_is_a_pause_so_many_times_as_long(desk: Desk) -> None:
    desk.begin()
    desk.begin()
    desk.pass_time(5.9)
    assert desk.done == 1
    desk.pass_time(0.1)
    assert desk.done == 2


def test_nothing_is_admitted_before_all_is_loaded_and_loading_costs_no_pause(desk: Desk) -> None:
    desk.pacer.prepare(desk.filing, lambda: desk.clock.advance(100.0))
    assert desk.filing.open == 0
    desk.begin()
    desk.begin()
    assert (desk.done, desk.filing.open) == (0, 1)
    eventually(desk.filing.collect)
    assert desk.done == 1
    desk.begin()
    desk.pass_time(6.0)
    assert desk.done == 2


def test_what_cannot_be_loaded_keeps_nothing_from_being_tried(desk: Desk) -> None:
    def load() -> None:
        raise OSError(24, "too many open files")

    desk.pacer.prepare(desk.filing, load)
    desk.begin()
    eventually(desk.filing.collect)
    assert desk.done == 1
