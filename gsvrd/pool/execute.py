"""The work of one attempt: check the file, probe it, study it, render its report beside where it belongs.

Made inside a worker by `make`; runs there and nowhere else. It changes nothing but its temporary report and its folder
of pictures; the daemon puts the report in place.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
from pydantic import BaseModel, ValidationError
from structlog.contextvars import bind_contextvars

from gsvrd import __version__, logs
from gsvrd.analysis import Analysis, MediaFacts
from gsvrd.analyzers.base import Analyzer, Call, Permit, Spent
from gsvrd.analyzers.gemini.settings import GeminiSettings
from gsvrd.analyzers.local.settings import LocalSettings
from gsvrd.analyzers.probe import MediaLimits, probe
from gsvrd.analyzers.registry import make_analyzer
from gsvrd.errors import ErrorKind, TaskError
from gsvrd.intake.identity import Identity, open_checked
from gsvrd.intake.moving import sidecars
from gsvrd.model import report_owner
from gsvrd.pool.messages import Assign, Finished
from gsvrd.pool.worker import Desk, Work
from gsvrd.reports.lesson_plan import ReportContext, render
from gsvrd.reports.naming import NameFields, assets_name, report_name
from gsvrd.reports.write import temporary_directory, write_report
from gsvrd.templates.load import load_templates
from gsvrd.templates.model import Template

Kept = TypeVar("Kept", bound=BaseModel)
_CHUNK_BYTES = 1 << 20


class WorkSettings(msgspec.Struct, frozen=True):
    """What a worker must know of the configuration. Travels as JSON; times in seconds, sizes in bytes."""

    inbox: str
    reports: str
    work: str
    """Folder for pictures, one below it for each task; they survive from one attempt to the next."""
    analyzer: str
    local: LocalSettings
    gemini: GeminiSettings
    limits: MediaLimits
    max_file_bytes: int
    threads: int
    template: str
    templates: str
    """Folder of the operator's own templates; it need not exist."""
    language: str
    output_pattern: str
    log_level: str
    log_format: str


def make(settings: bytes) -> Work:
    """The work a worker does, from the JSON of `WorkSettings`."""
    decoded = msgspec.json.decode(settings, type=WorkSettings)
    logs.setup(decoded.log_level, decoded.log_format, process="worker")
    template = load_templates(Path(decoded.templates))[decoded.template].in_language(decoded.language)
    return VideoWork(decoded, make_analyzer(decoded.analyzer, decoded.local, decoded.gemini, template), template)


@dataclass(frozen=True, slots=True)
class _Permit:
    """See `analyzers.base.Permit`."""

    desk: Desk
    number: int

    def settle(self, spent: Spent) -> None:
        self.desk.settle(
            self.number,
            spent.outcome,
            tokens_in=spent.tokens_in,
            tokens_out=spent.tokens_out,
            was_sent=spent.was_sent,
            is_known=spent.is_known,
            retry_after_s=spent.retry_after_s,
            is_daily=spent.is_daily,
        )


@dataclass(frozen=True, slots=True)
class _Bench:
    """The `GovernedBench` of one attempt."""

    source: str
    name: str
    facts: MediaFacts
    sidecars: Sequence[Path]
    assets: Path
    threads: int
    language: str
    desk: Desk
    kept: dict[str, bytes]

    def progress(self, step: str, fraction: float) -> None:
        self.desk.progress(step, fraction)

    def ask(self, call: Call) -> Permit:
        permit = self.desk.ask(call.lane.value, call.model, call.tokens_in, call.tokens_out_most)
        return _Permit(self.desk, permit)

    def forget(self, stage: str) -> None:
        self.kept.pop(stage, None)

    def keep(self, stage: str, kind: type[Kept], make: Callable[[], Kept]) -> Kept:
        return _keep(self.desk, self.kept, stage, kind, make)


@dataclass(frozen=True, slots=True)
class VideoWork:
    """See `gsvrd.pool.worker.Work`; one instance lives as long as its worker."""

    settings: WorkSettings
    analyzer: Analyzer
    template: Template

    def __call__(self, assign: Assign, desk: Desk) -> Finished:
        """One attempt at one video."""
        bind_contextvars(task=assign.task, attempt=assign.attempt)
        identity = Identity(*assign.identity)
        if identity.size > self.settings.max_file_bytes:
            hint = "Raise limits.max_file_size, or make the file smaller."
            raise TaskError(ErrorKind.TOO_LARGE, f"the file has {identity.size} bytes, more than is allowed", hint)
        fd = open_checked(assign.path, os.fsencode(self.settings.inbox), identity)
        try:
            facts = self._probe(fd, identity, assign, desk)
            analysis = self._analyze(fd, facts, assign, desk)
            temporary = self._render(facts, analysis, assign, desk)
            if Identity.of(os.fstat(fd)) != identity:
                raise TaskError(ErrorKind.CHANGED, "the file changed while it was studied", "Nothing to do.")
        finally:
            os.close(fd)
        return Finished(assign.task, assign.attempt, temporary=str(temporary), sha256=facts.sha256)

    def _probe(self, fd: int, identity: Identity, assign: Assign, desk: Desk) -> MediaFacts:
        def look() -> MediaFacts:
            sha256 = _hash(fd, identity.size, desk)
            return probe(_source(fd), size_bytes=identity.size, sha256=sha256, limits=self.settings.limits)

        return _keep(desk, assign.kept, "probe", MediaFacts, look)

    def _analyze(self, fd: int, facts: MediaFacts, assign: Assign, desk: Desk) -> Analysis:
        assets = Path(self.settings.work, str(assign.task))
        assets.mkdir(parents=True, exist_ok=True)
        bench = _Bench(
            source=_source(fd),
            name=assign.name.rpartition("/")[2],
            facts=facts,
            sidecars=[Path(os.fsdecode(path)) for path in sidecars(assign.path)],
            assets=assets,
            threads=self.settings.threads,
            language=self.template.language,
            desk=desk,
            kept=assign.kept,
        )
        return _keep(desk, assign.kept, "analyze", Analysis, lambda: self.analyzer.analyze(bench))

    def _render(self, facts: MediaFacts, analysis: Analysis, assign: Assign, desk: Desk) -> Path:
        desk.progress("render", 0.0)
        name = desk.reserve(self._wished_name(facts, analysis, assign))
        context = ReportContext(
            source=assign.name,
            template=self.settings.template,
            analyzer=self.analyzer.name,
            language=self.template.language,
            version=__version__,
            assets=assets_name(name).rpartition("/")[2],
            made_at=time.time(),
            task=report_owner(assign.task, assign.queued_at),
            attempt=assign.attempt,
            sections=self.template.output.sections,
            full_transcript=self.template.output.full_transcript,
            speakers=self.template.output.speakers,
        )
        temporary = temporary_directory(Path(self.settings.reports), assign.task, assign.attempt)
        text = render(analysis, facts, context)
        try:
            write_report(temporary, name, text, Path(self.settings.work, str(assign.task)))
        except OSError as error:
            if isinstance(error, FileNotFoundError) and os.path.isdir(self.settings.reports):
                raise  # a picture is missing, which waiting does not mend
            raise TaskError(
                ErrorKind.PLACE,
                f"the report cannot be written: {error.strerror}",
                "Mend the reports directory; the work goes on by itself.",
                repr(error),
            ) from error
        return temporary

    def _wished_name(self, facts: MediaFacts, analysis: Analysis, assign: Assign) -> str:
        source = os.fsdecode(os.path.relpath(assign.path, os.fsencode(self.settings.inbox)))
        fields = NameFields(
            title=analysis.title,
            source=source,
            queued_at=assign.queued_at,
            template=self.settings.template,
            batch=os.path.dirname(source),
            sha256=facts.sha256,
        )
        return report_name(self.settings.output_pattern, fields)


def _keep(desk: Desk, kept: dict[str, bytes], stage: str, kind: type[Kept], make: Callable[[], Kept]) -> Kept:
    if stage in kept:
        try:
            return kind.model_validate_json(kept[stage])
        except ValidationError:
            pass  # of an older version of this program: made again below
    desk.progress(stage, 0.0)
    result = make()
    desk.keep(stage, result.model_dump_json().encode())
    return result


def _source(fd: int) -> str:
    # "file:" keeps the decoder from taking the name for any other protocol.
    return f"file:/proc/self/fd/{fd}"


def _hash(fd: int, size: int, desk: Desk) -> str:
    digest = hashlib.sha256()
    offset = 0
    while chunk := os.pread(fd, _CHUNK_BYTES, offset):
        digest.update(chunk)
        offset += len(chunk)
        desk.progress("probe", min(1.0, offset / max(1, size)))
    return digest.hexdigest()
