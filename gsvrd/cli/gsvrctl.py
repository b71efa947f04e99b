"""`gsvrctl`: see and steer a daemon. Everything but the signals works with the daemon down.

Imports no SDK, no watchdog and no decoder; the database is read directly.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from gsvrd import __version__
from gsvrd.cli.batches import batch, batches, webhooks
from gsvrd.cli.checkpoint import checkpoint
from gsvrd.cli.common import EXIT_DOWN, Group, config_option, edge, fail, home_option, json_option
from gsvrd.cli.doctor import doctor
from gsvrd.cli.explain import explain
from gsvrd.cli.operate import cancel, retry, why
from gsvrd.cli.plan import plan
from gsvrd.cli.reload import reload
from gsvrd.cli.service import service
from gsvrd.cli.shells import completion, manual
from gsvrd.cli.submit import submit
from gsvrd.cli.watch import watch
from gsvrd.cli.workers import workers
from gsvrd.config.places import Places, find_places
from gsvrd.model import TaskState

CONFIRM_S = 10.0
"""How long a signal may take to be confirmed; the loop needs milliseconds, a machine under load more."""

_FOR_ALL = frozenset({"service", "doctor", "completion", "manual"})
"""Commands that do not read the database, or tell by themselves when they may not."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the daemon we talk about lives."""

    places: Places

    @property
    def database(self) -> Path:
        """Its database."""
        return self.places.state / "gsvrd.db"

    @property
    def lock(self) -> Path:
        """Its lock."""
        return self.places.state / "lock"


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gsvrctl")
@home_option
@config_option
@click.pass_context
@edge
def main(context: click.Context, home: Path, config_file: Path | None) -> None:
    """See and steer the gsvrd daemon.

    Exit codes: 0 done, 1 some could not, 3 the daemon does not run, 64 usage, 65 damaged state, 66 no such task, file,
    batch or home, 75 no confirmation.
    """
    if not home.is_dir():
        fail(f"there is no directory {home}", "Name the home with --home or GSVRD_HOME.", os.EX_NOINPUT)
    context.obj = Place(find_places(home, config_file, os.environ))
    if context.invoked_subcommand not in _FOR_ALL:
        _see_rights(context.obj.database)


for command in (
    checkpoint,
    why,
    retry,
    cancel,
    submit,
    plan,
    batches,
    batch,
    webhooks,
    watch,
    explain,
    workers,
    service,
    reload,
    doctor,
    completion,
    manual,
):
    main.add_command(command)


@main.command()
@json_option
@click.pass_obj
@edge
def status(place: Place, as_json: bool) -> None:
    """State, reason, counts, running tasks, workers and last errors. Exits with 3 when the daemon does not run."""
    from gsvrd.cli import status as words

    known = place.database.exists()
    facts = words.status(_reading(place), place.places, place.lock) if known else words.down(place.places)
    _print(facts, as_json, "status")
    sys.exit(0 if facts["pid"] else EXIT_DOWN)


@main.command()
@click.pass_obj
@edge
def pause(place: Place) -> None:
    """Start nothing new; running tasks finish. Survives a restart."""
    _steer(place, signal.SIGUSR1, paused=True)


@main.command()
@click.pass_obj
@edge
def resume(place: Place) -> None:
    """Start work again."""
    _steer(place, signal.SIGUSR2, paused=False)


@main.command(name="list")
@click.option("--state", type=click.Choice([state.value for state in TaskState]), help="Only tasks of this state.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many, newest first.")
@json_option
@click.pass_obj
@edge
def list_tasks(place: Place, state: str | None, limit: int, as_json: bool) -> None:
    """List tasks, newest first."""
    tasks = _reading(place).tasks(state, limit) if place.database.exists() else []
    _print(tasks, as_json, "tasks")


@main.command()
@click.argument("task")
@json_option
@click.pass_obj
@edge
def show(place: Place, task: str, as_json: bool) -> None:
    """Everything about one TASK: its number, or the name of its file."""
    reading = _reading(place)
    found = reading.find(task)
    if found is None:
        message, hint = f"there is no task {task!r}", "See `gsvrctl list`."
        if as_json:  # in the shape in which `why` and `retry` say it
            unknown = {"asked": task, "code": "unknown", "message": message, "hint": hint, "matches": []}
            _print({"error": unknown}, as_json, "task")
            sys.exit(os.EX_NOINPUT)
        fail(message, hint, os.EX_NOINPUT)
        return
    found.pop("path")
    facts = {**found, "attempts": reading.attempts(found["id"]), "events": reading.events(found["id"])}
    _print(facts, as_json, "task")


@main.command()
@json_option
@click.pass_obj
@edge
def spend(place: Place, as_json: bool) -> None:
    """What the service was asked and what it cost: today, this month, by model, and what is reserved."""
    from dataclasses import asdict

    from gsvrd.store.ledger import spending

    lines = spending(_reading(place).conn, time.time())
    _print({name: [asdict(line) for line in group] for name, group in lines.items()}, as_json, "spending")


@main.command()
@json_option
@click.pass_obj
@edge
def templates(place: Place, as_json: bool) -> None:
    """List the lesson templates: the shipped ones, and your own in config/templates/."""
    from gsvrd.templates.load import load_templates

    known = load_templates(place.places.home / "config" / "templates").values()
    rows = [{"name": found.name, "version": found.version, "description": found.description} for found in known]
    _print(rows, as_json, "templates")


def _see_rights(database: Path) -> None:
    """Who may not read the database may not steer either. Raises `PermissionError`: this is said before anything else."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.close(os.open(database, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))


def _reading(place: Place) -> Any:
    from gsvrd.store.reading import open_for_reading

    return open_for_reading(place.database)


def _print(facts: Any, as_json: bool, view: str) -> None:
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False, indent=2))
        return
    from gsvrd.cli import views

    getattr(views, view)(facts)


# -- steering ------------------------------------------------------------------------------------------------------------


def _steer(place: Place, number: signal.Signals, *, paused: bool) -> None:
    """Signal, then wait for the daemon's own word in the database; with the daemon down, leave the wish there."""
    from gsvrd.daemon.service import holder

    pid = holder(place.lock)
    word = "paused" if paused else "resumed"
    if pid is None:
        home = place.places.home
        if not place.places.state.is_dir() and not place.places.directories["inbox"].is_dir():
            fail(f"{home} is no home of a gsvrd", "Name it with --home or GSVRD_HOME.", os.EX_NOINPUT)
        _record_wish(place, paused=paused)
        next_state = "paused" if paused else "running"
        click.echo(f"The daemon in {home} does not run; at its next start it will be {next_state}.")
        sys.exit(EXIT_DOWN)
    before = _confirmed_at(place)
    os.kill(pid, number)
    if not _within(CONFIRM_S, lambda: _confirmed_at(place) != before):
        fail(f"the daemon (pid {pid}) did not confirm within {CONFIRM_S:.0f} s", "See its log.", os.EX_TEMPFAIL)
    click.echo(f"The daemon (pid {pid}) is {word}.")


def _confirmed_at(place: Place) -> Any:
    return (_reading(place).service("pause") or {}).get("at")


def _within(seconds: float, condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return met


def _record_wish(place: Place, *, paused: bool) -> None:
    from gsvrd.clock import SystemClock
    from gsvrd.store.opening import open_database
    from gsvrd.store.queue import TaskQueue

    place.places.state.mkdir(mode=0o750, parents=True, exist_ok=True)
    clock = SystemClock()
    queue = TaskQueue(open_database(place.database, create=True), clock, actor="gsvrctl")
    queue.set_service("pause", {"paused": paused, "by": "gsvrctl", "at": clock.wall()})
    queue.commit()
