"""What the answer to a template must hold, and how the report lays it out. Data only; `check` and reports read it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, model_validator

from gsvrd.config.base import Conflict, Section, refuse
from gsvrd.config.rules import choice, duration, flag, texts
from gsvrd.config.units import HOUR
from gsvrd.templates.rules import number

SectionName = Literal["summary", "objectives", "chapters", "key_terms", "activities", "quiz", "transcript", "resources"]
"""Sections of a report; each is the field of that name in an `Analysis`."""

_sections = texts(choice(SectionName))


class Output(Section):
    """The layout of the report and what is demanded of an answer."""

    sections: Annotated[tuple[SectionName, ...], _sections] = Field(description="The report's sections, in order.")
    required: Annotated[tuple[SectionName, ...], _sections] = Field(
        default=(), description="Sections without which an answer is refused."
    )
    full_transcript: Annotated[bool, flag()] = Field(
        default=False, description="Whether all that is said must be in the transcript, not only excerpts."
    )
    speakers: Annotated[bool, flag()] = Field(
        default=False, description="Whether each line of the transcript must name its speaker."
    )
    coverage: Annotated[float, number(0, 1)] = Field(
        default=0.8, description="The least share of the video that a full transcript covers."
    )
    longest_gap: Annotated[float, duration(10, HOUR)] = Field(
        default=60.0, description="The longest stretch a full transcript may leave out, unless it is silent."
    )
    chinese_share: Annotated[float | None, number(0, 1)] = Field(
        default=None, description="For pure Chinese: the least share of Chinese characters, words of others count one."
    )

    @model_validator(mode="after")
    def _hangs_together(self) -> Output:
        refuse(self, self._conflicts())
        return self

    def _conflicts(self) -> Iterable[Conflict]:
        if not self.sections:
            yield "sections", "sections", "there must be one at least"
        if len(set(self.sections)) < len(self.sections):
            yield "sections", "sections", "a section is named twice"
        if missing := [name for name in self.required if name not in self.sections]:
            yield "required", "sections", f"{missing[0]} is not among output.sections"
        for wish in ("full_transcript", "speakers"):
            if getattr(self, wish) and "transcript" not in self.sections:
                yield wish, "sections", "transcript is not among output.sections"
