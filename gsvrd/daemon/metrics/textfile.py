"""The page of metrics as a file for node_exporter's textfile collector, replaced in one step every so many seconds."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import structlog

log = structlog.get_logger("gsvrd.metrics")

CLOSE_S = 2.0


class Textfile:
    """Writes from the moment it is made, in a thread of its own, and once more when it is closed."""

    def __init__(self, path: Path, every_s: float, page: Callable[[], bytes]) -> None:
        self._path = path
        self._every_s = every_s
        self._page = page
        self._problem = ""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics-file", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write the last page, unless the disk hangs."""
        self._over.set()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while True:
            is_last = self._over.is_set()
            self._write()
            if is_last:
                return
            self._over.wait(self._every_s)

    def _write(self) -> None:
        """Said in the log when it begins to fail and not again: it is tried anew soon."""
        problem = ""
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")  # node_exporter reads *.prom alone
        try:
            if not (page := self._page()):
                return  # it is in the log
            temporary.write_bytes(page)
            temporary.chmod(0o644)  # another user's exporter reads it, and it holds no secret
            temporary.replace(self._path)
        except OSError as error:
            problem = f"{self._path} cannot be written: {error.strerror or error}"
            with contextlib.suppress(OSError):
                temporary.unlink()
        if problem and problem != self._problem:
            log.warning("metrics_file", problem=problem)
        self._problem = problem
