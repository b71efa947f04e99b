"""What `gsvrctl why` tells, as data: which task or file is meant, and everything about it. See `docs/status.md`.

The database is read directly, so it works with the daemon down. Only for a file that has no task is the configuration
read and the file itself looked at, by `looking`, or by `lists` where it is no video; the way of a task is told by `story`,
and `telling` has the words.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsvrd.cli import status as statuses
from gsvrd.cli.lists import Desk, awaited, errors_file, is_list, list_of, options_file
from gsvrd.cli.story import shown, tell
from gsvrd.config.places import Places
from gsvrd.store.reading import Reading, Row
from gsvrd.store.tracing import MOST, Problem, Tracing, brief, open_for_tracing

if TYPE_CHECKING:
    from gsvrd.config.models import Config

SCHEMA = 1
_OURS = ("inbox", "failed", "archive", "reports")
_RECORD = b".error.json"


def why(asked: str, places: Places, database: Path, lock: Path, config_file: Path | None) -> dict[str, Any]:
    """Everything about what `asked` names; `error` says so when that is neither a task nor a file.

    `asked` is a task's number or a file: absolute, relative to the working directory or to the inbox, or the end of a name.
    """
    tracing = open_for_tracing(database) if database.exists() else None
    daemon = statuses.status(Reading(tracing.conn), places, lock) if tracing else statuses.down(places)
    tasks = tracing.named(asked) if tracing else []
    file, path = None, None
    if not (asked.isdecimal() and len(tasks) == 1 and tasks[0]["id"] == int(asked)):
        path = _path(asked, places)
        tasks = _tasks(asked, path, places, tracing) if tracing else []
        if path is not None and os.path.lexists(path) and (not tasks or _is_in_inbox(path, places)):
            file = _file(path, places, tracing, daemon, config_file)
    desk = Desk(places, tracing, lambda: _config(places, config_file)[0], daemon["pid"] is not None)
    listed = None if tasks else list_of(asked, path, desk)
    expected = None if tasks or (path is not None and os.path.lexists(path)) else awaited(asked, path, desk)
    is_known = bool(tasks or file or listed or expected)
    return {
        "schema": SCHEMA,
        "asked": shown(os.fsencode(asked)),
        "daemon": {name: daemon[name] for name in ("state", "reason", "pid")},
        "file": file,
        "list": listed,
        "awaited": expected,
        "task": tell(tasks[0], tracing, daemon, places, config_file) if tasks and tracing else None,
        "others": [brief(task) for task in tasks[1 : MOST + 1]],
        "error": None if is_known else _unknown(asked, places),
    }


def _unknown(asked: str, places: Places) -> dict[str, Any]:
    """With the fields that `retry` and `cancel` have for a word that means nothing."""
    word = shown(os.fsencode(asked))
    return {
        "asked": word,
        "code": "unknown",
        "message": f"there is neither a task nor a file {word!r}",
        "hint": f"Looked for it here, in {places.directories['inbox']} and in `gsvrctl list`.",
        "matches": [],
    }


def _path(asked: str, places: Places) -> bytes | None:
    """The path that is meant, as it is written or below the inbox: rather one that is there, rather one of ours."""
    raw = os.fsencode(asked)
    paths = [os.path.abspath(raw), os.path.abspath(os.path.join(_folder(places, "inbox"), raw))] if raw else []
    there = [path for path in paths if os.path.lexists(path)] or paths
    return next((path for path in there if _whose(path, places)), next(iter(there), None))


def _whose(path: bytes, places: Places) -> tuple[str, bytes] | None:
    """Which of our directories `path` is below, and its name there. Links on the way to either may differ."""
    real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    for name in _OURS:
        folder = _folder(places, name)
        for candidate, root in ((path, folder), (real, os.path.realpath(folder))):
            if candidate.startswith(root.rstrip(b"/") + b"/"):
                return name, candidate[len(root.rstrip(b"/")) + 1 :]
    return None


def _is_in_inbox(path: bytes, places: Places) -> bool:
    whose = _whose(path, places)
    return whose is not None and whose[0] == "inbox"


def _folder(places: Places, name: str) -> bytes:
    return os.fsencode(places.directories[name])


def _tasks(asked: str, path: bytes | None, places: Places, tracing: Tracing) -> list[Row]:
    """Those that may be meant: first the one of this very file, then by name, the newest first."""
    whose = _whose(path, places) if path else None
    found = _of_path(path, *whose, places, tracing) if path and whose else []
    return list({task["id"]: task for task in found + tracing.named(asked)}.values())


def _of_path(path: bytes, folder: str, name: bytes, places: Places, tracing: Tracing) -> list[Row]:
    if folder == "reports":
        return tracing.of_report(name.decode("utf-8", "backslashreplace"))
    source = os.fsdecode(name.removesuffix(_RECORD) if folder == "failed" else name)
    own = tracing.of_file(os.lstat(path)) if folder == "inbox" and os.path.lexists(path) else []
    return own + (tracing.named(os.path.join(places.directories[folder], source)) or tracing.named(source))


def _file(
    path: bytes, places: Places, tracing: Tracing | None, daemon: dict[str, Any], config_file: Path | None
) -> dict[str, Any] | None:
    """Why the file as it is now has no task; None when it has one, when only its name is of interest, or for a list."""
    whose, found = _whose(path, places), os.lstat(path)
    if is_list(path):
        return None
    if whose is None or whose[0] != "inbox":
        problem, trouble = _outside(whose, places), ""
    elif tracing and tracing.of_file(found):
        return None
    else:
        from gsvrd.cli.looking import look

        settings, trouble = _config(places, config_file)
        try:
            problem = (
                options_file(path)
                or errors_file(path)
                or look(whose[1], _folder(places, "inbox"), settings.intake, daemon)
            )
        except OSError as error:  # it vanished, or a folder above it is closed to us
            problem = Problem("unreadable", f"it cannot be looked at: {error.strerror}", "Ask as the daemon's user.")
    return {
        "path": shown(path),
        "size": found.st_size,
        "written_at": found.st_mtime,
        **asdict(problem),
        "configuration": trouble,
    }


def _outside(whose: tuple[str, bytes] | None, places: Places) -> Problem:
    if whose is not None:
        return Problem("no_task", f"it lies in {whose[0]}/, and no task is known for it", "See `gsvrctl list`.")
    hint = f"Copy it there: {places.directories['inbox']}"
    return Problem("outside", "it is not in the inbox, and only what lies there is studied", hint)


def _config(places: Places, config_file: Path | None) -> tuple[Config, str]:
    """The configuration in effect; where it is broken the defaults, and what is wrong with it."""
    from gsvrd.config.load import load
    from gsvrd.config.models import Config
    from gsvrd.errors import ConfigError

    try:
        return load(places.home, config_file, os.environ), ""
    except ConfigError as error:
        return Config(home=places.home), str(error)
