"""The seam between a worker and what studies the video.

A worker prepares a `Workbench` for one attempt and calls `Analyzer.analyze`. An analyzer never touches the queue, the
report's place or the inbox; it reads `bench.source`, writes pictures into `bench.assets`, says how far it is, and keeps
each finished stage through `bench.keep`, so that a later attempt gets it back instead of paying again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import BaseModel

from gsvrd.analysis import Analysis, MediaFacts
from gsvrd.policy.limiter import Lane

Kept = TypeVar("Kept", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Call:
    """A call to a service that wants to start."""

    lane: Lane
    model: str
    tokens_in: int = 0
    """Counted, or estimated upwards."""
    tokens_out_most: int = 0
    """The cap that is sent with the request, thinking included."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What came of a call. Tokens are those the service billed."""

    outcome: str = "ok"
    """`ok`, or the `ErrorKind` it ended with."""
    tokens_in: int = 0
    tokens_out: int = 0
    """Thinking included."""
    was_sent: bool = True
    """False only if the request provably never reached the service."""
    is_known: bool = True
    """False if it was sent and nobody knows what it cost: then it counts with its worst case."""
    retry_after_s: float | None = None
    """A refusal's own word on when to come again; the whole lane cools down."""
    is_daily: bool = False
    """The refusal was about the day's quota."""


class Permit(Protocol):
    """Leave to make one call; it must be settled, also when the call fails."""

    def settle(self, spent: Spent) -> None:
        """Say what came of it."""
        ...


class Workbench(Protocol):
    """What a worker lays out for one attempt."""

    @property
    def source(self) -> str:
        """A name PyAV can open that stands for the checked descriptor (`file:/proc/self/fd/N`), not the inbox path."""
        ...

    @property
    def link(self) -> str:
        """The address of a video that stays where it is; then there is no `source`, and no length in `facts`."""
        ...

    @property
    def name(self) -> str:
        """The file's name as people know it, without folders; printable, for titles and messages only."""
        ...

    @property
    def facts(self) -> MediaFacts:
        """What the probe stage found."""
        ...

    @property
    def sidecars(self) -> Sequence[Path]:
        """Subtitle files that lie beside the video (`.srt`, `.vtt`), best first."""
        ...

    @property
    def assets(self) -> Path:
        """An existing directory for pictures; it survives to the next attempt."""
        ...

    @property
    def threads(self) -> int:
        """How many threads native libraries may use."""
        ...

    @property
    def language(self) -> str:
        """The language the report shall be in: `auto`, or BCP 47."""
        ...

    def progress(self, step: str, fraction: float) -> None:
        """Say that `step` is done to `fraction` (0 to 1). Cheap: repeated calls are thinned out."""
        ...

    def keep(self, stage: str, kind: type[Kept], make: Callable[[], Kept]) -> Kept:
        """The result of `stage`: from an earlier attempt if it finished there, else made now and stored."""
        ...


class GovernedBench(Workbench, Protocol):
    """A bench for analyzers that call a service: every call asks first."""

    def ask(self, call: Call) -> Permit:
        """Leave for a call: comes when it may start.

        Raises `Snooze` when that is too far away, `TaskError` (BUDGET, TOO_LARGE) when it may not start at all.
        """
        ...

    def forget(self, stage: str) -> None:
        """What was kept of `stage` is of no use any more (a remote file that has expired)."""
        ...


class Analyzer(Protocol):
    """Studies one video at a time; one instance lives as long as its worker and may keep engines warm."""

    @property
    def name(self) -> str:
        """The word for it in the configuration and in the report."""
        ...

    @property
    def takes_links(self) -> bool:
        """Whether it can study a video that stays where it is; else `Workbench.link` is always empty."""
        ...

    def analyze(self, bench: Workbench) -> Analysis:
        """Study the video.

        Raises `TaskError` with a kind and a hint when the video cannot be studied. What could not be done without
        failing goes into `Analysis.gaps`; nothing is invented.
        """
        ...

    def discard(self, kept: Mapping[str, bytes]) -> None:
        """A task has ended: take away what it left at a service, according to its `kept` stages (as JSON).

        What is gone already is no error. Raises `TaskError` and `Snooze` when it stays.
        """
        ...
