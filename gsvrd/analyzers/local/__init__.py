"""The analyzer that works without any network: slides, writing, speech, and a lesson plan picked from them.

Importing this package is cheap: decoders and engines are imported by the rooms when a video needs them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from gsvrd.analysis import Analysis
from gsvrd.analyzers.base import Workbench
from gsvrd.analyzers.local.settings import LocalSettings

__all__ = ["LocalAnalyzer", "LocalSettings"]

# ONNX Runtime (1.32) reads it when it is loaded: without it, it makes a device id in the home directory and phones home.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"


class LocalAnalyzer:
    """Studies one video after the other with engines that stay loaded."""

    name = "local"
    takes_links = False

    def __init__(self, settings: LocalSettings) -> None:
        """Take note of the choices; nothing is loaded yet."""
        from gsvrd.analyzers.local.ocr import SlideReader
        from gsvrd.analyzers.local.speech import Listener

        self._settings = settings
        self._reader = SlideReader()
        self._listener = Listener(settings.speech_model)

    def analyze(self, bench: Workbench) -> Analysis:
        """Study the video; see `Analyzer`. The stages `slides`, `text` and `speech` are kept."""
        from gsvrd.analyzers.local import compose, stages

        slides = bench.keep("slides", stages.Slides, lambda: stages.find_slides(bench))
        reader = self._reader if self._settings.slide_text else None
        writing = bench.keep("text", stages.Writing, lambda: stages.read_writing(bench, slides, reader))
        listener = self._listener if self._settings.speech else None
        speech = bench.keep("speech", stages.Speech, lambda: stages.hear(bench, listener))
        bench.progress("writing", 0.0)
        analysis = compose.compose(bench, slides, writing, speech)
        bench.progress("writing", 1.0)
        return analysis

    def discard(self, kept: Mapping[str, bytes]) -> None:
        """Nothing lies elsewhere."""
