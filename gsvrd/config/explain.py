"""Pydantic's errors in our words: where the value was written, what was found, what is allowed."""

from __future__ import annotations

from difflib import get_close_matches

from pydantic_core import ErrorDetails

from gsvrd.config.base import CONFLICT, Section, parts, settable
from gsvrd.config.document import Document, Keys, Place, Problem, printable
from gsvrd.config.rules import NOT_ALLOWED, Rule

_LONGEST_SHOWN = 60


def explain(error: ErrorDetails, document: Document, root: type[Section]) -> Problem:
    """One error as a problem of `document`, which should have been a `root`."""
    path = tuple(str(part) for part in error["loc"])
    context = error.get("ctx", {})
    found = f"found {_shown(error['input'])}"
    if error["type"] == "extra_forbidden":
        return _problem(document, path, f"unknown key; {_did_you_mean(path, root)}")
    if error["type"] == NOT_ALLOWED:
        because = f" ({context['because']})" if context["because"] else ""
        return _problem(document, path, f"{found}{because}; allowed: {context['allowed']}")
    if error["type"] == CONFLICT:
        return _problem(document, path, f"{found}; {context['because']}", (*path[:-1], context["other"]))
    return _problem(document, path, f"{found}; allowed: a map of {', '.join(parts(_section(path, root)))}")


def _problem(document: Document, path: Keys, what: str, other: Keys = ()) -> Problem:
    shown = f"{printable('.'.join(path))}: " if path else ""
    return Problem(_place(document, path, other), shown + what)


def _place(document: Document, path: Keys, other: Keys) -> Place:
    """Where `path` was written; in a conflict a variable on either side is the likelier cause, so it goes first."""
    written = [document.places[keys] for keys in (path, other) if keys and keys in document.places]
    if written:
        return min(written, key=lambda place: place.source == document.source)
    while path and path not in document.places:
        path = path[:-1]
    return document.places.get(path, Place(document.source))


def _shown(value: object) -> str:
    """A value in few words, on one line."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a map"
    if isinstance(value, list | tuple):
        return "a list"
    text = printable(str(value))
    return f"'{text[:_LONGEST_SHOWN]}…'" if len(text) > _LONGEST_SHOWN else f"'{text}'"


def _section(path: Keys, root: type[Section]) -> type[Section]:
    """The section at `path`, or the nearest one above."""
    model = root
    for key in path:
        part = parts(model).get(key)
        if part is None or isinstance(part, Rule):
            break
        model = part
    return model


def _did_you_mean(path: Keys, root: type[Section]) -> str:
    """The likeliest setting that was meant: so named in another section, else nearly so named here or there."""
    key = path[-1].replace("-", "_").lower()
    here = {name: (*path[:-1], name) for name in parts(_section(path[:-1], root))}
    everywhere = {keys[-1]: keys for keys, _ in settable(root)}
    near = [here[name] for name in get_close_matches(key, here, n=1)]
    far = [everywhere[name] for name in get_close_matches(key, everywhere, n=1, cutoff=0.8)]
    if far and far[0][-1] == key:
        near = far
    if near or far:
        return f"did you mean {'.'.join((near or far)[0])}?"
    return f"allowed here: {', '.join(here)}"
