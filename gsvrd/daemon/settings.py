"""The configuration in each room's own words. Called by `daemon.run` at start and at every reload; reads only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gsvrd.analyzers.gemini.settings import GOOGLE, GeminiSettings
from gsvrd.analyzers.limits import MediaLimits
from gsvrd.analyzers.local.settings import LocalSettings
from gsvrd.config.load import fingerprint
from gsvrd.config.models import Config
from gsvrd.config.places import NAMES
from gsvrd.daemon.attempts import Patience
from gsvrd.daemon.batch_snapshots import Wish
from gsvrd.daemon.delivering import CourierSettings
from gsvrd.daemon.metrics.settings import MetricsSettings, parse_listen
from gsvrd.daemon.outlook import Allowance, Outlook
from gsvrd.daemon.permits import Terms
from gsvrd.daemon.snapshots import Often
from gsvrd.daemon.workforce import Rules
from gsvrd.errors import ConfigError
from gsvrd.intake.intake import IntakeSettings
from gsvrd.model import Priorities
from gsvrd.policy.addresses import plain_host
from gsvrd.policy.controller import Settings
from gsvrd.policy.limiter import APILimits
from gsvrd.policy.spending import MILLION, CostLimits, Price, Rates
from gsvrd.pool.settings import SPOOL, LinkSettings, WorkSettings
from gsvrd.pool.worker import WorkerLimits
from gsvrd.templates.load import load_templates
from gsvrd.templates.model import Template

_CREDENTIAL = "gemini-api-key"


@dataclass(frozen=True, slots=True)
class Begun:
    """What a worker must know of the daemon's start to tell orphans at the service from files that are wanted."""

    installation: str
    """Tells our files from those of other daemons with the same key: eight hex digits, made at the first start."""
    started_at: float
    kept_files: tuple[str, ...]
    kept_contents: tuple[str, ...]
    """SHA-256 of what was being worked on: a file of it may lie there though nobody came to say so."""


def analyzer_of(config: Config) -> str:
    """The analyzer in effect: `auto` is `gemini` where there is a key, else `local`."""
    if config.analyzer.use != "auto":
        return config.analyzer.use
    return "gemini" if key_source(config) else "local"


def key_source(config: Config) -> str:
    """Where workers find the key, as `analyzers.gemini.keys` reads it; empty when there is none."""
    if config.analyzer.gemini.key_file:
        return f"file:{config.home / os.path.expanduser(config.analyzer.gemini.key_file)}"
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
        if os.environ.get(name):
            return f"env:{name}"
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return f"credential:{_CREDENTIAL}" if folder and _has_content(Path(folder, _CREDENTIAL)) else ""


def _has_content(path: Path) -> bool:
    """Whether there is a file to read with something in it: the unit that is shipped names an empty one for no key."""
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def facts(config: Config) -> dict[str, object]:
    """What `gsvrctl status` shows of it."""
    return {
        "analyzer": analyzer_of(config),
        "configuration": fingerprint(config),
        "directories": {name: str(getattr(config, name)) for name in NAMES},
    }


def priorities(config: Config) -> Priorities:
    """For the queue."""
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


def often(config: Config) -> Often:
    """When the state database is copied."""
    return Often(config.checkpoint.interval, config.checkpoint.every_tasks, config.checkpoint.keep)


def batch_snapshots(config: Config) -> Wish:
    """What a batch gets that asks for nothing else."""
    return Wish(config.batch.checkpoint_dir, config.batch.checkpoint_interval)


def intake_settings(config: Config) -> IntakeSettings:
    """For the intake."""
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


def parallel(config: Config) -> int:
    """The most videos of one batch at a time; 0 is no limit."""
    return 0 if config.batch.parallel == "auto" else config.batch.parallel


def worker_limits(config: Config) -> WorkerLimits:
    """For the pool."""
    return WorkerLimits(config.workers.memory_limit, config.workers.cpu_time_limit)


def workforce(config: Config) -> Rules:
    """For the workforce. A number that is not to adapt is its own least and most."""
    workers = config.workers
    settings = Settings(
        min=workers.least if workers.adaptive else workers.most,
        max=workers.most,
        initial=workers.first if workers.adaptive else workers.most,
        cooldown_s=workers.adjustment_cooldown,
        cpu_high=workers.cpu_high,
        memory_high=workers.memory_high,
        api_error_high=workers.api_error_high,
        response_high_s=workers.response_high,
        history=workers.history,
    )
    return Rules(settings, analyzer_of(config), parallel(config), workers.memory_limit)


def memory_budget(config: Config) -> int | None:
    """What all may have together, in bytes; None leaves it to the control group and the machine."""
    budget = config.workers.memory_budget
    return None if budget == "auto" else budget


def patience(config: Config) -> Patience:
    """For the attempts."""
    return Patience(config.workers.timeout, config.workers.stage_timeout)


def templates_folder(config: Config) -> Path:
    """Where the operator's own templates lie."""
    return config.home / "config" / "templates"


def load_all(config: Config) -> Mapping[str, Template]:
    """The templates by name. Raises `ConfigError` if one in the operator's folder is wrong."""
    return load_templates(templates_folder(config))


def chosen(templates: Mapping[str, Template], config: Config) -> Template:
    """The one that is used where nothing else is said. Raises `ConfigError` if it is not there."""
    if config.template not in templates:
        known = ", ".join(templates)
        raise ConfigError(f"there is no template {config.template!r}", f"There are: {known}.")
    return templates[config.template]


def api_limits(config: Config) -> APILimits:
    """For the limiter."""
    gemini = config.analyzer.gemini
    return APILimits(
        max_concurrent=gemini.max_concurrent,
        uploads=gemini.uploads,
        requests_per_minute=gemini.requests_per_minute,
        tokens_per_minute=gemini.tokens_per_minute,
        requests_per_day=gemini.requests_per_day,
    )


def terms(config: Config) -> Terms:
    """For the permits."""
    gemini = config.analyzer.gemini
    return Terms(gemini.project, _cost_limits(config), tuple(map(_price, gemini.prices)), gemini.timeout)


def _cost_limits(config: Config) -> CostLimits:
    gemini = config.analyzer.gemini
    return CostLimits(gemini.cost_limit_day, gemini.cost_limit_batch, gemini.cost_limit_total)


def metrics(config: Config) -> MetricsSettings:
    """For the station."""
    gemini, wanted = config.analyzer.gemini, config.metrics
    return MetricsSettings(
        listen=parse_listen(wanted.listen, config.state),
        textfile=config.state / os.path.expanduser(wanted.textfile) if wanted.textfile else None,
        textfile_s=wanted.textfile_interval,
        project=gemini.project,
        model=gemini.model if analyzer_of(config) == "gemini" else "",
        limits=api_limits(config),
        cost=_cost_limits(config),
        directories={name: getattr(config, name) for name in NAMES},
    )


def outlook(config: Config) -> Outlook:
    """For progress."""
    gemini, batch, kind = config.analyzer.gemini, config.batch, analyzer_of(config)
    allowance = Allowance(
        gemini.project, gemini.model, gemini.requests_per_day, gemini.cost_limit_day, gemini.cost_limit_total
    )
    return Outlook(
        reports=config.reports,
        kind=kind,
        workers=config.workers.most,
        parallel=None if batch.parallel == "auto" else batch.parallel,
        progress_file=batch.progress_file,
        allowance=allowance if kind == "gemini" else None,
    )


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


def _gemini_settings(config: Config, begun: Begun) -> GeminiSettings:
    gemini = config.analyzer.gemini
    return GeminiSettings(
        model=gemini.model,
        sdk=gemini.sdk,
        key_source=key_source(config) or "env:GEMINI_API_KEY",
        base_url=gemini.base_url or GOOGLE,
        timeout_s=gemini.timeout,
        max_file_bytes=gemini.max_file_size,
        proxy=gemini.proxy,
        max_duration_s=gemini.max_duration,
        fps=gemini.fps,
        media_resolution="" if gemini.media_resolution == "auto" else gemini.media_resolution,
        thinking="" if gemini.thinking == "auto" else gemini.thinking,
        flex=gemini.flex,
        installation=begun.installation,
        started_at=begun.started_at,
        kept_files=begun.kept_files,
        kept_contents=begun.kept_contents,
    )


def courier_settings(config: Config) -> CourierSettings:
    """For the courier."""
    webhook = config.webhook
    secrets = str(config.home / os.path.expanduser(webhook.secret_file)) if webhook.secret_file else ""
    return CourierSettings(secrets, tuple(map(plain_host, webhook.allow)), webhook.timeout)


def _link_settings(config: Config) -> LinkSettings:
    links = config.links
    return LinkSettings(tuple(map(plain_host, links.allow)), links.max_size, links.timeout, links.types)


def work_settings(config: Config, begun: Begun, templates: Mapping[str, Template]) -> bytes:
    """For the workers, as they travel. Raises `ConfigError` like `chosen`."""
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
            templates={name: template.to_json() for name, template in templates.items()},
            template=chosen(templates, config).name,
            language=config.language,
            parameters=config.parameters,
            output_pattern=config.output_pattern,
            log_level=config.logs.level,
            log_format=config.logs.format,
            spool=str(config.state / SPOOL),
            links=_link_settings(config),
        )
    )
