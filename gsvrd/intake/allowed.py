"""Where the rows of a manifest lead: only to videos below the inbox or a directory of `intake.roots`, links seen through.

Called by the daemon's filing thread and by `gsvrctl submit`. Opens nothing and changes nothing. What it finds is true for
the moment: whoever opens a video does it with `open_checked(located.path, located.root, identity)`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass

from gsvrd.config.document import Place, Problem
from gsvrd.intake.manifest import MOST_PROBLEMS, Manifest, Row
from gsvrd.intake.names import NameRules, printable

OUTSIDE = "leads out of the inbox and of the directories in intake.roots"


@dataclass(frozen=True, slots=True)
class Located:
    """A path that may be named."""

    path: bytes
    """Absolute, `root` first; no component below `root` was a link."""
    root: bytes
    """As it was configured."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A row and where it leads; a link leads nowhere on this machine."""

    row: Row
    located: Located | None
    found: os.stat_result | None
    """None for a link, and where nothing lies (yet): a manifest may come before its videos, or before a disk is mounted."""


class Roots:
    """The directories whose videos may be named; the first is the inbox.

    Made anew for each manifest: it remembers where folders lead.
    """

    def __init__(self, inbox: bytes, others: Iterable[bytes] = ()) -> None:
        """All absolute. They may be links themselves: the operator chose them. Looks at the disk."""
        self.inbox = inbox
        self._roots = [(root, os.path.realpath(root)) for root in (inbox, *others)]
        self._folders: dict[bytes, bytes] = {}

    def locate(self, path: bytes) -> Located | None:
        """Where an absolute path leads once its links are followed; None if that is below none of the roots."""
        real = self._real(path)
        for root, real_root in self._roots:
            below = real_root.rstrip(b"/") + b"/"
            if real.startswith(below) and len(real) > len(below):
                return Located(root.rstrip(b"/") + b"/" + real[len(below) :], root)
        return None

    def _real(self, path: bytes) -> bytes:
        """As `realpath`, which is slow; many rows lie in few folders."""
        folder, _, name = path.rpartition(b"/")
        if name in (b"", b".", b".."):
            return os.path.realpath(path)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder or b"/")
        real = self._folders[folder].rstrip(b"/") + b"/" + name
        return os.path.realpath(real) if _is_link(real) else real


def _is_link(path: bytes) -> bool:
    """Raises ValueError when it is no path."""
    try:
        return stat.S_ISLNK(os.lstat(path).st_mode)
    except OSError:
        return False


def resolve_row(row: Row, source: str, folder: bytes, roots: Roots) -> Located | Problem:
    """Where the path of a row leads. Relative ones begin at `folder`, absolute, in which the manifest lies."""
    try:
        located = roots.locate(os.path.join(folder, os.fsencode(row.path)))
    except ValueError:  # NUL or half a surrogate pair: no path at all
        return Problem(Place(source, row.line), "is no path")
    if located is not None:
        return located
    return Problem(Place(source, row.line), f"'{printable(os.fsencode(row.path))}' {OUTSIDE}")


def place_rows(
    manifest: Manifest, source: str, folder: bytes, roots: Roots, rules: NameRules
) -> tuple[tuple[Placed, ...], tuple[Problem, ...]]:
    """The rows that can be used, and what is wrong with the others. `source` is what problems call the manifest.

    Takes some 20 microseconds a row on a local disk and much more on a share: for a thread.
    """
    placed: list[Placed] = []
    problems: list[Problem] = []
    lines: dict[bytes, int] = {}
    wrong = 0
    for row in manifest.rows:
        found = Placed(row, None, None) if row.url else _placed(row, source, folder, roots, rules, lines)
        if isinstance(found, Placed):
            placed.append(found)
            continue
        wrong += 1
        if wrong <= MOST_PROBLEMS:
            problems.append(found)
    if wrong > MOST_PROBLEMS:
        problems.append(Problem(Place(source), f"{wrong - MOST_PROBLEMS:,} more rows are wrong"))
    return tuple(placed), tuple(problems)


def is_away(root: bytes) -> bool:
    """Whether a directory that was configured is missing or empty, as where its file system is not mounted."""
    try:
        with os.scandir(root) as entries:
            return next(entries, None) is None
    except OSError:
        return True


def _placed(
    row: Row, source: str, folder: bytes, roots: Roots, rules: NameRules, lines: dict[bytes, int]
) -> Placed | Problem:
    located = resolve_row(row, source, folder, roots)
    if isinstance(located, Problem):
        return located
    place, shown = Place(source, row.line), printable(os.fsencode(row.path))
    if located.path in lines:
        return Problem(place, f"'{shown}' is the same file as in line {lines[located.path]}")
    found: os.stat_result | None = None
    try:
        found = os.lstat(located.path)
    except (FileNotFoundError, NotADirectoryError):
        if located.root != roots.inbox and not is_away(located.root):
            return Problem(place, f"there is no file '{shown}'{_advice(row)}")
    except OSError as error:
        return Problem(place, f"'{shown}' cannot be looked at: {error.strerror}")
    if wrong := _unfit(located.path, found, rules):
        return Problem(place, f"'{shown}' {wrong}")
    lines[located.path] = row.line
    return Placed(row, located, found)


def _unfit(path: bytes, found: os.stat_result | None, rules: NameRules) -> str:
    if found is not None and stat.S_ISDIR(found.st_mode):
        return "is a directory; name the videos in it, or use `gsvrctl submit DIR`"
    if found is not None and not stat.S_ISREG(found.st_mode):
        return "is no regular file"
    if not rules.is_video(path.rpartition(b"/")[2]):
        return "has not the name of a video; see intake.suffixes and intake.ignore"
    return ""


def _advice(row: Row) -> str:
    return "; write / between folders, not \\" if "\\" in row.path else ""
