"""`<manifest>.errors.txt`: what is wrong with a manifest, where its author looks. Written by the filing thread."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from gsvrd.config.document import Place, Problem, printable

ENDING = ".errors.txt"
_NAME_BYTES = 255 - len(ENDING)


def errors_path(manifest: Path) -> Path:
    """Beside the manifest."""
    name = os.fsencode(manifest.name)[:_NAME_BYTES] + os.fsencode(ENDING)
    return manifest.with_name(os.fsdecode(name))


def write_errors(manifest: Path, problems: Iterable[Problem], target: Path | None = None) -> None:
    """Write each problem on a line as compilers do; without any, the file of an earlier reading goes.

    The manifest is called by its name alone: it lies beside this file, and both may be moved.
    Replaced in one step, and left alone when it says the same already, so that nobody who watches the folder is woken.
    Raises OSError.
    """
    target = target or errors_path(manifest)
    data = "".join(f"{_beside(manifest, problem)}\n" for problem in problems).encode(errors="backslashreplace")
    if not data:
        target.unlink(missing_ok=True)
    elif not _says(target, data):
        _replace(target, data)


def _beside(manifest: Path, problem: Problem) -> Problem:
    if problem.place.source != printable(os.fspath(manifest)):
        return problem
    return Problem(Place(printable(manifest.name), problem.place.line), problem.what)


def _says(target: Path, data: bytes) -> bool:
    with contextlib.suppress(OSError):
        descriptor = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as stream:
            return stream.read(len(data) + 1) == data
    return False


def _replace(target: Path, data: bytes) -> None:
    temporary = target.with_name(f".gsvrd-{secrets.token_hex(8)}.part")
    try:
        with open(temporary, "xb") as stream:  # never through a link that somebody put there
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
