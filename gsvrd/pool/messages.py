"""What travels between the daemon and a worker: small frozen structs, encoded as MessagePack, nothing pickled.

A message carries all that its receiver needs; it assumes no shared memory, signals, process ids or clocks, so that a pool
on other machines can use the same words. Durations are relative seconds for that reason.
"""

from __future__ import annotations

import msgspec

from gsvrd.errors import ErrorFacts


class Assign(msgspec.Struct, tag=True, frozen=True, omit_defaults=True):
    """To a worker: one attempt at one task."""

    task: int
    attempt: int
    path: bytes = b""
    name: str = ""
    identity: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Device, inode, size in bytes and mtime in nanoseconds of the file that was accepted."""
    folder: bytes = b""
    """What `path` lies below; empty: the inbox."""
    queued_at: float = 0.0
    """UTC epoch seconds at which the task entered; names made from a time use it, so that a repeat gets the same."""
    kept: dict[str, bytes] = {}
    """Results of stages that earlier attempts finished, as JSON."""
    options: str = "{}"
    """What was said for this task over the configuration, as JSON."""
    key: str = ""
    """What an earlier attempt sought: its analysis is kept under that, and of no use for another."""
    timeout_s: float = 0.0
    """0 means no deadline."""
    url: str = ""
    """The link that is meant, canonical; with `path` that of a shortcut, without one that of a list. It may hold secrets."""
    memory_bytes: int = 0
    """What it may have of memory, until the pool is told otherwise; 0 leaves it at what any worker may."""
    is_chore: bool = False
    """No video, but what an ended task left at a service, as `kept` says; see `daemon.chores`."""


class Reserved(msgspec.Struct, tag=True, frozen=True):
    """To a worker: the name its report gets, relative to the reports directory."""

    attempt: int
    name: str


class Granted(msgspec.Struct, tag=True, frozen=True):
    """To a worker: the call may start now. It must be settled."""

    attempt: int
    permit: int


class Denied(msgspec.Struct, tag=True, frozen=True):
    """To a worker: the call may not start. With a delay the attempt is to be given back for so long; else it failed."""

    attempt: int
    error: ErrorFacts
    delay_s: float | None = None


class Known(msgspec.Struct, tag=True, frozen=True, omit_defaults=True):
    """To a worker: what there is already of what it seeks; nothing of it is set when it has to find out itself."""

    attempt: int
    analysis: bytes = b""
    """As JSON."""
    pictures: str = ""
    """The folder of its pictures, below the reports directory."""
    report: str = ""
    """The report that is enough: none is to be made."""
    wait_s: float = 0.0
    """Another attempt is finding it out; come again so much later."""


class Hello(msgspec.Struct, tag=True, frozen=True):
    """From a worker: it is up and may be given work."""


class Progress(msgspec.Struct, tag=True, frozen=True):
    """From a worker: how far the attempt is."""

    task: int
    attempt: int
    stage: str
    fraction: float


class Content(msgspec.Struct, tag=True, frozen=True):
    """From a worker: the SHA-256 of the video, before anything decodes it."""

    task: int
    attempt: int
    sha256: str


class Seek(msgspec.Struct, tag=True, frozen=True):
    """From a worker: has somebody found out before what this key stands for? The answer is `Known`."""

    task: int
    attempt: int
    key: str


class Keep(msgspec.Struct, tag=True, frozen=True):
    """From a worker: a stage is finished; its result is worth keeping."""

    task: int
    attempt: int
    stage: str
    result: bytes


class Forget(msgspec.Struct, tag=True, frozen=True):
    """From a worker: the result of a stage is of no use any more."""

    task: int
    attempt: int
    stage: str


class Reserve(msgspec.Struct, tag=True, frozen=True):
    """From a worker: the report would like this name; the answer is `Reserved`."""

    task: int
    attempt: int
    name: str


class Ask(msgspec.Struct, tag=True, frozen=True):
    """From a worker: a call to a service wants to start; the answer is `Granted` or `Denied`."""

    task: int
    attempt: int
    lane: str
    model: str
    tokens_in: int
    tokens_out_most: int


class Settle(msgspec.Struct, tag=True, frozen=True, omit_defaults=True):
    """From a worker: what came of a call; see `analyzers.base.Spent`."""

    task: int
    attempt: int
    permit: int
    outcome: str
    tokens_in: int = 0
    tokens_out: int = 0
    was_sent: bool = True
    is_known: bool = True
    retry_after_s: float | None = None
    is_daily: bool = False


class Snoozed(msgspec.Struct, tag=True, frozen=True, omit_defaults=True):
    """From a worker: the attempt has to wait, and ends here; it is not spent."""

    task: int
    attempt: int
    delay_s: float
    reason: str
    is_last: bool = False
    """The worker ends after it."""


class Finished(msgspec.Struct, tag=True, frozen=True, omit_defaults=True):
    """From a worker: the attempt succeeded; its report lies in `temporary`, complete and synced, or is `reused`."""

    task: int
    attempt: int
    temporary: str = ""
    sha256: str = ""
    reused: str = ""


class Failed(msgspec.Struct, tag=True, frozen=True, omit_defaults=True):
    """From a worker: the attempt failed for a reason that can be named."""

    task: int
    attempt: int
    error: ErrorFacts
    sha256: str = ""
    delay_s: float = 0.0
    """If there is another attempt, it makes no sense before."""


class Died(msgspec.Struct, tag=True, frozen=True):
    """From the pool: the worker is gone without a word, killed or not.

    `by_stranger`: something ended it that gives nobody a last word, and it was not the pool.
    """

    task: int
    attempt: int
    error: ErrorFacts
    by_stranger: bool = False


Event = Progress | Content | Seek | Keep | Forget | Reserve | Ask | Settle | Finished | Failed | Snoozed | Died
Ending = Finished | Failed | Snoozed
FromWorker = Hello | Progress | Content | Seek | Keep | Forget | Reserve | Ask | Settle | Ending
Reply = Reserved | Granted | Denied | Known
ToWorker = Assign | Reply

encode = msgspec.msgpack.Encoder().encode
decode_event = msgspec.msgpack.Decoder(FromWorker).decode
decode_order = msgspec.msgpack.Decoder(ToWorker).decode
