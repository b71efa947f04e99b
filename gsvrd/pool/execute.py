"""The work of one attempt: check the file, probe it, study it, render its report beside where it belongs.

Made inside a worker by `make`; runs there and nowhere else. It changes nothing but its temporary report and its folder
of pictures; the daemon puts the report in place.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import msgspec
from pydantic import BaseModel, ValidationError
from structlog.contextvars import bind_contextvars

from gsvrd import __version__, logs
from gsvrd.analysis import Analysis, MediaFacts
from gsvrd.analyzers.base import Analyzer, Call, Permit, Spent
from gsvrd.analyzers.probe import probe
from gsvrd.analyzers.registry import make_analyzer
from gsvrd.crashpoints import reach
from gsvrd.errors import ErrorKind, TaskError
from gsvrd.model import report_owner, said
from gsvrd.pool.confine import go_offline
from gsvrd.pool.messages import Assign, Finished, Known
from gsvrd.pool.settings import WorkSettings
from gsvrd.pool.sources import Source, opened
from gsvrd.pool.worker import Desk, Work
from gsvrd.reports.files import copy_pictures, sync_files
from gsvrd.reports.lesson_plan import ReportContext, render
from gsvrd.reports.naming import NameFields, assets_name, report_name
from gsvrd.reports.write import temporary_directory, write_report
from gsvrd.templates.model import Template

Kept = TypeVar("Kept", bound=BaseModel)
_CHUNK_BYTES = 1 << 20
ANALYZERS_MOST = 8
"""A worker keeps those it used last: templates and languages may be many, and each analyzer holds connections."""
NEEDS_NETWORK = frozenset({"gemini"})
"""The analyzers whose workers keep the network while they decode."""
_NOT_HERE = (
    "Choose analyzer: gemini, which looks at it where it is; or download the video yourself, if you may, and drop it."
)


def make(settings: bytes) -> Work:
    """The work a worker does, from the JSON of `WorkSettings`."""
    decoded = msgspec.json.decode(settings, type=WorkSettings)
    logs.setup(decoded.log_level, decoded.log_format, process="worker")
    return VideoWork(decoded, Ways(decoded))


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
    link: str
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
        self.desk.forget(stage)

    def keep(self, stage: str, kind: type[Kept], make: Callable[[], Kept]) -> Kept:
        return _keep(self.desk, self.kept, stage, kind, make)


@dataclass(frozen=True, slots=True)
class Way:
    """How one video is studied and what its report looks like."""

    analyzer: Analyzer
    template: Template
    output_pattern: str


@dataclass(frozen=True, slots=True)
class Ways:
    """The analyzers of a worker, by what was asked of them; some are kept, since they hold engines and connections."""

    settings: WorkSettings
    _made: dict[tuple[str, str, float], tuple[Analyzer, Template]] = field(default_factory=dict)

    def of(self, options: str) -> Way:
        """The way that the options of a task ask for. Raises `TaskError` when there is no such template any more."""
        settings = self.settings
        name, language = said(options, "template", settings.template), said(options, "language", settings.language)
        longest_s = said(options, "max_duration", settings.gemini.max_duration_s)
        if name not in settings.templates:
            hint = f"There are: {', '.join(settings.templates)}. Correct the option and call `gsvrctl retry`."
            raise TaskError(ErrorKind.REQUEST, f"there is no template {name!r}", hint)
        wish = (name, language, longest_s)
        made = self._made.pop(wish, None) or self._make(name, language, longest_s)
        self._made[wish] = made  # the last one used is the last
        if len(self._made) > ANALYZERS_MOST:
            del self._made[next(iter(self._made))]
        analyzer, template = made
        folder, pattern = said(options, "output_dir", ""), said(options, "output_pattern", settings.output_pattern)
        return Way(analyzer, template, f"{folder}/{pattern}" if folder else pattern)

    def _make(self, name: str, language: str, longest_s: float) -> tuple[Analyzer, Template]:
        settings = self.settings
        template = Template.from_json(settings.templates[name]).in_language(language)
        known = next(iter(self._made.values()), None)
        if known is not None and settings.analyzer != "gemini":
            return known[0], template  # what listens and reads on this machine knows no templates
        # Only the first sweeps what a dead daemon left at the service.
        started_at = settings.gemini.started_at if known is None else 0.0
        gemini = replace(settings.gemini, max_duration_s=longest_s, started_at=started_at)
        values = settings.parameters if name == settings.template else {}
        return make_analyzer(settings.analyzer, settings.local, gemini, template, values), template

    def key(self, sha256: str, template: Template, options: str) -> str:
        """What finding out about this content with this template is known by; changes with all that has a say in it."""
        longest_s = said(options, "max_duration", self.settings.gemini.max_duration_s)
        return hashlib.sha256(f"{sha256} {self._fingerprint(template, longest_s)}".encode()).hexdigest()

    def _fingerprint(self, template: Template, longest_s: float) -> str:
        """By the settings that have a say; not by those that only say how to get there."""
        settings = self.settings
        gemini = settings.gemini
        model = (gemini.model, longest_s, gemini.fps, gemini.media_resolution, gemini.thinking)
        how = {"gemini": model, "local": (settings.local, __version__)}.get(settings.analyzer, __version__)
        return repr(
            (settings.analyzer, how, template.fingerprint, template.language, sorted(settings.parameters.items()))
        )


@dataclass(frozen=True, slots=True)
class VideoWork:
    """See `gsvrd.pool.worker.Work`; one instance lives as long as its worker."""

    settings: WorkSettings
    ways: Ways

    def __call__(self, assign: Assign, desk: Desk) -> Finished:
        """One attempt at one video, or a chore."""
        bind_contextvars(task=abs(assign.task), attempt=assign.attempt)
        way = self.ways.of(assign.options)
        if assign.is_chore:
            way.analyzer.discard(assign.kept)
            return Finished(assign.task, assign.attempt)
        reach("worker.assigned")
        with opened(assign, desk, self.settings) as source:
            if self.settings.analyzer not in NEEDS_NETWORK:
                go_offline()  # before anything is decoded
            facts = self._probe(source, assign, desk, way)
            reach("worker.probed")
            key = self.ways.key(facts.sha256 or source.content, way.template, assign.options)
            if assign.key and assign.key != key and "analyze" in assign.kept:
                del assign.kept["analyze"]
                desk.forget("analyze")
            known = desk.seek(key)
            if known.report and os.path.lexists(os.path.join(self.settings.reports, known.report)):
                return Finished(assign.task, assign.attempt, sha256=facts.sha256, reused=known.report)
            self._take_over(known, assign)
            analysis = self._analyze(source, facts, assign, desk, way)
            reach("worker.analyzed")
            temporary = self._render(source, facts, analysis, assign, desk, way)
            reach("worker.rendered")
            source.check()
        return Finished(assign.task, assign.attempt, temporary=str(temporary), sha256=facts.sha256)

    def _probe(self, source: Source, assign: Assign, desk: Desk, way: Way) -> MediaFacts:
        if source.reference:
            if not way.analyzer.takes_links:
                message = f"the analyzer {way.analyzer.name} cannot look at a video of YouTube"
                raise TaskError(ErrorKind.LINK, message, _NOT_HERE)
            return source.facts_of_reference()

        def look() -> MediaFacts:
            sha256 = _hash(source.fd, source.size_bytes, desk)
            desk.know(sha256)
            return probe(_source(source.fd), size_bytes=source.size_bytes, sha256=sha256, limits=self.settings.limits)

        is_known = "probe" in assign.kept
        facts = _keep(desk, assign.kept, "probe", MediaFacts, look)
        if is_known:  # it may have felled workers by another name since
            desk.know(facts.sha256)
        return facts

    def _take_over(self, known: Known, assign: Assign) -> None:
        """Begin with what was found out before, if its pictures are still there, too."""
        if not known.analysis or "analyze" in assign.kept:
            return
        try:
            analysis = Analysis.model_validate_json(known.analysis)
        except ValidationError:
            return  # of an older version of this program
        pictures = [chapter.picture.file for chapter in analysis.chapters if chapter.picture]
        if known.pictures or not pictures:
            source, target = Path(self.settings.reports, known.pictures), Path(self.settings.work, str(assign.task))
            if copy_pictures(source, target, pictures):
                assign.kept["analyze"] = known.analysis

    def _analyze(self, source: Source, facts: MediaFacts, assign: Assign, desk: Desk, way: Way) -> Analysis:
        assets = Path(self.settings.work, str(assign.task))
        assets.mkdir(parents=True, exist_ok=True)
        bench = _Bench(
            source="" if source.reference else _source(source.fd),
            link=source.reference,
            name=source.name,
            facts=facts,
            sidecars=source.sidecars,
            assets=assets,
            threads=self.settings.threads,
            language=way.template.language,
            desk=desk,
            kept=assign.kept,
        )

        def study() -> Analysis:
            analysis = way.analyzer.analyze(bench)
            sync_files(assets)  # kept results survive a power cut, and so must the pictures they speak of
            return analysis

        return _keep(desk, assign.kept, "analyze", Analysis, study)

    def _render(
        self, source: Source, facts: MediaFacts, analysis: Analysis, assign: Assign, desk: Desk, way: Way
    ) -> Path:
        desk.progress("render", 0.0)
        name = desk.reserve(self._wished_name(source, facts, analysis, assign, way))
        reach("worker.named")
        context = ReportContext(
            source=source.shown,
            template=way.template.name,
            analyzer=way.analyzer.name,
            language=way.template.language,
            version=__version__,
            assets=assets_name(name).rpartition("/")[2],
            made_at=time.time(),
            task=report_owner(assign.task, assign.queued_at),
            attempt=assign.attempt,
            sections=way.template.output.sections,
            full_transcript=way.template.output.full_transcript,
            speakers=way.template.output.speakers,
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

    def _wished_name(self, source: Source, facts: MediaFacts, analysis: Analysis, assign: Assign, way: Way) -> str:
        fields = NameFields(
            title=analysis.title,
            source=source.file,
            queued_at=assign.queued_at,
            template=way.template.name,
            batch=os.path.dirname(source.file),
            sha256=facts.sha256 or hashlib.sha256(source.content.encode()).hexdigest(),
        )
        return report_name(way.output_pattern, fields)


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
    while chunk := _read(fd, offset):
        digest.update(chunk)
        offset += len(chunk)
        desk.progress("probe", min(1.0, offset / max(1, size)))
    return digest.hexdigest()


def _read(fd: int, offset: int) -> bytes:
    try:
        return os.pread(fd, _CHUNK_BYTES, offset)
    except OSError as error:
        hint = "Look at the disk or share it lies on, and drop it again."
        raise TaskError(ErrorKind.READ, f"the file cannot be read: {error.strerror}", hint) from error
