"""The page, the listener and the file of metrics, over a real database and real sockets."""

from __future__ import annotations

import logging
import os
import socket
import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.metrics import Samples, dial, free_port, get, hear, samples, talk
from support.waiting import eventually

from gsvrd.clock import ManualClock, SystemClock
from gsvrd.daemon.metrics import listener as listening
from gsvrd.daemon.metrics.listener import CLIENTS_MOST, REQUEST_BYTES, Listener, bind
from gsvrd.daemon.metrics.names import FAMILIES
from gsvrd.daemon.metrics.page import MODELS_MOST, Page
from gsvrd.daemon.metrics.settings import MetricsSettings
from gsvrd.daemon.metrics.station import Station
from gsvrd.daemon.metrics.textfile import Textfile
from gsvrd.daemon.vitals import LIVE_S, Vitals
from gsvrd.errors import ConfigError
from gsvrd.model import NewTask
from gsvrd.policy.limiter import APILimits, Call, Lane
from gsvrd.policy.spending import CostLimits, Usage
from gsvrd.store.ledger import Ledger
from gsvrd.store.measuring import Measuring
from gsvrd.store.opening import open_database
from gsvrd.store.queue import TaskQueue

MODEL = "gemini-3.8-flash"
LIMITS = APILimits(requests_per_minute=60, tokens_per_minute=1000, requests_per_day=50)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    conn = open_database(tmp_path / "gsvrd.db", create=True)
    yield conn
    conn.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def vitals(clock: ManualClock) -> Vitals:
    made = Vitals(clock)
    made.word = "running"
    made.waits(None)
    return made


@pytest.fixture
def queue(db: sqlite3.Connection, clock: ManualClock) -> TaskQueue:
    return TaskQueue(db, clock)


def wishes(
    tmp_path: Path, listen: tuple[str, int] | Path | None = None, textfile: Path | None = None
) -> MetricsSettings:
    directories = {"inbox": tmp_path, "failed": tmp_path / "away"}
    return MetricsSettings(listen, textfile, 60.0, "mine", MODEL, LIMITS, CostLimits(per_day=5_000_000), directories)


def page_of(tmp_path: Path, vitals: Vitals, clock: ManualClock) -> str:
    return Page(Measuring(tmp_path / "gsvrd.db"), vitals, clock).text(wishes(tmp_path)).decode()


def value(found: Samples, name: str, **labels: str) -> float:
    return found[name, tuple(sorted(labels.items()))]


# The page


def test_the_page_has_every_metric_of_the_table_with_its_kind_and_labels_and_no_other(
    tmp_path: Path, queue: TaskQueue, vitals: Vitals, clock: ManualClock
) -> None:
    vitals.stages.note("probe", 2.0)
    vitals.doors = ("machine",)
    text = page_of(tmp_path, vitals, clock)
    told = {family.name: family for family in text_string_to_metric_families(text)}
    known = {family.name.removesuffix("_total"): family for family in FAMILIES}
    assert told.keys() == known.keys()
    for name, family in known.items():
        assert told[name].type == family.kind
        assert told[name].documentation == family.help
        labels = {label for sample in told[name].samples for label in sample.labels} - {"le"}
        assert labels in (set(family.labels), set()), name


def test_limits_left_and_money_come_from_the_ledger(
    tmp_path: Path, db: sqlite3.Connection, queue: TaskQueue, vitals: Vitals, clock: ManualClock
) -> None:
    ledger = Ledger(db, clock, queue.note)
    permit = ledger.reserve(Call(1, 1, Lane.GENERATE, "mine", MODEL, 300), 1_500_000, None)
    ledger.sent(permit)
    queue.commit()
    found = samples(page_of(tmp_path, vitals, clock))
    assert value(found, "gsvrd_api_requests_left_minute", model=MODEL) == 59
    assert value(found, "gsvrd_api_tokens_left_minute", model=MODEL) == 700
    assert value(found, "gsvrd_api_requests_left_today", model=MODEL) == 49
    assert value(found, "gsvrd_cost_reserved_dollars") == 1.5
    assert value(found, "gsvrd_cost_limit_dollars", per="day") == 5
    assert ("gsvrd_cost_limit_dollars", (("per", "total"),)) not in found


def test_the_loops_own_figures_are_those_of_this_moment(
    tmp_path: Path, queue: TaskQueue, vitals: Vitals, clock: ManualClock
) -> None:
    vitals.waits(clock.now + 5)
    clock.advance(7)
    vitals.doors, vitals.workers, vitals.target, vitals.busy = ("machine", "inbox-gone"), 3, 4, 2
    found = samples(page_of(tmp_path, vitals, clock))
    assert value(found, "gsvrd_loop_lag_seconds") == 2
    assert value(found, "gsvrd_door_closed", door="inbox-gone") == 1
    workers = ("gsvrd_workers", "gsvrd_workers_target", "gsvrd_workers_busy")
    assert [value(found, name) for name in workers] == [3, 4, 2]
    assert value(found, "gsvrd_state", state="running") == 1
    assert value(found, "gsvrd_state", state="paused") == 0
    assert value(found, "gsvrd_disk_free_bytes", directory="inbox") > 0
    assert ("gsvrd_disk_free_bytes", (("directory", "failed"),)) not in found  # it is away


def test_no_name_or_title_of_a_video_and_no_more_models_than_have_room_get_onto_the_page(
    tmp_path: Path, db: sqlite3.Connection, queue: TaskQueue, vitals: Vitals, clock: ManualClock
) -> None:
    queue.add(NewTask(b"/inbox/s3cret.mp4", "s3cret.mp4", 1, 2, 3, 4))
    queue.add_batch(1, "s3cret batch", "folder")
    ledger = Ledger(db, clock, queue.note)
    for number in range(2 * MODELS_MOST):
        permit = ledger.reserve(Call(1, 1, Lane.GENERATE, "mine", f"model-{number}", 1), 1_000_000, None)
        ledger.sent(permit)
        ledger.settle(permit, "ok", Usage(1, 1), 1_000_000)
    queue.commit()
    text = page_of(tmp_path, vitals, clock)
    found = samples(text)
    models = {dict(labels)["model"] for name, labels in found if name == "gsvrd_cost_dollars_total"}
    assert len(models) == MODELS_MOST + 1
    assert sum(value for (name, _), value in found.items() if name == "gsvrd_cost_dollars_total") == 2 * MODELS_MOST
    assert "s3cret" not in text


def test_without_a_database_the_loops_figures_are_still_told(
    tmp_path: Path, vitals: Vitals, clock: ManualClock
) -> None:
    found = samples(page_of(tmp_path, vitals, clock))
    assert value(found, "gsvrd_database_readable") == 0
    assert value(found, "gsvrd_state", state="running") == 1


# Probes


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def listener(port: int, vitals: Vitals) -> Iterator[Listener]:
    made = Listener(bind(("127.0.0.1", port)), vitals, lambda: b"page\n")
    yield made
    made.close()


def test_probes_tell_a_loop_that_is_stuck_from_one_that_waits(
    listener: Listener, port: int, vitals: Vitals, clock: ManualClock
) -> None:
    at = ("127.0.0.1", port)
    clock.advance(10 * LIVE_S)
    assert get(at, "/healthz") == (200, "live\n")
    vitals.wakes()
    clock.advance(LIVE_S + 1)
    assert get(at, "/healthz") == (503, "the loop is stuck for 31 s\n")
    assert get(at, "/readyz")[0] == 503
    vitals.word = "starting"
    assert get(at, "/healthz") == (200, "live\n")
    assert get(at, "/readyz") == (503, "starting\n")


@pytest.mark.parametrize(
    ("word", "doors", "status", "said"),
    [
        ("starting", (), 503, "starting"),
        ("running", (), 200, "running"),
        ("paused", (), 200, "paused"),
        ("draining", (), 503, "draining"),
        ("running", ("machine", "state"), 503, "closed doors: machine, state (see gsvrctl status)"),
    ],
)
def test_ready_is_whoever_would_start_work_and_the_others_say_why_not(
    listener: Listener, port: int, vitals: Vitals, word: str, doors: tuple[str, ...], status: int, said: str
) -> None:
    vitals.word, vitals.doors = word, doors
    assert get(("127.0.0.1", port), "/readyz") == (status, f"{said}\n")


# Clients


def test_only_get_is_answered_and_only_what_there_is(listener: Listener, port: int) -> None:
    at = ("127.0.0.1", port)
    assert get(at, "/metrics") == (200, "page\n")
    assert get(at, "/metrics?name=1")[0] == 200
    assert get(at, "/etc/passwd")[0] == 404
    posted = talk(at, b"POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
    assert posted.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nAllow: GET\r\n" in posted
    assert talk(at, b"\x16\x03\x01 hello\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_a_request_with_too_much_to_say_is_refused(listener: Listener, port: int) -> None:
    headers = b"X: " + b"x" * 3 * REQUEST_BYTES
    answer = talk(("127.0.0.1", port), b"GET /metrics HTTP/1.1\r\n" + headers + b"\r\n\r\n")
    assert b"page" not in answer
    assert answer.startswith(b"HTTP/1.1 431 ") or not answer  # hung up on in the midst of it


def test_clients_that_say_nothing_are_hung_up_on_and_keep_nobody_out_for_long(
    monkeypatch: pytest.MonkeyPatch, port: int, vitals: Vitals
) -> None:
    monkeypatch.setattr(listening, "CLIENT_S", 0.5)
    made = Listener(bind(("127.0.0.1", port)), vitals, lambda: b"page\n")
    silent = [dial(("127.0.0.1", port)) for _ in range(2 * CLIENTS_MOST)]
    try:
        for client in silent:
            assert hear(client) == b""
        eventually(lambda: talk(("127.0.0.1", port), b"GET /healthz HTTP/1.1\r\n\r\n").endswith(b"live\n"))
    finally:
        for client in silent:
            client.close()
        made.close()


def test_a_client_that_does_not_read_is_hung_up_on(monkeypatch: pytest.MonkeyPatch, port: int, vitals: Vitals) -> None:
    monkeypatch.setattr(listening, "CLIENT_S", 0.5)
    made = Listener(bind(("127.0.0.1", port)), vitals, lambda: b"x" * 50_000_000)
    try:
        with dial(("127.0.0.1", port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            eventually(lambda: _clients(made) == 1)
            eventually(lambda: _clients(made) == 0)
            assert len(rest_of(client)) < 50_000_000
    finally:
        made.close()


def rest_of(client: socket.socket) -> bytes:
    """What had been sent before the other end hung up."""
    try:
        return hear(client)
    except ConnectionResetError:
        return b""


def _clients(made: Listener) -> int:
    return made._clients


def test_probes_answer_while_a_page_hangs(port: int, vitals: Vitals) -> None:
    mended = threading.Event()
    made = Listener(bind(("127.0.0.1", port)), vitals, lambda: b"late\n" if mended.wait(30) else b"")
    try:
        with dial(("127.0.0.1", port)) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            assert get(("127.0.0.1", port), "/healthz") == (200, "live\n")
            mended.set()
            assert hear(client).endswith(b"late\n")
    finally:
        made.close()


# The station


def test_a_fault_in_a_page_is_told_and_the_next_one_is_made(
    station: Station, tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = ("127.0.0.1", port)

    def fail(*_: object) -> None:
        raise ValueError("a row nobody expected")

    with monkeypatch.context() as broken:
        broken.setattr("gsvrd.daemon.metrics.page._loop", fail)
        station.change(wishes(tmp_path, at))
        assert get(at, "/metrics") == (500, "see the log\n")
    eventually(lambda: get(at, "/metrics")[0] == 200)


@pytest.fixture
def station(tmp_path: Path, queue: TaskQueue) -> Iterator[Station]:
    vitals = Vitals(SystemClock())
    vitals.word = "running"
    made = Station(tmp_path / "gsvrd.db", vitals, SystemClock())
    yield made
    made.close()


def test_a_socket_of_a_killed_daemon_is_replaced_and_one_that_is_answered_is_not(
    station: Station, tmp_path: Path
) -> None:
    path = tmp_path / "m.sock"
    bind(path).close()
    assert path.is_socket()
    station.change(wishes(tmp_path, path))
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
    assert get(path, "/readyz") == (200, "running\n")
    other = Station(tmp_path / "gsvrd.db", station.vitals, SystemClock())
    with pytest.raises(ConfigError, match="Address already in use"):
        other.change(wishes(tmp_path, path))
    other.close()
    assert get(path, "/readyz") == (200, "running\n")
    station.close()
    assert not path.exists()


def test_a_file_in_the_sockets_place_is_left_alone(station: Station, tmp_path: Path) -> None:
    (tmp_path / "m.sock").write_text("precious")
    with pytest.raises(ConfigError):
        station.change(wishes(tmp_path, tmp_path / "m.sock"))
    assert (tmp_path / "m.sock").read_text() == "precious"


def test_a_change_that_cannot_be_leaves_what_there_is(station: Station, tmp_path: Path, port: int) -> None:
    first, second = ("127.0.0.1", port), ("127.0.0.1", free_port())
    station.change(wishes(tmp_path, first))
    with socket.create_server(second), pytest.raises(ConfigError, match=f"nobody can listen at 127.0.0.1:{second[1]}"):
        station.change(wishes(tmp_path, second))
    assert get(first, "/readyz")[0] == 200
    station.change(wishes(tmp_path, second))
    assert get(second, "/metrics")[0] == 200
    with pytest.raises(ConnectionRefusedError):
        dial(first)
    station.change(wishes(tmp_path))
    with pytest.raises(ConnectionRefusedError):
        dial(second)


def test_the_file_is_replaced_whole_and_its_last_words_are_how_it_ended(station: Station, tmp_path: Path) -> None:
    path = tmp_path / "out" / "gsvrd.prom"
    path.parent.mkdir()
    station.change(wishes(tmp_path, textfile=path))
    eventually(path.exists)
    first = path.stat()
    assert stat.S_IMODE(first.st_mode) == 0o644
    assert value(samples(path.read_text()), "gsvrd_state", state="running") == 1
    station.vitals.word = "stopped"
    station.close()
    assert value(samples(path.read_text()), "gsvrd_state", state="stopped") == 1
    assert path.stat().st_ino != first.st_ino
    assert [one.name for one in path.parent.iterdir()] == ["gsvrd.prom"]


def test_a_file_that_cannot_be_written_is_told_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    path, pages = tmp_path / "later" / "gsvrd.prom", iter(range(1_000_000))
    made = Textfile(path, 0.01, lambda: f"{next(pages)}\n".encode())
    eventually(lambda: next(pages) > 10)
    path.parent.mkdir()
    eventually(path.exists)
    made.close()
    assert int(path.read_text()) > 10
