"""Reading a YAML file into plain data that remembers its lines.

Every scalar stays text as written (the rules give types), every key is checked for doubles, and each trouble becomes a
`Problem` instead of an exception, so that `load` can list it beside all others.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import yaml

Keys = tuple[str, ...]
"""A way down: `("workers", "max")`; entries of a list by their number."""

_LARGEST_BYTES = 2**20
"""Nobody writes a megabyte of settings; a video given as `--config` by mistake must not be parsed."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value was written."""

    source: str
    """The file's name, or `GSVRD_… (environment)`; printable."""
    line: int = 0
    """From 1; 0 where there are no lines."""

    def __str__(self) -> str:
        """As compilers write it, so that editors can jump there."""
        return f"{self.source}:{self.line}" if self.line else self.source


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and where."""

    place: Place
    what: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.place}: {self.what}"


@dataclass(slots=True)
class Document:
    """What was written, and where."""

    source: str
    values: object = None
    """Maps, lists, text and None (nothing written)."""
    places: dict[Keys, Place] = field(default_factory=dict)
    """Of each key and list entry."""
    problems: list[Problem] = field(default_factory=list)


def read_file(file: str | os.PathLike[str]) -> Document:
    """Read and parse `file`."""
    name = printable(os.fspath(file))
    try:
        with open(file, "rb") as stream:
            data = stream.read(_LARGEST_BYTES + 1)
    except OSError as error:
        return _broken(name, 0, f"cannot be read: {error.strerror}")
    if len(data) > _LARGEST_BYTES:
        return _broken(name, 0, "is larger than 1 MiB: not a configuration file")
    try:
        return parse(data.decode("utf-8-sig"), name)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return _broken(name, line, "is not UTF-8 text; save the file as UTF-8")


def parse(text: str, name: str) -> Document:
    """Parse `text`; `name` is what problems call it."""
    try:
        root = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        return _broken(name, line, f"the character U+{error.character:04X} is not allowed in YAML")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        return _broken(name, line, f"not valid YAML: {_syntax(error)}")
    except RecursionError:
        return _broken(name, 0, "not valid YAML: nested too deeply")
    reader = _Reader(name)
    if root is not None:
        reader.document.values = reader.plain(root, ())
    return reader.document


def printable(text: str) -> str:
    """`text` on one line, whatever is in it."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


class _Reader:
    """Turns nodes into plain data and notes lines and problems on the way."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.document = Document(name)
        self._seen: set[int] = set()

    def plain(self, node: yaml.Node, path: Keys) -> object:
        self.document.places.setdefault(path, self._place(node))
        if isinstance(node, yaml.ScalarNode):
            if _is_broken(node.value):
                self._complain(node, "half a surrogate pair is no character")
                return None
            return None if node.style is None and node.value in ("", "~", "null") else node.value
        if id(node) in self._seen:  # an alias: could be endless, and nobody needs it here
            problem = Problem(
                self.document.places[path], f"{printable('.'.join(path))}: aliases (*name) are not allowed"
            )
            self.document.problems.append(problem)
            return None
        self._seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            return [self.plain(entry, (*path, str(index))) for index, entry in enumerate(node.value)]
        return self._mapping(node, path)

    def _mapping(self, node: yaml.Node, path: Keys) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or _is_broken(key.value):
                self._complain(key, "a key must be a plain word")
                continue
            here = (*path, key.value)
            if key.value in found:
                shown = printable(".".join(here))
                self._complain(key, f"{shown}: given twice, first in line {self.document.places[here].line}")
                continue
            self.document.places[here] = self._place(key)
            found[key.value] = self.plain(value, here)
        return found

    def _complain(self, node: yaml.Node, what: str) -> None:
        self.document.problems.append(Problem(self._place(node), what))

    def _place(self, node: yaml.Node) -> Place:
        return Place(self.name, node.start_mark.line + 1)


def _is_broken(text: str) -> bool:
    """Escapes can write what no file can hold: half a character."""
    return any(0xD800 <= ord(character) <= 0xDFFF for character in text)


def _syntax(error: yaml.MarkedYAMLError) -> str:
    text = ", ".join(part for part in (error.context, error.problem) if part)
    hint = "; indent with spaces, not tabs" if "'\\t'" in text else ""
    return f"{text}{hint}"


def _broken(source: str, line: int, what: str) -> Document:
    return Document(source, problems=[Problem(Place(source, line), what)])
