"""What was asked for one video, as data for `gsvrctl why`: each option, its value, and where it was said.

Read from the task's row and, for what nobody has said nearer, from the configuration file as it is now. No validation and
no pydantic; options that are said nowhere have their defaults and are left out.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gsvrd.config.document import Keys, read_file
from gsvrd.config.places import find_file

_SETTINGS: dict[str, Keys] = {
    "template": ("template",),
    "language": ("language",),
    "output_pattern": ("output_pattern",),
    "timeout": ("workers", "timeout"),
    "max_retries": ("retry", "max_retries"),
    "max_duration": ("analyzer", "gemini", "max_duration"),
    "cost_limit": ("analyzer", "gemini", "cost_limit_batch"),
    **{
        name: ("batch", name)
        for name in (
            "skip_existing",
            "dry_run",
            "parallel",
            "retry_failed",
            "progress_file",
            "webhook_url",
            "checkpoint_dir",
            "checkpoint_interval",
        )
    },
}
"""Where the configuration says it; docs/batches.md has the same table."""
_ADDRESS = "webhook_url"


def options_of(said: str, home: Path, config_file: Path | None) -> list[dict[str, Any]]:
    """`name`, `value` and `origin` of each option that was said for a video; `said` is the JSON of its row.

    Values of the configuration are as they are written there. Of an address only scheme and host are told.
    """
    nearest = {name: (value, origin) for name, (value, origin) in json.loads(said or "{}").items()}
    found = {**_configured(home, config_file), **nearest}
    return [
        {"name": name, "value": _host(value) if name == _ADDRESS else value, "origin": origin}
        for name, (value, origin) in sorted(found.items())
    ]


def _configured(home: Path, config_file: Path | None) -> dict[str, tuple[Any, str]]:
    file = config_file or find_file(home, os.environ)
    if file is None:
        return {}
    document = read_file(file)
    found = {}
    for name, keys in _SETTINGS.items():
        value: Any = document.values
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, str) and keys in document.places:
            found[name] = (value, str(document.places[keys]))
    return found


def _host(address: Any) -> str:
    """What follows may be a key."""
    try:
        parts = urlsplit(str(address))
        return f"{parts.scheme}://{parts.hostname}" if parts.hostname else ""
    except ValueError:
        return ""
