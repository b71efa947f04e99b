"""What a user may set in a template without editing its prompt: typed values with a default and a description."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from gsvrd.config.base import Conflict, Section, refuse
from gsvrd.config.rules import NOT_ALLOWED, Rule, choice, flag, text, texts, whole
from gsvrd.templates.rules import anything, one_of, prose

ParameterType = Literal["text", "texts", "whole", "flag", "choice"]

MOST_ENTRIES = 50
"""Of a list. With the length of an entry it bounds what a loop in a prompt can do."""
LONGEST_TEXT = 300

_line = text(f"one line of {LONGEST_TEXT} characters at most", rf".{{0,{LONGEST_TEXT}}}")
_entries = texts(_line)


def _few(value: object) -> object:
    found = _entries.read(value)
    if isinstance(found, tuple) and len(found) > MOST_ENTRIES:
        raise ValueError(f"it has {len(found)} entries")
    return found


_list = Rule(f"a list of {MOST_ENTRIES} entries at most, each {_line.allowed}", _entries.schema, _few, list, many=True)


class Parameter(Section):
    """One value that a user may set."""

    type: Annotated[ParameterType, choice(ParameterType)] = Field(description="text is one line, texts a list of them.")
    description: Annotated[str, prose(LONGEST_TEXT)] = Field(description="What it does, for people.")
    default: Annotated[Any, anything()] = Field(description="Taken where nothing is set.")
    least: Annotated[int, whole(-(10**9), 10**9)] = Field(default=0, description="For whole: the smallest number.")
    most: Annotated[int, whole(-(10**9), 10**9)] = Field(default=1000, description="For whole: the largest number.")
    choices: Annotated[tuple[str, ...], _list] = Field(default=(), description="For choice: the words to choose from.")

    @property
    def rule(self) -> Rule:
        """How its values may be written."""
        plain = {"text": _line, "texts": _list, "flag": flag()}
        if self.type == "whole":
            return whole(self.least, self.most)
        return plain.get(self.type) or one_of(self.choices)

    @model_validator(mode="after")
    def _hangs_together(self) -> Parameter:
        refuse(self, self._conflicts())
        rule = self.rule
        try:
            rule.read(self.default)
        except ValueError as error:
            refused = PydanticCustomError(NOT_ALLOWED, "{allowed}", {"allowed": rule.allowed, "because": str(error)})
            details: InitErrorDetails = {"type": refused, "loc": ("default",), "input": self.default}
            raise ValidationError.from_exception_data("Parameter", [details]) from error
        return self

    def _conflicts(self) -> Iterable[Conflict]:
        for bound in ("least", "most"):
            if bound in self.model_fields_set and self.type != "whole":
                yield bound, "type", "only a parameter of type whole has it"
        if self.least > self.most:
            yield "least", "most", f"it must not be above most, which is {self.most}"
        if self.type == "choice" and not self.choices:
            yield "type", "choices", "it needs choices, a list of words"
        if self.choices and self.type != "choice":
            yield "choices", "type", "only a parameter of type choice has them"
