from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.outboxes import Desk, open_outbox

from gsvrd.clock import ManualClock
from gsvrd.model import NewTask
from gsvrd.store.outbox import KEPT_S, OUTBOX, Outbox, letters, revive, summary
from gsvrd.store.queue import TaskQueue

HERE, THERE = "https://here.example/hook?token=s3cret", "https://there.example/hook"


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    opened = open_outbox(tmp_path / "gsvrd.db")
    yield opened
    opened.close()


@pytest.fixture
def desk(conn: sqlite3.Connection) -> Desk:
    return Desk(conn, ManualClock())


def put(desk: Desk, number: int, url: str = HERE, batch: int = 1) -> str:
    return desk.outbox.put("task.completed", {"attempt": number}, url, batch=batch, task=number)


def due(desk: Desk, limit: int = 9) -> list[str]:
    return [message.id for message in desk.outbox.due(desk.clock.wall(), limit)]


def test_a_message_is_due_once_its_transaction_is_committed(desk: Desk) -> None:
    message_id = put(desk, 1)
    assert due(desk) == []
    desk.commit()
    desk.outbox.look_again()
    assert due(desk) == [message_id]


def test_a_crash_before_the_commit_takes_event_and_message_alike(desk: Desk) -> None:
    put(desk, 1)
    desk.start()
    desk.commit()
    assert due(desk) == []


def test_the_body_is_what_a_receiver_can_read_without_knowing_us(desk: Desk) -> None:
    desk.outbox.put("batch.completed", {"name": "讲座", "failed": 2}, HERE, batch=7)
    desk.commit()
    (message,) = desk.outbox.due(desk.clock.wall(), 1)
    assert json.loads(message.body) == {
        "type": "batch.completed",
        "timestamp": "1970-01-12T13:46:40.000Z",
        "data": {"name": "讲座", "failed": 2},
    }
    assert (message.batch, message.task, message.event, message.url) == (7, None, "batch.completed", HERE)


def test_the_same_event_put_twice_is_one_message(desk: Desk) -> None:
    first = put(desk, 1)
    desk.commit()
    desk.start()
    assert put(desk, 1) == first
    desk.commit()
    assert len(desk.states()) == 1


def test_events_that_differ_in_anything_have_different_ids(desk: Desk) -> None:
    other = Desk(desk.conn, desk.clock)
    other.outbox._installation = "another"
    ids = {put(desk, 1), put(desk, 2), put(desk, 1, THERE), put(desk, 1, batch=2), put(other, 1)}
    ids.add(desk.outbox.put("task.failed", {"attempt": 1}, HERE, batch=1, task=1))
    assert len(ids) == 6
    assert all(len(message_id) == 36 and message_id.startswith("evt_") for message_id in ids)


def test_a_transition_that_came_second_is_not_told(tmp_path: Path) -> None:
    conn = open_outbox(tmp_path / "gsvrd.db")
    clock = ManualClock()
    queue = TaskQueue(conn, clock)
    outbox = Outbox(conn, clock, queue.note)
    for number in (1, 2):
        queue.add(NewTask(b"/inbox/%d.mp4" % number, f"{number}.mp4", 1, number, 10, 10))
    queue.commit()
    won, lost = queue.ready(), queue.ready()
    assert won is not None
    assert lost is not None
    for task in (won, lost):
        queue.claim(task, 1)
    queue.commit()
    queue.cancel(lost.id, "by an operator")
    ids = []
    for task in (won, lost):
        queue.complete(task.id, 1)
        data = {"task": task.id, "attempt": 1}
        ids.append(outbox.put("task.completed", data, HERE, task=task.id, only_if=("completed", 1)))
    queue.commit()
    assert [message.id for message in outbox.due(clock.wall(), 9)] == ids[:1]
    assert [row["id"] for row in letters(conn, "pending", 9)] == ids[:1]
    conn.close()


def test_an_undelivered_message_holds_back_those_behind_it_and_no_others(desk: Desk) -> None:
    first, second = put(desk, 1), put(desk, 2)
    elsewhere, other_batch = put(desk, 1, THERE), put(desk, 1, batch=2)
    desk.commit()
    assert set(due(desk)) == {first, elsewhere, other_batch}
    desk.outbox.failed(first, "HTTP 503", desk.clock.wall() + 60)
    desk.outbox.delivered(elsewhere)
    desk.commit()
    assert due(desk) == [other_batch]
    assert isinstance(desk.clock, ManualClock)
    desk.clock.advance(60)
    assert due(desk) == [other_batch, first]
    desk.outbox.delivered(first)
    desk.commit()
    assert due(desk) == [second, other_batch]


def test_a_dead_message_lets_the_next_one_pass(desk: Desk) -> None:
    first, second = put(desk, 1), put(desk, 2)
    desk.commit()
    desk.outbox.dead(first, "HTTP 410 Gone")
    desk.commit()
    assert due(desk) == [second]
    assert desk.states()[first] == ("dead", 1)


def test_lanes_that_are_busy_are_left_out(desk: Desk) -> None:
    put(desk, 1)
    other = put(desk, 1, THERE)
    desk.commit()
    busy = desk.outbox.due(desk.clock.wall(), 1)[0].lane
    assert [message.id for message in desk.outbox.due(desk.clock.wall(), 9, {busy})] == [other]
    assert desk.outbox.next_due({busy}) == desk.clock.wall()


def test_the_loop_is_told_when_the_next_message_is_due(desk: Desk) -> None:
    assert desk.outbox.next_due() is None
    message_id = put(desk, 1)
    put(desk, 2)
    desk.commit()
    due(desk)
    assert desk.outbox.next_due() == desk.clock.wall()
    desk.outbox.failed(message_id, "no answer", desk.clock.wall() + 5)
    desk.commit()
    assert due(desk) == []
    assert desk.outbox.next_due() == desk.clock.wall() + 5


def test_what_has_ended_does_not_end_again(desk: Desk) -> None:
    message_id = put(desk, 1)
    desk.commit()
    desk.outbox.delivered(message_id)
    desk.outbox.failed(message_id, "late", 0.0)
    desk.outbox.dead(message_id, "later still")
    desk.commit()
    assert desk.states()[message_id] == ("delivered", 1)


def test_a_clock_that_is_set_back_makes_nothing_wait_longer(desk: Desk) -> None:
    message_id = put(desk, 1)
    desk.commit()
    desk.outbox.failed(message_id, "no answer", desk.clock.wall() + 10)
    desk.commit()
    assert isinstance(desk.clock, ManualClock)
    desk.clock.advance(-3600)
    desk.outbox.clock_went_back(3600)
    desk.commit()
    desk.clock.advance(10)
    (message,) = desk.outbox.due(desk.clock.wall(), 1)
    assert desk.clock.wall() - message.age_from == 10


def test_an_operator_sees_the_dead_ones_without_the_secret_in_their_address(desk: Desk) -> None:
    first, second = put(desk, 1), put(desk, 2)
    put(desk, 3, THERE)
    desk.commit()
    desk.outbox.dead(first, "HTTP 404 Not Found")
    desk.commit()
    told = summary(desk.conn)
    assert (told["pending"], told["dead"], told["oldest_at"]) == (2, 1, desk.clock.wall())
    assert told["last_dead"]["last_error"] == "HTTP 404 Not Found"
    assert told["last_dead"]["url"] == "https://here.example"
    assert "s3cret" not in json.dumps(told)
    assert [row["id"] for row in letters(desk.conn, "pending", 9)][1] == second


def test_nothing_to_tell_is_told_as_well(desk: Desk) -> None:
    assert summary(desk.conn) == {"pending": 0, "oldest_at": None, "dead": 0, "last_dead": None}


def test_a_dead_message_that_is_tried_again_goes_first_and_has_all_its_tries(desk: Desk) -> None:
    first, second = put(desk, 1), put(desk, 2)
    desk.commit()
    desk.outbox.dead(first, "HTTP 410 Gone")
    desk.commit()
    assert due(desk) == [second]
    assert isinstance(desk.clock, ManualClock)
    desk.clock.advance(100)
    assert revive(desk.conn, desk.clock.wall(), "evt_nobody") == 0
    assert revive(desk.conn, desk.clock.wall(), second) == 0
    assert revive(desk.conn, desk.clock.wall()) == 1
    desk.outbox.look_again()
    (message,) = desk.outbox.due(desk.clock.wall(), 9)
    assert (message.id, message.tries, message.age_from) == (first, 0, desk.clock.wall())


def test_one_dead_message_can_be_tried_again_alone(desk: Desk) -> None:
    first, second = put(desk, 1), put(desk, 2)
    desk.commit()
    for message_id in (first, second):
        desk.outbox.dead(message_id, "HTTP 410 Gone")
    desk.commit()
    assert revive(desk.conn, desk.clock.wall(), second) == 1
    assert {key: state for key, (state, _) in desk.states().items()} == {first: "dead", second: "pending"}


def test_messages_that_ended_long_ago_are_forgotten_and_pending_ones_never(desk: Desk) -> None:
    old, dead, waiting, new = (put(desk, number, batch=number) for number in range(4))
    desk.commit()
    desk.outbox.delivered(old)
    desk.outbox.dead(dead, "HTTP 410 Gone")
    desk.commit()
    assert desk.conn.execute("SELECT body FROM outbox WHERE id = ?", (old,)).fetchone() == ("",)
    assert isinstance(desk.clock, ManualClock)
    desk.clock.advance(KEPT_S + 1)
    desk.outbox.delivered(new)
    desk.commit()
    assert set(desk.states()) == {waiting, new}


def test_a_long_lane_is_not_walked_through(desk: Desk) -> None:
    for number in range(300):
        put(desk, number)
    put(desk, 1, THERE)
    desk.commit()
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    desk.conn.set_progress_handler(count, 1)
    desk.outbox.look_again()
    assert len(due(desk)) == 2
    desk.conn.set_progress_handler(None, 0)
    assert steps < 1000


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_whatever_fails_each_lane_is_told_in_order_and_of_everything(data: st.DataObject) -> None:
    conn = sqlite3.connect(":memory:", isolation_level=None)
    for statement in ("CREATE TABLE tasks (id, state, attempt)", *OUTBOX):
        conn.execute(statement)
    clock = ManualClock()
    desk, told = Desk(conn, clock), dict[str, list[int]]()
    puts = data.draw(st.lists(st.tuples(st.sampled_from((HERE, THERE)), st.integers(1, 2)), max_size=8))
    for number, (url, batch) in enumerate(puts):
        put(desk, number, url, batch)
        desk.commit()
    while desk.outbox.due(clock.wall(), 9) or desk.outbox.next_due() is not None:
        clock.now = max(clock.now, desk.outbox.next_due() or 0.0)
        for message in desk.outbox.due(clock.wall(), data.draw(st.integers(1, 3))):
            if data.draw(st.booleans()):
                desk.outbox.failed(message.id, "HTTP 500", clock.wall() + data.draw(st.integers(0, 50)))
            else:
                told.setdefault(message.lane, []).append(message.task or 0)
                desk.outbox.delivered(message.id)
        if data.draw(st.booleans()):
            desk.commit()
        else:
            desk.start()  # a crash: what was told may be told again
    conn.close()
    for lane, numbers in told.items():
        wanted = [number for number, (url, batch) in enumerate(puts) if lane == f"{batch} {url}"]
        assert sorted(set(numbers)) == wanted
        assert numbers == sorted(numbers)
    assert len(told) == len({(url, batch) for url, batch in puts})
