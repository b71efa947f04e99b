"""What a worker must know of the configuration; made by the daemon, read by `execute`. Imports nothing heavy."""

from __future__ import annotations

from typing import Any

import msgspec

from gsvrd.analyzers.gemini.settings import GeminiSettings
from gsvrd.analyzers.limits import MediaLimits
from gsvrd.analyzers.local.settings import LocalSettings

SPOOL = "spool"
"""Below the state directory: what links lead to, a folder for each task that has not ended."""


class LinkSettings(msgspec.Struct, frozen=True):
    """What may be fetched from where; see `net.fetch.FetchTerms`."""

    allowed: tuple[str, ...] = ()
    most_bytes: int = 10 << 30
    timeout_s: float = 3600.0
    types: tuple[str, ...] = ("video/*", "audio/*")


class WorkSettings(msgspec.Struct, frozen=True):
    """What a worker must know of the configuration. Travels as JSON; times in seconds, sizes in bytes."""

    inbox: str
    reports: str
    work: str
    """Folder for pictures, one below it for each task; they survive from one attempt to the next."""
    analyzer: str
    local: LocalSettings
    gemini: GeminiSettings
    limits: MediaLimits
    max_file_bytes: int
    threads: int
    templates: dict[str, str]
    """By name, as `Template.to_json` gives them: a file that is changed or broken meanwhile must not concern workers to
    come."""
    template: str
    """The name of the one that is taken where nothing else was said; the same for the language and the pattern."""
    language: str
    parameters: dict[str, Any]
    """Values for the parameters of the template."""
    output_pattern: str
    log_level: str
    log_format: str
    spool: str = ""
    """Folder for what links lead to, one below it for each task, until that has ended."""
    links: LinkSettings = LinkSettings()
