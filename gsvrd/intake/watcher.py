"""Events or polling: decides which, tells why, and hands on what is new. Used by the intake, on its thread.

Where events are to be had, watchdog's threads deliver paths (`tap`). Elsewhere the intake's own scan is run more often;
watchdog's PollingObserver would walk the same tree once more, in a thread, and keep a stat of every file in memory.

`auto` believes in events only after seeing one: a hidden probe file is made in the inbox, and if its event does not
come in time, events do not work there. File systems that other machines write to are polled without a try: a probe made
here would raise an event while the changes that matter would not.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Literal

from gsvrd.clock import Clock
from gsvrd.intake.mounts import Mounts
from gsvrd.intake.tap import PROBE, Notice, Tap, TapObserver, Tell, Word

WatchMode = Literal["auto", "events", "polling"]

PROBE_S = 1.0
START_S = 2.0
"""How long watching a large tree may take before the first scan is made without it."""
NEWS_A_TURN = 300


class Watcher:
    """The source of dirty paths. Times are monotonic seconds."""

    def __init__(
        self,
        mode: WatchMode,
        inbox: bytes,
        clock: Clock,
        is_interesting: Callable[[bytes], bool],
        wake: Callable[[], None],
        mounts: Mounts,
    ) -> None:
        """`is_interesting` judges a file's name, in watchdog's thread; `wake` pokes the loop, from there."""
        self._wish = mode
        self._inbox = inbox
        self._clock = clock
        self._is_interesting = is_interesting
        self._wake = wake
        self._mounts = mounts
        self._tell = Tell(wake)
        self._observer: TapObserver | None = None
        self._watched: tuple[int, int] | None = None
        self._deadline: float | None = None
        self._is_probing = False
        self.overflows = 0
        """How often events were lost."""
        self.is_short = False
        """Whether some folders have no watch, since the user's limit is reached."""
        self.wants_scan = False
        """Whether something happened that only a scan of everything makes good; the intake resets it."""
        self.mode: Literal["events", "polling"] = "polling"
        self.why = "not started"

    def follow(self, root: os.stat_result) -> None:
        """Watch the inbox that `root` is a stat of, unless that is what is being done."""
        identity = (root.st_dev, root.st_ino)
        if identity == self._watched:
            return
        self.stop()
        self._watched = identity
        self._mounts.forget()
        kind = self._mounts.kind(root.st_dev)
        if self._wish == "polling":
            self._poll("as configured")
        elif self._wish == "auto" and self._mounts.is_remote(root.st_dev):
            self._poll(f"the inbox is on {kind}, where changes by others raise no events")
        else:
            self._listen()

    def stop(self) -> None:
        """Let go of the inbox; does not wait for watchdog's threads."""
        if self._observer is not None:
            self._observer.stop()
            self._observer = None
        self._tell = Tell(self._wake)  # what the old threads may still say goes nowhere
        self._deadline = None
        self._is_probing = False
        self.is_short = False
        self._watched = None

    def take(self, now: float) -> Iterator[Notice | bytes]:
        """What is new: paths of files, and notices of the word FOLDER. All else is dealt with here."""
        for news in self._tell.take(NEWS_A_TURN):
            if isinstance(news, Notice) and news.word is not Word.FOLDER:
                self._heed(news)
            elif news == PROBE:
                self._believe()
            else:
                yield news
        # Last: a loop that came late must find what was told in time.
        if self._deadline is not None and now >= self._deadline:
            self._give_up_waiting()

    @property
    def is_starting(self) -> bool:
        """Whether a scan had better wait a moment, until every folder is watched; `wants_scan` then asks for it."""
        return self._deadline is not None and not self._is_probing

    @property
    def next_deadline(self) -> float | None:
        """When `take` wants to be called though nothing is told; now, if there is news."""
        return self._clock.monotonic() if self._tell.is_waiting else self._deadline

    def _listen(self) -> None:
        self.mode, self.why = "events", "starting"
        try:
            tap = Tap(os.path.realpath(self._inbox), self._is_of_interest, self._tell)
        except OSError as error:
            self._poll(f"inotify cannot be used: {error.strerror}")
            return
        self._observer = TapObserver(os.path.realpath(self._inbox), tap, self._tell)
        self._deadline = self._clock.monotonic() + START_S
        tap.start()
        self._observer.start()

    def _is_of_interest(self, name: bytes) -> bool:
        return name == PROBE or self._is_interesting(name)

    def _poll(self, why: str) -> None:
        watched = self._watched
        self.stop()
        self._watched = watched
        self.mode, self.why = "polling", why

    def _heed(self, notice: Notice) -> None:
        self.wants_scan = True
        if notice.word is Word.READY:
            self._deadline = None
            if self._wish == "auto":
                self._probe()
            else:
                self._settle_on("as configured")
        elif notice.word is Word.FAILED:
            self._poll(f"the inbox cannot be watched: {notice.why}")
        elif notice.word is Word.LOST:
            self.overflows += 1
        elif notice.word is Word.LIMIT:
            self.is_short = True
            if self._deadline is None:  # else it is not settled yet whether there are events at all
                self._settle_on("")
        else:  # GONE: the next scan finds out what is there now
            self.stop()
            self.why = notice.why

    def _probe(self) -> None:
        self._is_probing = True
        self._deadline = self._clock.monotonic() + PROBE_S
        path = os.path.join(self._inbox, PROBE)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)  # left by a kill
            # EXCL: a link that somebody put there is not followed
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            os.unlink(path)
        except OSError as error:
            self._poll(f"the probe file cannot be written: {error.strerror}")

    def _believe(self) -> None:
        if self._is_probing:
            self._is_probing = False
            self._deadline = None
            self._settle_on("the probe file raised its event")

    def _settle_on(self, why: str) -> None:
        short = "some folders have no watch (raise fs.inotify.max_user_watches): they are scanned instead"
        self.why = short if self.is_short else why

    def _give_up_waiting(self) -> None:
        self._deadline = None
        self.wants_scan = True  # also for a tree so large that it is still being watched; READY asks for another
        if self._is_probing:
            self._poll(f"the probe file raised no event within {PROBE_S:g} s")
