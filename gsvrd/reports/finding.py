"""Which reports and failure records of ours there are, asked of the files alone: for a start after the database was lost
in part. Called by `daemon.reconciling`; changes nothing, follows no link.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gsvrd.reports.files import open_folder, read_regular
from gsvrd.reports.write import PREFIX, owner_of

_RECORD_BYTES = 1 << 20


def published(reports: Path) -> dict[str, str]:
    """The name of each report of ours below `reports`, by its owner."""
    return {owner: path.relative_to(reports).as_posix() for path in _files(reports, ".md") if (owner := owner_of(path))}


def failures(failed: Path) -> list[Mapping[str, Any]]:
    """What each failure record below `failed` says."""
    return [record for path in _files(failed, ".error.json") if (record := _record(path))]


def _files(root: Path, suffix: str) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(PREFIX)]
        yield from (Path(folder, name) for name in names if name.endswith(suffix))


def _record(path: Path) -> dict[str, Any]:
    with open_folder(path.parent) as folder:
        data = read_regular(path.name, folder, _RECORD_BYTES) or b""
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}
