"""What an analyzer hands over: an `Analysis`, validated, with plain data only.

Kept apart from `model.py` so that the daemon's loop and `gsvrctl` need no pydantic for the nouns of the queue.
All times are seconds from the start of the video. Texts are data from the video or from a model: never markup.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Fact(BaseModel):
    """Base of all parts: frozen, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MediaFacts(Fact):
    """What the container says, checked against its packets (the result of the probe stage)."""

    sha256: str
    size_bytes: int
    container: str
    duration_s: Seconds
    title: str = ""
    video_codec: str = ""
    width: int = 0
    height: int = 0
    fps: float = 0.0
    rotation: int = 0
    audio_codec: str = ""
    audio_language: str = ""
    subtitle_languages: tuple[str, ...] = ()
    chapter_count: int = 0
    notes: tuple[str, ...] = ()
    """What is odd about the file, in words: damaged packets, a header that promises more than there is."""


class Picture(Fact):
    """A still in the assets directory."""

    file: str
    """A plain file name in the assets directory, made by us."""
    at_s: Seconds
    width: int
    height: int


class Chapter(Fact):
    """A stretch of the video about one thing."""

    start_s: Seconds
    end_s: Seconds
    title: str
    key_points: tuple[str, ...] = ()
    slide_text: tuple[str, ...] = ()
    """The lines read from the slide, top to bottom."""
    picture: Picture | None = None


class KeyTerm(Fact):
    """A word the learner should know."""

    term: str
    meaning: str = ""
    at_s: Seconds | None = None


class Line(Fact):
    """A piece of the transcript."""

    start_s: Seconds
    end_s: Seconds
    text: str
    speaker: str = ""
    unclear: bool = False
    """The recogniser was not sure of it."""


class Question(Fact):
    """A quiz item; without `choices` the answer is free."""

    prompt: str
    answer: str
    choices: tuple[str, ...] = ()
    at_s: Seconds | None = None


class Step(Fact):
    """One line of "how this was made"."""

    name: str
    how: str


class Analysis(Fact):
    """The structured result a report is rendered from."""

    title: str
    language: str
    """BCP 47, as short as possible (`en`, `zh`); `und` when nothing was said or written."""
    duration_s: Seconds
    summary: tuple[str, ...] = ()
    """Paragraphs."""
    objectives: tuple[str, ...] = ()
    chapters: tuple[Chapter, ...] = ()
    key_terms: tuple[KeyTerm, ...] = ()
    transcript: tuple[Line, ...] = ()
    activities: tuple[str, ...] = ()
    quiz: tuple[Question, ...] = ()
    resources: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    gaps: tuple[str, ...] = ()
    """What could not be done, and why, in whole sentences in the report's language."""

    @model_validator(mode="after")
    def _times_rise(self) -> Analysis:
        """Chapters must rise and end inside the video; a report with wrong times is worse than none."""
        previous = 0.0
        for chapter in self.chapters:
            if chapter.start_s < previous or chapter.end_s < chapter.start_s:
                raise ValueError(f"chapter {chapter.title!r} is out of order")
            if chapter.end_s > self.duration_s + 1.0:
                raise ValueError(f"chapter {chapter.title!r} ends after the video")
            previous = chapter.start_s
        return self
