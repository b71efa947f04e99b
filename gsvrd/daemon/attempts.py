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
from gsvrd.model import TAKEN_AWAY, Home, OutcomeKind, Task, said
from gsvrd.policy.breaker import RetryBudget, SuccessRates
from gsvrd.policy.limiter import Instant
from gsvrd.policy.retry import Answer, RetryStrategy, Verdict
from gsvrd.pool.base import Pool
from gsvrd.pool.messages import (
    Ask,
    Assign,
    Content,
    Died,
    Event,
    Failed,
    Finished,
    Forget,
    Keep,
    Known,
    Progress,
    Reserve,
    Reserved,
    Seek,
    Settle,
    Snoozed,
)
from gsvrd.reports.naming import assets_name
from gsvrd.store.queue import TaskQueue

log = structlog.get_logger("gsvrd.attempts")

SERVICE_TROUBLE = (ErrorKind.SERVER, ErrorKind.NETWORK)
FELLING = (ErrorKind.CRASHED, ErrorKind.TIMEOUT, ErrorKind.MEMORY)
"""What the video itself may have done to its worker."""
RATES, BUDGET = "success_rates", "retry_budget"
"""Under these names the service's facts hold them."""
_KILLED_FOR_MEMORY = ErrorFacts(
    ErrorKind.MEMORY,
    "the kernel ended the worker for want of memory (SIGKILL)",
    "It comes again with more. `gsvrctl explain workers` tells how often this happened.",
)
OUTAGE_S = 30.0
"""While a service is known to be down its failures cost no attempt; tasks come again after about so long."""
SAME_CONTENT_S = 15.0
"""So long a video waits whose content is being studied by another name."""
DROPPED_ENDS_S = 5.0
"""By then the worker of a dropped attempt has ended: the pool asks it to, and after its grace ends it by force."""


class Placing(Protocol):
    """What becomes of files when an attempt has ended; see `placing.Places`."""

    def folder_of(self, task: Task) -> bytes:
        """What the path of a source lies below; empty for the inbox."""
        ...

    def choose_name(self, task: Task, wished: str) -> str:
        """The report name this task gets."""
        ...

    def publish(self, task: Task, attempt: int, temporary: str, sha256: str) -> None:
        """Put the report in place, complete the task, take the source away."""
        ...

    def reused(self, task: Task, attempt: int, report: str, sha256: str) -> None:
        """Complete the task, which needs no report of its own, and take the source away."""
        ...

    def give_up(self, task: Task, attempt: int, error: ErrorFacts, sha256: str) -> None:
        """After the failure is on record: write the failure record, take the source away."""
        ...

    def look_again(self, task: Task, error: ErrorFacts) -> ErrorFacts:
        """The same error, or why a source that was not found is not gone at all."""
        ...

    def in_trouble(self, error: ErrorFacts) -> None:
        """The machine is at fault: start nothing until it works again."""
        ...

    def withdraw(self, task: Task) -> None:
        """See to it that a cancelled task has no report in place."""
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

    @property
    def batch_limit(self) -> int | None:
        """What a batch may cost for which nothing else was said, in micro-dollars."""
        ...

    def ask(self, ask: Ask, batch: int | None, cost_limit: int | None) -> None:
        """A worker wants to call, for a task of this batch, which may cost so many micro-dollars; None is no limit."""
        ...

    def settle(self, settle: Settle) -> None:
        """A call has ended."""
        ...

    def ended(self, task: int, attempt: int) -> None:
        """An attempt is over."""
        ...


class Staffing(Protocol):
    """Who knows whether there is room for a task; see `workforce.Workforce`."""

    def may(self, task: Task, head: Task) -> bool:
        """Whether a task may start now; `head` is the first in line."""
        ...

    def start(self, task: Task) -> int:
        """How much memory it may have, in bytes; it is handed to a worker at once."""
        ...

    def began(self, task: Task, pid: int) -> None:
        """It was."""
        ...

    def ended(self, task: int, attempt: int, *, did_its_work: bool) -> None:
        """An attempt is over."""
        ...

    def was_starved(self, task: int) -> bool:
        """Whether a worker that died without a word most likely did for want of memory."""
        ...

    def kernel_killed(self) -> bool:
        """Whether the kernel has of late ended a process of ours for want of memory."""
        ...

    def exceeded(self, task: int) -> ErrorFacts | None:
        """It met its memory limit. None: it comes again with more; else why that would be no use."""
        ...

    def gave_up(self, task: int) -> None:
        """It failed for good."""
        ...


class Heralding(Protocol):
    """Who is told of ends; see `heralding.Herald`."""

    def failed(self, task: Task, attempt: int, error: ErrorFacts) -> None:
        """A task was given up in this turn."""
        ...


@dataclass(slots=True)
class Running:
    """An attempt a worker has in hand."""

    task: Task
    attempt: int
    worker: int
    parallel: int | None = None
    """The most videos of its batch at a time, as was asked for with it."""
    stage: str = ""
    stage_at: float = 0.0
    """When it began, monotonic seconds."""
    sha256: str = ""
    key: str = ""
    """What it finds out, or looks for."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long things may take, in seconds; 0 means for ever."""

    attempt_s: float = 0.0
    stage_s: float = 0.0


@dataclass(slots=True)
class Attempts:
    """The running attempts and what they lead to."""

    queue: TaskQueue
    pool: Pool
    strategy: RetryStrategy
    placing: Placing
    governor: Governor
    clock: Clock
    patience: Patience
    after_commit: Callable[[Callable[[], None]], None]
    """Have something called once this turn's transaction is durable."""
    chance: Callable[[], float] = random.random
    debug: Callable[..., object] = field(default_factory=lambda: log.bind().debug)
    """Bound once: the lazy logger costs 15 µs an entry, also of a level that is dropped."""
    on_started: Callable[[int | None, str], None] = lambda batch, options: None
    """Told when an attempt begins: of which batch, and with which options."""
    on_stage: Callable[[str, float], None] = lambda stage, seconds: None
    """Told when a stage is over: which, and how long it took."""
    herald: Heralding | None = None
    staff: Staffing | None = None
    parallel: int = 0
    """The most videos of one batch at a time, unless a task says otherwise; 0 is no limit."""
    skip_existing: bool = False
    """Make no second report of the same content, unless a task says otherwise."""
    budget: RetryBudget = field(default_factory=RetryBudget)
    """How many tries after trouble of the service there may be."""
    rates: SuccessRates = field(default_factory=SuccessRates)
    """How often trying again has helped, by kind of error; kept over restarts."""
    running: dict[int, Running] = field(default_factory=dict)
    _placed_soon: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By key the task and attempt that have found it out, and whose report is on its way into place."""
    _followers: dict[str, set[int]] = field(default_factory=dict)
    """Tasks that wait until somebody has found out what their content is about."""
    _retried: dict[int, ErrorKind] = field(default_factory=dict)
    """What the last attempt of a task failed with."""

    # -- starting ----------------------------------------------------------------------------------------------------

    def dispatch(self, most: int) -> None:
        """Hand tasks to free workers, as long as both last and fewer than `most` run."""
        while len(self.running) < most and self.pool.free():
            self.queue.leave_out(self._full_batches())
            if (task := self.queue.ready(self.staff.may if self.staff else None)) is None:
                return
            attempt = task.attempt + 1
            memory_bytes = self.staff.start(task) if self.staff else 0
            worker = self.pool.assign(self._assignment(task, attempt, memory_bytes))
            if self.staff:
                self.staff.began(task, worker)
            self.queue.claim(task, worker, on_lost=partial(self.drop, task.id))
            self.running[task.id] = Running(task, attempt, worker, said(task.options, "parallel"))
            self.on_started(task.batch, task.options)
            self.debug("attempt_started", task=task.id, attempt=attempt, name=task.name, worker=worker)

    def _full_batches(self) -> frozenset[int]:
        """Those of which as many videos are being studied as may be at a time."""
        counts: dict[int, int] = {}
        full = set()
        for running in self.running.values():
            if batch := running.task.batch:
                counts[batch] = counts.get(batch, 0) + 1
                parallel = self.parallel if running.parallel is None else running.parallel
                if parallel and counts[batch] >= parallel:
                    full.add(batch)
        return frozenset(full)

    def _assignment(self, task: Task, attempt: int, memory_bytes: int) -> Assign:
        return Assign(
            task=task.id,
            attempt=attempt,
            path=b"" if task.home == Home.LINK else task.path,
            folder=self.placing.folder_of(task),
            name=task.name,
            identity=(task.dev, task.ino, task.size, task.mtime_ns),
            queued_at=task.created_at,
            kept=self.queue.kept(task.id) if task.attempt else {},
            options=task.options,
            key=task.key or "",
            url=task.url or "",
            timeout_s=said(task.options, "timeout", self.patience.attempt_s),
            memory_bytes=memory_bytes,
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
                self._enter(running, stage)
            case Seek(key=key):
                self._seek(running, key)
            case Content(sha256=sha256):
                self._know(running, sha256)
            case Keep(stage=stage, result=result):
                self.queue.keep(event.task, event.attempt, stage, result)
            case Forget(stage=stage):
                self.queue.forget(event.task, event.attempt, stage)
            case Reserve(name=name):
                self._reserve(running, name)
            case Ask():
                limit = said(running.task.options, "cost_limit", self.governor.batch_limit)
                self.governor.ask(event, running.task.batch, limit)
            case Settle():
                self.budget.called()
                self.governor.settle(event)
            case _:
                del self.running[event.task]
                self._leave_stage(running)
                self.governor.ended(event.task, event.attempt)
                self._end(running, event)
                self._left(running, did_its_work=isinstance(event, Finished))

    def _left(self, running: Running, *, did_its_work: bool = False) -> None:
        if self.staff is not None:
            self.staff.ended(running.task.id, running.attempt, did_its_work=did_its_work)

    def _end(self, running: Running, ending: Finished | Failed | Snoozed | Died) -> None:
        if not (isinstance(ending, Finished) and ending.temporary):  # else when its report is in place
            self._call_followers(running.key)
        self._learn(running.task.id, succeeded=isinstance(ending, Finished))
        match ending:
            case Finished():
                self._finish(running, ending)
            case Failed(error=error, sha256=sha256, delay_s=delay_s):
                self._fail(running, error, OutcomeKind.FAILED, sha256, delay_s)
            case Snoozed(delay_s=delay_s, reason=reason):
                log.info("attempt_snoozed", task=ending.task, attempt=ending.attempt, delay_s=delay_s, reason=reason)
                self.queue.release(ending.task, ending.attempt, reason, OutcomeKind.SNOOZED, delay_s)
            case Died():
                error = self._true_cause(ending)
                late = error.kind is ErrorKind.TIMEOUT or error.kind in SERVICE_TROUBLE
                self._fail(running, error, OutcomeKind.TIMED_OUT if late else OutcomeKind.DIED, "")

    def _true_cause(self, ending: Died) -> ErrorFacts:
        """Who died for want of memory could not say so."""
        error = ending.error
        if error.kind is not ErrorKind.CRASHED or self.staff is None:
            return error
        if ending.by_stranger and self.staff.kernel_killed():
            return _KILLED_FOR_MEMORY
        return replace(error, kind=ErrorKind.MEMORY) if self.staff.was_starved(ending.task) else error

    def _enter(self, running: Running, stage: str) -> None:
        """A stage begins, and may take so long."""
        if stage == running.stage:
            return
        self._leave_stage(running)
        running.stage, running.stage_at = stage, self.clock.monotonic()
        if limit_s := self.patience.stage_s:
            why = f"the stage {stage!r} took longer than {limit_s:.0f} s"
            hint = "Raise workers.stage_timeout if a video of this length may take longer."
            self.pool.limit(running.task.id, "stage", limit_s, ErrorFacts(ErrorKind.TIMEOUT, why, hint))

    def _leave_stage(self, running: Running) -> None:
        if running.stage:
            self.on_stage(running.stage, self.clock.monotonic() - running.stage_at)

    def _seek(self, running: Running, key: str) -> None:
        """Nobody finds out twice what is known, nor two at a time what is not."""
        task, attempt = running.task, running.attempt
        found = None if said(task.options, "force") else self.queue.analysis_of(key)
        busy = found is None and self._is_sought(key, running)
        if busy:
            self._followers.setdefault(key, set()).add(task.id)
        answer = Known(attempt, wait_s=SAME_CONTENT_S if busy else 0.0)
        if found is not None:
            analysis, report = found
            skip = said(task.options, "skip_existing", self.skip_existing)
            pictures = assets_name(report) if report else ""
            answer = Known(attempt, analysis, pictures, report if skip and report else "")
        running.key = "" if busy or found is not None else key
        self.queue.want(task.id, attempt, key)
        self.after_commit(lambda: self.pool.answer(task.id, answer))

    def _know(self, running: Running, sha256: str) -> None:
        """The content is known before it is decoded: what has felled enough workers by another name gets no more."""
        task, running.sha256 = running.task, sha256
        self.queue.know(task.id, running.attempt, sha256)
        deaths = self.queue.deaths_of(task.id, sha256)
        if deaths < self.strategy.poison_limit:
            return
        self._stop(running)
        error = ErrorFacts(
            ErrorKind.CRASHED,
            f"the same content has felled {deaths} workers before",
            "Convert the video. After an update of gsvrd, `gsvrctl retry` tries it again.",
        )
        self._give_up(running, error, OutcomeKind.FAILED, sha256, death=False)
        self.placing.clean(task, running.attempt, after_s=DROPPED_ENDS_S)

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

    def _finish(self, running: Running, ending: Finished) -> None:
        task, attempt = running.task, running.attempt
        temporary, sha256 = ending.temporary, ending.sha256
        self.debug("attempt_finished", task=task.id, attempt=attempt)
        if ending.reused:
            self.queue.reuse(task.id, attempt, ending.reused)
            self.after_commit(lambda: self.placing.reused(task, attempt, ending.reused, sha256))
            return
        if not temporary:
            self.queue.complete(task.id, attempt, sha256)
            return
        self._placed_soon = {key: who for key, who in self._placed_soon.items() if self.queue.still_running(*who)}
        if running.key:
            self._placed_soon[running.key] = (task.id, attempt)
        # Only after the commit is the name in the report a durable one, and an operator's cancel known to us.
        self.after_commit(lambda: self.placing.publish(task, attempt, temporary, sha256))

    # -- failing -----------------------------------------------------------------------------------------------------

    def _fail(
        self, running: Running, error: ErrorFacts, outcome: OutcomeKind, sha256: str, delay_s: float = 0.0
    ) -> None:
        task, attempt = running.task, running.attempt
        if error.kind is ErrorKind.NOT_FOUND or (error.kind is ErrorKind.PLACE and task.home == Home.ELSEWHERE):
            error = self.placing.look_again(task, error)
        if error.kind is ErrorKind.PLACE:
            self.placing.in_trouble(error)
        ended_by_force = outcome in (OutcomeKind.DIED, OutcomeKind.TIMED_OUT)
        is_starved = error.kind is ErrorKind.MEMORY and self.staff is not None
        death = ended_by_force and error.kind in FELLING and not is_starved
        deaths = self.queue.deaths_of(task.id, running.sha256) + int(death)
        most = said(task.options, "max_retries", self.strategy.max_retries)
        strategy = replace(self.strategy, max_retries=most)
        verdict = strategy.judge(error.kind, spent=task.spent, deaths=deaths, chance=self.chance())
        if error.kind is ErrorKind.MEMORY and self.staff is not None:
            needs_more = self.staff.exceeded(task.id)
            verdict = Verdict(Answer.GIVE_BACK) if needs_more is None else Verdict(Answer.GIVE_UP)
            error = needs_more or error
        elif error.kind in SERVICE_TROUBLE and not self.governor.charges:
            verdict = Verdict(Answer.GIVE_BACK, OUTAGE_S * (0.5 + self.chance()))
        elif verdict.answer is Answer.RETRY and task.spent and self._is_hopeless(error.kind):
            verdict = Verdict(Answer.GIVE_UP)
        elif verdict.answer is Answer.RETRY and error.kind in SERVICE_TROUBLE and (wait_s := self._wait_for_a_retry()):
            verdict = Verdict(Answer.GIVE_BACK, max(verdict.delay_s, wait_s))
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
        if verdict.answer in (Answer.REPLACE, Answer.LET_GO) and task.home not in (Home.INBOX, Home.KEPT):
            verdict = Verdict(Answer.GIVE_UP)  # nobody watches that folder: what changes there does not come by itself
        match verdict.answer:
            case Answer.RETRY:
                self._retried[task.id] = error.kind
                self.queue.retry(task, attempt, outcome, error, max(verdict.delay_s, delay_s), death=death)
            case Answer.GIVE_BACK:
                self.queue.release(task.id, attempt, error.message, outcome, verdict.delay_s, error)
            case Answer.REPLACE:
                self.queue.supersede(task.id, error.message)
                self.after_commit(lambda: self.placing.replaced(task))
                self.after_commit(lambda: self.placing.withdraw(running.task))
            case Answer.LET_GO:
                self.queue.cancel(task.id, TAKEN_AWAY)
                self.queue.moved(task.id, Home.GONE)
                self.after_commit(lambda: self.placing.replaced(task))
                self.after_commit(lambda: self.placing.withdraw(running.task))
            case Answer.GIVE_UP:
                self._give_up(running, error, outcome, sha256 or running.sha256, death=death)
        self.placing.clean(task, attempt)

    def _give_up(self, running: Running, error: ErrorFacts, outcome: OutcomeKind, sha256: str, *, death: bool) -> None:
        task, attempt = running.task, running.attempt
        if self.staff is not None:
            self.staff.gave_up(task.id)
        give_up = partial(self.placing.give_up, task, attempt, error, sha256)
        self.queue.fail(task.id, attempt, outcome, error, sha256, death=death, on_done=give_up)
        if self.herald is not None:
            self.herald.failed(task, attempt, error)

    def _wait_for_a_retry(self) -> float:
        now = self._now()
        wait_s = self.budget.take(now) * (0.5 + self.chance())
        self.queue.set_service(BUDGET, self.budget.save(now))
        return wait_s

    def _is_hopeless(self, kind: ErrorKind) -> bool:
        """Only for trouble of the service: what fells a worker is counted by deaths."""
        return kind in SERVICE_TROUBLE and self.rates.is_hopeless(kind.value, self._now())

    # -- ending from outside -----------------------------------------------------------------------------------------

    def drop(self, task: int) -> None:
        """End an attempt whose row is not ours any more: somebody cancelled it."""
        running = self.running.get(task)
        if running is not None:
            log.info("attempt_dropped", task=task, attempt=running.attempt)
            self._stop(running)
            self.placing.withdraw(running.task)
            self.placing.clean(running.task, running.attempt, after_s=DROPPED_ENDS_S)

    def _is_sought(self, key: str, by: Running) -> bool:
        """Whether another attempt is finding it out, or has and its report is not in place yet."""
        if any(other.key == key for other in self.running.values() if other is not by):
            return True
        placed_soon = self._placed_soon.get(key)
        return placed_soon is not None and self.queue.still_running(*placed_soon)

    def report_placed(self, task: int) -> None:
        """In the turn that completes a task: whoever waited for what it has found out may come."""
        for key in [key for key, (finder, _) in self._placed_soon.items() if finder == task]:
            del self._placed_soon[key]
            self._call_followers(key)

    def _call_followers(self, key: str) -> None:
        for task in self._followers.pop(key, ()):
            self.queue.wake(task)

    def _stop(self, running: Running) -> None:
        self._call_followers(running.key)
        del self.running[running.task.id]
        self.pool.cancel(running.task.id)
        self.governor.ended(running.task.id, running.attempt)
        self._left(running)

    def drop_lost(self) -> None:
        """After another process has written: end the attempts it has taken from us."""
        for running in list(self.running.values()):
            if not self.queue.still_running(running.task.id, running.attempt):
                self.drop(running.task.id)

    def give_back_all(self, why: str) -> None:
        """End all attempts and give their tasks back, the attempts not spent."""
        for running in list(self.running.values()):
            self._stop(running)
            self.queue.release(running.task.id, running.attempt, why)
            # Until the commit the pool has ended the workers: they would write on while it is removed.
            self.after_commit(partial(self.placing.clean, running.task, running.attempt))
        self.placing.give_back_unpublished(why)
