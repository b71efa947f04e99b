"""Where the directories of a daemon are, and nothing else: for `gsvrctl`, which must work while the configuration is broken.

No validation and no pydantic: a command that only looks starts in half the time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gsvrd.config.document import read_file

NAMES = ("inbox", "reports", "archive", "failed", "state")
"""The directories; each default is its own name below the home."""


@dataclass(frozen=True, slots=True)
class Places:
    """Absolute directories by name."""

    home: Path
    directories: Mapping[str, Path]

    @property
    def state(self) -> Path:
        """Where database and lock are."""
        return self.directories["state"]


def find_file(home: Path, environ: Mapping[str, str]) -> Path | None:
    """`$GSVRD_CONFIG`, else `config/gsvrd.yaml` in the home if it is there, else None: the defaults."""
    named = environ.get("GSVRD_CONFIG")
    if named:
        return Path(named)
    usual = home / "config" / "gsvrd.yaml"
    return usual if os.path.lexists(usual) else None


def find_places(home: Path, file: Path | None, environ: Mapping[str, str]) -> Places:
    """The directories as file and variables name them; what cannot be understood counts as not written."""
    home = Path(os.path.abspath(home))
    written = _written(file or find_file(home, environ))
    found = {}
    for name in NAMES:
        value = environ.get(f"GSVRD_DIRECTORIES__{name.upper()}") or written.get(name)
        found[name] = home / (value if isinstance(value, str) and value else name)
    return Places(home, found)


def _written(file: Path | None) -> Mapping[str, object]:
    values = read_file(file).values if file else None
    section = values.get("directories") if isinstance(values, dict) else None
    return section if isinstance(section, dict) else {}
