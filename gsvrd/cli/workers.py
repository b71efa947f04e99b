"""`gsvrctl workers N|auto`: name the number of workers by hand, or give it back. Holds over
restarts, works with the daemon down.
"""

from __future__ import annotations

import json
import os
from typing import Any

import click

from gsvrd.cli.common import edge, fail, json_option

SCHEMA = 1
_AUTO = "auto"
_MOST = 64


class _Number(click.ParamType[int | None]):
    """`auto`, or how many."""

    name = "N|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """See click."""
        if value == _AUTO:
            return None
        if not str(value).isdecimal() or not 1 <= int(value) <= _MOST:
            none = "; to start nothing, `gsvrctl pause`" if value == "0" else ""
            self.fail(f"{value!r} is neither auto nor a number from 1 to {_MOST}{none}", param, ctx)
        return int(value)


@click.command()
@click.argument("number", metavar="N|auto", type=_Number())
@json_option
@click.pass_obj
@edge
def workers(place: Any, number: int | None, as_json: bool) -> None:
    """Have N workers from now on, or as many as the program finds right (auto).

    workers.min and workers.max of the configuration hold first: a larger N is kept and counts once workers.max allows it.
    """
    facts = _named(place, number)
    click.echo(json.dumps(facts, ensure_ascii=False, indent=2) if as_json else _told(facts))


def _named(place: Any, number: int | None) -> dict[str, Any]:
    from gsvrd.clock import SystemClock
    from gsvrd.daemon.service import holder
    from gsvrd.daemon.signals import ring
    from gsvrd.store.decisions import HAND, NOW
    from gsvrd.store.opening import open_database
    from gsvrd.store.operating import ACTOR
    from gsvrd.store.queue import TaskQueue

    if not place.places.state.is_dir() and not place.places.directories["inbox"].is_dir():
        fail(f"{place.places.home} is no home of a gsvrd", "Name it with --home or GSVRD_HOME.", os.EX_NOINPUT)
    place.places.state.mkdir(mode=0o750, parents=True, exist_ok=True)
    clock = SystemClock()
    queue = TaskQueue(open_database(place.database, create=True), clock, actor=ACTOR)
    now = queue.service(NOW)
    queue.set_service(HAND, {"workers": number, "by": ACTOR, "at": clock.wall()})
    queue.commit()
    ring(place.places.state / "doorbell")
    known = now if isinstance(now, dict) else {}
    return {
        "schema": SCHEMA,
        "pid": holder(place.lock),
        "hand": number,
        "min": known.get("min"),
        "max": known.get("max"),
    }


def _told(facts: dict[str, Any]) -> str:
    hand, least, most = facts["hand"], facts["min"], facts["max"]
    when = "from now on" if facts["pid"] else "from its next start on"
    if hand is None:
        return f"The daemon finds the number of workers by itself {when}."
    words = f"{hand} {'worker' if hand == 1 else 'workers'} {when}, until `gsvrctl workers auto`."
    if most is not None and hand > most:
        return f"{words} But workers.max is {most}: {most} until that is raised."
    if least is not None and hand < least:
        return f"{words} But workers.min is {least}: {least} until that is lowered."
    return words
