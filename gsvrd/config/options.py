"""What may be said for one batch or one video, over the configuration: in a folder's `gsvrd.yaml`, in a row of a manifest,
or on `gsvrctl submit`. The nearest wins, and where each value came from is kept for `gsvrctl why`.

Read by the intake when a video is accepted; the result travels with the task as JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec
from pydantic import Field, ValidationError

from gsvrd.config.base import Section
from gsvrd.config.document import Document, Place, Problem
from gsvrd.config.explain import explain
from gsvrd.config.models import Seconds, language_tag, template_name
from gsvrd.config.rules import dollars, duration, flag, report_folder, report_name, text, whole
from gsvrd.config.units import DAY, MINUTE

FILE = "gsvrd.yaml"
"""The name of a folder's own options."""
_WITH_UNIT = "_s"
"""`timeout_s: 900` says the same as `timeout: 900`."""
PRIVATE = frozenset({"webhook_url"})
"""Options whose values may hold a secret and are shown without their query."""


class Options(Section):
    """Every option; None was not said. Defaults are those of the configuration."""

    template: Annotated[str | None, template_name] = Field(default=None, description="The template of the reports.")
    language: Annotated[str | None, language_tag] = Field(default=None, description="The language of the reports.")
    output_dir: Annotated[str | None, report_folder()] = Field(
        default=None, description="A folder below the reports directory in which the reports are put."
    )
    output_pattern: Annotated[str | None, report_name()] = Field(
        default=None, description="The names of the reports below that."
    )
    priority: Annotated[int | None, whole(-1000, 1000)] = Field(
        default=None, description="Points added to the priority: a lower figure comes first."
    )
    parallel: Annotated[int | None, whole(1, 64)] = Field(
        default=None, description="The most videos of the batch that are studied at a time."
    )
    timeout: Annotated[Seconds | None, duration(1, 30 * DAY)] = Field(
        default=None, description="The deadline of one attempt."
    )
    max_retries: Annotated[int | None, whole(0, 100)] = Field(
        default=None, description="Further attempts after the first."
    )
    max_duration: Annotated[Seconds | None, duration(MINUTE, DAY)] = Field(
        default=None, description="Longer videos are studied in parts (gemini)."
    )
    retry_failed: Annotated[bool | None, flag()] = Field(
        default=None, description="Try failed videos of the batch once more when all others are done."
    )
    skip_existing: Annotated[bool | None, flag()] = Field(
        default=None, description="Make no second report of the same content with the same template and model."
    )
    force: Annotated[bool | None, flag()] = Field(
        default=None, description="Study anew what was studied before, and pay for it again."
    )
    dry_run: Annotated[bool | None, flag()] = Field(
        default=None, description="Study nothing; `gsvrctl plan` tells what would be done."
    )
    cost_limit: Annotated[int | None, dollars()] = Field(default=None, description="The most to spend on the batch.")
    progress_file: Annotated[str | None, report_folder()] = Field(
        default=None, description="A file below the reports directory that always says how far the batch is (JSON)."
    )
    webhook_url: Annotated[str | None, text("empty, or an http or https address", r"(?:https?://\S+)?")] = Field(
        default=None, description="An address that is told of each video and of the end of the batch."
    )
    checkpoint_dir: Annotated[str | None, text("a directory", r".+")] = Field(
        default=None,
        description="While the batch has work under way, snapshots go there, too: below state/checkpoints, or absolute.",
    )
    checkpoint_interval: Annotated[Seconds | None, duration(1, 30 * DAY)] = Field(
        default=None, description="The time between two of them."
    )


Layer = tuple[str, Options]
"""Where options were written, and what they say."""
Resolved = dict[str, tuple[Any, str]]
"""Each value that was said, and where."""


def to_json(resolved: Resolved) -> str:
    """As it is stored with a task; `model.said` reads it."""
    return msgspec.json.encode({name: list(value) for name, value in sorted(resolved.items())}).decode()


def parse_options(document: Document) -> tuple[Options, list[Problem]]:
    """The options a document says, and what is wrong with it: then the good ones are kept."""
    values = document.values
    if values is None:
        return Options(), list(document.problems)
    if not isinstance(values, dict):
        return Options(), [*document.problems, Problem(Place(document.source, 1), "must be a map of options")]
    document.values = {_plain(name, values): value for name, value in values.items()}
    try:
        return Options.model_validate(document.values), list(document.problems)
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems = [explain(detail, document, Options) for detail in details]
        wrong = {str(detail["loc"][0]) for detail in details if detail["loc"]}
        good = {name: value for name, value in document.values.items() if name not in wrong}
        return Options.model_validate(good), [*document.problems, *problems]


def _plain(name: str, others: Mapping[str, object]) -> str:
    short = name.removesuffix(_WITH_UNIT)
    return short if short in Options.model_fields and short not in others else name


def resolve(layers: Iterable[Layer]) -> Resolved:
    """Layers from the widest to the nearest: for each option the last word, and who said it.

    None is a word, too, where it can be said: `cost_limit: none` lifts a limit that was set further out.
    """
    said: Resolved = {}
    for origin, options in layers:
        for name in options.model_fields_set:
            said[name] = (getattr(options, name), origin)
    return said
