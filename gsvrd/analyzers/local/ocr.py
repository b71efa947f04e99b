"""Reads the writing on slides with rapidocr, whose models lie in its wheel. Never lets it download anything."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MIN_SCORE = 0.6
_SURE_SCORE = 0.9
"""For a single sign: a part of a drawing is easily taken for one."""
_MAX_HEIGHT = 0.4
_MAX_SIGN_HEIGHT = 0.2
_MAX_SLOPE = 0.15
_MIN_REPEATS = 3
_FOOT = 0.85


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
        read = zip(result.boxes, result.txts, result.scores, strict=True)
        pieces = [
            _piece(box, text.strip(), score, tall)
            for box, text, score in read
            if score >= _MIN_SCORE and text.strip() and not _is_slanted(box)
        ]
        return _rows(_without_strays(pieces))


def _is_slanted(box: Any) -> bool:
    """Whether the writing runs askew, as on watermarks and things that are filmed."""
    across, down = box[1] - box[0]
    return bool(abs(down) > _MAX_SLOPE * abs(across))


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


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch of writing the engine saw as one; `top` and `height` as shares of the picture's height."""

    top: float
    left: float
    height: float
    text: str
    score: float


def _piece(box: Any, text: str, score: float, tall: int) -> _Piece:
    top, left = float(box[:, 1].min()), float(box[:, 0].min())
    return _Piece(top / tall, left, (float(box[:, 1].max()) - top) / tall, text, float(score))


def _without_strays(pieces: list[_Piece]) -> list[_Piece]:
    """What is writing: not what is too tall for it, and no single signs that are pieces of a drawing."""
    words = [p for p in pieces if len(p.text) > 1 and p.height <= _MAX_HEIGHT]
    scripts = {_is_han(c) for p in words for c in p.text if c.isalpha()}
    return [p for p in pieces if p in words or _is_sure_sign(p, scripts)]


def _is_sure_sign(piece: _Piece, scripts: set[bool]) -> bool:
    sign = piece.text
    known = sign.isdigit() or (sign.isalpha() and (not scripts or _is_han(sign) in scripts))
    return len(sign) == 1 and known and piece.score >= _SURE_SCORE and piece.height <= _MAX_SIGN_HEIGHT


def _is_han(sign: str) -> bool:
    return "\u3400" <= sign <= "\u9fff"


def _side_by_side(a: _Piece, b: _Piece) -> bool:
    """Whether two pieces stand on one line: about as tall, and the middle of the second beside the first."""
    alike = 0.6 < b.height / a.height < 1.6
    return alike and a.top <= b.top + b.height / 2 <= a.top + a.height


def _rows(pieces: list[_Piece]) -> list[Written]:
    """Pieces that stand side by side become one line."""
    rows: list[list[_Piece]] = []
    for piece in sorted(pieces, key=lambda p: (p.top, p.left)):
        if rows and _side_by_side(rows[-1][0], piece):
            rows[-1].append(piece)
        else:
            rows.append([piece])
    return [
        Written("  ".join(p.text for p in sorted(row, key=lambda p: p.left)), row[0].top, max(p.height for p in row))
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
    """The patterns of lines that belong to no slide: on most slides, or at the foot of several.

    They are the course's name, the speaker, page numbers; the foot may change from one part of a course to the next.
    """
    anywhere = Counter(text for lines in slides for text in {pattern_of(w.text) for w in lines})
    at_foot = Counter(text for lines in slides for text in {pattern_of(w.text) for w in lines if w.top > _FOOT})
    most = max(_MIN_REPEATS, 0.6 * len(slides))
    return frozenset(
        [text for text, n in anywhere.items() if n >= most] + [text for text, n in at_foot.items() if n >= _MIN_REPEATS]
    )
