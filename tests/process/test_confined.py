"""What a worker gives up, as the kernel sees it: see docs/security.md."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.waiting import eventually

from gsvrd.clock import SystemClock
from gsvrd.pool.messages import Assign, Event, Finished, Snoozed
from gsvrd.pool.process import ProcessPool
from gsvrd.pool.worker import WorkerLimits


@pytest.fixture
def pool() -> Iterator[ProcessPool]:
    made = ProcessPool("support.works:make", b"", WorkerLimits(), SystemClock())
    made.resize(1)
    eventually(lambda: made.events() == [] and made.free() == 1)
    yield made
    made.close()


def end(pool: ProcessPool, name: str) -> Event:
    heard: list[Event] = []
    pool.assign(Assign(1, 1, name=name))

    def ended() -> bool:
        heard.extend(pool.events())
        return bool(heard)

    eventually(ended)
    return heard[-1]


def said(pool: ProcessPool, name: str) -> str:
    ending = end(pool, name)
    assert isinstance(ending, Finished)
    return ending.sha256


def test_a_worker_and_what_it_starts_can_never_gain_rights(pool: ProcessPool) -> None:
    assert said(pool, "status:NoNewPrivs") == "1"


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6"])
def test_a_worker_that_went_offline_reaches_no_network_with_any_thread(pool: ProcessPool, family: str) -> None:
    assert said(pool, f"reach:{family}") == "made EAFNOSUPPORT EAFNOSUPPORT"


def test_an_offline_worker_still_speaks_with_its_machine(pool: ProcessPool) -> None:
    assert said(pool, "reach:AF_UNIX") == "made made made"


def test_a_worker_that_is_unfit_gets_no_task_any_more_and_a_fresh_one_takes_its_place(pool: ProcessPool) -> None:
    assert said(pool, "reach:AF_INET").startswith("made")
    before = pool.workers()[0].pid
    assert end(pool, "unfit:") == Snoozed(1, 1, 0.0, "as the test wants it", is_last=True)
    assert pool.free() == 0
    eventually(lambda: pool.events() == [] and pool.free() == 1)
    assert pool.workers()[0].pid != before
    assert said(pool, "reach:AF_INET").startswith("made")
