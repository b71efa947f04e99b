from __future__ import annotations

import json
import logging
import os
import pty
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from gsvrd.logs import redact, setup

KEY = "AIza" + "Sy0123456789_-abcdefghijklmnopqrstu"
FORMATS = ("text", "json", "journal")

Entries = Callable[[], list[str]]


@pytest.fixture(autouse=True)
def _untouched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever `setup` changes in this process is put back; a journal of this machine is left alone."""
    monkeypatch.setattr("gsvrd.logs.SOCKET", "/nonexistent")
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield
    root.handlers, root.level = before
    logging.captureWarnings(False)
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()


@pytest.fixture
def entries(capfd: pytest.CaptureFixture[str]) -> Entries:
    """The lines on standard error since the last call."""
    return lambda: capfd.readouterr().err.splitlines()


@pytest.fixture(params=FORMATS)
def any_format(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, entries: Entries) -> str:
    """`setup` was called for each format in turn."""
    style = str(request.param)
    if style == "journal":
        status = os.fstat(2)
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    setup("info", "auto" if style == "journal" else style, process="gsvrd")
    return style


def log() -> Any:
    return structlog.get_logger()


HEAD = """\
import structlog
from gsvrd.logs import setup
setup("info", "auto", process="t")
log = structlog.get_logger()
"""


def in_a_process(code: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run `code` after `setup`, as a program of its own."""
    return subprocess.run([sys.executable, "-c", HEAD + code], check=False, timeout=30, **options)


# The formats


def test_json_entries_carry_utc_time_level_event_process_and_values(entries: Entries) -> None:
    setup("info", "json", process="worker-3")
    log().warning("disk_full", free=12, ratio=0.5, ok=None)
    (line,) = entries()
    entry = json.loads(line)
    assert entry.pop("time").endswith("Z")
    assert entry == {
        "level": "warning",
        "event": "disk_full",
        "process": "worker-3",
        "free": 12,
        "ratio": 0.5,
        "ok": None,
    }


def test_text_entries_are_for_people(entries: Entries) -> None:
    setup("info", "text", process="gsvrd")
    log().info("task_done", file="a b.mp4", seconds=3, note="", where="x.md")
    (line,) = entries()
    assert line.split(" ", 1)[1] == 'info     task_done file="a b.mp4" seconds=3 note="" where=x.md process=gsvrd'


@pytest.mark.parametrize(("method", "mark"), [("debug", 7), ("info", 6), ("warning", 4), ("error", 3), ("critical", 2)])
def test_journal_entries_have_a_priority_and_no_time(
    method: str, mark: int, entries: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    setup("debug", "auto", process="gsvrd")
    getattr(log(), method)("tick", n=1)
    assert entries() == [f"<{mark}>tick n=1 process=gsvrd"]


def test_another_stream_than_the_journals_gets_json(entries: Entries, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    setup("info", "auto", process="gsvrd")
    log().info("tick")
    assert json.loads(entries()[0])["event"] == "tick"


@pytest.mark.parametrize(("environ", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_a_terminal_gets_text_with_colours_unless_they_are_unwanted(environ: dict[str, str], coloured: bool) -> None:
    ours, theirs = pty.openpty()
    plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "JOURNAL_STREAM")}
    in_a_process("log.info('tick', n=1)", stderr=theirs, env={**plain, "TERM": "xterm", **environ})
    shown = os.read(ours, 4096).decode()
    os.close(ours)
    os.close(theirs)
    assert "n=1" in shown
    assert "{" not in shown
    assert ("\x1b[" in shown) is coloured


def test_entries_below_the_level_are_not_written(entries: Entries) -> None:
    setup("warning", "json", process="gsvrd")
    log().info("quiet")
    log().warning("loud")
    assert [json.loads(line)["event"] for line in entries()] == ["loud"]


def test_the_level_can_change_while_running(entries: Entries) -> None:
    kept = structlog.get_logger()
    setup("error", "json", process="gsvrd")
    kept.info("quiet")
    setup("debug", "json", process="gsvrd")
    kept.debug("loud")
    assert [json.loads(line)["event"] for line in entries()] == ["loud"]


def test_task_and_attempt_are_bound_and_come_first(entries: Entries) -> None:
    setup("info", "json", process="gsvrd")
    with structlog.contextvars.bound_contextvars(attempt=2, task=7):
        log().info("stage", name="probe")
    log().info("after")
    first, second = (json.loads(line) for line in entries())
    assert list(first)[4:] == ["task", "attempt", "name"]
    assert "task" not in second


# One entry, one line


def test_a_value_never_breaks_its_line(any_format: str, entries: Entries) -> None:
    log().info("seen", file="a\nb\r\x1b[31m\u2028\x85c", nested=[{"x\ny": "\n\x9b"}])
    (line,) = entries()
    assert line.isprintable()
    assert any_format != "json" or json.loads(line)["file"] == "a\nb\r\x1b[31m\u2028\x85c"


def test_an_event_or_a_name_never_breaks_its_line(any_format: str, entries: Entries) -> None:
    log().info("one\ntwo", **{"na\nme": 1})
    assert len(entries()) == 1


def test_a_forged_entry_in_a_file_name_stays_inside_its_value(any_format: str, entries: Entries) -> None:
    log().info("seen", file='x"\n<3>disk_full process=gsvrd')
    assert len(entries()) == 1


@pytest.mark.parametrize("name", [b"caf\xe9.mp4", os.fsdecode(b"caf\xe9.mp4"), Path(os.fsdecode(b"caf\xe9.mp4"))])
def test_names_that_are_no_utf8_are_readable(any_format: str, name: object, entries: Entries) -> None:
    log().info("seen", file=name)
    (line,) = entries()
    assert (json.loads(line)["file"] if any_format == "json" else line.split("file=")[1].split()[0]) == "caf\\xe9.mp4"


def test_other_scripts_stay_readable(any_format: str, entries: Entries) -> None:
    log().info("seen", file="讲座 é.mp4")
    assert "讲座 é.mp4" in entries()[0]


def test_a_traceback_is_written_and_cannot_pose_as_an_entry(any_format: str, entries: Entries) -> None:
    try:
        raise ValueError("first\n<3>forged \x1b[2J")
    except ValueError:
        log().exception("failed")
    first, *rest = entries()
    if any_format == "json":
        assert not rest
        assert "ValueError: first\n<3>forged" in json.loads(first)["exception"]
    else:
        mark = "<3>" if any_format == "journal" else ""
        assert rest[0] == f"{mark}    Traceback (most recent call last):"
        assert rest[-1] == f"{mark}    <3>forged \\x1b[2J"


def test_odd_values_are_shown_somehow(entries: Entries) -> None:
    class Sulking:
        def __str__(self) -> str:
            raise RuntimeError("no")

    deep: list[Any] = []
    deep.append(deep)
    setup("info", "json", process="gsvrd")
    log().info("odd", a=Sulking(), b=deep, c=float("nan"), d={1: {2}}, e=OSError(2, "gone"), f="x" * 100_000)
    (line,) = entries()
    entry = json.loads(line)
    assert entry["a"] == "<Sulking that cannot be shown: RuntimeError>"
    assert (entry["c"], entry["d"], entry["e"]) == ("nan", {"1": [2]}, "FileNotFoundError: [Errno 2] gone")
    assert len(line) < 10_000


# Secrets


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"bad key {KEY}.", "bad key [hidden]."),
        ("token AQ.Ab8RN6IxYz-_0123456789abcdef", "token [hidden]"),
        ("https://h/v1?key=hush&alt=json", "https://h/v1?key=[hidden]&alt=json"),
        ("POST /v1?alt=json&api_key=hush HTTP/1.1", "POST /v1?alt=json&api_key=[hidden] HTTP/1.1"),
        ("u=https%3A%2F%2Fh%3Fkey%3Dhush", "u=https%3A%2F%2Fh%3Fkey%3D[hidden]"),
        ("x-goog-api-key: hush", "x-goog-api-key: [hidden]"),
        ("{'X-Goog-Api-Key': 'hush', 'a': 'b'}", "{'X-Goog-Api-Key': '[hidden]', 'a': 'b'}"),
        ("[('x-goog-api-key', 'hush')]", "[('x-goog-api-key', '[hidden]')]"),
        ('{"api_key": "hush"}', '{"api_key": "[hidden]"}'),
        ("Authorization: Bearer hush", "Authorization: [hidden]"),
        ("proxy http://me:hush@host:80/x", "proxy http://[hidden]@host:80/x"),
        ("https://me:hu@sh@host/", "https://[hidden]@host/"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, clean: str) -> None:
    assert redact(text) == clean


@pytest.mark.parametrize("text", ["keynote.mp4", "monkey=2", "https://host/a@b", "AQ.mp4", "AIza.mp4", "mail me@host"])
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_no_secret_gets_through_wherever_it_stands(any_format: str, entries: Entries) -> None:
    try:
        try:
            raise KeyError(f"inner {KEY}")
        except KeyError as error:
            raise ValueError("https://me:hush@host/?key=hush") from error
    except ValueError as error:
        log().exception(
            f"event {KEY}",
            text=f"see {KEY}",
            raw=KEY.encode(),
            error=error,
            nested={"list": [{"headers": {"x-goog-api-key": "hush"}}], KEY: 1},
            api_key="hush",
            path=Path("/tmp") / KEY,
        )
    logging.getLogger("google").error("POST %s", "/v1?key=hush", exc_info=ValueError(KEY))
    shown = "\n".join(entries())
    # The traceback quotes the lines of this test as well; they name the literal, so both are looked for.
    assert KEY not in shown
    assert "hush" not in shown


def test_hiding_takes_time_in_proportion_to_the_text() -> None:
    for text in (
        "a" * 10**6,
        "key=" * 10**5,
        "://" * 10**5,
        "://a" * 10**5,
        "x-goog-api-key: " * 10**5,
        "AIza" * 10**5,
    ):
        redact(text)  # the suite's time limit fails a quadratic pattern


# Libraries


def test_warnings_of_libraries_come_the_same_way_and_chatter_does_not(entries: Entries) -> None:
    setup("debug", "json", process="gsvrd")
    logging.getLogger("watchdog").info("chatter")
    talkative = logging.getLogger("library.talkative")
    talkative.setLevel(logging.DEBUG)
    talkative.debug("chatter")
    talkative.warning("watch %s", "out")
    talkative.critical("%d", "no number")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.warn("going away", FutureWarning, stacklevel=1)
    found = [json.loads(line) for line in entries()]
    assert [(entry["level"], entry["event"], entry["logger"]) for entry in found] == [
        ("warning", "library", "library.talkative"),
        ("critical", "library", "library.talkative"),
        ("warning", "library", "py.warnings"),
    ]
    assert [entry["message"] for entry in found[:2]] == ["watch out", "%d"]
    assert "FutureWarning: going away" in found[2]["message"]


# Standard error in trouble


def test_a_full_disk_does_not_reach_the_caller() -> None:
    with open("/dev/full", "wb") as full:
        done = in_a_process(
            "log.info('tick'); import logging; logging.warning('x'); print('alive')",
            stderr=full,
            stdout=subprocess.PIPE,
        )
    assert (done.returncode, done.stdout) == (0, b"alive\n")


def test_a_reader_that_went_away_does_not_reach_the_caller() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = in_a_process("log.info('tick'); log.info('tick'); print('alive')", stderr=writing, stdout=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stdout) == (0, b"alive\n")


def test_without_standard_error_the_log_does_not_land_in_the_next_file_opened(tmp_path: Path) -> None:
    file = tmp_path / "database"
    code = f"stream = open({str(file)!r}, 'wb'); log.info('tick'); print(stream.fileno())"
    done = subprocess.run(
        ["/bin/sh", "-c", '"$0" -c "$1" 2>&-', sys.executable, HEAD + code],
        check=False,
        stdout=subprocess.PIPE,
        timeout=30,
    )
    assert done.returncode == 0
    assert int(done.stdout) > 2
    assert file.read_bytes() == b""


def test_an_entry_that_was_cut_off_does_not_swallow_the_next_one(tmp_path: Path) -> None:
    """A limit on the file's size stands for a disk that fills up and is emptied again."""
    file = tmp_path / "log"
    code = (
        "import os, resource\n"
        "hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50, hard))\n"
        "log.info('first', n='x' * 100)\n"
        "log.info('lost')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))\n"
        "log.info('second')\n"
    )
    with file.open("wb") as stream:
        assert in_a_process(code, stderr=stream).returncode == 0
    first, second = file.read_text().splitlines()
    assert len(first) == 50
    assert json.loads(second)["event"] == "second"


def test_a_sentence_that_names_a_key_is_not_a_secret() -> None:
    sentence = "Set GEMINI_API_KEY, or analyzer: local."
    assert redact(sentence) == sentence
