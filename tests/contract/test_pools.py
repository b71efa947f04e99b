"""One suite over both pools: what a pool promises, whoever does the work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import works
from support.waiting import eventually

from gsvrd.clock import SystemClock
from gsvrd.errors import ErrorFacts, ErrorKind
from gsvrd.pool.base import Pool
from gsvrd.pool.inline import InlinePool
from gsvrd.pool.messages import Assign, Died, Event, Failed, Finished, Keep, Progress, Reserve, Reserved
from gsvrd.pool.process import ProcessPool
from gsvrd.pool.worker import WorkerLimits


@pytest.fixture(params=["process", "inline"])
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    made: Pool
    if request.param == "process":
        made = ProcessPool("support.works:make", b"", WorkerLimits(), SystemClock())
    else:
        made = InlinePool(lambda: works.make(b""), SystemClock())
    yield made
    made.close()


def start(pool: Pool, size: int) -> None:
    pool.resize(size)
    eventually(lambda: pool.events() == [] and pool.free() == size)


def hear(pool: Pool, count: int) -> list[Event]:
    heard: list[Event] = []

    def enough() -> bool:
        heard.extend(pool.events())
        return len(heard) >= count

    eventually(enough)
    return heard


def test_an_assignment_comes_back_finished_once(pool: Pool) -> None:
    start(pool, 1)
    pool.assign(Assign(7, 3, name="done:abc"))
    assert hear(pool, 1) == [Finished(7, 3, sha256="abc")]
    eventually(lambda: pool.free() == 1)
    assert pool.events() == []


def test_stages_and_progress_arrive_in_order(pool: Pool) -> None:
    start(pool, 1)
    pool.assign(Assign(1, 1, name="stages:"))
    assert hear(pool, 4) == [
        Progress(1, 1, "first", 0.0),
        Keep(1, 1, "first", b'{"kept": true}'),
        Progress(1, 1, "second", 0.5),
        Finished(1, 1),
    ]


def test_a_named_failure_arrives_with_kind_and_hint(pool: Pool) -> None:
    start(pool, 1)
    pool.assign(Assign(1, 1, name="refuse:unreadable"))
    (event,) = hear(pool, 1)
    assert isinstance(event, Failed)
    assert (event.error.kind, event.error.message, event.error.hint) == (
        ErrorKind.UNREADABLE,
        "as the test wants it",
        "Do nothing.",
    )


def test_a_fault_in_the_program_is_a_failure_with_its_traceback_and_the_worker_goes_on(pool: Pool) -> None:
    start(pool, 1)
    pool.assign(Assign(1, 1, name="raise:"))
    (event,) = hear(pool, 1)
    assert isinstance(event, Failed)
    assert event.error.kind is ErrorKind.UNKNOWN
    assert "ZeroDivisionError" in event.error.detail
    pool.assign(Assign(2, 1, name="done:"))
    assert hear(pool, 1) == [Finished(2, 1)]


def test_a_reservation_is_answered_while_the_attempt_runs(pool: Pool) -> None:
    start(pool, 1)
    pool.assign(Assign(5, 2, name="reserve:wish.md"))
    assert hear(pool, 1) == [Reserve(5, 2, "wish.md")]
    pool.answer(5, Reserved(2, "granted.md"))
    assert hear(pool, 1) == [Finished(5, 2, temporary="granted.md")]


def test_nothing_is_taken_without_a_free_worker(pool: Pool, tmp_path: Path) -> None:
    start(pool, 1)
    go = tmp_path / "go"
    pool.assign(Assign(1, 1, name=f"wait:{go}"))
    assert pool.free() == 0
    with pytest.raises(LookupError):
        pool.assign(Assign(2, 1, name="done:"))
    go.touch()
    assert hear(pool, 1) == [Finished(1, 1)]


def test_after_a_cancel_nothing_is_heard_of_the_attempt_and_the_pool_is_back_at_size(
    pool: Pool, tmp_path: Path
) -> None:
    start(pool, 1)
    pool.assign(Assign(1, 1, name=f"wait:{tmp_path / 'go'}"))
    pool.cancel(1)
    (tmp_path / "go").touch()
    eventually(lambda: pool.events() == [] and pool.free() == 1)
    pool.assign(Assign(2, 1, name="done:"))
    assert hear(pool, 1) == [Finished(2, 1)]


def test_growing_is_at_once_and_shrinking_waits_for_the_task(pool: Pool, tmp_path: Path) -> None:
    start(pool, 1)
    go = tmp_path / "go"
    pool.assign(Assign(1, 1, name=f"wait:{go}"))
    pool.resize(3)
    eventually(lambda: pool.events() == [] and pool.free() == 2)
    pool.resize(0)
    assert pool.free() == 0
    eventually(lambda: pool.events() == [] and len(pool.workers()) == 1)
    go.touch()
    assert hear(pool, 1) == [Finished(1, 1)]
    eventually(lambda: pool.events() == [] and pool.workers() == [])


def test_a_missed_deadline_is_a_death_with_that_cause_and_the_pool_is_back_at_size(pool: Pool, tmp_path: Path) -> None:
    start(pool, 1)
    pool.assign(Assign(1, 4, name=f"wait:{tmp_path / 'never'}", timeout_s=0.05))
    assert pool.next_deadline() is not None
    (event,) = hear(pool, 1)
    assert isinstance(event, Died)
    assert (event.task, event.attempt, event.error.kind) == (1, 4, ErrorKind.TIMEOUT)
    eventually(lambda: pool.events() == [] and pool.free() == 1)
    (tmp_path / "never").touch()


def test_workers_say_what_they_do(pool: Pool, tmp_path: Path) -> None:
    start(pool, 2)
    pool.assign(Assign(9, 1, name=f"wait:{tmp_path / 'go'}"))
    assert sorted(str(worker.task) for worker in pool.workers()) == ["9", "None"]
    (tmp_path / "go").touch()
    assert hear(pool, 1) == [Finished(9, 1)]


TOO_LONG = ErrorFacts(ErrorKind.NETWORK, "it took too long")


def test_what_takes_longer_than_its_limit_ends_the_attempt_for_the_reason_given(pool: Pool, tmp_path: Path) -> None:
    start(pool, 1)
    pool.assign(Assign(1, 1, name=f"wait:{tmp_path / 'never'}"))
    pool.limit(1, "a call", 0.01, TOO_LONG)
    assert hear(pool, 1) == [Died(1, 1, TOO_LONG)]
    eventually(lambda: pool.events() == [] and pool.free() == 1)


def test_a_limit_that_was_lifted_or_renewed_ends_nothing(pool: Pool, tmp_path: Path) -> None:
    start(pool, 1)
    go = tmp_path / "go"
    pool.assign(Assign(1, 1, name=f"wait:{go}"))
    pool.limit(1, "a call", 0.001, TOO_LONG)
    pool.limit(1, "a call", None)
    pool.limit(1, "a stage", 0.001, TOO_LONG)
    pool.limit(1, "a stage", 60.0, TOO_LONG)
    eventually(lambda: pool.events() == [] and (pool.next_deadline() or 0.0) > SystemClock().monotonic() + 50)
    go.touch()
    assert hear(pool, 1) == [Finished(1, 1)]


def test_limits_end_with_their_attempt(pool: Pool, tmp_path: Path) -> None:
    start(pool, 1)
    pool.assign(Assign(1, 1, name="done:"))
    pool.limit(1, "a stage", 60.0, TOO_LONG)
    assert hear(pool, 1) == [Finished(1, 1)]
    assert pool.next_deadline() is None
    pool.limit(1, "a stage", 0.0, TOO_LONG)  # nobody works on it any more
    assert pool.next_deadline() is None
