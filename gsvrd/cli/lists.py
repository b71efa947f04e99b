"""What `gsvrctl why` tells of what is no video: lists of videos, videos that a list names and that have not come, and the
options of a folder. Called by `why`; reads and changes nothing.

Judges with the daemon's own reading of lists and options. `telling` has the words for people.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsvrd.cli.story import shown
from gsvrd.cli.wishes import options_of
from gsvrd.config.places import Places
from gsvrd.intake.names import ERRORS_SUFFIX, MANIFEST_SUFFIXES, OPTIONS_FILE, printable
from gsvrd.store.tracing import Problem, Tracing

if TYPE_CHECKING:
    from gsvrd.config.models import Config
    from gsvrd.intake.manifest import Manifest

MOST = 20
"""At most so many videos and problems of a list are told."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What is looked at."""

    places: Places
    tracing: Tracing | None
    config: Callable[[], Config]
    """Read only when it is wanted; the defaults where it cannot be understood."""
    is_up: bool
    """Whether a daemon runs."""


def is_list(word: bytes) -> bool:
    """Whether it is called like a list of videos."""
    name = os.path.basename(word).lower()
    return name.endswith(MANIFEST_SUFFIXES) and name != OPTIONS_FILE and not name.endswith(ERRORS_SUFFIX)


def list_of(asked: str, path: bytes | None, desk: Desk) -> dict[str, Any] | None:
    """What became, or will become, of a list; None when there is no such list."""
    word = os.fsencode(asked)
    if not is_list(word):
        return None
    there = [path] if path is not None and os.path.lexists(path) else []
    there += [one for one in (_below(desk, folder, word) for folder in ("inbox", "archive")) if os.path.lexists(one)]
    found = there[0] if there else None
    if found is not None and found.startswith(_below(desk, "inbox", b"")):
        return _unread(found, desk)
    return _read(word, found, desk)


def awaited(asked: str, path: bytes | None, desk: Desk) -> dict[str, Any] | None:
    """A video that a list has named and that has not come yet; None when nobody waits for such a one."""
    if desk.tracing is None:
        return None
    row = desk.tracing.awaited(os.fsencode(asked), path)
    if row is None:
        return None
    options = options_of(row["options"], desk.places.home, None)
    origin = f" ({row['batch_name']})" if row["batch_name"] else ""
    why = desk.tracing.why_awaited(printable(row["path"]))
    hint = (
        "It goes on by itself when that ends."
        if why
        else "Put the video there; it then gets what the list says for it."
    )
    return {
        "path": shown(row["path"]),
        "batch": row["batch"],
        "batch_name": row["batch_name"],
        "message": f"a list{origin} names it, and {why or 'it has not come yet'}",
        "hint": hint,
        "options": options,
    }


def options_file(path: bytes) -> Problem | None:
    """What a folder's `gsvrd.yaml` says and what is wrong with it; None for any other file."""
    if os.path.basename(path).lower() != OPTIONS_FILE:
        return None
    from gsvrd.config.document import read_file
    from gsvrd.config.options import parse_options

    document = read_file(os.fsdecode(path))
    document.source = os.path.basename(document.source)
    options, problems = parse_options(document)
    if problems:
        what = "; ".join(str(problem) for problem in problems)
        return Problem("options_wrong", f"it holds options, and they are wrong: {what}", "Its batch waits until then.")
    said = ", ".join(sorted(options.model_fields_set)) or "nothing"
    message = f"it is no video: it holds options for the videos in its folder and says {said}"
    return Problem("options", message, "`gsvrctl why VIDEO` tells what each of them got from it.")


def errors_file(path: bytes) -> Problem | None:
    """What is said of the file beside a list that has its errors; None for any other file."""
    if not os.path.basename(path).lower().endswith(ERRORS_SUFFIX):
        return None
    hint = "Mend the list and drop it again; this file goes when all is well."
    return Problem("list_errors", "it is no video: it says what was wrong with a list", hint)


# -- lists ---------------------------------------------------------------------------------------------------------------


def _unread(path: bytes, desk: Desk) -> dict[str, Any]:
    """It lies in the inbox: what the daemon will read in it."""
    from gsvrd.intake.allowed import Roots, place_rows
    from gsvrd.intake.manifest import is_note, read_bytes
    from gsvrd.intake.names import NameRules

    config = desk.config()
    rules = NameRules(config.intake.suffixes, config.intake.ignore)
    data = read_bytes(os.fsdecode(path))
    if path.lower().endswith(b".txt") and isinstance(data, bytes) and is_note(data, rules):
        hint = "In a list every line is the path of a video or a link."
        return _told(path, Problem("note", "it is somebody's notes and left alone", hint))
    manifest = _manifest(path)
    roots = Roots(os.fsencode(config.inbox), [os.fsencode(root) for root in config.roots])
    name = shown(os.path.basename(path))
    placed, problems = place_rows(manifest, name, os.path.dirname(path), roots, rules)
    wrong = [*manifest.problems, *problems]
    hint = "It is read when nobody writes to it any more." if desk.is_up else "It is read at the daemon's next start."
    message = f"it is a list that was not read yet: {len(placed)} rows can be done, {len(wrong)} are wrong"
    return _told(path, Problem("list_waits", message, hint), problems=[f"{one}" for one in wrong[:MOST]])


def _read(word: bytes, path: bytes | None, desk: Desk) -> dict[str, Any] | None:
    """It was read: what its batch is, who of it has not come, and what was wrong."""
    stem = shown(os.path.splitext(os.path.basename(word))[0])
    name = _manifest(path).name if path is not None else stem
    batch = desk.tracing.listed(name) if desk.tracing else None
    errors = _errors(word, desk)
    if batch is None and path is None and errors is None:
        return None
    problems = [line for line in errors.read_text(errors="replace").splitlines() if line] if errors else []
    if batch is None:
        refused = Problem("list_refused", "nothing of it could be done", "Mend it and drop it again.")
        unknown = Problem("list_unknown", "no batch comes from it", "`gsvrctl submit` hands a list in.")
        return _told(path, refused if problems else unknown, errors, problems[:MOST])
    missing = desk.tracing.missing(batch["number"]) if desk.tracing else []
    message = f"it was read and is the batch {batch['name']}"
    if missing:
        message += f"; {len(missing)} of its videos have not come yet"
    if problems:
        message += f"; {len(problems)} of its rows were wrong"
    told = _told(
        path, Problem("list_read", message, f"See `gsvrctl batch {batch['number']}`."), errors, problems[:MOST]
    )
    return {**told, "batch": batch["number"], "missing": [shown(one) for one in missing[:MOST]]}


def _told(path: bytes | None, problem: Problem, errors: Path | None = None, problems: Any = ()) -> dict[str, Any]:
    return {
        "path": shown(path) if path is not None else None,
        "code": problem.code,
        "message": problem.message,
        "hint": problem.hint,
        "batch": None,
        "missing": [],
        "errors": str(errors) if errors else None,
        "problems": list(problems),
    }


def _manifest(path: bytes) -> Manifest:
    from gsvrd.intake.manifest import read_bytes, read_manifest

    data = read_bytes(os.fsdecode(path))
    named = Path(os.path.basename(os.fsdecode(path)))
    return read_manifest(named, data) if isinstance(data, bytes) else read_manifest(Path(os.fsdecode(path)))


def _errors(word: bytes, desk: Desk) -> Path | None:
    """The file with the errors, which lies beside where the list lay."""
    from gsvrd.intake.manifest_errors import errors_path

    whole = os.path.abspath(os.fsdecode(word))
    candidates = [Path(whole), Path(os.fsdecode(_below(desk, "inbox", word)))]
    archive = str(desk.places.directories["archive"])
    if whole.startswith(f"{archive}/"):
        candidates.append(desk.places.directories["inbox"] / whole[len(archive) + 1 :])
    return next((beside for one in candidates if (beside := errors_path(one)).is_file()), None)


def _below(desk: Desk, folder: str, word: bytes) -> bytes:
    return os.path.join(os.fsencode(desk.places.directories[folder]), word)
