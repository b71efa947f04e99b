"""Level: how many tasks may call at a time. What the knee is believed to be decides, and when to find out more.

While nothing speaks against it, more are expected to bring more. Once fewer are expected to bring the same, they are enough.
What was never tried cannot be known: if fewer might bring much more, and there is work enough left for it to pay, half as
many are tried for a few calls. And what was too many may be so no more: now and then a third more are tried.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from gsvrd.policy.kinds import Work
from gsvrd.policy.knee import Guess, Knee

ENOUGH, LEAVE = 0.985, 0.97
"""The smallest number that brings so much of the best is enough; one that brings less than that is left."""
TRY_CALLS, TRY_AGAIN_S = 5, 1800.0
PAYS = 2.0
"""A try of fewer has to promise so many times its cost."""
MORE, MORE_FIRST_S, MORE_LAST_S = 1.34, 1800.0, 7200.0
"""After how long more are tried again: twice as long whenever that has shown nothing new."""


@dataclass(slots=True)
class Trial:
    """Another number than the one that seems best is tried."""

    home: int
    """The number before."""
    low: float
    high: float
    """Calls that end beside so many tell something; others began before."""
    ends_by: float
    missing: int = TRY_CALLS


@dataclass(slots=True)
class Level:
    """See the module. Numbers are tasks, not calls: a task does other things as well."""

    knee: Knee = field(default_factory=Knee)
    value: int | None = None
    trial: Trial | None = None
    fewer_at: float | None = None
    """When fewer were tried last."""
    settled_at: float | None = None
    """When a trial ended, or the number was changed."""
    more_s: float = field(default_factory=lambda: MORE_FIRST_S)
    _guesses: list[Guess] = field(default_factory=list)

    def add(self, size: float | None, seconds: float, beside: float, now: float) -> None:
        """A call has ended; see `Completion`."""
        self.knee.add(size, seconds, beside, now)
        if self.trial is not None and self.trial.low <= beside <= self.trial.high:
            self.trial.missing -= 1

    def find(self, work: Work, low: int, high: int, start: int, fresh: bool, now: float) -> int:
        """The number now, up to `high`; `fresh`: calls have ended since the last time."""
        if self.value is None or not 1 <= self.value <= high:
            self.value, self.trial = min(start, high), None
        trial = self.trial
        if trial is not None and trial.missing > 0 and now < trial.ends_by:
            return self.value
        if fresh or trial is not None or not self._guesses:
            self._guesses = self.knee.guesses(high * work.share, now)
        self._choose(self._worth(work.share, high), work, low, now)
        return self.value

    def _choose(self, worth: list[float], work: Work, low: int, now: float) -> None:
        value, best = self.value or 1, max(worth)
        if worth[value - 1] < LEAVE * best:
            value = next(number for number, one in enumerate(worth, 1) if one >= ENOUGH * best)
        if self.trial is not None:
            if self.trial.home < (self.value or 1):  # more were tried
                self.more_s = MORE_FIRST_S if value > self.trial.home else min(MORE_LAST_S, 2.0 * self.more_s)
            self.trial = None
        elif value == self.value:
            if self._may_try_fewer(worth, work, now):
                self._try(max(low, value // 2), work, now)
            elif self._may_try_more(worth, work, now):
                self._try(min(len(worth), max(value + 1, round(MORE * value))), work, now)
            return
        self.value, self.settled_at = value, now

    def _worth(self, share: float, high: int) -> list[float]:
        """What each number is expected to bring."""
        calls = [share * number for number in range(1, high + 1)]
        return [sum(guess.chance * guess.answers(count) for guess in self._guesses) for count in calls]

    def _try(self, number: int, work: Work, now: float) -> None:
        home, edge = self.value or 1, work.share * number
        if number < home:
            self.trial, self.fewer_at = Trial(home, 0.0, 1.2 * edge + 0.3, now + TRY_AGAIN_S), now
        else:
            self.knee.forget_above(work.share * home)
            self.trial = Trial(home, 0.5 * (work.share * home + edge), math.inf, now + TRY_AGAIN_S)
        self.value = number

    def _may_try_fewer(self, worth: list[float], work: Work, now: float) -> bool:
        value, changed_at, tried_at = self.value or 1, self.knee.changed_at, self.fewer_at
        if value <= 2 or self.knee.samples() < TRY_CALLS:
            return False
        is_news = changed_at is not None and tried_at is not None and changed_at > tried_at
        if tried_at is not None and now - tried_at < TRY_AGAIN_S and not is_news:
            return False
        calls = [work.share * number for number in range(1, len(worth) + 1)]
        ideal = sum(guess.chance * max(map(guess.answers, calls)) for guess in self._guesses)
        gain, cost_s = ideal / max(worth) - 1.0, TRY_CALLS * work.hold_s / value
        return gain > 1.0 - LEAVE and gain * work.left_s / value > PAYS * cost_s

    def _may_try_more(self, worth: list[float], work: Work, now: float) -> bool:
        value = self.value or 1
        if value >= len(worth) or work.asked <= value or self.settled_at is None:
            return False
        return now - self.settled_at >= self.more_s and work.left_s / value > self.more_s
