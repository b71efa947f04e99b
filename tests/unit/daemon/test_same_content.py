"""Nothing is found out twice: what was found out about a content serves the next video of it."""

from __future__ import annotations

import msgspec
from support import works
from support.house import House

from gsvrd.errors import Snooze
from gsvrd.pool.messages import Assign, Finished, Known
from gsvrd.pool.worker import Desk


class Studies:
    """Work that seeks before it studies, and counts."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.studied: list[str] = []
        self.known: list[Known] = []

    def __call__(self, assign: Assign, desk: Desk) -> Finished:
        known = desk.seek("key of beef")
        self.known.append(known)
        if known.report:
            return Finished(assign.task, assign.attempt, sha256="beef", reused=known.report)
        if not known.analysis:
            self.studied.append(assign.name)
            desk.keep("analyze", b'"what was found out"')
        if assign.name.startswith("wait:"):
            works.behave(assign, desk)
        return type(self.house).work(self.house, msgspec.structs.replace(assign, name="report:same.md"), desk)


def ready(house: House) -> Studies:
    house.work = Studies(house)  # type: ignore[method-assign]
    return house.work


def say(house: House, task: int, **options: object) -> None:
    text = msgspec.json.encode({name: [value, "a test"] for name, value in options.items()}).decode()
    house.db.execute("UPDATE tasks SET options = ? WHERE id = ?", (text, task))
    house.db.commit()


def test_the_second_video_of_a_content_is_not_studied_and_has_a_report_of_its_own(house: House) -> None:
    studies = ready(house)
    house.add("report:", "a.mp4")
    house.rest()
    house.add("report:", "b.mp4")
    house.rest()
    assert len(studies.studied) == 1
    assert studies.known[1].analysis == b"{}"  # as the house keeps it
    assert studies.known[1].pictures == "same.assets"
    assert house.files() == {"reports": ["same-2.md", "same.md"], "archive": ["a.mp4", "b.mp4"]}


def test_it_needs_none_of_its_own_where_that_was_asked_for(house: House) -> None:
    studies = ready(house)
    house.add("report:", "a.mp4")
    house.rest()
    second = house.add("report:", "b.mp4")
    say(house, second, skip_existing=True)
    house.rest()
    assert len(studies.studied) == 1
    assert (house.row(second)["state"], house.row(second)["reused"]) == ("completed", "same.md")
    assert "same.md" in house.row(second)["why"]
    assert house.files() == {"reports": ["same.md"], "archive": ["a.mp4", "b.mp4"]}


def test_the_configuration_may_ask_for_that_and_a_task_against_it(house: House) -> None:
    ready(house)
    house.attempts.skip_existing = True
    house.add("report:", "a.mp4")
    house.rest()
    second, third = house.add("report:", "b.mp4"), house.add("report:", "c.mp4")
    say(house, third, skip_existing=False)
    house.rest()
    assert (house.row(second)["reused"], house.row(third)["reused"]) == ("same.md", None)


def test_who_insists_has_it_studied_anew(house: House) -> None:
    studies = ready(house)
    house.add("report:", "a.mp4")
    house.rest()
    say(house, house.add("report:", "b.mp4"), force=True)
    house.rest()
    assert len(studies.studied) == 2


def test_the_same_content_is_not_studied_twice_at_a_time(house: House) -> None:
    studies = ready(house)
    house.pool.resize(2)
    gate = house.config.home / "gate"
    house.add(f"wait:{gate}", "a.mp4")
    house.until(lambda: studies.studied)

    def two_at_a_time() -> bool:
        house.attempts.dispatch(2)
        house.turn(start=False)
        return house.outcomes(second) == ["snoozed"]

    second = house.add("report:", "b.mp4")
    house.until(two_at_a_time)
    assert house.row(second)["spent"] == 0
    gate.touch()
    house.until(lambda: house.row(second)["state"] == "completed")  # at once: the clock stands still
    assert len(studies.studied) == 1


def test_what_was_not_finished_is_not_remembered(house: House) -> None:
    studies = ready(house)

    def fails(assign: Assign, desk: Desk) -> Finished:
        desk.seek("key of beef")
        desk.keep("analyze", b'"half"')
        raise Snooze(60.0, "later")

    first = house.add("report:", "a.mp4")
    house.work = fails  # type: ignore[method-assign]
    house.until(lambda: house.outcomes(first) == ["snoozed"])
    house.queue.cancel(first, "a person")
    house.commit()
    house.work = studies  # type: ignore[method-assign]
    house.add("report:", "b.mp4")
    house.rest()
    assert studies.known[0].analysis == b""
