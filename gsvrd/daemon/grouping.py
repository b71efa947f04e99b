"""When to close a turn's transaction: at once, or a moment later because more is just coming.

A commit costs an fsync, which the disk charges alike for one statement and for hundreds. When workers report faster than
commits take, the turn waits for the next report about as long as the fsync it saves; when they do not, it never waits.
Asked by the loop; knows only times.
"""

from __future__ import annotations

from dataclasses import dataclass

from gsvrd.clock import Clock

STATEMENTS = 512
"""A transaction is not let grow beyond so many."""
_COMMITS_A_TURN = 4
"""How many commits' worth of time a turn may be kept open: then a fifth of the time goes to the disk."""
_OPEN_MOST_S = 0.025
_WEIGHT = 0.2
"""Of the newest commit in the average."""


@dataclass(slots=True)
class Grouping:
    """Times of commits and reports, and what they say about waiting."""

    clock: Clock
    _commit_s: float = 0.0
    _heard_at: float = 0.0
    _gap_s: float = 0.0
    _closes_at: float = 0.0

    def open(self) -> None:
        """A turn begins."""
        self._closes_at = self.clock.monotonic() + min(_COMMITS_A_TURN * self._commit_s, _OPEN_MOST_S)

    def heard(self) -> None:
        """Workers have reported something."""
        now = self.clock.monotonic()
        self._gap_s, self._heard_at = now - self._heard_at, now

    def committed(self, took_s: float) -> None:
        """A transaction was written and took so many seconds."""
        self._commit_s += _WEIGHT * (took_s - self._commit_s)

    def patience_s(self) -> float:
        """How long the next report is worth waiting for; 0 when it would not come while a commit lasts."""
        now = self.clock.monotonic()
        if self._gap_s > self._commit_s or now - self._heard_at > self._commit_s:
            return 0.0
        return max(0.0, min(self._commit_s, self._closes_at - now))
