"""The progress file of a batch: what is in it, and how it is replaced. Called by `progressing` in its thread.

It lies below the reports directory and is whole at every moment: it is written beside its place and renamed. A file that
is not one of ours is never replaced. Its JSON Schema is `docs/progress.schema.json`, which `schema` writes:
`python -c "from gsvrd.daemon import progress_file; print(progress_file.schema(), end='')"`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from gsvrd.policy.progress import Bound
from gsvrd.reports.files import open_folder, read_regular
from gsvrd.reports.naming import slug
from gsvrd.reports.write import PREFIX
from gsvrd.store.standing import BatchState

SCHEMA = 1
KIND = "gsvrd-progress"
BATCH_FIELD = "{batch}"
"""In the name of a progress file it stands for the name of the batch."""
_TEMPORARY = f"{PREFIX}progress"
_LARGEST_BYTES = 1 << 20
_MODE = 0o644

Count = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Seconds = Annotated[float, Meta(ge=0)]
Moment = Annotated[float, Meta(description="UTC epoch seconds.")]


class Span(Struct, frozen=True):
    """Below `p10` in one case of ten, and so on."""

    p10: float
    p50: float
    p90: float


class Bind(Struct, frozen=True):
    """What keeps the work from ending sooner, or from having a known end."""

    bound: Bound
    reason: str
    until: Moment | None


class Counts(Struct, frozen=True):
    """Videos by state."""

    total: Count
    pending: Count
    running: Count
    completed: Count
    failed: Count
    cancelled: Count


class Performance(Struct, frozen=True):
    """How fast it goes and when it ends. Null is: not known yet."""

    completion: Annotated[Share, Meta(description="What has ended, of all.")]
    per_hour: Annotated[float, Meta(description="Completed videos an hour, of late.")] | None
    mean_s: Annotated[Seconds, Meta(description="Of the attempts that succeeded of late.")] | None
    p90_s: Seconds | None
    remaining_s: Annotated[Span, Meta(description="Seconds from `updated_at`.")] | None
    finish_at: Annotated[Span, Meta(description="UTC epoch seconds.")] | None
    binding: Bind | None


class OfBatch(Struct, frozen=True):
    """Which batch."""

    id: int
    name: str
    kind: str
    created_at: Moment


class Worker(Struct, frozen=True):
    """A worker and the video of the batch it has in hand."""

    pid: int | None
    task: int
    name: str
    attempt: int
    stage: str
    fraction: Annotated[Share, Meta(description="Of the stage.")]
    started_at: Moment


class Completion(Struct, frozen=True):
    """A video that was completed; `report` is relative to the reports directory."""

    task: int
    name: str
    at: Moment
    seconds: Seconds | None
    report: str | None


class Failure(Struct, frozen=True):
    """A video that was given up."""

    task: int
    name: str
    at: Moment
    kind: str
    message: str
    hint: str


class WorkersNow(Struct, frozen=True):
    """Those of the daemon, for all batches."""

    up: Annotated[Count, Meta(description="How many there are.")]
    target: Annotated[Count, Meta(description="How many there are to be.")]
    cap: Annotated[str | None, Meta(description="What binds that: see `gsvrctl explain workers`.")]


class ProgressFile(Struct, frozen=True):
    """How far a batch is. Fields are only ever added; a change that would break a reader raises `schema`."""

    format: Annotated[str, Meta(pattern=f"^{KIND}$")]
    schema: Annotated[int, Meta(ge=SCHEMA, le=SCHEMA)]
    sequence: Annotated[int, Meta(ge=1, description="Rises with every change of the file, over restarts too.")]
    updated_at: Moment
    batch: OfBatch
    status: BatchState
    reason: Annotated[str, Meta(description="Why it is paused; may be empty.")]
    daemon: Annotated[str, Meta(description="running, paused, draining, blocked or stopped, when it wrote this.")]
    counts: Counts
    performance: Performance
    workers: list[Worker]
    recent: Annotated[list[Completion], Meta(description="The last completions, the newest first.")]
    errors: Annotated[list[Failure], Meta(description="The last failures, the newest first.")]
    pool: WorkersNow | None = None


def schema() -> str:
    """The JSON Schema as indented text with a newline at its end."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A gsvrd progress file"}
    return json.dumps(head | msgspec.json.schema(ProgressFile), indent=2, ensure_ascii=False) + "\n"


def place(wished: str, batch: str) -> PurePosixPath:
    """Where the file of a batch lies below the reports directory."""
    return PurePosixPath(wished.replace(BATCH_FIELD, slug(batch)))


@dataclass(slots=True)
class ProgressFiles:
    """The files this daemon writes. Used by one thread."""

    _last: dict[PurePosixPath, tuple[int, Any]] = field(default_factory=dict)
    """Sequence and content of what was written last."""

    def write(self, reports: Path, name: PurePosixPath, content: dict[str, Any], now: float) -> None:
        """Replace the file unless it says `content` already. Raises `OSError`; then the former file is still there."""
        if name.is_absolute() or not name.name or {".", ".."} & set(name.parts):
            raise OSError(errno.EINVAL, "it must name a file below the reports directory")
        with open_folder(reports, name.parts[:-1]) as folder:
            if name not in self._last:
                self._last[name] = (_sequence(name.name, folder), None)
            sequence, before = self._last[name]
            if content == before and os.access(name.name, os.F_OK, dir_fd=folder):
                return
            made = {"format": KIND, "schema": SCHEMA, "sequence": sequence + 1, "updated_at": now, **content}
            _replace(name.name, folder, msgspec.json.encode(msgspec.convert(made, ProgressFile)))
            self._last[name] = (sequence + 1, content)


def _sequence(name: str, folder: int) -> int:
    """Of the file that is there, 0 if none is. Raises `FileExistsError` when it is none of ours."""
    try:
        data = read_regular(name, folder, _LARGEST_BYTES)
    except FileNotFoundError:
        return 0
    try:
        found = msgspec.json.decode(data or b"")
    except msgspec.DecodeError:
        found = None
    if not isinstance(found, dict) or found.get("format") != KIND or not isinstance(found.get("sequence"), int):
        raise FileExistsError(errno.EEXIST, "something else has this name")
    return int(found["sequence"])


def _replace(name: str, folder: int, data: bytes) -> None:
    """Synced before it is renamed: after a power cut there must be the old file or the new one, and never an empty one."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_TEMPORARY, dir_fd=folder)
    try:
        with open(os.open(_TEMPORARY, flags, _MODE, dir_fd=folder), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(_TEMPORARY, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(_TEMPORARY, dir_fd=folder)
        raise
