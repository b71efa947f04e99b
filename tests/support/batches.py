"""Facts of a batch, for the tests of its summary."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from gsvrd.model import OutcomeKind, TaskState
from gsvrd.policy.results import Attempt, BatchFacts, Lesson, TaskFacts, Term, Trouble, Use

T0 = 1_767_323_045.0
"""2026-01-02 03:04:05 UTC."""


def tried(number: int, start: float, seconds: float, outcome: OutcomeKind = OutcomeKind.SUCCEEDED) -> Attempt:
    return Attempt(number, T0 + start, T0 + start + seconds, outcome)


def done(
    video: str, start: float = 0.0, seconds: float = 60.0, *terms: Term, title: str = "", **more: Any
) -> TaskFacts:
    stem = video.rpartition(".")[0]
    values: dict[str, Any] = {
        "name": video,
        "state": TaskState.COMPLETED,
        "created_at": T0,
        "changed_at": T0 + start + seconds,
        "report": f"{stem}.md",
        "attempts": (tried(1, start, seconds),),
        "lesson": Lesson(title or stem.rpartition("/")[2], "en", terms),
    }
    return TaskFacts(**(values | more))


def failed(video: str, start: float = 0.0, seconds: float = 5.0, **more: Any) -> TaskFacts:
    values: dict[str, Any] = {
        "name": video,
        "state": TaskState.FAILED,
        "created_at": T0,
        "changed_at": T0 + start + seconds,
        "trouble": Trouble("unreadable", "the file is damaged", "Convert it."),
        "attempts": (tried(1, start, seconds, OutcomeKind.FAILED),),
    }
    return TaskFacts(**(values | more))


def batch(*tasks: TaskFacts, **more: Any) -> BatchFacts:
    values: dict[str, Any] = {
        "mark": "3-18c5",
        "name": "Algebra",
        "kind": "folder",
        "created_at": T0,
        "tasks": tasks,
    }
    return BatchFacts(**(values | more))


def course() -> BatchFacts:
    """A batch with all there can be: retries, a failure, skipped and reused videos, terms of several reports."""
    gradient = Term("Gradient", "the slope of a line")
    return batch(
        done("Algebra/lesson 1.mp4", 0, 60, gradient, Term("Slope", ""), title="Lines"),
        done("Algebra/lesson 2.mp4", 10, 120, Term("gradient", "how steep it is"), title="Planes"),
        done(
            "Algebra/lesson 10.mp4",
            140,
            30,
            Term("slope", "rise over run"),
            title="Curves",
            attempts=(
                tried(1, 65, 20, OutcomeKind.FAILED),
                tried(2, 100, 10, OutcomeKind.SNOOZED),
                tried(3, 140, 30),
            ),
        ),
        done("Algebra/copy.mp4", 90, 1, gradient, report="Algebra/lesson 1.md", title="Lines", is_skipped=True),
        done("Algebra/again.mp4", 92, 2, title="Again", is_reused=True),
        failed("Algebra/broken.mp4", 95, 3),
        done("Algebra/gone.mp4", 0, 0, state=TaskState.CANCELLED, report="", attempts=()),
        use=(Use("gemini-2.5-pro", 2, 3000, 40_000), Use("gemini-2.5-flash", 3, 120_000, 5_000)),
    )


def shuffled(facts: BatchFacts, seed: int) -> BatchFacts:
    """The same facts in another order."""
    chance = random.Random(seed)
    tasks = [
        replace(task, attempts=tuple(chance.sample(task.attempts, len(task.attempts))))
        for task in chance.sample(facts.tasks, len(facts.tasks))
    ]
    return replace(facts, tasks=tuple(tasks), use=tuple(chance.sample(facts.use, len(facts.use))))
