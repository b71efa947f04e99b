"""What `gsvrctl explain workers` says: words for a terminal. Takes the data that `--json` prints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.text import Text

from gsvrd.cli.explain import reason_of
from gsvrd.cli.terminal import console, moment, table


def explained(found: dict[str, Any]) -> None:
    """On the terminal."""
    for line in _told(found):
        console.print(line)


def _told(found: dict[str, Any]) -> Iterator[Any]:
    """In words."""
    if found["target"] is None:
        yield "No daemon that counts its workers has run here yet."
        return
    if found["pid"] is None:
        at = f", as it was {moment(found['at'])}" if found["at"] else ""
        yield Text(f"The daemon does not run{at}: {_workers(found['target'])} wanted.")
    else:
        yield Text(
            f"{_workers(found['up'])} up, {found['target']} wanted (at least {found['min']}, at most {found['max']})."
        )
    yield Text(f"Why: {found['reason']}.")
    if found["note"]:
        yield Text(f"     {found['note']}")
    yield Text(f"What would change it: {found['remedy']}")
    if found["hand"] is not None and found["hand"] != found["target"]:
        yield Text(_clipped(found))
    for note in found["notes"]:
        yield Text(f"Note: {note}", style="yellow")
    if found["oom_kills"]:
        yield Text(f"Note: {_killed(found['oom_kills'])}", style="yellow")
    if found["caps"]:
        each = " · ".join(f"{name} {value:g}" for name, value in sorted(found["caps"].items(), key=lambda cap: cap[1]))
        yield Text(f"What each limit alone would allow: {each}")
    if found["limits"]:
        yield Text("At a time: " + ", ".join(f"at most {most} of {kind}" for kind, most in found["limits"].items()))
    if found["figures"]:
        yield Text("Figures: " + ", ".join(f"{name} {value:g}" for name, value in found["figures"].items()))
    if found["changes"]:
        yield _changes(found["changes"])


def _clipped(found: dict[str, Any]) -> str:
    side = "workers.max" if found["hand"] > found["target"] else "workers.min"
    limit = found["max"] if found["hand"] > found["target"] else found["min"]
    return f"By hand it is {found['hand']}, and {side} is {limit}: that holds first."


def _killed(count: int) -> str:
    what = "a process" if count == 1 else f"{count} processes"
    return (
        f"since the daemon started, the kernel has ended {what} of its control group for want of memory: something in it"
        " holds more than the daemon counts on. Raise MemoryMax= in the unit, or lower workers.memory_budget."
    )


def _changes(rows: list[dict[str, Any]]) -> Any:
    grid = table("when", "workers", "because", "note")
    for row in rows:
        reason = reason_of(row["cap"], row["after"])
        grid.add_row(moment(row["at"]), f"{row['before']} → {row['after']}", reason, Text(row["note"]))
    return grid


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"
