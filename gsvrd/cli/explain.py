"""`gsvrctl explain workers`: why there are so many workers now, and what would change that. Works with the daemon down.

The daemon has left its last decision and its changes in the database; here they become the data that `--json` prints and
`docs/status.md` describes. `explaining` puts it on a terminal.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from gsvrd.cli.common import edge, json_option

SCHEMA = 1
CHANGES = 10
"""So many of the last changes are told."""

_WORDS = {
    "max": ("workers.max is {max}", "Raise workers.max; the processors and the memory may then be the limit."),
    "demand": (
        "there is no more work that may start now",
        "More videos, or none that wait for a time or for their batch.",
    ),
    "cpu": (
        "more workers would only take turns on the processors this service really gets",
        "A larger quota (CPUQuota= in the unit), more processors, or less of other programs on them.",
    ),
    "api": (
        "more calls at a time would not bring more answers from the service",
        "A service that answers more calls at a time; it is tried again now and then by itself.",
    ),
    "rate": (
        "the requests a minute that pass keep no more workers busy",
        "A higher analyzer.gemini.requests_per_minute, if your plan at Google allows it.",
    ),
    "memory": (
        "no more tasks fit into the memory, or too much of it is in use",
        "A larger limit (MemoryMax= in the unit, workers.memory_budget), or less of other programs in it.",
    ),
    "errors": (
        "the service refuses or drops too many calls because of load",
        "It passes by itself; workers.api_error_high says how many are too many.",
    ),
    "pace": (
        "it is too early for the next step",
        "Time: a new number is reached in steps (workers.adjustment_cooldown), and idle workers stay a while.",
    ),
    "held": ("a reading is missing, so nothing is changed", "The reading coming back; see the notes."),
    "hand": ("an operator has named the number", "`gsvrctl workers auto` gives it back to the program."),
}
_UNKNOWN = ("nothing was decided yet", "The first tasks.")


@click.command()
@click.argument("what", type=click.Choice(["workers"]))
@json_option
@click.pass_obj
@edge
def explain(place: Any, what: str, as_json: bool) -> None:
    """Say why there are so many workers now, and what would change that."""
    found = facts(place)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    from gsvrd.cli.explaining import explained

    explained(found)


def facts(place: Any) -> dict[str, Any]:
    """The documented data. Raises `StateError` when there is no database or it cannot be read."""
    from gsvrd.daemon.service import holder
    from gsvrd.store.decisions import HAND, NOW, changes
    from gsvrd.store.reading import open_for_reading

    reading = open_for_reading(place.database)
    pid = holder(place.lock)
    now = reading.service(NOW) or {}
    pids = reading.service("workers") or [] if pid else []
    hand = reading.service(HAND) or {}
    cap = now.get("cap")
    limits = {"max": now.get("max"), "min": now.get("min")}
    return {
        "schema": SCHEMA,
        "pid": pid,
        "at": now.get("at"),
        "up": len(pids),
        "target": now.get("target"),
        **limits,
        "hand": hand.get("workers"),
        "cap": cap,
        "reason": reason_of(cap, now.get("max")),
        "remedy": _WORDS.get(cap or "", _UNKNOWN)[1],
        "note": now.get("note", ""),
        "notes": now.get("notes", []),
        "oom_kills": now.get("oom_kills", 0),
        "caps": now.get("caps", {}),
        "limits": now.get("limits", {}),
        "figures": now.get("figures", {}),
        "changes": [asdict(change) for change in changes(reading.conn, CHANGES)],
    }


def reason_of(cap: str | None, most: int | None) -> str:
    """What binds, in words; `most` is workers.max."""
    return _WORDS.get(cap or "", _UNKNOWN)[0].format(max="not known" if most is None else most)
