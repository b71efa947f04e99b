"""Wires the parts of the daemon together and runs the loop; the one place that knows every part. Called by `gsvrd run`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from gsvrd.analyzers.gemini.settings import GOOGLE, GeminiSettings
from gsvrd.analyzers.local.settings import LocalSettings
from gsvrd.analyzers.probe import MediaLimits
from gsvrd.clock import Clock, SystemClock
from gsvrd.config.load import fingerprint
from gsvrd.config.models import Config
from gsvrd.config.places import NAMES
from gsvrd.daemon.attempts import RATES, Attempts
from gsvrd.daemon.doors import Doors
from gsvrd.daemon.filing import Filing
from gsvrd.daemon.permits import BREAKER, Permits, Terms
from gsvrd.daemon.placing import Places
from gsvrd.daemon.runstate import RunState
from gsvrd.daemon.sampler import SystemSampler
from gsvrd.daemon.service import Lock, Notifier
from gsvrd.daemon.signals import Doorbell, Signals, Wake
from gsvrd.daemon.supervisor import AfterCommit, Supervisor, Timers
from gsvrd.errors import AccessError, ConfigError, GsvrdError
from gsvrd.intake.intake import Intake, IntakeSettings
from gsvrd.model import Priorities
from gsvrd.policy.breaker import Breaker, SuccessRates
from gsvrd.policy.limiter import APILimiter, APILimits, Instant
from gsvrd.policy.retry import RetryStrategy
from gsvrd.policy.spending import MILLION, CostLimits, Price, Rates
from gsvrd.pool.execute import WorkSettings
from gsvrd.pool.process import ProcessPool
from gsvrd.pool.worker import WorkerLimits
from gsvrd.store.ledger import Ledger
from gsvrd.store.queue import TaskQueue
from gsvrd.store.schema import open_database
from gsvrd.templates.load import load_templates

log = structlog.get_logger("gsvrd.run")

_CREDENTIAL = "gemini-api-key"
DATABASE, LOCK, DOORBELL = "gsvrd.db", "lock", "doorbell"
_PRELOAD = ("gsvrd.pool.execute", "gsvrd.reports.lesson_plan", "av", "numpy", "PIL.Image", "jinja2")


@dataclass(frozen=True, slots=True)
class WorkMaker:
    """Which work the workers do; tests and benchmarks put another in its place."""

    name: str = "gsvrd.pool.execute:make"
    preload: tuple[str, ...] = _PRELOAD


@dataclass(frozen=True, slots=True)
class _Begun:
    """What a worker must know of the daemon's start to tell orphans at the service from files that are wanted."""

    started_at: float
    kept_files: tuple[str, ...]


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
    queue = TaskQueue(db, clock, _priorities(config))
    timers, after_commit = Timers(clock), AfterCommit()
    filing = Filing(wake.poke)
    intake = Intake(_intake_settings(config), config.inbox, clock, wake.poke)
    begun = _begin(queue, clock)
    pool = ProcessPool(work.name, _work_settings(config, begun), _limits(config), clock, work.preload)
    places = Places(config, queue, filing, doors, clock, after_commit, timers.later, intake.forget)
    strategy = RetryStrategy(config.retry.max_retries, config.retry.poison_limit)
    now = Instant(clock.monotonic(), clock.wall())
    permits = Permits(
        terms=_terms(config),
        limiter=APILimiter(_api_limits(config)),
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
        state=RunState(queue, clock, doors, notifier, _facts(config)),
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


def analyzer_of(config: Config) -> str:
    """The analyzer in effect: `auto` is `gemini` where there is a key, else `local`."""
    if config.analyzer.use != "auto":
        return config.analyzer.use
    return "gemini" if _key_source(config) else "local"


def _key_source(config: Config) -> str:
    """Where workers find the key, as `analyzers.gemini.keys` reads it; empty when there is none."""
    if config.analyzer.gemini.key_file:
        return f"file:{config.home / os.path.expanduser(config.analyzer.gemini.key_file)}"
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
        if os.environ.get(name):
            return f"env:{name}"
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return f"credential:{_CREDENTIAL}" if folder and Path(folder, _CREDENTIAL).exists() else ""


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
    if analyzer_of(config) == "gemini" and not _key_source(config):
        raise ConfigError("the analyzer is gemini, but there is no key", "Set GEMINI_API_KEY, or analyzer: local.")
    templates = load_templates(_templates(config))
    if config.template not in templates:
        known = ", ".join(templates)
        raise ConfigError(f"there is no template {config.template!r}", f"There are: {known}.")


def _whose(path: Path) -> str:
    return f"Give it to the user the daemon runs as: chown -R {os.getuid()} {path}"


def _reload(
    supervisor: Supervisor,
    pool: ProcessPool,
    permits: Permits,
    begun: _Begun,
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
    pool.renew(_work_settings(new, begun), _limits(new))
    supervisor.queue.priorities = _priorities(new)
    supervisor.intake.change(_intake_settings(new))
    supervisor.places.config = new
    supervisor.attempts.strategy = RetryStrategy(new.retry.max_retries, new.retry.poison_limit)
    supervisor.attempts.timeout_s = new.workers.timeout
    permits.terms = _terms(new)
    permits.limiter.limits = _api_limits(new)
    permits.reopen()
    supervisor.drain_s = new.service.drain
    supervisor.workers = new.workers.most
    pool.resize(new.workers.most)
    log.info("reloaded", configuration=fingerprint(new))
    return ""


# -- the configuration in each room's own words --------------------------------------------------------------------------


def _facts(config: Config) -> dict[str, object]:
    return {
        "analyzer": analyzer_of(config),
        "configuration": fingerprint(config),
        "directories": {name: str(getattr(config, name)) for name in NAMES},
    }


def _priorities(config: Config) -> Priorities:
    queue = config.queue
    return Priorities(
        base=queue.priority,
        small_below_bytes=queue.small_below,
        small_bonus=queue.small_bonus,
        large_above_bytes=queue.large_above,
        large_penalty=queue.large_penalty,
        retry_penalty=queue.retry_penalty,
        ageing_s=queue.ageing,
    )


def _intake_settings(config: Config) -> IntakeSettings:
    intake = config.intake
    return IntakeSettings(
        watch=intake.watch,
        poll_interval_s=intake.poll_interval,
        rescan_interval_s=intake.rescan_interval,
        settle_s=intake.settle,
        suffixes=intake.suffixes,
        ignore=intake.ignore,
        hard_links=intake.hard_links,
    )


def _limits(config: Config) -> WorkerLimits:
    return WorkerLimits(config.workers.memory_limit, config.workers.cpu_time_limit)


def _templates(config: Config) -> Path:
    return config.home / "config" / "templates"


def _api_limits(config: Config) -> APILimits:
    gemini = config.analyzer.gemini
    return APILimits(
        max_concurrent=gemini.max_concurrent,
        uploads=gemini.uploads,
        requests_per_minute=gemini.requests_per_minute,
        tokens_per_minute=gemini.tokens_per_minute,
        requests_per_day=gemini.requests_per_day,
    )


def _terms(config: Config) -> Terms:
    gemini = config.analyzer.gemini
    cost = CostLimits(per_day=gemini.cost_limit_day, total=gemini.cost_limit_total)
    return Terms(gemini.project, cost, tuple(map(_price, gemini.prices)))


def _price(line: str) -> Price:
    """From `MODEL INPUT OUTPUT [FROM..UNTIL]`, which the configuration has checked."""
    model, tokens_in, tokens_out, *days = line.split()
    start, _, end = days[0].partition("..") if days else ("", "", "")
    (near_in, far_in), (near_out, far_out) = _rate(tokens_in), _rate(tokens_out)
    is_stepped = "/" in tokens_in or "/" in tokens_out
    return Price(model, Rates(near_in, near_out), Rates(far_in, far_out) if is_stepped else None, start, end)


def _rate(text: str) -> tuple[int, int]:
    near, _, far = text.partition("/")
    return round(float(near) * MILLION), round(float(far or near) * MILLION)


def _begin(queue: TaskQueue, clock: Clock) -> _Begun:
    names = (msgspec.json.decode(result).get("name", "") for result in queue.kept_everywhere("upload"))
    return _Begun(clock.wall(), tuple(filter(None, names)))


def _gemini_settings(config: Config, begun: _Begun) -> GeminiSettings:
    gemini = config.analyzer.gemini
    return GeminiSettings(
        model=gemini.model,
        sdk=gemini.sdk,
        key_source=_key_source(config) or "env:GEMINI_API_KEY",
        base_url=gemini.base_url or GOOGLE,
        timeout_s=gemini.timeout,
        max_file_bytes=gemini.max_file_size,
        proxy=gemini.proxy,
        max_duration_s=gemini.max_duration,
        fps=gemini.fps,
        media_resolution="" if gemini.media_resolution == "auto" else gemini.media_resolution,
        thinking="" if gemini.thinking == "auto" else gemini.thinking,
        flex=gemini.flex,
        started_at=begun.started_at,
        kept_files=begun.kept_files,
    )


def _work_settings(config: Config, begun: _Begun) -> bytes:
    local, limits = config.analyzer.local, config.limits
    return msgspec.json.encode(
        WorkSettings(
            inbox=str(config.inbox),
            reports=str(config.reports),
            work=str(config.state / "work"),
            analyzer=analyzer_of(config),
            local=LocalSettings(speech_model=local.speech_model, slide_text=local.slide_text, speech=local.speech),
            gemini=_gemini_settings(config, begun),
            limits=MediaLimits(limits.max_pixels, limits.max_duration, limits.max_streams),
            max_file_bytes=limits.max_file_size,
            threads=config.workers.threads_each,
            template=config.template,
            templates=str(_templates(config)),
            language=config.language,
            output_pattern=config.output_pattern,
            log_level=config.logs.level,
            log_format=config.logs.format,
        )
    )
