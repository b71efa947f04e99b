"""GeminiAnalyzer: one instance a worker, its client made at the first video. Made by `registry`."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Set
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import structlog
from pydantic import ValidationError

from gsvrd.analysis import Analysis
from gsvrd.analyzers.base import GovernedBench, Workbench
from gsvrd.analyzers.gemini import sdk
from gsvrd.analyzers.gemini.keys import read_key
from gsvrd.analyzers.gemini.service import Capability, Endpoint, GeminiService, ServiceFault
from gsvrd.analyzers.gemini.settings import GeminiSettings
from gsvrd.errors import ErrorKind, Snooze, TaskError
from gsvrd.model import REMOTE_STAGE

if TYPE_CHECKING:
    from gsvrd.analyzers.gemini.study import LessonTemplate
    from gsvrd.analyzers.gemini.upload import Uploader
    from gsvrd.templates.model import ModelSettings

log = structlog.get_logger("gsvrd.gemini")

_FINAL = frozenset({ErrorKind.REQUEST, ErrorKind.BLOCKED, ErrorKind.UNREADABLE, ErrorKind.TOO_LARGE})
"""After these nothing is tried again, so the file at the service is of no more use."""


_WITHOUT_LEVELS = re.compile(r"gemini-[12]\b")
"""Models that count their thinking in tokens and refuse a level."""


class GeminiAnalyzer:
    """Asks Gemini. One instance lives as long as its worker; its client is made at the first video, never before."""

    name = "gemini"
    takes_links = True

    def __init__(
        self,
        settings: GeminiSettings,
        template: LessonTemplate,
        values: Mapping[str, object] | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """`values` are the template's parameters. Raises `ConfigError` if no SDK can do what the settings ask for."""
        self._sdk = sdk.check(settings)
        self._settings = _completed(settings, template.model, sdk.capabilities(self._sdk))
        self._template = template
        self._values = values or {}
        self._pause = pause
        self._connected: tuple[GeminiService, Uploader] | None = None

    def analyze(self, bench: Workbench) -> Analysis:
        """Study the video; `bench` is a `GovernedBench`. Raises `TaskError` and `Snooze`."""
        from gsvrd.analyzers.gemini.classify import error_of
        from gsvrd.analyzers.gemini.film import Film, Reference
        from gsvrd.analyzers.gemini.study import Study

        governed = cast(GovernedBench, bench)
        service, uploader = self._connect()
        film = (
            Reference(governed.link)
            if governed.link
            else Film(governed, self._settings, service, uploader, self._pause)
        )
        study = Study(governed, self._settings, self._template, self._values, service, film)
        try:
            analysis = study.run()
        except ServiceFault as fault:
            error = error_of(fault)
        except TaskError as failure:
            error = failure
        else:
            film.remove()
            return analysis
        if isinstance(error, TaskError) and error.kind in _FINAL:
            film.remove()
        raise self._heeded(error)

    def discard(self, kept: Mapping[str, bytes]) -> None:
        """Delete the file that was sent for a task."""
        from gsvrd.analyzers.gemini.classify import error_of
        from gsvrd.analyzers.gemini.film import Uploaded, delete

        try:
            name = Uploaded.model_validate_json(kept.get(REMOTE_STAGE, b"")).name
        except ValidationError:
            return  # of another version of this program: it expires by itself
        try:
            delete(self._connect()[0], name)
        except ServiceFault as fault:
            error = error_of(fault)
        else:
            return
        raise self._heeded(error)

    def _heeded(self, error: TaskError | Snooze) -> TaskError | Snooze:
        """After a refused key the next attempt reads it anew: somebody may have mended it."""
        if isinstance(error, TaskError) and error.kind is ErrorKind.KEY:
            self._connected = None
        return error

    def _connect(self) -> tuple[GeminiService, Uploader]:
        if self._connected is None:
            from gsvrd.analyzers.gemini.upload import Uploader

            key = read_key(self._settings.key_source)
            endpoint = Endpoint(self._settings.base_url.rstrip("/"), key, self._settings.timeout_s)
            uploader = Uploader(endpoint, self._settings.upload_timeout_s, self._pause)
            service = sdk.make_service(self._sdk, self._settings, key)
            self._connected = service, uploader
            self._sweep(service)
        return self._connected

    def _sweep(self, service: GeminiService) -> None:
        """Delete what a daemon that died left at the service; if that does not work, it expires by itself."""
        from gsvrd.analyzers.gemini.film import sweep_orphans

        settings = self._settings
        if not settings.started_at:
            return
        try:
            swept = sweep_orphans(service, settings.prefix, settings.started_at, self._is_wanted)
        except ServiceFault as fault:
            log.warning("orphans_not_swept", error=str(fault))
        else:
            if swept:
                log.info("orphans_swept", files=len(swept))

    def _is_wanted(self, name: str) -> bool:
        """Whether a task may come to want the file."""
        settings = self._settings
        return name in settings.kept_files or name.startswith(tuple(map(settings.stem, settings.kept_contents)))


def _completed(settings: GeminiSettings, wishes: ModelSettings, able: Set[Capability]) -> GeminiSettings:
    """The settings, and where they leave it open the template's wishes.

    A wish is dropped where it cannot be sent; what the configuration asks for itself is refused there instead.
    """
    can_think = Capability.THINKING in able and not _WITHOUT_LEVELS.match(settings.model)
    return replace(
        settings,
        temperature=wishes.temperature if settings.temperature is None else settings.temperature,
        max_output_tokens=settings.max_output_tokens or wishes.max_output_tokens,
        thinking=settings.thinking or ((wishes.thinking or "") if can_think else ""),
    )
