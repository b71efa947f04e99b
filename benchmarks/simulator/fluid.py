"""Work that shares something: all of it goes on at the same speed, so one clock that runs faster or slower serves all."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field


@dataclass(slots=True)
class Fluid:
    """`rate` is work done per second for each; `turn` what each got of the resource per second (without losses)."""

    rate: float = 1.0
    turn: float = 1.0
    done: float = 0.0
    """Work that one who was always there would have done."""
    got: float = 0.0
    """Seconds of the resource that one would have got."""
    held: float = 0.0
    """Seconds of all: an integral of how many there are."""
    used: float = 0.0
    """Seconds of the resource that all got."""
    _ends: list[tuple[float, int]] = field(default_factory=list)
    _gone: set[int] = field(default_factory=set)
    count: int = 0

    def add(self, who: int, amount: float) -> None:
        """`who` (a number used once) has so much to do."""
        heapq.heappush(self._ends, (self.done + amount, who))
        self.count += 1

    def drop(self, who: int) -> None:
        """It does not go on."""
        self._gone.add(who)
        self.count -= 1

    def next(self, now: float) -> float:
        """When the first is done, if nothing changes."""
        while self._ends and self._ends[0][1] in self._gone:
            self._gone.discard(heapq.heappop(self._ends)[1])
        if not self._ends or self.rate <= 0.0:
            return math.inf
        return now + max(0.0, (self._ends[0][0] - self.done) / self.rate)

    def pop(self) -> int:
        """The first, which is done."""
        self.count -= 1
        end, who = heapq.heappop(self._ends)
        self.done = max(self.done, end)
        return who

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self.done += self.rate * seconds
        self.got += self.turn * seconds
        self.held += self.count * seconds
        self.used += self.count * self.turn * seconds
