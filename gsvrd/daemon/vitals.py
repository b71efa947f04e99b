"""Vitals: what the loop says of itself while it turns, for whoever watches from another thread (`daemon.metrics`).

The loop writes plain values, each in one step of the interpreter; nothing here locks, waits or knows who reads. It costs
two microseconds a turn, so it is kept whether somebody watches or not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gsvrd.clock import Clock
from gsvrd.policy.tally import Tallies, Tally

LIVE_S = 30.0
"""A loop that is so late is stuck: it has something to do every five seconds at the least."""
_TURNS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
_STAGES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0, 7200.0)


@dataclass(slots=True)
class Vitals:
    """Times are monotonic seconds."""

    clock: Clock
    word: str = "starting"
    """Then running, paused, draining or stopped."""
    doors: tuple[str, ...] = ()
    """Names of those that are closed."""
    workers: int = 0
    target: int = 0
    busy: int = 0
    turns: Tally = field(default_factory=lambda: Tally(_TURNS))
    """How long the loop was at work between two waits."""
    stages: Tallies = field(default_factory=lambda: Tallies(_STAGES))
    """How long stages of attempts took, by stage."""
    _due: float | None = field(init=False)
    """Since when, or from when on, the loop owes something; None while it waits for events alone."""
    _woke_at: float = field(init=False)

    def __post_init__(self) -> None:
        """A start is work, too."""
        self._due = self._woke_at = self.clock.monotonic()

    def waits(self, until: float | None) -> None:
        """The loop has done its turn and waits, for a moment or for events."""
        self.turns.note(self.clock.monotonic() - self._woke_at)
        self._due = until

    def wakes(self) -> None:
        """It begins a turn."""
        self._due = self._woke_at = self.clock.monotonic()

    @property
    def lag_s(self) -> float:
        """How long something that is due now has waited for the loop: 0 in a loop that waits."""
        due = self._due
        return 0.0 if due is None else max(0.0, self.clock.monotonic() - due)

    @property
    def is_live(self) -> bool:
        """Whether the loop turns, or is not there yet: a start with a long history takes its time."""
        return self.word == "starting" or self.lag_s < LIVE_S

    def unready(self) -> str:
        """Why no work would start, in a few words; empty when it would. A pause is somebody's wish and no trouble."""
        if not self.is_live:
            return f"the loop is stuck for {self.lag_s:.0f} s"
        if self.word not in ("running", "paused"):
            return self.word
        return f"closed doors: {', '.join(self.doors)} (see gsvrctl status)" if self.doors else ""
