"""An intake with a loop around it, for tests: turns it until a condition holds, and keeps all that it found."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from gsvrd.clock import Clock, SystemClock
from gsvrd.intake.identity import Candidate
from gsvrd.intake.intake import Intake, IntakeSettings, Refusal
from gsvrd.intake.mounts import Mounts
from support.waiting import eventually


class Door:
    """Use it as a context manager; it starts the intake."""

    def __init__(
        self, inbox: Path, settings: IntakeSettings, clock: Clock | None = None, mounts: Mounts | None = None
    ) -> None:
        self.pokes = 0
        self.intake = Intake(settings, inbox, clock or SystemClock(), self._poke, mounts)
        self.candidates: list[Candidate] = []
        self.refusals: list[Refusal] = []

    def __enter__(self) -> Door:
        self.intake.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.intake.stop()

    def _poke(self) -> None:
        self.pokes += 1

    def turn(self) -> None:
        found = self.intake.turn()
        self.candidates.extend(found.candidates)
        self.refusals.extend(found.refusals)

    def until(self, condition: Callable[[], Any], timeout_s: float = 10.0) -> None:
        """Turn until `condition` holds."""

        def turned() -> Any:
            self.turn()
            return condition()

        eventually(turned, timeout_s)

    def rest(self) -> None:
        """Turn until nothing is due at this moment of the clock."""
        for _ in range(10_000):
            deadline = self.intake.next_deadline()
            if deadline is None or deadline > self.intake._clock.monotonic():
                return
            self.turn()
        raise AssertionError("the intake finds no rest")

    @property
    def names(self) -> list[str]:
        return [candidate.name for candidate in self.candidates]

    @property
    def refused(self) -> dict[str, str]:
        return {refusal.name: refusal.facts.message for refusal in self.refusals}


def put(path: Path | bytes, content: bytes = b"video") -> None:
    """Write a file and close it."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)
