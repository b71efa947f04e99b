"""A lesson template: what a model is asked, on which terms, and what its answer must hold.

`load` makes it from YAML; the analyzer renders and checks with it. Frozen, plain data: it may cross a pipe.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from gsvrd.analysis import Analysis
from gsvrd.config.base import Conflict, Section, refuse
from gsvrd.config.rules import choice, text, whole
from gsvrd.errors import ConfigError
from gsvrd.templates import check
from gsvrd.templates.contract import contract_for
from gsvrd.templates.coverage import Span
from gsvrd.templates.layout import Output
from gsvrd.templates.parameters import Parameter
from gsvrd.templates.prompt import Prompt, PromptError, fold, put_out
from gsvrd.templates.rules import number, prose
from gsvrd.templates.scripts import primary

Thinking = Literal["minimal", "low", "medium", "high"]

FACTS = frozenset({"language", "video_name", "duration_s", "part", "parts"})
"""Values every prompt may use beside the template's parameters. `language` comes from the template itself."""

_LONGEST_NAME = 255
_name = text("letters, digits, '_' and '-', as in the file's name", r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_version = text("a version such as 1 or 2.1", r"[0-9]{1,4}(\.[0-9]{1,4}){0,2}")
_language = text("auto, or a language tag such as en, zh or pt-BR", r"auto|[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8})*")


class ModelSettings(Section):
    """How the model is run. What is left out is the model's own default."""

    temperature: Annotated[float | None, number(0, 2)] = Field(
        default=None, description="Newer models ignore or refuse it; best left out."
    )
    max_output_tokens: Annotated[int, whole(256, 1_000_000)] = Field(
        default=32_768, description="The longest answer with its thinking; it is reserved as spending before the call."
    )
    thinking: Annotated[Thinking | None, choice(Thinking)] = Field(
        default=None, description="How long to think; not sent where the SDK or the model has no such setting."
    )


class PromptTexts(Section):
    """The two texts, in Jinja. The contract is appended to `system`."""

    system: Annotated[str, prose()] = Field(description="Who the model is and how it works.")
    user: Annotated[str, prose()] = Field(description="What to make of this video.")


class Template(Section):
    """All that a template's file says."""

    name: Annotated[str, _name] = Field(description="As the file is called, without .yaml.")
    version: Annotated[str, _version] = Field(description="Raise it when you change the file.")
    description: Annotated[str, prose(1000)] = Field(description="For people who choose a template.")
    language: Annotated[str, _language] = Field(default="auto", description="auto is that of the video.")
    parameters: dict[str, Parameter] = Field(default_factory=dict, description="What users may set.")
    model: ModelSettings = ModelSettings()
    prompt: PromptTexts
    output: Output

    @staticmethod
    def from_json(text: str) -> Template:
        """The template that `to_json` was asked for."""
        return Template.model_validate_json(text)

    def to_json(self) -> str:
        """What its file says, to be sent to another process."""
        return self.model_dump_json(exclude_unset=True)

    def in_language(self, language: str) -> Template:
        """This template with its answer in `language` (`auto` or BCP 47); one that names its language keeps it."""
        if self.language != "auto" or language == "auto":
            return self
        return self.model_copy(update={"language": language})

    def render(self, values: Mapping[str, object]) -> Prompt:
        """The prompt for one video.

        `values`: `video_name` (text) and `duration_s` (seconds of what the model is given) always; `part` and `parts`
        (from 1) where a long video is split; any of the parameters. Raises `ConfigError` that lists every wrong value.
        """
        typed = self._typed(values)
        try:
            terms = put_out(self._contract, typed)
            return Prompt(f"{put_out(self.prompt.system, typed)}\n\n{terms}", put_out(self.prompt.user, typed))
        except PromptError as error:
            raise ConfigError(f"the template {self.name} cannot be used: {error}", "Correct its prompt.") from error

    def check_values(self, values: Mapping[str, object]) -> None:
        """Whether all `values` are parameters and of their types. Raises `ConfigError` that lists what is wrong."""
        known = ", ".join(self.parameters) or "none"
        problems = [
            f"{fold(name)}: there is no such parameter; there are: {known}"
            for name in values
            if name not in self.parameters
        ]
        self._read(values, problems)
        self._refuse(problems)

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits that change with all that can change an answer; wording for people and layout of the file
        do not count.
        """
        content = self.model_dump(mode="json", exclude={"description", "parameters"})
        content["parameters"] = {
            name: parameter.model_dump(mode="json", exclude={"description", "default"})
            | {"default": parameter.rule.read(parameter.default)}
            for name, parameter in self.parameters.items()
        }
        content["contract"] = self._contract
        canonical = json.dumps(content, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def check(self, analysis: Analysis, duration_s: float, quiet: Sequence[Span] = ()) -> list[str]:
        """What is wrong with the answer, one sentence each; empty when it can be used.

        `duration_s`: of what the model was given. `quiet`: stretches measured to be silent, where known.
        """
        return check.problems(check.Answer(analysis, self.output, self.language, duration_s, quiet))

    @property
    def _contract(self) -> str:
        return contract_for(self.language, full_transcript=self.output.full_transcript)

    def _typed(self, values: Mapping[str, object]) -> dict[str, object]:
        """Every value that a prompt may use, of its type. Raises `ConfigError`."""
        typed: dict[str, object] = {"language": self.language, "part": 1, "parts": 1}
        problems = [f"{fold(name)}: there is no such value" for name in values if not self._takes(name)]
        typed |= self._read(values, problems)
        for name in ("video_name", "duration_s", "part", "parts"):
            if name in values or name not in typed:
                try:
                    typed[name] = _fact(name, values.get(name))
                except ValueError as error:
                    problems.append(f"{name}: {error}")
        self._refuse(problems)
        return typed

    def _read(self, values: Mapping[str, object], problems: list[str]) -> dict[str, object]:
        """The parameters, of their types; what is wrong is added to `problems`."""
        typed = {}
        for name, parameter in self.parameters.items():
            try:
                typed[name] = parameter.rule.read(values.get(name, parameter.default))
            except ValueError:
                problems.append(f"{name}: found {fold(repr(values[name]))[:60]}; allowed: {parameter.rule.allowed}")
        return typed

    def _refuse(self, problems: Sequence[str]) -> None:
        if problems:
            raise ConfigError("\n  ".join([f"values for the template {self.name}:", *problems]), "Correct them.")

    def _takes(self, name: str) -> bool:
        return name in self.parameters or (name in FACTS and name != "language")

    @field_validator("parameters", mode="before")
    @classmethod
    def _none_is_empty(cls, value: object) -> object:
        return {} if value is None else value

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        refuse(self, self._conflicts())
        return self

    def _conflicts(self) -> Iterable[Conflict]:
        if self.output.chinese_share is not None and primary(self.language) != "zh":
            yield "language", "output", "it must be zh where output.chinese_share is set"


def _fact(name: str, value: object) -> object:
    """A value the program gives."""
    if name == "video_name" and isinstance(value, str):
        return value[:_LONGEST_NAME]
    if name != "video_name" and isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9:
        return value if name == "duration_s" else int(value)
    raise ValueError("text is needed" if name == "video_name" else "a number is needed")
