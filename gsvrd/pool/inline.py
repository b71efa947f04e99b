"""InlinePool: the same workers and messages, inside this process, one thread each. For tests and debugging.

It cannot end a worker by force: a cancelled or late attempt is left alone, and what it says is not heard any more.
"""

from __future__ import annotations

import contextlib
import math
import select
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import itemgetter

from gsvrd.clock import Clock
from gsvrd.errors import ErrorFacts, ErrorKind
from gsvrd.pool.base import TOO_LATE, WorkerFacts
from gsvrd.pool.channel import Channel
from gsvrd.pool.messages import Assign, Died, Ending, Event, Hello, Reply, decode_event, encode
from gsvrd.pool.worker import HungUp, Work, serve


@dataclass(slots=True, eq=False)
class _Seat:
    channel: Channel
    ready: bool = False
    retiring: bool = False
    assign: Assign | None = None
    limits: dict[str, tuple[float, ErrorFacts]] = field(default_factory=dict)


@dataclass(slots=True)
class InlinePool:
    """See `base.Pool`. `make` makes the work of one worker."""

    make: Callable[[], Work]
    clock: Clock
    _size: int = 0
    _seats: list[_Seat] = field(default_factory=list)
    _epoll: select.epoll = field(default_factory=select.epoll)

    def fileno(self) -> int:
        """See `base.Pool`."""
        return self._epoll.fileno()

    def events(self) -> list[Event]:
        """See `base.Pool`."""
        said: list[Event] = []
        ready = {fd for fd, _ in self._epoll.poll(0)}
        for seat in [seat for seat in self._seats if seat.channel.fileno() in ready]:
            self._listen(seat, said)
        self._enforce_deadlines(said)
        self._keep_size()
        return said

    def next_deadline(self) -> float | None:
        """See `base.Pool`."""
        return min((moment for seat in self._seats for moment, _ in seat.limits.values()), default=None)

    def free(self) -> int:
        """See `base.Pool`."""
        return sum(self._is_free(seat) for seat in self._seats)

    def assign(self, assign: Assign) -> int:
        """See `base.Pool`."""
        seat = next((seat for seat in self._seats if self._is_free(seat)), None)
        if seat is None:
            raise LookupError("no free worker")
        seat.assign = assign
        self.limit(assign.task, "attempt", assign.timeout_s or None, TOO_LATE)
        seat.channel.send(encode(assign))
        return 0

    def answer(self, task: int, reply: Reply) -> None:
        """See `base.Pool`."""
        for seat in self._seats:
            if seat.assign is not None and (seat.assign.task, seat.assign.attempt) == (task, reply.attempt):
                seat.channel.send(encode(reply))

    def limit(self, task: int, what: str, within_s: float | None, why: ErrorFacts | None = None) -> None:
        """See `base.Pool`."""
        for seat in [seat for seat in self._seats if seat.assign is not None and seat.assign.task == task]:
            seat.limits.pop(what, None)
            if within_s is not None:
                seat.limits[what] = (self.clock.monotonic() + within_s, why or TOO_LATE)

    def limit_memory(self, task: int, most_bytes: int) -> None:
        """See `base.Pool`; threads share one memory, so nothing is limited."""

    def cancel(self, task: int) -> None:
        """See `base.Pool`."""
        for seat in [seat for seat in self._seats if seat.assign is not None and seat.assign.task == task]:
            self._leave(seat)
        self._keep_size()

    def resize(self, size: int) -> None:
        """See `base.Pool`."""
        self._size = size
        self._keep_size()

    def workers(self) -> list[WorkerFacts]:
        """See `base.Pool`."""
        return [WorkerFacts(0, seat.assign.task if seat.assign else None) for seat in self._seats]

    def close(self) -> None:
        """See `base.Pool`."""
        for seat in list(self._seats):
            self._leave(seat)
        self._epoll.close()

    def _is_free(self, seat: _Seat) -> bool:
        return seat.ready and seat.assign is None and not seat.retiring

    def _listen(self, seat: _Seat, said: list[Event]) -> None:
        for message in seat.channel.receive():
            event = decode_event(message)
            if isinstance(event, Hello):
                seat.ready = True
                continue
            if isinstance(event, Ending):
                seat.assign = None
                seat.limits.clear()
            said.append(event)
        if seat.channel.closed:
            if seat.assign is not None:
                facts = ErrorFacts(ErrorKind.CRASHED, "the worker ended without a result")
                said.append(Died(seat.assign.task, seat.assign.attempt, facts))
            self._leave(seat)

    def _enforce_deadlines(self, said: list[Event]) -> None:
        now = self.clock.monotonic()
        for seat in list(self._seats):
            moment, why = min(seat.limits.values(), key=itemgetter(0), default=(math.inf, TOO_LATE))
            if now >= moment:
                if seat.assign is not None:
                    said.append(Died(seat.assign.task, seat.assign.attempt, why))
                self._leave(seat)

    def _leave(self, seat: _Seat) -> None:
        self._seats.remove(seat)
        self._epoll.unregister(seat.channel.fileno())
        seat.channel.close()

    def _keep_size(self) -> None:
        staying = [seat for seat in self._seats if not seat.retiring]
        for seat in sorted(staying, key=lambda seat: seat.assign is not None)[: max(0, len(staying) - self._size)]:
            seat.retiring = True
        for seat in [seat for seat in self._seats if seat.retiring and seat.assign is None]:
            self._leave(seat)
        for _ in range(self._size - len(staying)):
            self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        seat = _Seat(Channel(ours, blocking=False))
        self._seats.append(seat)
        self._epoll.register(ours.fileno(), select.EPOLLIN)
        threading.Thread(target=_serve, args=(theirs, self.make()), name="gsvrd-inline", daemon=True).start()


def _serve(connected: socket.socket, work: Work) -> None:
    with connected, contextlib.suppress(HungUp):
        serve(Channel(connected, blocking=True), work)
