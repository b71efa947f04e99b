"""`gsvrctl checkpoint`: make, list, check and restore snapshots of the state database.

All but `restore` work with the daemon up or down; `restore` takes the daemon's lock, so that none starts meanwhile.
Everything heavy is imported by the command that needs it.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gsvrd.cli.common import Group, edge, fail, json_option
from gsvrd.errors import LockHeldError, StateError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gsvrd.cli.gsvrctl import Place
    from gsvrd.store.checkpoints import CheckpointManager

_STOP_IT = "Stop it first: a snapshot can only be restored while no daemon runs."


@click.group(cls=Group)
def checkpoint() -> None:
    """Snapshots of the state database: the daemon makes them by itself, and restores the newest if it is damaged."""


@checkpoint.command()
@json_option
@click.pass_obj
@edge
def create(place: Place, as_json: bool) -> None:
    """Make a snapshot now. Those made by hand are kept apart from the daemon's."""
    with _manager(place) as manager:
        made = manager.create("gsvrctl checkpoint create")
    _print(asdict(made), as_json, "checkpoint")


@checkpoint.command(name="list")
@click.argument("directory", required=False, type=click.Path(exists=True, file_okay=False))
@json_option
@click.pass_obj
@edge
def list_all(place: Place, directory: str | None, as_json: bool) -> None:
    """List the snapshots, newest first; or those in DIRECTORY, the checkpoint_dir of a batch."""
    with _manager(place, directory) as manager:
        known = manager.list()
    _print([asdict(found) for found in known], as_json, "checkpoints")


@checkpoint.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@json_option
@click.pass_obj
@edge
def verify(place: Place, names: tuple[str, ...], as_json: bool) -> None:
    """Read all of the snapshots NAME, or of every one; exits with 65 when one cannot be restored.

    Instead of a name: the file of a snapshot, or a directory with some (the checkpoint_dir of a batch).
    """
    checked = list[dict[str, str]]()
    for asked in names or ("",):
        folder, name = _where(asked)
        with _manager(place, folder) as manager:
            _known(manager, *filter(None, [name]))
            checked += [
                _checked(manager, one) for one in ([name] if name else [found.name for found in manager.list()])
            ]
    _print(checked, as_json, "verified")
    if any(row["problem"] for row in checked):
        raise SystemExit(os.EX_DATAERR)


@checkpoint.command()
@click.argument("name", required=False)
@json_option
@click.pass_obj
@edge
def restore(place: Place, name: str | None, as_json: bool) -> None:
    """Put the snapshot NAME, or the newest good one, in the database's place; the database is set aside.

    Only while no daemon runs. At its next start the daemon looks which tasks have ended since the snapshot. Instead of a
    name: the file of a snapshot, or a directory with some (the checkpoint_dir of a batch): then its newest good one.
    """
    folder, name = _where(name or "")
    with _manager(place, folder) as manager, _no_daemon(place):
        if name is None and (newest := manager.newest_good()) is not None:
            name = newest.name
        if name is None:
            raise StateError("there is no snapshot that can be restored", "See `gsvrctl checkpoint verify`.")
        _known(manager, name)
        restored = manager.restore(name, "gsvrctl checkpoint restore")
    _print(asdict(restored), as_json, "restored")


def _where(asked: str) -> tuple[str | None, str | None]:
    """The directory, None for that beside the database, and the name, None for all or the newest."""
    if os.path.isdir(asked):
        return asked, None
    folder, _, name = asked.rpartition("/")
    return (folder or "/", name) if "/" in asked else (None, name or None)


@contextmanager
def _manager(place: Place, folder: str | None = None) -> Iterator[CheckpointManager]:
    from gsvrd.store.checkpoints import CheckpointManager
    from gsvrd.store.opening import explained

    if not place.places.state.is_dir():
        fail(f"{place.places.home} is no home of a gsvrd", "Name it with --home or GSVRD_HOME.", os.EX_NOINPUT)
    with explained(place.database):
        yield CheckpointManager(place.database, folder=Path(folder) if folder else None)


@contextmanager
def _no_daemon(place: Place) -> Iterator[None]:
    from gsvrd.daemon.service import Lock

    lock = Lock(place.lock)
    try:
        lock.acquire(patience_s=0.0)
        yield
    except LockHeldError as error:
        raise LockHeldError(str(error), _STOP_IT) from error
    finally:
        lock.release()


def _known(manager: CheckpointManager, *names: str) -> None:
    there = {found.name for found in manager.list()}
    for name in names:
        if name not in there:
            fail(f"there is no snapshot {name!r}", "See `gsvrctl checkpoint list`.", os.EX_NOINPUT)


def _checked(manager: CheckpointManager, name: str) -> dict[str, str]:
    try:
        manager.verify(name)
    except StateError as error:
        return {"name": name, "problem": str(error)}
    return {"name": name, "problem": ""}


def _print(facts: Any, as_json: bool, view: str) -> None:
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False, indent=2))
        return
    from gsvrd.cli import views

    getattr(views, view)(facts)
