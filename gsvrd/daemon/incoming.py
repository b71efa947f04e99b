"""What comes in: videos are made durable; the options of their folders, shortcuts and manifests are read.

Called in the filing thread, since it is slow, and by `gsvrctl plan`. Touches no state of the loop.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gsvrd.config.document import Document, Place, Problem, parse
from gsvrd.config.models import Config
from gsvrd.config.options import FILE, Layer, parse_options
from gsvrd.errors import TaskError
from gsvrd.intake.allowed import Placed, Roots, place_rows
from gsvrd.intake.identity import FILE_FLAGS, Candidate, durable, open_checked
from gsvrd.intake.manifest import Manifest, is_note, read_bytes, read_manifest
from gsvrd.intake.manifest_errors import write_errors
from gsvrd.intake.names import NameRules, is_shortcut, printable
from gsvrd.intake.shortcuts import read_shortcut
from gsvrd.policy.links import Link

_LARGEST_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Received:
    """A video that is safe on the disk, and what its folders say for it."""

    candidate: Candidate
    layers: tuple[Layer, ...] = ()
    problem: str = ""
    """What is wrong with the options of its folders."""
    link: Link | None = None
    """Of a shortcut; None also when it holds none: its attempt finds that out, and says so."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A manifest that was read."""

    candidate: Candidate
    manifest: Manifest
    placed: tuple[Placed, ...]
    layers: tuple[Layer, ...]
    """What the folders it lies in say."""
    problem: str
    """What is wrong with that."""
    problems: tuple[Problem, ...]
    """Rows that are left out, and others; written beside it."""


def receive(candidates: Iterable[Candidate], config: Config, templates: frozenset[str]) -> list[Received]:
    """In the filing thread: make videos durable, read the options of their folders, and shortcuts.

    Raises OSError as `durable`.
    """
    inbox = os.fsencode(config.inbox)
    read: dict[bytes, tuple[Layer | None, str]] = {}
    received = []
    for candidate in durable(candidates, inbox):
        layers, problem = layers_of(candidate.path, inbox, templates, read)
        problem = problem or wrong_folder(layers, config)
        received.append(Received(candidate, layers, problem, link_of(candidate, inbox)))
    return received


def link_of(candidate: Candidate, inbox: bytes) -> Link | None:
    """What a shortcut leads to; None for anything else, and for one that cannot be used."""
    name = os.path.basename(candidate.path)
    if not is_shortcut(name):
        return None
    with contextlib.suppress(TaskError, OSError):
        descriptor = open_checked(candidate.path, inbox, candidate.identity)
        try:
            return read_shortcut(descriptor, name)
        finally:
            os.close(descriptor)
    return None


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
    if wrong_here := wrong_folder([(str(path), manifest.options)], config):  # of the whole: nothing of it is begun
        good, unfit = (), [*unfit, Problem(Place(str(path), 1), wrong_here)]
    unread = [data] if isinstance(data, Problem) and not manifest.problems else []
    problems = sorted([*manifest.problems, *unread, *wrong, *unfit], key=lambda problem: problem.place.line)
    write_errors(path, problems)
    layers, problem = layers_of(candidate.path, inbox, templates, {})
    problem = problem or wrong_folder(layers, config)
    return Listed(candidate, manifest, good, layers, problem, tuple(problems))


def _fit(
    placed: Iterable[Placed], source: str, templates: frozenset[str], manifest: Manifest
) -> tuple[tuple[Placed, ...], list[Problem]]:
    """Rows that can be done here, and why others cannot."""
    good, problems = [], []
    for one in placed:
        template = one.row.options.template or manifest.options.template
        if template is not None and template not in templates:
            problems.append(Problem(Place(source, one.row.line), _no_template(template, templates)))
        else:
            good.append(one)
    return tuple(good), problems


def _no_template(name: str, templates: frozenset[str]) -> str:
    return f"template: there is no template {name!r}; allowed: {', '.join(sorted(templates))}"


def layers_of(
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


def wrong_folder(layers: Iterable[Layer], config: Config) -> str:
    """What is wrong with the directory in which the nearest of them wants snapshots; looks at the disk."""
    wished = [(origin, options.checkpoint_dir) for origin, options in layers if options.checkpoint_dir]
    if not wished or config.checkpoint_folder(wished[-1][1]):
        return ""
    origin, folder = wished[-1]
    return f"{origin}: checkpoint_dir: {folder!r} leads out of state/checkpoints and of the directories in checkpoint.roots"


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
    return (name, options), "; ".join(map(str, problems))


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
