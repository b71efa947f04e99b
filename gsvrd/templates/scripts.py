"""How much of a text is in the script of a language. Pure; used by `check`, which must not trust the model's word.

A unit is a Chinese or Japanese character or a word of any other script, so that one English term weighs as much as one
character and not as its letters. Languages that share a script (English, Spanish) cannot be told apart here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

HAN = "han"

_UNIT = re.compile(
    r"(?P<han>[々〇\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003347f])"
    r"|(?P<kana>[\u3041-\u309f\u30a1-\u30ff\u31f0-\u31ff\uff66-\uff9d])"
    r"|(?P<thai>[\u0e01-\u0e3a\u0e40-\u0e4e])"
    r"|(?P<hangul>[\u1100-\u11ff\uac00-\ud7a3]+)"
    r"|(?P<latin>[A-Za-zªºÀ-ÖØ-öø-\u024f\u1e00-\u1eff\u0300-\u036f]+)"
    r"|(?P<cyrillic>[\u0400-\u052f]+)"
    r"|(?P<greek>[\u0370-\u03ff\u1f00-\u1fff]+)"
    r"|(?P<arabic>[\u0600-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufeff]+)"
    r"|(?P<hebrew>[\u0591-\u05f4]+)"
    r"|(?P<devanagari>[\u0900-\u097f]+)"
    r"|(?P<other>[^\W\d_])"
)
_LATIN = "en de fr es it pt nl sv da no nb nn fi is pl cs sk sl hr ro hu tr vi id ms et lv lt ga cy ca eu gl af sw tl"
_SCRIPTS: dict[str, frozenset[str]] = {
    **dict.fromkeys(_LATIN.split(), frozenset({"latin"})),
    **dict.fromkeys(("ru", "uk", "bg", "be", "mk"), frozenset({"cyrillic"})),
    **dict.fromkeys(("ar", "fa", "ur"), frozenset({"arabic"})),
    **dict.fromkeys(("hi", "mr", "ne"), frozenset({"devanagari"})),
    "zh": frozenset({HAN}),
    "ja": frozenset({HAN, "kana"}),
    "ko": frozenset({"hangul", HAN}),
    "el": frozenset({"greek"}),
    "he": frozenset({"hebrew"}),
    "th": frozenset({"thai"}),
}


def units(texts: Iterable[str]) -> Counter[str]:
    """How many units of each script are in `texts`."""
    return Counter(found.lastgroup or "" for text in texts for found in _UNIT.finditer(text))


def primary(language: str) -> str:
    """The language of a BCP 47 tag without region and script: `zh` for `zh-Hans-CN`."""
    return language.lower().partition("-")[0]


def script_of(language: str) -> frozenset[str]:
    """The scripts `language` is written in; empty when that is not known here."""
    return _SCRIPTS.get(primary(language), frozenset())
