"""Snapshots that a batch has wished for: while it has work under way, into a directory of its own (`checkpoint_dir`).

They are whole snapshots of the state database, as those of `daemon.snapshots`, and come besides them: on another disk they
are there when the one with the state is not. Told by `Attempts` when a video of a batch begins, by `Closing` when a batch
has come to rest; copies are made in the thread of the other snapshots. One that fails is logged and shown, and the batch
goes on. Nothing is stored: after a restart the next video of the batch says again what was wished for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog

from gsvrd.clock import Clock
from gsvrd.daemon.filing import Filing
from gsvrd.daemon.pacing import Pacer
from gsvrd.daemon.snapshots import AFTER_FAILURE_S, PAUSE_RATIO, TROUBLE, attempt
from gsvrd.model import said
from gsvrd.store.checkpoints import Checkpoint, CheckpointManager

log = structlog.get_logger("gsvrd.snapshots")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a batch has asked for."""

    folder: str
    """As it was written; empty for none."""
    interval_s: float


@dataclass(slots=True)
class _Kept:
    """A batch that has such a wish and is not at rest, as far as is known."""

    wish: Wish
    is_over: bool = False
    """One more, for how it ended."""
    copied: object = None
    """What the database looked like before the last good copy began."""


@dataclass(slots=True)
class BatchSnapshots:
    """Decides when; see the module."""

    database: Path
    folder_of: Callable[[str], Path | None]
    """Where a directory that was asked for leads; None when it is not allowed. Called in the thread."""
    usual: Wish
    """Unless a video says otherwise."""
    keep: int
    filing: Filing
    """That of the other snapshots."""
    clock: Clock
    later: Callable[[float, Callable[[], None]], None]
    remember: Callable[[str, object], None]
    """Stores a service row, with the turn's transaction."""
    _kept: dict[int, _Kept] = field(default_factory=dict)
    _wanted: dict[int, None] = field(default_factory=dict)
    """Batches that wait for their copy, in order."""
    _pacer: Pacer = field(init=False)
    _in_trouble: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        """All together get no more of the time than the others."""
        self._pacer = Pacer(self.clock, self.later, self._begin, PAUSE_RATIO)

    def note_started(self, batch: int | None, options: str) -> None:
        """A video of the batch begins to be studied, with these options."""
        if batch is None or not (self.usual.folder or "checkpoint_dir" in options):
            return
        wish = self._wish(options)
        known = self._kept.get(batch)
        if known is not None:
            known.wish, known.is_over = wish, False
        elif wish.folder:
            kept = self._kept[batch] = _Kept(wish)
            self.later(wish.interval_s, partial(self._tick, batch, kept))

    def note_rest(self, batch: int, options: str) -> None:
        """Nothing of the batch waits or runs any more; `options` are those of its newest video."""
        wish = self._wish(options)
        if wish.folder:
            kept = self._kept.setdefault(batch, _Kept(wish))
            kept.is_over = True
            self._want(batch)

    def _wish(self, options: str) -> Wish:
        folder = said(options, "checkpoint_dir", self.usual.folder)
        return Wish(folder, said(options, "checkpoint_interval", self.usual.interval_s))

    def _tick(self, batch: int, kept: _Kept) -> None:
        if self._kept.get(batch) is not kept:
            return
        self.later(kept.wish.interval_s, partial(self._tick, batch, kept))
        if CheckpointManager(self.database).stamp() != kept.copied:
            self._want(batch)

    def _want(self, batch: int) -> None:
        self._wanted[batch] = None
        self._begin()

    def _begin(self) -> None:
        if not self._wanted or not self._pacer.admits():
            return
        batch = next(iter(self._wanted))
        del self._wanted[batch]
        kept = self._kept[batch]
        stamp = CheckpointManager(self.database).stamp()
        self.filing.submit(
            partial(
                self._copy, kept.wish.folder, "end of a batch" if kept.is_over else "interval of a batch", self.keep
            ),
            partial(self._ended, batch, stamp, kept.is_over),
            lambda error: self._ended(batch, stamp, kept.is_over, str(error)),
        )

    def _copy(self, wished: str, why: str, keep: int) -> Checkpoint | str:
        """In the thread."""
        folder = self.folder_of(wished)
        if folder is None:
            return f"{wished} is not below one of checkpoint.roots"
        return attempt(CheckpointManager(self.database, folder=folder), why, keep)

    def _ended(self, batch: int, stamp: object, was_over: bool, ending: Checkpoint | str) -> None:
        kept = self._kept[batch]
        if isinstance(ending, str):
            self._pacer.rest(AFTER_FAILURE_S)
            self._in_trouble.add(batch)
            reason = f"that of batch {batch} in {kept.wish.folder}: {ending}"
            self.remember(TROUBLE, {"at": self.clock.wall(), "reason": reason})
            log.error("batch_snapshot_failed", batch=batch, folder=kept.wish.folder, error=ending)
            self._want(batch)
            return
        seconds = round(self._pacer.rest(), 3)
        log.info("batch_snapshot_made", batch=batch, folder=kept.wish.folder, name=ending.name, seconds=seconds)
        kept.copied = stamp
        if self._in_trouble:
            self._in_trouble.discard(batch)
            self.remember(TROUBLE, None)
        if was_over and kept.is_over:
            del self._kept[batch]
        self._begin()
