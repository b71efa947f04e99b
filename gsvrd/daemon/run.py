"""Wires the parts of the daemon together and runs the loop; the one place that knows every part. Called by `gsvrd run`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from gsvrd.clock import Clock, SystemClock
from gsvrd.config.load import fingerprint
from gsvrd.config.models import Config
from gsvrd.daemon import settings
from gsvrd.daemon.attempts import RATES, Attempts
from gsvrd.daemon.doors import Doors
from gsvrd.daemon.filing import Filing
from gsvrd.daemon.permits import BREAKER, Permits
from gsvrd.daemon.placing import Places
from gsvrd.daemon.runstate import RunState
from gsvrd.daemon.sampler import SystemSampler
from gsvrd.daemon.service import Lock, Notifier
from gsvrd.daemon.signals import Doorbell, Signals, Wake
from gsvrd.daemon.supervisor import AfterCommit, Supervisor, Timers
from gsvrd.errors import AccessError, ConfigError, GsvrdError
from gsvrd.intake.intake import Intake
from gsvrd.policy.breaker import Breaker, SuccessRates
from gsvrd.policy.limiter import APILimiter, Instant
from gsvrd.policy.retry import RetryStrategy
from gsvrd.pool.process import ProcessPool
from gsvrd.store.ledger import Ledger
from gsvrd.store.queue import TaskQueue
from gsvrd.store.schema import open_database
from gsvrd.templates.load import load_templates

log = structlog.get_logger("gsvrd.run")

DATABASE, LOCK, DOORBELL = "gsvrd.db", "lock", "doorbell"
_PRELOAD = ("gsvrd.pool.execute", "gsvrd.reports.lesson_plan", "av", "numpy", "PIL.Image", "jinja2")


@dataclass(frozen=True, slots=True)
class WorkMaker:
    """Which work the workers do; tests and benchmarks put another in its place."""

    name: str = "gsvrd.pool.execute:make"
    preload: tuple[str, ...] = _PRELOAD


def run(config: Config, load: Callable[[], Config], work: WorkMaker | None = None) -> None:
    """Run the daemon until it is told to stop. `load` reads the configuration again.

    Raises `SetupError` when it cannot start.
    """
    os.umask(0o027)
    verify(config)
    _prepare(config)
    lock = Lock(config.state / LOCK)
    lock.acquire()
    try:
        _supervise(config, load, work or WorkMaker())
    finally:
        lock.release()


def _supervise(config: Config, load: Callable[[], Config], work: WorkMaker) -> None:
    clock, wake, doors = SystemClock(), Wake(), Doors()
    signals = Signals(wake)
    notifier = Notifier(os.environ)
    db = open_database(config.state / DATABASE, create=True)
    queue = TaskQueue(db, clock, settings.priorities(config))
    timers, after_commit = Timers(clock), AfterCommit()
    filing = Filing(wake.poke)
    intake = Intake(settings.intake_settings(config), config.inbox, clock, wake.poke)
    begun = _begin(queue, clock)
    pool = ProcessPool(
        work.name, settings.work_settings(config, begun), settings.worker_limits(config), clock, work.preload
    )
    places = Places(config, queue, filing, doors, clock, after_commit, timers.later, intake.forget)
    strategy = RetryStrategy(config.retry.max_retries, config.retry.poison_limit)
    now = Instant(clock.monotonic(), clock.wall())
    permits = Permits(
        terms=settings.terms(config),
        limiter=APILimiter(settings.api_limits(config)),
        ledger=Ledger(db.conn, clock, queue.note),
        breaker=Breaker.restore(queue.service(BREAKER), now),
        pool=pool,
        doors=doors,
        clock=clock,
        after_commit=after_commit,
        later=timers.later,
        remember=queue.set_service,
    )
    permits.restore()
    attempts = Attempts(
        queue=queue,
        pool=pool,
        strategy=strategy,
        placing=places,
        governor=permits,
        clock=clock,
        timeout_s=config.workers.timeout,
        after_commit=after_commit,
        rates=SuccessRates.restore(queue.service(RATES), now),
    )
    supervisor = Supervisor(
        clock=clock,
        queue=queue,
        pool=pool,
        intake=intake,
        attempts=attempts,
        places=places,
        filing=filing,
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
        reload=lambda supervisor: _reload(supervisor, pool, permits, begun, config, load),
        drain_s=config.service.drain,
        workers=config.workers.most,
    )
    try:
        supervisor.run()
    finally:
        pool.close()
        signals.restore()
        db.close()


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
    templates = load_templates(settings.templates_folder(config))
    if config.template not in templates:
        known = ", ".join(templates)
        raise ConfigError(f"there is no template {config.template!r}", f"There are: {known}.")


def _whose(path: Path) -> str:
    return f"Give it to the user the daemon runs as: chown -R {os.getuid()} {path}"


def _reload(
    supervisor: Supervisor,
    pool: ProcessPool,
    permits: Permits,
    begun: settings.Begun,
    config: Config,
    load: Callable[[], Config],
) -> str:
    """Put a changed configuration into effect as a whole, or keep the one there is and say why."""
    try:
        new = load()
        verify(new)
        if new.directories != config.directories:
            raise ConfigError("directories.* cannot be changed while the daemon runs", "Restart it.")
    except GsvrdError as error:
        log.error("reload_refused", error=str(error), hint=error.hint)
        return f"{str(error).rstrip('.')}. {error.hint}"
    pool.renew(settings.work_settings(new, begun), settings.worker_limits(new))
    supervisor.queue.priorities = settings.priorities(new)
    supervisor.intake.change(settings.intake_settings(new))
    supervisor.places.config = new
    supervisor.attempts.strategy = RetryStrategy(new.retry.max_retries, new.retry.poison_limit)
    supervisor.attempts.timeout_s = new.workers.timeout
    permits.terms = settings.terms(new)
    permits.limiter.limits = settings.api_limits(new)
    permits.reopen()
    supervisor.drain_s = new.service.drain
    supervisor.workers = new.workers.most
    pool.resize(new.workers.most)
    log.info("reloaded", configuration=fingerprint(new))
    return ""


def _begin(queue: TaskQueue, clock: Clock) -> settings.Begun:
    names = (msgspec.json.decode(result).get("name", "") for result in queue.kept_everywhere("upload"))
    return settings.Begun(clock.wall(), tuple(filter(None, names)))
