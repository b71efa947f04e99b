"""The error tree. Every error says what happened and, in `hint`, what the reader can do about it.

    GsvrdError                  anything this program says on purpose
    |- SetupError               the service cannot start or go on; has an exit code of sysexits
    |  |- ConfigError      78   the configuration is wrong
    |  |- StateError       65   the database is damaged or of a newer version
    |  |- StateDiskError   74   the disk does not let the database be used
    |  |- StateBusyError   75   another process has locked the database
    |  |- LockHeldError    75   another daemon owns this state directory
    |  `- AccessError      77   a directory cannot be read or written
    |- TaskError                one attempt at one video ended badly; has an ErrorKind
    `- Snooze                   the attempt cannot go on before some time; it is given back, stages kept

What crosses a pipe or enters a row is an `ErrorFacts`, plain data, never an exception object.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum


class ErrorKind(StrEnum):
    """Why an attempt failed. `policy.retry` says what each kind leads to."""

    UNREADABLE = "unreadable"
    """The bytes are no video that can be decoded. Permanent."""
    EMPTY = "empty"
    """Zero bytes. Permanent."""
    NOT_VIDEO = "not_video"
    """Readable, but there is nothing to study in it: text, a picture, a playlist. Permanent."""
    NOT_REGULAR = "not_regular"
    """A link, pipe, device or folder where a file was expected. Permanent."""
    TOO_LARGE = "too_large"
    """Beyond a limit on pixels, duration, streams or bytes. Permanent."""
    NOT_FOUND = "not_found"
    """The source vanished before it could be read. Permanent."""
    MOVED = "moved"
    """The source is not where it was; perhaps it has another name by now. Costs no attempt: it is looked for."""
    PERMISSION = "permission"
    """The source may not be read. Permanent."""
    READ = "read"
    """The disk or share does not give the bytes of the source."""
    CHANGED = "changed"
    """The source is not the file that was queued any more. The task ends; the new content is queued anew."""
    MEMORY = "memory"
    """The worker reached its memory limit."""
    CRASHED = "crashed"
    """The worker died: a signal, an exit without a result."""
    TIMEOUT = "timeout"
    """The deadline of the task passed."""
    LINK = "link"
    """What a link leads to can never be studied: nothing there, not ours to see, a page, no address at all. Permanent."""
    HOST = "host"
    """The server that a link leads to does not answer as it should, or says to come later."""
    NETWORK = "network"
    """No connection, reset, name not resolved."""
    SERVER = "server"
    """The service answered that it is in trouble itself: 5xx, overload, an answer cut off."""
    QUOTA = "quota"
    """The service refused for now: too many requests or tokens."""
    KEY = "key"
    """The service does not accept the key. Costs no attempt; nothing is tried before somebody has mended it."""
    MODEL = "model"
    """There is no such model, or it is not open to this key. Costs no attempt."""
    BUDGET = "budget"
    """A cost limit leaves no room for the call. Costs no attempt."""
    REQUEST = "request"
    """The service says that the request can never work. Permanent."""
    BLOCKED = "blocked"
    """The service will not answer about this video: safety, recitation. Permanent; it was billed."""
    ANSWER = "answer"
    """The service's answer is no usable lesson, after one repair."""
    PLACE = "place"
    """Trouble of the machine: disk full, read-only, too many open files. Costs no attempt."""
    UNKNOWN = "unknown"
    """A fault in the program. Logged with its traceback; not tried again."""


@dataclass(frozen=True, slots=True)
class ErrorFacts:
    """What is kept of a failure: for rows, pipes and `.error.json`."""

    kind: ErrorKind
    message: str
    hint: str = ""
    detail: str = ""


class GsvrdError(Exception):
    """The root. `str(error)` is one sentence for people; `hint` says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class SetupError(GsvrdError):
    """The service cannot run as it is set up."""

    exit_code = 1


class ConfigError(SetupError):
    """The configuration has problems; the message lists all of them, one a line."""

    exit_code = os.EX_CONFIG


class StateError(SetupError):
    """The database is damaged, or a newer gsvrd wrote it."""

    exit_code = os.EX_DATAERR


class StateDiskError(SetupError):
    """The disk is full, or does not read or write; the database is as it was."""

    exit_code = os.EX_IOERR


class StateBusyError(SetupError):
    """Another process has the database locked, for longer than anything of ours would."""

    exit_code = os.EX_TEMPFAIL


class LockHeldError(SetupError):
    """Another daemon runs on the same state directory."""

    exit_code = os.EX_TEMPFAIL


class AccessError(SetupError):
    """A directory the service needs cannot be used."""

    exit_code = os.EX_NOPERM


class TaskError(GsvrdError):
    """One attempt failed for a reason that can be named."""

    def __init__(
        self, kind: ErrorKind, message: str, hint: str = "", detail: str = "", *, delay_s: float = 0.0
    ) -> None:
        """`delay_s`: another attempt makes no sense before, if there is one at all."""
        super().__init__(message, hint)
        self.kind = kind
        self.detail = detail
        self.delay_s = delay_s

    @property
    def facts(self) -> ErrorFacts:
        """The plain data that may leave this process."""
        return ErrorFacts(self.kind, str(self), self.hint, self.detail)


class Snooze(GsvrdError):  # noqa: N818 (it is no error of anybody)
    """The attempt has to wait for longer than a worker should: given back with what it has finished, not spent."""

    def __init__(self, delay_s: float, reason: str) -> None:
        super().__init__(reason)
        self.delay_s = delay_s
