"""What the configuration says that matters for progress, and what a look at it brings back.

Made by `settings`, used by `progressing` in the loop and by `observing` in its thread. Apart from both, since the start of
the daemon does not wait for what forecasts need.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRESS = "progress"
"""The service row."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a day, or all time, allows of calls and money (micro-dollars); None is no limit."""

    project: str
    model: str
    requests_per_day: float | None = None
    cost_day: int | None = None
    cost_total: int | None = None


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the configuration says that matters for progress."""

    reports: Path
    kind: str
    """The analyzer."""
    workers: int
    parallel: int | None = None
    """Of a batch that says nothing itself."""
    progress_file: str = ""
    """Likewise."""
    allowance: Allowance | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """The end of a look."""

    row: dict[str, Any] | None
    """None when the database could not be read."""
    incomplete: bool = False
    """Something is left that another look may do."""


UNSEEN = Seen(None, incomplete=True)
