"""The nouns of the queue, frozen, and the state table as data.

A task is one video; an attempt is one try at it. States change only by the transitions below; `store.queue` holds one SQL
statement for each, and the trigger in `store.migrations` writes an event for every change, whoever makes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

REMOTE_STAGE = "upload"
"""The stage whose result says what lies at a service; it is kept until somebody has taken that away."""

TAKEN_AWAY = "taken away before it was studied"
"""The reason of a task that was cancelled because somebody has removed its file: it is gone, which is no failure."""


class TaskState(StrEnum):
    """Where a task stands."""

    PENDING = "pending"
    """Waits for a worker; with `due_at` set, for a point in time first."""
    RUNNING = "running"
    """A worker has it; `attempt` tells which try."""
    COMPLETED = "completed"
    """Its report is in place."""
    FAILED = "failed"
    """Given up; a failure record says why."""
    CANCELLED = "cancelled"
    """Taken back by a person, whether by a command or by taking the file away, or replaced by newer content of the file."""


@dataclass(frozen=True, slots=True)
class Transition:
    """A named change of state. `sources` empty means: the task is made by it."""

    name: str
    sources: frozenset[TaskState]
    target: TaskState
    meaning: str


def _transition(name: str, sources: tuple[TaskState, ...], target: TaskState, meaning: str) -> Transition:
    return Transition(name, frozenset(sources), target, meaning)


ADD = _transition("add", (), TaskState.PENDING, "a settled video was accepted")
REFUSE = _transition("refuse", (), TaskState.FAILED, "something in the inbox can never be a video")
CLAIM = _transition("claim", (TaskState.PENDING,), TaskState.RUNNING, "a worker gets it")
COMPLETE = _transition("complete", (TaskState.RUNNING,), TaskState.COMPLETED, "the report is in place")
FAIL = _transition("fail", (TaskState.RUNNING,), TaskState.FAILED, "given up for good")
RETRY = _transition("retry", (TaskState.RUNNING,), TaskState.PENDING, "the attempt is spent, another follows later")
RELEASE = _transition("release", (TaskState.RUNNING,), TaskState.PENDING, "given back, the attempt is not spent")
CANCEL = _transition("cancel", (TaskState.PENDING, TaskState.RUNNING), TaskState.CANCELLED, "no longer wanted")
REQUEUE = _transition("requeue", (TaskState.FAILED, TaskState.CANCELLED), TaskState.PENDING, "an operator tries again")

TRANSITIONS = (ADD, REFUSE, CLAIM, COMPLETE, FAIL, RETRY, RELEASE, CANCEL, REQUEUE)


class OutcomeKind(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SNOOZED = "snoozed"
    DIED = "died"
    TIMED_OUT = "timed_out"
    RELEASED = "released"
    CANCELLED = "cancelled"


class Home(StrEnum):
    """Where the source file of a task lies now."""

    INBOX = "inbox"
    ARCHIVE = "archive"
    FAILED = "failed"
    KEPT = "kept"
    """In the inbox, on purpose: it is done with and stays."""
    ELSEWHERE = "elsewhere"
    """Where a manifest named it, outside the inbox: it stays there."""
    LINK = "link"
    """There is no file: a list named a link. `path` is empty, or once it has failed where the record of that lies."""
    GONE = "gone"
    """Taken away or replaced by somebody else."""


@dataclass(frozen=True, slots=True)
class NewTask:
    """What intake found and the queue shall keep."""

    path: bytes
    """Absolute, as the kernel gives it: names need not be UTF-8."""
    name: str
    """Relative to the inbox, printable."""
    dev: int
    ino: int
    size: int
    mtime_ns: int
    url: str = ""
    """The link that is meant, canonical. Without a `path` there is no file, and `ino` stands for link and wishes."""


@dataclass(frozen=True, slots=True)
class Task:
    """One video, as the loop needs it."""

    id: int
    path: bytes
    name: str
    dev: int
    ino: int
    size: int
    mtime_ns: int
    attempt: int
    """How often it was claimed: the fencing token of a running attempt."""
    spent: int
    """How many attempts counted against it."""
    deaths: int
    """How many workers it has felled."""
    priority: int
    created_at: float
    """UTC epoch seconds at which it entered."""
    report: str | None
    """The reserved name of its report, relative to the reports directory."""
    home: str = Home.INBOX
    """Whose folder `path` is in."""
    batch: int | None = None
    """Which batch it came with."""
    options: str = "{}"
    """What was said for it over the configuration, as `config.options.to_json` writes it."""
    key: str | None = None
    """What an earlier attempt was about to find out; see `pool.messages.Seek`."""
    url: str | None = None
    """The link that is meant, canonical; it may hold secrets. None for a file."""

    @property
    def owner(self) -> str:
        """What its report says it belongs to."""
        return report_owner(self.id, self.created_at)


def said(options: str, name: str, default: Any = None) -> Any:
    """The value of an option that was said for a task; `options` as in `Task.options`."""
    if options == "{}":
        return default
    found = msgspec.json.decode(options).get(name)
    return default if found is None else found[0]


def report_owner(task: int, queued_at: float) -> str:
    """Tells reports apart even if the database was lost and numbers began anew."""
    return f"{task}-{int(queued_at * 1000):x}"


@dataclass(frozen=True, slots=True)
class Priorities:
    """The plan's priorities: a lower figure runs first; waiting lowers it."""

    base: int = 50
    small_below_bytes: int = 100_000_000
    small_bonus: int = 10
    large_above_bytes: int = 500_000_000
    large_penalty: int = 10
    retry_penalty: int = 20
    ageing_s: float = 60.0
    """Seconds of waiting worth one point."""

    def priority(self, size_bytes: int) -> int:
        """Points for a new task of this size."""
        if size_bytes < self.small_below_bytes:
            return self.base - self.small_bonus
        if size_bytes > self.large_above_bytes:
            return self.base + self.large_penalty
        return self.base

    def rank(self, priority: int, created_at: float) -> float:
        """The fixed key tasks are claimed by: two tasks age at the same rate, so their order never changes."""
        return created_at + priority * self.ageing_s
