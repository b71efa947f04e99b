"""watchdog, with the three things added that the intake needs and its handlers do not give.

Used by `watcher` only. watchdog (7.1 or newer) reads inotify in its own thread and keeps a watch on every sub-folder.
`Tap` takes the events right where they are read, for these reasons:

- a rename out of the inbox is held for half a second to be paired, and all that follows waits; we need no pairs;
- an overflow of the kernel's queue is only a log line there, a sub-folder without a watch (ENOSPC) not even that;
- three threads and four objects an event cost more than the event is worth.

Everything in here runs in watchdog's threads and does nothing but put a word on a queue and poke the loop.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from queue import SimpleQueue

from watchdog.events import FileClosedEvent, FileCreatedEvent, FileMovedEvent, FileSystemEventHandler
from watchdog.observers.api import BaseObserver, EventDispatcher
from watchdog.observers.inotify import InotifyEmitter
from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchCallback,
    WatchDescriptor,
)
from watchdog.observers.inotify_move_event_grouper import GroupedInotifyEvent

PROBE = b".gsvrd-probe-file"
"""Made in the inbox to learn whether events come at all; its event is never dropped for want of room."""

_COMES = InotifyConstants.IN_MOVED_TO | InotifyConstants.IN_CREATE
_NEW_FOLDER = Mask(InotifyConstants.IN_CREATE | InotifyConstants.IN_ISDIR)
_FILTER = [FileClosedEvent, FileCreatedEvent, FileMovedEvent]


class Word(Enum):
    """What watchdog's threads tell apart from files."""

    FOLDER = auto()
    """A folder came: everything below it is new to us."""
    READY = auto()
    """Every folder is watched now."""
    LOST = auto()
    """Events were lost."""
    GONE = auto()
    """No more events come: the inbox itself was removed or unmounted, or watching failed."""
    LIMIT = auto()
    """A folder could not be watched: the user's limit on inotify watches is reached."""
    FAILED = auto()
    """Watching did not start."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A word and its particulars: a path below the inbox, or a reason."""

    word: Word
    path: bytes = b""
    why: str = ""


@dataclass(frozen=True, slots=True)
class _Watched:
    path: bytes
    callback: WatchCallback
    id: CallbackId


News = bytes | Notice
"""The path of a file below the inbox that may be new, or a notice."""


class Tell:
    """The way from watchdog's threads to the loop: a bounded queue and one poke for all that lies on it."""

    def __init__(self, wake: Callable[[], None], room: int = 50_000) -> None:
        """`wake` is called in watchdog's threads; more than `room` files at a time count as lost events."""
        self._queue: SimpleQueue[News] = SimpleQueue()
        self._wake = wake
        self._room = room
        self._is_poked = False
        self._has_overflowed = False

    def __call__(self, news: News) -> None:
        """Pass something on; called in watchdog's threads."""
        if self._queue.qsize() < self._room or isinstance(news, Notice) or news == PROBE:
            self._queue.put(news)
        elif not self._has_overflowed:
            self._has_overflowed = True
            self._queue.put(Notice(Word.LOST))
        if not self._is_poked:
            self._is_poked = True
            self._wake()

    def take(self, most: int) -> list[News]:
        """Up to `most` pieces of news; called by the loop."""
        self._is_poked = False  # first: what is put after this line pokes again
        taken: list[News] = []
        while len(taken) < most and not self._queue.empty():
            taken.append(self._queue.get_nowait())
        if self._queue.empty():
            self._has_overflowed = False
        return taken

    @property
    def is_waiting(self) -> bool:
        """Whether there is news."""
        return not self._queue.empty()


class Tap(InotifyFD):
    """watchdog's reader of inotify events; tells of files itself and lets watchdog keep the watches.

    To watchdog a folder only ever comes or goes: a rename inside the inbox is handed on as both. What watchdog makes of
    renames misses folders that were made a moment before, keeps watching what was moved out, and ends its thread with a
    KeyError when such a folder's name is used again.
    """

    def __init__(self, inbox: bytes, is_interesting: Callable[[bytes], bool], tell: Tell) -> None:
        """Raises OSError (EMFILE) when the user has too many inotify instances."""
        super().__init__()
        self._inbox = inbox
        self._is_interesting = is_interesting
        self._tell = tell
        self._root: WatchDescriptor | None = None
        self._watches: dict[WatchDescriptor, _Watched] = {}

    def run(self) -> None:
        """The thread. However it ends, it says so: nothing is worse than a watcher that is silent for ever."""
        why = "watching ended"
        try:
            super().run()
        except (KeyError, AssertionError, OSError) as error:  # what watchdog's bookkeeping raises
            why = f"watching ended: {error!r}"
        finally:
            self._tell(Notice(Word.GONE, why=why))

    def add_callback(self, path: bytes, mask: Mask, callback: WatchCallback, id_: CallbackId) -> WatchDescriptor:
        """As in watchdog; keeps the path of each watch, and tells when there are no more watches to be had."""
        try:
            descriptor = super().add_callback(path, mask, callback, id_)
        except OSError as error:
            if error.errno == errno.ENOSPC and path != self._inbox:  # of the inbox itself the observer tells
                self._tell(Notice(Word.LIMIT))
            raise
        self._watches[descriptor] = _Watched(path[len(self._inbox) + 1 :], callback, id_)
        if path == self._inbox:
            self._root = descriptor
        return descriptor

    def handle_event(self, event: InotifyEvent) -> None:
        """One event from the kernel."""
        if event.is_queue_overflow:
            self._watches.clear()
            super().handle_event(event)  # watches everything anew, before we look
            self._tell(Notice(Word.LOST))
        elif event.is_ignored:
            super().handle_event(event)
            self._watches.pop(event.wd, None)
            if event.wd == self._root:
                self._tell(Notice(Word.GONE, why="the inbox was removed or unmounted"))
        elif event.wd not in self._watches:
            return
        elif event.is_moved_from and event.is_directory:
            self._forget(self._path(event))
        elif event.mask & _COMES and event.is_directory:
            self._forget(self._path(event))
            super().handle_event(InotifyEvent(event.wd, _NEW_FOLDER, 0, event.name))  # watched first, looked into then
            self._tell(Notice(Word.FOLDER, self._path(event)))
        elif event.is_directory:
            super().handle_event(event)
        elif event.mask & (_COMES | InotifyConstants.IN_CLOSE_WRITE) and self._is_interesting(event.name):
            self._tell(self._path(event))

    def _path(self, event: InotifyEvent) -> bytes:
        folder = self._watches[event.wd].path
        return folder + b"/" + event.name if folder else event.name

    def _forget(self, path: bytes) -> None:
        """Unwatch the folder and all below it; if it only moved, it is watched again when it arrives."""
        for descriptor, watched in list(self._watches.items()):
            if watched.path == path or watched.path.startswith(path + b"/"):
                del self._watches[descriptor]
                self.remove_callbacks([(descriptor, watched.id)])
                watched.callback.on_watch_deleted(descriptor)


class _Silent(InotifyEmitter):
    """Keeps watchdog's watches in order but builds no events: the tap has told already."""

    def build_and_queue_event(self, event: GroupedInotifyEvent, *, full_events: bool = False) -> None:
        """Nothing to build."""


class TapObserver(BaseObserver):
    """watchdog's observer thread, which also does the slow parts: watching a large tree, and letting go of it."""

    def __init__(self, inbox: bytes, tap: Tap, tell: Tell) -> None:
        """The tap must be started before this thread."""
        super().__init__(_Silent, inotify_fd=tap)
        self._inbox = inbox
        self._tap = tap
        self._tell = tell

    def run(self) -> None:
        """The thread."""
        try:
            self.schedule(FileSystemEventHandler(), os.fsdecode(self._inbox), recursive=True, event_filter=_FILTER)
        except OSError as error:
            self._tell(Notice(Word.FAILED, why=error.strerror or str(error)))
        else:
            self._tell(Notice(Word.READY))
            super().run()
        finally:
            try:
                self.unschedule_all()
            finally:
                self._tap.stop()
                self._tap.join()

    def stop(self) -> None:
        """Ask the thread to end; does not wait, since letting go may take half a second."""
        self.stopped_event.set()
        self.event_queue.put(EventDispatcher.stop_event)
