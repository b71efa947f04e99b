"""Readings and decisions: what `policy.controller` is told and what it answers. Plain data; None: could not be read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Cap(StrEnum):
    """What keeps the number of workers from being larger than it is (or, for the last three, from changing now)."""

    MAX = "max"
    """`workers.max`."""
    DEMAND = "demand"
    """There is no more work that may start now."""
    CPU = "cpu"
    """More workers than the processors we really get would only take turns."""
    API = "api"
    """More calls at a time would not bring more answers from the service."""
    RATE = "rate"
    """The requests per minute that pass keep no more workers busy."""
    MEMORY = "memory"
    """No more tasks fit into memory (the admission says so), or too much of it is in use."""
    ERRORS = "errors"
    """The service refuses or drops too many calls for load."""
    PACE = "pace"
    """More are wanted, and the next step is due later; or fewer are wanted, and one waits whether that lasts."""
    HELD = "held"
    """A reading is missing or nonsense: nothing is changed before it is back."""
    HAND = "hand"
    """The operator has named the number."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What may be set; the defaults are those of the plan. Raises `ValueError` that names the fields that contradict.

    `min`, `max`, `initial`: workers. `tick_s`: between two calls of `decide`, seconds. `cooldown_s`: between two steps up
    to a size that was not proven before. `cpu_high`, `memory_high`, `api_error_high`: shares in (0, 1] above which nothing
    grows. `response_high_s`: a mean call above this stops growth until enough calls are known to tell slow from long.
    `history`: how many calls are enough for that.
    """

    min: int = 2
    max: int = 8
    initial: int = 4
    tick_s: float = 10.0
    cooldown_s: float = 60.0
    cpu_high: float = 0.80
    memory_high: float = 0.75
    api_error_high: float = 0.05
    response_high_s: float = 300.0
    history: int = 20

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if not 1 <= self.min <= self.max:
            raise ValueError(f"workers: min {self.min} must be at least 1 and not above max {self.max}")
        for name in ("cpu_high", "memory_high", "api_error_high"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ValueError(f"{name}: {getattr(self, name)} is no share above 0 and up to 1")
        for name in ("tick_s", "cooldown_s", "response_high_s", "history"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}: {getattr(self, name)} must be above 0")


@dataclass(frozen=True, slots=True)
class Completion:
    """An attempt that ended since the last call of `decide`. Only those that did their work: not failed, not cancelled."""

    kind: str
    """What is alike: the analyzer's name."""
    wall_s: float
    """From its start on a worker to its end."""
    waited_s: float = 0.0
    """Of that, how long the daemon kept its calls waiting at a door (limiter, breaker)."""
    size: float | None = None
    """Bytes, or seconds of video: always the same of one kind."""
    cpu_s: float | None = None
    """Processor seconds of the worker and its children in that time."""
    cpu_wait_s: float | None = None
    """How long it was runnable and got no processor (schedstat), seconds."""
    api_s: float = 0.0
    """Seconds its calls were under way, from leave to answer; 0 for a kind that calls nobody."""
    calls: int = 0
    """How many generate calls it made."""
    beside: float = 1.0
    """How many calls of all workers were under way on average while its own were, itself included."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """One reading. None means: could not be read."""

    workers: int
    """How many there are (also those that retire after their task)."""
    running: Mapping[str, int]
    """Tasks on workers now, by kind."""
    queued: Mapping[str, int]
    """Tasks that could start now, by kind: not those that wait for a time, are held, or stand behind a closed door."""
    completions: tuple[Completion, ...] = ()
    own_cpu: float | None = None
    """Cores that the daemon and its workers used since the last reading (CPU seconds / seconds)."""
    other_cpu: float | None = None
    """Cores that everything else on the machine used since then."""
    allowed_cpu: float | None = None
    """Cores we may use: the least of quota (cgroup, all ancestors) and affinity."""
    host_cpu: float | None = None
    """Cores of the machine."""
    cpu_wait: float | None = None
    """Of the time since the last reading in which our workers were runnable, the share they waited for a processor."""
    memory_used: float | None = None
    """Bytes, of what the limit below concerns."""
    memory_limit: float | None = None
    """Bytes: the least of the control group's limits and the machine's memory."""
    memory_blocked: bool = False
    """A worker is free and a task could start, and the memory admission refuses it."""
    memory_failures: int = 0
    """Attempts that met their memory cap since the last reading, and come again."""
    api_errors: float | None = None
    """Of the calls that ended in the last 120 s, the share that failed for load: 429, 503, timeout. None: no calls."""
    rate_per_minute: float | None = None
    """Generate calls a minute that the limiter lets pass (configured, or what refusals taught it). None: no limit."""
    forced: int | None = None
    """The operator's number of workers; None for auto."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now, and why."""

    workers: int
    """In [min, max]; also with `forced`."""
    limits: Mapping[str, int]
    """At most so many tasks of a kind at a time; a kind that is not named has no limit but `workers`."""
    cap: Cap
    """What binds."""
    caps: Mapping[str, float] = field(default_factory=dict)
    """For each `Cap` that was worked out, the number of workers it would allow alone."""
    inputs: Mapping[str, float] = field(default_factory=dict)
    """The figures behind it, by name with unit."""
    note: str = ""
    """One sentence for a person: what was held and why, or what is waited for. Empty when there is nothing to add."""
