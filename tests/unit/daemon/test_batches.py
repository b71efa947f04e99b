"""What came together, and what happens to all of it at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
from support.house import House
from support.waiting import eventually

from gsvrd.daemon.batches import Batches
from gsvrd.daemon.closing import Closing
from gsvrd.daemon.heralding import Herald
from gsvrd.daemon.reception import Reception
from gsvrd.intake.names import NameRules
from gsvrd.policy.spending import COST_LIMIT, CostLimits, Price, Rates
from gsvrd.pool.messages import Assign, Finished
from gsvrd.pool.worker import Desk
from gsvrd.store.outbox import Outbox
from gsvrd.store.standing import Standing

IDLE_CLOSE_S = 300.0


def opened(house: House) -> Batches:
    batches = Batches(house.queue, house.clock, IDLE_CLOSE_S)
    batches.restore()
    return batches


def names(house: House) -> list[tuple[int, str, str]]:
    house.commit()
    return [batch[:3] for batch in house.queue.batches()]


def add(house: House, batch: int, behaviour: str, file: str) -> int:
    task = house.add(behaviour, file)
    house.db.execute("UPDATE tasks SET batch = ? WHERE id = ?", (batch, task))
    house.db.commit()
    return task


def test_a_top_folder_is_a_batch_with_all_that_is_below_it(house: House) -> None:
    batches = opened(house)
    numbers = [batches.of(name) for name in ("Physics/1.mp4", "物理/1.mp4", "Physics/week 2/deep/2.mp4")]
    assert numbers == [1, 2, 1]
    assert names(house) == [(1, "folder", "Physics"), (2, "folder", "物理")]


def test_a_folder_goes_on_with_its_batch_after_a_restart(house: House) -> None:
    first = opened(house).of("Physics/1.mp4")
    house.commit()
    again = opened(house)
    assert (again.of("Physics/2.mp4"), again.of("Chemistry/1.mp4")) == (first, first + 1)


def test_loose_files_are_a_batch_until_they_stop_coming(house: House) -> None:
    batches = opened(house)
    first = batches.of("a.mp4")
    house.clock.advance(IDLE_CLOSE_S)
    assert batches.of("b.mp4") == first
    house.clock.advance(IDLE_CLOSE_S + 1)
    assert batches.of("c.mp4") == first + 1
    assert [kind for _, kind, _ in names(house)] == ["loose", "loose"]


def test_nothing_of_a_held_batch_starts_and_all_others_do(house: House) -> None:
    batches = opened(house)
    held, other = batches.of("held/a"), batches.of("other/a")
    waiting = add(house, held, "done:", "a.mp4")
    house.queue.hold_batch(held, "a person")
    house.commit()
    late = add(house, other, "done:", "b.mp4")
    house.rest()
    assert (house.row(waiting)["state"], house.row(late)["state"]) == ("pending", "completed")
    house.clock.advance(1e9)
    house.rest()
    assert house.row(waiting)["state"] == "pending"
    house.queue.hold_batch(held, "")
    house.commit()
    house.rest()
    assert house.row(waiting)["state"] == "completed"


def test_what_comes_back_to_a_held_batch_is_held_too(house: House) -> None:
    held = opened(house).of("held/a")
    house.commit()
    task = add(house, held, "refuse:network", "a.mp4")
    house.until(lambda: house.attempts.running)
    house.queue.hold_batch(held, "a person")
    house.commit()
    house.rest()
    house.clock.advance(1e6)
    house.rest()
    assert (house.row(task)["state"], house.outcomes(task)) == ("pending", ["failed"])


def test_a_batch_at_its_cost_limit_is_held_and_no_other(house: House) -> None:
    batches = opened(house)
    dear, other = batches.of("dear/a"), batches.of("other/a")
    house.commit()

    def work(assign: Assign, desk: Desk) -> Finished:
        permit = desk.ask("generate", "m", 1000, 500)
        desk.settle(permit, "ok", tokens_in=1000, tokens_out=500)
        return Finished(assign.task, assign.attempt)

    house.work = work  # type: ignore[method-assign]
    terms = house.permits.terms
    price = Price("m", Rates(1_000_000, 2_000_000))
    house.permits.terms = type(terms)(terms.project, CostLimits(per_batch=3000), (price,))
    first, second, third = (add(house, batch, "done:", f"{n}.mp4") for n, batch in enumerate((dear, dear, other)))
    house.until(lambda: house.row(third)["state"] == "completed")
    house.rest()
    assert (house.row(first)["state"], house.row(second)["state"]) == ("completed", "pending")
    assert (house.row(second)["spent"], house.doors.closed) == (0, {})
    reasons = dict(house.db.execute("SELECT id, hold FROM batches"))
    assert "for the batch is $0.0030" in reasons[dear]
    assert reasons[other] == ""
    house.permits.terms = type(terms)(terms.project, CostLimits(per_batch=6000), (price,))
    house.permits.reopen()  # the configuration was read again
    house.until(lambda: house.row(second)["state"] == "completed")


def test_a_batch_may_say_what_it_may_cost(house: House) -> None:
    batch = opened(house).of("course/a")
    house.commit()

    def work(assign: Assign, desk: Desk) -> Finished:
        permit = desk.ask("generate", "m", 1000, 500)
        desk.settle(permit, "ok", tokens_in=1000, tokens_out=500)
        return Finished(assign.task, assign.attempt)

    house.work = work  # type: ignore[method-assign]
    terms = house.permits.terms
    house.permits.terms = type(terms)(terms.project, CostLimits(), (Price("m", Rates(1_000_000, 2_000_000)),))
    first, second = (add(house, batch, "done:", f"{n}.mp4") for n in range(2))
    for task in (first, second):
        say(house, task, cost_limit=3000)
    house.rest()
    assert (house.row(first)["state"], house.row(second)["state"]) == ("completed", "pending")


def test_a_call_that_does_not_come_back_ends_its_attempt_and_is_no_death(house: House) -> None:
    def work(assign: Assign, desk: Desk) -> Finished:
        desk.ask("generate", "m", 10, 10)
        return type(house).work(house, assign, desk)

    house.work = work  # type: ignore[method-assign]
    task = house.add("hang:")
    house.until(lambda: house.pool.next_deadline() is not None)
    house.clock.advance(house.permits.terms.timeout_s - 1)
    house.turn()
    assert house.outcomes(task) == [None]
    house.clock.advance(60)
    house.until(lambda: house.outcomes(task) == ["timed_out"])
    assert house.reading.attempts(task)[0]["error"]["kind"] == "network"
    assert (house.row(task)["state"], house.row(task)["deaths"]) == ("pending", 0)


def say(house: House, task: int, **options: object) -> None:
    text = msgspec.json.encode({name: [value, "a test"] for name, value in options.items()}).decode()
    house.db.execute("UPDATE tasks SET options = ? WHERE id = ?", (text, task))
    house.db.commit()


def test_a_batch_has_no_more_at_a_time_than_it_wants_and_the_others_go_on(house: House, tmp_path: Path) -> None:
    batches = opened(house)
    course, other = batches.of("course/a"), batches.of("other/a")
    house.commit()
    house.pool.resize(4)
    first, second = (add(house, course, f"wait:{tmp_path / 'go'}", f"{n}.mp4") for n in range(2))
    third = add(house, other, f"wait:{tmp_path / 'go'}", "3.mp4")
    for task in (first, second):
        say(house, task, parallel=1)

    def dispatched() -> bool:
        house.attempts.dispatch(4)
        house.turn(start=False)
        return len(house.attempts.running) == 2

    house.until(dispatched)
    house.attempts.dispatch(4)
    assert set(house.attempts.running) == {first, third}
    (tmp_path / "go").touch()
    house.until(lambda: house.row(second)["state"] == "completed")


def test_a_failure_is_told_once_to_who_wants_to_know(house: House) -> None:
    outbox = Outbox(house.db, house.clock, house.queue.note)
    house.attempts.herald = Herald(outbox, "")
    loud, quiet = house.add("refuse:unreadable", "a.mp4"), house.add("refuse:unreadable", "b.mp4")
    say(house, loud, webhook_url="https://example.org/told")
    house.rest()
    assert house.row(quiet)["state"] == "failed"
    told = house.db.execute("SELECT event, task, url FROM outbox").fetchall()
    assert told == [("task.failed", loud, "https://example.org/told")]


def test_a_report_is_told_with_its_name_and_not_when_somebody_was_faster(house: House) -> None:
    outbox = Outbox(house.db, house.clock, house.queue.note)
    house.places.on_report = Herald(outbox, "https://example.org/told").completed
    house.add("report:a.md", "a.mp4")
    house.rest()
    late = house.add("report:b.md", "b.mp4")
    house.until(lambda: house.row(late)["report"] == "b.md")
    house.queue.cancel(late, "a person")  # noted before its report is heard of
    house.rest()
    told = [msgspec.json.decode(row[0])["data"]["report"] for row in house.db.execute("SELECT body FROM outbox")]
    assert told == ["a.md"]


def closed(house: House, *, retry_failed: bool = False) -> Closing:
    outbox = Outbox(house.db, house.clock, house.queue.note)
    return Closing(house.queue, Herald(outbox, "https://example.org/told"), retry_failed)


def told(house: House) -> list[tuple[str, dict[str, int]]]:
    house.commit()
    bodies = [msgspec.json.decode(row[0]) for row in house.db.execute("SELECT body FROM outbox ORDER BY seq")]
    return [(body["type"], body["data"]["counts"]) for body in bodies]


def test_the_end_of_a_batch_is_told_once_and_again_when_it_has_gone_on(house: House) -> None:
    batch = opened(house).of("course/a")
    house.commit()
    closing = closed(house)
    add(house, batch, "done:", "a.mp4")
    closing.close(batch)  # it still waits
    assert told(house) == []
    house.rest()
    closing.close(batch)
    closing.close(batch)
    assert told(house) == [("batch.completed", {"completed": 1})]
    add(house, batch, "done:", "b.mp4")
    house.clock.advance(10)
    house.rest()
    closing.close(batch)
    assert told(house)[1:] == [("batch.completed", {"completed": 2})]


def test_failed_videos_have_one_more_chance_when_that_was_asked_for(house: House) -> None:
    batch = opened(house).of("course/a")
    house.commit()
    closing = closed(house, retry_failed=True)
    task = add(house, batch, "refuse:unreadable", "a.mp4")
    house.rest()
    closing.close(batch)
    assert told(house) == []
    house.rest()
    assert house.outcomes(task) == ["failed", "failed"]
    closing.close(batch)
    assert told(house) == [("batch.completed", {"failed": 1})]


def test_a_batch_of_which_all_was_cancelled_is_told_so(house: House) -> None:
    batch = opened(house).of("course/a")
    house.commit()
    task = add(house, batch, "done:", "a.mp4")
    house.queue.cancel(task, "a person")
    house.commit()
    closed(house).close(batch)
    assert told(house) == [("batch.cancelled", {"cancelled": 1})]


def test_a_video_that_was_replaced_by_a_newer_form_counts_no_more(house: House) -> None:
    batch = opened(house).of("course/a")
    house.commit()
    closing = closed(house)
    old, new = add(house, batch, "refuse:changed", "a.mp4"), add(house, batch, "done:", "b.mp4")
    house.rest()
    assert (house.row(old)["state"], house.row(new)["state"]) == ("cancelled", "completed")
    closing.close(batch)
    assert told(house) == [("batch.completed", {"completed": 1})]
    stands = Standing(house.db).batch(batch)
    assert stands is not None
    assert stands.counts["cancelled"] == 0


def test_none_for_its_cost_limit_lets_a_batch_cost_what_it_will(house: House) -> None:
    batch = opened(house).of("course/a")
    house.commit()

    def work(assign: Assign, desk: Desk) -> Finished:
        permit = desk.ask("generate", "m", 1000, 500)
        desk.settle(permit, "ok", tokens_in=1000, tokens_out=500)
        return Finished(assign.task, assign.attempt)

    house.work = work  # type: ignore[method-assign]
    terms, price = house.permits.terms, Price("m", Rates(1_000_000, 2_000_000))
    house.permits.terms = type(terms)(terms.project, CostLimits(per_batch=3000), (price,))
    tasks = [add(house, batch, "done:", f"{n}.mp4") for n in range(3)]
    for task in tasks:
        say(house, task, cost_limit=None)
    house.rest()
    assert [house.row(task)["state"] for task in tasks] == ["completed"] * 3


def test_a_batch_held_for_its_cost_limit_goes_on_when_its_folder_allows_more(house: House) -> None:
    batches, moments = opened(house), list[Callable[[], None]]()
    reception = Reception(
        config=house.config,
        queue=house.queue,
        filing=house.filing,
        clock=house.clock,
        batches=batches,
        templates=frozenset(),
        rules=NameRules(),
        later=lambda _, call: moments.append(call),
        moved=lambda *_: None,
    )
    batch = batches.of("course/a")
    house.commit()
    folder = house.config.inbox / "course"
    folder.mkdir()
    (folder / "gsvrd.yaml").write_text("cost_limit: 1\n")
    task = add(house, batch, "done:", "a.mp4")
    house.db.execute("UPDATE tasks SET path = ? WHERE id = ?", (bytes(folder / "a.mp4"), task))
    house.db.execute("UPDATE tasks SET options = ?", ('{"cost_limit":[1000000,"course/gsvrd.yaml"]}',))
    house.db.commit()
    house.queue.hold_batch(batch, f"{COST_LIMIT} for the batch is $1.00")
    house.commit()
    reception.watch_cost(batch)

    def look() -> str:
        moments.pop(0)()
        eventually(lambda: house.filing.collect() or not house.filing.open)
        house.commit()
        (hold,) = house.db.execute("SELECT hold FROM batches").fetchone()
        return str(hold)

    assert look().startswith(COST_LIMIT)
    (folder / "gsvrd.yaml").write_text("cost_limit: 2\n")
    assert look() == ""
    assert '"cost_limit":[2000000,' in house.row(task)["options"]
