"""Sizes and durations as people write them: `2GiB`, `500MB`, `90s`, `1h30m`; and back again.

Used by the rules of the configuration; pure functions. What cannot be read raises `ValueError`.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal

KIB, MIB, GIB, TIB = 2**10, 2**20, 2**30, 2**40
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0

_SIZES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": KIB, "mib": MIB, "gib": GIB, "tib": TIB}
_SIZE_NAMES = {TIB: "TiB", 10**12: "TB", GIB: "GiB", 10**9: "GB", MIB: "MiB", 10**6: "MB", KIB: "KiB", 10**3: "kB"}
_MILLISECONDS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}

# At most 15 digits: enough for 900 TB, and no figure that takes long to convert.
_FIGURE = r"[0-9]{1,15}(?:\.[0-9]{1,9})?"
_SIZE = re.compile(rf"({_FIGURE}) ?([kmgt]?i?b)?", re.IGNORECASE)
_PLAIN = re.compile(_FIGURE)
_DURATION = re.compile(" ?".join(rf"(?:({_FIGURE}){unit})?" for unit in _MILLISECONDS))

SIZE_PATTERN = r"^[0-9]+(\.[0-9]+)? ?([kKmMgGtT]?[iI]?[bB])?$"
"""The spelling of a size, for the JSON schema."""
DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d) ?)+$|^[0-9]+(\.[0-9]+)?$"
"""The spelling of a duration, for the JSON schema."""


def parse_size(value: object) -> int:
    """Bytes from `2GiB`, `500 MB`, `1.5kB`, `4096` or a whole number. Units with an i are powers of 1024."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise ValueError("not a size")
    found = _SIZE.fullmatch(value.strip())
    unit = (found[2] or "b").lower() if found else ""
    if found is None or unit not in _SIZES:
        raise ValueError("not a size")
    return round(Decimal(found[1]) * _SIZES[unit])


def parse_duration(value: object) -> float:
    """Seconds from `90s`, `5m`, `1h30m`, `250ms`, `2d` or a plain number. Each unit once, the largest first."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ValueError("not a finite duration")
        return float(value)
    if not isinstance(value, str):
        raise ValueError("not a duration")
    text = value.strip()
    if _PLAIN.fullmatch(text):
        return float(text)
    found = _DURATION.fullmatch(text)
    if found is None or not any(found.groups()):
        raise ValueError("not a duration")
    parts = zip(found.groups(), _MILLISECONDS.values(), strict=True)
    return float(sum(Decimal(figure) * factor for figure, factor in parts if figure) / 1000)


def show_size(size_bytes: int) -> str:
    """The shortest exact spelling: `2GiB`, `100MB`, else plain bytes (`1234B`)."""
    for factor, name in _SIZE_NAMES.items():
        if size_bytes and size_bytes % factor == 0:
            return f"{size_bytes // factor}{name}"
    return f"{size_bytes}B"


def show_duration(seconds: float) -> str:
    """The usual spelling, to the millisecond: `1h30m`, `90s` as `1m30s`, `250ms`."""
    left = round(seconds * 1000)
    text = ""
    for unit, factor in _MILLISECONDS.items():
        count, left = divmod(left, factor)
        text += f"{count}{unit}" if count else ""
    return text or "0s"
