"""What can be chosen about the Gemini analyzer. Built by the configuration, travels to workers as JSON; never the key.

Prices and limits are not here: the daemon knows them, and every call asks it first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SdkName = Literal["google-genai", "google-generativeai"]
GOOGLE = "https://generativelanguage.googleapis.com"


@dataclass(frozen=True, slots=True)
class GeminiSettings:
    """The choices. Times in seconds, sizes in bytes."""

    model: str
    sdk: Literal["auto", "google-genai", "google-generativeai"] = "auto"
    """`auto`: google-genai where it is installed, else the other."""
    key_source: str = "env:GEMINI_API_KEY"
    """Where the worker finds the key: `env:NAME`, `file:/path`, or `credential:NAME` (of systemd)."""
    base_url: str = GOOGLE
    """Honoured by every call, uploads too."""
    timeout_s: float = 300.0
    """For one generate call, from its first byte to its last."""
    upload_timeout_s: float = 7200.0
    """For one upload with all its resumptions."""
    processing_timeout_s: float = 600.0
    """How long the service may take to make a file usable."""
    poll_s: float = 5.0
    max_file_bytes: int = 2 << 30
    max_duration_s: float = 9000.0
    """Longer videos are split."""
    overlap_s: float = 30.0
    """How much two parts of a split video share."""
    context_tokens: int = 1_000_000
    """The most tokens of one request."""
    tokens_per_second: float = 102.0
    """What a second of video with sound weighs at one picture a second and the default resolution."""
    count_tokens: bool = False
    """Ask the service for the weight of a request instead of estimating it; not counted against the limits."""
    max_output_tokens: int = 0
    """Thinking included; 0 leaves it to the template."""
    most_output_tokens: int = 65_536
    """What the model allows: an answer that was cut off may have so many the second time."""
    temperature: float | None = None
    """None leaves it to the template."""
    thinking: Literal["", "minimal", "low", "medium", "high"] = ""
    """Empty leaves it to the template."""
    media_resolution: Literal["", "low", "medium", "high"] = ""
    fps: float | None = None
    """Pictures a second that the model sees; left out, it takes one."""
    proxy: Literal["auto", "always", "never"] = "auto"
    """Whether a small stand-in is sent instead of a large file."""
    installation: str = "00000000"
    """Eight hex digits in the names of our files at the service: those of other installations are left alone."""
    started_at: float = 0.0
    """When the daemon started: files of ours at the service that are older, and not among `kept_files`, are orphans."""
    kept_files: tuple[str, ...] = ()
    """Names of files that unfinished tasks still want."""
    kept_contents: tuple[str, ...] = ()
    """SHA-256 of videos whose file may have arrived just before the daemon died: they are found again by their names."""
    flex: bool = False
    """Half the price for an answer that may take minutes; where it is refused, the ordinary tier is asked."""

    @property
    def prefix(self) -> str:
        """How the names of our files at the service begin."""
        return f"files/gsvrd-{self.installation}-"

    def stem(self, sha256: str) -> str:
        """How the names of a video's files begin; a number follows."""
        return f"{self.prefix}{sha256[:16]}-"
