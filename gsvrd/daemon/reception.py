"""Reception: what was asked for a video that comes in, by the folders it lies in or by a manifest.

What is slow (syncing videos, reading options and manifests) is done by the filing thread through `receive` and `read`; they
touch no state of the loop. `Reception` belongs to the loop: it notes tasks and batches, holds a batch whose options are
wrong until they are mended, and remembers the rows of a manifest whose videos have not arrived yet.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog

from gsvrd.config.document import Document, Place, Problem, parse
from gsvrd.config.models import Config
from gsvrd.config.options import FILE, Layer, Options, parse_options, resolve, to_json
from gsvrd.daemon.batches import FOLDER, MANIFEST, Batches
from gsvrd.daemon.filing import Filing
from gsvrd.intake.allowed import Placed, Roots, place_rows
from gsvrd.intake.identity import FILE_FLAGS, Candidate, Identity, durable
from gsvrd.intake.manifest import Manifest, is_note, read_bytes, read_manifest
from gsvrd.intake.manifest_errors import write_errors
from gsvrd.intake.moving import Source, move_out
from gsvrd.intake.names import NameRules, printable
from gsvrd.model import NewTask, said
from gsvrd.store.queue import TaskQueue

log = structlog.get_logger("gsvrd.reception")

WRONG = "wrong options: "
"""How the reason begins of a batch that is held for its options."""
DRY_RUN = "dry run: `gsvrctl plan` tells what would be done, `gsvrctl batch NAME resume` does it"
LOOK_AGAIN_S = 5.0
_LARGEST_BYTES = 2**20
_NO_LINKS = "links cannot be studied yet: download the video and name the file"


@dataclass(frozen=True, slots=True)
class Received:
    """A video that is safe on the disk, and what its folders say for it."""

    candidate: Candidate
    layers: tuple[Layer, ...] = ()
    problem: str = ""
    """What is wrong with the options of its folders."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A manifest that was read."""

    candidate: Candidate
    manifest: Manifest
    placed: tuple[Placed, ...]
    layers: tuple[Layer, ...]
    """What the folders it lies in say."""


def receive(candidates: Iterable[Candidate], inbox: bytes, templates: frozenset[str]) -> list[Received]:
    """In the filing thread: make videos durable and read the options of their folders. Raises OSError as `durable`."""
    read: dict[bytes, tuple[Layer | None, str]] = {}
    received = []
    for candidate in durable(candidates, inbox):
        layers, problem = _layers(candidate.path, inbox, templates, read)
        received.append(Received(candidate, layers, problem))
    return received


def read(candidate: Candidate, config: Config, rules: NameRules, templates: frozenset[str]) -> Listed | None:
    """In the filing thread: read a manifest and look at its videos; None when it is only somebody's notes.

    Raises OSError when the file with its errors cannot be written.
    """
    path, inbox = Path(os.fsdecode(candidate.path)), os.fsencode(config.inbox)
    data = read_bytes(path)
    if path.suffix.lower() == ".txt" and isinstance(data, bytes) and is_note(data, rules):
        return None
    manifest = read_manifest(path, data if isinstance(data, bytes) else None)
    placed, wrong = place_rows(
        manifest, str(path), os.fsencode(path.parent), Roots(inbox, map(os.fsencode, config.roots)), rules
    )
    good, unfit = _fit(placed, str(path), templates, manifest)
    unread = [data] if isinstance(data, Problem) and not manifest.problems else []
    write_errors(path, [*manifest.problems, *unread, *wrong, *unfit])
    layers, problem = _layers(candidate.path, inbox, templates, {})
    if problem:
        log.warning("folder_options", problem=problem)
    return Listed(candidate, manifest, good, layers)


def _fit(
    placed: Iterable[Placed], source: str, templates: frozenset[str], manifest: Manifest
) -> tuple[tuple[Placed, ...], list[Problem]]:
    """Rows that can be done here, and why others cannot."""
    good, problems = [], []
    for one in placed:
        template = one.row.options.template or manifest.options.template
        if one.located is None:
            problems.append(Problem(Place(source, one.row.line), _NO_LINKS))
        elif template is not None and template not in templates:
            problems.append(Problem(Place(source, one.row.line), _no_template(template, templates)))
        else:
            good.append(one)
    return tuple(good), problems


def _no_template(name: str, templates: frozenset[str]) -> str:
    return f"template: there is no template {name!r}; allowed: {', '.join(sorted(templates))}"


def _layers(
    path: bytes, inbox: bytes, templates: frozenset[str], read: dict[bytes, tuple[Layer | None, str]]
) -> tuple[tuple[Layer, ...], str]:
    """The options of every folder from the inbox down to a file, the nearest last; and the first problem with them."""
    layers: list[Layer] = []
    folder, problem = inbox, ""
    for part in [b"", *os.path.dirname(path[len(inbox) + 1 :]).split(b"/")]:
        folder = os.path.join(folder, part) if part else folder
        if folder not in read:
            read[folder] = _folder_options(folder, inbox, templates)
        layer, wrong = read[folder]
        problem = problem or wrong
        if layer is not None:
            layers.append(layer)
    return tuple(_unique(layers)), problem


def _unique(layers: list[Layer]) -> list[Layer]:
    """The inbox itself is met twice by a file that lies directly in it."""
    return [layer for number, layer in enumerate(layers) if layer not in layers[:number]]


def _folder_options(folder: bytes, inbox: bytes, templates: frozenset[str]) -> tuple[Layer | None, str]:
    path = os.path.join(folder, os.fsencode(FILE))
    name = printable(os.path.relpath(path, inbox))
    document = _document(path, name)
    if document is None:
        return None, ""
    options, problems = parse_options(document)
    if options.template is not None and options.template not in templates:
        line = document.places.get(("template",), Place(name))
        problems.append(Problem(line, _no_template(options.template, templates)))
    return (name, options), str(problems[0]) if problems else ""


def _document(path: bytes, name: str) -> Document | None:
    """Never through a link: whoever may write into the inbox is not trusted with other files."""
    try:
        descriptor = os.open(path, FILE_FLAGS)
    except OSError:
        return None
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        data = file.read(_LARGEST_BYTES)
    try:
        return parse(data.decode("utf-8-sig"), name)
    except UnicodeDecodeError:
        return Document(name, problems=[Problem(Place(name), "is not UTF-8 text; save the file as UTF-8")])


@dataclass(slots=True)
class Reception:
    """The loop's side; see the module."""

    config: Config
    queue: TaskQueue
    filing: Filing
    batches: Batches
    templates: frozenset[str]
    rules: NameRules
    later: Callable[[float, Callable[[], None]], None]
    moved: Callable[[bytes, Identity], None]
    """Told when a manifest has left the inbox."""
    _expected: dict[bytes, tuple[int, tuple[Layer, ...]]] = field(default_factory=dict)
    """Batch and options of videos that a manifest names and that are not there yet."""
    _wrong: dict[int, bytes] = field(default_factory=dict)
    """Batches held for their options, and the folder of one of their videos."""
    _is_looking: bool = False

    def change(self, config: Config, templates: frozenset[str]) -> None:
        """The configuration was read again."""
        self.config, self.templates = config, templates
        self.rules = NameRules(config.intake.suffixes, config.intake.ignore)
        self.batches.idle_close_s = config.batch.idle_close

    def restore(self) -> None:
        """At start: batches that were held for their options are looked at again."""
        inbox = os.fsencode(self.config.inbox)
        for number, kind, name, hold in self.queue.batches():
            if kind == FOLDER and hold.startswith(WRONG):
                self._watch(number, os.path.join(inbox, os.fsencode(name), b"x"))

    def is_manifest(self, candidate: Candidate) -> bool:
        """Whether it is a list of videos."""
        return self.rules.is_manifest(os.path.basename(candidate.path))

    # -- videos ------------------------------------------------------------------------------------------------------

    def accept(self, received: Received) -> None:
        """A video is queued, with what was asked for it."""
        candidate = received.candidate
        expected = self._expected.pop(candidate.path, None)
        batch, layers = expected or (self.batches.of(candidate.name), ())
        self._add(_new_task(candidate), batch, (*received.layers, *layers))
        if said(to_json(resolve((*received.layers, *layers))), "dry_run", self.config.batch.dry_run):
            self.queue.hold_batch(batch, DRY_RUN)
        if received.problem:
            log.warning("options_refused", problem=received.problem)
            self.queue.hold_batch(batch, WRONG + received.problem)
            self._watch(batch, candidate.path)
        log.debug("video_accepted", name=candidate.name, batch=batch)

    def _add(self, new: NewTask, batch: int, layers: tuple[Layer, ...], *, elsewhere: bool = False) -> None:
        resolved = resolve(layers)
        points = int(resolved["priority"][0]) if "priority" in resolved else 0
        self.queue.add(new, batch=batch, options=to_json(resolved), points=points, elsewhere=elsewhere)

    # -- options that are mended -------------------------------------------------------------------------------------

    def _watch(self, batch: int, path: bytes) -> None:
        self._wrong[batch] = path
        if not self._is_looking:
            self._is_looking = True
            self.later(LOOK_AGAIN_S, self._look)

    def _look(self) -> None:
        self._is_looking = False
        inbox = os.fsencode(self.config.inbox)
        for batch, path in self._wrong.items():
            waiting = [(task.id, task.path) for task in self.queue.pending_of(batch)] or [(0, path)]
            look = partial(_look_at, waiting, inbox, self.templates)
            self.filing.submit(look, partial(self._looked, batch), lambda _: None)
        if self._wrong:
            self._is_looking = True
            self.later(LOOK_AGAIN_S, self._look)

    def _looked(self, batch: int, found: tuple[list[tuple[int, tuple[Layer, ...]]], str]) -> None:
        layers_of, problem = found
        if problem:
            self.queue.hold_batch(batch, WRONG + problem)
            return
        self._wrong.pop(batch, None)
        for task, layers in layers_of:
            self.queue.set_options(task, to_json(resolve(layers)))
        log.info("options_mended", batch=batch)
        self.queue.hold_batch(batch, "")

    # -- manifests ---------------------------------------------------------------------------------------------------

    def take_manifest(self, candidate: Candidate) -> None:
        """A manifest has settled in the inbox."""
        self.filing.submit(
            partial(read, candidate, self.config, self.rules, self.templates),
            self._listed,
            partial(self._not_read, candidate),
        )

    def _not_read(self, candidate: Candidate, error: OSError) -> None:
        log.error("manifest_errors_not_written", name=candidate.name, error=str(error))
        self.later(LOOK_AGAIN_S, lambda: self.take_manifest(candidate))

    def _listed(self, listed: Listed | None) -> None:
        if listed is None:
            return
        manifest = listed.manifest
        batch = self.batches.named(MANIFEST, manifest.name)
        source = listed.candidate.name
        for placed in listed.placed:
            layers = (*listed.layers, (source, manifest.options), (f"{source}:{placed.row.line}", _row_options(placed)))
            self._take_row(placed, batch, layers)
        log.info("manifest_read", name=source, videos=len(listed.placed), problems=len(manifest.problems))
        inbox = os.fsencode(self.config.inbox)
        away = Source(listed.candidate.path, inbox, listed.candidate.identity)
        self.filing.submit(
            partial(move_out, away, os.fsencode(self.config.archive)),
            lambda _: self.moved(listed.candidate.path, listed.candidate.identity),
            lambda error: log.warning("manifest_not_moved", name=source, error=str(error)),
        )

    def _take_row(self, placed: Placed, batch: int, layers: tuple[Layer, ...]) -> None:
        located, found = placed.located, placed.found
        inbox = os.fsencode(self.config.inbox)
        if located is None:
            return
        if found is None:
            self._expected[located.path] = (batch, layers)
            return
        identity = Identity.of(found)
        below = located.path[len(located.root.rstrip(b"/")) + 1 :]
        new = NewTask(located.path, printable(below), identity.dev, identity.ino, identity.size, identity.mtime_ns)
        if located.root != inbox:
            self._add(new, batch, layers, elsewhere=True)
        elif not self.queue.ask_for(located.path, batch, to_json(resolve(layers))):
            self._expected[located.path] = (batch, layers)  # the intake brings it when it has settled


def _look_at(
    waiting: list[tuple[int, bytes]], inbox: bytes, templates: frozenset[str]
) -> tuple[list[tuple[int, tuple[Layer, ...]]], str]:
    read: dict[bytes, tuple[Layer | None, str]] = {}
    layers_of = []
    for task, path in waiting:
        layers, problem = _layers(path, inbox, templates, read)
        if problem:
            return [], problem
        if task:
            layers_of.append((task, layers))
    return layers_of, ""


def _row_options(placed: Placed) -> Options:
    row = placed.row
    return row.options.model_copy(update={"output_pattern": row.output_name}) if row.output_name else row.options


def _new_task(candidate: Candidate) -> NewTask:
    identity = candidate.identity
    return NewTask(candidate.path, candidate.name, identity.dev, identity.ino, identity.size, identity.mtime_ns)
