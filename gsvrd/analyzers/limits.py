"""What is refused as too large before it is decoded. Used by `probe` and whoever configures it; imports nothing."""

from __future__ import annotations

from dataclasses import dataclass

MAX_PIXELS = 40_000_000


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """What is refused as too large."""

    max_pixels: int = MAX_PIXELS
    max_duration_s: float = 12 * 3600.0
    max_streams: int = 64
