"""Sharing: what processors, service, rate and memory allow becomes one number of workers, and limits by kind."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from gsvrd.policy.kinds import Work
from gsvrd.policy.readings import Cap

SPARE = 0.4
"""A worker is worth having when so large a part of it would be busy."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is known. None: no such bound."""

    low: int
    high: int
    calls: int | None = None
    """Tasks that call at a time."""
    rate: float | None = None
    """Calls a minute."""
    cores: float | None = None
    memory: float | None = None
    """Workers."""


@dataclass(frozen=True, slots=True)
class Share:
    """The outcome. `want` is what there is work for; `bear` is how many would do no harm."""

    want: int
    bear: int
    limits: Mapping[str, int] = field(default_factory=dict)
    caps: Mapping[str, float] = field(default_factory=dict)
    cap: Cap = Cap.DEMAND


def share_out(bounds: Bounds, calling: Work, own: Work) -> Share:
    """How many workers for the tasks that call and for those that work here."""
    level = min(bounds.high, bounds.calls or bounds.high) if calling.asked else 0
    paced = _paced(bounds.rate, calling) if calling.asked else math.inf
    calls = int(min(level, calling.asked, paced))
    seats = _seats(bounds, own, calls * calling.cpu)
    here = min(seats, own.asked)
    caps: dict[str, float] = {
        Cap.MAX: float(bounds.high),
        Cap.DEMAND: float(calling.asked + own.asked),
    }
    if calling.asked:
        caps[Cap.API] = float(level + here)
        if paced < math.inf:
            caps[Cap.RATE] = round(paced + here, 1)
    if own.asked and bounds.cores is not None:
        caps[Cap.CPU] = float(seats + calls)
    bear = min(bounds.high, level + seats) if level + seats else bounds.high
    if bounds.memory is not None:
        caps[Cap.MEMORY] = round(bounds.memory, 1)
        bear = min(bear, max(1, math.floor(bounds.memory + 0.5)))
    bear = max(bounds.low, bear)
    want = max(bounds.low, min(bear, calls + here))
    cap = Cap(min(caps, key=lambda name: caps[name]))
    return Share(want, bear, _limits(bounds, calling, own, calls, here), caps, cap)


def _paced(rate: float | None, calling: Work) -> float:
    """Little's law: calls a second times seconds a task are the tasks at a time that use up the rate; and some to spare."""
    if rate is None:
        return math.inf
    busy = rate / 60.0 * calling.hold_s / max(0.1, calling.calls)
    return max(1.0, busy + math.sqrt(busy) + 0.5)


def _seats(bounds: Bounds, own: Work, used: float) -> int:
    """Workers that keep the processors busy: as they also wait for disks, by chance, some more than cores / need."""
    if not own.asked:
        return 0
    if bounds.cores is None or own.cpu <= 0.0:
        return bounds.high
    count = min(float(bounds.high), max(0.0, bounds.cores - used) / own.cpu)
    return max(1, min(bounds.high, math.ceil(count + math.sqrt(count * max(0.0, 1.0 - own.cpu)) - SPARE)))


def _limits(bounds: Bounds, calling: Work, own: Work, calls: int, here: int) -> dict[str, int]:
    """With both sorts in line, each gets what it can use; if that is too much, so that both end at about the same time."""
    if not (calling.asked and own.asked):
        return {}
    if calls + here > bounds.high:
        part = round(bounds.high * calling.left_s / max(1.0, calling.left_s + own.left_s))
        calls = max(1, bounds.high - here, min(calls, part))
        here = max(1, bounds.high - calls)
    return dict.fromkeys(calling.kinds, max(1, calls)) | dict.fromkeys(own.kinds, max(1, here))
