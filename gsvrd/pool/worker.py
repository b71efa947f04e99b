"""A worker: takes one assignment at a time from its channel, works, and says how it ended.

`serve` is the loop, the same in a process and in the inline pool; `main` is the first thing a worker process runs. A
worker never opens SQLite, never touches the inbox but through a checked descriptor, and ends when its daemon does.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib
import os
import resource
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Protocol, TypedDict, Unpack

from gsvrd.errors import ErrorFacts, ErrorKind, Snooze, TaskError
from gsvrd.pool import confine
from gsvrd.pool.channel import Channel
from gsvrd.pool.messages import (
    Ask,
    Assign,
    Content,
    Denied,
    Ending,
    Failed,
    Finished,
    Forget,
    FromWorker,
    Granted,
    Hello,
    Keep,
    Known,
    Progress,
    Reply,
    Reserve,
    Reserved,
    Seek,
    Settle,
    Snoozed,
    ToWorker,
    decode_order,
    encode,
)

PROGRESS_INTERVAL_S = 0.5
STARVED = 0.9
"""A worker that fails with more than this share of its memory limit in use is taken to have failed for that."""
EXIT_OUT_OF_MEMORY = 86
"""How a worker ends that had not even enough to say so."""
OUT_OF_MEMORY = ErrorFacts(
    ErrorKind.MEMORY,
    "the worker reached its memory limit",
    "Raise workers.memory_limit, or give this video a machine with more memory.",
)
_PR_SET_PDEATHSIG = 1
_PLACE_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EIO})


class Desk:
    """What the work sees of the worker: how to say something about the current attempt."""

    def __init__(self, channel: Channel, assign: Assign) -> None:
        self._channel = channel
        self._assign = assign
        self._said: tuple[str, float] = ("", 0.0)

    def progress(self, stage: str, fraction: float) -> None:
        """How far it is; said at most twice a second, and whenever the stage changes."""
        now = time.monotonic()
        if stage == self._said[0] and now - self._said[1] < PROGRESS_INTERVAL_S:
            return
        self._said = (stage, now)
        self._send(Progress(self._assign.task, self._assign.attempt, stage, fraction))

    def know(self, sha256: str) -> None:
        """What the content is: said before it is decoded, so that a death can be laid to it."""
        self._send(Content(self._assign.task, self._assign.attempt, sha256))

    def seek(self, key: str) -> Known:
        """What there is already of what `key` stands for. Raises `Snooze` while another attempt is finding it out."""
        self._send(Seek(self._assign.task, self._assign.attempt, key))
        answer = self._reply()
        if not isinstance(answer, Known):
            raise HungUp
        if answer.wait_s:
            raise Snooze(answer.wait_s, "the same content is being studied")
        return answer

    def keep(self, stage: str, result: bytes) -> None:
        """A stage is finished; `result` is JSON."""
        self._send(Keep(self._assign.task, self._assign.attempt, stage, result))

    def forget(self, stage: str) -> None:
        """The result of a stage is of no use any more, for later attempts neither."""
        self._send(Forget(self._assign.task, self._assign.attempt, stage))

    def reserve(self, name: str) -> str:
        """Ask for a report name; returns the one to use. Waits for the daemon, which answers once it is durable."""
        self._send(Reserve(self._assign.task, self._assign.attempt, name))
        answer = self._reply()
        if not isinstance(answer, Reserved):
            raise HungUp
        return answer.name

    def ask(self, lane: str, model: str, tokens_in: int, tokens_out_most: int) -> int:
        """Leave for a call to a service; returns the permit, which must be settled.

        Raises `Snooze` when the call may not start soon, `TaskError` when it may not start at all.
        """
        self._send(Ask(self._assign.task, self._assign.attempt, lane, model, tokens_in, tokens_out_most))
        answer = self._reply()
        if isinstance(answer, Denied):
            if answer.delay_s is not None:
                raise Snooze(answer.delay_s, answer.error.message)
            raise TaskError(answer.error.kind, answer.error.message, answer.error.hint, answer.error.detail)
        if not isinstance(answer, Granted):
            raise HungUp
        return answer.permit

    def settle(self, permit: int, outcome: str, **figures: Unpack[Figures]) -> None:
        """What came of a call; the figures are those of `messages.Settle`."""
        self._send(Settle(self._assign.task, self._assign.attempt, permit, outcome, **figures))

    def _reply(self) -> Reply:
        for order in self._channel.receive():
            answer: ToWorker = decode_order(order)
            if not isinstance(answer, Assign) and answer.attempt == self._assign.attempt:
                return answer
        raise HungUp

    def _send(self, message: FromWorker) -> None:
        self._channel.send(encode(message))


class Figures(TypedDict, total=False):
    """See `messages.Settle`."""

    tokens_in: int
    tokens_out: int
    was_sent: bool
    is_known: bool
    retry_after_s: float | None
    is_daily: bool


class Unfit(Snooze):
    """This process cannot do it any more; it ends, and a fresh one takes its place."""

    def __init__(self, reason: str) -> None:
        super().__init__(0.0, reason)


class HungUp(BaseException):
    """The daemon is gone, or wants nothing more from this attempt. Not an `Exception`: nothing may swallow it."""


class Work(Protocol):
    """What is done with an assignment."""

    def __call__(self, assign: Assign, desk: Desk) -> Finished:
        """One attempt; raises `TaskError` when it fails for a reason that can be named."""
        ...


WorkMaker = Callable[[bytes], Work]


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """What a worker process may use; 0 means no limit."""

    memory_bytes: int = 0
    cpu_time_s: float = 0.0
    """Per attempt."""


def serve(channel: Channel, work: Work, limits: WorkerLimits | None = None) -> None:
    """Work until the channel closes."""
    channel.send(encode(Hello()))
    while not channel.closed:
        for order in channel.receive():
            assign = decode_order(order)
            if not isinstance(assign, Assign):
                continue
            if limits is not None:
                _limit_cpu_time(limits.cpu_time_s)
            ending = _attempt(work, assign, Desk(channel, assign))
            channel.send(encode(ending))
            if isinstance(ending, Snoozed) and ending.is_last:
                return
            if isinstance(ending, Failed) and ending.error.kind is ErrorKind.MEMORY:
                return  # a fresh process has its memory back


def _attempt(work: Work, assign: Assign, desk: Desk) -> Ending:
    try:
        return work(assign, desk)
    except Snooze as snooze:
        return Snoozed(assign.task, assign.attempt, snooze.delay_s, str(snooze), is_last=isinstance(snooze, Unfit))
    except TaskError as error:
        return Failed(assign.task, assign.attempt, error.facts, delay_s=error.delay_s)
    except MemoryError:
        facts = OUT_OF_MEMORY
    except OSError as error:
        facts = OUT_OF_MEMORY if error.errno == errno.ENOMEM or _is_starved() else _os_error(error)
    except Exception as error:  # noqa: BLE001 (an edge: whatever it was, it becomes a record and the worker goes on)
        facts = OUT_OF_MEMORY if _is_starved() else _unknown(error)
    return Failed(assign.task, assign.attempt, facts)


def _is_starved() -> bool:
    """Whether this process is about at its memory limit: native libraries have errors of their own for that."""
    soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if soft == resource.RLIM_INFINITY:
        return False
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text().split()[5])
        return pages * resource.getpagesize() > STARVED * soft
    return False


def _os_error(error: OSError) -> ErrorFacts:
    if error.errno in _PLACE_ERRNOS:
        hint = "Free space, or mend the directory; the work goes on by itself."
        return ErrorFacts(ErrorKind.PLACE, f"the machine is in trouble: {error.strerror}", hint, detail=repr(error))
    return _unknown(error)


def _unknown(error: Exception) -> ErrorFacts:
    hint = "This is a fault in gsvrd: please report it with the detail below."
    message = f"unexpected {type(error).__name__}: {error}"
    return ErrorFacts(ErrorKind.UNKNOWN, message, hint, detail="".join(traceback.format_exception(error))[-8000:])


# -- the process ---------------------------------------------------------------------------------------------------------


def main(connection: socket.socket, lifeline: socket.socket, maker: str, settings: bytes, limits: WorkerLimits) -> None:
    """Run in a fresh child of the fork server until the daemon hangs up or dies."""
    confine.gain_nothing()
    settle_signals()
    end_with_the_daemon(lifeline)
    _limit(limits)
    try:
        serve(Channel(connection, blocking=True), resolve(maker)(settings), limits)
    except HungUp:
        pass
    except MemoryError:
        os._exit(EXIT_OUT_OF_MEMORY)
    # Native libraries keep threads and at-exit handlers that may crash or hang; there is nothing left to save.
    os._exit(0)


def resolve(maker: str) -> WorkMaker:
    """The function named `module:function`."""
    module, _, name = maker.partition(":")
    found: WorkMaker = getattr(importlib.import_module(module), name)
    return found


def settle_signals() -> None:
    """Leave the daemon's process group and ignore what is meant for the daemon.

    All of these are blocked since before the fork. Ignoring a signal also throws away one that waits, so TERM, which must
    work later, is ignored for a moment first.
    """
    os.setsid()
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def end_with_the_daemon(lifeline: socket.socket) -> None:
    """End at once when the daemon's end of the lifeline closes, however the daemon died and whatever we are doing.

    With a fork server the parent-death signal of the kernel watches the wrong process; a read that ends does not. But the
    fork server ends with the daemon, and the signal also ends a worker that is stopped, or out of sight of its pool.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    kept_alive_by: int | None = getattr(forkserver._forkserver, "_forkserver_alive_fd", None)
    if kept_alive_by is not None:
        os.close(kept_alive_by)  # each worker has a copy, and as long as one is open the fork server stays

    def watch() -> None:
        lifeline.recv(1)
        os._exit(0)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def _limit(limits: WorkerLimits) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if limits.memory_bytes:
        # DATA counts what is written to, unlike AS, which the reserved address space of native libraries would exceed.
        resource.setrlimit(resource.RLIMIT_DATA, (limits.memory_bytes, resource.RLIM_INFINITY))


def _limit_cpu_time(cpu_time_s: float) -> None:
    if cpu_time_s:
        used = resource.getrusage(resource.RUSAGE_SELF)
        soft = int(used.ru_utime + used.ru_stime + cpu_time_s) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))
