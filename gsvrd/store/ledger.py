"""Ledger: what was reserved and what was spent, over all workers and restarts.

The daemon's loop owns the one instance. Like `TaskQueue` it only notes statements, through the `note` it is given, and they
are written in the turn's transaction; its sums are in memory and count what is noted, so nothing waits for the disk.
It reads at start and when a day begins; `spending` is for `gsvrctl` and reads the tables alone.

A permit is `reserved`, then `sent`, then `settled`; or `void` if it never left, or `unknown` if nobody can say what became
of it: then it is charged at its worst case. `sent` means handed to a worker. It must be committed *before* the worker may
call, so that a daemon which dies never forgets money that was spent. Days begin at midnight in Los Angeles, as the quotas'.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from gsvrd.clock import Clock
from gsvrd.policy.limiter import WINDOW_S, Call, DayUse, Lane
from gsvrd.policy.spending import Money, Sums, Usage

Note = Callable[[str, tuple[object, ...]], None]

QUOTA_DAY = "quota_day"
"""The outcome of a call the service refused because the day is used up: nothing more is asked before the next one."""

_PACIFIC = ZoneInfo("America/Los_Angeles")
_A_DAY_S = 86_400.0

_RESERVE = """
INSERT INTO ledger (permit, task, attempt, batch, project, model, lane, state, reserved_at, pacific_day, tokens_reserved,
    reserved_micro)
VALUES (?, ?, ?, ?, ?, ?, ?, 'reserved', ?, ?, ?, ?)
"""
_SENT = "UPDATE ledger SET state = 'sent', sent_at = ? WHERE permit = ? AND state = 'reserved'"
_END = """
UPDATE ledger SET state = ?, settled_at = ?, tokens_in = ?, tokens_out = ?, tokens_thoughts = ?, cost_micro = ?, outcome = ?
WHERE permit = ? AND state IN ('reserved', 'sent')
"""
_OPEN = """
SELECT permit, task, attempt, lane, project, model, tokens_reserved, batch, pacific_day, reserved_micro, state = 'sent'
FROM ledger WHERE state IN ('reserved', 'sent') ORDER BY permit
"""
_OF_DAY = "SELECT project, model, sum(requests), sum(cost_micro) FROM ledger_days WHERE day = ? GROUP BY project, model"
_REFUSED = "SELECT DISTINCT pacific_day, project, model FROM ledger WHERE pacific_day = ? AND outcome = 'quota_day'"
_RECENT = """
SELECT sent_at, task, attempt, lane, project, model, iif(state = 'settled' AND tokens_in, tokens_in, tokens_reserved)
FROM ledger WHERE sent_at > ? AND state <> 'void' ORDER BY sent_at
"""


@dataclass(frozen=True, slots=True)
class Day:
    """A day of the service's quotas; `starts_at` and `ends_at` are wall times, 23 to 25 hours apart."""

    name: str
    starts_at: float
    ends_at: float


def pacific_day(wall: float) -> Day:
    """The day at a wall time."""
    return _day_of(datetime.fromtimestamp(wall, _PACIFIC).date())


def _day_of(day: date) -> Day:
    starts, ends = (datetime.combine(d, time(), _PACIFIC).timestamp() for d in (day, day + timedelta(1)))
    return Day(day.isoformat(), starts, ends)


Scope = tuple[str, str | int]


@dataclass(frozen=True, slots=True)
class _Open:
    call: Call
    batch: int
    day: str
    upper_micro: int
    sent: bool = False

    @property
    def scopes(self) -> tuple[Scope, ...]:
        return ("total", ""), ("day", self.day), ("batch", self.batch)


class Ledger:
    """The permits and the sums, owned by one thread of one process. Only construction and a new day read the disk."""

    def __init__(self, conn: sqlite3.Connection, clock: Clock, note: Note) -> None:
        self._conn = conn
        self._clock = clock
        self._note = note
        self._open: dict[int, _Open] = {}
        self._settled: Counter[Scope] = Counter()
        self._reserved: Counter[Scope] = Counter()
        self._requests: Counter[tuple[str, str, str]] = Counter()
        self._refused: set[tuple[str, str, str]] = set()
        self._days: set[str] = set()
        row = conn.execute("SELECT permit, pacific_day FROM ledger ORDER BY permit DESC LIMIT 1").fetchone()
        self._newest: int = row[0] if row else 0
        self._day = _day_of(date.fromisoformat(row[1])) if row else pacific_day(clock.wall())
        self._load()

    def _load(self) -> None:
        for batch, cost in self._conn.execute("SELECT batch, sum(cost_micro) FROM ledger_days GROUP BY batch"):
            self._settled["total", ""] += cost
            self._settled["batch", batch] += cost
        for permit, *call, batch, day, upper, sent in self._conn.execute(_OPEN):
            self._open[permit] = _Open(_call(*call), batch or 0, day, upper, bool(sent))
            self._reserved.update(dict.fromkeys(self._open[permit].scopes, upper))
            self._enter(day)

    def _enter(self, day: str) -> None:
        """Read a day's sums, once: from then on this process knows them best."""
        if day in self._days:
            return
        self._days.add(day)
        for project, model, requests, cost in self._conn.execute(_OF_DAY, (day,)):
            self._requests[day, project, model] += requests
            self._settled["day", day] += cost
        self._refused.update(self._conn.execute(_REFUSED, (day,)))

    # -- reading -----------------------------------------------------------------------------------------------------

    def today(self) -> Day:
        """The day that counts. It does not go back with the clock, unless that was more than a day ahead."""
        wall = self._clock.wall()
        if not self._day.starts_at - _A_DAY_S <= wall < self._day.ends_at:
            self._day = pacific_day(wall)
        self._enter(self._day.name)
        return self._day

    def day_use(self, project: str, model: str) -> DayUse:
        """What the limiter must know of today."""
        day = self.today()
        key = (day.name, project, model)
        return DayUse(self._requests[key], key in self._refused, day.ends_at)

    def sums(self, batch: int | None) -> Sums:
        """What limits on cost are measured by."""
        day = self.today()
        of_batch = Money() if batch is None else self._money(("batch", batch))
        return Sums(self._money(("day", day.name)), of_batch, self._money(("total", "")), day.ends_at)

    def _money(self, scope: Scope) -> Money:
        return Money(self._settled[scope], self._reserved[scope])

    def recent(self) -> list[tuple[float, Call]]:
        """What was sent in the limiter's window, or has a time still to come; wall times, oldest first."""
        rows = self._conn.execute(_RECENT, (self._clock.wall() - WINDOW_S,))
        return [(sent_at, _call(*call)) for sent_at, *call in rows]

    # -- permits -----------------------------------------------------------------------------------------------------

    def reserve(self, call: Call, upper_micro: int, batch: int | None = None) -> int:
        """Book a call at its worst case, after `may_spend` said go; returns the permit."""
        day, self._newest = self.today().name, self._newest + 1
        booked = self._open[self._newest] = _Open(call, batch or 0, day, upper_micro)
        self._reserved.update(dict.fromkeys(booked.scopes, upper_micro))
        self._requests[day, call.project, call.model] += call.lane is Lane.GENERATE
        names = (call.task, call.attempt, batch, call.project, call.model, call.lane)
        self._note(_RESERVE, (self._newest, *names, self._clock.wall(), day, call.tokens, upper_micro))
        return self._newest

    def sent(self, permit: int) -> bool:
        """A worker gets it. Tell the worker only when this is committed; not at all if False: it has ended already."""
        if (booked := self._open.get(permit)) is not None:
            self._open[permit] = replace(booked, sent=True)
            self._note(_SENT, (self._clock.wall(), permit))
        return booked is not None

    def settle(self, permit: int, outcome: str, usage: Usage, cost_micro: int) -> None:
        """The call ended and the service said what it used: nothing, where it refused."""
        self._end(permit, "settled", outcome, usage, cost_micro)

    def void(self, permit: int, outcome: str) -> None:
        """It provably never left."""
        self._end(permit, "void", outcome, Usage(), 0)

    def unknown(self, permit: int, outcome: str) -> None:
        """It may have been done, and billed: charged at its worst case."""
        if (booked := self._open.get(permit)) is not None:
            self._end(permit, "unknown", outcome, Usage(), booked.upper_micro)

    def end_attempt(self, task: int, attempt: int, outcome: str) -> None:
        """The attempt is over or its worker is gone: what it holds is void if it was not handed out, else unknown."""
        for permit, booked in list(self._open.items()):
            if (booked.call.task, booked.call.attempt) == (task, attempt):
                self._lose(permit, outcome)

    def recover(self) -> None:
        """At start: the same for all that a daemon which died left open."""
        for permit in list(self._open):
            self._lose(permit, "the daemon ended")

    def _lose(self, permit: int, outcome: str) -> None:
        (self.unknown if self._open[permit].sent else self.void)(permit, outcome)

    def _end(self, permit: int, state: str, outcome: str, usage: Usage, cost_micro: int) -> None:
        """Only the first end of a permit counts."""
        if (booked := self._open.pop(permit, None)) is None:
            return
        call, day = booked.call, booked.day
        self._reserved.subtract(dict.fromkeys(booked.scopes, booked.upper_micro))
        self._settled.update(dict.fromkeys(booked.scopes, cost_micro))
        self._requests[day, call.project, call.model] -= state == "void" and call.lane is Lane.GENERATE
        if outcome == QUOTA_DAY:
            self._refused.add((day, call.project, call.model))
        tokens = (usage.tokens_in, usage.tokens_out, usage.thoughts)
        self._note(_END, (state, self._clock.wall(), *tokens, cost_micro, outcome, permit))


def _call(task: int, attempt: int, lane: str, project: str, model: str, tokens: int) -> Call:
    return Call(task, attempt, Lane(lane), project, model, tokens)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the spending report; money in micro-dollars."""

    name: str
    requests: int
    tokens: int
    settled: int
    reserved: int


_BATCH_NAME = "coalesce((SELECT name FROM batches WHERE id = ledger_lines.batch), batch)"


def spending(conn: sqlite3.Connection, wall: float, most: int = 20) -> dict[str, list[Line]]:
    """What `gsvrctl spend` shows at a wall time: `today`, `month` and `total`, one line each; `batches` and `models`.

    The newest `most` batches; models come in the order of what they cost.
    """
    day = pacific_day(wall).name

    def lines(name: str, rest: str, *values: object) -> list[Line]:
        sums = ", ".join(f"coalesce(sum({c}), 0)" for c in ("requests", "tokens", "cost_micro", "reserved_micro"))
        rows = conn.execute(f"SELECT {name}, {sums} FROM ledger_lines {rest}", values)  # noqa: S608 (constants)
        return [Line(str(row[0]), *row[1:]) for row in rows]

    return {
        "today": lines("?", "WHERE day = ?", day, day),
        "month": lines("?", "WHERE substr(day, 1, 7) = ?", day[:7], day[:7]),
        "total": lines("'total'", ""),
        "batches": lines(_BATCH_NAME, "WHERE batch <> 0 GROUP BY batch ORDER BY batch DESC LIMIT ?", most),
        "models": lines("model", "WHERE model <> '' GROUP BY model ORDER BY sum(cost_micro) DESC, model"),
    }
