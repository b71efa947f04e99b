"""AdaptiveController: how many workers, and of which kind of task at most how many at a time.

The daemon (or the simulator, or a test) calls `Controller.decide` every `Settings.tick_s` with what it measured since the
last call and a monotonic time; nothing here reads a clock, a process or a file. What it cannot know is None in `Metrics`,
and then it holds. `docs/adaptive.md` tells an operator how it decides.

The parts: `readings` (what goes in and out), `kinds` (what tasks ask for), `cores` (processors we get), `knee` and `level`
(calls the service bears), `fitting` (memory), `sharing` (all of that in one number), `pace` (when to follow).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import msgspec

from gsvrd.policy.cores import WAITS, WAITS_NOT, Cores, Load
from gsvrd.policy.fitting import Fitting
from gsvrd.policy.kinds import LEAST_S, Kind, Work
from gsvrd.policy.knee import Knee, Sums
from gsvrd.policy.level import Level
from gsvrd.policy.pace import Pace, Signs
from gsvrd.policy.readings import Cap, Completion, Decision, Metrics, Settings
from gsvrd.policy.sharing import Bounds, Share, share_out

__all__ = ["Cap", "Completion", "Controller", "Decision", "Metrics", "Settings"]

LEAP_S = 30 * 86400.0
"""After so long everything has faded."""
NONSENSE = 1.5
"""So many times the machine's processors nobody can have used: a counter has jumped."""


class _Saved(msgspec.Struct, frozen=True):
    size: int
    proven: int
    kinds: dict[str, Kind]
    sums: dict[int, Sums]
    level: int | None
    cores: float | None


@dataclass(slots=True)
class Controller:
    """One instance in the daemon's loop. `settings` may be replaced while it works."""

    settings: Settings = field(default_factory=Settings)
    _kinds: dict[str, Kind] = field(default_factory=dict)
    _cores: Cores = field(default_factory=Cores)
    _level: Level = field(default_factory=Level)
    _fitting: Fitting = field(default_factory=Fitting)
    _pace: Pace | None = None
    _last: float | None = None
    """The time of the last call, and time as it is counted here: it never goes back."""
    _now: float = 0.0

    @property
    def size(self) -> int:
        """Workers to start with, before the first reading."""
        return self._within(self.settings.initial if self._pace is None else self._pace.size)

    def decide(self, metrics: Metrics, now: float) -> Decision:
        """How many workers from now on. `now` is monotonic seconds; one that jumps is noted and does no harm.

        Never raises on any figures. The same calls in the same order give the same decisions.
        """
        jumped = self._pass_time(now)
        pace = self._paced()
        pace.size = self._within(pace.size)
        metrics = _cleaned(metrics)
        lacking = _lacking(metrics)
        self._learn(metrics)
        asked = _asked(metrics)
        share = self._share(metrics, asked)
        if metrics.forced is not None:
            pace.size = self._within(metrics.forced)
            return self._decision(share, Cap.HAND, "set by hand")
        if jumped or lacking:
            return self._decision(share, Cap.HELD, jumped or f"held: could not be read: {', '.join(lacking)}")
        signs = self._signs(metrics, asked)
        pace.step(share, signs, self.settings, self._now)
        return self._decision(share, self._binding(share, signs), pace.why)

    def _pass_time(self, now: float) -> str:
        last = self._last
        if not math.isfinite(now):
            return "held: the time is no number"
        self._last = now
        if last is None:
            return ""
        self._now += max(0.0, min(LEAP_S, now - last))
        return f"held: the clock went back by {last - now:.0f} s" if now < last else ""

    def _paced(self) -> Pace:
        if self._pace is None:
            self._pace = Pace(self.size, self.size, self._now, self._now)
        return self._pace

    def _within(self, workers: int) -> int:
        return max(self.settings.min, min(self.settings.max, workers))

    # -- learning ----------------------------------------------------------------------------------------------------

    def _learn(self, metrics: Metrics) -> None:
        for one in metrics.completions:
            self._learn_kind(one)
        busy = sum(metrics.running.values())
        wait = metrics.cpu_wait or 0.0
        if metrics.own_cpu is not None and metrics.allowed_cpu is not None and metrics.other_cpu is not None:
            host = metrics.host_cpu or metrics.allowed_cpu
            load = Load(metrics.own_cpu, metrics.other_cpu, metrics.allowed_cpu, host, wait)
            self._cores.read(load, busy >= metrics.workers, self._now)
        if busy >= self._paced().size and wait < WAITS:
            self._paced().prove()
        ended, failed = len(metrics.completions), metrics.memory_failures
        self._fitting.read(metrics.memory_blocked, busy, ended, failed, self.settings.tick_s, self._now)

    def _learn_kind(self, one: Completion) -> None:
        kind = Kind.of(one)
        if kind is None:
            return
        if one.kind in self._kinds:
            self._kinds[one.kind].add(kind)
        else:
            self._kinds[one.kind] = kind
        if one.api_s > 0.0:
            self._level.add(one.size, max(LEAST_S, one.api_s / max(1, one.calls)), one.beside, self._now)

    # -- what is wanted ----------------------------------------------------------------------------------------------

    def _works(self, metrics: Metrics, asked: Mapping[str, int]) -> tuple[Work, Work]:
        """What calls the service, and what works here; of a kind nobody knows yet, what the workers use now is taken."""
        calls = {kind: count for kind, count in asked.items() if kind in self._kinds and self._kinds[kind].is_calling}
        here = {kind: count for kind, count in asked.items() if kind not in calls}
        own = Work.of(here, self._kinds)
        busy = sum(metrics.running.values())
        if here and not own.hold_s and busy and metrics.own_cpu is not None:
            own = replace(own, cpu=metrics.own_cpu / busy / (1.0 - min(0.9, metrics.cpu_wait or 0.0)))
        return Work.of(calls, self._kinds), own

    def _share(self, metrics: Metrics, asked: Mapping[str, int]) -> Share:
        calling, own = self._works(metrics, asked)
        low, high = self.settings.min, self.settings.max
        fresh = bool(metrics.completions)
        level = self._level.find(calling, low, high, self._paced().size, fresh, self._now) if calling.asked else None
        bounds = Bounds(low, high, level, metrics.rate_per_minute, self._cores.ours, self._fitting.cap(self._now))
        return share_out(bounds, calling, own)

    def _signs(self, metrics: Metrics, asked: Mapping[str, int]) -> Signs:
        settings, wait = self.settings, metrics.cpu_wait or 0.0
        stop = None
        if (metrics.own_cpu or 0.0) > settings.cpu_high * (metrics.allowed_cpu or math.inf) and wait > WAITS_NOT:
            stop = Cap.CPU
        if (metrics.api_errors or 0.0) > settings.api_error_high:
            stop = Cap.ERRORS
        calling, _ = self._works(metrics, asked)
        if calling.hold_s * calling.share > settings.response_high_s and self._level.knee.samples() < settings.history:
            stop = Cap.API
        used = (metrics.memory_used or 0.0) / (metrics.memory_limit or math.inf)
        busy = sum(metrics.running.values()) >= metrics.workers
        return Signs(busy, stop, used > settings.memory_high)

    # -- telling -----------------------------------------------------------------------------------------------------

    def _binding(self, share: Share, signs: Signs) -> Cap:
        if share.want > self.size and signs.full:
            return Cap.MEMORY
        if share.want > self.size and signs.stop is not None:
            return signs.stop
        return share.cap if share.want == self.size else Cap.PACE

    def _decision(self, share: Share, cap: Cap, note: str) -> Decision:
        figures = {
            "want": float(share.want),
            "bear": float(share.bear),
            "proven": float(self._paced().proven),
            "cores": self._cores.ours,
            "level": self._level.value,
        }
        inputs = {name: round(float(value), 2) for name, value in figures.items() if value is not None}
        return Decision(self._paced().size, share.limits, cap, share.caps, inputs, note)

    # -- over restarts -----------------------------------------------------------------------------------------------

    def state(self, now: float) -> dict[str, object]:
        """What it has learned, as plain data (JSON); save it every minute or so and when the daemon ends."""
        pace, sums = self._paced(), self._level.knee.rested(self._now)
        saved = _Saved(pace.size, pace.proven, self._kinds, sums, self._level.value, self._cores.ours)
        plain: dict[str, object] = msgspec.to_builtins(saved, str_keys=True)
        return plain

    @classmethod
    def restore(cls, settings: Settings, saved: object, now: float) -> Controller:
        """From `state`, decoded JSON; a fresh one from anything else (None, another version's, damaged)."""
        try:
            was = msgspec.convert(saved, _Saved, str_keys=True)
        except msgspec.ValidationError:
            return cls(settings)
        made = cls(settings, was.kinds, Cores(was.cores), Level(Knee(was.sums), was.level))
        made._pace = Pace(made._within(was.size), made._within(was.proven), 0.0, 0.0)
        return made


def _cleaned(metrics: Metrics) -> Metrics:
    """Without what cannot be true."""
    most = NONSENSE * (metrics.host_cpu or math.inf)
    return replace(
        metrics,
        workers=max(0, metrics.workers),
        own_cpu=_sound(metrics.own_cpu, most),
        other_cpu=_sound(metrics.other_cpu, most),
        allowed_cpu=_sound(metrics.allowed_cpu) or None,
        host_cpu=_sound(metrics.host_cpu) or None,
        cpu_wait=_sound(metrics.cpu_wait, 1.0),
        memory_used=_sound(metrics.memory_used),
        memory_limit=_sound(metrics.memory_limit) or None,
        memory_failures=max(0, min(1000, metrics.memory_failures)),
        api_errors=_sound(metrics.api_errors, 1.0),
        rate_per_minute=_sound(metrics.rate_per_minute),
    )


def _sound(value: float | None, most: float = math.inf) -> float | None:
    return value if value is not None and 0.0 <= value <= most and math.isfinite(value) else None


def _lacking(metrics: Metrics) -> list[str]:
    needed = ("own_cpu", "other_cpu", "allowed_cpu", "memory_used", "memory_limit")
    return [name for name in needed if getattr(metrics, name) is None]


def _asked(metrics: Metrics) -> dict[str, int]:
    """Tasks on workers and in line, by kind."""
    asked = {kind: max(0, count) for kind, count in metrics.running.items()}
    for kind, count in metrics.queued.items():
        asked[kind] = asked.get(kind, 0) + max(0, count)
    return {kind: count for kind, count in asked.items() if count}
