"""`gsvrctl watch`: how the work goes, again and again. Reads the database only, so it works beside and without a daemon.

On a terminal it has a screen of its own until Ctrl-C, and leaves the last picture behind; elsewhere it writes a line at
every change. What is shown is gathered here as data, and drawn by `frames`.
"""

from __future__ import annotations

import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gsvrd.cli.common import edge, fail
from gsvrd.errors import StateError

if TYPE_CHECKING:
    from gsvrd.config.places import Places
    from gsvrd.store.standing import Batch, Standing

EXIT_NO_BATCH = 66
SHOWN = 20
"""The most rows of anything that a picture can have."""


@click.command()
@click.argument("batch", required=False)
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=1.0,
    show_default=True,
    help="Seconds between two looks.",
)
@click.option("--once", is_flag=True, help="Show one picture and end.")
@click.pass_context
@edge
def watch(context: click.Context, batch: str | None, interval: float, *, once: bool) -> None:
    """Watch the work, or one BATCH of it: progress, when it ends and why not sooner, workers, completions and errors.

    Ctrl-C ends it. In a pipe it writes a line at every change.
    """
    from gsvrd.cli import frames

    place = context.obj

    def look() -> dict[str, Any]:
        return gather(place.places, place.database, place.lock, batch)

    if look()["unknown"]:
        fail(f"there is no batch {batch!r}", "`gsvrctl watch` without a name shows all that are open.", EXIT_NO_BATCH)
    screen = frames.console()
    if once:
        screen.print(frames.frame(look(), screen.size))
    elif screen.is_terminal and not screen.is_dumb_terminal:
        _on_a_terminal(look, interval)
    else:
        _in_a_pipe(look, interval)


def _on_a_terminal(look: Callable[[], dict[str, Any]], interval_s: float) -> None:
    from rich.live import Live

    from gsvrd.cli import frames

    screen = frames.console()
    facts = look()
    with _stopping():
        with Live(console=screen, screen=True, auto_refresh=False, transient=True) as live:
            while True:
                live.update(frames.frame(facts, screen.size), refresh=True)
                if not _paused_for(interval_s):
                    break
                facts = look()
        screen.print(frames.frame(facts, screen.size))


def _in_a_pipe(look: Callable[[], dict[str, Any]], interval_s: float) -> None:
    from gsvrd.cli import frames

    before: object = None
    with _stopping():
        while True:
            facts = look()
            if (now := frames.gist(facts)) != before:
                before = now
                click.echo(frames.line(facts))
                sys.stdout.flush()
            if not _paused_for(interval_s):
                return


@contextmanager
def _stopping() -> Iterator[None]:
    """Have Ctrl-C, `kill` and a terminal of another size end the pause, and not the program in the middle of a picture."""
    numbers = {signal.SIGINT, signal.SIGTERM, signal.SIGWINCH}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _paused_for(seconds: float) -> bool:
    """Wait so long, or until the terminal has another size; False when it is time to end."""
    came = signal.sigtimedwait({signal.SIGINT, signal.SIGTERM, signal.SIGWINCH}, seconds)
    return came is None or came.si_signo == signal.SIGWINCH


# -- what is shown -------------------------------------------------------------------------------------------------------


def gather(places: Places, database: Path, lock: Path, word: str | None) -> dict[str, Any]:
    """All that a picture shows, now. `unknown`: there is no batch of that name or number."""
    from gsvrd.cli import status as words
    from gsvrd.store.reading import open_for_reading
    from gsvrd.store.standing import Standing

    if not database.exists():
        return _picture(words.down(places), None, None) | {"unknown": word is not None}
    try:
        reading = open_for_reading(database)
        with closing(reading.conn):
            facts = words.status(reading, places, lock)
            standing = Standing(reading.conn)
            batch = None if word is None else standing.named(word)
            return _picture(facts, standing, batch) | {"unknown": word is not None and batch is None}
    except (sqlite3.Error, StateError) as error:
        facts = words.down(places) | {"reason": f"the database cannot be read now: {error}"}
        return _picture(facts, None, None) | {"unknown": False}


def _picture(facts: dict[str, Any], standing: Standing | None, batch: Batch | None) -> dict[str, Any]:
    progress = facts["progress"] or {}
    shown = {
        "at": time.time(),
        "state": facts["state"],
        "reason": facts["reason"],
        "since": facts["since"],
        "last_sign_at": facts["last_sign_at"],
        "pid": facts["pid"],
        "doors": facts["doors"],
        "workers": facts["workers"],
        "notes": progress.get("notes", []),
        "batch": None,
        "counts": facts["counts"],
        "performance": None,
        "batches": [],
        "running": [],
        "done": [],
        "errors": [],
    }
    if standing is None:
        return shown
    known = {entry["id"]: entry["performance"] for entry in progress.get("batches", ())}
    paused = facts["state"] == "paused" or facts["pause_wish"]
    opened = [] if batch else standing.open_batches()
    running = facts["running"] if facts["pid"] else []
    if batch:
        ours = {row["task"] for row in standing.running() if row["batch"] == batch.id}
        running = [row for row in running if row["task"] in ours]
    whole = batch.counts if batch else _sum(opened, facts["counts"])
    return shown | {
        "batch": None if batch is None else _told(batch, None, paused=paused),
        "counts": whole,
        "performance": known.get(batch.id) if batch else (progress.get("overall") or {}).get("performance"),
        "batches": [_told(one, known.get(one.id), paused=paused) for one in opened],
        "running": running,
        "done": standing.done(SHOWN, batch),
        "errors": standing.failed(SHOWN, batch),
    }


def _sum(batches: list[Batch], counts: dict[str, int]) -> dict[str, int]:
    """What is open, and how much of that has ended; with nothing open, all there ever was."""
    if not counts["pending"] + counts["running"]:
        return counts
    ended = {state: sum(batch.counts[state] for batch in batches) for state in ("completed", "failed", "cancelled")}
    return {**counts, **ended}


def _told(batch: Batch, performance: dict[str, Any] | None, *, paused: bool) -> dict[str, Any]:
    return {
        "id": batch.id,
        "name": batch.name,
        "state": batch.state(paused=paused).value,
        "hold": batch.hold,
        "counts": batch.counts,
        "performance": performance,
    }
