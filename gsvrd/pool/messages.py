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
    queued_at: float = 0.0
    """UTC epoch seconds at which the task entered; names made from a time use it, so that a repeat gets the same."""
    kept: dict[str, bytes] = {}
    """Results of stages that earlier attempts finished, as JSON."""
    timeout_s: float = 0.0
    """0 means no deadline."""


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


class Hello(msgspec.Struct, tag=True, frozen=True):
    """From a worker: it is up and may be given work."""


class Progress(msgspec.Struct, tag=True, frozen=True):
    """From a worker: how far the attempt is."""

    task: int
    attempt: int
    stage: str
    fraction: float


class Keep(msgspec.Struct, tag=True, frozen=True):
    """From a worker: a stage is finished; its result is worth keeping."""

    task: int
    attempt: int
    stage: str
    result: bytes


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


class Snoozed(msgspec.Struct, tag=True, frozen=True):
    """From a worker: the attempt has to wait, and ends here; it is not spent."""

    task: int
    attempt: int
    delay_s: float
    reason: str


class Finished(msgspec.Struct, tag=True, frozen=True, omit_defaults=True):
    """From a worker: the attempt succeeded; its report lies in `temporary`, complete and synced."""

    task: int
    attempt: int
    temporary: str = ""
    sha256: str = ""


class Failed(msgspec.Struct, tag=True, frozen=True):
    """From a worker: the attempt failed for a reason that can be named."""

    task: int
    attempt: int
    error: ErrorFacts
    sha256: str = ""


class Died(msgspec.Struct, tag=True, frozen=True):
    """From the pool: the worker is gone without a word, killed or not."""

    task: int
    attempt: int
    error: ErrorFacts


Event = Progress | Keep | Reserve | Ask | Settle | Finished | Failed | Snoozed | Died
Ending = Finished | Failed | Snoozed
FromWorker = Hello | Progress | Keep | Reserve | Ask | Settle | Ending
Reply = Reserved | Granted | Denied
ToWorker = Assign | Reply

encode = msgspec.msgpack.Encoder().encode
decode_event = msgspec.msgpack.Decoder(FromWorker).decode
decode_order = msgspec.msgpack.Decoder(ToWorker).decode
