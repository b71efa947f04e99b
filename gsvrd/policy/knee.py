"""Knee: how many calls at a time bring the most answers. Learned from how long calls took beside how many others.

The model: a call of size s beside c calls takes exp(a) * s^b * max(1, c / K)^p seconds, times chance. For each K and p of a
small grid (and for "no knee") a and b are fitted by least squares, and the fits are weighed against one another (Bayes, with
Student's t for the noise nobody knows). What matters is not which is right but what can be expected of each number.

Samples are kept as sums, one set for each number of calls at a time: the set in use follows the present because it holds
some twenty-five samples at most, and the others keep what was seen at other numbers, fading with time. When calls begin to
take another time though as many are beside them, what was seen before is forgotten.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

FULL, HALF_LIFE_S = 25.0, 3600.0
STEP = 1.25
"""Between two values of K."""
SLOPES = (1.0, 1.5)
"""1: beyond the knee no call more and none less is answered a second; above 1: fewer are."""
FREE = 0.3
"""How likely it is, before anything is known, that there is no knee."""
POWER, POWER_TRUST = 0.7, 8.0
"""Of the size, before anything is known, and how many samples that counts for."""
LEAST, CLIP, SLACK, ALARM, LEAST_NOISE, KEPT = 6.0, 3.0, 0.5, 9.0, 0.2, 0.15
NOISE, NOISE_TRUST = 0.35, 4.0
"""Of the logarithm of a call's time."""


@dataclass(slots=True)
class Sums:
    """Weighted sums over calls that had about the same number beside them; x is the log of size, y that of seconds."""

    at: float
    w: float = 0.0
    c: float = 0.0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0
    yy: float = 0.0

    def scale(self, by: float) -> None:
        """Forget a share."""
        self.w *= by
        self.c *= by
        self.x *= by
        self.y *= by
        self.xx *= by
        self.xy *= by
        self.yy *= by

    def add(self, c: float, x: float, y: float) -> None:
        """One call."""
        self.w += 1.0
        self.c += c
        self.x += x
        self.y += y
        self.xx += x * x
        self.xy += x * y
        self.yy += y * y


@dataclass(frozen=True, slots=True)
class Guess:
    """One knee, and how likely it is."""

    knee: float
    slope: float
    chance: float

    def answers(self, calls: float) -> float:
        """What so many calls at a time bring, in calls of one at a time."""
        return calls if calls <= self.knee else self.knee * (self.knee / calls) ** (self.slope - 1.0)


@dataclass(slots=True)
class Knee:
    """See the module. Calls are counted as workers see them: on average, so they may be fractions."""

    sums: dict[int, Sums] = field(default_factory=dict)
    changed_at: float | None = None
    """When calls began to take another time than before, with as many beside them."""
    _slower: float = 0.0
    _faster: float = 0.0

    def add(self, size: float | None, seconds: float, beside: float, now: float) -> None:
        """A call has ended."""
        beside = max(1.0, beside)
        key = round(4.0 * math.log2(beside))
        sums = self.sums.setdefault(key, Sums(now))
        self._fade(sums, now)
        self._compare(sums, math.log(seconds) - POWER * (math.log(size) if size else 0.0), now)
        if sums.w >= FULL:
            sums.scale((FULL - 1.0) / sums.w)
        sums.add(math.log(beside), math.log(size) if size else 0.0, math.log(seconds))

    def _compare(self, sums: Sums, height: float, now: float) -> None:
        """Cumulated sums (CUSUM, Page 1954) of how much slower or faster calls are than those before; an alarm forgets."""
        if sums.w < LEAST:
            return
        mean = (sums.y - POWER * sums.x) / sums.w
        square = (sums.yy - 2.0 * POWER * sums.xy + POWER**2 * sums.xx) / sums.w - mean * mean
        off = max(-CLIP, min(CLIP, (height - mean) / max(LEAST_NOISE, math.sqrt(max(0.0, square)))))
        self._slower = max(0.0, self._slower + off - SLACK)
        self._faster = max(0.0, self._faster - off - SLACK)
        if max(self._slower, self._faster) > ALARM:
            self._slower = self._faster = 0.0
            self.changed_at = now
            for one in list(self.sums.values()):
                one.scale(KEPT if one is sums else 0.0)

    def _fade(self, sums: Sums, now: float) -> None:
        if now > sums.at:
            sums.scale(0.5 ** ((now - sums.at) / HALF_LIFE_S))
        sums.at = now

    def forget_above(self, calls: float) -> None:
        """What was seen beside more than so many."""
        for key, one in list(self.sums.items()):
            if one.w <= 0.0 or one.c / one.w > math.log(max(1.0, 1.15 * calls)):
                del self.sums[key]

    def rested(self, now: float) -> dict[int, Sums]:
        """The sums as they are now, with their time set to 0."""
        for one in self.sums.values():
            self._fade(one, now)
        return {key: replace(one, at=0.0) for key, one in self.sums.items()}

    def samples(self) -> float:
        """How many there are, what has faded not counted."""
        return sum(one.w for one in self.sums.values())

    def guesses(self, most: float, now: float) -> list[Guess]:
        """What the knee may be, up to `most` calls; the chances sum to 1."""
        for key, one in list(self.sums.items()):
            self._fade(one, now)
            if one.w < 0.05:
                del self.sums[key]
        sums = list(self.sums.values())
        knees = _grid(most)
        cases = [(math.inf, 1.0, FREE)]
        cases += [(knee, slope, (1.0 - FREE) / len(knees) / len(SLOPES)) for knee in knees for slope in SLOPES]
        logs = [math.log(prior) + _evidence(sums, knee, slope) for knee, slope, prior in cases]
        top = max(logs)
        weights = [math.exp(one - top) for one in logs]
        whole = sum(weights)
        return [Guess(knee, slope, weight / whole) for (knee, slope, _), weight in zip(cases, weights, strict=True)]


def _grid(most: float) -> Sequence[float]:
    count = max(1, math.ceil(math.log(max(2.0, most) / 1.5) / math.log(STEP)))
    return [1.5 * STEP**index for index in range(count + 1)]


def _evidence(sums: Sequence[Sums], knee: float, slope: float) -> float:
    """The log of how well the calls fit a knee, up to a constant."""
    w = x = y = xx = xy = yy = 0.0
    edge = math.log(knee) if knee < math.inf else math.inf
    for one in sums:
        slow = max(0.0, slope * (one.c / one.w - edge)) if edge < math.inf else 0.0
        w += one.w
        x += one.x
        xx += one.xx
        y += one.y - slow * one.w
        xy += one.xy - slow * one.x
        yy += one.yy + slow * (slow * one.w - 2.0 * one.y)
    if w <= 0.0:
        return 0.0
    xx -= x * x / w
    xy -= x * y / w
    yy -= y * y / w
    power = (xy + POWER_TRUST * POWER) / (xx + POWER_TRUST)
    rest = yy - 2.0 * power * xy + power * power * xx + POWER_TRUST * (power - POWER) ** 2
    return -0.5 * (w + NOISE_TRUST) * math.log(NOISE_TRUST * NOISE**2 + max(0.0, rest))
