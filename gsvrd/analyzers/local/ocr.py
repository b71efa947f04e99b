"""Reads the writing on slides with rapidocr, whose models lie in its wheel. Never lets it download anything."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MIN_SCORE = 0.6


@dataclass(frozen=True, slots=True)
class Written:
    """A line of writing; `top` and `height` as shares of the picture's height."""

    text: str
    top: float
    height: float


class SlideReader:
    """The engine, loaded at the first picture and kept warm. `available` says whether it can work here."""

    def __init__(self) -> None:
        """Nothing is loaded yet."""
        self._engine: Any = None

    @staticmethod
    def available() -> bool:
        """Whether rapidocr and its models are installed."""
        return _models() is not None

    def read(self, picture: Path, threads: int) -> list[Written]:
        """The lines in `picture`, top to bottom, left to right."""
        if self._engine is None:
            self._engine = _load(threads)
        result = self._engine(str(picture))
        if result.boxes is None or not result.txts:
            return []
        tall = result.img.shape[0]
        pieces = [
            (
                float(box[:, 1].min()) / tall,
                float(box[:, 0].min()),
                float(box[:, 1].max() - box[:, 1].min()) / tall,
                text,
            )
            for box, text, score in zip(result.boxes, result.txts, result.scores, strict=True)
            if score >= _MIN_SCORE and text.strip()
        ]
        return _rows(pieces)


def _models() -> tuple[Path, Path] | None:
    """The detector and the recogniser inside the wheel."""
    spec = importlib.util.find_spec("rapidocr")
    if spec is None or not spec.submodule_search_locations or importlib.util.find_spec("onnxruntime") is None:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "models"
    found = [next(iter(sorted(folder.glob(f"*_{part}_small.onnx"))), None) for part in ("det", "rec")]
    return (found[0], found[1]) if found[0] and found[1] else None


def _load(threads: int) -> Any:
    from rapidocr import RapidOCR

    models = _models()
    if models is None:
        raise FileNotFoundError("rapidocr's models")
    return RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.use_cls": False,
            "Det.model_path": str(models[0]),  # a given path keeps rapidocr from looking for one to download
            "Det.limit_side_len": 640,
            "Det.limit_type": "max",
            "Rec.model_path": str(models[1]),
            "Rec.rec_batch_num": 1,
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )


_Piece = tuple[float, float, float, str]
"""Top, left, height, text."""


def _side_by_side(a: _Piece, b: _Piece) -> bool:
    """Whether two pieces stand on one line: about as tall, and the middle of the second beside the first."""
    alike = 0.6 < b[2] / a[2] < 1.6
    return alike and a[0] <= b[0] + b[2] / 2 <= a[0] + a[2]


def _rows(pieces: list[_Piece]) -> list[Written]:
    """Pieces that stand side by side become one line."""
    rows: list[list[_Piece]] = []
    for piece in sorted(pieces):
        if rows and _side_by_side(rows[-1][0], piece):
            rows[-1].append(piece)
        else:
            rows.append([piece])
    return [
        Written("  ".join(p[3].strip() for p in sorted(row, key=lambda p: p[1])), row[0][0], max(p[2] for p in row))
        for row in rows
    ]


def title_of(lines: list[Written], furniture: frozenset[str]) -> str:
    """The line that names the slide: the tallest in the upper half that is not on every slide; empty if none."""
    wanted = [w for w in lines if pattern_of(w.text) not in furniture and sum(c.isalpha() for c in w.text) >= 2]
    upper = [w for w in wanted if w.top < 0.5] or wanted
    if not upper:
        return ""
    tallest = max(w.height for w in upper)
    return next(w.text for w in upper if w.height >= 0.85 * tallest)[:120]


def pattern_of(text: str) -> str:
    """The line without its figures, so that page numbers look alike."""
    return re.sub(r"\d+", "#", text)


def furniture_of(slides: list[list[Written]]) -> frozenset[str]:
    """The patterns of lines that stand on most slides: the course's name, the speaker, a page number."""
    if len(slides) < 4:
        return frozenset()
    counts: dict[str, int] = {}
    for lines in slides:
        for text in {pattern_of(w.text) for w in lines}:
            counts[text] = counts.get(text, 0) + 1
    return frozenset(text for text, n in counts.items() if n >= 0.6 * len(slides))
