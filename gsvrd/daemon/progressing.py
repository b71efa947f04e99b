"""Progressing: how far the work is, how fast it goes and when it ends, told to `gsvrctl` and to progress files.

The loop only says that something was written; at most once a second, and for at most a small share of the time, a thread of
its own then reads how work stands, forecasts, and replaces the progress files. What it saw comes back as one service row.
With nothing to tell it wakes for nothing. A progress file that cannot be written is a note in that row and delays nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gsvrd.clock import Clock
from gsvrd.daemon.figures import Outlook
from gsvrd.daemon.filing import Filing
from gsvrd.daemon.observing import PROGRESS, UNSEEN, Seen

LEAST_S = 1.0
"""Between the beginnings of two looks."""
PAUSE_RATIO = 30.0
"""After a look, so many times as long as it took there is none."""
AGAIN_S, AGAIN_MOST_S = 5.0, 300.0
"""When there is another look after one that failed, or in which a file could not be written: growing up to this."""


@dataclass(slots=True)
class Progressing:
    """The loop's side: decides when."""

    look: Callable[[float, Outlook], Seen]
    """Called in the thread: `Observer.look`."""
    outlook: Outlook
    """May be replaced; `changed` has to be called then."""
    filing: Filing
    """One of its own: reports must not wait for a look."""
    clock: Clock
    later: Callable[[float, Callable[[], None]], None]
    remember: Callable[[str, object], None]
    """Stores a service row, with the turn's transaction."""
    _is_changed: bool = False
    _own: int = 0
    """Statements of the next transaction that are only this room's."""
    _not_before: float = 0.0
    _again_s: float = AGAIN_S
    _is_looking: bool = False
    _is_waiting: bool = False
    _is_asked_again: bool = False

    def note(self, statements: int) -> None:
        """A transaction of so many statements was committed."""
        others, self._own = statements > self._own, 0
        if others:
            self.changed()

    def changed(self) -> None:
        """Something is otherwise: at start, after another process has written, after a reload."""
        self._is_changed = True
        self._begin()

    def collect(self) -> bool:
        """Hear how a look ended; once a turn, and before it waits. True when one did."""
        return self.filing.collect()

    def close(self) -> None:
        """At the end: a last look, so that files say how it ended; its row is for the last transaction."""
        wall, outlook = self.clock.wall(), self.outlook
        self.filing.submit(lambda: self.look(wall, outlook), self._keep, lambda _: None)
        self.filing.close()
        self.filing.collect()

    def _begin(self) -> None:
        """Now, or when the look under way has ended, or when the pause is over."""
        if not self._is_changed or self._is_looking or self._is_waiting:
            return
        wait_s = self._not_before - self.clock.monotonic()
        if wait_s > 0:
            self._is_waiting = True
            self.later(wait_s, self._pause_is_over)
            return
        self._is_changed, self._is_looking = False, True
        began, wall, outlook = self.clock.monotonic(), self.clock.wall(), self.outlook
        self.filing.submit(
            lambda: self.look(wall, outlook),
            lambda seen: self._ended(seen, began),
            lambda _: self._ended(UNSEEN, began),
        )

    def _pause_is_over(self) -> None:
        self._is_waiting = False
        self._begin()

    def _ended(self, seen: Seen, began: float) -> None:
        now = self.clock.monotonic()
        self._is_looking = False
        self._not_before = max(began + LEAST_S, now + PAUSE_RATIO * (now - began))
        self._keep(seen)
        if not seen.incomplete:
            self._again_s = AGAIN_S
        elif not self._is_asked_again:
            self._is_asked_again = True
            self.later(self._again_s, self._again)
            self._again_s = min(AGAIN_MOST_S, 2 * self._again_s)
        self._begin()

    def _again(self) -> None:
        self._is_asked_again = False
        self.changed()

    def _keep(self, seen: Seen) -> None:
        if seen.row is not None:
            self._own += 1
            self.remember(PROGRESS, seen.row)
