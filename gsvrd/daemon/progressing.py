"""Progressing: how far the work is, how fast it goes and when it ends, told to `gsvrctl` and to progress files.

The loop only says that something was written; at most once a second, and for at most a small share of the time, a thread of
its own then reads how work stands, forecasts, and replaces the progress files. What it saw comes back as one service row.
With nothing to tell it wakes for nothing. A progress file that cannot be written is a note in that row and delays nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from gsvrd.clock import Clock
from gsvrd.daemon.filing import Filing
from gsvrd.daemon.outlook import PROGRESS, UNSEEN, Outlook, Seen
from gsvrd.daemon.pacing import Pacer

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
    _again_s: float = AGAIN_S
    _is_asked_again: bool = False
    _pacer: Pacer = field(init=False)

    def __post_init__(self) -> None:
        """Its own pauses."""
        self._pacer = Pacer(self.clock, self.later, self._begin, PAUSE_RATIO, LEAST_S)

    def prepare(self, load: Callable[[], object]) -> None:
        """At start: before the first look, what looks need is loaded in the thread."""
        self._pacer.prepare(self.filing, load)

    def note(self, statements: int) -> None:
        """A transaction of so many statements was committed."""
        others, self._own = statements > self._own, 0
        if others:
            self.changed()

    def changed(self) -> None:
        """Something is otherwise: at start, after another process has written, after a reload."""
        self._is_changed = True
        self._begin()

    def expect(self, workers: int) -> None:
        """So many workers go on from here; nothing happens while that is known."""
        if self.outlook.workers != workers:
            self.outlook = replace(self.outlook, workers=workers)
            self.changed()

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
        if not self._is_changed or not self._pacer.admits():
            return
        self._is_changed = False
        wall, outlook = self.clock.wall(), self.outlook
        self.filing.submit(lambda: self.look(wall, outlook), self._ended, lambda _: self._ended(UNSEEN))

    def _ended(self, seen: Seen) -> None:
        self._pacer.rest()
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
