"""Times as models are asked to write them: `MM:SS`, from one hour on `H:MM:SS`.

Video models see the clock of the video in this form; asked for plain seconds they must calculate, and get it wrong. The
contract asks for it, the analyzer reads answers with `seconds`, problems are shown with `clock`.
"""

from __future__ import annotations

import re

_TIME = re.compile(r"(?:(?P<hours>\d{1,3}):)?(?P<minutes>\d{1,4}):(?P<seconds>[0-5]\d(?:[.,]\d{1,6})?)", re.ASCII)


def clock(seconds: float) -> str:
    """`MM:SS` or `H:MM:SS`, rounded down so that a jump lands before the thing."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes:02}:{rest:02}"


def seconds(text: str) -> float:
    """Seconds from the start. `75:30` is 75 minutes; a fraction is kept. Raises `ValueError` for any other form."""
    found = _TIME.fullmatch(text.strip())
    if not found or (found["hours"] and int(found["minutes"]) > 59):
        raise ValueError(f"{text[:20]!r} is no time; allowed: MM:SS or H:MM:SS")
    whole = int(found["hours"] or 0) * 3600 + int(found["minutes"]) * 60
    return whole + float(found["seconds"].replace(",", "."))
