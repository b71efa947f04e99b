"""Writes the picture of a chapter: upright, small, under a name of our own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gsvrd.analysis import Picture
from gsvrd.analyzers.local.film import Gray

_MAX_WIDTH = 1280


def save(frame: Any, folder: Path, number: int, at_s: float) -> Picture:
    """Write `frame` as JPEG into `folder`; the name is made from `number`."""
    from PIL import Image

    image = frame.to_image()
    if frame.rotation:
        image = image.rotate(frame.rotation, expand=True)  # both count counter-clockwise
    if image.width > _MAX_WIDTH:
        image = image.resize((_MAX_WIDTH, round(image.height * _MAX_WIDTH / image.width)), Image.Resampling.LANCZOS)
    name = f"{number:03d}.jpg"
    image.convert("RGB").save(folder / name, quality=86, optimize=True)
    return Picture(file=name, at_s=round(at_s, 2), width=image.width, height=image.height)


def sharpness(gray: Gray) -> float:
    """How much detail a picture shows; black and blurred ones show little."""
    wide = gray.astype(np.int16)
    return float(np.abs(np.diff(wide, axis=0)).mean() + np.abs(np.diff(wide, axis=1)).mean())
