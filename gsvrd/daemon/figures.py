"""What a forecast is made with and how its figures are told: doors that are closed or will be, and numbers in few digits.

Pure; called by `observing`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from gsvrd.daemon.outlook import Allowance
from gsvrd.model import TaskState
from gsvrd.policy.progress import Bound, Door, Progress, Span
from gsvrd.policy.spending import dollars
from gsvrd.store.standing import Used

DAY_S = 86_400.0
DAYS_MOST = 30
"""A forecast that long is none."""
_SERVICE_DOORS = {"service-budget": Bound.COST, "service-quota": Bound.QUOTA}


def closed_doors(run: Mapping[str, Any], doors: Mapping[str, Mapping[str, Any]]) -> Iterator[Door]:
    """What keeps anything from starting now, as the service rows say; nobody knows until when."""
    if run.get("state", "stopped") != "running":
        yield Door(Bound.PAUSED, run.get("reason") or run.get("state", "stopped"), None)
    for name, door in doors.items():
        yield Door(_SERVICE_DOORS.get(name, Bound.PAUSED), door["reason"], None)


def doors_ahead(allowance: Allowance, used: Used) -> Iterator[Door]:
    """What will keep things from starting once so many more have: this day, and the ones after it."""
    per_day = allowance.requests_per_day
    if used.refused:
        yield Door(Bound.QUOTA, "the service's day is used up", used.ends_at)
    if per_day is not None and per_day < math.inf:
        reason = f"{per_day:.0f} requests per day"
        yield from _each_day(Bound.QUOTA, reason, per_day - used.requests, per_day, used.calls_each, used.ends_at)
    if not used.cost_each:
        return
    if (most := allowance.cost_day) is not None:
        reason = f"the cost limit a day is {dollars(most)}"
        yield from _each_day(Bound.COST, reason, most - used.spent_today, most, used.cost_each, used.ends_at)
    if (most := allowance.cost_total) is not None:
        left = max(0, int((most - used.spent) / used.cost_each))
        yield Door(Bound.COST, f"the cost limit in total is {dollars(most)}", None, after=left)


def _each_day(bound: Bound, reason: str, left: float, daily: float, each: float, ends_at: float) -> Iterator[Door]:
    for day in range(DAYS_MOST):
        after = int((max(0.0, left) + day * daily) / each)
        yield Door(bound, reason, ends_at + day * DAY_S, after=after)


def counts_of(counts: Mapping[str, int]) -> dict[str, int]:
    """All states, and their sum."""
    return {"total": sum(counts.values()), **{state.value: counts[state] for state in TaskState}}


def performance(progress: Progress, counts: Mapping[str, int]) -> dict[str, Any]:
    """As `progress_file.Performance` has it."""
    total = sum(counts.values())
    left = counts[TaskState.PENDING] + counts[TaskState.RUNNING]
    binding = progress.binding
    return {
        "completion": round((total - left) / total, 4) if total else 1.0,
        "per_hour": _rounded(progress.per_hour, 2),
        "mean_s": _rounded(progress.mean_s, 3),
        "p90_s": _rounded(progress.p90_s, 3),
        "remaining_s": _span(progress.remaining_s),
        "finish_at": _span(progress.finish_at),
        "binding": binding
        and {"bound": binding.bound.value, "reason": binding.reason, "until": _rounded(binding.until, 1)},
    }


def _span(span: Span | None) -> dict[str, float] | None:
    if span is None:
        return None
    return {"p10": round(span.p10, 1), "p50": round(span.p50, 1), "p90": round(span.p90, 1)}


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
