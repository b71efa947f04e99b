"""What all sections of the configuration share, and walking over them.

`models` builds on it; `environment`, `explain` and `schema` walk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

from gsvrd.config.rules import Rule

CONFLICT = "conflict"
"""The pydantic error type of two values that do not go together; its context holds `because` and `other`, a field."""

Conflict = tuple[str, str, str]
"""A field, the other field it does not go with, and why."""


class Section(BaseModel):
    """Base of all sections: frozen, unknown keys refused; a section with nothing in it stands for its defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shorthand: ClassVar[str] = ""
    """The field that is meant when a plain word stands where the section should: `analyzer: local`."""

    @model_validator(mode="before")
    @classmethod
    def _spell_out(cls, value: object) -> object:
        if value is None:
            return {}
        if cls.shorthand and isinstance(value, str):
            return {cls.shorthand: value}
        return value


def refuse(section: Section, conflicts: Iterable[Conflict]) -> None:
    """Raise one pydantic error that lists every conflict; nothing if there is none."""
    details: list[InitErrorDetails] = [
        {
            "type": PydanticCustomError(CONFLICT, "{because}", {"because": because, "other": other}),
            "loc": (field,),
            "input": getattr(section, field),
        }
        for field, other, because in conflicts
    ]
    if details:
        raise ValidationError.from_exception_data(type(section).__name__, details)


def parts(model: type[Section]) -> dict[str, type[Section] | Rule]:
    """For each field of `model` what describes it: the section's class, or the rule of a plain value."""
    return {name: _part(field) for name, field in model.model_fields.items()}


def settable(model: type[Section], at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], type[Section] | Rule]]:
    """Every section and field below `model` with its path, in the order of the file."""
    for name, part in parts(model).items():
        yield (*at, name), part
        if not isinstance(part, Rule):
            yield from settable(part, (*at, name))


def _part(field: FieldInfo) -> type[Section] | Rule:
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
        return field.annotation
    return next(item for item in field.metadata if isinstance(item, Rule))
