"""Manifests: lists of videos as people write them, read into rows and problems. The formats are in docs/batches.md.

`read_manifest` is called by the daemon's filing thread, and by `gsvrctl submit` to check before anything is written. It
never raises for what a file says, and looks at no video: `allowed` says where a row's path leads. Knows no queue.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import urlsplit

from gsvrd.config.document import Document, Keys, Place, Problem, printable
from gsvrd.config.options import FILE, Options, parse_options
from gsvrd.config.rules import report_name
from gsvrd.intake.identity import FILE_FLAGS
from gsvrd.intake.names import NameRules
from gsvrd.intake.sheet import Entry, Refused, Sheet, decode
from gsvrd.intake.sheet_lines import read_csv, read_txt
from gsvrd.intake.sheet_yaml import read_yaml
from gsvrd.policy.links import parse_link

SUFFIXES = (".csv", ".txt", ".yaml", ".yml")
LARGEST_BYTES = 32 * 2**20
MOST_ROWS = 250_000
MOST_PROBLEMS = 1000
"""Further ones are counted."""
NAME_CHARACTERS = 120
"""Of a batch."""

_TARGETS = ("path", "url", "video")
_REPORT = "output_name"
_OPTIONS = frozenset(Options.model_fields)
BATCH_ONLY = frozenset(
    {"parallel", "cost_limit", "progress_file", "webhook_url", "checkpoint_dir", "checkpoint_interval", "dry_run"}
)
"""What cannot be said for one video of many."""
_KNOWN = (*_TARGETS, _REPORT, *Options.model_fields)
_PATH_BYTES = 4000
_URL_CHARACTERS = 4000
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,20}://")
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
_UNSAFE_NAME = re.compile(f"{_CONTROL.pattern}|/")
_report_name = report_name()


@dataclass(frozen=True, slots=True)
class Row:
    """One video of a manifest: either `path` or `url` is said."""

    line: int
    path: str = ""
    """As written: absolute, or below the folder of the manifest."""
    url: str = ""
    """An http or https address."""
    options: Options = field(default_factory=Options)
    """What the row says, nothing else."""
    output_name: str = ""
    """Its report's name, an `output_pattern` of its own; empty when nothing is said."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest says. Rows that are wrong are among the problems instead."""

    name: str
    """Of the batch; printable, without '/'."""
    options: Options = field(default_factory=Options)
    """What it says of all its rows."""
    rows: tuple[Row, ...] = ()
    problems: tuple[Problem, ...] = ()


def is_note(data: bytes, rules: NameRules) -> bool:
    """Whether a dropped `.txt` is none of ours: not every line of it is the path of a video or a link."""
    try:
        lines = decode(data, "").split("\n")
    except Refused:
        return True
    said = [line.partition("\t")[0].strip() for line in lines]
    videos = [video for video in said if video and not video.startswith("#")]
    return not videos or not all(_is_link(video) or _is_video(video, rules) for video in videos)


def read_bytes(path: str | os.PathLike[str]) -> bytes | Problem:
    """The bytes of a manifest, never those of a link, a pipe or something huge."""
    place = Place(printable(os.fspath(path)))
    try:
        descriptor = os.open(path, FILE_FLAGS)
        with open(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return Problem(place, "is no regular file")
            data = stream.read(LARGEST_BYTES + 1)
    except OSError as error:
        return Problem(place, f"cannot be read: {error.strerror}")
    return _too_large(place) if len(data) > LARGEST_BYTES else data


def read_manifest(path: Path, data: bytes | None = None) -> Manifest:
    """What the manifest at `path` says; its suffix is its format. With `data` nothing is opened.

    Takes below two seconds for 100,000 rows: for a thread. Of what is wrong with the manifest as a whole (an unknown
    column, a bad option of the batch) there is one problem and no row: to guess could cost money.
    """
    source = printable(os.fspath(path))
    stem = _shortened(printable(path.stem).strip(" .")) or "manifest"
    found = read_bytes(path) if data is None else data
    if isinstance(found, bytes) and len(found) > LARGEST_BYTES:
        found = _too_large(Place(source))
    if isinstance(found, Problem):
        return Manifest(stem, problems=(found,))
    try:
        sheet = _sheet(path.suffix.lower(), decode(found, source), source)
        return _gathered(sheet, source, stem)
    except Refused as refused:
        return Manifest(stem, problems=(refused.problem,))


def wrong_name(name: str) -> str:
    """What is wrong with a batch's name, or nothing."""
    if _UNSAFE_NAME.search(name) or not name.strip(" .") or len(name) > NAME_CHARACTERS:
        return f"allowed: a name of at most {NAME_CHARACTERS} characters, without '/' and control characters"
    return ""


# -- the whole -------------------------------------------------------------------------------------------------------------


def _sheet(suffix: str, text: str, source: str) -> Sheet:
    if suffix == ".csv":
        return read_csv(text, source, _unknown)
    if suffix == ".txt":
        return read_txt(text, source)
    if suffix in SUFFIXES:
        return read_yaml(text, source)
    raise Refused(source, 0, f"is no manifest; allowed: {', '.join(SUFFIXES)}")


def _gathered(sheet: Sheet, source: str, stem: str) -> Manifest:
    options, problems = parse_options(sheet.options) if sheet.options else (Options(), [])
    if sheet.name and (wrong := wrong_name(sheet.name)):
        problems.append(Problem(Place(source, sheet.line), f"name: found '{shown(sheet.name)}'; {wrong}"))
    name = sheet.name or stem
    if problems:
        return Manifest(stem, problems=tuple(problems))
    gathering = _Gathering(source)
    for entry in sheet.entries:
        gathering.take(entry)
    if not gathering.rows and not gathering.wrong:
        raise Refused(source, 0, "names no video")
    return Manifest(name, options, tuple(gathering.rows), tuple(gathering.all_problems()))


class _Gathering:
    """Takes entries one by one."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.rows: list[Row] = []
        self.wrong = 0
        self._problems: list[Problem] = []
        self._lines: dict[str, int] = {}
        self._options: dict[tuple[tuple[str, str], ...], Options] = {}

    def take(self, entry: Entry | Problem) -> None:
        found = entry if isinstance(entry, Problem) else self._row(self._without_wishes_of_the_batch(entry))
        if isinstance(found, Row):
            self.rows.append(found)
            if len(self.rows) > MOST_ROWS:
                raise Refused(self.source, found.line, f"has more than {MOST_ROWS:,} rows; split it")
            return
        self._note(found)

    def _note(self, problem: Problem) -> None:
        self.wrong += 1
        if len(self._problems) < MOST_PROBLEMS:
            self._problems.append(problem)

    def _without_wishes_of_the_batch(self, entry: Entry) -> Entry:
        """A row cannot speak for the others; it is done without what it says for them."""
        foreign = [name for name in entry.cells if _plain(name) in BATCH_ONLY]
        for name in foreign:
            what = f"{name} belongs to the batch: say it once, for the whole list or in a folder's {FILE}"
            self._note(self._problem(entry, name, f"{what}; the row is done without it"))
        if not foreign:
            return entry
        return replace(entry, cells={name: value for name, value in entry.cells.items() if name not in foreign})

    def all_problems(self) -> list[Problem]:
        more = self.wrong - len(self._problems)
        return self._problems + [Problem(Place(self.source), f"{more:,} more problems")] * bool(more)

    def _row(self, entry: Entry) -> Row | Problem:
        cells = entry.cells
        targets = [name for name in _TARGETS if name in cells]
        if len(targets) != 1:
            what = f"says {' and '.join(targets)}: one of them is enough" if targets else "names no video"
            return self._problem(entry, "", what if targets else f"{what}; allowed: path, url or video")
        target = targets[0]
        video = cells[target]
        is_link = target == "url" or _SCHEME.match(video) is not None
        if wrong := wrong_link(video) if is_link else wrong_path(video):
            return self._problem(entry, target, f"{target}: found '{shown(video)}'; {wrong}")
        key = parse_link(video).url if is_link else _normal(video)
        if key in self._lines:
            what = f"{target}: '{shown(video)}' is there twice, first in line {self._lines[key]}"
            return self._problem(entry, target, what)
        options = self._options_of(entry)
        if isinstance(options, Problem):
            return options
        report = cells.get(_REPORT, "")
        if report and (wrong := _wrong_report(report)):
            return self._problem(entry, _REPORT, f"{_REPORT}: found '{shown(report)}'; {wrong}")
        self._lines[key] = entry.line
        where = {"url": video} if is_link else {"path": video}
        return Row(entry.line, **where, options=options, output_name=report)

    def _options_of(self, entry: Entry) -> Options | Problem:
        """Rows that say the same share it: checking is dear, and most of 100,000 rows say the same."""
        said = {name: value for name, value in entry.cells.items() if name not in _TARGETS and name != _REPORT}
        key = tuple(said.items())
        if key in self._options:
            return self._options[key]
        for name in said:
            if wrong := _unknown(name):
                return self._problem(entry, name, wrong)
        places: dict[Keys, Place] = {(name,): Place(self.source, entry.lines.get(name, entry.line)) for name in said}
        options, problems = parse_options(Document(self.source, dict(said), places))
        if problems:
            return problems[0]
        self._options[key] = options
        return options

    def _problem(self, entry: Entry, name: str, what: str) -> Problem:
        return Problem(Place(self.source, entry.lines.get(name, entry.line)), what)


def _plain(name: str) -> str:
    return name.removesuffix("_s")


# -- one value -------------------------------------------------------------------------------------------------------------


def _unknown(name: str) -> str:
    """What is wrong with the name of a column, or nothing."""
    if name in _KNOWN or name.removesuffix("_s") in _OPTIONS:
        return ""
    near = get_close_matches(name[:60], _KNOWN, n=1)
    hint = f"did you mean {near[0]}?" if near else f"allowed: {', '.join(_KNOWN)}"
    return f"unknown column '{shown(name)}'; {hint}"


def wrong_path(path: str) -> str:
    """What is wrong with a path as a row may name it, or nothing."""
    if _CONTROL.search(path):
        return "control characters are not allowed"
    if len(path.encode()) > _PATH_BYTES:
        return f"it is longer than {_PATH_BYTES} bytes"
    if _WINDOWS.match(path):
        return "this is a path of Windows; write it below the folder of the manifest, with / between folders"
    if path.lower().endswith(SUFFIXES):
        return "a manifest cannot name another one; allowed: videos and links"
    return ""


def wrong_link(url: str) -> str:
    """What is wrong with a link as a row may name it, or nothing."""
    if _CONTROL.search(url) or " " in url or len(url) > _URL_CHARACTERS:
        return f"allowed: a link of at most {_URL_CHARACTERS} characters, without spaces"
    try:
        parts = urlsplit(url)
        usable = parts.scheme.lower() in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        return "allowed: an http or https link"
    if "@" in parts.netloc:
        return "a link with a user's name or password in it is not allowed"
    try:
        parse_link(url)
    except ValueError as error:
        return str(error)
    return ""


def _normal(path: str) -> str:
    """Two spellings of a path are one; with `..` in it only the disk knows."""
    return path if ".." in path else posixpath.normpath(path)


def _wrong_report(name: str) -> str:
    try:
        _report_name.read(name)
    except ValueError as error:
        return str(error) or f"allowed: {_report_name.allowed}"
    return ""


def _is_link(video: str) -> bool:
    return _SCHEME.match(video) is not None and not wrong_link(video)


def _is_video(video: str, rules: NameRules) -> bool:
    return not wrong_path(video) and rules.is_video(video.encode().rpartition(b"/")[2])


def shown(value: str) -> str:
    """A value of a row in few words; of a link neither the password nor the query, which may hold a key."""
    found = _SCHEME.match(value)
    if found:
        host, slash, rest = value[found.end() :].partition("/")
        value = found[0] + host.rpartition("@")[2].partition("?")[0] + slash + re.split("[?#]", rest, maxsplit=1)[0]
    return _shortened(printable(value), 80)


def _shortened(text: str, most: int = NAME_CHARACTERS) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _too_large(place: Place) -> Problem:
    return Problem(place, f"is larger than {LARGEST_BYTES // 2**20} MiB: no manifest; split it")
