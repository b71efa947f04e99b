"""ProcessPool: one process, one socket and one sentinel a worker.

Workers come from a fork server that has the heavy modules loaded: 30 ms and a few megabytes each. The pool is driven by
the daemon's loop through one epoll descriptor that holds every socket and sentinel. A death is told from what was said
before it: the socket is drained before its sentinel is believed.

Signals meant for the daemon are blocked while the fork server and its children start, so that none of them can be hit
between its first instruction and the one that ignores them.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import resource
import select
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.context import ForkServerProcess
from operator import itemgetter

from gsvrd.clock import Clock
from gsvrd.errors import ErrorFacts, ErrorKind
from gsvrd.pool.base import TOO_LATE, WorkerFacts
from gsvrd.pool.channel import Channel
from gsvrd.pool.forkserver import has_ended, load_there, main_module_hidden, number, signals_blocked
from gsvrd.pool.messages import Assign, Died, Ending, Event, Failed, Hello, Reply, Snoozed, decode_event, encode
from gsvrd.pool.worker import EXIT_OUT_OF_MEMORY, OUT_OF_MEMORY, WorkerLimits, main

TERM_GRACE_S = 2.0
"""Between asking a worker to end and ending it."""
DISMISS_S = 10.0
"""How long an idle worker that is needed no more may take to end by itself."""
_NOBODY_KNOWS = 255
"""The exit code multiprocessing makes up when its fork server does not answer any more."""
_START_BACKOFF_S, _START_BACKOFF_MAX_S = 0.1, 10.0


@dataclass(slots=True, eq=False)
class _Worker:
    process: ForkServerProcess
    channel: Channel
    server: int
    """The fork server it comes from."""
    ready: bool = False
    retiring: bool = False
    outdated: bool = False
    """It has settings that hold no more: once it retires it cannot be taken back."""
    assign: Assign | None = None
    limits: dict[str, tuple[float, ErrorFacts]] = field(default_factory=dict)
    """Monotonic times at which it is to be ended, and why, by what took too long."""
    condemned: ErrorFacts | None = None
    """Why it is being ended by us."""
    silenced: bool = False
    """Its attempt was cancelled: nothing it says counts."""
    stuffed: bool = False
    """Its socket did not take all we had to say: the epoll watches for room."""


@dataclass(slots=True)
class _Starts:
    """Workers that die before they say hello would otherwise be restarted in a tight loop."""

    failures: int = 0
    not_before: float = 0.0

    def failed(self, now: float) -> None:
        self.failures += 1
        self.not_before = now + min(_START_BACKOFF_MAX_S, _START_BACKOFF_S * 2**self.failures)


@dataclass(slots=True)
class ProcessPool:
    """See `base.Pool`. `maker` names the function that makes the work inside the worker, as `module:function`."""

    maker: str
    settings: bytes
    limits: WorkerLimits
    clock: Clock
    preload: Sequence[str] = ()
    _size: int = 0
    _closed: bool = False
    _workers: list[_Worker] = field(default_factory=list)
    _by_fd: dict[int, _Worker] = field(default_factory=dict)
    _free: list[_Worker] = field(default_factory=list)
    _by_task: dict[int, _Worker] = field(default_factory=dict)
    _starts: _Starts = field(default_factory=_Starts)
    _epoll: select.epoll = field(default_factory=select.epoll)
    _lifeline: tuple[socket.socket, socket.socket] = field(default_factory=socket.socketpair)

    def __post_init__(self) -> None:
        """Tell the fork server what to load; it starts with the first worker."""
        load_there(tuple(self.preload))

    def fileno(self) -> int:
        """An epoll descriptor is itself readable when one of its own is."""
        return self._epoll.fileno()

    # -- what the loop asks ------------------------------------------------------------------------------------------

    def events(self) -> list[Event]:
        """See `base.Pool`."""
        said: list[Event] = []
        for fd, _ in self._epoll.poll(0):
            worker = self._by_fd.get(fd)
            if worker is None:
                continue
            if fd == worker.channel.fileno():
                self._listen(worker, said)
            else:
                self._bury(worker, said)
        self._enforce_deadlines()
        self._keep_size()
        return said

    def next_deadline(self) -> float | None:
        """See `base.Pool`."""
        moments = [moment for worker in self._workers for moment, _ in worker.limits.values()]
        if len(self._workers) < self._size:
            moments.append(self._starts.not_before)
        return min(moments, default=None)

    def free(self) -> int:
        """See `base.Pool`."""
        return len(self._free)

    def assign(self, assign: Assign) -> int:
        """See `base.Pool`."""
        if not self._free:
            raise LookupError("no free worker")
        worker = self._free.pop()
        worker.assign = assign
        self._by_task[assign.task] = worker
        self.limit(assign.task, "attempt", assign.timeout_s or None, TOO_LATE)
        if most_bytes := assign.memory_bytes or self.limits.memory_bytes:
            _limit_memory(worker.process.pid or 0, most_bytes)
        self._send(worker, encode(assign))
        return worker.process.pid or 0

    def answer(self, task: int, reply: Reply) -> None:
        """See `base.Pool`."""
        worker = self._by_task.get(task)
        if worker is not None and worker.assign is not None and worker.assign.attempt == reply.attempt:
            self._send(worker, encode(reply))

    def limit(self, task: int, what: str, within_s: float | None, why: ErrorFacts | None = None) -> None:
        """See `base.Pool`."""
        worker = self._by_task.get(task)
        if worker is None or worker.condemned is not None:
            return
        worker.limits.pop(what, None)
        if within_s is not None:
            worker.limits[what] = (self.clock.monotonic() + within_s, why or TOO_LATE)

    def limit_memory(self, task: int, most_bytes: int) -> None:
        """See `base.Pool`."""
        worker = self._by_task.get(task)
        if worker is not None and worker.condemned is None:
            _limit_memory(worker.process.pid or 0, most_bytes)

    def cancel(self, task: int) -> None:
        """See `base.Pool`."""
        worker = self._by_task.pop(task, None)
        if worker is not None:
            worker.silenced = True
            self._condemn(worker, ErrorFacts(ErrorKind.CRASHED, "cancelled"))

    def resize(self, size: int) -> None:
        """See `base.Pool`."""
        self._size = size
        self._keep_size()

    def renew(self, settings: bytes, limits: WorkerLimits) -> None:
        """Use other settings: each worker retires after its task, and its successor has them."""
        self.settings, self.limits = settings, limits
        for worker in self._workers:
            worker.outdated = True
            self._retire(worker)
        self._keep_size()

    def workers(self) -> list[WorkerFacts]:
        """See `base.Pool`."""
        return [
            WorkerFacts(worker.process.pid or 0, worker.assign.task if worker.assign else None)
            for worker in self._workers
        ]

    def close(self) -> None:
        """See `base.Pool`."""
        self._closed = True
        self._size = 0
        for worker in self._workers:
            worker.process.kill()
        for worker in list(self._workers):
            worker.process.join(TERM_GRACE_S)
            self._forget(worker)
        for end in self._lifeline:
            end.close()
        self._epoll.close()

    # -- what workers do ---------------------------------------------------------------------------------------------

    def _listen(self, worker: _Worker, said: list[Event]) -> None:
        if worker.stuffed:
            worker.channel.flush()
        for message in worker.channel.receive():
            event = decode_event(message)
            if isinstance(event, Hello):
                self._greet(worker)
            elif not worker.silenced and worker.assign is not None:
                if isinstance(event, Ending):
                    if _is_last(event):
                        worker.retiring = worker.outdated = True  # it ends by itself: a task given to it would be lost
                    self._release(worker)
                said.append(event)
        if worker.channel.closed:
            # The sentinel tells how it ended; a closed socket would only wake the loop again and again.
            self._unwatch(worker.channel.fileno())
        else:
            self._watch_writes(worker)

    def _greet(self, worker: _Worker) -> None:
        worker.ready = True
        self._starts = _Starts()
        if not worker.retiring:
            self._free.append(worker)

    def _release(self, worker: _Worker) -> None:
        if worker.assign is not None:
            self._by_task.pop(worker.assign.task, None)
        worker.assign = None
        worker.limits.clear()
        if worker.retiring:
            self._dismiss(worker)
        elif worker.condemned is None:
            self._free.append(worker)

    def _bury(self, worker: _Worker, said: list[Event]) -> None:
        if not worker.channel.closed:
            self._listen(worker, said)
        worker.process.join()
        if worker.assign is not None and not worker.silenced:
            facts = worker.condemned or _cause_of_death(worker.process.exitcode, worker.server)
            killed = worker.condemned is None and worker.process.exitcode == -signal.SIGKILL
            said.append(Died(worker.assign.task, worker.assign.attempt, facts, by_stranger=killed))
        if not worker.ready and not worker.condemned:
            self._starts.failed(self.clock.monotonic())
        self._forget(worker)

    def _forget(self, worker: _Worker) -> None:
        if worker.assign is not None and self._by_task.get(worker.assign.task) is worker:
            del self._by_task[worker.assign.task]
        for fd in [fd for fd, owner in self._by_fd.items() if owner is worker]:
            self._unwatch(fd)
        with contextlib.suppress(ValueError):
            self._free.remove(worker)
        self._workers.remove(worker)
        worker.channel.close()
        if not worker.process.is_alive():
            worker.process.close()

    def _send(self, worker: _Worker, message: bytes) -> None:
        worker.channel.send(message)
        self._watch_writes(worker)

    def _watch_writes(self, worker: _Worker) -> None:
        waiting = worker.channel.waiting
        if waiting == worker.stuffed:
            return
        worker.stuffed = waiting
        fd = worker.channel.fileno()
        if fd in self._by_fd:
            self._epoll.modify(fd, select.EPOLLIN | (select.EPOLLOUT if waiting else 0))

    def _unwatch(self, fd: int) -> None:
        if self._by_fd.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    # -- deadlines and size ------------------------------------------------------------------------------------------

    def _enforce_deadlines(self) -> None:
        now = self.clock.monotonic()
        for worker in self._workers:
            moment, why = min(worker.limits.values(), key=itemgetter(0), default=(math.inf, TOO_LATE))
            if now < moment:
                continue
            if worker.condemned is None:
                self._condemn(worker, why)
            else:
                worker.process.kill()
                worker.limits.clear()

    def _condemn(self, worker: _Worker, why: ErrorFacts) -> None:
        worker.condemned = why
        worker.process.terminate()
        worker.limits = {"end": (self.clock.monotonic() + TERM_GRACE_S, why)}

    def _keep_size(self) -> None:
        if self._closed:
            return
        staying = [worker for worker in self._workers if not worker.retiring and worker.condemned is None]
        missing = self._size - len(staying)
        if missing < 0:
            for worker in sorted(staying, key=lambda worker: worker.assign is not None)[:-missing]:
                self._retire(worker)
        for worker in [worker for worker in self._workers if _may_stay(worker)][: max(0, missing)]:
            worker.retiring = False
            missing -= 1
        # Those that are on their way out count: there shall never be more at a time than were asked for.
        missing = min(missing, self._size - len(self._workers))
        if missing > 0 and self.clock.monotonic() >= self._starts.not_before:
            try:
                for _ in range(missing):
                    self._start()
            except (OSError, EOFError):
                # The fork server is gone, or the machine is out of processes or descriptors: again a little later.
                self._starts.failed(self.clock.monotonic())

    def _retire(self, worker: _Worker) -> None:
        worker.retiring = True
        with contextlib.suppress(ValueError):
            self._free.remove(worker)
        if worker.assign is None:
            self._dismiss(worker)

    def _dismiss(self, worker: _Worker) -> None:
        """An idle one shall end; if it does not (it is stopped, say), it is ended."""
        worker.channel.close_later()
        if worker.condemned is None:
            worker.limits["end"] = (self.clock.monotonic() + DISMISS_S, TOO_LATE)

    def _start(self) -> None:
        with signals_blocked():
            resource_tracker.ensure_running()  # the first time, it unblocks INT and TERM behind our back
        ours, theirs = socket.socketpair()
        arguments = (theirs, self._lifeline[1], self.maker, self.settings, self.limits)
        process = multiprocessing.get_context("forkserver").Process(
            target=main, args=arguments, name="gsvrd-worker", daemon=True
        )
        with theirs, signals_blocked(), main_module_hidden():
            process.start()
        worker = _Worker(process, Channel(ours, blocking=False), number())
        self._workers.append(worker)
        for fd in (ours.fileno(), process.sentinel):
            self._by_fd[fd] = worker
            self._epoll.register(fd, select.EPOLLIN)


def _is_last(ending: Ending) -> bool:
    if isinstance(ending, Snoozed):
        return ending.is_last
    return isinstance(ending, Failed) and ending.error.kind is ErrorKind.MEMORY


def _may_stay(worker: _Worker) -> bool:
    """Whether a worker that was to retire after its task can be taken back: its successor would be the same."""
    is_leaving = worker.outdated or worker.condemned is not None or worker.assign is None
    return worker.retiring and not is_leaving


def _limit_memory(pid: int, most_bytes: int) -> None:
    """Where that may not be done, or the worker is gone, what it was started with holds.

    DATA counts what it may write to, touched or not: so it can never dirty more than this.
    """
    if not pid:
        return  # to the kernel, 0 is ourselves
    with contextlib.suppress(OSError, ValueError):
        _, hard = resource.prlimit(pid, resource.RLIMIT_DATA)
        soft = most_bytes if hard == resource.RLIM_INFINITY else min(most_bytes, hard)
        resource.prlimit(pid, resource.RLIMIT_DATA, (soft, hard))


def _cause_of_death(exitcode: int | None, server: int) -> ErrorFacts:
    if exitcode == _NOBODY_KNOWS and has_ended(server):
        return ErrorFacts(ErrorKind.PLACE, "the fork server has ended", "Nothing to do: another one is started.")
    if exitcode == EXIT_OUT_OF_MEMORY:
        return OUT_OF_MEMORY
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        if -exitcode == signal.SIGXCPU:
            hint = "Raise workers.cpu_time_limit if a video of this length may need more."
            return ErrorFacts(ErrorKind.TIMEOUT, "the worker used all the CPU time it may have", hint)
        hint = "The video may be damaged on purpose or by accident; try to convert it."
        if -exitcode == signal.SIGKILL:
            hint = "Nobody here sent it: most likely the kernel, for lack of memory. See the system's journal."
        return ErrorFacts(ErrorKind.CRASHED, f"the worker was ended by {name}", hint)
    return ErrorFacts(ErrorKind.CRASHED, f"the worker ended with exit code {exitcode} and without a result")
