"""Doors: named reasons why nothing new is started. Each is closed by whoever meets the trouble and opened when it ends."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Closed:
    """A closed door, for people."""

    reason: str
    since: float
    """UTC epoch seconds."""


@dataclass(slots=True)
class Doors:
    """Work starts only while no door is closed."""

    closed: dict[str, Closed] = field(default_factory=dict)
    changed: bool = True
    """Since somebody last looked and reset it."""

    def close(self, name: str, reason: str, now: float) -> None:
        """Close one, or give a closed one its newest reason."""
        before = self.closed.get(name)
        if before is None or before.reason != reason:
            self.closed[name] = Closed(reason, before.since if before else now)
            self.changed = True

    def open(self, name: str) -> None:
        """Open one; nothing happens if it is open."""
        if self.closed.pop(name, None) is not None:
            self.changed = True

    @property
    def reason(self) -> str:
        """All reasons in one line; empty when work may start."""
        return "; ".join(door.reason for door in self.closed.values())
