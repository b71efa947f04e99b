"""Google's Gemini as an analyzer: the video is sent to it, and what it says is checked before it is believed.

    settings    what can be chosen
    keys        where the key comes from
    sdk         which SDK is used, and whether it can do what is asked for
    service     the seam to the SDKs; `genai`, `generativeai` are behind it, `wire` is what they share
    upload      sends a file, and goes on after a break
    classify    what a fault means
    permits     a call that the daemon governs
    film        the video at the service
    answer      the schema, and what is made of an answer
    split       long videos
    weight      how many tokens a request weighs
    study       one attempt at one video

Made in a worker by `registry`. Importing this package imports no SDK.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

import structlog

from gsvrd.analysis import Analysis
from gsvrd.analyzers.base import GovernedBench, Workbench
from gsvrd.analyzers.gemini import sdk
from gsvrd.analyzers.gemini.keys import read_key
from gsvrd.analyzers.gemini.service import Endpoint, GeminiService, ServiceFault
from gsvrd.analyzers.gemini.settings import GeminiSettings
from gsvrd.errors import ErrorKind, TaskError

if TYPE_CHECKING:
    from gsvrd.analyzers.gemini.study import LessonTemplate
    from gsvrd.analyzers.gemini.upload import Uploader

log = structlog.get_logger("gsvrd.gemini")

_FINAL = frozenset({ErrorKind.REQUEST, ErrorKind.BLOCKED, ErrorKind.UNREADABLE, ErrorKind.TOO_LARGE})
"""After these nothing is tried again, so the file at the service is of no more use."""


class GeminiAnalyzer:
    """Asks Gemini. One instance lives as long as its worker; its client is made at the first video, never before."""

    name = "gemini"

    def __init__(
        self,
        settings: GeminiSettings,
        template: LessonTemplate,
        values: Mapping[str, object] | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """`values` are the template's parameters. Raises `ConfigError` if no SDK can do what the settings ask for."""
        self._sdk = sdk.check(settings)
        self._settings = settings
        self._template = template
        self._values = values or {}
        self._pause = pause
        self._connected: tuple[GeminiService, Uploader] | None = None

    def analyze(self, bench: Workbench) -> Analysis:
        """Study the video; `bench` is a `GovernedBench`. Raises `TaskError` and `Snooze`."""
        from gsvrd.analyzers.gemini.classify import error_of
        from gsvrd.analyzers.gemini.film import Film
        from gsvrd.analyzers.gemini.study import Study

        governed = cast(GovernedBench, bench)
        service, uploader = self._connect()
        film = Film(governed, self._settings, service, uploader, self._pause)
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
        if isinstance(error, TaskError) and error.kind is ErrorKind.KEY:
            self._connected = None  # the next attempt reads the key anew: somebody may have mended it
        elif isinstance(error, TaskError) and error.kind in _FINAL:
            film.remove()
        raise error

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

        if not self._settings.started_at:
            return
        try:
            swept = sweep_orphans(service, set(self._settings.kept_files), self._settings.started_at)
        except ServiceFault as fault:
            log.warning("orphans_not_swept", error=str(fault))
        else:
            if swept:
                log.info("orphans_swept", files=len(swept))
