"""The door for calls: what a worker is told, and what is booked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.house import House

from gsvrd.config.models import Config
from gsvrd.errors import ErrorKind, TaskError
from gsvrd.policy.breaker import Breaker
from gsvrd.policy.limiter import APILimits, Instant
from gsvrd.policy.spending import CostLimits, Price, Rates
from gsvrd.pool.messages import Assign, Finished
from gsvrd.pool.worker import Desk
from gsvrd.store.ledger import spending

PRICE = Price("m", Rates(1_000_000, 2_000_000))
"""A dollar and two for a million tokens: a micro-dollar and two a token."""


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Callable[..., House]]:
    built: list[House] = []

    def make(work: Callable[[Assign, Desk], Finished], **more: object) -> House:
        house = House(Config(home=tmp_path), prices=(PRICE,), **more)  # type: ignore[arg-type]
        house.work = work  # type: ignore[method-assign, assignment]
        built.append(house)
        return house

    yield make
    for house in built:
        house.close()


def calls(outcome: str = "ok", **figures: object) -> Callable[[Assign, Desk], Finished]:
    def work(assign: Assign, desk: Desk) -> Finished:
        permit = desk.ask("generate", "m", 1000, 500)
        desk.settle(permit, outcome, **figures)  # type: ignore[arg-type]
        if outcome != "ok":
            raise TaskError(ErrorKind(outcome), "as the service said")
        return Finished(assign.task, assign.attempt)

    return work


def state(house: House, task: int) -> str:
    row = house.reading.find(str(task))
    assert row is not None
    return str(row["state"])


def spent(house: House) -> int:
    return spending(house.db, house.clock.wall())["total"][0].settled


def test_a_call_is_booked_with_what_it_really_used(build: Callable[..., House]) -> None:
    house = build(calls(tokens_in=900, tokens_out=100))
    task = house.add()
    house.until(lambda: state(house, task) == "completed")
    assert spent(house) == 900 + 2 * 100


def test_a_call_nobody_knows_the_cost_of_counts_with_its_worst_case(build: Callable[..., House]) -> None:
    house = build(calls(is_known=False))
    task = house.add()
    house.until(lambda: state(house, task) == "completed")
    assert spent(house) == 1000 + 2 * 500


def test_a_worst_case_beyond_the_cost_limit_is_not_started_and_costs_no_attempt(build: Callable[..., House]) -> None:
    house = build(calls(), cost=CostLimits(total=1999))
    task = house.add()
    house.until(lambda: "service-budget" in house.doors.closed)
    house.until(lambda: state(house, task) == "pending")
    row = house.reading.find(str(task))
    assert row is not None
    assert row["spent"] == 0
    assert spent(house) == 0


def test_a_daily_refusal_ends_the_attempt_until_the_next_day(build: Callable[..., House]) -> None:
    house = build(calls(), limits=APILimits(requests_per_day=1))
    first, second = house.add(file="a.mp4"), house.add(file="b.mp4")
    house.until(lambda: state(house, first) == "completed")
    house.until(lambda: (house.reading.attempts(second) or [{}])[-1].get("outcome") == "snoozed")
    row = house.reading.find(str(second))
    assert row is not None
    assert row["spent"] == 0
    assert row["due_at"] > house.clock.wall() + 60


def test_a_refused_key_shuts_the_door_and_spends_no_attempt(build: Callable[..., House]) -> None:
    house = build(calls("key", tokens_in=0))
    task = house.add()
    house.until(lambda: "service-key" in house.doors.closed)
    house.until(lambda: state(house, task) == "pending")
    row = house.reading.find(str(task))
    assert row is not None
    assert row["spent"] == 0


def test_what_an_attempt_left_open_is_closed_with_it(build: Callable[..., House]) -> None:
    def work(assign: Assign, desk: Desk) -> Finished:
        desk.ask("generate", "m", 1000, 500)
        raise TaskError(ErrorKind.UNREADABLE, "forgot to settle")

    house = build(work, limits=APILimits(max_concurrent=1))
    first, second = house.add(file="a.mp4"), house.add(file="b.mp4")
    house.until(lambda: state(house, first) == state(house, second) == "failed")
    assert spent(house) == 2 * (1000 + 2 * 500)


def test_five_failures_in_a_row_open_the_breaker_and_then_no_attempt_is_charged(build: Callable[..., House]) -> None:
    house = build(calls("server", is_known=False))
    tasks = [house.add(file=f"{number}.mp4") for number in range(7)]
    house.until(lambda: not house.permits.charges)
    assert (house.queue.service("breaker") or {})["phase"] == "open"  # type: ignore[index]
    house.until(lambda: all(state(house, task) == "pending" for task in tasks))
    spent_attempts = [row["spent"] for task in tasks if (row := house.reading.find(str(task)))]
    assert sum(spent_attempts) <= 5


def test_an_open_breaker_and_what_retries_were_worth_survive_a_restart(build: Callable[..., House]) -> None:
    house = build(calls("server", is_known=False))
    for number in range(6):
        house.add(file=f"{number}.mp4")
    house.until(lambda: not house.permits.charges)
    saved = house.queue.service("breaker")
    now = Instant(house.clock.monotonic(), house.clock.wall())
    assert not Breaker.restore(saved, now).charges
