"""Manifests of lines: `.csv` as spreadsheets write it, and `.txt` with one video a line. Called by `manifest`; pure."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence

from gsvrd.config.document import Place, Problem, printable
from gsvrd.intake.sheet import Entry, Refused, Sheet

_DELIMITERS = (",", ";", "\t")
_LINES_A_ROW = 32
"""A remark may have line breaks; a quotation mark that is never closed must not swallow all that follows."""
_LINE_CHARACTERS = 65_536
"""Below the limit of the csv module, which is 131,072 a field."""

Check = Callable[[str], str]
"""What is wrong with a column's name, or nothing."""


def read_csv(text: str, source: str, check: Check) -> Sheet:
    """A table with a header; columns without a name or with one that begins with # are remarks.

    Raises `Refused` when a name is not known: a slip of the pen in a header would speak of every row.
    """
    lines = text.split("\n")
    start, delimiter = _declared(lines)
    while start < len(lines) and not lines[start].strip(" ,;\t"):
        start += 1
    if start == len(lines):
        raise Refused(source, 0, "has no header; its first line names the columns")
    delimiter = delimiter or _likeliest(lines[start], check)
    header, end = _record(lines, start, delimiter)
    if isinstance(header, str):
        raise Refused(source, start + 1, header)
    names = [_plain(name) for name in header]
    twins = {name for name in names if name and not name.startswith("#") and names.count(name) > 1}
    wrong = [f"the column '{printable(name)}' is there twice" for name in sorted(twins)]
    wrong += [problem for name in names if name and not name.startswith("#") and (problem := check(name))]
    if wrong:
        raise Refused(source, start + 1, "; ".join(wrong))
    return Sheet(_rows(lines, end, delimiter, names, source))


def _declared(lines: Sequence[str]) -> tuple[int, str]:
    """Excel's own first line, `sep=;`, and where the header is then."""
    first = lines[0].strip().lower()
    return (1, first[4:]) if first.startswith("sep=") and len(first) == 5 else (0, "")


def _likeliest(header: str, check: Check) -> str:
    """The delimiter that makes most columns of the header known; of equal ones that which makes most columns."""

    def known(delimiter: str) -> tuple[int, int]:
        names = [_plain(name.strip('"')) for name in header.split(delimiter)]
        return sum(bool(name) and not check(name) for name in names), len(names)

    return max(_DELIMITERS, key=known)


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _rows(
    lines: Sequence[str], start: int, delimiter: str, names: Sequence[str], source: str
) -> Iterator[Entry | Problem]:
    while start < len(lines):
        cells, end = _record(lines, start, delimiter)
        line, start = start + 1, end
        if isinstance(cells, str):
            yield Problem(Place(source, line), cells)
        elif any(cells[len(names) :]):
            yield Problem(Place(source, line), f"has {len(cells)} cells, but the header has {len(names)}")
        elif any(cells):
            said = zip(names, cells, strict=False)
            yield Entry(line, {name: cell for name, cell in said if cell and name and not name.startswith("#")})


def _record(lines: Sequence[str], start: int, delimiter: str) -> tuple[list[str] | str, int]:
    """The cells of the record that begins at `start`, or what is wrong with it; and where the next one begins."""
    if '"' not in lines[start]:  # nearly all of them
        return [cell.strip() for cell in lines[start].split(delimiter)], start + 1
    problem = ""
    for count in (1, _LINES_A_ROW):  # one line is nearly always enough
        several = lines[start : start + count]
        if any(len(line) > _LINE_CHARACTERS for line in several):
            return f"is longer than {_LINE_CHARACTERS} characters", start + 1
        reader = csv.reader([f"{line}\n" for line in several], delimiter=delimiter, strict=True)
        try:
            cells = next(reader)
        except csv.Error as error:
            problem = f"its quotation marks are not as CSV has them: {printable(str(error))}"
        else:
            return [cell.strip() for cell in cells], start + reader.line_num
    return problem, start + 1


def read_txt(text: str, source: str) -> Sheet:
    """One video a line; options follow, each after a tab, as name=value."""
    return Sheet(_entries(enumerate(text.split("\n"), 1), source))


def _entries(lines: Iterable[tuple[int, str]], source: str) -> Iterator[Entry | Problem]:
    for number, line in lines:
        video, *options = (part.strip() for part in line.split("\t"))
        if not video.startswith("#") and (video or any(options)):
            yield _entry(number, video, [option for option in options if option], source)


def _entry(number: int, video: str, options: Sequence[str], source: str) -> Entry | Problem:
    cells = {"video": video} if video else {}
    for option in options:
        name, sign, value = option.partition("=")
        name = _plain(name)
        if not sign or not name:
            return Problem(Place(source, number), f"found '{printable(option[:60])}' after a tab; allowed: name=value")
        if name in cells:
            return Problem(Place(source, number), f"{printable(name[:60])}: given twice")
        cells[name] = value.strip()
    return Entry(number, {name: value for name, value in cells.items() if value})
