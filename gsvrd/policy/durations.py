"""How long a task takes: learned from attempts, as an expectation, how unsure it is, and how single tasks scatter around it.

`policy.progress` gives samples and asks; pure. The logarithm of the seconds is a straight line over the logarithm of the
amount (of seconds of video, or of bytes) plus an offset that stands for a fixed cost. Sources: factors from what a fit
leaves over, Duan 1983 (smearing); the mean excess of the largest as the scale of the tail, Hill 1975.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

TABLE = 256
HALF_LIFE = 25
"""Of a success's say in the level, counted in successes: the level moves, the shape stays."""
OFFSETS = (0.0, 0.25, 1.0, 4.0)
"""Fixed costs that are tried, in units of the middling amount."""
UNLIKELY = 0.02
"""Beside the best one, a line that is left out."""
SLOPES = {False: 0.85, True: 1.0}
"""What the slope is drawn to, without and with a fixed cost."""
RIDGE = 3.0
SPREAD, SPREAD_TRUST = 0.3, 4.0
"""How the logarithms scatter before any was seen, and for how many tasks that counts."""
WEATHER, WEATHER_TRUST, BLOCK = 0.2, 3.0, 12
"""How far the level may move before it was seen how far it does; for how many forecasts of the level that counts, and
of how many successes each of them was."""
FEWEST_ABOVE = 4
LEAST, LOWEST, HIGHEST = 1e-3, -7.0, 18.0  # seconds; their logarithms: a millisecond to two years
GOLDEN = 0.6180339887498949


@dataclass(frozen=True, slots=True)
class Sample:
    """An attempt. `good`: it succeeded; `again`: the task came back for another. `amount` is at least 1."""

    amount: float
    seconds: float
    good: bool
    again: bool


@dataclass(frozen=True, slots=True)
class _Line:
    offset: float
    x: float
    y: float
    slope: float
    slope_error: float
    misfit: float = 0.0

    def at(self, amount: float) -> tuple[float, float]:
        away = math.log(amount + self.offset) - self.x
        return self.y + self.slope * away, self.slope_error * away


@dataclass(frozen=True, slots=True)
class Model:
    """What tasks of one kind take."""

    lines: tuple[tuple[float, _Line], ...]
    """With their weights, which add up to 1."""
    spread: float
    error: float = 0.0
    """Of the level; as `spread`, of logarithms."""
    tail: float = 0.0
    factors: tuple[float, ...] = (1.0,) * TABLE
    """On the expected seconds, over all attempts of a task: rising, each as likely as the others."""
    mean: float = 1.0
    """Of the factors."""

    def at(self, amount: float) -> tuple[float, float]:
        """Logarithm of the expected seconds, and how unsure that is."""
        middle, square = 0.0, 0.0
        for weight, line in self.lines:
            y, error = line.at(max(1.0, amount))
            middle += weight * y
            square += weight * (y * y + error * error)
        unsure = math.sqrt(self.error**2 + max(0.0, square - middle * middle))
        return min(HIGHEST, max(LOWEST, middle)), unsure

    def total(self, expected: float, elapsed: float, u: float) -> float:
        """Seconds of a task that has run for `elapsed`: at chance `u` in [0, 1) among what its age allows."""
        above = bisect_right(self.factors, elapsed / expected)
        if above <= TABLE - FEWEST_ABOVE:
            return expected * self.factors[above + int(u * (TABLE - above))]
        return elapsed * math.exp(
            -self.tail * math.log1p(-u)
        )  # older than nearly all before: the longer it took, the longer it will


def prior(amount: float, seconds: float) -> Model:
    """Before anything was seen."""
    return Model(((1.0, _Line(0.0, math.log(amount), math.log(seconds), SLOPES[False], 0.0)),), SPREAD)


def learn(samples: Sequence[Sample], before: Model, trust: float) -> Model:
    """From attempts, the newest last, at least one of them good; `before` counts as much as `trust` good ones."""
    points = [(one.amount, math.log(max(LEAST, one.seconds))) for one in samples if one.good]
    unit = math.exp(sum(math.log(amount) for amount, _ in points) / len(points))
    fits = [_fitted(points, unit * offset, before, trust) for offset in OFFSETS]
    least = min(line.misfit for line in fits)
    odds = [(math.exp((least - line.misfit) / (2.0 * before.spread**2)), line) for line in fits]
    likely = [(chance, line) for chance, line in odds if chance > UNLIKELY]
    lines = tuple((chance / sum(chance for chance, _ in likely), line) for chance, line in likely)
    model = Model(lines, before.spread)
    rests = _centred([y - model.at(amount)[0] for amount, y in points])
    square = SPREAD_TRUST * before.spread**2 + sum(rest * rest for rest in rests)
    spread = math.sqrt(square / (SPREAD_TRUST + len(rests)))
    pool = sorted([*rests, *(spread * z for z in (-1.3, -0.5, 0.0, 0.5, 1.3))])
    tail = _tail(pool, spread)
    factors = sorted(_factors(pool, tail, samples, model))
    error = math.hypot(spread / math.sqrt(sum(_weights(len(points))) + trust), _weather(rests, spread))
    return Model(lines, spread, error, tail, tuple(factors), sum(factors) / TABLE)


def _weather(rests: Sequence[float], spread: float) -> float:
    """How far the level moves: by what its own forecasts were wrong, beyond what the scatter of single tasks explains."""
    square, count = WEATHER_TRUST * WEATHER**2, WEATHER_TRUST
    for start in range(BLOCK, len(rests) - BLOCK + 1, BLOCK):
        weights = _weights(start)
        level = sum(w * rest for w, rest in zip(weights, rests, strict=False)) / sum(weights)
        came = sum(rests[start : start + BLOCK]) / BLOCK
        by_chance = spread**2 * (1.0 / BLOCK + 1.0 / sum(weights))
        square += max(0.0, (came - level) ** 2 - by_chance)
        count += 1.0
    return math.sqrt(square / count)


def _weights(count: int) -> list[float]:
    return [math.exp2(-age / HALF_LIFE) for age in reversed(range(count))]


def _fitted(points: Sequence[tuple[float, float]], offset: float, before: Model, trust: float) -> _Line:
    """The slope from all points alike, the level from the newest."""
    xs, ys, count = [math.log(amount + offset) for amount, _ in points], [y for _, y in points], len(points)
    x, y, wanted = sum(xs) / count, sum(ys) / count, SLOPES[offset > 0.0]
    square = sum((one - x) ** 2 for one in xs)
    slope = (sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) + RIDGE * wanted) / (square + RIDGE)
    slope = min(1.5, max(0.0, slope))
    misfit = RIDGE * (slope - wanted) ** 2
    misfit += sum((b - y - slope * (a - x)) ** 2 for a, b in zip(xs, ys, strict=True))
    weights = _weights(count)
    weight = sum(weights)
    x = sum(w * a for w, a in zip(weights, xs, strict=True)) / weight
    y = sum(w * b for w, b in zip(weights, ys, strict=True)) / weight
    guess, _ = before.at(math.exp(x) - offset)
    y = (weight * y + trust * guess) / (weight + trust)
    return _Line(offset, x, y, slope, before.spread / math.sqrt(square + RIDGE), misfit)


def _centred(values: Sequence[float]) -> list[float]:
    middle = sum(values) / len(values)
    return [value - middle for value in values]


def _tail(pool: Sequence[float], spread: float) -> float:
    """The scale at which logarithms thin out beyond the largest one seen."""
    top = max(5, len(pool) // 10)
    edge = pool[-top - 1] if len(pool) > top else pool[0]
    return (3.0 * spread + sum(rest - edge for rest in pool[-top:])) / (5 + top)


def _factors(pool: Sequence[float], tail: float, samples: Sequence[Sample], model: Model) -> Iterator[float]:
    """Of good ends evenly from the pool; some get a failure's in place of it, or further attempts on top."""
    relative = [(one, one.seconds / math.exp(model.at(one.amount)[0])) for one in samples if not one.good]
    again = [factor for one, factor in relative if one.again]
    lost = [factor for one, factor in relative if not one.again]
    share, share_lost = len(again) / (len(samples) + SPREAD_TRUST), len(lost) / (len(samples) + SPREAD_TRUST)
    for index in range(TABLE):
        chance, turn = (index + 0.5) * GOLDEN % 1.0, index
        factor = math.exp(_at_share(pool, (index + 0.5) / TABLE, tail))
        if 1.0 - chance < share_lost:
            factor = lost[index % len(lost)]
        while chance < share:
            factor, chance, turn = factor + again[turn % len(again)], chance / share, turn + 1
        yield factor


def _at_share(pool: Sequence[float], share: float, tail: float) -> float:
    place = share * len(pool) - 0.5
    if place >= len(pool) - 1:
        return pool[-1] + tail * math.log(0.5 / len(pool) / (1.0 - share))
    low = max(0, int(place))
    return pool[low] + max(0.0, place - low) * (pool[low + 1] - pool[low])
