"""What `gsvrctl submit` was asked for, and everything that is wrong with it. Reads; writes nothing."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path

from gsvrd.config.document import Document, Keys, Place, Problem, printable
from gsvrd.config.models import Config
from gsvrd.config.options import Options, parse_options
from gsvrd.intake.allowed import OUTSIDE, Placed, Roots, place_rows
from gsvrd.intake.manifest import (
    NAME_CHARACTERS,
    SUFFIXES,
    Manifest,
    Row,
    read_bytes,
    read_manifest,
    shown,
    wrong_link,
    wrong_name,
    wrong_path,
)
from gsvrd.intake.names import NameRules
from gsvrd.intake.scan import Walked, walk
from gsvrd.policy.links import parse_link


@dataclass(frozen=True, slots=True)
class Asked:
    """The command line."""

    sources: Sequence[str]
    name: str | None
    said: Sequence[tuple[str, str, str | None]]
    """Options: how problems call it, its name, its value (None: not said). The last word counts."""
    copy: bool
    """Take files from everywhere; they are copied."""


@dataclass(frozen=True, slots=True)
class Video:
    """One row to submit."""

    row: Row
    """Its path is not used; `path` is."""
    path: bytes = b""
    """Absolute; empty for a link."""
    is_inside: bool = False
    """In the inbox already."""
    below: bytes = b""
    """Where a copy goes below the folder of the batch."""

    @property
    def shown(self) -> str:
        """Its path for people, or the link without its secrets."""
        return printable(os.fsdecode(self.path)) if self.path else parse_link(self.row.url).name


@dataclass(slots=True)
class Submission:
    """All that is to be handed in."""

    name: str = ""
    options: Options = field(default_factory=Options)
    """Of the batch."""
    videos: list[Video] = field(default_factory=list)
    wrong: list[tuple[int, Problem]] = field(default_factory=list)
    """With the exit code of each."""
    hints: list[str] = field(default_factory=list)
    copy: bool = False
    """What is not in the inbox is copied into it."""

    @property
    def exit_code(self) -> int:
        """That of the first kind that there is: usage before input."""
        return min((code for code, _ in self.wrong), default=os.EX_OK)

    def complain(self, code: int, source: str, what: str) -> None:
        """Note a problem of a source."""
        self.wrong.append((code, Problem(Place(source), what)))


def gather(asked: Asked, config: Config) -> Submission:
    """Look at every source. Nothing is raised for what is wrong with them."""
    return _Gathering(asked, config).all()


class _Gathering:
    def __init__(self, asked: Asked, config: Config) -> None:
        self.asked, self.config = asked, config
        self.found = Submission(copy=asked.copy)
        self._rules = NameRules(config.intake.suffixes, config.intake.ignore)
        others = ["/"] if asked.copy else config.roots
        self._roots = Roots(os.fsencode(config.inbox), map(os.fsencode, others))
        self._manifest: Manifest | None = None
        self._seen: dict[bytes | str, Row] = {}

    def all(self) -> Submission:
        overrides = self._overrides()
        for source in self.asked.sources:
            self._take(source)
        self.found.name = self._name()
        base = self._manifest.options if self._manifest else Options()
        self.found.options = _over(base, overrides)
        if overrides.model_fields_set:
            self.found.videos = [_without(video, overrides.model_fields_set) for video in self.found.videos]
        self._check_templates()
        return self.found

    def _overrides(self) -> Options:
        said = {name: (how, value) for how, name, value in self.asked.said if value is not None}
        places: dict[Keys, Place] = {(name,): Place(how) for name, (how, _) in said.items()}
        values = {name: value for name, (_, value) in said.items()}
        options, problems = parse_options(Document("options", values, places))
        self.found.wrong += [(os.EX_USAGE, problem) for problem in problems]
        return options

    def _take(self, source: str) -> None:
        if "://" in source:
            if wrong := wrong_link(source):
                self.found.complain(os.EX_USAGE, shown(source), wrong)
            else:
                self._add(Video(Row(0, url=source)))
            return
        path, called = os.path.abspath(source), printable(source)
        try:
            kind = os.stat(path).st_mode
        except (OSError, ValueError) as error:
            what = error.strerror if isinstance(error, OSError) and error.strerror else "is no path"
            self.found.complain(os.EX_NOINPUT, called, what)
            return
        if stat.S_ISDIR(kind):
            self._take_folder(path, called)
        elif path.lower().endswith(SUFFIXES):
            self._take_manifest(Path(source), called)
        else:
            self._place(Manifest("", rows=(Row(0, path=path),)), called, b"/")

    def _take_manifest(self, path: Path, called: str) -> None:
        data = read_bytes(os.path.realpath(path))
        if isinstance(data, Problem):
            self.found.complain(os.EX_NOINPUT, called, data.what)
            return
        manifest = read_manifest(path, data)
        if len(self.asked.sources) == 1:
            self._manifest = manifest
        elif manifest.options.model_fields_set:
            self.found.complain(os.EX_USAGE, called, "has options of its own: submit it alone")
        self.found.wrong += [(os.EX_NOINPUT, problem) for problem in manifest.problems]
        self._place(manifest, called, os.fsencode(os.path.dirname(os.path.abspath(path))))

    def _take_folder(self, path: str, called: str) -> None:
        walked, top = Walked(), os.path.realpath(os.fsencode(path))
        try:
            videos = sorted(_videos(top, self._rules, walked))
        except OSError as error:
            self.found.complain(os.EX_NOINPUT, called, f"cannot be read: {error.strerror}")
            return
        for problem in walked.problems:
            self.found.complain(os.EX_NOINPUT, called, problem)
        if not videos and not walked.problems:
            self.found.complain(os.EX_NOINPUT, called, "holds no video; see intake.suffixes and intake.ignore")
        rows = tuple(Row(0, path=os.fsdecode(os.path.join(top, video))) for video in videos)
        self._place(Manifest("", rows=rows), called, b"/", top)

    def _place(self, manifest: Manifest, called: str, folder: bytes, top: bytes = b"") -> None:
        placed, problems = place_rows(manifest, called, folder, self._roots, self._rules)
        self.found.wrong += [(os.EX_NOINPUT, problem) for problem in problems]
        if not self.found.hints and any(problem.what.endswith(OUTSIDE) for problem in problems):
            self._hint_at_roots(manifest, folder)
        for one in placed:
            if one.located is None:
                self._add(Video(one.row))
            elif wrong := _unwritable(one):
                self.found.wrong.append((os.EX_NOINPUT, Problem(Place(called, one.row.line), wrong)))
            else:
                inside = one.located.root == self._roots.inbox
                real = one.located.path
                below = real[len(top) + 1 :] if top and real.startswith(top + b"/") else os.path.basename(real)
                self._add(Video(one.row, real, inside, below))

    def _add(self, video: Video) -> None:
        """Sources may overlap; the same is taken once, two wishes for one video are not."""
        key, row = video.path or parse_link(video.row.url).url, video.row
        first = self._seen.setdefault(key, row)
        if first is row:
            self.found.videos.append(video)
        elif (first.options, first.output_name) != (row.options, row.output_name):
            what = "is named twice, with different options"
            self.found.complain(os.EX_NOINPUT, video.shown if video.path else shown(row.url), what)

    def _hint_at_roots(self, manifest: Manifest, folder: bytes) -> None:
        paths = [os.path.realpath(os.path.join(folder, os.fsencode(row.path))) for row in manifest.rows if row.path]
        outside = [os.path.dirname(path) for path in paths if self._roots.locate(path) is None] or [b"/the/directory"]
        common = os.path.commonpath(outside)
        root = printable(os.fsdecode(outside[0] if common == b"/" else common))
        what = f"To allow a directory, put it into config/gsvrd.yaml (intake.roots: [{root}]) and reload"
        self.found.hints.append(what)
        self.found.hints.append("the daemon; or copy the videos into the inbox, by hand or with --copy.")

    def _name(self) -> str:
        if self.asked.name is not None:
            if wrong := wrong_name(self.asked.name):
                self.found.complain(os.EX_USAGE, "--name", wrong)
            return self.asked.name
        if self._manifest is not None:
            return self._manifest.name
        only = self.asked.sources[0] if len(self.asked.sources) == 1 else "://"
        stem = "" if "://" in only else printable(Path(os.path.abspath(only)).stem)[:NAME_CHARACTERS]
        return stem if stem and not wrong_name(stem) else time.strftime("%Y-%m-%d %H:%M:%S")

    def _check_templates(self) -> None:
        asked = {self.found.options.template} | {video.row.options.template for video in self.found.videos}
        if asked == {None}:
            return
        from gsvrd.templates.load import load_templates

        known = load_templates(self.config.home / "config" / "templates")
        for name in sorted(name for name in asked if name and name not in known):
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "see `gsvrctl templates`"
            self.found.complain(os.EX_USAGE, "template", f"there is no template '{name}'; {hint}")


def _videos(top: bytes, rules: NameRules, walked: Walked) -> Iterator[bytes]:
    for sight in walk(top, b"", rules, walked):
        if sight is not None and stat.S_ISREG(sight.found.st_mode):
            yield sight.relative


def _unwritable(placed: Placed) -> str:
    """Why a file that is there cannot be named in a manifest; or that it is not there, which only the daemon may await."""
    assert placed.located is not None  # noqa: S101 (asked by the caller)
    path = os.fsdecode(placed.located.path)
    if placed.found is None:
        return f"'{printable(path)}': no such file"
    try:
        path.encode()
    except UnicodeEncodeError:
        return f"'{printable(path)}': its name is no UTF-8 text, which a manifest cannot hold; rename it"
    wrong = wrong_path(path)
    return f"'{printable(path)}': {wrong}" if wrong else ""


def _over(base: Options, nearest: Options) -> Options:
    said = {name: getattr(nearest, name) for name in nearest.model_fields_set}
    return base.model_copy(update=said)


def _without(video: Video, names: set[str]) -> Video:
    """The video without what the command line says for all."""
    options = video.row.options
    kept = {name: getattr(options, name) for name in options.model_fields_set - names}
    return replace(video, row=replace(video.row, options=Options.model_construct(set(kept), **kept)))
