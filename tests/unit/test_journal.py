from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from gsvrd import logs
from gsvrd.journal import BURST, Flood, Journal

KEY = "AIza" + "Sy0123456789_-abcdefghijklmnopqrstu"


class Reader:
    """The journal's end of its protocol."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    def entries(self) -> list[dict[str, str]]:
        found = []
        while True:
            try:
                found.append(_parsed(self._socket.recv(1 << 20)))
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._socket.close()


def _parsed(data: bytes) -> dict[str, str]:
    fields = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack("<Q", data[:8])
            value, data = data[8 : 8 + length], data[9 + length :]
        fields[name.decode()] = value.decode()
    return fields


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    """`setup` was called by a process whose standard error the journal reads."""
    made = Reader(tmp_path / "socket")
    monkeypatch.setattr("gsvrd.logs.SOCKET", str(tmp_path / "socket"))
    monkeypatch.setattr("gsvrd.logs.Journal", lambda: Journal(str(tmp_path / "socket")))
    status = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    logs.setup("info", "auto", process="gsvrd")
    yield made
    made.close()
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()


def test_an_entry_has_its_values_as_fields(reader: Reader, capfd: pytest.CaptureFixture[str]) -> None:
    structlog.get_logger().warning("task_failed", task=7, batch=2, name="Vörlesung 1.mp4", reason=None)
    (entry,) = reader.entries()
    assert entry == {
        "MESSAGE": 'task_failed task=7 batch=2 name="Vörlesung 1.mp4" reason=null process=gsvrd',
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "gsvrd",
        "EVENT": "task_failed",
        "PROCESS": "gsvrd",
        "TASK": "7",
        "BATCH": "2",
        "NAME": "Vörlesung 1.mp4",
    }
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("level", "priority"), [("info", "6"), ("warning", "4"), ("error", "3"), ("critical", "2")])
def test_levels_are_priorities(reader: Reader, level: str, priority: str) -> None:
    getattr(structlog.get_logger(), level)("something")
    assert [entry["PRIORITY"] for entry in reader.entries()] == [priority]


def test_no_value_can_forge_a_field_and_none_takes_a_name_of_the_journals(reader: Reader) -> None:
    forged = "a\nPRIORITY=0\nMESSAGE=forged"
    structlog.get_logger().info("seen", name=forged, message="mine", code_file="mine", **{"9 lives=x\n": "y"})
    (entry,) = reader.entries()
    assert (entry["PRIORITY"], entry["NAME"]) == ("6", forged)
    assert entry["MESSAGE"].startswith("seen ")
    assert "\n" not in entry["MESSAGE"]
    assert (entry["GSVRD_MESSAGE"], entry["GSVRD_CODE_FILE"], entry["GSVRD_9_LIVES_X"]) == ("mine", "mine", "y")


def test_no_secret_gets_into_a_field(reader: Reader) -> None:
    structlog.get_logger().error("refused", url=f"https://x/?key={KEY}", api_key=KEY, deep={"authorization": KEY})
    (entry,) = reader.entries()
    assert KEY not in json.dumps(entry)


def test_a_traceback_is_one_entry(reader: Reader) -> None:
    try:
        raise ValueError("no such thing")
    except ValueError:
        structlog.get_logger().critical("crashed", exc_info=True)
    (entry,) = reader.entries()
    assert entry["EXCEPTION"].endswith("ValueError: no such thing")
    assert "\n" in entry["EXCEPTION"]
    assert not any(line.startswith("<") for line in entry["MESSAGE"].splitlines())


def test_what_the_journal_does_not_take_goes_to_standard_error(
    reader: Reader, capfd: pytest.CaptureFixture[str]
) -> None:
    reader.close()
    structlog.get_logger().warning("doors_closed", reasons="no network")
    assert capfd.readouterr().err == '<4>doors_closed reasons="no network" process=gsvrd\n'


def test_a_flood_of_one_event_is_cut_off_told_and_leaves_other_events_alone(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    logs.setup("info", "auto", process="gsvrd")
    log = structlog.get_logger()
    read = []
    for number in range(BURST + 70):
        log.warning("refused", number=number)
        read += reader.entries()
    log.info("ready")
    now += 11
    log.info("later")
    read += reader.entries()
    assert [entry["EVENT"] for entry in read] == ["refused"] * BURST + ["suppressing", "ready", "suppressed", "later"]
    assert (read[BURST]["WHAT"], read[BURST]["PRIORITY"]) == ("refused", "4")
    assert (read[-2]["WHAT"], read[-2]["LINES"]) == ("refused", "70")


def test_a_flood_bounds_each_event_in_each_window() -> None:
    now = [0.0]
    flood = Flood(lambda: now[0], burst=2, window_s=10.0)
    flood.ended()
    assert [flood.admits(event) for event in "aaaab"] == [True, True, False, False, True]
    now[0] = 9.9
    assert flood.ended() == {}
    now[0] = 10.0
    assert flood.ended() == {"a": 2}
    assert flood.admits("a")
