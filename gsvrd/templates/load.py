"""Reads templates: those that ship with gsvrd, and over them the user's own from a directory.

Called at start, on reload and by `gsvrctl templates`. Reads files, writes nothing. All that is wrong with any file is
found at once, each with its file and line, before a model is asked anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gsvrd.config.base import CONFLICT, Section
from gsvrd.config.document import Document, Keys, Place, Problem, printable, read_file
from gsvrd.config.rules import NOT_ALLOWED
from gsvrd.errors import ConfigError
from gsvrd.templates.layout import Output
from gsvrd.templates.model import FACTS, ModelSettings, PromptTexts, Template
from gsvrd.templates.parameters import Parameter
from gsvrd.templates.prompt import Mistake, PromptError, examine, put_out

SHIPPED = Path(__file__).parent

_PARTS: Mapping[str, type[Section]] = {"model": ModelSettings, "prompt": PromptTexts, "output": Output}
_PARAMETER_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_TAKEN = FACTS | {"loop", "self", "super", "caller", "varargs", "kwargs", "true", "false", "none"}
_SAMPLE: Mapping[str, object] = {"video_name": "lecture.mp4", "duration_s": 3600.0, "part": 1, "parts": 2}


def load_templates(overrides: Path | None) -> Mapping[str, Template]:
    """All templates by name: the shipped ones, replaced and joined by those in the directory `overrides`, if it exists.

    Raises `ConfigError`; its message lists every problem of every file.
    """
    found: dict[str, Template] = {}
    problems: list[Problem] = []
    for file in [*_files(SHIPPED, problems), *_files(overrides, problems)]:
        template, wrong = _read(file)
        problems += wrong
        if template:
            found[template.name] = template
    if problems:
        raise ConfigError(_listed(problems), "Correct the files, or take them out of the directory, and try again.")
    return MappingProxyType(dict(sorted(found.items())))


def _files(directory: Path | None, problems: list[Problem]) -> list[Path]:
    """The template files in `directory`; hidden ones and those with other endings are left alone."""
    if directory is None or not directory.exists():
        return []
    try:
        files = sorted(file for file in directory.iterdir() if not file.name.startswith("."))
    except OSError as error:
        problems.append(_problem(directory, f"cannot be read as a directory: {error.strerror}"))
        return []
    for file in files:
        if file.suffix == ".yml":
            problems.append(_problem(file, "templates end in .yaml; rename it"))
        elif file.suffix == ".yaml" and not file.is_file():
            problems.append(_problem(file, "is no regular file"))
    return [file for file in files if file.suffix == ".yaml" and file.is_file()]


def _read(file: Path) -> tuple[Template | None, Sequence[Problem]]:
    document = read_file(file)
    if document.problems:
        return None, document.problems
    if not isinstance(document.values, dict):
        return None, [Problem(Place(document.source, 1), "is no template; allowed: a map with name, prompt, output, …")]
    try:
        template = Template.model_validate(document.values)
    except ValidationError as error:
        return None, [_explain(detail, document) for detail in error.errors(include_url=False)]
    return template, list(_faults(template, document, file.stem))


def _faults(template: Template, document: Document, stem: str) -> Iterator[Problem]:
    """What only shows when all parts of a template are there."""
    if template.name != stem:
        yield _at(document, ("name",), f"found '{template.name}'; allowed: '{printable(stem)}', as the file is called")
    for name in template.parameters:
        if not _PARAMETER_NAME.fullmatch(name) or name in _TAKEN:
            taken = f", but not {', '.join(sorted(_TAKEN))}"
            allowed = f"small letters, digits and '_', a letter first{taken if name in _TAKEN else ''}"
            yield _at(document, ("parameters", name), f"the name is not possible; allowed: {allowed}")
    yield from _prompt_faults(template, document)


def _prompt_faults(template: Template, document: Document) -> Iterator[Problem]:
    names = FACTS | template.parameters.keys()
    defaults = {name: parameter.rule.read(parameter.default) for name, parameter in template.parameters.items()}
    unused = set(template.parameters)
    for key, text in (("system", template.prompt.system), ("user", template.prompt.user)):
        mistakes, used = examine(text, names)
        unused -= used
        if not mistakes:
            try:  # with values, since only they show what cannot be put out or compared
                put_out(text, {**_SAMPLE, "language": template.language, **defaults})
            except PromptError as error:
                mistakes = [error.mistake]
        if mistakes:
            unused.clear()
        yield from (_in_text(document, key, text, mistake) for mistake in mistakes)
    for name in sorted(unused):
        yield _at(document, ("parameters", name), "the prompt does not use it; use it or take it out")


def _in_text(document: Document, key: str, text: str, mistake: Mistake) -> Problem:
    """A block (`system: |`) begins in the line after its key; text of one line stands beside it."""
    place = document.places["prompt", key]
    line = place.line + (mistake.line if "\n" in text else 0)
    return Problem(Place(place.source, line), f"prompt.{key}: {printable(mistake.what)}")


def _explain(detail: ErrorDetails, document: Document) -> Problem:
    """One of pydantic's errors in our words."""
    path = tuple(str(part) for part in detail["loc"])
    context = detail.get("ctx", {})
    found = f"found {_shown(detail['input'])}"
    if detail["type"] == "missing":
        return _at(document, path, "is missing; it must be there")
    if detail["type"] == "extra_forbidden":
        return _at(document, path, f"unknown key; {_meant(path)}")
    if detail["type"] == NOT_ALLOWED:
        because = f" ({context['because']})" if context["because"] else ""
        return _at(document, path, f"{found}{because}; allowed: {context['allowed']}")
    if detail["type"] == CONFLICT:
        place = path if path in document.places else (*path[:-1], context["other"])
        return Problem(_place(document, place), f"{printable('.'.join(path))}: {found}; {context['because']}")
    return _at(document, path, f"{found}; allowed: a map of {', '.join(_keys(path))}")


def _at(document: Document, path: Keys, what: str) -> Problem:
    """A problem at `path`, or at the nearest thing above it that was written."""
    return Problem(_place(document, path), f"{printable('.'.join(path))}: {what}")


def _place(document: Document, path: Keys) -> Place:
    while path and path not in document.places:
        path = path[:-1]
    return document.places.get(path, Place(document.source))


def _keys(path: Keys) -> list[str]:
    """What may stand in the map at `path`."""
    if path[:1] == ("parameters",):
        return list(Parameter.model_fields) if len(path) > 1 else ["names, each with type, description, default"]
    return list((_PARTS[path[0]] if path and path[0] in _PARTS else Template).model_fields)


def _meant(path: Keys) -> str:
    keys = _keys(path[:-1])
    near = get_close_matches(path[-1].replace("-", "_").lower(), keys, n=1)
    return f"did you mean {'.'.join((*path[:-1], near[0]))}?" if near else f"allowed here: {', '.join(keys)}"


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict | list | tuple):
        return "a map" if isinstance(value, dict) else "a list"
    text = printable(str(value))
    return f"'{text[:60]}…'" if len(text) > 60 else f"'{text}'"


def _problem(file: Path, what: str) -> Problem:
    return Problem(Place(printable(str(file))), what)


def _listed(problems: Sequence[Problem]) -> str:
    ordered = sorted(problems, key=lambda problem: (problem.place.source, problem.place.line))
    count = len(problems)
    title = "the templates have a problem:" if count == 1 else f"the templates have {count} problems:"
    return "\n  ".join([title, *map(str, ordered)])
