"""The page of metrics, made from the database and the loop's vitals by the official client library.

Asked by the listener's and the textfile's thread; it never touches the loop's connection. A registry of our own, and a
collector instead of global counters: what a page says was true at one moment, and nothing is counted while nobody looks.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from gsvrd.clock import Clock
from gsvrd.daemon.metrics.names import FAMILIES, Family
from gsvrd.daemon.metrics.settings import MetricsSettings
from gsvrd.daemon.vitals import Vitals
from gsvrd.model import TRANSITIONS
from gsvrd.policy.readings import Cap
from gsvrd.policy.spending import MILLION
from gsvrd.policy.tally import OTHER, Tally
from gsvrd.store.measuring import Measures, Measuring, ModelUse

log = structlog.get_logger("gsvrd.metrics")

MODELS_MOST = 16
STATES = ("starting", "running", "paused", "draining", "stopped")

_Made = GaugeMetricFamily | CounterMetricFamily | HistogramMetricFamily


class Page:
    """The text; one thread at a time."""

    def __init__(self, measuring: Measuring, vitals: Vitals, clock: Clock) -> None:
        self._figures = _Figures(measuring, vitals, clock)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self._figures)

    def text(self, settings: MetricsSettings) -> bytes:
        """In Prometheus' text format."""
        self._figures.settings = settings
        return generate_latest(self._registry)


class _Figures(Collector):
    settings: MetricsSettings

    def __init__(self, measuring: Measuring, vitals: Vitals, clock: Clock) -> None:
        self._measuring = measuring
        self._vitals = vitals
        self._clock = clock

    def describe(self) -> Iterator[_Made]:
        """Nothing is read to be registered."""
        yield from map(_made, FAMILIES)

    def collect(self) -> Iterator[_Made]:
        sheet = _Sheet()
        try:
            measures = self._measuring.look(self._clock.wall(), self.settings.project)
        except sqlite3.Error as error:
            log.warning("metrics_unread", error=str(error))
            sheet.put("database_readable", 0)
        else:
            sheet.put("database_readable", 1)
            _store(sheet, measures, self._measuring)
            _api(sheet, measures, self.settings)
        _loop(sheet, self._vitals)
        _disks(sheet, self.settings)
        yield from sheet.families.values()


class _Sheet:
    """The families while they are being filled in."""

    def __init__(self) -> None:
        self.families = {family.name: _made(family) for family in FAMILIES}

    def put(self, name: str, value: float, *labels: str) -> None:
        family = self.families[f"gsvrd_{name}"]
        if not isinstance(family, HistogramMetricFamily):
            family.add_metric(labels, value)

    def draw(self, name: str, tally: Tally, *labels: str) -> None:
        family = self.families[f"gsvrd_{name}"]
        if isinstance(family, HistogramMetricFamily):
            bounds = [*map(floatToGoString, tally.bounds), "+Inf"]
            family.add_metric(labels, list(zip(bounds, tally.read(), strict=True)), tally.total)


def _made(family: Family) -> _Made:
    match family.kind:
        case "gauge":
            return GaugeMetricFamily(family.name, family.help, labels=family.labels)
        case "counter":
            return CounterMetricFamily(family.name, family.help, labels=family.labels)
        case "histogram":
            return HistogramMetricFamily(family.name, family.help, labels=family.labels)


def _loop(sheet: _Sheet, vitals: Vitals) -> None:
    for state in STATES:
        sheet.put("state", state == vitals.word, state)
    for door in vitals.doors:
        sheet.put("door_closed", 1, door)
    sheet.put("workers", vitals.workers)
    sheet.put("workers_busy", vitals.busy)
    sheet.put("workers_target", vitals.target)
    sheet.put("loop_lag_seconds", vitals.lag_s)
    sheet.draw("loop_turn_seconds", vitals.turns)
    for stage, tally in vitals.stages.read():
        sheet.draw("stage_duration_seconds", tally, stage)


def _store(sheet: _Sheet, measures: Measures, measuring: Measuring) -> None:
    for state, number in measures.tasks.items():
        sheet.put("tasks", number, state)
    for what, number in (("worker", measures.in_line), ("time", measures.waiting), ("batch", measures.held)):
        sheet.put("tasks_pending", number, what)
    sheet.put("queue_age_seconds", measures.head_age_s)
    sheet.put("batches_held", measures.held_batches)
    for transition in TRANSITIONS:
        sheet.put("transitions_total", measuring.transitions[transition.name], transition.name)
    for outcome, tally in measuring.attempts.read():
        sheet.draw("attempt_duration_seconds", tally, outcome)
    for state in ("pending", "dead"):
        sheet.put("webhooks", measures.webhooks[state], state)
    _facts(sheet, measures.service)


def _facts(sheet: _Sheet, service: Mapping[str, Any]) -> None:
    daemon, intake = service["daemon"] or {}, service["intake"] or {}
    sheet.put("build_info", 1, str(daemon.get("version", "")), str(daemon.get("analyzer", "")))
    sheet.put("start_time_seconds", daemon.get("started_at", 0.0))
    sheet.put("watcher_overflows_total", intake.get("overflows", 0))
    sheet.put("watcher_polling", intake.get("mode") == "polling")
    sheet.put("snapshot_failed", service["snapshots"] is not None)
    binds = (service["workers_now"] or {}).get("cap")
    for cap in Cap:
        sheet.put("workers_cap", cap.value == binds, cap.value)


def _api(sheet: _Sheet, measures: Measures, settings: MetricsSettings) -> None:
    sheet.put("cost_today_dollars", measures.cost_today / MILLION)
    sheet.put("cost_reserved_dollars", measures.reserved / MILLION)
    for per, limit in (
        ("day", settings.cost.per_day),
        ("batch", settings.cost.per_batch),
        ("total", settings.cost.total),
    ):
        if limit is not None:
            sheet.put("cost_limit_dollars", limit / MILLION, per)
    for model, use in _bounded(measures.models, settings.model).items():
        sheet.put("api_requests_total", use.requests, model)
        sheet.put("api_tokens_total", use.tokens, model)
        sheet.put("cost_dollars_total", use.cost / MILLION, model)
        if model != OTHER:
            _left(sheet, model, use, settings)


def _left(sheet: _Sheet, model: str, use: ModelUse, settings: MetricsSettings) -> None:
    limits = settings.limits
    today = 0 if use.is_used_up else limits.requests_per_day - use.requests_today
    sheet.put("api_requests_left_minute", max(0, limits.requests_per_minute - use.requests_minute), model)
    sheet.put("api_tokens_left_minute", max(0, limits.tokens_per_minute - use.tokens_minute), model)
    sheet.put("api_requests_left_today", max(0, today), model)


def _bounded(models: Mapping[str, ModelUse], configured: str) -> dict[str, ModelUse]:
    """The model of the configuration, if one is used, and those that cost most; the others as one."""
    known = {configured: ModelUse(), **models} if configured else dict(models)
    order = sorted(known, key=lambda name: (name != configured, -known[name].requests_today, -known[name].cost, name))
    shown, rest = order[:MODELS_MOST], [known[name] for name in order[MODELS_MOST:]]
    found = {name: known[name] for name in shown}
    if rest:
        found[OTHER] = ModelUse(sum(u.requests for u in rest), sum(u.tokens for u in rest), sum(u.cost for u in rest))
    return found


def _disks(sheet: _Sheet, settings: MetricsSettings) -> None:
    """A directory that is away is absent."""
    for name, path in settings.directories.items():
        try:
            found = os.statvfs(path)
        except OSError:
            continue
        sheet.put("disk_free_bytes", found.f_bavail * found.f_frsize, name)
        sheet.put("disk_size_bytes", found.f_blocks * found.f_frsize, name)
