"""Is the open database still the file at its path? Asked by the daemon before each transaction and every few seconds.

SQLite goes on with a file that was removed or replaced: what is written then is in no file anybody will ever open.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from gsvrd.errors import StateDiskError


@dataclass(slots=True)
class Presence:
    """Made right after the database was opened."""

    path: Path
    _known: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        """Remember which file it is. Raises OSError."""
        self._known = self._found()

    def check(self) -> None:
        """Raises `StateDiskError` when another file or none is at the path; other trouble with it is not for here."""
        try:
            what = "" if self._found() == self._known else "was replaced by another file"
        except FileNotFoundError:
            what = "was removed"
        except OSError:
            return
        if what:
            raise StateDiskError(
                f"the database {self.path} {what} while the daemon ran",
                "Start the daemon: it takes the file that is there, or restores the newest snapshot.",
            )

    def _found(self) -> tuple[int, int]:
        found = self.path.stat()
        return found.st_dev, found.st_ino
