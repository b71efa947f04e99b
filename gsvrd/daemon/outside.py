"""Videos outside the inbox that a list has named: they are queued when nobody writes them any more and they are on the disk.

The same promises as for the inbox, but nobody watches those directories: each video is looked at until it is ready, at
growing distances. One that is not there (yet), or whose directory in `intake.roots` is not mounted, goes on waiting with its
reason. Belongs to `Reception`, which tells of videos and queues them; `look` runs in the filing thread and touches no state.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

import structlog

from gsvrd.clock import Clock
from gsvrd.daemon.filing import Filing
from gsvrd.intake import settle
from gsvrd.intake.allowed import is_away
from gsvrd.intake.identity import Candidate, Folders, Identity, durable
from gsvrd.intake.names import printable
from gsvrd.store.tracing import OUTSIDE

log = structlog.get_logger("gsvrd.outside")

FIRST_LOOK_S, LAST_LOOK_S = 0.5, 10.0
AT_A_TIME = 500
"""So many are looked at before the filing thread has time for others."""
TOLD = 100
"""So many reasons are told."""


@dataclass(frozen=True, slots=True)
class Awaited:
    """A video that a list has named."""

    path: bytes
    """Absolute."""
    root: bytes
    """The directory of `intake.roots` that it is below."""
    batch: int
    options: str

    @property
    def name(self) -> str:
        """Below the root, printable."""
        return printable(self.path[len(self.root.rstrip(b"/")) + 1 :])


Seen = tuple[Identity, float]
"""How a file was found, and since when (monotonic) it has been so."""


@dataclass(slots=True)
class Looked:
    """What a look at some videos found."""

    ready: list[tuple[Awaited, Identity]] = field(default_factory=list)
    """Settled and safe on the disk."""
    seen: dict[bytes, Seen] = field(default_factory=dict)
    reasons: dict[bytes, str] = field(default_factory=dict)
    """Why the others wait."""


@dataclass(slots=True)
class Outside:
    """The loop's side."""

    settle_s: float
    filing: Filing
    clock: Clock
    later: Callable[[float, Callable[[], None]], None]
    accept: Callable[[Awaited, Identity], None]
    remember: Callable[[str, object], None]
    """Stores a service row, with the turn's transaction."""
    _waiting: dict[tuple[bytes, int], Awaited] = field(default_factory=dict)
    """By path and batch."""
    _seen: dict[bytes, Seen] = field(default_factory=dict)
    _reasons: dict[bytes, str] = field(default_factory=dict)
    _told: dict[str, str] = field(default_factory=dict)
    _again_s: float = FIRST_LOOK_S
    _is_looking: bool = False

    def expect(self, video: Awaited) -> None:
        """Queue it as soon as that may be."""
        self._waiting[video.path, video.batch] = video
        self._again_s = FIRST_LOOK_S
        if not self._is_looking:
            self._is_looking = True
            self.later(0.0, self._look)  # with those that come in the same turn

    def awaits(self, path: bytes) -> bool:
        """Whether some batch waits for it."""
        return any(known == path for known, _ in self._waiting)

    def _look(self) -> None:
        videos = list(self._waiting.values())
        for start in range(0, len(videos), AT_A_TIME):
            some = videos[start : start + AT_A_TIME]
            act = partial(look, some, dict(self._seen), self.settle_s, self.clock.monotonic())
            self.filing.submit(act, self._looked, partial(self._not_durable, some))
        self.filing.submit(lambda: None, lambda _: self._looked_all(), lambda _: self._looked_all())

    def _looked(self, found: Looked) -> None:
        self._seen.update(found.seen)
        self._reasons.update(found.reasons)
        for video, identity in found.ready:
            self._waiting.pop((video.path, video.batch), None)
            self._seen.pop(video.path, None)
            self._reasons.pop(video.path, None)
            self.accept(video, identity)

    def _not_durable(self, videos: Iterable[Awaited], error: OSError) -> None:
        self._reasons.update({video.path: f"it cannot be synced: {error.strerror or error}" for video in videos})

    def _looked_all(self) -> None:
        told = {printable(path): why for path, why in list(self._reasons.items())[:TOLD]}
        if told != self._told:
            self._told = told
            self.remember(OUTSIDE, told or None)
            for why in sorted(set(told.values())):
                log.info("video_awaited", reason=why, videos=sum(reason == why for reason in told.values()))
        self._is_looking = bool(self._waiting)
        if self._waiting:
            self.later(self._again_s, self._look)
            self._again_s = min(2 * self._again_s, LAST_LOOK_S)


def look(videos: Iterable[Awaited], seen: dict[bytes, Seen], settle_s: float, now: float) -> Looked:
    """In the filing thread: which are ready, and why others are not. Raises OSError as `durable`."""
    found = Looked()
    settled: dict[bytes, list[tuple[Awaited, Identity]]] = {}
    for video in videos:
        identity, why = _settled(video, seen.get(video.path), found.seen, settle_s, now)
        if identity is None:
            found.reasons[video.path] = why
        else:
            settled.setdefault(video.root, []).append((video, identity))
    for root, some in settled.items():
        kept = {one.path for one in durable((Candidate(one.path, one.name, known) for one, known in some), root)}
        found.ready += [(one, known) for one, known in some if one.path in kept]
    return found


def _settled(
    video: Awaited, before: Seen | None, seen: dict[bytes, Seen], settle_s: float, now: float
) -> tuple[Identity | None, str]:
    """Which file it is, if nobody writes it; else why it has to wait."""
    if is_away(video.root):
        return None, f"{printable(video.root)} is missing or empty: is its file system mounted?"
    parent, _, name = video.path[len(video.root.rstrip(b"/")) + 1 :].rpartition(b"/")
    try:
        with contextlib.closing(Folders(video.root)) as folders:
            folder = folders.enter(parent)
            at = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISREG(at.st_mode):
                return None, "it is no regular file"
            reading, at = settle.read(folder, name, at, leases=True, hard_links=True)
    except OSError as error:
        return None, f"it cannot be looked at: {error.strerror}"
    identity = Identity.of(at)
    since = before[1] if before is not None and before[0] == identity else now
    seen[video.path] = (identity, since)
    stood_still = reading is settle.Reading.UNPROVEN and now - since >= settle_s
    if reading is settle.Reading.READY or stood_still:
        return identity, ""
    return None, _WHY.get(reading, "it is still being written")


_WHY = {
    settle.Reading.UNREADABLE: "the daemon may not read it",
    settle.Reading.HINDERED: "the machine does not let it be looked at",
    settle.Reading.GONE: "it is not there",
}
