"""How many descriptors the daemon needs. Asked by `daemon.run` at start and by `gsvrctl doctor`."""

from __future__ import annotations

_FILES, _FILES_EACH = 48, 6
"""For itself and for each worker, with some to spare."""


def files_needed(workers: int) -> int:
    """The least RLIMIT_NOFILE to work with."""
    return _FILES + _FILES_EACH * workers
