"""When a turn waits for more before it commits, and when it does not."""

from __future__ import annotations

from gsvrd.clock import ManualClock
from gsvrd.daemon.grouping import Grouping

COMMIT_S = 0.004


def grouping_of_a_slow_disk() -> tuple[Grouping, ManualClock]:
    clock = ManualClock()
    grouping = Grouping(clock)
    for _ in range(50):
        grouping.committed(COMMIT_S)
    grouping.open()
    return grouping, clock


def test_a_lone_report_is_committed_at_once() -> None:
    grouping, clock = grouping_of_a_slow_disk()
    clock.advance(60)
    grouping.open()
    grouping.heard()
    assert grouping.patience_s() == 0.0


def test_reports_that_come_faster_than_commits_are_worth_about_a_commit() -> None:
    grouping, clock = grouping_of_a_slow_disk()
    grouping.heard()
    clock.advance(COMMIT_S / 4)
    grouping.heard()
    assert 0.9 * COMMIT_S < grouping.patience_s() <= COMMIT_S


def test_reports_that_come_slower_than_commits_are_not_waited_for() -> None:
    grouping, clock = grouping_of_a_slow_disk()
    grouping.heard()
    clock.advance(COMMIT_S * 1.5)
    grouping.heard()
    assert grouping.patience_s() == 0.0


def test_a_burst_that_is_over_is_not_waited_for() -> None:
    grouping, clock = grouping_of_a_slow_disk()
    grouping.heard()
    grouping.heard()
    clock.advance(COMMIT_S * 1.5)
    assert grouping.patience_s() == 0.0


def test_a_turn_is_not_kept_open_for_ever_by_a_stream_of_reports() -> None:
    grouping, clock = grouping_of_a_slow_disk()
    waited_s = 0.0
    grouping.heard()
    grouping.heard()
    while grouping.patience_s():
        clock.advance(COMMIT_S / 8)
        waited_s += COMMIT_S / 8
        grouping.heard()
    assert 3 * COMMIT_S < waited_s <= 5 * COMMIT_S


def test_without_a_known_cost_nothing_is_waited_for() -> None:
    grouping = Grouping(ManualClock())
    grouping.open()
    grouping.heard()
    grouping.heard()
    assert grouping.patience_s() == 0.0
