"""Variables over the file: `GSVRD_WORKERS__MAX=3` stands for `workers.max: 3`; two underscores go one level down."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from gsvrd import crashpoints
from gsvrd.config.base import Section, parts, settable
from gsvrd.config.document import Document, Keys, Place, Problem, parse, printable
from gsvrd.config.models import Settings
from gsvrd.config.rules import Rule

PREFIX = "GSVRD_"
RESERVED = frozenset({"GSVRD_HOME", "GSVRD_CONFIG", crashpoints.VARIABLE})
"""Variables of ours that are no settings."""
ALIASES = {"GSVRD_GEMINI_BASE_URL": "GSVRD_ANALYZER__GEMINI__BASE_URL"}
"""Short names for what gateways and tests set."""


def override(document: Document, environ: Mapping[str, str]) -> None:
    """Write the variables' values over the document's; a variable that names no setting becomes a problem of it."""
    known = _variables()
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable in RESERVED:
            continue
        place = Place(f"{printable(variable)} (environment)")
        if ALIASES.get(variable, variable) not in known:
            document.problems.append(Problem(place, _unknown(variable, known)))
            continue
        path, rule = known[ALIASES.get(variable, variable)]
        # Text as it is (rules read it like the file's), a list from its YAML form.
        written = parse(environ[variable], str(place)) if rule.many else Document(str(place), environ[variable])
        document.problems += [Problem(place, problem.what) for problem in written.problems]
        if not written.problems:
            _set(document, path, written.values)
            document.places[path] = place


def _variables() -> dict[str, tuple[Keys, Rule]]:
    """Every variable with the field that it sets; a section with a shorthand can be set by a word, as in the file."""
    known = {}
    for path, part in settable(Settings):
        name = PREFIX + "__".join(path).upper()
        if isinstance(part, Rule):
            known[name] = (path, part)
        elif part.shorthand:
            rule = parts(part)[part.shorthand]
            assert isinstance(rule, Rule)  # noqa: S101 - a shorthand stands for a plain value; said for the type checker
            known[name] = ((*path, part.shorthand), rule)
    return known


def _unknown(variable: str, known: Mapping[str, object]) -> str:
    near = get_close_matches(variable.upper(), known, n=1, cutoff=0.7)
    hint = f"did you mean {near[0]}?" if near else "names are those of the file, with '__' for each level down"
    return f"there is no such setting; {hint}"


def _set(document: Document, path: Keys, value: object) -> None:
    """Put `value` at `path`, unless the file has something there that is no section: a problem of the file."""
    target: Any = document.values
    model: type[Section] = Settings
    for key in path[:-1]:
        if not isinstance(target, dict):
            return
        part = parts(model)[key]
        assert not isinstance(part, Rule)  # noqa: S101 - `path` comes from the models; said for the type checker
        model = part
        inner = target.get(key)
        if inner is None:
            inner = {}
        elif isinstance(inner, str) and model.shorthand:
            inner = {model.shorthand: inner}
        target[key] = inner
        target = inner
    if isinstance(target, dict):
        target[path[-1]] = value
