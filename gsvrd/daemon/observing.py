"""The observer: reads how work stands, forecasts its end, and writes progress files. `progressing` calls it in a thread.

It has a connection of its own and learns from attempts that are on record as ended, so it needs no word from the loop. It
writes nothing into the database: what it saw is returned, as plain data for a service row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import structlog

from gsvrd.daemon.figures import closed_doors, counts_of, doors_ahead, performance
from gsvrd.daemon.outlook import PROGRESS, UNSEEN, Outlook, Seen
from gsvrd.daemon.progress_file import ProgressFiles, place
from gsvrd.errors import StateError
from gsvrd.model import TaskState
from gsvrd.policy.progress import Binding, Bound, Door, Progress, ProgressMonitor, Running
from gsvrd.policy.spending import COST_LIMIT
from gsvrd.store.decisions import NOW
from gsvrd.store.reading import Row, open_for_reading
from gsvrd.store.standing import Batch, Standing

log = structlog.get_logger("gsvrd.observing")

FORECAST = 16
"""So many open batches are told of, and those that have a progress file: a look must not last, nor the row be long."""
RECENT = 10


@dataclass(frozen=True, slots=True)
class _Entry:
    """One batch, as it is told."""

    batch: Batch
    row: dict[str, Any]
    file: PurePosixPath | None
    content: dict[str, Any]
    """Of its file."""

    @property
    def is_open(self) -> bool:
        return self.batch.left > 0


@dataclass(slots=True)
class Observer:
    """What it remembers from look to look. Used by one thread."""

    database: Path
    _standing: Standing | None = None
    _monitor: ProgressMonitor = field(default_factory=ProgressMonitor)
    _learned: int = 0
    """The newest change that was learned from."""
    _told: int | None = None
    """The newest change that the files tell of; None before the first look."""
    _kind: str = ""
    _kind_since: int = 0
    """The change since which all attempts were of that kind."""
    _files: ProgressFiles = field(default_factory=ProgressFiles)
    _stale: set[int] = field(default_factory=set)
    """Batches whose file could not be written."""
    _noted: list[dict[str, str]] = field(default_factory=list)

    def look(self, now: float, outlook: Outlook) -> Seen:
        """See how all stands at `now`, UTC epoch seconds; write the files."""
        try:
            standing = self._open()
            with standing.at_once():
                self._learn(standing, outlook.kind)
                view = _View(standing, self._monitor, outlook, now)
                entries = [view.entry(batch) for batch in self._batches(standing)]
                overall = view.overall()
        except (sqlite3.Error, StateError) as error:
            log.warning("progress_not_read", error=str(error))
            self._standing = None
            return UNSEEN
        self._told = self._learned
        notes = self._write(entries, outlook.reports, now)
        row = {
            "schema": 1,
            "at": now,
            "change": self._told,
            "kind": self._kind,
            "kind_since": self._kind_since,
            "overall": overall,
            "batches": [entry.row for entry in entries if entry.is_open and entry.row["performance"]],
            "notes": notes,
        }
        return Seen(row, incomplete=bool(self._stale))

    def _open(self) -> Standing:
        if self._standing is None:
            self._standing = Standing(open_for_reading(self.database).conn)
        return self._standing

    def _learn(self, standing: Standing, kind: str) -> None:
        newest = standing.newest_change()
        if self._told is None:  # what a daemon before this one has told, and what not any more
            before = standing.service(PROGRESS) or {}
            self._told = min(newest, before.get("change", newest))
            self._kind, self._kind_since = before.get("kind", ""), before.get("kind_since", 0)
        if kind != self._kind:
            self._kind, self._kind_since = kind, newest
        for finished in standing.ended(self._learned, kind, self._kind_since):
            self._monitor.add(finished)
        self._learned = newest

    def _batches(self, standing: Standing) -> list[Batch]:
        """Those that are open, and those of which there is something new to tell."""
        found = {batch.id: batch for batch in standing.open_batches()}
        for number in (standing.touched(self._told or 0) | self._stale).difference(found):
            if (batch := standing.batch(number)) is not None:
                found[number] = batch
        return [found[number] for number in sorted(found)]

    def _write(self, entries: Sequence[_Entry], reports: Path, now: float) -> list[dict[str, str]]:
        """Replace the files; returns what went wrong."""
        notes = list[dict[str, str]]()
        self._stale.clear()
        # Of batches with the same file, the newest that is open has it.
        owners = {entry.file: entry for entry in sorted(entries, key=lambda one: (one.is_open, one.batch.id))}
        for entry in entries:
            if entry.file is None:
                continue
            reason = ""
            if owners[entry.file] is not entry:
                reason = f"it is that of {owners[entry.file].batch.name!r} now; {{batch}} in the name tells them apart"
            else:
                try:
                    self._files.write(reports, entry.file, entry.content, now)
                except OSError as error:
                    reason = error.strerror or str(error)
                    self._stale.add(entry.batch.id)
            if reason:
                notes.append({"batch": entry.batch.name, "file": str(entry.file), "reason": reason})
        if notes and notes != self._noted:
            log.warning("progress_file", problems=notes)
        self._noted = notes
        return notes


class _View:
    """Everything of one look, read within one transaction."""

    def __init__(self, standing: Standing, monitor: ProgressMonitor, outlook: Outlook, now: float) -> None:
        self._standing, self._monitor, self._outlook, self._now = standing, monitor, outlook, now
        run, doors = standing.service("run") or {}, standing.service("doors") or {}
        self._is_paused = run.get("state") == "paused"
        self._daemon = "blocked" if doors and run.get("state") == "running" else run.get("state", "stopped")
        self._why = "; ".join(door["reason"] for door in doors.values()) or run.get("reason", "")
        self._doors = [*closed_doors(run, doors)]
        if (allowance := outlook.allowance) is not None:
            self._doors += doors_ahead(allowance, standing.used(allowance.project, allowance.model, now))
        self._pool = _pool(standing.service(NOW) or {}, standing.service("workers") or [])
        self._rows = standing.running()
        self._running = [_running(row, now, outlook.kind) for row in self._rows]
        self._line = standing.waiting(outlook.kind)
        self._open: list[Batch] = []
        self._forecasts = 0

    def overall(self) -> dict[str, Any]:
        """Of all that is open, batches and videos that belong to none; after the entries were made."""
        counts = dict.fromkeys((state.value for state in TaskState), 0)
        for batch in self._open:
            for state, count in batch.counts.items():
                counts[state] += count
        counts[TaskState.PENDING] += sum(one.count for one in self._line if one.batch is None)
        counts[TaskState.RUNNING] += sum(one.batch is None for one in self._running)
        progress = self._look(completed=counts[TaskState.COMPLETED], failed=counts[TaskState.FAILED])
        held = [batch for batch in self._open if batch.hold and batch.counts[TaskState.PENDING]]
        if held and not self._line and not self._running:
            binding = Binding(_held_by(held[0]), held[0].hold)
            progress = replace(progress, remaining_s=None, finish_at=None, binding=binding)
        return {
            "batches": len(self._open),
            "held": sum(batch.counts[TaskState.PENDING] for batch in held),
            "counts": counts_of(counts),
            "performance": performance(progress, counts),
        }

    def entry(self, batch: Batch) -> _Entry:
        """What is told of one batch."""
        if batch.left:
            self._open.append(batch)
        wished = batch.options.get("progress_file", self._outlook.progress_file)
        told = {
            "counts": counts_of(batch.counts),
            "performance": None,
        }
        if wished or self._forecasts < FORECAST:
            self._forecasts += 1
            told["performance"] = performance(self._of_batch(batch), batch.counts)
        state = batch.state(paused=self._is_paused).value
        reason = batch.hold or (self._why if batch.left else "")
        row = {"id": batch.id, "name": batch.name, "state": state, "reason": reason, "file": wished or None, **told}
        if not wished:
            return _Entry(batch, row, None, {})
        content = {
            "batch": {"id": batch.id, "name": batch.name, "kind": batch.kind, "created_at": batch.created_at},
            "status": state,
            "reason": reason,
            "daemon": self._daemon,
            **told,
            "workers": [_worker(row) for row in self._rows if row["batch"] == batch.id],
            "recent": [_completion(row) for row in self._standing.done(RECENT, batch)],
            "errors": [_failure(row) for row in self._standing.failed(RECENT, batch)],
            "pool": self._pool,
        }
        return _Entry(batch, row, place(wished, batch.name), content)

    def _of_batch(self, batch: Batch) -> Progress:
        completed, failed = batch.counts[TaskState.COMPLETED], batch.counts[TaskState.FAILED]
        if not batch.hold:
            return self._look(batch, completed=completed, failed=failed)
        waiting = self._standing.held(batch.id, self._outlook.kind)
        door = Door(_held_by(batch), batch.hold, None)
        return self._monitor.look(
            self._now,
            running=self._running,
            waiting=waiting,
            workers=self._outlook.workers,
            batch=batch.id,
            doors=[door],
            completed=completed,
            failed=failed,
        )

    def _look(self, batch: Batch | None = None, *, completed: int, failed: int) -> Progress:
        return self._monitor.look(
            self._now,
            running=self._running,
            waiting=self._line,
            workers=self._outlook.workers,
            batch=None if batch is None else batch.id,
            parallel=None if batch is None else batch.options.get("parallel", self._outlook.parallel),
            doors=self._doors,
            completed=completed,
            failed=failed,
        )


def _held_by(batch: Batch) -> Bound:
    return Bound.COST if batch.hold.startswith(COST_LIMIT) else Bound.PAUSED


def _pool(now: Mapping[str, Any], pids: Sequence[int]) -> dict[str, Any] | None:
    return {"up": len(pids), "target": now["target"], "cap": now.get("cap")} if "target" in now else None


def _running(row: Row, now: float, kind: str) -> Running:
    return Running(row["size"], None, max(0.0, now - row["started_at"]), kind=kind, batch=row["batch"])


def _worker(row: Row) -> dict[str, Any]:
    told = {name: row[name] for name in ("task", "name", "attempt", "stage", "fraction", "started_at")}
    return {"pid": row["worker"], **told}


def _completion(row: Row) -> dict[str, Any]:
    seconds = None if row["seconds"] is None else round(max(0.0, row["seconds"]), 3)
    return {
        "task": row["task"],
        "name": row["name"],
        "at": row["at"],
        "seconds": seconds,
        "report": row["reused"] or row["report"],
    }


def _failure(row: Row) -> dict[str, Any]:
    error = row["error"] or {}
    words = {name: error.get(name, "") for name in ("kind", "message", "hint")}
    return {"task": row["task"], "name": row["name"], "at": row["at"], **words}
