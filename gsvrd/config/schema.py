"""The JSON schema of `config/gsvrd.yaml`, for completion and checks in editors.

`python -m gsvrd.config > config/gsvrd.schema.json` writes it; a test holds the committed file against it.
"""

from __future__ import annotations

import inspect
import json
from typing import Any

from gsvrd.config.base import Section, parts
from gsvrd.config.models import Settings
from gsvrd.config.rules import Rule


def json_schema() -> str:
    """The schema as indented JSON with a newline at its end."""
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "gsvrd.yaml"}
    return json.dumps(head | _section(Settings), indent=2, ensure_ascii=False) + "\n"


def _section(model: type[Section]) -> dict[str, Any]:
    described = parts(model)
    whole = {
        "description": inspect.cleandoc(model.__doc__ or ""),
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": {name: _property(model, name, part) for name, part in described.items()},
    }
    word = described.get(model.shorthand)
    if not isinstance(word, Rule):
        return whole
    return {"description": whole.pop("description"), "anyOf": [dict(word.schema), whole]}


def _property(model: type[Section], name: str, part: type[Section] | Rule) -> dict[str, Any]:
    if not isinstance(part, Rule):
        return _section(part)
    field = model.model_fields[name]
    described = f"{field.description} Allowed: {part.allowed}."
    return {"description": described, **part.schema, "default": part.show(field.default)}
