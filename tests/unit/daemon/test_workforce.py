"""The room that has the number of workers decided, carried out and put on record; readings are the test's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from support.house import House

from gsvrd.daemon.sampler import Memory, Sample
from gsvrd.daemon.workforce import BACKLOG_MOST, SAVE_S, Outside, Rules, Workforce
from gsvrd.errors import ErrorFacts, ErrorKind
from gsvrd.policy.controller import Settings
from gsvrd.policy.memory import FLOOR, MemoryOptimizer
from gsvrd.policy.replay import replay
from gsvrd.pool.messages import Died
from gsvrd.store.decisions import HAND, Decisions, changes, readings

GB = 10**9


@dataclass
class Readings:
    """A sampler that says what the test wants."""

    sample: Sample = field(default_factory=lambda: Sample(Memory(8 * GB, GB, GB), 0.0, 0.1, 4.0, 4.0, 0.0, 0))
    asked: int = 0
    kills_since: int | None = None
    """Since the sample."""

    def read(self, pids: Sequence[int]) -> Sample:
        self.asked += 1
        return self.sample

    def memory(self, pids: Sequence[int]) -> Memory:
        return self.sample.memory

    def oom_kills(self) -> int | None:
        return self.kills_since


class Works:
    """A house with a workforce in it."""

    def __init__(self, house: House, gates: Path) -> None:
        self.house = house
        self.gates = gates
        self.sampler = Readings()
        self.may_start = True
        self.settings = Settings(min=1, max=6, initial=2)
        self.open()

    def open(self) -> None:
        """A daemon starts."""
        house = self.house
        calls = house.permits.calls
        self.force = Workforce(
            rules=Rules(self.settings, "probe", memory_most=4 * GB),
            memory=MemoryOptimizer(4 * GB),
            queue=house.queue,
            pool=house.pool,
            sampler=self.sampler,
            decisions=Decisions(house.queue.note),
            outside=Outside(calls.take, calls.load_errors, lambda: house.permits.limiter.rate),
            clock=house.clock,
            may_start=lambda: self.may_start,
        )
        house.attempts.staff = self.force
        house.pool.resize(self.force.restore())
        house.commit()

    def add(self, count: int) -> None:
        for number in range(count):
            self.house.add(f"wait:{self.gates / 'go'}", f"{number}.mp4")

    def tick(self, seconds: float = 10.0) -> None:
        self.house.clock.advance(seconds)
        self.force.tick()
        self.house.commit()

    def run(self, running: int) -> None:
        """Until so many run and nothing more can."""

        def turned() -> bool:
            for event in self.house.pool.events():
                self.house.attempts.hear(event)
            self.house.attempts.dispatch(self.force.target)
            self.house.commit()
            return len(self.house.attempts.running) == running

        self.house.until(turned, start=False)

    def explained(self) -> dict[str, object]:
        found = self.house.queue.service("workers_now")
        assert isinstance(found, dict)
        return found


@pytest.fixture
def works(house: House, tmp_path: Path) -> Iterator[Works]:
    made = Works(house, tmp_path)
    yield made
    (tmp_path / "go").touch()


def rows(works: Works, sql: str) -> list[tuple[object, ...]]:
    return works.house.db.execute(sql).fetchall()


def test_a_change_is_a_row_with_what_it_was_decided_by(works: Works) -> None:
    works.add(3)
    works.run(2)
    works.house.queue.set_service(HAND, {"workers": 5})
    works.house.commit()
    works.force.look_again()
    works.house.commit()
    (change,) = changes(works.house.db, 10)
    assert (change.before, change.after, change.cap) == (2, 5, "hand")
    assert {"caps", "figures"} <= set(change.inputs)
    assert (works.force.target, works.explained()["target"], works.explained()["hand"]) == (5, 5, 5)
    works.run(3)


def test_what_was_named_by_hand_is_there_after_a_restart_and_within_what_is_configured(works: Works) -> None:
    works.house.queue.set_service(HAND, {"workers": 9})
    works.house.commit()
    works.open()
    assert works.force.target == 6
    assert works.force.change(Rules(Settings(min=1, max=3), "probe")) == 3
    works.house.queue.set_service(HAND, {"workers": "many"})
    works.house.commit()
    works.force.look_again()
    assert works.force.hand is None


def test_with_nothing_to_do_nothing_is_read_and_nothing_written(works: Works) -> None:
    for _ in range(100):
        works.tick()
    at_rest = works.force.target
    asked, before = works.sampler.asked, works.house.db.total_changes
    for _ in range(100):
        works.tick()
    assert (works.force.target, at_rest) == (1, 1)
    assert (works.sampler.asked, works.house.db.total_changes) == (asked, before)


def test_work_that_comes_to_an_idle_house_does_not_wait_for_the_next_tick(works: Works) -> None:
    assert not works.force.is_surprised
    works.add(5)
    assert not works.force.is_surprised  # there are free workers
    works.run(2)
    assert works.force.is_surprised
    works.force.tick(of_itself=False)
    assert not works.force.is_surprised


def test_no_more_of_a_batch_is_wanted_than_may_run_at_a_time(works: Works) -> None:
    works.house.queue.add_batch(1, "class", "folder")
    works.add(5)
    works.house.db.execute("""UPDATE tasks SET batch = 1, options = '{"parallel": [2, "here"]}' WHERE id > 1""")
    works.house.db.commit()
    assert works.force._in_line() == 3
    works.may_start = False
    assert works.force._in_line() == 0


def test_a_long_line_is_not_counted_to_its_end(works: Works) -> None:
    works.add(1)
    works.house.db.execute(
        "INSERT INTO tasks (path, name, dev, ino, size, mtime_ns, state, priority, rank, created_at, change, changed_at,"
        " changed_by) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)"
        " SELECT x'61', 'a', 1, i, 1, 1, 'pending', 1, i, 1.0, 'add', 1.0, 'test' FROM n"
    )
    assert works.force._in_line() == BACKLOG_MOST


def test_a_limit_of_a_kind_is_kept_though_there_are_free_workers(works: Works) -> None:
    works.add(4)
    works.force.limits = {"probe": 1, "other": 0}
    works.run(1)
    assert works.house.pool.free() == 1
    assert not works.house.queue.is_unread  # the loop does not turn in vain
    works.force.limits = {"probe": 2}
    works.run(2)


def test_a_task_that_does_not_fit_beside_another_waits_and_the_controller_hears_of_it(works: Works) -> None:
    works.sampler.sample = Sample(Memory(GB, 0, int(0.9 * GB)))
    works.add(2)
    works.run(1)
    assert works.house.pool.free() == 1
    works.force.tick()
    works.house.commit()
    (reading,) = readings(works.house.db)
    assert reading.metrics.memory_blocked
    works.sampler.sample = Sample(Memory(8 * GB, 0, GB))
    works.force.watch()
    works.run(2)


def test_what_running_tasks_are_promised_is_limited_and_learned(works: Works) -> None:
    works.add(1)
    works.run(1)
    (grant,) = works.force.memory.grants.values()
    assert grant.first == FLOOR
    (works.gates / "go").touch()
    works.run(0)
    assert works.force.memory.grants == {}


def test_what_was_learned_is_kept_every_minute_and_at_the_end(works: Works) -> None:
    works.add(1)
    works.run(1)
    works.tick()
    first = rows(works, "SELECT changed_at FROM service WHERE key IN ('controller', 'memory')")
    assert len(first) == 2
    works.tick()
    assert rows(works, "SELECT changed_at FROM service WHERE key IN ('controller', 'memory')") == first
    works.tick(SAVE_S)
    assert rows(works, "SELECT changed_at FROM service WHERE key IN ('controller', 'memory')") != first


def test_missing_readings_change_nothing_and_are_noted(works: Works) -> None:
    works.add(3)
    works.run(2)
    works.sampler.sample = Sample(notes=("no control groups",))
    works.tick()
    assert works.force.target >= 2
    assert works.explained()["notes"] == ["no control groups"]
    assert works.force.memory.view is not None  # what was seen last


def test_recorded_readings_give_the_same_decisions_again_and_other_settings_others(works: Works) -> None:
    works.add(8)
    works.run(2)
    busy = Sample(Memory(8 * GB, GB, GB), 0.2, 0.1, 4.0, 4.0, 0.0)
    for number in range(40):
        works.sampler.sample = replace(busy, own_cores=0.05 * works.force.target)
        works.tick()
        if number == 20:
            works.house.queue.set_service(HAND, {"workers": 5})
            works.house.commit()
            works.force.look_again()
        if number == 30:
            works.force.change(replace(works.force.rules, settings=replace(works.settings, max=4)))
        works.house.commit()
    recorded = list(readings(works.house.db))
    assert len({reading.workers for reading in recorded}) > 2
    assert [one for one in replay(recorded, {}) if one.differs or one.was_cap != one.now_cap] == []
    assert any(one.differs and one.now <= 3 for one in replay(recorded, {"max": "3"}))
    with pytest.raises(ValueError, match="there is no 'maximum'; there are: min, max"):
        list(replay(recorded, {"maximum": "3"}))
    with pytest.raises(ValueError, match="min 5"):
        list(replay(recorded, {"min": "5", "max": "3"}))
    with pytest.raises(ValueError, match="max: 'x' is no number"):
        list(replay(recorded, {"max": "x"}))


def test_a_worker_that_died_near_its_cap_is_taken_to_have_starved(works: Works) -> None:
    works.add(1)
    works.run(1)
    (task,) = works.force.memory.grants
    grant = works.force.memory.grants[task]
    assert not works.force.was_starved(task)
    grant.peak = int(0.95 * grant.cap)
    assert works.force.was_starved(task)


def test_giving_up_for_want_of_memory_says_how_much_there_was(works: Works) -> None:
    works.add(1)
    works.run(1)
    (task,) = works.force.memory.grants
    works.force.memory.grants[task].cap = FLOOR
    assert works.force.exceeded(task) is None
    works.force.memory.grants[task].cap = 4 * GB
    error = works.force.exceeded(task)
    assert error is not None
    assert "which is 4,000 MB" in error.message


def last_attempt(works: Works) -> tuple[object, ...]:
    """Its outcome, and what is on record of its error."""
    sql = "SELECT outcome, error FROM attempts ORDER BY task, number DESC LIMIT 1"
    ((outcome, error),) = rows(works, sql)
    assert isinstance(error, str)
    return outcome, json.loads(error)["kind"]


def test_attempts_that_meet_their_cap_are_told_to_the_controller_once(works: Works) -> None:
    works.add(2)
    works.run(2)
    for task in list(works.force.memory.grants):
        works.force.memory.grants[task].cap = FLOOR
        assert works.force.exceeded(task) is None
    works.tick()
    works.tick()
    assert [reading.metrics.memory_failures for reading in readings(works.house.db)] == [2, 0]


def test_an_attempt_that_had_all_there_is_is_no_failure_that_more_memory_would_mend(works: Works) -> None:
    works.add(1)
    works.run(1)
    (task,) = works.force.memory.grants
    works.force.memory.grants[task].cap = 4 * GB
    assert works.force.exceeded(task) is not None
    works.tick()
    (reading,) = readings(works.house.db)
    assert reading.metrics.memory_failures == 0


@pytest.mark.parametrize(
    ("by_stranger", "in_last_reading", "since", "kind"),
    [
        (True, 1, None, "memory"),
        (True, 0, 1, "memory"),
        (True, 0, 0, "crashed"),
        (True, None, None, "crashed"),
        (False, 1, 1, "crashed"),
    ],
)
def test_a_worker_that_was_killed_while_the_kernel_ended_processes_for_memory_died_of_that(
    works: Works, by_stranger: bool, in_last_reading: int | None, since: int | None, kind: str
) -> None:
    works.add(1)
    works.run(1)
    works.sampler.sample = replace(works.sampler.sample, oom_kills=in_last_reading)
    works.sampler.kills_since = since
    works.tick()
    ((task, running),) = works.house.attempts.running.items()
    error = ErrorFacts(ErrorKind.CRASHED, "the worker was ended by SIGKILL")
    works.house.attempts.hear(Died(task, running.attempt, error, by_stranger=by_stranger))
    works.house.commit()
    assert last_attempt(works) == ("died", kind)
    ((deaths, spent),) = rows(works, "SELECT deaths, spent FROM tasks")
    assert (deaths, spent) == ((0, 0) if kind == "memory" else (1, 1))


def test_what_the_kernel_ended_stands_in_the_row_of_a_decision_and_in_what_is_explained(works: Works) -> None:
    works.add(3)
    works.run(2)
    works.sampler.sample = replace(works.sampler.sample, oom_kills=2)
    works.house.queue.set_service(HAND, {"workers": 3})
    works.house.commit()
    works.force.look_again()
    works.house.commit()
    (change,) = changes(works.house.db, 10)
    assert change.inputs["figures"]["oom_kills"] == 2
    works.sampler.sample = replace(works.sampler.sample, oom_kills=1)
    works.tick()
    works.sampler.sample = replace(works.sampler.sample, oom_kills=0)
    works.tick()
    assert works.explained()["oom_kills"] == 3
