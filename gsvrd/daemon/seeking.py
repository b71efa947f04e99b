"""Looking for a source that is not where it was: somebody may have renamed it, and nobody has told the queue yet.

Used by `Places`. A scan of the whole inbox decides: what it meets comes in by the usual door, where the path of a file
that is known already is brought up to date. Touches no file and no row itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from gsvrd.daemon.filing import Filing

log = structlog.get_logger("gsvrd.seeking")

SEEK_S = 2.0
"""Between two looks at whether the scan has come to its end."""


@dataclass(slots=True)
class Seeking:
    """The sources that are being looked for, by task."""

    search: Callable[[], int]
    """See `Intake.search`."""
    searched: Callable[[], int]
    """See `Intake.searched`."""
    filing: Filing
    after_commit: Callable[[Callable[[], None]], None]
    later: Callable[[float, Callable[[], None]], None]
    _in_vain: dict[int, bool] = field(default_factory=dict)
    """False while the scan is under way."""

    def is_gone(self, task: int) -> bool:
        """Whether a scan that began after the source was first missed has not met it either.

        False starts the search, if there is none; ask again later. True ends it.
        """
        if task not in self._in_vain:
            self._in_vain[task] = False
            log.info("source_missing", task=task)
            self._await(task, self.search())
        return self._in_vain[task] and self._in_vain.pop(task)

    def found(self, task: int) -> None:
        """It has another path by now."""
        self._in_vain.pop(task, None)

    def _await(self, task: int, scan: int) -> None:
        if self.searched() < scan:
            self.later(SEEK_S, lambda: self._await(task, scan))
            return
        # What the scan has met goes through the filing thread before us, and then into the turn's transaction.
        self.filing.submit(lambda: None, lambda _: self.after_commit(lambda: self._conclude(task)), _never)

    def _conclude(self, task: int) -> None:
        if task in self._in_vain:
            self._in_vain[task] = True


def _never(error: OSError) -> None:
    raise error
