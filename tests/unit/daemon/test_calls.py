from __future__ import annotations

import pytest

from gsvrd.daemon.calls import WINDOW_S, CallMeter

A, B = (1, 1), (2, 1)


def test_how_long_an_attempt_waited_and_called_and_how_many_called_beside_it() -> None:
    meter = CallMeter()
    meter.asked(A, 0.0)
    meter.answered(A, 3.0)
    meter.began(10, A, 3.0)
    meter.began(11, B, 5.0)
    meter.ended(10, 7.0, for_load=False)  # 2 s alone, 2 s beside another
    meter.ended(11, 13.0, for_load=False)
    a, b = meter.take(A), meter.take(B)
    assert (a.waited_s, a.api_s, a.calls, a.mean_beside) == (3.0, 4.0, 1, 1.5)
    assert (b.waited_s, b.api_s, b.mean_beside) == (0.0, 8.0, 10 / 8)
    assert meter.take(A).calls == 0


def test_an_attempt_without_calls_is_beside_itself() -> None:
    assert CallMeter().take(A).mean_beside == 1.0


def test_of_the_calls_of_late_the_share_that_failed_for_load() -> None:
    meter = CallMeter()
    assert meter.load_errors(0.0) is None
    for number, for_load in enumerate([True, False, False, False, None]):
        meter.began(number, A, 0.0)
        meter.ended(number, 1.0, for_load=for_load)
    assert meter.load_errors(2.0) == pytest.approx(0.25)
    assert meter.load_errors(1.0 + WINDOW_S + 0.1) is None


def test_a_permit_that_is_settled_twice_counts_once_and_a_clock_that_runs_back_takes_nothing_away() -> None:
    meter = CallMeter()
    meter.began(1, A, 10.0)
    meter.ended(1, 4.0, for_load=False)
    meter.ended(1, 5.0, for_load=False)
    assert (meter.take(A).api_s, meter.load_errors(5.0)) == (0.0, 0.0)
