"""Draws the slides of the generated lectures with Pillow, and finds the fonts for them.

`make_lecture` calls it. It knows nothing of time or sound: a `Slide` goes in, a picture of 1280 x 720 comes out. The
same slide, theme and fonts give the same pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 1280, 720
SCALE = 2  # drawn larger and then reduced, so that edges are smooth

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont
Box = tuple[int, int, int, int]

_CJK = (
    ("/usr/share/fonts/opentype/noto/NotoSansCJK-Bold.ttc", 2),  # index 2: simplified Chinese shapes
    ("/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc", 0),
    ("/usr/share/fonts/truetype/wqy/wqy-microhei.ttc", 0),
)
_LATIN = (
    ("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf", 0),
    ("/usr/share/fonts/truetype/liberation/LiberationSans-Regular.ttf", 0),
)


class MissingFontError(RuntimeError):
    """No font on this machine has the letters; the message names the packages that do."""


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of one lecture."""

    paper: Colour
    ink: Colour
    accent: Colour
    second: Colour


@dataclass(frozen=True, slots=True)
class Slide:
    """All that is to be seen on one slide."""

    lesson: str
    title: str
    lines: tuple[str, ...]
    drawing: str
    number: int
    total: int


THEMES = (
    Theme((250, 250, 247), (33, 37, 41), (21, 101, 145), (240, 160, 60)),
    Theme((252, 249, 242), (45, 35, 30), (140, 60, 45), (70, 140, 130)),
    Theme((246, 249, 246), (28, 40, 34), (40, 110, 75), (215, 120, 70)),
    Theme((248, 247, 252), (36, 32, 48), (85, 65, 145), (225, 150, 60)),
)
DARK = Theme((34, 38, 46), (222, 226, 230), (60, 120, 160), (200, 140, 70))


def find_font(language: str) -> tuple[str, int]:
    """Path and index of a font for `en` or `zh`. Raises `MissingFontError`."""
    wanted = _CJK if language == "zh" else _LATIN + _CJK
    for path, index in wanted:
        if Path(path).is_file():
            return path, index
    packages = "fonts-noto-cjk or fonts-wqy-zenhei" if language == "zh" else "fonts-dejavu-core"
    raise MissingFontError(f"no font for {language!r} found: install the Debian package {packages}")


def draw(slide: Slide, theme: Theme, language: str) -> Image.Image:
    """The slide as an RGB picture of `WIDTH` x `HEIGHT`. Raises `MissingFontError`."""
    path, index = find_font(language)

    def font(size: int) -> Font:
        return ImageFont.truetype(path, size * SCALE, index=index)

    image = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), theme.paper)
    pen = ImageDraw.Draw(image)
    pen.rectangle(_scaled(0, 0, WIDTH, 112), fill=theme.accent)
    pen.rectangle(_scaled(0, 112, WIDTH, 120), fill=theme.second)
    pen.text((60 * SCALE, 56 * SCALE), slide.title, font=font(50), fill=(255, 255, 255), anchor="lm")
    for row, line in enumerate(slide.lines):
        y = 220 + row * 120
        pen.ellipse(_scaled(62, y - 9, 80, y + 9), fill=theme.second)
        pen.text((104 * SCALE, y * SCALE), line, font=font(36), fill=theme.ink, anchor="lm")
    DRAWINGS[slide.drawing](pen, theme)
    pen.line(_scaled(60, 660, WIDTH - 60, 660), fill=theme.accent, width=2 * SCALE)
    pen.text((60 * SCALE, 688 * SCALE), slide.lesson, font=font(20), fill=theme.accent, anchor="lm")
    page = f"{slide.number} / {slide.total}"
    pen.text(((WIDTH - 60) * SCALE, 688 * SCALE), page, font=font(20), fill=theme.accent, anchor="rm")
    return image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def _scaled(left: float, top: float, right: float, bottom: float) -> Box:
    return round(left * SCALE), round(top * SCALE), round(right * SCALE), round(bottom * SCALE)


def _mix(one: Colour, two: Colour, share: float) -> Colour:
    red, green, blue = (round(a * (1 - share) + b * share) for a, b in zip(one, two, strict=True))
    return red, green, blue


def _cycle(pen: ImageDraw.ImageDraw, theme: Theme) -> None:
    """Four round stations on a ring, with arrow heads between them."""
    x, y, radius = 1030, 380, 130
    pen.ellipse(_scaled(x - radius, y - radius, x + radius, y + radius), outline=theme.accent, width=8 * SCALE)
    for quarter in range(4):
        angle = quarter * math.pi / 2
        cx, cy = x + radius * math.cos(angle), y + radius * math.sin(angle)
        fill = _mix(theme.second, theme.accent, quarter / 3)
        pen.ellipse(_scaled(cx - 38, cy - 38, cx + 38, cy + 38), fill=fill)
        half = angle + math.pi / 4
        hx, hy = (x + radius * math.cos(half)) * SCALE, (y + radius * math.sin(half)) * SCALE
        pen.regular_polygon((hx, hy, 18 * SCALE), 3, rotation=-math.degrees(half) + 180, fill=theme.accent)


def _bars(pen: ImageDraw.ImageDraw, theme: Theme) -> None:
    """Five bars that rise."""
    for number, height in enumerate((70, 110, 165, 235, 330)):
        left = 880 + number * 64
        fill = _mix(theme.accent, theme.second, number / 4)
        pen.rectangle(_scaled(left, 560 - height, left + 46, 560), fill=fill)
    pen.line(_scaled(860, 560, 1210, 560), fill=theme.ink, width=4 * SCALE)
    pen.line(_scaled(860, 200, 860, 560), fill=theme.ink, width=4 * SCALE)


def _layers(pen: ImageDraw.ImageDraw, theme: Theme) -> None:
    """Four layers, one above the other, under a sun."""
    pen.ellipse(_scaled(1090, 190, 1180, 280), fill=theme.second)
    for number in range(4):
        top = 310 + number * 66
        pen.rounded_rectangle(
            _scaled(880, top, 1200, top + 56), radius=14 * SCALE, fill=_mix(theme.paper, theme.accent, 0.3 + number / 5)
        )


def _chain(pen: ImageDraw.ImageDraw, theme: Theme) -> None:
    """Three boxes from top to bottom, joined by arrows."""
    for number in range(3):
        top = 200 + number * 130
        fill = _mix(theme.accent, theme.second, number / 2)
        pen.rounded_rectangle(_scaled(920, top, 1160, top + 76), radius=18 * SCALE, fill=fill)
        if number < 2:
            pen.line(_scaled(1040, top + 76, 1040, top + 110), fill=theme.ink, width=6 * SCALE)
            pen.regular_polygon((1040 * SCALE, (top + 112) * SCALE, 14 * SCALE), 3, rotation=180, fill=theme.ink)


def _waves(pen: ImageDraw.ImageDraw, theme: Theme) -> None:
    """Three waves under a sun with rays."""
    for ray in range(12):
        angle = ray * math.pi / 6
        inner, outer = 66, 92
        pen.line(
            _scaled(
                1040 + inner * math.cos(angle),
                270 + inner * math.sin(angle),
                1040 + outer * math.cos(angle),
                270 + outer * math.sin(angle),
            ),
            fill=theme.second,
            width=6 * SCALE,
        )
    pen.ellipse(_scaled(988, 218, 1092, 322), fill=theme.second)
    for number in range(3):
        level = 430 + number * 56
        curve = [(x * SCALE, round((level + 16 * math.sin(x / 26 + number)) * SCALE)) for x in range(880, 1201, 4)]
        pen.line(curve, fill=_mix(theme.accent, theme.paper, number / 5), width=16 * SCALE, joint="curve")


DRAWINGS: dict[str, Callable[[ImageDraw.ImageDraw, Theme], None]] = {
    "cycle": _cycle,
    "bars": _bars,
    "layers": _layers,
    "chain": _chain,
    "waves": _waves,
}
