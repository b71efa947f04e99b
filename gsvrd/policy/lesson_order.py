"""The order in which a teacher would put lessons: lesson 2 before lesson 10, 第二课 before 第十课, （上） before （下）.

Used by `policy.results`. A Chinese numeral counts as a number only where it clearly is one (behind 第, at the start before a
sign, alone in brackets): 三角函数 is not lesson three.
"""

from __future__ import annotations

import re
import unicodedata

Key = tuple[tuple[tuple[int, int, str], ...], ...]

_DIGITS = {char: value for value, char in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_UNITS = {"十": 10, "百": 100, "千": 1000}
_HALVES = {"上": 1, "中": 2, "下": 3}
_NUMERAL = f"[{''.join((*_DIGITS, *_UNITS))}]+"
# Of a name in NFKC: brackets and most signs are the narrow ones by then.
_NUMBER = re.compile(
    rf"""
    (?P<digits> \d+ )
  | (?<=第) (?P<ordinal> {_NUMERAL} )
  | ^ (?P<leading> {_NUMERAL} ) (?= [\s、.,:)_-] )
  | (?<=\() (?P<bracketed> {_NUMERAL} ) (?=\))
  | (?<=\() (?P<half> [上中下] ) (?=\))
    """,
    re.VERBOSE,
)


def lesson_key(name: str) -> tuple[Key, str]:
    """Sorts paths below the inbox, folder by folder; names that differ only in how numbers are written by their text."""
    folder, slash, file = name.rpartition("/")
    stem = file.rpartition(".")[0] or file
    parts = [*(folder + slash).split("/")[:-1], stem]
    return tuple(_part(part) for part in parts), name


def _part(text: str) -> tuple[tuple[int, int, str], ...]:
    """Numbers come before words, as in a list of files."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    pieces: list[tuple[int, int, str]] = []
    end = 0
    for match in _NUMBER.finditer(plain):
        if before := plain[end : match.start()]:
            pieces.append((1, 0, before))
        pieces.append((0, _value(match), ""))
        end = match.end()
    if rest := plain[end:]:
        pieces.append((1, 0, rest))
    return tuple(pieces)


def _value(match: re.Match[str]) -> int:
    found = match[0]
    if match.lastgroup == "digits":
        return int(found)
    if match.lastgroup == "half":
        return _HALVES[found]
    return chinese_number(found)


def chinese_number(numeral: str) -> int:
    """十二 is 12, 一百零三 is 103, 二〇二六 is 2026."""
    if not any(char in _UNITS for char in numeral):
        return int("".join(str(_DIGITS[char]) for char in numeral))
    total, digit = 0, None
    for char in numeral:
        if char in _UNITS:
            total += (1 if digit is None else digit) * _UNITS[char]
            digit = None
        else:
            digit = _DIGITS[char] or None
    return total + (digit or 0)
