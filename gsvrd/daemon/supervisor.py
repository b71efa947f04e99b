"""THE loop. One turn: wait, then signals, intake, work, filing, timers; then everything learned in one transaction.

It owns the queue, the pool and the run state, and nobody else writes the database while it lives, except for single
guarded statements of `gsvrctl`, which then rings the doorbell. It never blocks but in `_wait` and in `commit`.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import os
import select
import signal
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import structlog

from gsvrd.clock import Clock
from gsvrd.config.options import Layer, resolve, to_json
from gsvrd.crashpoints import reach
from gsvrd.daemon.attempts import Attempts
from gsvrd.daemon.chores import Chores
from gsvrd.daemon.courier import Courier
from gsvrd.daemon.doors import Doors
from gsvrd.daemon.filing import Filing
from gsvrd.daemon.grouping import STATEMENTS, Grouping
from gsvrd.daemon.incoming import Received, layers_of, receive
from gsvrd.daemon.placing import Places
from gsvrd.daemon.progressing import Progressing
from gsvrd.daemon.reception import Reception, new_task
from gsvrd.daemon.runstate import RunState
from gsvrd.daemon.service import Notifier
from gsvrd.daemon.signals import Doorbell, Signals, Wake
from gsvrd.daemon.snapshots import Snapshots
from gsvrd.daemon.summing import SUMMED_UNTIL, Summing
from gsvrd.daemon.vitals import Vitals
from gsvrd.daemon.workforce import WATCH_S, Workforce
from gsvrd.errors import ErrorFacts, StateDiskError
from gsvrd.intake.identity import Candidate
from gsvrd.intake.intake import Intake, Refusal
from gsvrd.model import NewTask, Task
from gsvrd.pool.base import Pool
from gsvrd.store.presence import Presence
from gsvrd.store.queue import TaskQueue

log = structlog.get_logger("gsvrd.supervisor")

STORE_RETRY_S = 1.0
DATABASE_S = 5.0
"""An idle daemon looks so often whether its database is still there."""
ENDINGS_S, ACCEPTED = 0.02, 100
"""In a flood of files: the longest time a turn spends on taking them in, and how many are taken in at a time.

A signal waits for no more than that."""
AFTER_START_S = 0.5
"""What the first work need not wait for is done so long after the start."""
CLOCK_JUMP_S = 1.0
"""Smaller steps of the wall clock do not matter."""


@dataclass(slots=True)
class Timers:
    """Things to do later in the loop, by monotonic time."""

    clock: Clock
    _heap: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _order: itertools.count[int] = field(default_factory=itertools.count)

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Have `call` called in `delay_s` seconds or soon after."""
        heapq.heappush(self._heap, (self.clock.monotonic() + delay_s, next(self._order), call))

    def next(self) -> float | None:
        """Monotonic time of the first."""
        return self._heap[0][0] if self._heap else None

    def run_due(self) -> None:
        """Call what is due."""
        now = self.clock.monotonic()
        while self._heap and self._heap[0][0] <= now:
            heapq.heappop(self._heap)[2]()


@dataclass(slots=True)
class AfterCommit:
    """What waits for this turn's transaction to be durable."""

    _calls: list[Callable[[], None]] = field(default_factory=list)

    def __call__(self, call: Callable[[], None]) -> None:
        """Have `call` called then."""
        self._calls.append(call)

    def run(self) -> None:
        """Call them; those they add wait for the next commit."""
        calls, self._calls = self._calls, []
        for call in calls:
            call()

    def __bool__(self) -> bool:
        return bool(self._calls)


@dataclass(slots=True)
class Supervisor:
    """The parts, wired together by `daemon.run`, and the loop that drives them."""

    clock: Clock
    queue: TaskQueue
    presence: Presence
    pool: Pool
    intake: Intake
    attempts: Attempts
    chores: Chores
    courier: Courier
    places: Places
    snapshots: Snapshots
    summing: Summing
    progressing: Progressing
    filing: Filing
    reception: Reception
    doors: Doors
    timers: Timers
    after_commit: AfterCommit
    state: RunState
    notifier: Notifier
    workforce: Workforce
    vitals: Vitals
    signals: Signals
    wake: Wake
    doorbell: Doorbell
    inbox: bytes
    reload: Callable[[Supervisor], str]
    """Read the configuration again and put it into effect; returns what went wrong, or nothing."""
    drain_s: float
    _grouping: Grouping = field(init=False)
    _ahead_s: float = field(init=False)
    """Wall time less monotonic time, as it was last."""
    _poller: select.poll = field(default_factory=select.poll)
    _drain_ends: float | None = None
    _stop_now: bool = False
    _store_retry: bool = False
    _is_watching: bool = False

    def __post_init__(self) -> None:
        """A part that is nobody else's business."""
        self._grouping = Grouping(self.clock)
        self._ahead_s = self.clock.wall() - self.clock.monotonic()

    def run(self) -> None:
        """Go round until a signal ends it and the work is drained."""
        self._start()
        while not self._is_over():
            self._turn()
        self._finish()

    def _start(self) -> None:
        for source in (self.pool, self.courier, self.wake, self.doorbell):
            self._poller.register(source.fileno(), select.POLLIN)
        self.places.recover()
        self.state.restore()
        self.reception.batches.restore()
        self.reception.restore()
        self.intake.start()
        self.pool.resize(self.workforce.restore())
        self.snapshots.start()
        self.summing.prepare()
        self.summing.restore(self.queue.service(SUMMED_UNTIL))
        self._watch_the_watchdog()
        self._look_at_the_database()
        self.timers.later(AFTER_START_S, self._after_start)
        self._commit()
        log.info("ready", inbox=os.fsdecode(self.inbox), workers=self.workforce.target, state=self.state.word)
        self._show()
        self.notifier.ready()

    def _after_start(self) -> None:
        self._tick()
        self.progressing.changed()

    def _turn(self) -> None:
        self._wait()
        self._mind_the_clock()
        self._take_signals()
        self._take_files()
        self.timers.run_due()
        others_wrote = self._work()
        if others_wrote:
            self.courier.outbox.look_again()
        self.progressing.expect(self.workforce.target)
        self.state.tell(self.pool.workers(), self.intake.describe())
        self._show()
        if self._commit() and others_wrote:
            self.progressing.changed()
            self.attempts.drop_lost()
            self.summing.look_again()
            self.workforce.look_again()
            for task in self.queue.withdrawals():
                self.places.withdraw(task)
            self.places.empty_spool()

    def _show(self) -> None:
        """For whoever watches from another thread."""
        vitals = self.vitals
        vitals.word, vitals.doors = self.state.word, tuple(self.doors.closed)
        vitals.workers, vitals.target = len(self.pool.workers()), self.workforce.target
        vitals.busy = len(self.attempts.running)

    def _wait(self) -> None:
        deadline = self._next_deadline()
        self.vitals.waits(deadline)
        timeout_ms = None if deadline is None else max(0.0, (deadline - self.clock.monotonic()) * 1000)
        ready = self._poll(timeout_ms)
        self.vitals.wakes()
        if self.wake.fileno() in ready:
            self.wake.clear()
        if self.doorbell.fileno() in ready:
            self.doorbell.clear()

    def _mind_the_clock(self) -> None:
        """Times to wait for are wall times, so that they hold over restarts; a clock that is set back must not stretch them.

        One that is set forward only lets tasks come early, and they are asked again then whether they may.
        """
        ahead_s = self.clock.wall() - self.clock.monotonic()
        if self._ahead_s - ahead_s > CLOCK_JUMP_S:
            log.warning("clock_went_back", by_s=round(self._ahead_s - ahead_s))
            self.queue.clock_went_back(self._ahead_s - ahead_s)
            self.courier.outbox.clock_went_back(self._ahead_s - ahead_s)
        self._ahead_s = ahead_s

    def _poll(self, timeout_ms: float | None) -> set[int]:
        return {fd for fd, _ in self._poller.poll(timeout_ms)}

    def _next_deadline(self) -> float | None:
        if self.queue.journalled or self.after_commit:
            return self.clock.monotonic() if "state" not in self.doors.closed else self.timers.next()
        may_start = self.may_start and len(self.attempts.running) < self.workforce.target
        if may_start and self.queue.is_unread and self.pool.free():
            return self.clock.monotonic()
        due = self.queue.next_due()
        moments = [
            self.pool.next_deadline(),
            self.courier.next_deadline(),
            self.intake.next_deadline() if not self._is_draining else None,
            self.timers.next(),
            self._drain_ends,
            None if due is None else self.clock.monotonic() + max(0.0, due - self.clock.wall()),
        ]
        return min((moment for moment in moments if moment is not None), default=None)

    # -- signals -----------------------------------------------------------------------------------------------------

    def _take_signals(self) -> None:
        for number in self.signals.take():
            log.info("signal", signal=number.name)
            match number:
                case signal.SIGUSR1:
                    self.state.pause("SIGUSR1 (gsvrctl pause)")
                case signal.SIGUSR2:
                    self.state.resume("SIGUSR2 (gsvrctl resume)")
                case signal.SIGHUP if _terminal_is_gone():
                    self._drain("the end of its terminal")
                case signal.SIGHUP:
                    self._reload()
                case _:
                    self._drain(number.name)

    def _reload(self) -> None:
        self.notifier.reloading()
        problem = self.reload(self)
        self.state.note_reload(problem)
        self.intake.rescan()
        self.notifier.ready()

    def _drain(self, by: str) -> None:
        if self._is_draining:
            self._stop_now = True
            return
        self._drain_ends = self.clock.monotonic() + self.drain_s
        self.state.drain(by, len(self.attempts.running), self.drain_s)
        self.notifier.stopping(self.drain_s + 5.0)
        self.intake.stop()

    @property
    def _is_draining(self) -> bool:
        return self._drain_ends is not None

    def _is_over(self) -> bool:
        if not self._is_draining:
            return False
        if self._stop_now or self.clock.monotonic() >= (self._drain_ends or 0.0):
            return True
        return not (self.attempts.running or self.filing.open or self.queue.journalled or self.after_commit)

    # -- files that come in ------------------------------------------------------------------------------------------

    def _take_files(self) -> None:
        if self._is_draining:
            return
        found = self.intake.turn()
        if self.intake.trouble:
            self.doors.close("inbox-gone", self.intake.trouble, self.clock.wall())
        else:
            self.doors.open("inbox-gone")
        lists = [one for one in found.candidates if self.reception.is_manifest(one)]
        for manifest in lists:
            self.reception.take_manifest(manifest)
        videos = [one for one in found.candidates if one not in lists]
        for start in range(0, len(videos), ACCEPTED):
            some = tuple(videos[start : start + ACCEPTED])
            self.filing.submit(
                partial(receive, some, self.reception.config, self.reception.templates),
                partial(self._accept, some),
                partial(self._not_durable, some),
            )
        for refusal in found.refusals:
            self._refuse(refusal)

    def _accept(self, found: tuple[Candidate, ...], received: list[Received]) -> None:
        reach("accept.durable")
        self.doors.open("inbox")
        kept = [one.candidate for one in received]
        for candidate in set(found).difference(kept):  # away at that moment: it may be back, and the same
            self.intake.forget(candidate.path, candidate.identity)
        for one in received:
            self.reception.accept(one)

    def _not_durable(self, candidates: tuple[Candidate, ...], error: OSError) -> None:
        self.doors.close("inbox", f"the inbox cannot be synced: {error.strerror or error}", self.clock.wall())
        for candidate in candidates:
            self.intake.forget(candidate.path, candidate.identity)
        self.timers.later(STORE_RETRY_S, self._try_inbox_again)

    def _try_inbox_again(self) -> None:
        self.doors.open("inbox")  # closed again by the first file that still cannot be synced; perhaps none is left
        self.intake.rescan()

    def _refuse(self, refusal: Refusal) -> None:
        new = new_task(refusal.path, refusal.name, refusal.identity)
        log.warning("refused", name=refusal.name, error=refusal.facts.message)
        self.queue.refuse(new, refusal.facts, on_row=partial(self._refused, new, refusal.facts))

    def _refused(self, new: NewTask, facts: ErrorFacts, task_id: int) -> None:
        values = (new.path, new.name, new.dev, new.ino, new.size, new.mtime_ns)
        task = Task(task_id, *values, attempt=0, spent=0, deaths=0, priority=0, created_at=0.0, report=None)
        self.places.give_up(task, 0, facts, "")
        self.filing.submit(
            partial(layers_of, new.path, self.inbox, self.reception.templates, {}),
            partial(self._tell_of_refusal, task, facts),
            lambda error: log.warning("refusal_not_told", name=new.name, error=str(error)),
        )

    def _tell_of_refusal(self, task: Task, facts: ErrorFacts, said: tuple[tuple[Layer, ...], str]) -> None:
        """It has no batch; whom its folders name is told, or whom the configuration does."""
        if self.attempts.herald is not None:
            self.attempts.herald.failed(replace(task, options=to_json(resolve(said[0]))), 0, facts)

    # -- work --------------------------------------------------------------------------------------------------------

    def _work(self) -> bool:
        """Hear workers and hand out tasks, until all is quiet or enough is learned for one transaction.

        True when another process has written meanwhile.
        """
        self._grouping.open()
        others_wrote = self.queue.look()
        while True:
            self.filing.collect(ENDINGS_S)
            self.snapshots.collect()
            self.summing.collect()
            self.progressing.collect()
            self.courier.hear()
            events = self.pool.events()
            for event in events:
                (self.chores if event.task < 0 else self.attempts).hear(event)
            self._dispatch()
            if events:
                self._grouping.heard()
            if self.queue.journalled >= STATEMENTS:
                return others_wrote
            if not events:
                ready = self._linger()
                if not ready or self.wake.fileno() in ready:
                    return others_wrote
                if self.doorbell.fileno() in ready:
                    self.doorbell.clear()
                    others_wrote |= self.queue.look()

    def _linger(self) -> set[int]:
        """What becomes readable while it is worth waiting for; nothing when the commit should not wait."""
        if self.after_commit or not self.queue.journalled:
            return set()
        patience_s = self._grouping.patience_s()
        return self._poll(patience_s * 1000) if patience_s else set()

    @property
    def may_start(self) -> bool:
        """Whether anything new is started at all."""
        return not (self._is_draining or self.state.paused or self.doors.closed)

    def _dispatch(self) -> None:
        if self.may_start:
            self.queue.promote()
            self.chores.dispatch()
            self.attempts.dispatch(self.workforce.target)
            if self.workforce.is_surprised:
                self.workforce.tick(of_itself=False)
            if self.workforce.is_watching and not self._is_watching:
                self._is_watching = True
                self.timers.later(WATCH_S, self._watch_memory)

    # -- the transaction ---------------------------------------------------------------------------------------------

    def _commit(self) -> bool:
        """Make what this turn learned durable, then do what waited for that. False: the database did not take it."""
        statements = self.queue.journalled
        if statements:
            self._mind_the_database()
        began = self.clock.monotonic() if statements else None
        try:
            self.queue.commit()
        except sqlite3.Error as error:
            self.doors.close("state", f"the state database cannot be written: {error}", self.clock.wall())
            log.error("commit_failed", error=str(error), statements=self.queue.journalled)
            if not self._store_retry:  # one at a time, however often the loop is woken meanwhile
                self._store_retry = True
                self.timers.later(STORE_RETRY_S, self._try_store_again)
            return False
        if began is not None:
            self._grouping.committed(self.clock.monotonic() - began)
        self.doors.open("state")
        self.courier.send()  # before others note more: it reads what is committed
        self.after_commit.run()
        self.progressing.note(statements)
        return True

    def _try_store_again(self) -> None:
        self._store_retry = False  # the turn that called this ends with a commit

    # -- the end -----------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        self.workforce.save()
        self.attempts.give_back_all("the daemon was stopped")
        self.pool.close()
        self.filing.collect()
        self.courier.hear()
        self.courier.close()
        self._commit()
        self.filing.close()
        self.filing.collect()
        self.snapshots.close()
        self.summing.close()
        self.state.stop()
        self._show()
        self._commit()
        self.progressing.close()
        self._commit()
        log.info("stopped")

    # -- workers and their memory ------------------------------------------------------------------------------------

    def _tick(self) -> None:
        """How many workers there are to be, while there is something to decide."""
        self.workforce.tick()
        if self.workforce.sample is not None:
            self.state.note_sample(self.workforce.sample)
        self.timers.later(self.workforce.rules.settings.tick_s, self._tick)

    def _watch_memory(self) -> None:
        self.workforce.watch()
        self._is_watching = self.workforce.is_watching
        if self._is_watching:
            self.timers.later(WATCH_S, self._watch_memory)

    def _mind_the_database(self) -> None:
        """Nothing is written into a file that nobody will open any more; the next start restores what it can.

        Raises `StateDiskError`.
        """
        try:
            self.presence.check()
        except StateDiskError as error:
            log.critical("database_gone", error=str(error), hint=error.hint)
            self.notifier.status(str(error))
            raise

    def _look_at_the_database(self) -> None:
        self._mind_the_database()
        self.timers.later(DATABASE_S, self._look_at_the_database)

    def _watch_the_watchdog(self) -> None:
        if self.notifier.watchdog_s is not None:
            self.notifier.alive()
            self.timers.later(self.notifier.watchdog_s, self._watch_the_watchdog)


def _terminal_is_gone() -> bool:
    """Whether standard error was a terminal that has hung up: then nobody is there who could have meant "reload"."""
    try:
        os.tcgetpgrp(2)
    except OSError as error:
        return error.errno == errno.EIO
    return False
