"""When work ends, why not sooner, and how fast it goes, in words. For `status` and `watch`; takes the data they print."""

from __future__ import annotations

import time
from typing import Any

from gsvrd.cli.terminal import moment

Facts = dict[str, Any]

_BINDING = {
    "workers": "more workers would end it sooner",
    "parallel": "the batch's own limit (parallel) binds",
    "largest": "one long video binds",
    "retry": "a video that comes again later binds",
    "quota": "the quota binds",
    "paused": "it is paused",
    "cost": "the cost limit binds",
    "unseen": "too few videos are done to tell",
}
_SHORT = {
    "workers": "no worker",
    "retry": "it waits",
    "quota": "quota",
    "paused": "paused",
    "cost": "cost limit",
    "unseen": "too few done",
}
"""Why there is no end to tell."""
_SOON_S = 300.0
"""An end so near is told in seconds to go, a later one by the clock."""


def end(performance: Facts | None, now: float, *, left: int) -> str:
    """When it ends, in which range, and what binds."""
    if not left:
        return "nothing is left to do"
    if performance is None:
        return "no forecast yet"
    binding = performance["binding"]
    why = _why(binding)
    if performance["finish_at"] is None:
        return f"no end in sight: {why}" if binding and binding["bound"] != "unseen" else f"no forecast yet: {why}"
    return f"{_range(performance['finish_at'], now)}{f'; {why}' if why else ''}"


def short_end(performance: Facts | None, now: float) -> str:
    """The same in a cell of a table."""
    if performance is None:
        return ""
    if performance["finish_at"] is None:
        return f"not known: {_SHORT[performance['binding']['bound']]}" if performance["binding"] else ""
    return _range(performance["finish_at"], now).removeprefix("ends ")


def speed(performance: Facts | None) -> str:
    """How many in an hour, and what one takes; empty while nobody knows."""
    if performance is None or performance["mean_s"] is None:
        return ""
    per_hour = performance["per_hour"] or 0.0
    often = f"{per_hour:,.{0 if per_hour >= 10 else 1}f} an hour · " if per_hour else ""
    return f"{often}{lasting(performance['mean_s'])} each, 9 of 10 within {lasting(performance['p90_s'])}"


def lasting(seconds: float | None) -> str:
    """A span of time in at most two units."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 600:
        return f"{seconds // 60:.0f} min {seconds % 60:02.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def _range(finish: Facts, now: float) -> str:
    low, middle, high = (max(0.0, finish[name] - now) for name in ("p10", "p50", "p90"))
    if not middle:
        return "ends any moment"
    if high < _SOON_S:
        return f"ends in {lasting(middle)} ({lasting(low)} to {lasting(high)})"
    days = high > 20 * 3600
    return f"ends {_clock(finish['p50'], days)} ({_clock(finish['p10'], days)} to {_clock(finish['p90'], days)})"


def _clock(at: float, days: bool) -> str:
    return time.strftime("%a %H:%M" if days else "%H:%M", time.localtime(at))


def _why(binding: Facts | None) -> str:
    if not binding:
        return ""
    words = binding["reason"] if binding["reason"] and binding["bound"] != "unseen" else _BINDING[binding["bound"]]
    if binding["bound"] == "unseen" and binding["reason"]:
        words = f"{words} ({binding['reason']})"
    until = f" until {moment(binding['until'])}" if binding["until"] and binding["bound"] in ("quota", "cost") else ""
    return f"{words}{until}"
