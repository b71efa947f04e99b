"""The machine, for `gsvrctl doctor`: versions, open files, clock, what the analyzer needs."""

from __future__ import annotations

import ctypes
import importlib.util
import platform
import resource
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from gsvrd import __version__
from gsvrd.cli.finding import Finding, error, good, note
from gsvrd.daemon.openfiles import files_needed

if TYPE_CHECKING:
    from gsvrd.config.models import Config

_SQLITE = (3, 38, 0)
"""Strict tables, and what the daemon asks of JSON and time."""
_TIMEX_BYTES, _TIME_ERROR = 1024, 5
_RELEASED = 1_790_000_000.0
"""Before that there was no gsvrd."""


def look(pid: int | None, config: Config | None) -> Iterator[Finding]:
    """`pid` is the daemon's."""
    yield _versions()
    if config is not None:
        yield _open_files(pid, config.workers.most)
        yield from _analyzer(config)
    yield _clock()


def _versions() -> Finding:
    words = f"gsvrd {__version__}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    if sqlite3.sqlite_version_info < _SQLITE:
        return error("versions", words, f"gsvrd needs SQLite {'.'.join(map(str, _SQLITE))} or newer.")
    return good("versions", words)


def _open_files(pid: int | None, workers: int) -> Finding:
    needed = files_needed(workers)
    try:
        limits = resource.prlimit(pid or 0, resource.RLIMIT_NOFILE)
    except (PermissionError, ProcessLookupError):
        return note("open_files", "the daemon's limit of open files cannot be seen", "Look as the daemon's user.")
    hard = limits[1]
    words = f"{'any number of' if hard == resource.RLIM_INFINITY else hard} files may be open, {needed} are needed"
    if hard != resource.RLIM_INFINITY and hard < needed:
        return error("open_files", words, "Raise it (ulimit -Hn, or LimitNOFILE= in the unit), or lower workers.max.")
    return good("open_files", words)


def _analyzer(config: Config) -> Iterator[Finding]:
    from gsvrd.daemon.settings import analyzer_of

    if analyzer_of(config) != "local":
        return
    wanted = {"rapidocr": config.analyzer.local.slide_text, "faster_whisper": config.analyzer.local.speech}
    missing = [name for name, is_wanted in wanted.items() if is_wanted and importlib.util.find_spec(name) is None]
    if missing:
        hint = "pip install 'gsvrd[local]', or set analyzer.local.speech and slide_text to false."
        yield error("analyzer", f"the local analyzer lacks {', '.join(missing)}", hint)
    else:
        yield good("analyzer", "the local analyzer has what it needs")


def _clock() -> Finding:
    """Whether the time is plausible, and kept by somebody."""
    if time.time() < _RELEASED:
        return error("clock", "the clock is years behind", "Set it (timedatectl): days of quotas and waits go by it.")
    try:
        is_kept = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)) != _TIME_ERROR
    except AttributeError:
        return note("clock", "nobody can say whether the clock is kept")
    if not is_kept and not Path("/run/systemd/timesync/synchronized").exists():
        hint = "Have it kept (timedatectl set-ntp true); in a container that is the host's business."
        return note(
            "clock",
            f"the clock is {time.strftime('%Y-%m-%d %H:%M %Z')}, and the kernel knows of nobody who keeps it",
            hint,
        )
    return good("clock", f"the clock is kept: {time.strftime('%Y-%m-%d %H:%M %Z')}")
