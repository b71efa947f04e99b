"""Simulated batches with a known end, for `bench_eta` and the tests of the forecast: seeded, a virtual clock, no process.

A shape draws a batch; `run` plays it on the workers; `looks` are what a daemon would have seen at some moments of it,
beside the truth. What the forecast gets is only what the daemon could know: sizes, durations once probed, clocks.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from gsvrd.model import OutcomeKind
from gsvrd.policy.progress import Bound, Door, Finished, ProgressMonitor, Running, Span, Waiting

DONE_SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Of the tasks that are known so far: when to look."""
FEWEST = 5
"""Done, before anybody looks."""
CROOKED = (0.6, 1.0, 1.5)
"""Stages are no even measure: they run fast at first and slow at the end, or the other way round."""


@dataclass(slots=True)
class Video:
    """One task: what it is, and how long it takes when nothing disturbs it."""

    size_bytes: int
    duration_s: float
    seconds: float
    kind: str = "gemini"
    arrives_s: float = 0.0
    fails: list[bool] = field(default_factory=list)
    """For each attempt that fails, whether another follows."""
    probed: bool = False
    rank: int = 0


@dataclass(slots=True)
class Batch:
    """A batch and the world it runs in."""

    videos: list[Video]
    workers: list[tuple[float, int]]
    """From when so many may run."""
    cores: float = math.inf
    """Above so many at once, each is slower."""
    weather: Callable[[float], float] = lambda _: 1.0
    """Factor on the time of what starts at a moment."""
    quota: tuple[int, float] | None = None
    """Known from the start: after so many starts nothing starts before that time."""
    closing: tuple[float, float] | None = None
    """Nobody knows before: from then to then nothing starts."""
    stages: bool = False
    """Whether workers tell how far they are."""

    def workers_at(self, now: float) -> int:
        """How many may run."""
        return [count for since, count in self.workers if since <= now][-1]

    def opens(self, now: float, starts: int) -> float:
        """When something may start."""
        quota = self.quota[1] if self.quota and starts >= self.quota[0] else 0.0
        return max(quota, self.closing[1]) if self.closing and self.closing[0] <= now else quota


@dataclass(frozen=True, slots=True)
class Try:
    """An attempt as it happened. `due` is when the next may start, if there is one."""

    video: Video
    start: float
    end: float
    number: int
    outcome: OutcomeKind
    due: float | None

    def finished(self) -> Finished:
        """As the daemon remembers it."""
        video, taken = self.video, self.end - self.start
        again = self.due is not None
        return Finished(video.size_bytes, video.duration_s, taken, self.end, self.outcome, again, video.kind)

    def running(self, now: float, fraction: float | None) -> Running:
        """As the daemon sees it before its end."""
        return Running(self.video.size_bytes, self.video.duration_s, now - self.start, fraction, self.video.kind)


@dataclass(frozen=True, slots=True)
class Look:
    """What was forecast at a moment, what came, and what the plan's formulas say."""

    span: Span
    truth_s: float
    naive_s: float
    shared_s: float
    share: float
    foreseeable: bool
    """Nothing changes later that nobody could know."""

    @property
    def error(self) -> float:
        """Of p50, relative."""
        return self.span.p50 / self.truth_s - 1.0


def run(batch: Batch, rng: Random) -> list[Try]:
    """Play it to the end, first come first served."""
    tries, running = list[Try](), list[float]()
    waiting = [(video.arrives_s, video.rank, 1, video) for video in batch.videos]
    now = 0.0
    while waiting:
        while running and running[0] <= now:
            heapq.heappop(running)
        ready = [entry for entry in waiting if entry[0] <= now]
        opens = batch.opens(now, len(tries))
        if ready and opens <= now and len(running) < batch.workers_at(now):
            entry = min(ready, key=lambda one: one[1])
            waiting.remove(entry)
            tries.append(_try(batch, rng, entry[3], entry[2], now, len(running) + 1))
            heapq.heappush(running, tries[-1].end)
            if (due := tries[-1].due) is not None:
                waiting.append((due, entry[1], entry[2] + 1, entry[3]))
            continue
        later = [entry[0] for entry in waiting if entry[0] > now] + running[:1]
        later += [moment for moment in (opens, *(since for since, _ in batch.workers)) if moment > now]
        now = min(later)
    return tries


def _try(batch: Batch, rng: Random, video: Video, number: int, now: float, busy: int) -> Try:
    failing = number <= len(video.fails)
    slower = max(1.0, busy / batch.cores) * batch.weather(now)
    end = now + max(0.5, video.seconds * slower * (rng.random() if failing else 1.0))
    outcome = OutcomeKind.FAILED if failing else OutcomeKind.SUCCEEDED
    again = failing and video.fails[number - 1]
    return Try(video, now, end, number, outcome, end + 4.0 * 2.0**number * (0.5 + rng.random()) if again else None)


def looks(batch: Batch, rng: Random) -> Iterator[Look]:
    """When `DONE_SHARES` of what has arrived are done: the forecast of the end of that, beside the truth."""
    tries = run(batch, rng)
    lasts = {one.video.rank: one for one in tries}
    shares = list(DONE_SHARES)
    for moment in sorted(one.end for one in lasts.values()):
        known = [one for one in lasts.values() if one.video.arrives_s <= moment]
        done = sum(one.end <= moment for one in known)
        reached = [share for share in shares if done >= share * len(known)]
        if reached and FEWEST <= done < len(known):
            shares = shares[len(reached) :]
            if look := _look(batch, tries, known, moment, reached[-1], rng):
                yield look


def _look(batch: Batch, tries: list[Try], known: list[Try], now: float, share: float, rng: Random) -> Look | None:
    monitor = ProgressMonitor()
    ended = sorted((one for one in tries if one.end <= now), key=lambda one: one.end)
    for one in ended:
        monitor.add(one.finished())
    running = [
        one.running(now, ((now - one.start) / (one.end - one.start)) ** rng.choice(CROOKED) if batch.stages else None)
        for one in tries
        if one.start <= now < one.end
    ]
    workers = batch.workers_at(now)
    progress = monitor.look(
        now,
        running=running,
        waiting=_waiting(tries, known, now),
        workers=workers,
        doors=[*_doors(batch, sum(one.start <= now for one in tries), now)],
    )
    if progress.remaining_s is None:
        return None
    left_s = max(one.end for one in known) - now
    spent = [one.end - one.start for one in ended if one.outcome is OutcomeKind.SUCCEEDED]
    naive = sum(one.end > now for one in known) * sum(spent) / len(spent)
    changes = [since for since, _ in batch.workers] + ([batch.closing[0]] if batch.closing else [])
    foreseeable = not any(now < moment < now + left_s for moment in changes)
    return Look(progress.remaining_s, left_s, naive, naive / workers, share, foreseeable)


def _waiting(tries: list[Try], known: list[Try], now: float) -> Iterator[Waiting]:
    latest = {one.video.rank: one for one in tries if one.start <= now}
    for video in sorted((one.video for one in known), key=lambda video: video.rank):
        before = latest.get(video.rank)
        if before is None or (before.end <= now and before.due is not None):
            duration_s = video.duration_s if video.probed or before else None
            yield Waiting(video.size_bytes, duration_s, (before and before.due) or 0.0, kind=video.kind)


def _doors(batch: Batch, started: int, now: float) -> Iterator[Door]:
    if batch.quota and now < batch.quota[1]:
        yield Door(Bound.QUOTA, "daily quota", batch.quota[1], after=max(0, batch.quota[0] - started))
    if batch.closing and batch.closing[0] <= now < batch.closing[1]:
        yield Door(Bound.QUOTA, "daily quota", batch.closing[1])


# -- shapes --------------------------------------------------------------------------------------------------------------


def make_videos(
    rng: Random,
    durations: list[float],
    *,
    rate: float = 0.1,
    power: float = 0.85,
    noise: float = 0.25,
    kind: str = "gemini",
    probed: float = 0.2,
) -> list[Video]:
    """`rate` seconds for a second of an hour's video; `noise` is the spread of its logarithm."""
    bitrate = rng.uniform(60_000, 400_000)
    videos = []
    for rank, duration in enumerate(durations):
        seconds = rate * 3600.0 * (duration / 3600.0) ** power * math.exp(rng.gauss(0.0, noise))
        size = int(duration * bitrate * math.exp(rng.gauss(0.0, 0.15)))
        videos.append(Video(size, duration, seconds, kind, probed=rng.random() < probed, rank=rank))
    return videos


def _workers_of(rng: Random) -> list[tuple[float, int]]:
    return [(0.0, rng.choice((1, 2, 2, 3, 4, 4, 6, 8)))]


def _lognormal(rng: Random, count: int, middle_s: float = 1500.0, spread: float = 0.8) -> list[float]:
    return [min(6 * 3600.0, max(20.0, middle_s * math.exp(rng.gauss(0.0, spread)))) for _ in range(count)]


def _drift(rng: Random, spread: float, memory_s: float) -> Callable[[float], float]:
    """Weather that changes slowly: a walk that is drawn back to the middle."""
    step = memory_s / 8
    level, levels = rng.gauss(0.0, spread), [0.0]
    for _ in range(4000):
        level = level * math.exp(-1 / 8) + rng.gauss(0.0, spread * math.sqrt(1 - math.exp(-2 / 8)))
        levels.append(level)
    return lambda now: math.exp(levels[min(len(levels) - 1, int(now / step))])


def equal_lectures(rng: Random) -> Batch:
    durations = [rng.gauss(2700.0, 150.0) for _ in range(rng.randint(25, 250))]
    return Batch(make_videos(rng, durations, noise=rng.uniform(0.05, 0.3)), _workers_of(rng), stages=rng.random() < 0.5)


def heavy_tail(rng: Random) -> Batch:
    durations = _lognormal(rng, rng.randint(30, 250), spread=rng.uniform(0.9, 1.3))
    return Batch(make_videos(rng, durations, noise=rng.uniform(0.15, 0.5)), _workers_of(rng))


def heavy_noise(rng: Random) -> Batch:
    """The time has a tail that nothing explains."""
    videos = make_videos(rng, _lognormal(rng, rng.randint(40, 250)), noise=0.1)
    for video in videos:
        video.seconds *= rng.paretovariate(2.2)
    return Batch(videos, _workers_of(rng))


def two_kinds(rng: Random) -> Batch:
    count = rng.randint(20, 120)
    videos = make_videos(rng, _lognormal(rng, count), rate=0.06)
    videos += make_videos(rng, _lognormal(rng, count), rate=0.4, power=1.0, noise=0.12, kind="local")
    rng.shuffle(videos)
    for rank, video in enumerate(videos):
        video.rank = rank
    return Batch(videos, _workers_of(rng))


def large_last(rng: Random) -> Batch:
    durations = [rng.uniform(200.0, 1500.0) for _ in range(rng.randint(30, 120))]
    durations += [rng.uniform(4000.0, 12000.0) for _ in range(rng.randint(2, 6))]
    return Batch(make_videos(rng, durations, power=rng.uniform(0.7, 1.0)), _workers_of(rng))


def overhead(rng: Random) -> Batch:
    """A fixed cost for each video beside one for each second."""
    videos = make_videos(rng, sorted(_lognormal(rng, rng.randint(30, 200))), power=1.0)
    for video in videos:
        video.seconds = (video.seconds + rng.uniform(30.0, 60.0)) * math.exp(rng.gauss(0.0, 0.1))
    return Batch(videos, _workers_of(rng))


def slow_api(rng: Random) -> Batch:
    videos = make_videos(rng, _lognormal(rng, rng.randint(40, 200)), rate=0.3, noise=0.45)
    return Batch(videos, _workers_of(rng), weather=_drift(rng, rng.uniform(0.1, 0.35), rng.uniform(900.0, 7200.0)))


def retries(rng: Random) -> Batch:
    videos = make_videos(rng, _lognormal(rng, rng.randint(30, 200)))
    often, bad = rng.uniform(0.05, 0.3), rng.uniform(0.0, 0.1)
    for video in videos:
        while rng.random() < often and len(video.fails) < 3:
            video.fails.append(True)
        if rng.random() < bad:
            video.fails.append(False)
    return Batch(videos, _workers_of(rng))


def quota(rng: Random) -> Batch:
    videos = make_videos(rng, _lognormal(rng, rng.randint(40, 150)))
    workers = _workers_of(rng)
    hours = sum(video.seconds for video in videos) / workers[0][1]
    return Batch(videos, workers, quota=(int(len(videos) * rng.uniform(0.2, 0.8)), hours * rng.uniform(0.7, 2.0)))


def closed_door(rng: Random) -> Batch:
    """It closes without warning; from then on it is known until when."""
    videos = make_videos(rng, _lognormal(rng, rng.randint(40, 150)))
    workers = _workers_of(rng)
    hours = sum(video.seconds for video in videos) / workers[0][1]
    start = hours * rng.uniform(0.05, 0.5)
    return Batch(videos, workers, closing=(start, start + hours * rng.uniform(0.2, 1.5)))


def workers_change(rng: Random) -> Batch:
    videos = make_videos(rng, _lognormal(rng, rng.randint(60, 200)))
    first, second = rng.sample((1, 2, 3, 4, 6, 8), 2)
    hours = sum(video.seconds for video in videos) / max(first, second)
    return Batch(videos, [(0.0, first), (hours * rng.uniform(0.1, 0.5), second)])


def crowded(rng: Random) -> Batch:
    """More workers than processors."""
    videos = make_videos(rng, _lognormal(rng, rng.randint(40, 200)), rate=0.3, power=1.0, noise=0.15, kind="local")
    return Batch(videos, [(0.0, rng.choice((3, 4, 6, 8)))], cores=rng.choice((2.0, 4.0)), stages=True)


def bursts(rng: Random) -> Batch:
    videos = make_videos(rng, _lognormal(rng, rng.randint(60, 240)))
    every = sum(video.seconds for video in videos) / rng.uniform(1.0, 4.0) / 4
    for video in videos:
        video.arrives_s = every * (4 * video.rank // len(videos))
    return Batch(videos, _workers_of(rng))


def wide_pool(rng: Random) -> Batch:
    return Batch(make_videos(rng, _lognormal(rng, rng.randint(60, 200))), [(0.0, rng.choice((12, 16, 24)))])


def anything(rng: Random) -> Batch:
    """Every trait by chance."""
    videos = make_videos(
        rng,
        _lognormal(rng, rng.randint(15, 300), rng.uniform(300.0, 4000.0), rng.uniform(0.05, 1.1)),
        rate=math.exp(rng.uniform(-3.5, -0.3)),
        power=rng.uniform(0.5, 1.1),
        noise=rng.uniform(0.05, 0.6),
        probed=rng.random(),
    )
    often = rng.choice((0.0, 0.0, 0.1))
    for video in videos:
        while rng.random() < often and len(video.fails) < 3:
            video.fails.append(True)
    weather = _drift(rng, rng.choice((0.0, 0.1, 0.25)), rng.uniform(600.0, 7200.0))
    return Batch(videos, _workers_of(rng), weather=weather, stages=rng.random() < 0.3)


SHAPES: tuple[Callable[[Random], Batch], ...] = (
    equal_lectures,
    heavy_tail,
    heavy_noise,
    two_kinds,
    large_last,
    overhead,
    slow_api,
    retries,
    quota,
    closed_door,
    workers_change,
    crowded,
    bursts,
    wide_pool,
    anything,
)
