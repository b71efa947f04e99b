"""Builds the analyzer a configuration names. Called once by each worker; imports only the one that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gsvrd.analyzers.base import Analyzer
from gsvrd.analyzers.gemini.settings import GeminiSettings
from gsvrd.analyzers.local.settings import LocalSettings
from gsvrd.errors import SetupError

if TYPE_CHECKING:
    from gsvrd.templates.model import Template


def make_analyzer(
    name: str, local: LocalSettings, gemini: GeminiSettings, template: Template, parameters: Mapping[str, object]
) -> Analyzer:
    """The analyzer called `name`; `parameters` are the template's. Raises `SetupError` for a name nobody knows."""
    if name == "probe":
        from gsvrd.analyzers.probe import ProbeAnalyzer

        return ProbeAnalyzer()
    if name == "local":
        from gsvrd.analyzers.local import LocalAnalyzer

        return LocalAnalyzer(local)
    if name == "gemini":
        from gsvrd.analyzers.gemini.analyzer import GeminiAnalyzer

        return GeminiAnalyzer(gemini, template, parameters)
    raise SetupError(f"There is no analyzer called {name!r}.", "Choose `gemini`, `local` or `probe`.")
