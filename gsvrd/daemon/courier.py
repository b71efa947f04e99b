"""Courier: has the outbox's messages delivered by a child process that may hang or die without hurting anybody.

Called by the loop: `hear` while it works, and `send` right after a commit, so that nothing is told that is not durable.
The child comes from the fork server like a worker, when there is something to deliver, and ends when it was idle for a
while. A message counts as delivered when the child has said so and that is committed; what a child that died had in hand
is simply sent again, with the same id.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.context import ForkServerProcess
from urllib.parse import urlsplit

import msgspec
import structlog

from gsvrd.clock import Clock
from gsvrd.daemon.delivering import CourierSettings, Deliver, Delivery, main
from gsvrd.policy.webhook import Fate, Reply, judge
from gsvrd.pool.channel import Channel
from gsvrd.pool.forkserver import main_module_hidden, signals_blocked
from gsvrd.store.outbox import Message, Outbox

log = structlog.get_logger("gsvrd.courier")

MOST_AT_A_TIME = 8
IDLE_S = 30.0
"""After so long without a message the child ends."""
GRACE_S = 10.0
"""Beyond its own deadline a delivery may take so long until the child is taken to hang."""
_RESTART_S, _RESTART_MOST_S = 0.5, 60.0
_JOIN_S = 2.0


@dataclass(frozen=True, slots=True)
class _Flight:
    message: Message
    ends_at: float
    """Monotonic."""


@dataclass(slots=True)
class _Child:
    process: ForkServerProcess
    channel: Channel
    watched: dict[int, int]
    """Descriptors in the epoll, and the events waited for."""


@dataclass(slots=True)
class Courier:
    """See the module. `give_up_s` is how old a message may get."""

    outbox: Outbox
    clock: Clock
    settings: CourierSettings
    give_up_s: float
    chance: Callable[[], float] = random.random
    _child: _Child | None = None
    _flights: dict[str, _Flight] = field(default_factory=dict)
    _failures: int = 0
    """Children in a row that died before they answered anything."""
    _not_before: float = 0.0
    _idle_since: float = 0.0
    _closed: bool = False
    _epoll: select.epoll = field(default_factory=select.epoll)
    _lifeline: tuple[socket.socket, socket.socket] = field(default_factory=socket.socketpair)

    def fileno(self) -> int:
        """An epoll descriptor is itself readable when one of its own is."""
        return self._epoll.fileno()

    @property
    def pids(self) -> list[int]:
        """Of the child, if there is one: for who looks for orphans of a daemon that died."""
        return [self._child.process.pid or 0] if self._child else []

    def next_deadline(self) -> float | None:
        """Monotonic time of the next thing to do; to be asked after `send`."""
        moments = [flight.ends_at for flight in self._flights.values()]
        if self._child and not self._flights:
            moments.append(self._idle_since + IDLE_S)
        if not self._closed and len(self._flights) < MOST_AT_A_TIME:
            due = self.outbox.next_due(self._busy)
            if due is not None:
                moments.append(max(self._not_before, self.clock.monotonic() + due - self.clock.wall()))
        return min(moments, default=None)

    def change(self, settings: CourierSettings, give_up_s: float) -> None:
        """The configuration was read again: the next child has it; what is under way is sent anew."""
        self.give_up_s = give_up_s
        if settings != self.settings:
            self.settings = settings
            if self._child:
                self._end(self._child)

    def close(self) -> None:
        """End the child; what it did not answer for stays in the outbox."""
        self._closed = True
        if self._child:
            self._end(self._child)
        for end in self._lifeline:
            end.close()
        self._epoll.close()

    # -- hearing -----------------------------------------------------------------------------------------------------

    def hear(self) -> None:
        """Note what became of messages, and see whether the child still lives."""
        if self._child is None:
            return
        child, ready = self._child, dict(self._epoll.poll(0))
        if child.channel.fileno() in ready:
            self._listen(child)
        if child.process.sentinel in ready:
            self._bury(child, f"the courier ended with exit code {child.process.exitcode}")
        else:
            self._mind_the_time(child)

    def _listen(self, child: _Child) -> None:
        child.channel.flush()
        for message in child.channel.receive():
            said = msgspec.msgpack.decode(message, type=Delivery)
            flight = self._flights.pop(said.id, None)
            if flight is not None:
                self._failures = 0
                self._note(flight.message, Reply(said.status, said.error, said.retry_after_s, said.refused))
        if child.channel.closed:
            self._unwatch(child, child.channel.fileno())  # its sentinel comes
        self._watch_writes(child)
        if not self._flights:
            self._idle_since = self.clock.monotonic()

    def _note(self, message: Message, reply: Reply) -> None:
        now = self.clock.wall()
        verdict = judge(
            reply,
            tries=message.tries + 1,
            age_s=now - message.age_from,
            give_up_s=self.give_up_s,
            chance=self.chance(),
        )
        if verdict.fate is Fate.DELIVERED:
            self.outbox.delivered(message.id)
            log.debug("webhook_delivered", message=message.id, event_type=message.event, task=message.task)
            return
        facts = {"message": message.id, "event_type": message.event, "host": _host(message.url), "error": reply.error}
        if verdict.fate is Fate.DEAD:
            self.outbox.dead(message.id, reply.error)
            log.warning("webhook_given_up", tries=message.tries + 1, **facts)
        else:
            self.outbox.failed(message.id, reply.error, now + verdict.delay_s)
            log.info("webhook_failed", again_in_s=round(verdict.delay_s, 1), **facts)

    def _mind_the_time(self, child: _Child) -> None:
        now = self.clock.monotonic()
        if any(now >= flight.ends_at for flight in self._flights.values()):
            self._bury(child, "the courier did not answer in time")
        elif not self._flights and now >= self._idle_since + IDLE_S:
            self._end(child)

    def _bury(self, child: _Child, why: str) -> None:
        """It ended by no wish of ours. Each message it had in hand has had a try: one of them may have felled it."""
        log.warning("courier_ended", error=why, messages=len(self._flights))
        if self._flights:
            self._wait_a_little()
        for flight in self._flights.values():
            self._note(flight.message, Reply(error=why))
        self._end(child)

    def _wait_a_little(self) -> None:
        self._failures += 1
        self._not_before = self.clock.monotonic() + min(_RESTART_MOST_S, _RESTART_S * 2 ** min(self._failures, 20))

    def _end(self, child: _Child) -> None:
        self._child = None
        self._flights.clear()
        child.process.kill()
        for fd in list(child.watched):
            self._unwatch(child, fd)
        child.channel.close()
        child.process.join(_JOIN_S)
        if not child.process.is_alive():
            child.process.close()

    # -- sending -----------------------------------------------------------------------------------------------------

    def send(self) -> None:
        """Hand what is due to the child. To be called when nothing is noted that is not committed."""
        room = MOST_AT_A_TIME - len(self._flights)
        now = self.clock.monotonic()
        if self._closed or not room or now < self._not_before:
            return
        messages = self.outbox.due(self.clock.wall(), room, self._busy)
        child = self._started() if messages else None
        if child is None:
            return
        for message in messages:
            self._flights[message.id] = _Flight(message, now + self.settings.timeout_s + GRACE_S)
            child.channel.send(msgspec.msgpack.encode(Deliver(message.id, message.url, message.body.encode())))
        self._watch_writes(child)

    @property
    def _busy(self) -> set[str]:
        return {flight.message.lane for flight in self._flights.values()}

    def _started(self) -> _Child | None:
        """The child; None when none can be had now."""
        if self._child is None:
            try:
                self._child = self._start()
            except (OSError, EOFError) as error:
                # The fork server is gone, or the machine is out of processes or descriptors.
                log.warning("courier_not_started", error=str(error))
                self._wait_a_little()
        return self._child

    def _start(self) -> _Child:
        with signals_blocked():
            resource_tracker.ensure_running()  # the first time, it unblocks INT and TERM behind our back
        ours, theirs = socket.socketpair()
        arguments = (theirs, self._lifeline[1], msgspec.msgpack.encode(self.settings))
        process = multiprocessing.get_context("forkserver").Process(
            target=main, args=arguments, name="gsvrd-courier", daemon=True
        )
        channel = Channel(ours, blocking=False)
        try:
            with theirs, signals_blocked(), main_module_hidden():
                process.start()
        except BaseException:
            channel.close()
            raise
        child = _Child(process, channel, dict.fromkeys((channel.fileno(), process.sentinel), select.EPOLLIN))
        for fd, events in child.watched.items():
            self._epoll.register(fd, events)
        return child

    def _watch_writes(self, child: _Child) -> None:
        fd, events = child.channel.fileno(), select.EPOLLIN | (select.EPOLLOUT if child.channel.waiting else 0)
        if child.watched.get(fd, events) != events:
            child.watched[fd] = events
            self._epoll.modify(fd, events)

    def _unwatch(self, child: _Child, fd: int) -> None:
        if child.watched.pop(fd, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(fd)


def _host(url: str) -> str:
    """Of a URL only the host is for the log: the rest may be a secret."""
    with contextlib.suppress(ValueError):
        return urlsplit(url).hostname or ""
    return ""
