"""Which videos there are for `gsvrctl plan`. Reads and looks; writes, moves and calls nothing.

Three sources: the queue; the inbox with the manifests in it, judged by the intake's own rules; or the paths that were
named. What would become of each is judged by `judging`.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gsvrd.cli.looking import look
from gsvrd.cli.submitting import Asked, gather
from gsvrd.cli.weighing import Weight
from gsvrd.config.document import Problem
from gsvrd.config.models import Config
from gsvrd.config.options import Layer, resolve, to_json
from gsvrd.daemon.incoming import layers_of
from gsvrd.daemon.settings import priorities
from gsvrd.errors import TaskError
from gsvrd.intake.allowed import Placed, Roots, place_rows
from gsvrd.intake.identity import FILE_FLAGS
from gsvrd.intake.manifest import is_note, read_bytes, read_manifest
from gsvrd.intake.names import ERRORS_SUFFIX, OPTIONS_FILE, NameRules, is_shortcut, printable
from gsvrd.intake.scan import MAX_DEPTH
from gsvrd.intake.shortcuts import read_shortcut
from gsvrd.model import said
from gsvrd.policy.links import Link, parse_link
from gsvrd.store.foresight import Foresight
from gsvrd.store.reading import Row
from gsvrd.store.tracing import Tracing

_FINE = frozenset({"daemon_down", "draining", "inbox_trouble", "not_seen"})
"""Of what `looking` says: nothing is wrong with the file."""

STUDY, KNOWN, UNSURE = "study", "known", "unsure"
_DONE = frozenset({STUDY, KNOWN, UNSURE})


@dataclass(slots=True)
class Item:
    """One video, or something that is none."""

    name: str
    source: str
    """`queue`, `inbox` or `asked`."""
    path: bytes = b""
    """Of the file; empty for a link, also for that of a shortcut."""
    size: int = 0
    batch: str = ""
    batch_number: int | None = None
    options: str = "{}"
    task: int | None = None
    rank: float = 0.0
    due_at: float = 0.0
    sha256: str = ""
    code: str = STUDY
    why: str = ""
    held: str = ""
    """Why it would not start for now."""
    template: str = ""
    language: str = ""
    duration_s: float | None = None
    is_measured: bool = False
    weight: Weight | None = None
    link: Link | None = None

    @property
    def verdict(self) -> str:
        """`done`, `held` or `skipped`."""
        if self.code not in _DONE:
            return "skipped"
        return "held" if self.held else "done"

    def skip(self, code: str, why: str) -> None:
        """Nothing will be made of it."""
        self.code, self.why = code, why


@dataclass
class Planning:
    """Gathers. `daemon` is what `status` says of it."""

    config: Config
    foresight: Foresight | None
    daemon: dict[str, Any]
    templates: Collection[str]
    """The names of those there are."""
    items: list[Item] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._inbox = os.fsencode(self.config.inbox)
        self._rules = NameRules(self.config.intake.suffixes, self.config.intake.ignore)
        self._tracing = Tracing(self.foresight.conn) if self.foresight else None
        self._templates = frozenset(self.templates)
        self._read: dict[bytes, tuple[Layer | None, str]] = {}
        """Folders whose options were read."""
        self._named: dict[bytes, tuple[str, list[Layer]]] = {}
        """Files that manifests in the inbox name: the batch, and what the manifest says."""
        self._manifests: set[bytes] = set()
        self._priorities, self._now = priorities(self.config), time.time()

    def everything(self, paths: Sequence[str]) -> list[Item]:
        """The queue, and with it what was asked for, or else the inbox; in the order in which it would be done."""
        self._take_queue()
        if paths:
            self._take_asked(paths)
        else:
            self._take_inbox()
        return sorted(self.items, key=lambda item: (item.rank, item.name))

    # -- what there is -------------------------------------------------------------------------------------------------

    def _take_queue(self) -> None:
        for row in self.foresight.pending() if self.foresight else ():
            self.items.append(self._queued(row))

    def _queued(self, row: Row) -> Item:
        item = Item(row["name"], "queue", bytes(row["path"]), row["size"], row["batch_name"] or "", row["batch"])
        item.options, item.task, item.sha256 = row["options"], row["id"], row["sha256"] or ""
        item.rank, item.due_at = row["rank"], row["due_at"] or 0.0
        if row["url"]:
            item.path, item.link = b"", parse_link(row["url"])
        if self.foresight and self.foresight.is_held(row):
            item.due_at, item.held = 0.0, f"its batch is held: {row['hold']}"
        return item

    def _take_asked(self, paths: Sequence[str]) -> None:
        found = gather(Asked(paths, None, (), copy=True), self.config)
        for _, problem in found.wrong:
            self.items.append(_wrong(problem, "asked"))
        for video in found.videos:
            said_there = [("the manifest", found.options), (_row_of(video.row.line), video.row.options)]
            if not video.path:
                self._link(video.row.url, found.name, said_there, "asked")
            elif video.is_inside:
                relative = video.path[len(self._inbox.rstrip(b"/")) + 1 :]
                self._take_file(relative, os.lstat(video.path), "asked", said_there)
            else:
                self._add(video.path, video.shown, os.lstat(video.path), found.name, said_there, "asked")

    def _take_inbox(self) -> None:
        files = list(self._walk(b"", 0))
        for relative in files:
            if self._rules.is_manifest(relative.rpartition(b"/")[2]):
                self._take_manifest(relative)
        for relative in files:
            name = relative.rpartition(b"/")[2].lower()
            path = os.path.join(self._inbox, relative)
            if name == OPTIONS_FILE or name.endswith(ERRORS_SUFFIX) or path in self._manifests:
                continue
            try:
                self._take_file(relative, os.lstat(path), "inbox", [])
            except OSError:
                continue  # it vanished meanwhile

    def _walk(self, folder: bytes, depth: int) -> Iterator[bytes]:
        """Files below a folder of the inbox; a folder that is not looked into is told as one thing."""
        try:
            entries = sorted(os.scandir(os.path.join(self._inbox, folder)), key=lambda entry: entry.name)
        except OSError as error:
            self._complain(folder, "unreadable", f"it cannot be read: {error.strerror}")
            return
        for entry in entries:
            relative = os.path.join(folder, entry.name)
            if not entry.is_dir(follow_symlinks=False):
                yield relative
            elif depth >= MAX_DEPTH:
                self._complain(relative, "deep", f"it lies more than {MAX_DEPTH} folders deep")
            elif self._rules.is_folder(entry.name) and not self._rules.is_excluded(relative):
                yield from self._walk(relative, depth + 1)
            elif not entry.name.startswith(b"."):
                self._complain(relative, "ignored_folder", "folders of this name are not looked into")

    def _take_manifest(self, relative: bytes) -> None:
        path = os.path.join(self._inbox, relative)
        data = read_bytes(os.fsdecode(path))
        if isinstance(data, Problem):
            self.items.append(_wrong(data, "inbox"))
            return
        if relative.lower().endswith(b".txt") and is_note(data, self._rules):
            return
        self._manifests.add(path)  # not a video that is called wrongly
        manifest = read_manifest(Path(os.fsdecode(path)), data)
        roots = Roots(self._inbox, [os.fsencode(root) for root in self.config.roots])
        placed, problems = place_rows(manifest, printable(relative), os.path.dirname(path), roots, self._rules)
        for problem in (*manifest.problems, *problems):
            self.items.append(_wrong(problem, "inbox"))
        above, _ = layers_of(path, self._inbox, self._templates, self._read)
        for one in placed:
            self._take_row(one, manifest.name, [*above, ("the manifest", manifest.options)])

    def _take_row(self, placed: Placed, batch: str, layers: list[Layer]) -> None:
        said_there = [*layers, (_row_of(placed.row.line), placed.row.options)]
        if placed.located is None:
            self._link(placed.row.url, batch, said_there, "inbox")
        elif placed.located.root == self._inbox:
            self._named[placed.located.path] = (batch, said_there)
        elif placed.found is not None:
            name = printable(placed.located.path)
            self._add(placed.located.path, name, placed.found, batch, said_there, "inbox")

    def _take_file(self, relative: bytes, found: os.stat_result, source: str, layers: list[Layer]) -> None:
        """A file in the inbox."""
        known = self._tracing.of_file(found) if self._tracing else []
        if known:
            if source == "asked":
                self._complain(relative, "has_task", f"task {known[0]['id']} is {known[0]['state']}", source)
            return
        try:
            problem = look(relative, self._inbox, self.config.intake, self.daemon)
        except OSError:
            return  # it vanished meanwhile
        if problem.code not in _FINE:
            self._complain(relative, problem.code, problem.message, source)
            return
        path = os.path.join(self._inbox, relative)
        batch, named = self._named.get(path, ("", []))
        top = printable(relative.partition(b"/")[0]) if b"/" in relative else ""
        above, problem_there = layers_of(path, self._inbox, self._templates, self._read)
        self._add(path, printable(relative), found, batch or top, [*above, *named, *layers], source)
        if problem_there:
            self.items[-1].held = f"wrong options: {problem_there}"

    def _add(
        self, path: bytes, name: str, found: os.stat_result, batch: str, layers: Sequence[Layer], source: str
    ) -> None:
        item = Item(name, source, path, found.st_size, batch, options=to_json(resolve(layers)))
        if found.st_size == 0:
            item.skip("empty", "the file is empty")
        elif not stat.S_ISREG(found.st_mode):
            item.skip("special", "it is no regular file")
        elif is_shortcut(os.path.basename(path)):
            self._take_shortcut(item)
        self._line_up(item)

    def _take_shortcut(self, item: Item) -> None:
        path, item.path = item.path, b""
        try:
            with open(os.open(path, FILE_FLAGS), "rb") as file:
                item.link = read_shortcut(file.fileno(), os.path.basename(path))
        except TaskError as error:
            item.skip("link", str(error))
        except OSError as error:
            item.skip("unreadable", f"it cannot be read: {error.strerror}")

    def _link(self, url: str, batch: str, layers: Sequence[Layer], source: str) -> None:
        """A link that a list or the command line names."""
        link = parse_link(url)
        self._line_up(Item(link.name, source, batch=batch, link=link, options=to_json(resolve(layers))))

    def _line_up(self, item: Item) -> None:
        points = self._priorities.priority(item.size) + said(item.options, "priority", 0)
        item.rank = self._priorities.rank(points, self._now)
        if said(item.options, "dry_run", self.config.batch.dry_run):
            item.held = "dry run: it would only be queued, and held"
        self.items.append(item)

    def _complain(self, relative: bytes, code: str, why: str, source: str = "inbox") -> None:
        self.items.append(Item(printable(relative), source, os.path.join(self._inbox, relative), code=code, why=why))


def _wrong(problem: Problem, source: str) -> Item:
    return Item(str(problem.place), source, code="refused", why=problem.what)


def _row_of(line: int) -> str:
    return f"row {line}" if line else "the command line"
