"""Replay: what the controller would have said with other settings, to the readings it had. Pure; called by `gsvrd tune`.

The readings are those of what really happened, so the answer holds for the next step and not for what would have come of it:
more workers would have used more processors, and the readings after that would have been others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import msgspec

from gsvrd.policy.controller import Controller, Metrics, Settings


class Start(msgspec.Struct, frozen=True):
    """What a run of the daemon began with."""

    moment: float
    """Monotonic seconds."""
    known: Any = None
    """The state that the controller was restored from."""


class Reading(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the controller was told at one tick, and what it said."""

    at: float
    """UTC epoch seconds."""
    moment: float
    """Monotonic seconds of that run of the daemon."""
    metrics: Metrics
    workers: int
    cap: str
    settings: Settings | None = None
    """Where they begin to hold."""
    start: Start | None = None
    """Where a run begins."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One tick: what was said, and what would be."""

    at: float
    was: int
    was_cap: str
    now: int
    now_cap: str

    @property
    def differs(self) -> bool:
        """Whether it is another number of workers."""
        return self.was != self.now


def names() -> list[str]:
    """What may be set."""
    return [field.name for field in fields(Settings)]


def changed(settings: Settings, values: Mapping[str, str]) -> Settings:
    """The settings with some of them said anew. Raises `ValueError` that says which is wrong."""
    known = asdict(settings)
    for name, text in values.items():
        if name not in known:
            raise ValueError(f"there is no {name!r}; there are: {', '.join(known)}")
        try:
            known[name] = type(known[name])(text)
        except ValueError as error:
            raise ValueError(f"{name}: {text!r} is no number of that kind") from error
    return Settings(**known)


def replay(readings: Iterable[Reading], values: Mapping[str, str]) -> Iterator[Compared]:
    """Every tick again, with `values` in place of what was set then. Raises `ValueError` like `changed`."""
    controller: Controller | None = None
    for reading in readings:
        if controller is None or reading.start is not None:
            start = reading.start or Start(reading.moment, {"size": reading.workers})
            settings = changed(reading.settings or Settings(), values)
            controller = Controller.restore(settings, start.known, start.moment)
        elif reading.settings is not None:
            controller.settings = changed(reading.settings, values)
        decision = controller.decide(reading.metrics, reading.moment)
        yield Compared(reading.at, reading.workers, reading.cap, decision.workers, decision.cap.value)
