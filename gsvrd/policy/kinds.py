"""Kinds: what tasks of one kind ask of the machine and the service, as moving averages of those that ended."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gsvrd.policy.readings import Completion

NEWEST = 0.15
LEAST_S = 0.001
MOST = 1e7
"""A figure of one task beyond that (seconds, calls) is no figure."""
CALLING = 0.05
"""A kind that spends less of its time in calls is bound by this machine."""


@dataclass(slots=True)
class Kind:
    """One kind. Shares are of the time in which a task has a worker and nothing keeps it waiting."""

    hold_s: float
    """How long a task has its worker, waits at a door not counted."""
    cpu: float
    """Cores that one worker uses if it gets them."""
    share: float
    """Of the time in which a call is under way."""
    calls: float
    """A task makes."""
    seen: int = 1

    @classmethod
    def of(cls, one: Completion) -> Kind | None:
        """What one task tells; None if its figures are nonsense."""
        figures = (one.wall_s, one.waited_s, one.cpu_s or 0.0, one.cpu_wait_s or 0.0, one.api_s, one.beside)
        if not all(0.0 <= figure <= MOST for figure in figures) or one.waited_s > one.wall_s:
            return None
        if not 0 <= one.calls <= MOST or not (one.size is None or 0.0 <= one.size < math.inf):
            return None
        hold_s = max(LEAST_S, one.wall_s - one.waited_s)
        run_s = max(LEAST_S, hold_s - (one.cpu_wait_s or 0.0))
        return cls(hold_s, (one.cpu_s or 0.0) / run_s, min(1.0, one.api_s / run_s), float(one.calls))

    def add(self, other: Kind) -> None:
        """Another task."""
        new = max(NEWEST, 1.0 / (self.seen + 1))
        self.hold_s += new * (other.hold_s - self.hold_s)
        self.cpu += new * (other.cpu - self.cpu)
        self.share += new * (other.share - self.share)
        self.calls += new * (other.calls - self.calls)
        self.seen += 1

    @property
    def is_calling(self) -> bool:
        """Whether the service bounds it, and not this machine."""
        return self.share > CALLING


@dataclass(frozen=True, slots=True)
class Work:
    """What is on workers and in line, of the kinds that call or of the others, with their averages."""

    kinds: tuple[str, ...] = ()
    asked: int = 0
    """Tasks, running or in line."""
    hold_s: float = 0.0
    cpu: float = 0.0
    share: float = 0.0
    calls: float = 0.0

    @property
    def left_s(self) -> float:
        """Seconds of one worker."""
        return self.asked * self.hold_s

    @classmethod
    def of(cls, asked: dict[str, int], known: dict[str, Kind]) -> Work:
        """Of these kinds, each with how many are asked for; averages over those that are known."""
        if not asked:
            return cls()
        seen = [(known[name], max(1, count)) for name, count in asked.items() if name in known]
        whole = sum(count for _, count in seen)
        if not whole:
            return cls(tuple(asked), sum(asked.values()))
        return cls(
            tuple(asked),
            sum(asked.values()),
            sum(kind.hold_s * count for kind, count in seen) / whole,
            sum(kind.cpu * count for kind, count in seen) / whole,
            sum(kind.share * count for kind, count in seen) / whole,
            sum(kind.calls * count for kind, count in seen) / whole,
        )
