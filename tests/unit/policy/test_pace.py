"""Pace: how often the number of workers changes, whatever is wanted."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gsvrd.policy.pace import Pace, Signs
from gsvrd.policy.readings import Settings
from gsvrd.policy.sharing import Share

TICK_S = 10.0
SETTINGS = Settings(min=1, max=32)
PHASES = st.lists(st.tuples(st.integers(1, 32), st.integers(1, 32), st.integers(1, 60)), min_size=1, max_size=60)


def changes(phases: list[tuple[int, int, int]]) -> tuple[list[float], float, list[str]]:
    """When the number changed, how long it all was, and what it said where it did not follow."""
    pace, now, times, notes = Pace(4, 4, 0.0, 0.0), 0.0, [], []
    for want, bear, ticks in phases:
        for _ in range(ticks):
            now += TICK_S
            before = pace.size
            pace.step(Share(min(want, bear), bear), Signs(busy=True), SETTINGS, now)
            pace.prove()
            if pace.size != before:
                times.append(now)
            elif pace.size != min(want, bear):
                notes.append(pace.why)
    return times, now, notes


@given(PHASES)
@settings(max_examples=150, deadline=None)
def test_there_are_at_most_twelve_changes_in_any_hour(phases: list[tuple[int, int, int]]) -> None:
    times, lasted_s, _ = changes(phases)
    for number, first in enumerate(times):
        assert sum(time < first + 3600.0 for time in times[number:]) <= 12
    assert len(times) <= 12 * max(1.0, lasted_s / 3600.0)


def test_what_goes_up_and_down_all_the_time_is_followed_now_and_then_and_it_says_so() -> None:
    times, lasted_s, notes = changes([(8, 8, 3), (2, 2, 9)] * 60)
    assert lasted_s == 2 * 3600.0
    assert 8 <= len(times) <= 20
    assert any("has changed often" in note for note in notes)


def test_one_change_is_left_for_going_back_when_the_number_was_raised_often() -> None:
    pace, now = Pace(1, 1, 0.0, 0.0), 0.0
    while pace.size < 8:
        now += TICK_S
        pace.step(Share(32, 32), Signs(busy=True), SETTINGS, now)
    for _ in range(9):
        now += TICK_S
        pace.step(Share(32, 32), Signs(busy=True), SETTINGS, now)
    assert (pace.size, now < 450.0) == (8, True)
    for _ in range(4):
        now += TICK_S
        pace.step(Share(2, 2), Signs(busy=True), SETTINGS, now)
    assert pace.size == 2
