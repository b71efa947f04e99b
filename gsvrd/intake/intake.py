"""The door: from "this path is dirty" to "this video is settled". The daemon's loop calls `turn`; nothing here blocks.

The scan is the truth about the inbox and events make it fast: both lead to `_consider`, which looks at one file and
accepts it, lets it wait, refuses it, or knows it already. No thread, no SQL, no change to any file but the probe.

What was handed out is remembered as a hash of path and identity, so that a file is handed out once for each of its
states. The memory ends with the process: after a restart everything in the inbox is handed out once more, and the
queue's unique index is the guard.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsvrd.clock import Clock
from gsvrd.errors import ErrorFacts, ErrorKind
from gsvrd.intake.identity import Candidate, Folders, Identity
from gsvrd.intake.mounts import Mounts
from gsvrd.intake.names import VIDEO_SUFFIXES, NameRules, printable
from gsvrd.intake.scan import Sight, Walked, is_worth_a_look, sight_of, walk
from gsvrd.intake.settle import Reading, WaitingRoom, read
from gsvrd.intake.tap import Notice
from gsvrd.intake.watcher import Watcher, WatchMode

BATCH = 1000
"""A turn ends when it has found this many (one more at most from each of its parts)."""
SLICE_S = 0.008
"""Most seconds a turn spends on each of its three parts: what is new, what is due, the scan."""
SCAN_SHARE = 0.05
"""A scan is not begun before the last one's cost is at most this share of the time: 1 s of work, then 20 s of rest."""
FOLDERS_TO_VISIT = 1000
"""With more new folders than this waiting to be looked into, everything is scanned instead."""


@dataclass(frozen=True, slots=True)
class IntakeSettings:
    """What the configuration says about the intake. Seconds; suffixes with or without a dot; `ignore` are globs."""

    watch: WatchMode = "auto"
    poll_interval_s: float = 5.0
    rescan_interval_s: float = 30.0
    settle_s: float = 2.0
    suffixes: tuple[str, ...] = VIDEO_SUFFIXES
    ignore: tuple[str, ...] = ()
    hard_links: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something with a video's name that will not be taken as it is. It stays where it lies."""

    path: bytes
    name: str
    identity: Identity
    facts: ErrorFacts


@dataclass(frozen=True, slots=True)
class Found:
    """What one turn found."""

    candidates: tuple[Candidate, ...] = ()
    refusals: tuple[Refusal, ...] = ()


_NOTHING = Found()


@dataclass(slots=True)
class _Scan:
    sights: Generator[Sight | None, None, None]
    walked: Walked
    is_full: bool
    began: float
    work_s: float = 0.0


class Intake:
    """Watches one inbox. Everything but `wake` happens on the thread that calls; deadlines are monotonic seconds."""

    def __init__(
        self,
        settings: IntakeSettings,
        inbox: Path,
        clock: Clock,
        wake: Callable[[], None],
        mounts: Mounts | None = None,
    ) -> None:
        """`wake` is called from watchdog's thread and must only poke the loop."""
        self._settings = settings
        self._inbox = os.fsencode(os.path.abspath(inbox))
        self._clock = clock
        self._mounts = mounts or Mounts()
        self._wake = wake
        self._rules = NameRules(settings.suffixes, settings.ignore)
        self._watcher = Watcher(settings.watch, self._inbox, clock, self._may_interest, wake, self._mounts)
        self._waiting = WaitingRoom(settings.settle_s)
        self._known: dict[int, int] = {}  # what was handed out -> the last full scan that met it
        self._round = 0
        self._root: tuple[int, int] | None = None
        self._trouble = ""
        self._scan: _Scan | None = None
        self._folders: set[bytes] = set()  # new ones, to be looked into
        self._next_scan: float | None = None
        self._searched = 0
        self._rested = 0.0
        self._last_scan: dict[str, Any] | None = None
        self._candidates: list[Candidate] = []
        self._refusals: list[Refusal] = []

    def start(self) -> None:
        """Begin to watch, and ask for the first scan. Call it on the main thread: it sets a signal's disposition."""
        # A writer that opens a file while we hold our microsecond lease on it makes the kernel send us SIGIO, whose
        # default is to end the process. We let go at once anyway, so there is nothing to be told.
        signal.signal(signal.SIGIO, signal.SIG_IGN)
        self.rescan()

    def stop(self) -> None:
        """Stop watching; what is known stays known."""
        self._watcher.stop()
        self._end_scan()
        self._next_scan = None

    def rescan(self) -> None:
        """Ask for a scan of everything, now or right after the one under way."""
        self._next_scan = self._clock.monotonic()

    def search(self) -> int:
        """Ask for a scan that meets what has another name by now, as soon as the last one's cost allows.

        Returns its number: it is over when `searched` has come so far.
        """
        soon = max(self._clock.monotonic(), self._rested)
        self._next_scan = soon if self._next_scan is None else min(self._next_scan, soon)
        return self._round + 1

    def searched(self) -> int:
        """The number of the last full scan that has come to its end."""
        return self._searched

    def forget(self, path: bytes, identity: Identity) -> None:
        """The file at `path` (absolute) has left the inbox, or was not accepted: it may be handed out again."""
        self._known.pop(_identity_key(path[len(self._inbox) + 1 :], identity), None)

    def change(self, settings: IntakeSettings) -> None:
        """Go on with other settings; what is known stays known."""
        self._watcher.stop()
        self._settings = settings
        self._rules = NameRules(settings.suffixes, settings.ignore)
        self._watcher = Watcher(settings.watch, self._inbox, self._clock, self._may_interest, self._wake, self._mounts)
        self._waiting = WaitingRoom(settings.settle_s)
        self.rescan()

    @property
    def trouble(self) -> str:
        """Why the inbox cannot be looked at, or "". While it lasts, a missing source is no proof that it is gone."""
        return self._trouble

    def turn(self) -> Found:
        """Do what is due, for some 20 ms at most, and tell what was found. Cheap when nothing is due."""
        deadline = self.next_deadline()
        if deadline is None or deadline > self._clock.monotonic():
            return _NOTHING
        try:
            folders = Folders(self._inbox)
        except OSError as error:
            self._lose_inbox(f"the inbox cannot be opened: {error.strerror}")
            return _NOTHING
        with contextlib.closing(folders):
            self._take_news(folders)
            if not self._trouble:
                self._look_again(folders)
            try:
                self._advance_scan(folders)
            except OSError as error:
                self._lose_inbox(f"the inbox cannot be scanned: {error.strerror}")
        found = Found(tuple(self._candidates), tuple(self._refusals))
        self._candidates, self._refusals = [], []
        return found

    def next_deadline(self) -> float | None:
        """When `turn` wants to be called though nobody woke the loop; in the past or now: at once."""
        if self._scan is not None or self._folders:
            return self._clock.monotonic()
        moments = [self._watcher.next_deadline, self._next_scan]
        if not self._trouble:
            moments.append(self._waiting.next_due)
        return min((moment for moment in moments if moment is not None), default=None)

    def describe(self) -> dict[str, Any]:
        """For the status: plain data."""
        return {
            "mode": self._watcher.mode,
            "why": self._watcher.why,
            "trouble": self._trouble,
            "settling": len(self._waiting),
            "overflows": self._watcher.overflows,
            "scanning": self._scan is not None,
            "last_scan": self._last_scan,
        }

    # What is new

    def _may_interest(self, name: bytes) -> bool:
        return self._rules.is_wanted(name) or self._rules.is_refused_as_link(name)

    def _take_news(self, folders: Folders) -> None:
        now = self._clock.monotonic()
        paths: dict[bytes, None] = {}  # creation and closing of a small file come together: one look
        for news in self._watcher.take(now):
            path = news.path if isinstance(news, Notice) else news
            paths[path] = None
            if isinstance(news, Notice) and self._rules.admits(path + b"/"):
                self._folders.add(path)
        if self._watcher.wants_scan or (self._trouble and paths) or len(self._folders) > FOLDERS_TO_VISIT:
            self._watcher.wants_scan = False
            self.rescan()
        for path in () if self._trouble else paths:
            self._look_at(folders, path, now)

    def _look_again(self, folders: Folders) -> None:
        now = self._clock.monotonic()
        for path in self._waiting.due(now):
            self._look_at(folders, path, now)
            if self._is_full() or self._clock.monotonic() - now > SLICE_S:
                return

    def _look_at(self, folders: Folders, path: bytes, now: float) -> None:
        sight = None
        parent, _, name = path.rpartition(b"/")
        if self._rules.admits(path):
            with contextlib.suppress(OSError):  # gone, or behind a link now; of what cannot be read the scan tells
                sight = sight_of(folders.enter(parent), name, path)
        if sight is None or not is_worth_a_look(self._rules, sight):
            self._waiting.leave(path)
        else:
            self._consider(sight, now)

    # The scan

    def _advance_scan(self, folders: Folders) -> None:
        scan = self._scan or self._begin_scan(folders)
        if scan is None:
            return
        began = self._clock.monotonic()
        for sight in scan.sights:
            if sight is not None:
                self._consider(sight, began)
            if self._is_full() or self._clock.monotonic() - began > SLICE_S:
                scan.work_s += self._clock.monotonic() - began
                return
        scan.work_s += self._clock.monotonic() - began
        self._conclude(scan)

    def _begin_scan(self, folders: Folders) -> _Scan | None:
        now = self._clock.monotonic()
        if self._next_scan is not None and self._next_scan <= now:
            self._next_scan = None
            if not self._accept_root(folders.root_stat()) or self._watcher.is_starting:
                return None
            self._folders.clear()
            self._round += 1
            start, is_full = b"", True
        elif self._folders:
            start, is_full = self._folders.pop(), False
        else:
            return None
        walked = Walked()
        self._scan = _Scan(walk(self._inbox, start, self._rules, walked), walked, is_full, now)
        return self._scan

    def _conclude(self, scan: _Scan) -> None:
        self._end_scan()
        if not scan.is_full:
            return
        if scan.walked.is_whole and scan.walked.videos:  # suddenly empty looks like a lost mount: forget nothing
            self._known = {key: seen for key, seen in self._known.items() if seen >= self._round}
        self._searched = self._round
        now = self._clock.monotonic()
        self._rested = now + scan.work_s / SCAN_SHARE
        self._last_scan = {
            "at": self._clock.wall(),
            "seconds": round(now - scan.began, 3),
            "work_s": round(scan.work_s, 3),
            "videos": scan.walked.videos,
            "ignored": scan.walked.ignored,
            "problems": list(scan.walked.problems),
        }
        self._plan(max(now + self._pace(), self._rested))

    def _pace(self) -> float:
        if self._waiting.is_crowded:
            self._waiting.is_crowded = False
            return self._settings.settle_s
        if self._watcher.mode == "polling" or self._watcher.is_short:
            return self._settings.poll_interval_s
        return self._settings.rescan_interval_s

    def _plan(self, when: float) -> None:
        if self._next_scan is None:  # else one was asked for meanwhile
            self._next_scan = when

    def _end_scan(self) -> None:
        if self._scan is not None:
            self._scan.sights.close()
            self._scan = None

    # Is it the inbox?

    def _accept_root(self, found: os.stat_result) -> bool:
        root = (found.st_dev, found.st_ino)
        self._watcher.follow(found)
        if self._root not in (None, root) and self._is_empty():
            self._lose_inbox("the inbox is another folder than before, and empty: is its file system mounted?")
            return False
        self._root = root
        self._trouble = ""
        return True

    def _is_empty(self) -> bool:
        with os.scandir(self._inbox) as entries:
            return next(entries, None) is None

    def _lose_inbox(self, why: str) -> None:
        self._trouble = why
        self._end_scan()
        self._folders.clear()
        for _ in self._watcher.take(self._clock.monotonic()):
            pass
        self._next_scan = self._clock.monotonic() + self._settings.poll_interval_s

    # One file

    def _consider(self, sight: Sight, now: float) -> None:
        if not stat.S_ISREG(sight.found.st_mode):
            self._refuse(sight, _NOT_A_FILE.get(stat.S_IFMT(sight.found.st_mode), _ODD), fixed=True)
            return
        if self._is_known(_key(sight.relative, sight.found)):
            self._waiting.leave(sight.relative)
            return
        leases = not self._mounts.is_remote(sight.found.st_dev)
        reading, found = read(
            sight.folder, sight.name, sight.found, leases=leases, hard_links=self._settings.hard_links
        )
        self._decide(Sight(sight.folder, sight.name, sight.relative, found), reading, now)

    def _decide(self, sight: Sight, reading: Reading, now: float) -> None:
        key = _key(sight.relative, sight.found)
        facts = _REFUSED.get(reading)
        if reading is Reading.GONE:
            self._waiting.leave(sight.relative)
        elif reading in (Reading.WRITING, Reading.HINDERED):
            self._waiting.look_later(sight.relative, key, now)
        elif reading is Reading.READY:
            self._accept(sight, key)
        elif facts is not None and self._is_known(_refusal_key(key, facts)):
            self._waiting.leave(sight.relative)
        elif self._waiting.has_stood_still(sight.relative, key, now):
            if facts is None:
                self._accept(sight, key)
            else:
                self._refuse(sight, facts)

    def _accept(self, sight: Sight, key: int) -> None:
        self._waiting.leave(sight.relative)
        if self._is_known(key):  # it had been rewritten when we came, and is as it was before by now
            return
        self._known[key] = self._round
        path = self._inbox + b"/" + sight.relative
        self._candidates.append(Candidate(path, printable(sight.relative), Identity.of(sight.found)))

    def _refuse(self, sight: Sight, facts: ErrorFacts, *, fixed: bool = False) -> None:
        """Once for each thing and reason; `fixed`: its size and time do not matter (a folder's change all the time)."""
        found = sight.found
        state = hash((sight.relative, found.st_dev, found.st_ino)) if fixed else _key(sight.relative, found)
        key = _refusal_key(state, facts)
        self._waiting.leave(sight.relative)
        if self._rules.is_manifest(sight.name):  # an empty list, or somebody's notes: no video that could not be done
            return
        if not self._is_known(key):
            self._known[key] = self._round
            path = self._inbox + b"/" + sight.relative
            self._refusals.append(Refusal(path, printable(sight.relative), Identity.of(found), facts))

    def _is_known(self, key: int) -> bool:
        if key not in self._known:
            return False
        self._known[key] = self._round
        return True

    def _is_full(self) -> bool:
        return len(self._candidates) + len(self._refusals) >= BATCH


def _key(relative: bytes, found: os.stat_result) -> int:
    return _identity_key(relative, Identity.of(found))


def _identity_key(relative: bytes, identity: Identity) -> int:
    return hash((relative, identity))


def _refusal_key(state: int, facts: ErrorFacts) -> int:
    return hash((state, facts.message))


def _not_regular(message: str, hint: str) -> ErrorFacts:
    return ErrorFacts(ErrorKind.NOT_REGULAR, message, hint)


_DROP_THE_FILE = "Drop the video itself; what is not a plain file is never opened."
_ODD = _not_regular("it is no regular file", _DROP_THE_FILE)
_NOT_A_FILE = {
    stat.S_IFLNK: _not_regular("it is a symbolic link", "Links are not followed. Drop a copy of the video."),
    stat.S_IFIFO: _not_regular("it is a named pipe", _DROP_THE_FILE),
    stat.S_IFSOCK: _not_regular("it is a socket", _DROP_THE_FILE),
    stat.S_IFBLK: _not_regular("it is a block device", _DROP_THE_FILE),
    stat.S_IFCHR: _not_regular("it is a character device", _DROP_THE_FILE),
    stat.S_IFDIR: _not_regular(
        "it is a folder with the name of a video", "Videos inside it are taken; rename the folder to silence this."
    ),
}
_REFUSED = {
    Reading.LINKED: _not_regular(
        "another name points at the same file (hard link)", "Drop a copy, or allow hard links in the configuration."
    ),
    Reading.UNREADABLE: ErrorFacts(
        ErrorKind.PERMISSION, "the file may not be read", "Give the daemon's user read permission; it is then taken."
    ),
}
