from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFont

from gsvrd.analyzers.local import ocr
from gsvrd.analyzers.local.ocr import Written


def piece(text: str, *, top: float = 0.3, left: float = 60, height: float = 0.06, score: float = 0.99) -> Any:
    return ocr._Piece(top, left, height, text, score)


def kept(*pieces: Any) -> list[str]:
    return [p.text for p in ocr._without_strays(list(pieces))]


def test_a_single_sign_of_a_foreign_script_is_a_piece_of_a_drawing() -> None:
    assert kept(piece("Rivers lead to the sea"), piece("三")) == ["Rivers lead to the sea"]
    assert kept(piece("江河流入大海"), piece("水")) == ["江河流入大海", "水"]


def test_a_single_sign_as_tall_as_a_drawing_is_dropped() -> None:
    assert kept(piece("江河流入大海"), piece("三", height=0.67)) == ["江河流入大海"]


def test_a_single_sign_the_engine_is_not_sure_of_is_dropped() -> None:
    assert kept(piece("Vitamins"), piece("C"), piece("D", score=0.8), piece("■")) == ["Vitamins", "C"]


def test_figures_are_kept_whatever_the_script() -> None:
    assert kept(piece("江河流入大海"), piece("7")) == ["江河流入大海", "7"]


def test_what_is_too_tall_for_writing_is_dropped() -> None:
    assert kept(piece("三司", height=0.9), piece("HELLO", height=0.35)) == ["HELLO"]


def line(text: str, top: float) -> Written:
    return Written(text, top, 0.05)


def test_lines_on_most_slides_are_furniture_whatever_their_figures() -> None:
    slides = [[line(f"Topic {word}", 0.1), line(f"My Course {i}/9", 0.05)] for i, word in enumerate("abcd")]
    assert ocr.furniture_of(slides) == {"My Course #/#"}


def test_a_line_at_the_foot_of_some_slides_is_furniture_too() -> None:
    slides = [[line(f"Topic {i}", 0.1), line(f"{'Water' if i < 4 else 'Rocks'} {i}/9", 0.94)] for i in range(1, 9)]
    assert {"Water #/#", "Rocks #/#"} <= ocr.furniture_of(slides)


def test_what_stands_on_two_slides_is_no_furniture() -> None:
    assert ocr.furniture_of([[line("The sun", 0.1)], [line("The sun", 0.1)]]) == frozenset()


def test_slanted_writing_is_no_line_of_a_slide(tmp_path: Path, drawn: Any) -> None:
    pytest.importorskip("rapidocr")
    shown = Image.fromarray(drawn("The Journey"))
    mark = Image.new("L", shown.size)
    ImageDraw.Draw(mark).text((140, 150), "watermark", fill=255, font=ImageFont.load_default(40))
    shown.paste((0, 0, 0), mask=mark.rotate(20))
    shown.save(tmp_path / "s.png")
    assert [w.text for w in ocr.SlideReader().read(tmp_path / "s.png", 1)] == ["The Journey"]
