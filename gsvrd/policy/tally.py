"""Tallies: how often something took how long, in a few counts; what histograms are drawn from. Pure.

The loop notes, another thread reads: `read` copies the counts in one step of the interpreter, so what it gives is whole.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate

OTHER = "other"
"""The word for whatever comes after the last that has a tally of its own."""


@dataclass(slots=True)
class Tally:
    """Of one thing. `bounds` rise; a value equal to one counts below it."""

    bounds: tuple[float, ...]
    total: float = 0.0
    _counts: list[int] = field(init=False)

    def __post_init__(self) -> None:
        """One more count than bounds: the last is of all that is larger."""
        self._counts = [0] * (len(self.bounds) + 1)

    def note(self, value: float) -> None:
        """Count one."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def read(self) -> list[int]:
        """How many were at most each bound, and last how many there were at all."""
        return list(accumulate(self._counts.copy()))


@dataclass(slots=True)
class Tallies:
    """Of things by name; after `most` names the others share one."""

    bounds: tuple[float, ...]
    most: int = 32
    _by_name: dict[str, Tally] = field(default_factory=dict)

    def note(self, name: str, value: float) -> None:
        """Count one of this name."""
        if name not in self._by_name and len(self._by_name) >= self.most:
            name = OTHER
        self._by_name.setdefault(name, Tally(self.bounds)).note(value)

    def read(self) -> list[tuple[str, Tally]]:
        """Those there are."""
        return list(self._by_name.items())
