"""Puts the three files of a summary in place: each at once and whole, and never over a file that is somebody else's.

Called by `daemon.summing`. Each file of ours begins with the mark of its batch; what begins otherwise is left alone, and
then all three get a number. What is in place already with the same bytes is not written again. No link below `reports` is
followed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from gsvrd.policy.results import BatchResult
from gsvrd.reports.files import exists, link_new, open_folder, read_regular, write_new
from gsvrd.reports.summary import BASE, folder_of, head, json_head, render_summary, to_json
from gsvrd.reports.summary_plot import plot, svg_head
from gsvrd.reports.write import PREFIX


def write_summary(reports: Path, result: BatchResult) -> Path:
    """Write page, JSON and picture of `result`; the page's path is returned when all is in place for good.

    Raises `NotADirectoryError` when a link or file stands where its folder should be, and `OSError` as the disk does.
    """
    folder = folder_of(result.kind, result.name)
    marks = {
        ".svg": svg_head(result.mark).encode(),
        ".json": json_head(result.mark).encode(),
        ".md": head(result.mark).encode(),
    }
    with open_folder(reports, folder.split("/")) as place:
        base = next(name for name in _names() if all(_is_free(name + end, place, mark) for end, mark in marks.items()))
        files = {
            ".svg": plot(result, result.language).encode(),
            ".json": to_json(result),
            ".md": render_summary(result, result.language, base).encode(),  # last: it shows the picture
        }
        for suffix, data in files.items():
            _put(reports / f"{PREFIX}summary{suffix}", base + suffix, place, data)
        os.fsync(place)
    return reports / folder / f"{base}.md"


def _names() -> Iterator[str]:
    return (BASE if number == 1 else f"{BASE}-{number}" for number in count(1))


def _is_free(name: str, place: int, mark: bytes) -> bool:
    try:
        return read_regular(name, place, len(mark)) == mark
    except FileNotFoundError:
        return True


def _put(temporary: Path, name: str, place: int, data: bytes) -> None:
    is_there = exists(name, place)
    if is_there and read_regular(name, place, len(data) + 1) == data:
        return
    temporary.unlink(missing_ok=True)  # of a daemon that died here
    write_new(temporary, data)
    if is_there:  # ours, as was found; replacing loses nothing of others
        os.replace(temporary, name, dst_dir_fd=place)
    else:
        link_new(temporary, name, place)
        temporary.unlink(missing_ok=True)
