"""Station: starts, changes and ends what the configuration wants of metrics. Called by `daemon.run`, in the main thread.

While all is off nothing is imported: the client library, HTTP and the threads come with the first wish. A page is made at
most once a second, however many ask, by one thread at a time.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from gsvrd.clock import Clock
from gsvrd.daemon.metrics.settings import MetricsSettings
from gsvrd.daemon.vitals import Vitals
from gsvrd.errors import ConfigError
from gsvrd.store.measuring import Measuring

if TYPE_CHECKING:
    import socket

    from gsvrd.daemon.metrics.listener import Listener
    from gsvrd.daemon.metrics.page import Page
    from gsvrd.daemon.metrics.textfile import Textfile

log = structlog.get_logger("gsvrd.metrics")

FRESH_S = 1.0
"""Whoever asks again so soon gets the same page."""


@dataclass(slots=True)
class Pages:
    """The newest page; may be called from any thread."""

    measuring: Measuring
    vitals: Vitals
    clock: Clock
    settings: MetricsSettings
    _page: Page | None = None
    _text: bytes = b""
    _made_at: float = float("-inf")
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self) -> bytes:
        """Its text, made now or a moment ago; empty when it could not be made."""
        with self._lock:
            if self.clock.monotonic() - self._made_at >= FRESH_S:
                self._text = self._make()
                self._made_at = self.clock.monotonic()
            return self._text

    def _make(self) -> bytes:
        if self._page is None:
            from gsvrd.daemon.metrics.page import Page

            self._page = Page(self.measuring, self.vitals, self.clock)
        try:
            return self._page.text(self.settings)
        except Exception:  # an edge: a fault in a page must end neither the listener nor the file
            log.error("metrics_page", exc_info=True)
            return b""

    def forget(self) -> None:
        """What comes next is made anew."""
        with self._lock:
            self._made_at = float("-inf")


@dataclass(slots=True)
class Station:
    """What listens and what is written."""

    database: Path
    vitals: Vitals
    clock: Clock
    _pages: Pages | None = None
    _listener: Listener | None = None
    _textfile: Textfile | None = None
    _listens_at: tuple[str, int] | Path | None = None
    _writes: tuple[Path, float] | None = None

    def change(self, settings: MetricsSettings) -> None:
        """Do what these settings want from now on. Raises `ConfigError` with nothing changed."""
        wanted = settings.listen
        bound = _bind(wanted) if wanted is not None and wanted != self._listens_at else None
        writes = None if settings.textfile is None else (settings.textfile, settings.textfile_s)
        if wanted != self._listens_at:
            self._hang_up()
        if writes != self._writes:
            self._stop_writing()
        if wanted is None and writes is None:
            return
        pages = self._renew(settings)
        if bound is not None:
            self._listen(bound, settings, pages)
        if writes is not None and writes != self._writes:
            self._write(*writes, pages)

    def close(self) -> None:
        """At the end of the daemon: the file's last words are how it ended."""
        self._hang_up()
        if self._pages is not None:
            self._pages.forget()
        self._stop_writing()

    def _renew(self, settings: MetricsSettings) -> Pages:
        if self._pages is None:
            measuring = Measuring(self.database)
            measuring.begin()
            self._pages = Pages(measuring, self.vitals, self.clock, settings)
        self._pages.settings = settings
        return self._pages

    def _listen(self, bound: socket.socket, settings: MetricsSettings, pages: Pages) -> None:
        from gsvrd.daemon.metrics.listener import Listener

        self._listener = Listener(bound, self.vitals, pages)
        self._listens_at = settings.listen
        log.info("metrics_listen", address=str(bound.getsockname()))

    def _hang_up(self) -> None:
        if self._listener is not None:
            self._listener.close()
        if isinstance(self._listens_at, Path):
            self._listens_at.unlink(missing_ok=True)
        self._listener = self._listens_at = None

    def _write(self, path: Path, every_s: float, pages: Pages) -> None:
        from gsvrd.daemon.metrics.textfile import Textfile

        self._textfile, self._writes = Textfile(path, every_s, pages), (path, every_s)

    def _stop_writing(self) -> None:
        if self._textfile is not None:
            self._textfile.close()
        self._textfile = self._writes = None


def _bind(listen: tuple[str, int] | Path) -> socket.socket:
    from gsvrd.daemon.metrics.listener import bind

    try:
        return bind(listen)
    except OSError as error:
        where = f"unix:{listen}" if isinstance(listen, Path) else f"{listen[0]}:{listen[1]}"
        raise ConfigError(
            f"metrics.listen: nobody can listen at {where}: {error.strerror or error}",
            "Name another port or path, or leave it empty.",
        ) from error
