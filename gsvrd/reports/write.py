"""The way of a report onto the disk: made whole beside its place by the worker, published by the daemon.

    worker   write_report   reports/.gsvrd-<task>-<attempt>/   report.md + assets/, all on disk
    parent   publish        reports/<name>.assets, then reports/<name>.md, then the temporary directory goes
    parent   unpublish      takes a report away again whose task was cancelled meanwhile
    start    sweep          removes temporary directories that nobody will publish any more

Who may call: see above. `publish` may be interrupted anywhere and called again with the same arguments; it never
touches a file that is not the owner's, and never follows a link below `reports`. Pictures go first, so a report that
can be seen is whole. What a report is about is none of this module's business.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Mapping
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import yaml

from gsvrd.crashpoints import reach
from gsvrd.reports.escape import link_target
from gsvrd.reports.files import (
    copy_new,
    exists,
    holds_only_copies,
    link_new,
    move_directory,
    open_folder,
    read_regular,
    sync_directory,
    write_new,
)
from gsvrd.reports.naming import assets_name, failure_name

PREFIX = ".gsvrd-"
REPORT = "report.md"
ASSETS = "assets"
_RETIRED = "retired-assets"
_HEAD_BYTES = 64 * 1024
"""Front matter of ours is far shorter."""
_WHOLE_BYTES = 64 * 1024 * 1024
"""No report, record or picture of ours is longer; a longer file is somebody else's."""
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_TASK = re.compile(
    r"""^task:[ \t]*(?:(?P<quoted>"(?:[^"\\\n]|\\.)*"|'[^'\n]*')|(?P<plain>[^\s"'][^\n]*?))[ \t\r]*$""", re.MULTILINE
)
"""Only this line of the front matter is looked at, and as a scalar: the file may be anybody's."""


def temporary_directory(reports: Path, task: int, attempt: int) -> Path:
    """Where an attempt lays its report before it is published: on the same file system, hidden, known to `sweep`."""
    return reports / f"{PREFIX}{task}-{attempt}"


def write_report(directory: Path, name: str, text: str, assets: Path) -> None:
    """Write `text` and the pictures it shows from `assets` into the new temporary `directory`, and bring them to disk.

    `name` is the report's, as `naming.report_name` gave it: the text's links begin with its assets directory.
    What an earlier try left in `directory` is removed. Raises `ValueError` when `directory` is no temporary name of
    ours, `FileNotFoundError` when a picture is missing, and `OSError` as the disk does.
    """
    if not directory.name.startswith(PREFIX):
        raise ValueError(f"{directory.name!r} is no temporary directory of ours")
    if directory.is_symlink() or directory.exists():
        shutil.rmtree(directory)
    directory.mkdir()
    data = text.encode()
    if pictures := _pictures(data, name):
        (directory / ASSETS).mkdir()
        for picture in sorted(pictures):
            copy_new(assets / picture, directory / ASSETS / picture)
        sync_directory(directory / ASSETS)
    write_new(directory / REPORT, data)
    reach("worker.written")
    sync_directory(directory)


def publish(temporary: Path, reports: Path, name: str, owner: str) -> Path:
    """Move a written report to `reports/name`; the path is returned when it is there for good.

    An earlier report of the same `owner` (the `task` of its front matter) is replaced in one step. Raises
    `FileExistsError` when somebody else's file or pictures are in the way (nothing was changed: choose another name
    and render again), `NotADirectoryError` when a link or file stands where a folder should be, `FileNotFoundError`
    when there is neither a temporary report nor a published one of this owner.
    """
    reach("publish.begun")
    place = PurePosixPath(name)
    if place.is_absolute() or ".." in place.parts or place.suffix != ".md" or not owner:
        raise ValueError(f"cannot publish {name!r} for {owner!r}")
    with open_folder(reports, place.parts[:-1]) as folder:
        published = _owner(place.name, folder)
        if (temporary / REPORT).exists():
            if published not in (None, owner):
                raise FileExistsError(errno.EEXIST, "the file is not this task's report", str(reports / place))
            _place_assets(temporary, place.name, folder)
            reach("publish.pictures")
            _place_report(temporary, place.name, folder)
            reach("publish.linked")
        elif published != owner:
            raise FileNotFoundError(errno.ENOENT, "no report to publish", str(temporary))
        os.fsync(folder)
    reach("publish.synced")
    if temporary.exists():
        shutil.rmtree(temporary)
    return reports / place


def unpublish(reports: Path, name: str, owner: str) -> bool:
    """Take a published report and the pictures it shows away again; False when there is none of this owner's."""
    path = reports / name
    if not is_ours(path, owner):
        return False
    with open_folder(path.parent) as folder:
        pictures = _earlier_pictures(path.name, folder)
        os.unlink(path.name, dir_fd=folder)
        if pictures and exists(assets_name(path.name), folder):
            shutil.rmtree(assets_name(path.name), dir_fd=folder)
        os.fsync(folder)
    return True


def is_ours(path: Path, owner: str) -> bool:
    """Whether `path` is a report whose front matter names `owner` as its task."""
    try:
        with open_folder(path.parent) as folder:
            return _owner(path.name, folder) == owner
    except (FileNotFoundError, NotADirectoryError):
        return False


def owner_of(path: Path) -> str:
    """The task that the front matter of a report names; empty when `path` is no report of ours."""
    with open_folder(path.parent) as folder:
        return _owner(path.name, folder) or ""


def sweep(directory: Path, keep: Collection[str] = ()) -> list[Path]:
    """Remove what interrupted attempts left directly in `directory` (`reports` or `failed`), but the names in `keep`.

    Only for a daemon that holds the lock and has no worker yet. Returns what is gone.
    """
    gone = []
    with os.scandir(directory) as entries:
        strays = [entry for entry in entries if entry.name.startswith(PREFIX) and entry.name not in keep]
    for entry in strays:
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
        gone.append(Path(entry.path))
    return sorted(gone)


def write_failure(failed: Path, name: str, record: Mapping[str, Any]) -> Path:
    """Write `record` as `<name>.error.json` into `failed`; the path is returned when it is there for good.

    `name` is the failed source's file name. `record` must hold `task`: a record of the same task is replaced, one of
    another task is left alone and the new one gets a number. Stray bytes in names survive as JSON escapes.
    """
    task = str(record["task"])
    data = json.dumps(record, ensure_ascii=False, indent=2).encode(errors="backslashreplace") + b"\n"
    temporary = failed / f"{PREFIX}{hashlib.sha256(task.encode(errors='surrogatepass')).hexdigest()[:16]}.json"
    # Unlinked, never truncated: after a crash it may be a second name of a published record.
    temporary.unlink(missing_ok=True)
    write_new(temporary, data)
    reach("failure.written")
    return _place_failure(temporary, failed, name, task)


def remove_failure(failed: Path, name: str, task: str) -> bool:
    """Take the record of `task` about a source called `name` away; False when there is none."""
    with open_folder(failed) as folder:
        for number in count(1):
            target = failure_name(name, number)
            if not exists(target, folder):
                return False
            if _record_task(target, folder) == task:
                os.unlink(target, dir_fd=folder)
                os.fsync(folder)
                return True
    raise AssertionError  # the numbers do not end


def _place_assets(temporary: Path, name: str, folder: int) -> None:
    """Pictures of `name` into place; those of an earlier report, or of an attempt that died here, step aside."""
    assets = assets_name(name)
    waiting = (temporary / ASSETS).exists()
    moved_already = not waiting and _pictures((temporary / REPORT).read_bytes(), name)
    known = _earlier_pictures(name, folder) or (waiting and holds_only_copies(assets, folder, temporary / ASSETS))
    if known and not moved_already and exists(assets, folder):
        move_directory(assets, temporary / _RETIRED, source_in=folder)
    if waiting:
        move_directory(temporary / ASSETS, assets, target_in=folder)
        os.fsync(folder)


def _earlier_pictures(name: str, folder: int) -> set[str]:
    """Those that the published report shows, which is ours as `publish` found; a directory it does not show is not."""
    try:
        return _pictures(read_regular(name, folder, _WHOLE_BYTES) or b"", name)
    except FileNotFoundError:
        return set()


def _place_report(temporary: Path, name: str, folder: int) -> None:
    if exists(name, folder):  # ours, as `publish` found; replacing loses nothing of others
        os.replace(temporary / REPORT, name, dst_dir_fd=folder)
    else:
        link_new(temporary / REPORT, name, folder)


def _place_failure(temporary: Path, failed: Path, name: str, task: str) -> Path:
    with open_folder(failed) as folder:
        for number in count(1):
            target = failure_name(name, number)
            try:
                link_new(temporary, target, folder)
            except FileExistsError:
                if _record_task(target, folder) != task:
                    continue
                os.replace(temporary, target, dst_dir_fd=folder)
            break
        reach("failure.linked")
        temporary.unlink(missing_ok=True)
        os.fsync(folder)
    return failed / target


def _owner(name: str, folder: int) -> str | None:
    """Whose report `name` is: a task, "" for a file that is none of ours, `None` when there is nothing."""
    try:
        head = (read_regular(name, folder, _HEAD_BYTES) or b"").decode(errors="replace")
    except FileNotFoundError:
        return None
    end = head.find("\n---\n")
    if not head.startswith("---\n") or end < 0:
        return ""
    found = _TASK.search(head, 0, end + 1)
    if found is None:
        return ""
    return found["plain"] or str(yaml.safe_load(found["quoted"]))


def _record_task(name: str, folder: int) -> str:
    """The task a failure record is about; "" when the file is none of ours."""
    try:
        record = json.loads(read_regular(name, folder, _WHOLE_BYTES) or b"")
    except (ValueError, RecursionError):
        return ""
    return str(record.get("task", "")) if isinstance(record, dict) else ""


def _pictures(report: bytes, name: str) -> set[str]:
    """Names of the files that the report shows from its assets directory.

    Text from a video cannot add one: `escape` leaves no `](` in it. Raises `ValueError` for a name with a folder.
    """
    start = link_target(PurePosixPath(assets_name(name)).name)
    targets = _LINK.findall(report.decode())
    names = {unquote(target.removeprefix(f"{start}/")) for target in targets if target.startswith(f"{start}/")}
    if any("/" in file or file.startswith(".") for file in names):
        raise ValueError(f"a picture of {name!r} lies outside its directory")
    return names
