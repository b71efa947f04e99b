"""Attempts: from a pending task to the end of one try at it.

Called by the loop: `dispatch` hands tasks to free workers, `hear` takes what a worker said. What an ending leads to is
decided by `policy.retry` and carried out here on the queue; files are put in place by `Placing`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import structlog

from gsvrd.clock import Clock
from gsvrd.errors import ErrorFacts, ErrorKind
from gsvrd.model import Home, OutcomeKind, Task
from gsvrd.policy.breaker import SuccessRates
from gsvrd.policy.limiter import Instant
from gsvrd.policy.retry import Answer, RetryStrategy, Verdict
from gsvrd.pool.base import Pool
from gsvrd.pool.messages import (
    Ask,
    Assign,
    Died,
    Event,
    Failed,
    Finished,
    Keep,
    Progress,
    Reserve,
    Reserved,
    Settle,
    Snoozed,
)
from gsvrd.store.queue import TaskQueue

log = structlog.get_logger("gsvrd.attempts")

SERVICE_TROUBLE = (ErrorKind.SERVER, ErrorKind.NETWORK)
RATES = "success_rates"
"""Under this name the service's facts hold them."""
OUTAGE_S = 30.0
"""While a service is known to be down its failures cost no attempt; tasks come again after about so long."""
DROPPED_ENDS_S = 5.0
"""By then the worker of a dropped attempt has ended: the pool asks it to, and after its grace ends it by force."""


class Placing(Protocol):
    """What becomes of files when an attempt has ended; see `placing.Places`."""

    def choose_name(self, task: Task, wished: str) -> str:
        """The report name this task gets."""
        ...

    def publish(self, task: Task, attempt: int, temporary: str, sha256: str) -> None:
        """Put the report in place, complete the task, take the source away."""
        ...

    def give_up(self, task: Task, attempt: int, error: ErrorFacts, sha256: str) -> None:
        """After the failure is on record: write the failure record, take the source away."""
        ...

    def look_again(self, task: Task, error: ErrorFacts) -> ErrorFacts:
        """The same error, or why a source that was not found is not gone at all."""
        ...

    def replaced(self, task: Task) -> None:
        """After another file has taken the source's place: what lies there now is none of this task's."""
        ...

    def clean(self, task: Task, attempt: int, *, after_s: float = 0.0) -> None:
        """Remove what an attempt left behind, at once or when its worker has had time to end."""
        ...

    def give_back_unpublished(self, why: str) -> None:
        """Give finished tasks back whose report could not be put in place yet."""
        ...


class Governor(Protocol):
    """Who decides about calls to a service; see `permits.Permits`."""

    @property
    def charges(self) -> bool:
        """Whether a call that failed for the service's sake counts against its task."""
        ...

    def ask(self, ask: Ask) -> None:
        """A worker wants to call."""
        ...

    def settle(self, settle: Settle) -> None:
        """A call has ended."""
        ...

    def ended(self, task: int, attempt: int) -> None:
        """An attempt is over."""
        ...


@dataclass(slots=True)
class Running:
    """An attempt a worker has in hand."""

    task: Task
    attempt: int
    worker: int


@dataclass(slots=True)
class Attempts:
    """The running attempts and what they lead to."""

    queue: TaskQueue
    pool: Pool
    strategy: RetryStrategy
    placing: Placing
    governor: Governor
    clock: Clock
    timeout_s: float
    after_commit: Callable[[Callable[[], None]], None]
    """Have something called once this turn's transaction is durable."""
    chance: Callable[[], float] = random.random
    debug: Callable[..., object] = field(default_factory=lambda: log.bind().debug)
    """Bound once: the lazy logger costs 15 µs an entry, also of a level that is dropped."""
    rates: SuccessRates = field(default_factory=SuccessRates)
    """How often trying again has helped, by kind of error; kept over restarts."""
    running: dict[int, Running] = field(default_factory=dict)
    _retried: dict[int, ErrorKind] = field(default_factory=dict)
    """What the last attempt of a task failed with."""

    # -- starting ----------------------------------------------------------------------------------------------------

    def dispatch(self, most: int) -> None:
        """Hand tasks to free workers, as long as both last and fewer than `most` run."""
        while len(self.running) < most and self.pool.free() and (task := self.queue.ready()) is not None:
            attempt = task.attempt + 1
            worker = self.pool.assign(self._assignment(task, attempt))
            self.queue.claim(task, worker, on_lost=partial(self.drop, task.id))
            self.running[task.id] = Running(task, attempt, worker)
            self.debug("attempt_started", task=task.id, attempt=attempt, name=task.name, worker=worker)

    def _assignment(self, task: Task, attempt: int) -> Assign:
        return Assign(
            task=task.id,
            attempt=attempt,
            path=task.path,
            name=task.name,
            identity=(task.dev, task.ino, task.size, task.mtime_ns),
            queued_at=task.created_at,
            kept=self.queue.kept(task.id) if task.attempt else {},
            timeout_s=self.timeout_s,
        )

    # -- hearing -----------------------------------------------------------------------------------------------------

    def hear(self, event: Event) -> None:
        """Take one event; what an attempt that is no longer ours says is dropped."""
        running = self.running.get(event.task)
        if running is None or running.attempt != event.attempt:
            return
        match event:
            case Progress(stage=stage, fraction=fraction):
                self.queue.progress(event.task, event.attempt, stage, fraction)
            case Keep(stage=stage, result=result):
                self.queue.keep(event.task, event.attempt, stage, result)
            case Reserve(name=name):
                self._reserve(running, name)
            case Ask():
                self.governor.ask(event)
            case Settle():
                self.governor.settle(event)
            case _:
                del self.running[event.task]
                self.governor.ended(event.task, event.attempt)
                self._end(running, event)

    def _end(self, running: Running, ending: Finished | Failed | Snoozed | Died) -> None:
        self._learn(running.task.id, succeeded=isinstance(ending, Finished))
        match ending:
            case Finished(temporary=temporary, sha256=sha256):
                self._finish(running, temporary, sha256)
            case Failed(error=error, sha256=sha256):
                self._fail(running, error, OutcomeKind.FAILED, sha256)
            case Snoozed(delay_s=delay_s, reason=reason):
                log.info("attempt_snoozed", task=ending.task, attempt=ending.attempt, delay_s=delay_s, reason=reason)
                self.queue.release(ending.task, ending.attempt, reason, OutcomeKind.SNOOZED, delay_s)
            case Died(error=error):
                outcome = OutcomeKind.TIMED_OUT if error.kind is ErrorKind.TIMEOUT else OutcomeKind.DIED
                self._fail(running, error, outcome, "")

    def _learn(self, task: int, *, succeeded: bool) -> None:
        kind = self._retried.pop(task, None)
        if kind is not None:
            now = self._now()
            self.rates.note(kind.value, succeeded=succeeded, charged=self.governor.charges, now=now)
            self.queue.set_service(RATES, self.rates.save(now))

    def _now(self) -> Instant:
        return Instant(self.clock.monotonic(), self.clock.wall())

    def _reserve(self, running: Running, wished: str) -> None:
        name = self.placing.choose_name(running.task, wished)
        self.queue.reserve(running.task.id, running.attempt, name)
        running.task = replace(running.task, report=name)
        self.after_commit(lambda: self.pool.answer(running.task.id, Reserved(running.attempt, name)))

    def _finish(self, running: Running, temporary: str, sha256: str) -> None:
        task, attempt = running.task, running.attempt
        self.debug("attempt_finished", task=task.id, attempt=attempt)
        if not temporary:
            self.queue.complete(task.id, attempt, sha256)
            return
        # Only after the commit is the name in the report a durable one, and an operator's cancel known to us.
        self.after_commit(lambda: self.placing.publish(task, attempt, temporary, sha256))

    # -- failing -----------------------------------------------------------------------------------------------------

    def _fail(self, running: Running, error: ErrorFacts, outcome: OutcomeKind, sha256: str) -> None:
        task, attempt = running.task, running.attempt
        if error.kind is ErrorKind.NOT_FOUND:
            error = self.placing.look_again(task, error)
        death = outcome in (OutcomeKind.DIED, OutcomeKind.TIMED_OUT)
        deaths = task.deaths + int(death)
        verdict = self.strategy.judge(error.kind, spent=task.spent, deaths=deaths, chance=self.chance())
        if error.kind in SERVICE_TROUBLE and not self.governor.charges:
            verdict = Verdict(Answer.GIVE_BACK, OUTAGE_S * (0.5 + self.chance()))
        elif verdict.answer is Answer.RETRY and task.spent and self._is_hopeless(error.kind):
            verdict = Verdict(Answer.GIVE_UP)
        log.warning(
            "attempt_failed",
            task=task.id,
            attempt=attempt,
            name=task.name,
            kind=error.kind.value,
            error=error.message,
            then=verdict.answer.value,
            # A fault of ours is worth its traceback; other details may be long and stand in the failure record.
            detail=error.detail if error.kind is ErrorKind.UNKNOWN else None,
        )
        match verdict.answer:
            case Answer.RETRY:
                self._retried[task.id] = error.kind
                self.queue.retry(task, attempt, outcome, error, verdict.delay_s, death=death)
            case Answer.GIVE_BACK:
                self.queue.release(task.id, attempt, error.message, outcome, verdict.delay_s, error)
            case Answer.REPLACE:
                self.queue.cancel(task.id, error.message)
                self.queue.moved(task.id, Home.GONE)
                self.after_commit(lambda: self.placing.replaced(task))
            case Answer.GIVE_UP:
                give_up = partial(self.placing.give_up, task, attempt, error, sha256)
                self.queue.fail(task.id, attempt, outcome, error, sha256, death=death, on_done=give_up)
        self.placing.clean(task, attempt)

    def _is_hopeless(self, kind: ErrorKind) -> bool:
        """Only for trouble of the service: what fells a worker is counted by deaths."""
        return kind in SERVICE_TROUBLE and self.rates.is_hopeless(kind.value, self._now())

    # -- ending from outside -----------------------------------------------------------------------------------------

    def drop(self, task: int) -> None:
        """End an attempt whose row is not ours any more: somebody cancelled it."""
        running = self.running.pop(task, None)
        if running is not None:
            log.info("attempt_dropped", task=task, attempt=running.attempt)
            self.pool.cancel(task)
            self.governor.ended(task, running.attempt)
            self.placing.clean(running.task, running.attempt, after_s=DROPPED_ENDS_S)

    def drop_lost(self) -> None:
        """After another process has written: end the attempts it has taken from us."""
        for running in list(self.running.values()):
            if not self.queue.still_running(running.task.id, running.attempt):
                self.drop(running.task.id)

    def give_back_all(self, why: str) -> None:
        """End all attempts and give their tasks back, the attempts not spent."""
        for running in list(self.running.values()):
            self.pool.cancel(running.task.id)
            self.governor.ended(running.task.id, running.attempt)
            self.queue.release(running.task.id, running.attempt, why)
            # Until the commit the pool has ended the workers: they would write on while it is removed.
            self.after_commit(partial(self.placing.clean, running.task, running.attempt))
        self.running.clear()
        self.placing.give_back_unpublished(why)
