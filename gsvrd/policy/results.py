"""BatchResult: what became of a batch, reckoned from the facts of its tasks.

The facts come from `store.results`, `daemon.summing` has them reckoned, `reports.summary` writes the result down. Nothing
here depends on the order of the facts or on the numbers of tasks and workers: the same facts give the same result.

How it counts: the success rate is of those that were given an answer, so cancelled videos do not lower it. A video's time
is that of all its attempts. An attempt that ended badly and was followed by another is a retry; one that was given back
(quota, shutdown) is not. *Skipped* are videos for which an earlier report of the same content serves, *reused* those with a
report of their own for which nothing had to be found out again.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gsvrd.model import OutcomeKind, TaskState
from gsvrd.policy.lesson_order import lesson_key

SLOWEST = 5
"""So many are told."""
AUTO = "auto"
_BAD = (OutcomeKind.FAILED, OutcomeKind.DIED, OutcomeKind.TIMED_OUT)


# -- the facts -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Term:
    """A key term of one report."""

    term: str
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a video turned out to be about."""

    title: str = ""
    language: str = ""
    """BCP 47; `und` or nothing when it is not known."""
    terms: tuple[Term, ...] = ()


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try that has ended; times are UTC epoch seconds."""

    number: int
    started_at: float
    ended_at: float
    outcome: OutcomeKind

    @property
    def seconds(self) -> float:
        """How long it took; a clock that was set back makes it no less than nothing."""
        return max(0.0, self.ended_at - self.started_at)


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a task was given up."""

    kind: str
    reason: str
    what_to_do: str = ""


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """One video of the batch."""

    name: str
    """Relative to the inbox; or the address it came from."""
    state: TaskState
    created_at: float
    changed_at: float
    report: str = ""
    """The report that is about it, relative to the reports directory: its own, or the one that serves it, too."""
    is_skipped: bool = False
    is_reused: bool = False
    trouble: Trouble | None = None
    attempts: tuple[Attempt, ...] = ()
    lesson: Lesson = Lesson()
    language: str = AUTO
    """What was said for it: a language, or `auto`."""
    link: str = ""
    """What a shortcut leads to, without secrets; empty for a file, and where `name` is the link already."""


@dataclass(frozen=True, slots=True)
class Use:
    """What one model was asked; money in micro-dollars."""

    model: str
    requests: int
    tokens: int
    cost_micro: int


@dataclass(frozen=True, slots=True)
class BatchFacts:
    """A batch and all that is on record of it."""

    mark: str
    """Tells it from all others, of earlier databases, too."""
    name: str
    kind: str
    created_at: float
    tasks: tuple[TaskFacts, ...]
    use: tuple[Use, ...] = ()


# -- the result ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """A completed video and where its report is."""

    video: str
    title: str
    report: str
    seconds: float
    is_skipped: bool
    is_reused: bool
    link: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """A video that was given up."""

    video: str
    kind: str
    reason: str
    what_to_do: str
    attempts: int
    link: str = ""


@dataclass(frozen=True, slots=True)
class GlossaryEntry:
    """A term, as the first lesson that explains it does, and the reports it is in, in lesson order."""

    term: str
    meaning: str
    reports: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stretch:
    """One attempt in the course of the batch; `lane` counts from 0, and no two of one lane overlap."""

    video: str
    attempt: int
    lane: int
    started_at: float
    ended_at: float
    outcome: OutcomeKind


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of a batch. Times are UTC epoch seconds, durations seconds, money micro-dollars."""

    mark: str
    name: str
    kind: str
    language: str
    """BCP 47: in what the summary is written."""
    began_at: float
    ended_at: float
    total: int
    completed: int
    failed: int
    cancelled: int
    unfinished: int
    """Came in while this was reckoned; 0 when the batch is at rest."""
    success_rate: float | None
    """Of the completed and the failed; None when there are none."""
    total_s: float
    """In which somebody worked at it: pauses between two droppings into one folder do not count."""
    work_s: float
    """Of all attempts."""
    average_s: float | None
    """Of a completed video that was not skipped."""
    retries: int
    skipped: int
    reused: int
    requests: int
    tokens: int
    cost_micro: int
    models: tuple[Use, ...]
    lessons: tuple[Entry, ...]
    """In lesson order."""
    slowest: tuple[Entry, ...]
    """The slowest first."""
    failures: tuple[Failure, ...]
    """In lesson order."""
    glossary: tuple[GlossaryEntry, ...]
    """By term."""
    course: tuple[Stretch, ...]
    """By start."""


def reckon(facts: BatchFacts) -> BatchResult:
    """The result; the order of `facts.tasks` and of their parts does not matter."""
    tasks = sorted(facts.tasks, key=_place)
    done = [task for task in tasks if task.state is TaskState.COMPLETED]
    lost = [task for task in tasks if task.state is TaskState.FAILED]
    cancelled = sum(task.state is TaskState.CANCELLED for task in tasks)
    answered = len(done) + len(lost)
    lessons = tuple(_entry(task) for task in done)
    worked = [entry for entry in lessons if not entry.is_skipped]
    course = _course(tasks)
    models = tuple(sorted(facts.use, key=lambda use: use.model))
    return BatchResult(
        mark=facts.mark,
        name=facts.name,
        kind=facts.kind,
        language=_usual_language(tasks),
        began_at=min((task.created_at for task in tasks), default=facts.created_at),
        ended_at=max((task.changed_at for task in tasks), default=facts.created_at),
        total=len(tasks),
        completed=len(done),
        failed=len(lost),
        cancelled=cancelled,
        unfinished=len(tasks) - answered - cancelled,
        success_rate=round(len(done) / answered, 4) if answered else None,
        total_s=round(busy_s(course), 3),
        work_s=round(sum(stretch.ended_at - stretch.started_at for stretch in course), 3),
        average_s=round(sum(entry.seconds for entry in worked) / len(worked), 3) if worked else None,
        retries=sum(_retries(task) for task in tasks),
        skipped=sum(entry.is_skipped for entry in lessons),
        reused=sum(entry.is_reused for entry in lessons),
        requests=sum(use.requests for use in models),
        tokens=sum(use.tokens for use in models),
        cost_micro=sum(use.cost_micro for use in models),
        models=models,
        lessons=lessons,
        slowest=tuple(
            sorted(worked, key=lambda entry: (-entry.seconds, lesson_key(entry.video), entry.report))[:SLOWEST]
        ),
        failures=tuple(_failure(task) for task in lost),
        glossary=_glossary(done),
        course=course,
    )


def _place(task: TaskFacts) -> tuple[object, ...]:
    """Two videos may have had one name, one after the other."""
    return lesson_key(task.name), task.created_at, task.report, task.changed_at, task.state


def _entry(task: TaskFacts) -> Entry:
    title = task.lesson.title or task.name.rpartition("/")[2]
    return Entry(task.name, title, task.report, round(_seconds(task), 3), task.is_skipped, task.is_reused, task.link)


def _failure(task: TaskFacts) -> Failure:
    trouble = task.trouble or Trouble("unknown", "")
    return Failure(task.name, trouble.kind, trouble.reason, trouble.what_to_do, len(task.attempts), task.link)


def _seconds(task: TaskFacts) -> float:
    return sum(attempt.seconds for attempt in sorted(task.attempts, key=lambda attempt: attempt.number))


def _retries(task: TaskFacts) -> int:
    bad = sum(attempt.outcome in _BAD for attempt in task.attempts)
    return max(0, bad - (task.state is TaskState.FAILED))


def _usual_language(tasks: Sequence[TaskFacts]) -> str:
    """That of most videos: the one said, else that of the report. Of two the first by name, English where there is none."""
    meant = [task.lesson.language if task.language == AUTO else task.language for task in tasks]
    spoken = [language for language in meant if language not in ("", "und")]
    return min(set(spoken), key=lambda language: (-spoken.count(language), language), default="en")


# -- terms ---------------------------------------------------------------------------------------------------------------


def _glossary(done: Sequence[TaskFacts]) -> tuple[GlossaryEntry, ...]:
    terms: dict[str, Term] = {}
    reports: dict[str, dict[str, None]] = {}
    for task in done:
        for found in task.lesson.terms:
            key = _term_key(found.term)
            if not key:
                continue
            known = terms.setdefault(key, found)
            if not known.meaning.strip() and found.meaning.strip():
                terms[key] = Term(known.term, found.meaning)
            reports.setdefault(key, {})[task.report] = None
    return tuple(GlossaryEntry(terms[key].term, terms[key].meaning, tuple(reports[key])) for key in sorted(terms))


def _term_key(term: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", term).casefold().split())


# -- the course of the batch -----------------------------------------------------------------------------------------------


def _course(tasks: Iterable[TaskFacts]) -> tuple[Stretch, ...]:
    """The attempts, each in the first lane that is free: as many lanes as ran at a time, whoever the workers were."""
    tried = [(task.name, attempt) for task in tasks for attempt in task.attempts]
    tried.sort(
        key=lambda pair: (pair[1].started_at, pair[1].ended_at, lesson_key(pair[0]), pair[1].number, pair[1].outcome)
    )
    free_at: list[float] = []
    course = []
    for name, attempt in tried:
        end = attempt.started_at + attempt.seconds
        lane = next((lane for lane, free in enumerate(free_at) if free <= attempt.started_at), len(free_at))
        free_at[lane : lane + 1] = [end]
        course.append(Stretch(name, attempt.number, lane, attempt.started_at, end, attempt.outcome))
    return tuple(course)


def busy_s(course: Sequence[Stretch]) -> float:
    """For how long at least one attempt ran; `course` as in `BatchResult`."""
    total, until = 0.0, float("-inf")
    for stretch in course:
        total += max(0.0, stretch.ended_at - max(until, stretch.started_at))
        until = max(until, stretch.ended_at)
    return total
