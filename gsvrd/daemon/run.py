"""Wires the parts of the daemon together and runs the loop; the one place that knows every part. Called by `gsvrd run`."""

from __future__ import annotations

import os
import resource
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import structlog

from gsvrd import crashpoints
from gsvrd.clock import Clock, SystemClock
from gsvrd.config.load import fingerprint
from gsvrd.config.models import Config
from gsvrd.daemon import settings
from gsvrd.daemon.attempts import BUDGET, RATES, Attempts
from gsvrd.daemon.batch_snapshots import BatchSnapshots
from gsvrd.daemon.batches import Batches
from gsvrd.daemon.beginning import DATABASE, Beginning, see_home
from gsvrd.daemon.cgroups import ControlGroups
from gsvrd.daemon.chores import Chores
from gsvrd.daemon.closing import Closing
from gsvrd.daemon.courier import Courier
from gsvrd.daemon.doors import Doors
from gsvrd.daemon.filing import Filing
from gsvrd.daemon.heralding import Herald
from gsvrd.daemon.metrics.station import Station
from gsvrd.daemon.openfiles import files_needed
from gsvrd.daemon.outlook import Outlook, Seen
from gsvrd.daemon.permits import BREAKER, Permits
from gsvrd.daemon.placing import Places
from gsvrd.daemon.progressing import Progressing
from gsvrd.daemon.reception import Reception
from gsvrd.daemon.reconciling import after_restore
from gsvrd.daemon.runstate import RunState
from gsvrd.daemon.sampler import SystemSampler, see_memory
from gsvrd.daemon.seeking import Seeking
from gsvrd.daemon.service import Notifier
from gsvrd.daemon.signals import Doorbell, Signals, Wake
from gsvrd.daemon.snapshots import Snapshots
from gsvrd.daemon.summing import Summing
from gsvrd.daemon.supervisor import AfterCommit, Supervisor, Timers
from gsvrd.daemon.trouble import Trouble
from gsvrd.daemon.vitals import Vitals
from gsvrd.daemon.workforce import Outside, Workforce
from gsvrd.errors import ConfigError, GsvrdError
from gsvrd.intake.intake import Intake
from gsvrd.intake.names import NameRules
from gsvrd.model import REMOTE_STAGE, Task
from gsvrd.policy.breaker import Breaker, RetryBudget, SuccessRates
from gsvrd.policy.limiter import APILimiter, Instant
from gsvrd.policy.memory import MemoryOptimizer
from gsvrd.policy.retry import RetryStrategy
from gsvrd.policy.webhook import parse_secrets
from gsvrd.pool.forkserver import PRELOAD
from gsvrd.pool.process import ProcessPool
from gsvrd.store.checkpoints import CheckpointManager
from gsvrd.store.decisions import Decisions
from gsvrd.store.ledger import Ledger
from gsvrd.store.opening import last_restored, open_at_start
from gsvrd.store.outbox import Outbox
from gsvrd.store.presence import Presence
from gsvrd.store.queue import TaskQueue
from gsvrd.templates.model import Template

log = structlog.get_logger("gsvrd.run")

DOORBELL = "doorbell"
_BUSY_MS = 200
"""How long a turn waits for a database that another process has locked; then its door is closed for a moment."""
_INSTALLATION = "installation"
"""Under this name the service's facts hold what tells this installation from others."""


class _Looks:
    """An `Observer`, which the thread that uses it loads: the start does not wait for what forecasts need."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._look: Callable[[float, Outlook], Seen] | None = None

    def load(self) -> Callable[[float, Outlook], Seen]:
        from gsvrd.daemon.observing import Observer

        self._look = self._look or Observer(self._database).look
        return self._look

    def __call__(self, now: float, outlook: Outlook) -> Seen:
        return self.load()(now, outlook)


@dataclass(frozen=True, slots=True)
class WorkMaker:
    """Which work the workers do; tests and benchmarks put another in its place."""

    name: str = "gsvrd.pool.execute:make"
    preload: tuple[str, ...] = PRELOAD


def run(
    config: Config,
    load: Callable[[], Config],
    notifier: Notifier | None = None,
    work: WorkMaker | None = None,
    beginning: Beginning | None = None,
) -> None:
    """Run the daemon until it is told to stop. `load` reads the configuration again; `beginning` was taken earlier.

    Raises `SetupError` when it cannot start.
    """
    beginning = beginning or Beginning(config)
    try:
        _open_many_files(config.workers.most)
        see_memory(ControlGroups())
        crashpoints.verify()
        _supervise(config, load, verify(config), notifier or Notifier(os.environ), work or WorkMaker(), beginning)
    finally:
        beginning.close()


def _supervise(
    config: Config,
    load: Callable[[], Config],
    templates: Mapping[str, Template],
    notifier: Notifier,
    work: WorkMaker,
    beginning: Beginning,
) -> None:
    clock, wake, doors = SystemClock(), Wake(), Doors()
    signals = Signals(wake)
    db = open_at_start(config.state / DATABASE, clock.wall(), beginning.check)
    presence = Presence(config.state / DATABASE)
    db.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    queue = TaskQueue(db, clock, settings.priorities(config))
    after_restore(last_restored(db), queue, config, clock)
    timers, after_commit = Timers(clock), AfterCommit()
    vitals = Vitals(clock)
    station = Station(config.state / DATABASE, vitals, clock)
    station.change(settings.metrics(config))
    filing = Filing(wake.poke)
    intake = Intake(settings.intake_settings(config), config.inbox, clock, wake.poke)
    begun = _begin(queue, clock)
    pool = ProcessPool(
        work.name, settings.work_settings(config, begun, templates), settings.worker_limits(config), clock, work.preload
    )
    folders = (config.reports, config.archive, config.failed, config.state)
    trouble = Trouble(folders, filing, doors, clock, timers.later)
    seeking = Seeking(intake.search, intake.searched, filing, after_commit, timers.later)
    places = Places(config, queue, filing, doors, trouble, clock, after_commit, timers.later, seeking, intake.forget)
    snapshots = Snapshots(
        manager=CheckpointManager(config.state / DATABASE),
        often=settings.often(config),
        filing=Filing(wake.poke, "snapshots"),
        clock=clock,
        later=timers.later,
        remember=queue.set_service,
    )
    reception = Reception(
        config=config,
        queue=queue,
        filing=filing,
        clock=clock,
        batches=Batches(queue, clock, config.batch.idle_close),
        templates=frozenset(templates),
        rules=NameRules(config.intake.suffixes, config.intake.ignore),
        later=timers.later,
        moved=intake.forget,
    )
    outbox = Outbox(db, clock, queue.note, begun.installation)
    summing = Summing(
        conn=db,
        database=config.state / DATABASE,
        reports=config.reports,
        language=config.language,
        filing=Filing(wake.poke, "summing"),
        clock=clock,
        later=timers.later,
        remember=queue.set_service,
    )
    herald = Herald(outbox, config.batch.webhook_url)
    wished = BatchSnapshots(
        database=config.state / DATABASE,
        folder_of=config.checkpoint_folder,
        usual=settings.batch_snapshots(config),
        keep=config.checkpoint.keep,
        filing=snapshots.filing,
        clock=clock,
        later=timers.later,
        remember=queue.set_service,
    )
    closing = Closing(queue, herald, config.batch.retry_failed, wished.note_rest)
    summing.on_rest = closing.close
    places.on_ended = lambda task: summing.note_ended(task.batch)
    courier = Courier(outbox, clock, settings.courier_settings(config), config.webhook.give_up)
    places.on_completed = snapshots.note_completed
    strategy = RetryStrategy(config.retry.max_retries, config.retry.poison_limit)
    now = Instant(clock.monotonic(), clock.wall())

    def hold_for_cost(batch: int, why: str) -> None:
        queue.hold_batch(batch, why)
        reception.watch_cost(batch)

    permits = Permits(
        terms=settings.terms(config),
        limiter=APILimiter(settings.api_limits(config)),
        ledger=Ledger(db, clock, queue.note),
        breaker=Breaker.restore(queue.service(BREAKER), now),
        pool=pool,
        doors=doors,
        clock=clock,
        after_commit=after_commit,
        later=timers.later,
        remember=queue.set_service,
        hold=hold_for_cost,
        free=queue.free_batches,
    )
    permits.restore()
    queue.hurry()  # whoever has mended something may have stopped the daemon for it
    attempts = Attempts(
        queue=queue,
        pool=pool,
        strategy=strategy,
        placing=places,
        governor=permits,
        clock=clock,
        patience=settings.patience(config),
        on_started=wished.note_started,
        on_stage=vitals.stages.note,
        herald=herald,
        parallel=settings.parallel(config),
        skip_existing=config.batch.skip_existing,
        after_commit=after_commit,
        budget=RetryBudget.restore(queue.service(BUDGET), now),
        rates=SuccessRates.restore(queue.service(RATES), now),
    )

    def placed(task: Task, attempt: int, report: str) -> None:
        herald.completed(task, attempt, report)
        attempts.report_placed(task.id)

    places.on_report = placed
    rules = settings.workforce(config)
    sampler = SystemSampler(clock, budget=settings.memory_budget(config))
    workforce = Workforce(
        rules=rules,
        memory=MemoryOptimizer(rules.memory_most),
        queue=queue,
        pool=pool,
        sampler=sampler,
        decisions=Decisions(queue.note),
        outside=Outside(permits.calls.take, permits.calls.load_errors, lambda: permits.limiter.rate),
        clock=clock,
        may_start=lambda: supervisor.may_start,
    )
    attempts.staff = workforce

    def progressed(key: str, row: Any) -> None:
        queue.set_service(key, row)
        state.note_counts(row["overall"]["counts"])

    state = RunState(queue, clock, doors, notifier, settings.facts(config))
    looks = _Looks(config.state / DATABASE)
    progressing = Progressing(
        look=looks,
        outlook=settings.outlook(config),
        filing=Filing(wake.poke, "progress"),
        clock=clock,
        later=timers.later,
        remember=progressed,
    )
    progressing.prepare(looks.load)
    supervisor = Supervisor(
        clock=clock,
        queue=queue,
        presence=presence,
        pool=pool,
        intake=intake,
        attempts=attempts,
        chores=Chores(queue, pool, clock, after_commit, timers.later),
        courier=courier,
        places=places,
        snapshots=snapshots,
        summing=summing,
        progressing=progressing,
        filing=filing,
        reception=reception,
        doors=doors,
        timers=timers,
        after_commit=after_commit,
        state=state,
        notifier=notifier,
        workforce=workforce,
        vitals=vitals,
        signals=signals,
        wake=wake,
        doorbell=Doorbell(config.state / DOORBELL),
        inbox=os.fsencode(config.inbox),
        reload=lambda supervisor: _reload(
            supervisor, pool, permits, closing, wished, sampler, station, begun, config, load
        ),
        drain_s=config.service.drain,
    )
    try:
        supervisor.run()
    finally:
        station.close()
        pool.close()
        courier.close()
        signals.restore()
        db.close()


def _open_many_files(workers: int) -> None:
    """Use all descriptors that are allowed; raises `ConfigError` when those are too few to work with."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    needed = files_needed(workers)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ConfigError(
            f"{hard} files may be open at a time (RLIMIT_NOFILE), and {workers} workers need {needed}",
            "Raise it (ulimit -Hn, or LimitNOFILE= in the unit), or lower workers.max.",
        )


def verify(config: Config) -> Mapping[str, Template]:
    """What only shows beyond the file itself: is there a home, a key, the template? Raises `ConfigError`.

    Returns the templates by name.
    """
    see_home(config)
    if settings.analyzer_of(config) == "gemini" and not settings.key_source(config):
        raise ConfigError("the analyzer is gemini, but there is no key", "Set GEMINI_API_KEY, or analyzer: local.")
    templates = settings.load_all(config)
    settings.chosen(templates, config).check_values(config.parameters)
    if file := settings.courier_settings(config).secret_file:
        try:
            parse_secrets(Path(file).read_text())
        except (OSError, ValueError) as error:
            hint = "It holds one secret a line: base64 of 24 to 64 bytes, with or without `whsec_` before it."
            raise ConfigError(f"webhook.secret_file {file} cannot be used: {error}", hint) from error
    return templates


def _reload(
    supervisor: Supervisor,
    pool: ProcessPool,
    permits: Permits,
    closing: Closing,
    wished: BatchSnapshots,
    sampler: SystemSampler,
    station: Station,
    begun: settings.Begun,
    config: Config,
    load: Callable[[], Config],
) -> str:
    """Put a changed configuration into effect as a whole, or keep the one there is and say why."""
    try:
        new = load()
        templates = verify(new)
        if new.directories != config.directories:
            raise ConfigError("directories.* cannot be changed while the daemon runs", "Restart it.")
        work = settings.work_settings(new, begun, templates)
        station.change(settings.metrics(new))
    except GsvrdError as error:
        log.error("reload_refused", error=str(error), hint=error.hint)
        return f"{str(error).rstrip('.')}. {error.hint}"
    pool.renew(work, settings.worker_limits(new))
    supervisor.queue.priorities = settings.priorities(new)
    supervisor.intake.change(settings.intake_settings(new))
    supervisor.places.config = new
    supervisor.state.renew(settings.facts(new))
    supervisor.attempts.strategy = RetryStrategy(new.retry.max_retries, new.retry.poison_limit)
    supervisor.reception.change(new, frozenset(templates))
    supervisor.attempts.parallel = settings.parallel(new)
    supervisor.attempts.skip_existing = new.batch.skip_existing
    supervisor.attempts.patience = settings.patience(new)
    permits.terms = settings.terms(new)
    permits.limiter.limits = settings.api_limits(new)
    permits.reopen()
    closing.herald.url = new.batch.webhook_url
    closing.retry_failed = new.batch.retry_failed
    supervisor.courier.change(settings.courier_settings(new), new.webhook.give_up)
    supervisor.queue.hurry()
    supervisor.snapshots.often = settings.often(new)
    wished.folder_of, wished.usual, wished.keep = (
        new.checkpoint_folder,
        settings.batch_snapshots(new),
        new.checkpoint.keep,
    )
    supervisor.summing.language = new.language
    supervisor.progressing.outlook = settings.outlook(new)
    supervisor.progressing.changed()
    supervisor.drain_s = new.service.drain
    sampler.budget = settings.memory_budget(new)
    pool.resize(supervisor.workforce.change(settings.workforce(new)))
    log.info("reloaded", configuration=fingerprint(new))
    return ""


def _begin(queue: TaskQueue, clock: Clock) -> settings.Begun:
    names = (msgspec.json.decode(result).get("name", "") for result in queue.kept_everywhere(REMOTE_STAGE))
    return settings.Begun(
        _installation(queue), clock.wall(), tuple(filter(None, names)), tuple(queue.contents_running())
    )


def _installation(queue: TaskQueue) -> str:
    """The same eight hex digits at every start on this state directory; durable before a worker may use them."""
    known = queue.service(_INSTALLATION)
    if isinstance(known, str):
        return known
    made = secrets.token_hex(4)
    queue.set_service(_INSTALLATION, made)
    queue.commit()
    return made
