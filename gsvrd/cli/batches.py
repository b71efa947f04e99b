"""The commands about batches: `gsvrctl batches`, `gsvrctl batch` and `gsvrctl webhooks`. All work with the daemon down.

Reading is done by `store.courses`, changes by `store.steering` and `store.outbox`; a running daemon is then told by its
doorbell. The data that `--json` prints is made here; `bulletin` has the words.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import closing
from dataclasses import asdict
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import click

from gsvrd.cli.common import edge, fail, json_option
from gsvrd.cli.operate import EXIT_SOME, dry_option

if TYPE_CHECKING:
    from gsvrd.cli.gsvrctl import Place
    from gsvrd.store.courses import Course, Courses
    from gsvrd.store.steering import Deed

SCHEMA = 1
_STATES = ("INITIALIZING", "RUNNING", "PAUSED", "COMPLETED", "CANCELLED")
_VERBS = ("pause", "resume", "cancel")
_LETTERS = 20


@click.command()
@click.option(
    "--state",
    type=click.Choice(_STATES, case_sensitive=False),
    metavar="STATE",
    help=f"Only those of one state: {', '.join(_STATES)}.",
)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many, newest first.")
@json_option
@click.pass_obj
@edge
def batches(place: Place, state: str | None, limit: int, as_json: bool) -> None:
    """List the batches: folders, manifests, and loose videos that came together; newest first."""
    from gsvrd.store.courses import open_for_courses
    from gsvrd.store.standing import BatchState

    found: list[Course] = []
    if place.database.exists():
        with closing((courses := open_for_courses(place.database)).conn):
            found = courses.newest(limit, BatchState(state) if state else None)
    _print({"schema": SCHEMA, "batches": [_facts(one) for one in found]}, as_json, "batches")


@click.command()
@click.argument("name")
@click.argument("verb", type=click.Choice(_VERBS), required=False)
@click.option("--number", is_flag=True, help="NAME is a number, whatever batches are called.")
@dry_option
@json_option
@click.pass_obj
@edge
def batch(place: Place, name: str, verb: str | None, number: bool, dry_run: bool, as_json: bool) -> None:
    """Show one batch, or pause, resume or cancel it. NAME is its whole name, or its number.

    A paused batch starts nothing more, what runs of it goes on, and other batches do, too. Cancelled videos stay where they
    are. Exit codes: 0 done, 1 several may be meant or there is nothing to cancel, 66 no such batch.
    """
    from gsvrd.daemon.service import holder

    if verb is None:
        if dry_run:
            raise click.UsageError("--dry-run goes with pause, resume or cancel")
        _show(place, name, number, as_json)
        return
    facts = _steer(place, name, verb, number=number, dry_run=dry_run)
    facts["pid"] = holder(place.lock)
    if facts["done"] and not dry_run:
        from gsvrd.daemon.signals import ring

        ring(place.places.state / "doorbell")
    _print(facts, as_json, "steered")
    if not facts["done"]:
        sys.exit(os.EX_NOINPUT if facts["code"] == "unknown" else EXIT_SOME)


@click.command()
@click.option("--retry", metavar="[ID]", is_flag=False, flag_value="all", help="Send dead messages again, or the one.")
@json_option
@click.pass_obj
@edge
def webhooks(place: Place, retry: str | None, as_json: bool) -> None:
    """What webhooks were and were not told: messages that wait, and dead ones, which were given up.

    With --retry dead ones are sent again. Exit codes: 0 done, 66 there is no dead message of this ID.
    """
    from gsvrd.store.courses import open_for_courses
    from gsvrd.store.outbox import letters, summary

    revived = None if retry is None else _revive(place, None if retry == "all" else retry)
    facts: dict[str, Any] = {"schema": SCHEMA, "revived": revived, "pending": 0, "oldest_at": None, "dead": 0}
    facts |= {"last_dead": None, "waiting": [], "given_up": []}
    if place.database.exists():
        with closing(open_for_courses(place.database).conn) as conn:
            facts |= summary(conn)
            facts |= {"waiting": letters(conn, "pending", _LETTERS), "given_up": letters(conn, "dead", _LETTERS)}
    _print(facts, as_json, "webhooks")


# -- the data --------------------------------------------------------------------------------------------------------------


def _facts(course: Course) -> dict[str, Any]:
    return {**asdict(course), "state": course.state.value}


def _show(place: Place, name: str, number: bool, as_json: bool) -> None:
    from gsvrd.policy.lesson_order import lesson_key
    from gsvrd.store.courses import open_for_courses
    from gsvrd.store.reading import Reading

    with closing((courses := open_for_courses(place.database)).conn):
        found = _meant(courses, name, number=number)
        if len(found) != 1:
            _print(_unclear(found, name, "show", courses), as_json, "steered")
            sys.exit(EXIT_SOME if found else os.EX_NOINPUT)
        progress = (Reading(courses.conn).service("progress") or {}).get("batches", ())
        tasks = sorted(courses.tasks(found[0].number), key=lambda task: lesson_key(task["name"]))
        facts = {
            "schema": SCHEMA,
            **_facts(found[0]),
            "progress": next((one["performance"] for one in progress if one["id"] == found[0].number), None),
            "tasks": tasks,
        }
    _print(facts, as_json, "batch")


def _steer(place: Place, name: str, verb: str, *, number: bool, dry_run: bool) -> dict[str, Any]:
    from gsvrd.store.steering import steering

    with steering(place.database, dry_run=dry_run) as steer:
        found = _meant(steer.courses, name, number=number)
        if len(found) != 1:
            return {**_unclear(found, name, verb, steer.courses), "dry_run": dry_run}
        deed: Deed = getattr(steer, verb)(found[0])
    problem = deed.problem
    return {
        **_answer(name, verb),
        "dry_run": dry_run,
        "done": problem is None,
        "code": problem.code if problem else "done",
        "message": problem.message if problem else deed.note,
        "hint": problem.hint if problem else "",
        "before": found[0].state.value,
        "batch": _facts(deed.after),
        "cancelled": deed.tasks,
    }


def _answer(name: str, verb: str) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "action": verb,
        "dry_run": False,
        "pid": None,
        "asked": os.fsencode(name).decode("utf-8", "backslashreplace"),
        "done": False,
        "before": None,
        "batch": None,
        "cancelled": 0,
        "matches": [],
    }


def _meant(courses: Courses, name: str, *, number: bool) -> list[Course]:
    asked = os.fsencode(name).decode("utf-8", "backslashreplace")
    if not number:
        return courses.meant(asked)
    if not (name.isascii() and name.isdecimal()):
        raise click.UsageError(f"--number: {asked} is none")
    one = courses.one(int(name)) if len(name) < 19 else None
    return [one] if one else []


def _unclear(found: list[Course], name: str, verb: str, courses: Courses) -> dict[str, Any]:
    facts = {**_answer(name, verb), "matches": [_facts(one) for one in found]}
    if found:
        more = {"code": "ambiguous", "message": f"{len(found)} batches may be meant"}
        return {**facts, **more, "hint": "Name it by its number, with --number."}
    near = get_close_matches(name, courses.names(), n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return {**facts, "code": "unknown", "message": "there is no such batch", "hint": f"{hint}See `gsvrctl batches`."}


def _revive(place: Place, only: str | None) -> int:
    from gsvrd.daemon.signals import ring
    from gsvrd.store.opening import explained, open_database
    from gsvrd.store.outbox import revive

    with closing(open_database(place.database, create=False)) as conn, explained(place.database), conn:
        revived = revive(conn, time.time(), only)
    if only is not None and not revived:
        fail(f"there is no dead message {only!r}", "`gsvrctl webhooks` lists them.", os.EX_NOINPUT)
    if revived:
        ring(place.places.state / "doorbell")
    return revived


def _print(facts: dict[str, Any], as_json: bool, view: str) -> None:
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False, indent=2))
        return
    from gsvrd.cli import bulletin

    getattr(bulletin, view)(facts)
