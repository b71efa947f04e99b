"""The named scenarios, and random ones. A scenario is drawn from its seed alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

from benchmarks.simulator.world import GB, MB, Machine, Scenario, Service, Steps, Use, Video

HOUR = 3600.0
GEMINI, LOCAL = "gemini", "local"


def _call(rng: Random, number: int, seconds: float, spread: float = 0.6, noise: float = 0.3) -> Video:
    """A video that is sent to the service, whose call takes about so long."""
    size = 100 * MB * math.exp(rng.gauss(0.0, spread))
    taken = seconds * (size / (100 * MB)) ** 0.7 * math.exp(rng.gauss(0.0, noise))
    parts = ((Use.CPU, 2.0), (Use.WAIT, 0.05 * seconds), (Use.CALL, taken), (Use.CPU, 0.5))
    return Video(number, GEMINI, size, parts, peak=180 * MB)


def _study(
    rng: Random, number: int, seconds: float, *, waits: float = 0.08, spread: float = 0.6, memory: float = 3.0
) -> Video:
    """A video that is studied here: so many seconds of processor, and a share of waiting between."""
    size = 100 * MB * math.exp(rng.gauss(0.0, spread))
    work = seconds * (size / (100 * MB)) ** 0.9 * math.exp(rng.gauss(0.0, 0.2))
    pieces = 4
    parts = ((Use.WAIT, waits * work / pieces), (Use.CPU, (1.0 - waits) * work / pieces)) * pieces
    peak = 60 * MB + memory * size * math.exp(rng.gauss(0.0, 0.25))
    return Video(number, LOCAL, size, parts, peak=peak)


def _calls(rng: Random, count: int, seconds: float = 90.0, noise: float = 0.3) -> tuple[Video, ...]:
    return tuple(_call(rng, number, seconds, noise=noise) for number in range(count))


def _studies(rng: Random, count: int, seconds: float = 100.0, waits: float = 0.08) -> tuple[Video, ...]:
    return tuple(_study(rng, number, seconds, waits=waits) for number in range(count))


def _steady(value: float) -> Steps:
    return ((0.0, value),)


def _changed(video: Video, **changes: object) -> Video:
    values = {name: getattr(video, name) for name in Video.__slots__}
    return Video(**(values | changes))


def api_free(rng: Random, seed: int) -> Scenario:
    return Scenario("api_free", seed, _calls(rng, 400))


def api_knee3(rng: Random, seed: int) -> Scenario:
    return Scenario("api_knee3", seed, _calls(rng, 300), Service(_steady(3.0), 1.4))


def api_knee6(rng: Random, seed: int) -> Scenario:
    return Scenario("api_knee6", seed, _calls(rng, 300), Service(_steady(6.0), 1.4))


def api_flat4(rng: Random, seed: int) -> Scenario:
    """Above four calls at a time the service gives no more, and no less."""
    return Scenario("api_flat4", seed, _calls(rng, 300), Service(_steady(4.0), 1.0))


def api_wide(rng: Random, seed: int) -> Scenario:
    return Scenario("api_wide", seed, _calls(rng, 900), Service(_steady(22.0), 1.4), low=2, high=32)


def api_rate(rng: Random, seed: int) -> Scenario:
    service = Service(rate=_steady(5.0), told_rate=5.0)
    return Scenario("api_rate", seed, _calls(rng, 500), service)


def api_rate_low(rng: Random, seed: int) -> Scenario:
    service = Service(rate=_steady(2.0), told_rate=2.0)
    return Scenario("api_rate_low", seed, _calls(rng, 300), service)


def api_rate_unknown(rng: Random, seed: int) -> Scenario:
    """The service refuses at half of what is configured."""
    service = Service(rate=_steady(4.0), told_rate=8.0)
    return Scenario("api_rate_unknown", seed, _calls(rng, 500, 60.0), service)


def api_outage(rng: Random, seed: int) -> Scenario:
    start = rng.uniform(0.6, 1.0) * HOUR
    return Scenario("api_outage", seed, _calls(rng, 400), Service(outages=((start, start + 900.0),), errors=0.01))


def api_step(rng: Random, seed: int) -> Scenario:
    """Capacity falls, and comes back."""
    steps = ((0.0, 8.0), (rng.uniform(0.6, 0.9) * HOUR, 3.0), (rng.uniform(2.2, 2.6) * HOUR, 8.0))
    return Scenario("api_step", seed, _calls(rng, 600), Service(steps, 1.4))


def api_drift(rng: Random, seed: int) -> Scenario:
    """All calls get slower and faster again, whoever makes how many; the capacity stays."""
    steps = tuple((600.0 * index, 1.0 + 0.4 * math.sin(index / 4.0)) for index in range(60))
    return Scenario("api_drift", seed, _calls(rng, 500), Service(_steady(6.0), 1.4, speed=steps))


def api_long(rng: Random, seed: int) -> Scenario:
    return Scenario("api_long", seed, _calls(rng, 150, 450.0))


def poison(rng: Random, seed: int) -> Scenario:
    videos = tuple(_changed(video, bad=rng.random() < 0.1) for video in _calls(rng, 400))
    return Scenario("poison", seed, videos)


def cpu2(rng: Random, seed: int) -> Scenario:
    return Scenario("cpu2", seed, _studies(rng, 150), machine=Machine(cores=2.0))


def cpu4(rng: Random, seed: int) -> Scenario:
    return Scenario("cpu4", seed, _studies(rng, 300), machine=Machine(cores=4.0))


def cpu8(rng: Random, seed: int) -> Scenario:
    return Scenario("cpu8", seed, _studies(rng, 500), machine=Machine(cores=8.0))


def cpu_waits(rng: Random, seed: int) -> Scenario:
    """Tasks that wait for the disk half of their time."""
    return Scenario("cpu_waits", seed, _studies(rng, 250, waits=0.5), machine=Machine(cores=3.0))


def neighbour(rng: Random, seed: int) -> Scenario:
    """Somebody else takes half the machine for an hour."""
    start = rng.uniform(0.4, 0.8) * HOUR
    others = ((0.0, 0.0), (start, 4.0), (start + HOUR, 0.0))
    return Scenario("neighbour", seed, _studies(rng, 500), machine=Machine(cores=8.0, neighbour=others, crowding=0.06))


def neighbour_first(rng: Random, seed: int) -> Scenario:
    """Somebody else uses whatever nobody uses, from the start, and half of it is our share; tasks only compute."""
    machine = Machine(cores=8.0, neighbour=_steady(8.0), crowding=0.06)
    return Scenario("neighbour_first", seed, _studies(rng, 250, waits=0.02), machine=machine, initial=2)


def mixed(rng: Random, seed: int) -> Scenario:
    videos = [_call(rng, number, 90.0) if rng.random() < 0.6 else _study(rng, number, 100.0) for number in range(400)]
    return Scenario("mixed", seed, tuple(videos), Service(_steady(5.0), 1.4), Machine(cores=2.0))


def cgroup(rng: Random, seed: int) -> Scenario:
    machine = Machine(cores=16.0, quota=3.0, memory=2.5 * GB, crowding=0.06)
    videos = tuple(_changed(video, peak=min(1.8 * GB, video.peak)) for video in _studies(rng, 250))
    return Scenario("cgroup", seed, videos, machine=machine)


def memory_tail(rng: Random, seed: int) -> Scenario:
    """A few tasks use many times what the others do."""
    videos = [_study(rng, number, 80.0, waits=0.4, spread=0.9, memory=4.0) for number in range(250)]
    videos = [_changed(video, peak=min(2.2 * GB, video.peak)) for video in videos]
    return Scenario("memory_tail", seed, tuple(videos), machine=Machine(cores=8.0, memory=3 * GB))


def memory_spike(rng: Random, seed: int) -> Scenario:
    """Memory leaps to its peak somewhere in the middle and falls again."""
    videos = [_changed(video, jumps_at=rng.uniform(0.2, 0.8)) for video in _studies(rng, 250)]
    videos = [_changed(video, peak=min(1.8 * GB, video.peak)) for video in videos]
    return Scenario("memory_spike", seed, tuple(videos), machine=Machine(cores=8.0, memory=2.5 * GB))


def burst(rng: Random, seed: int) -> Scenario:
    """Fifty videos at a time, with long hours of nothing between."""
    videos = [_changed(video, arrives=2 * HOUR * (video.number // 50)) for video in _calls(rng, 200)]
    return Scenario("burst", seed, tuple(videos))


def diurnal(rng: Random, seed: int) -> Scenario:
    videos, now = [], 0.0
    for number in range(400):
        busy = 0.5 - 0.5 * math.cos(now / (12 * HOUR) * 2 * math.pi)
        now += rng.expovariate((0.1 + busy) / 100.0)
        videos.append(_changed(_call(rng, number, 90.0), arrives=now))
    return Scenario("diurnal", seed, tuple(videos))


NAMED: tuple[Callable[[Random, int], Scenario], ...] = (
    api_free,
    api_knee3,
    api_knee6,
    api_flat4,
    api_wide,
    api_rate,
    api_rate_low,
    api_rate_unknown,
    api_outage,
    api_step,
    api_drift,
    api_long,
    poison,
    cpu2,
    cpu4,
    cpu8,
    cpu_waits,
    neighbour,
    neighbour_first,
    mixed,
    cgroup,
    memory_tail,
    memory_spike,
    burst,
    diurnal,
)


def named(name: str, seed: int) -> Scenario:
    """The scenario of that name; raises `KeyError`."""
    make = {one.__name__: one for one in NAMED}[name]
    return make(Random(f"{name}-{seed}"), seed)


def anything(seed: int) -> Scenario:
    """A world in which each trait is a matter of chance."""
    rng = Random(f"anything-{seed}")
    share_local = rng.choice((0.0, 0.0, 0.0, 1.0, 1.0, rng.uniform(0.2, 0.8)))
    high = rng.choice((8, 8, 8, 16, 24))
    cores = rng.choice((2.0, 4.0, 8.0, 16.0))
    seconds, study = rng.uniform(25.0, 300.0), rng.uniform(40.0, 250.0)
    waits, noise = rng.uniform(0.02, 0.5), rng.uniform(0.1, 0.5)
    count = int(min(900.0, max(120.0, rng.uniform(2.0, 5.0) * HOUR * 5.0 / (study if share_local else seconds))))
    videos = tuple(
        _study(rng, number, study, waits=waits, memory=3.0)
        if rng.random() < share_local
        else _call(rng, number, seconds, noise=noise)
        for number in range(count)
    )
    videos = _arriving(rng, videos)
    if rng.random() < 0.15:
        bad = rng.uniform(0.02, 0.1)
        videos = tuple(_changed(video, bad=rng.random() < bad) for video in videos)
    memory = rng.uniform(2.0, 6.0) * GB if share_local and rng.random() < 0.3 else math.inf
    videos = tuple(_changed(video, peak=min(0.75 * memory, video.peak)) for video in videos)
    machine = Machine(
        cores,
        quota=max(1.0, cores * rng.uniform(0.3, 0.9)) if rng.random() < 0.3 else math.inf,
        neighbour=_blocks(rng, 0.0, cores * rng.uniform(0.2, 0.8)) if rng.random() < 0.25 else _steady(0.0),
        crowding=rng.uniform(0.01, 0.08),
        memory=memory,
    )
    low = rng.choice((1, 2))
    return Scenario("anything", seed, videos, _service(rng, seconds), machine, low=low, high=high)


def _service(rng: Random, seconds: float) -> Service:
    knee = rng.choice((math.inf, math.exp(rng.uniform(math.log(2.5), math.log(24.0)))))
    capacity = _steady(knee)
    if knee < math.inf and rng.random() < 0.3:
        capacity = _blocks(rng, knee, max(2.0, knee * rng.choice((0.4, 0.6, 1.7))))
    speed = _steady(1.0)
    if rng.random() < 0.4:
        depth, pace = rng.uniform(0.1, 0.4), rng.uniform(2.0, 8.0)
        speed = tuple((600.0 * index, 1.0 + depth * math.sin(index / pace)) for index in range(150))
    rate = rng.uniform(3.0, 10.0) * 60.0 / seconds if rng.random() < 0.25 else math.inf
    told = rate * rng.choice((1.0, 1.0, 2.0)) if rate < math.inf else rate
    start = rng.uniform(0.3, 1.5) * HOUR
    outages = ((start, start + rng.uniform(120.0, 1200.0)),) if rng.random() < 0.15 else ()
    return Service(capacity, rng.uniform(1.0, 1.6), speed, _steady(rate), told, outages, rng.choice((0.0, 0.005, 0.02)))


def _blocks(rng: Random, one: float, other: float) -> Steps:
    first = rng.uniform(0.3, 1.2) * HOUR
    return ((0.0, one), (first, other), (first + rng.uniform(0.5, 1.5) * HOUR, one))


def _arriving(rng: Random, videos: tuple[Video, ...]) -> tuple[Video, ...]:
    """All at once, most often; or in bursts, or as they come."""
    way = rng.random()
    if way < 0.7:
        return videos
    hours = rng.uniform(3.0, 8.0)
    if way < 0.85:
        count = rng.randint(2, 5)
        return tuple(
            _changed(video, arrives=hours * HOUR * (video.number * count // len(videos)) / count) for video in videos
        )
    moments = sorted(rng.uniform(0.0, hours * HOUR) for _ in videos)
    return tuple(_changed(video, arrives=moment) for video, moment in zip(videos, moments, strict=True))
