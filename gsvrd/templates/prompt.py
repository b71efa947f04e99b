"""Turns a prompt text and values into the words a model gets. Used by `model` and, to find mistakes early, by `load`.

Two walls. `examine` lets through a small part of Jinja only: values, `if`, `for` over one value, three filters; no calls,
no attributes, no arithmetic. So every accepted text ends, soon, and has nothing to climb out of a sandbox with. Behind it
stands Jinja's immutable sandbox with strict undefined and without its globals, filters and tests. Values are data: they
are put out as one line without control or bidi characters, and never parsed.
"""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache

from jinja2 import StrictUndefined, nodes
from jinja2 import Template as Compiled
from jinja2.exceptions import TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gsvrd.templates.times import clock

LONGEST = 200_000
"""Characters a prompt may come to."""

_DEEPEST = 40
_LOOPS = 2
"""How deep `for` may stand in `for`: with lists of 50 entries, 2,500 rounds."""
_LOOP_FACTS = ("index", "first", "last", "length")
_PLAIN = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.Const,
    nodes.If,
    nodes.CondExpr,
    nodes.Compare,
    nodes.Operand,
    nodes.And,
    nodes.Or,
    nodes.Not,
)
_ALLOWED = (
    "allowed: {{ a value }}, if, for over one value, loop.index/first/last/length, and the filters clock, quoted, join"
)
_CALLED = {
    "Assign": "set",
    "AssignBlock": "set",
    "FromImport": "import",
    "Getattr": "an attribute",
    "Getitem": "an index",
}
_DROPPED = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is told."""

    system: str
    user: str


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong with a prompt text. `line` counts from 1 inside the text."""

    line: int
    what: str


class PromptError(Exception):
    """A prompt text cannot be used, or not with these values. Stays inside this package."""

    def __init__(self, mistake: Mistake) -> None:
        super().__init__(mistake.what)
        self.mistake = mistake


def examine(text: str, names: Set[str]) -> tuple[list[Mistake], Set[str]]:
    """What is wrong with a prompt text that may use the values `names`, and which of them it does use."""
    try:
        tree = _environment().parse(text)
    except TemplateSyntaxError as error:
        return [Mistake(error.lineno, error.message or "not valid Jinja")], set()
    except (RecursionError, ValueError) as error:  # nested thousands deep; a number with thousands of digits
        return [Mistake(1, f"not valid Jinja: {type(error).__name__}")], set()
    inspector = _Inspector(names)
    inspector.look(tree, set(), 0, 0)
    return inspector.mistakes, inspector.used


def put_out(text: str, values: Mapping[str, object]) -> str:
    """`text` with `values` in it, without white space around. Raises `PromptError`."""
    compiled = _compiled(text, frozenset(values))
    pieces, size = [], 0
    try:
        for piece in compiled.generate(values):
            size += len(piece)
            if size > LONGEST:
                raise PromptError(Mistake(1, f"the prompt is longer than {LONGEST} characters"))
            pieces.append(piece)
    except (TemplateError, TypeError, ValueError) as error:
        raise PromptError(Mistake(_line_of(error), f"does not work with these values: {error}")) from error
    return re.sub(r"\n{3,}", "\n\n", "".join(pieces)).strip()


def fold(text: str) -> str:
    """`text` as one line of visible characters."""
    return " ".join(_DROPPED.sub("", text).split())


@lru_cache(maxsize=64)
def _compiled(text: str, names: frozenset[str]) -> Compiled:
    mistakes, _ = examine(text, names)  # before compiling: Jinja calculates constants while it compiles
    if mistakes:
        raise PromptError(mistakes[0])
    return _environment().from_string(text)


class _Inspector:
    """Walks a parsed text and notes what is not allowed."""

    def __init__(self, names: Set[str]) -> None:
        self.names = names
        self.used: set[str] = set()
        self.mistakes: list[Mistake] = []

    def look(self, node: nodes.Node, local: Set[str], depth: int, loops: int) -> None:
        if depth > _DEEPEST:
            self._complain(node, "is nested too deeply")
        elif isinstance(node, nodes.Name):
            self._name(node, local)
        elif isinstance(node, nodes.For):
            self._loop(node, local, depth, loops)
        elif isinstance(node, nodes.Filter):
            self._filter(node, local, depth, loops)
        elif isinstance(node, nodes.Getattr) and _is_loop_fact(node):
            if "loop" not in local:
                self._complain(node, "loop is known inside for only")
        elif isinstance(node, _PLAIN):
            self._below(node.iter_child_nodes(), local, depth, loops)
        else:
            kind = type(node).__name__
            self._complain(node, f"{_CALLED.get(kind, kind.lower())} is not possible here; {_ALLOWED}")

    def _below(self, children: Iterator[nodes.Node], local: Set[str], depth: int, loops: int) -> None:
        for child in children:
            self.look(child, local, depth + 1, loops)

    def _name(self, node: nodes.Name, local: Set[str]) -> None:
        if node.name in local and node.name != "loop":
            return
        if node.name in self.names:
            self.used.add(node.name)
            return
        near = get_close_matches(node.name, self.names, n=1)
        known = f"did you mean {near[0]}?" if near else f"allowed: {', '.join(sorted(self.names))}"
        self._complain(node, f"there is no value {fold(node.name)}; {known}")

    def _loop(self, node: nodes.For, local: Set[str], depth: int, loops: int) -> None:
        if loops >= _LOOPS:
            self._complain(node, f"for may stand in for only {_LOOPS} deep")
        elif not (isinstance(node.iter, nodes.Name) and isinstance(node.target, nodes.Name)):
            self._complain(node, f"for goes over one value only: for entry in values; {_ALLOWED}")
        elif node.test or node.recursive:
            self._complain(node, "for takes neither if nor recursive")
        else:
            self._name(node.iter, local)
            self._below(iter(node.body), {*local, node.target.name, "loop"}, depth, loops + 1)
            self._below(iter(node.else_), local, depth, loops)

    def _filter(self, node: nodes.Filter, local: Set[str], depth: int, loops: int) -> None:
        if node.name not in _environment().filters:
            self._complain(node, f"there is no filter {fold(node.name)}; {_ALLOWED}")
        elif node.node is None or node.kwargs or node.dyn_args or node.dyn_kwargs:
            self._complain(node, f"the filter {node.name} is not used like this; {_ALLOWED}")
        else:
            self._below(iter((node.node, *node.args)), local, depth, loops)

    def _complain(self, node: nodes.Node, what: str) -> None:
        self.mistakes.append(Mistake(node.lineno, what))


def _is_loop_fact(node: nodes.Getattr) -> bool:
    return isinstance(node.node, nodes.Name) and node.node.name == "loop" and node.attr in _LOOP_FACTS


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # a prompt is no HTML; `finalize` does what a prompt needs
    )
    environment.globals.clear()
    environment.tests.clear()
    environment.filters = {"clock": _clock, "quoted": _quoted, "join": _join}
    return environment


def _shown(value: object) -> str:
    """What a value looks like in a prompt."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError("a list or a flag cannot be put out; use for, join or if")
    return fold(str(value))


def _clock(value: object) -> str:
    if not isinstance(value, int | float):
        raise TypeError("clock needs seconds")
    return clock(value)


def _quoted(value: object) -> str:
    """In quotation marks that the value cannot close."""
    return json.dumps(_shown(value), ensure_ascii=False)


def _join(value: object, between: str = ", ") -> str:
    if not isinstance(value, tuple):
        raise TypeError("join needs a list")
    return between.join(map(_quoted, value))


def _line_of(error: Exception) -> int:
    """The line of the prompt text in which `error` was raised: Jinja puts it into the traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno or 1 for frame in reversed(frames) if frame.filename == "<template>"), 1)
