"""Pace: when the number of workers follows what is wanted. At once to where it was before, slowly beyond, late downwards."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from gsvrd.policy.readings import Cap, Settings
from gsvrd.policy.sharing import Share

GROWTH = 2.0
"""A step beyond what was proven is at most to so many times as many."""
DOWN_AFTER_S, VOTES, VOTES_FOR_LITTLE, MUCH = 60.0, 3, 12, 0.75
"""Readings in a row that say fewer; more of them for a step that leaves more than so large a part."""
IDLE_S, IDLE_STEP_S = 600.0, 300.0
MANY, ANOTHER_S = 4.0, 450.0
"""So many changes may follow one another, and one more after so long each: at most 12 in any hour, whatever happens."""


STOPS = {
    Cap.CPU: "the processors are busy above cpu_high, and workers wait for them",
    Cap.ERRORS: "more calls than api_error_high fail for load",
    Cap.API: "calls take longer than response_high_s, and too few are known to tell slow from long",
}


@dataclass(frozen=True, slots=True)
class Signs:
    """What else matters for a step."""

    busy: bool
    """Every worker has a task."""
    stop: Cap | None = None
    """What forbids to grow beyond what was proven."""
    full: bool = False
    """Memory is used so far that nothing may grow at all."""


@dataclass(slots=True)
class Pace:
    """See the module; `step` says in `why` what is waited for."""

    size: int
    proven: int
    changed_at: float
    raised_at: float
    why: str = ""
    _votes: int = 0
    _changes: float = MANY
    """That may still be made."""
    _counted_at: float = field(init=False)
    _wants: deque[tuple[float, int]] = field(default_factory=deque)
    _began: float = field(init=False)

    def __post_init__(self) -> None:
        """What was wanted before is not known."""
        self._began = self._counted_at = self.changed_at

    def step(self, share: Share, signs: Signs, settings: Settings, now: float) -> None:
        """The number is `size` from now on."""
        self._changes = min(MANY, self._changes + (now - self._counted_at) / ANOTHER_S)
        self._counted_at = now
        self._wants.append((now, share.want))
        while self._wants[0][0] < now - IDLE_S:
            self._wants.popleft()
        self.why = ""
        self._votes = self._votes + 1 if share.bear < self.size else 0
        if share.want > self.size:
            self._up(share, signs, settings, now)
        elif share.bear < self.size:
            self._down(share, now)
        elif share.want < self.size:
            self._idle(now)

    def _up(self, share: Share, signs: Signs, settings: Settings, now: float) -> None:
        if signs.full:
            self.why = "memory is nearly used up"
        elif min(share.want, self.proven) > self.size:
            self._set(min(share.want, self.proven), now)
        elif signs.stop is not None:
            self.why = STOPS[signs.stop]
        elif not signs.busy:
            self.why = "not all workers are busy yet"
        elif (wait_s := self._wait_s(settings, now)) > 0.0:
            self.why = f"{share.want} wanted, the next step is due in {math.ceil(wait_s)} s or so"
        else:
            self._raise(min(share.want, max(self.size + 1, math.floor(GROWTH * self.size))), now)

    def _raise(self, size: int, now: float) -> None:
        """Beyond what was proven; one change is left for going back."""
        if self._set(size, now, left=1):
            self.raised_at = now

    def _wait_s(self, settings: Settings, now: float) -> float:
        return max(settings.cooldown_s - (now - self.raised_at), DOWN_AFTER_S / 2 - (now - self.changed_at))

    def _down(self, share: Share, now: float) -> None:
        if (
            self._votes >= (VOTES if share.bear <= MUCH * self.size else VOTES_FOR_LITTLE)
            and now - self.changed_at >= DOWN_AFTER_S
        ):
            if self._set(share.bear, now):
                self.proven = min(self.proven, max(share.bear, share.want))
        else:
            self.why = f"{share.bear} would do; whether that lasts is waited for"

    def _idle(self, now: float) -> None:
        most = max(value for _, value in self._wants)
        if most < self.size and now - self.changed_at >= IDLE_STEP_S and now - self._began >= IDLE_S:
            self._set(most, now, left=1)
        else:
            self.why = "there is less to do; whether that lasts is waited for"

    def prove(self) -> None:
        """So many are all busy, and do no harm."""
        self.proven = max(self.proven, self.size)

    def _set(self, size: int, now: float, *, left: int = 0) -> bool:
        """Unless there were too many changes lately; so many have to be left after it."""
        if self._changes < 1 + left:
            self.why = f"{size} would be better, and the number has changed often: in a while"
            return False
        self._changes -= 1.0
        self.size, self.changed_at, self._votes = size, now, 0
        return True
