"""What became of a batch: the figures are right, and do not depend on the order of anything."""

from __future__ import annotations

from dataclasses import replace

from support.batches import T0, batch, course, done, failed, shuffled, tried

from gsvrd.model import OutcomeKind, TaskState
from gsvrd.policy.results import Lesson, Term, reckon


def test_the_figures_of_a_whole_course_are_right() -> None:
    result = reckon(course())
    assert (result.total, result.completed, result.failed, result.cancelled, result.unfinished) == (7, 5, 1, 1, 0)
    assert result.success_rate == round(5 / 6, 4)
    assert (result.skipped, result.reused, result.retries) == (1, 1, 1)
    assert (result.requests, result.tokens, result.cost_micro) == (5, 123_000, 45_000)
    assert result.work_s == 60 + 120 + (20 + 10 + 30) + 1 + 2 + 3
    assert result.total_s == 130 + 30  # from 0 to 130 without a break, and from 140 to 170
    assert result.average_s == (60 + 120 + 60 + 2) / 4  # what was skipped took no time worth counting
    assert (result.began_at, result.ended_at) == (T0, T0 + 170)


def test_lessons_and_failures_come_in_lesson_order() -> None:
    result = reckon(batch(*(done(f"{n}.mp4") for n in (10, 2, 1)), failed("12.mp4"), failed("3.mp4")))
    assert [entry.video for entry in result.lessons] == ["1.mp4", "2.mp4", "10.mp4"]
    assert [failure.video for failure in result.failures] == ["3.mp4", "12.mp4"]


def test_the_slowest_are_told_and_not_what_was_skipped() -> None:
    tasks = [done(f"{n}.mp4", 0, n) for n in range(1, 9)]
    result = reckon(batch(*tasks, done("99.mp4", 0, 99, is_skipped=True)))
    assert [entry.video for entry in result.slowest] == ["8.mp4", "7.mp4", "6.mp4", "5.mp4", "4.mp4"]


def test_a_term_is_there_once_with_the_first_explanation_and_all_its_reports() -> None:
    glossary = reckon(course()).glossary
    assert [(entry.term, entry.meaning, entry.reports) for entry in glossary] == [
        ("Gradient", "the slope of a line", ("Algebra/lesson 1.md", "Algebra/lesson 2.md")),
        ("Slope", "rise over run", ("Algebra/lesson 1.md", "Algebra/lesson 10.md")),
    ]


def test_a_retry_is_an_attempt_that_went_wrong_and_was_not_the_last() -> None:
    bad = tuple(tried(n, n, 1, OutcomeKind.TIMED_OUT) for n in (1, 2, 3))
    given_back = tuple(tried(n, n, 1, OutcomeKind.RELEASED) for n in (1, 2, 3))
    assert reckon(batch(failed("a.mp4", attempts=bad))).retries == 2
    assert reckon(batch(done("a.mp4", attempts=(*bad, tried(4, 9, 1))))).retries == 3
    assert reckon(batch(done("a.mp4", attempts=(*given_back, tried(4, 9, 1))))).retries == 0


def test_attempts_share_as_many_lanes_as_ran_at_a_time() -> None:
    result = reckon(batch(done("1.mp4", 0, 10), done("2.mp4", 1, 3), done("3.mp4", 4, 2), done("4.mp4", 5, 9)))
    assert [(stretch.video, stretch.lane) for stretch in result.course] == [
        ("1.mp4", 0),
        ("2.mp4", 1),
        ("3.mp4", 1),
        ("4.mp4", 2),
    ]


def test_a_clock_that_went_back_makes_no_negative_time() -> None:
    result = reckon(batch(done("1.mp4", 100, -50), done("2.mp4", 100, 10)))
    assert (result.total_s, result.work_s, result.average_s) == (10, 10, 5)


def test_the_language_is_the_one_said_else_that_of_most_reports() -> None:
    tasks = [
        done(f"{n}.mp4", lesson=Lesson("t", language))
        for n, language in enumerate(["zh", "en", "zh", "und", "und", ""])
    ]
    assert reckon(batch(*tasks)).language == "zh"
    said = [replace(task, language="de") for task in tasks[1:]]
    assert reckon(batch(tasks[0], *said)).language == "de"
    assert reckon(batch(failed("a.mp4"))).language == "en"


def test_an_empty_batch_has_a_result() -> None:
    result = reckon(batch())
    assert (result.total, result.success_rate, result.average_s, result.total_s) == (0, None, None, 0)
    assert (result.began_at, result.ended_at) == (T0, T0)


def test_what_came_in_meanwhile_is_counted() -> None:
    waiting = done("2.mp4", state=TaskState.PENDING, report="", attempts=())
    assert reckon(batch(done("1.mp4"), waiting)).unfinished == 1


def test_the_order_of_the_facts_does_not_matter() -> None:
    facts = course()
    # Twins: one name, one time, told apart by nothing but their reports.
    twins = (done("Algebra/a.mp4", 3, 7, Term("x", "1")), done("Algebra/a.mp4", 3, 7, Term("X", "2"), report="b.md"))
    facts = replace(facts, tasks=facts.tasks + twins)
    expected = reckon(facts)
    for seed in range(20):
        assert reckon(shuffled(facts, seed)) == expected
