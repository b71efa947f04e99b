"""Wires the parts of the daemon together and runs the loop; the one place that knows every part. Called by `gsvrd run`."""

from __future__ import annotations

import os
import resource
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from gsvrd import crashpoints
from gsvrd.clock import Clock, SystemClock
from gsvrd.config.load import fingerprint
from gsvrd.config.models import Config
from gsvrd.daemon import settings
from gsvrd.daemon.attempts import RATES, Attempts
from gsvrd.daemon.batches import Batches
from gsvrd.daemon.chores import Chores
from gsvrd.daemon.closing import Closing
from gsvrd.daemon.courier import Courier
from gsvrd.daemon.doors import Doors
from gsvrd.daemon.filing import Filing
from gsvrd.daemon.heralding import Herald
from gsvrd.daemon.observing import Observer
from gsvrd.daemon.permits import BREAKER, Permits
from gsvrd.daemon.placing import Places
from gsvrd.daemon.progressing import Progressing
from gsvrd.daemon.reception import Reception
from gsvrd.daemon.reconciling import after_restore
from gsvrd.daemon.runstate import RunState
from gsvrd.daemon.sampler import SystemSampler
from gsvrd.daemon.seeking import Seeking
from gsvrd.daemon.service import Lock, Notifier
from gsvrd.daemon.signals import Doorbell, Signals, Wake
from gsvrd.daemon.snapshots import Snapshots
from gsvrd.daemon.summing import Summing
from gsvrd.daemon.supervisor import AfterCommit, Supervisor, Timers
from gsvrd.daemon.trouble import Trouble
from gsvrd.errors import AccessError, ConfigError, GsvrdError
from gsvrd.intake.intake import Intake
from gsvrd.intake.names import NameRules
from gsvrd.model import REMOTE_STAGE, Task
from gsvrd.policy.breaker import Breaker, SuccessRates
from gsvrd.policy.limiter import APILimiter, Instant
from gsvrd.policy.retry import RetryStrategy
from gsvrd.policy.webhook import parse_secrets
from gsvrd.pool.forkserver import PRELOAD
from gsvrd.pool.process import ProcessPool
from gsvrd.store.checkpoints import CheckpointManager
from gsvrd.store.ledger import Ledger
from gsvrd.store.opening import last_restored, open_at_start
from gsvrd.store.outbox import Outbox
from gsvrd.store.queue import TaskQueue

log = structlog.get_logger("gsvrd.run")

DATABASE, LOCK, DOORBELL = "gsvrd.db", "lock", "doorbell"
_FILES, _FILES_EACH = 48, 6
"""Descriptors the daemon needs for itself and for each worker, with some to spare."""
_BUSY_MS = 200
"""How long a turn waits for a database that another process has locked; then its door is closed for a moment."""
_INSTALLATION = "installation"
"""Under this name the service's facts hold what tells this installation from others."""


@dataclass(frozen=True, slots=True)
class WorkMaker:
    """Which work the workers do; tests and benchmarks put another in its place."""

    name: str = "gsvrd.pool.execute:make"
    preload: tuple[str, ...] = PRELOAD


def run(
    config: Config, load: Callable[[], Config], notifier: Notifier | None = None, work: WorkMaker | None = None
) -> None:
    """Run the daemon until it is told to stop. `load` reads the configuration again.

    Raises `SetupError` when it cannot start.
    """
    _open_many_files(config.workers.most)
    crashpoints.verify()
    verify(config)
    _prepare(config)
    lock = Lock(config.state / LOCK)
    lock.acquire()
    try:
        _supervise(config, load, notifier or Notifier(os.environ), work or WorkMaker())
    finally:
        lock.release()


def _supervise(config: Config, load: Callable[[], Config], notifier: Notifier, work: WorkMaker) -> None:
    clock, wake, doors = SystemClock(), Wake(), Doors()
    signals = Signals(wake)
    db = open_at_start(config.state / DATABASE, clock.wall())
    db.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    queue = TaskQueue(db, clock, settings.priorities(config))
    after_restore(last_restored(db), queue, config, clock)
    timers, after_commit = Timers(clock), AfterCommit()
    filing = Filing(wake.poke)
    intake = Intake(settings.intake_settings(config), config.inbox, clock, wake.poke)
    begun = _begin(queue, clock)
    pool = ProcessPool(
        work.name, settings.work_settings(config, begun), settings.worker_limits(config), clock, work.preload
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
        batches=Batches(queue, clock, config.batch.idle_close),
        templates=settings.template_names(config),
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
    closing = Closing(queue, herald, config.batch.retry_failed)
    summing.on_rest = closing.close
    places.on_ended = lambda task: summing.note_ended(task.batch)
    courier = Courier(outbox, clock, settings.courier_settings(config), config.webhook.give_up)
    places.on_completed = snapshots.note_completed
    strategy = RetryStrategy(config.retry.max_retries, config.retry.poison_limit)
    now = Instant(clock.monotonic(), clock.wall())
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
        hold=queue.hold_batch,
        free=queue.free_batches,
    )
    permits.restore()
    attempts = Attempts(
        queue=queue,
        pool=pool,
        strategy=strategy,
        placing=places,
        governor=permits,
        clock=clock,
        patience=settings.patience(config),
        herald=herald,
        parallel=settings.parallel(config),
        skip_existing=config.batch.skip_existing,
        after_commit=after_commit,
        rates=SuccessRates.restore(queue.service(RATES), now),
    )

    def placed(task: Task, attempt: int, report: str) -> None:
        herald.completed(task, attempt, report)
        attempts.report_placed(task.id)

    places.on_report = placed
    supervisor = Supervisor(
        clock=clock,
        queue=queue,
        pool=pool,
        intake=intake,
        attempts=attempts,
        chores=Chores(queue, pool, clock, after_commit, timers.later),
        courier=courier,
        places=places,
        snapshots=snapshots,
        summing=summing,
        progressing=Progressing(
            look=Observer(config.state / DATABASE).look,
            outlook=settings.outlook(config),
            filing=Filing(wake.poke, "progress"),
            clock=clock,
            later=timers.later,
            remember=queue.set_service,
        ),
        filing=filing,
        reception=reception,
        doors=doors,
        timers=timers,
        after_commit=after_commit,
        state=RunState(queue, clock, doors, notifier, settings.facts(config)),
        notifier=notifier,
        sampler=SystemSampler(),
        signals=signals,
        wake=wake,
        doorbell=Doorbell(config.state / DOORBELL),
        inbox=os.fsencode(config.inbox),
        reload=lambda supervisor: _reload(supervisor, pool, permits, closing, begun, config, load),
        drain_s=config.service.drain,
        workers=config.workers.most,
    )
    try:
        supervisor.run()
    finally:
        pool.close()
        courier.close()
        signals.restore()
        db.close()


def _open_many_files(workers: int) -> None:
    """Use all descriptors that are allowed; raises `ConfigError` when those are too few to work with."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    needed = _FILES + _FILES_EACH * workers
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ConfigError(
            f"{hard} files may be open at a time (RLIMIT_NOFILE), and {workers} workers need {needed}",
            "Raise it (ulimit -Hn, or LimitNOFILE= in the unit), or lower workers.max.",
        )


def _prepare(config: Config) -> None:
    """Make the directories that are missing and see that all can be used."""
    for path in (config.inbox, config.reports, config.archive, config.failed, config.state):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AccessError(f"{path} cannot be made: {error.strerror}", _whose(path)) from error
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise AccessError(f"{path} cannot be read and written", _whose(path))


def verify(config: Config) -> None:
    """What only shows beyond the file itself: is there a key, is there the template? Raises `ConfigError`."""
    if settings.analyzer_of(config) == "gemini" and not settings.key_source(config):
        raise ConfigError("the analyzer is gemini, but there is no key", "Set GEMINI_API_KEY, or analyzer: local.")
    settings.template_of(config).check_values(config.parameters)
    if file := settings.courier_settings(config).secret_file:
        try:
            parse_secrets(Path(file).read_text())
        except (OSError, ValueError) as error:
            hint = "It holds one secret a line: base64 of 24 to 64 bytes, with or without `whsec_` before it."
            raise ConfigError(f"webhook.secret_file {file} cannot be used: {error}", hint) from error


def _whose(path: Path) -> str:
    return f"Give it to the user the daemon runs as: chown -R {os.getuid()} {path}"


def _reload(
    supervisor: Supervisor,
    pool: ProcessPool,
    permits: Permits,
    closing: Closing,
    begun: settings.Begun,
    config: Config,
    load: Callable[[], Config],
) -> str:
    """Put a changed configuration into effect as a whole, or keep the one there is and say why."""
    try:
        new = load()
        verify(new)
        names = settings.template_names(new)
        if new.directories != config.directories:
            raise ConfigError("directories.* cannot be changed while the daemon runs", "Restart it.")
        work = settings.work_settings(new, begun)
    except GsvrdError as error:
        log.error("reload_refused", error=str(error), hint=error.hint)
        return f"{str(error).rstrip('.')}. {error.hint}"
    pool.renew(work, settings.worker_limits(new))
    supervisor.queue.priorities = settings.priorities(new)
    supervisor.intake.change(settings.intake_settings(new))
    supervisor.places.config = new
    supervisor.attempts.strategy = RetryStrategy(new.retry.max_retries, new.retry.poison_limit)
    supervisor.reception.change(new, names)
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
    supervisor.summing.language = new.language
    supervisor.progressing.outlook = settings.outlook(new)
    supervisor.progressing.changed()
    supervisor.drain_s = new.service.drain
    supervisor.workers = new.workers.most
    pool.resize(new.workers.most)
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
