"""Builds the analyzer a configuration names. Called once by each worker; imports only the one that is asked for."""

from __future__ import annotations

from gsvrd.analyzers.base import Analyzer
from gsvrd.analyzers.local.settings import LocalSettings
from gsvrd.errors import SetupError


def make_analyzer(name: str, settings: LocalSettings) -> Analyzer:
    """The analyzer called `name` (`probe` or `local`). Raises `SetupError` with a hint for any other name."""
    if name == "probe":
        from gsvrd.analyzers.probe import ProbeAnalyzer

        return ProbeAnalyzer()
    if name == "local":
        from gsvrd.analyzers.local import LocalAnalyzer

        return LocalAnalyzer(settings)
    if name == "gemini":
        raise SetupError("The analyzer `gemini` comes with a later release.", "Use `local` or `probe` for now.")
    raise SetupError(f"There is no analyzer called {name!r}.", "Choose `local` or `probe`.")
