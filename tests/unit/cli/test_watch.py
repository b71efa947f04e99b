"""`gsvrctl watch`: its pictures, its lines, and that it comes and goes without leaving anything behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, ConsoleDimensions
from support.daemon import BIN, environment
from support.waiting import eventually

from gsvrd.cli import ending, frames
from gsvrd.cli.watch import gather
from gsvrd.clock import SystemClock
from gsvrd.config.places import Places, find_places
from gsvrd.errors import ErrorFacts, ErrorKind
from gsvrd.model import NewTask, OutcomeKind
from gsvrd.store.opening import open_database
from gsvrd.store.queue import TaskQueue

Facts = dict[str, Any]
NOW = 1_800_000_000.0
SPAN = {"p10": NOW + 3600.0, "p50": NOW + 4000.0, "p90": NOW + 7200.0}
PERFORMANCE = {
    "completion": 0.5,
    "per_hour": 31.0,
    "mean_s": 240.0,
    "p90_s": 420.0,
    "remaining_s": {"p10": 3600.0, "p50": 4000.0, "p90": 7200.0},
    "finish_at": SPAN,
    "binding": {"bound": "workers", "reason": "", "until": None},
}
COUNTS = {"pending": 25, "running": 3, "completed": 11, "failed": 1, "cancelled": 0}
LONG = "高一物理 第三周/第 3 课 [bold]牛顿定律[/bold] and a name that goes on and on and on and on and on and on.mp4"


def facts(**change: Any) -> Facts:
    whole: Facts = {
        "at": NOW,
        "state": "running",
        "reason": "",
        "since": NOW - 60.0,
        "last_sign_at": NOW,
        "pid": 4711,
        "doors": {},
        "workers": {"up": 3, "busy": 3, "pids": [1, 2, 3]},
        "notes": [],
        "batch": None,
        "counts": COUNTS,
        "performance": PERFORMANCE,
        "batches": [],
        "running": [],
        "done": [],
        "errors": [],
        "unknown": False,
    }
    return whole | change


def crowded() -> Facts:
    running = {
        "task": 7,
        "name": LONG,
        "attempt": 1,
        "worker": 23124,
        "stage": "speech",
        "fraction": 0.5,
        "seconds": 95.0,
    }
    batch = {"id": 1, "name": LONG, "state": "PAUSED", "hold": LONG, "counts": COUNTS, "performance": PERFORMANCE}
    done = {"task": 1, "name": LONG, "at": NOW, "report": LONG, "reused": None, "seconds": 4000.0}
    error = {"task": 1, "name": LONG, "at": NOW, "error": {"message": LONG, "hint": LONG}}
    return facts(
        state="blocked",
        reason=LONG,
        doors={str(number): {"reason": LONG, "since": NOW} for number in range(9)},
        notes=[{"batch": LONG, "file": LONG, "reason": LONG}],
        running=[running] * 64,
        batches=[batch] * 40,
        done=[done] * 20,
        errors=[error] * 20,
    )


def drawn(shown: Facts, columns: int, rows: int, *, colour: bool = True) -> str:
    console = Console(width=columns, height=rows, force_terminal=True, color_system="standard", no_color=not colour)
    with console.capture() as capture:
        console.print(frames.frame(shown, ConsoleDimensions(columns, rows)))
    return capture.get()


def plain(shown: Facts, columns: int = 100, rows: int = 40) -> str:
    console = Console(width=columns, height=rows, force_terminal=False)
    with console.capture() as capture:
        console.print(frames.frame(shown, ConsoleDimensions(columns, rows)))
    return capture.get()


# -- pictures ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (160, 50), (80, 16), (60, 20), (200, 100)])
def test_a_picture_is_never_larger_than_the_terminal(columns: int, rows: int) -> None:
    from rich.cells import cell_len

    lines = plain(crowded(), columns, rows).splitlines()
    assert len(lines) < rows
    assert max(map(cell_len, lines)) <= columns
    assert "23124" in "".join(lines)


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (160, 50)])
def test_what_is_not_shown_is_counted(columns: int, rows: int) -> None:
    lines = plain(crowded(), columns, rows).splitlines()
    shown = sum(" 23124 " in f" {line} " for line in lines)
    (more,) = [line for line in lines if line.startswith("… and") and line == f"… and {64 - shown} more"]
    assert shown > 2, more


def test_without_colour_there_is_none_and_with_colour_there_is() -> None:
    colours = ("\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[36m")
    assert any(code in drawn(crowded(), 80, 24) for code in colours)
    assert not any(code in drawn(crowded(), 80, 24, colour=False) for code in colours)


def test_names_and_messages_are_data_and_no_markup() -> None:
    shown = plain(crowded(), 300, 100)
    assert shown.count("牛") == shown.count("[bold]牛") > 60


def test_the_summary_says_how_far_when_and_why_not_sooner() -> None:
    shown = plain(facts(), 120)
    assert "12 of 40 done · 3 running · 25 waiting · 1 failed" in shown
    assert " 30%" in shown
    assert "more workers would end it sooner" in shown
    assert "31 an hour · 4 min 00 s each, 9 of 10 within 7 min 00 s" in shown


def test_a_hundred_per_cent_is_said_only_when_all_is_done() -> None:
    assert "99%" in plain(facts(counts=COUNTS | {"completed": 5000, "pending": 1, "running": 0, "failed": 0}))
    assert "100%" in plain(facts(counts=COUNTS | {"pending": 0, "running": 0}))


def test_doors_held_batches_and_files_that_fail_are_shown_with_their_reason() -> None:
    batch = {
        "id": 1,
        "name": "Physics",
        "state": "PAUSED",
        "hold": "by a person",
        "counts": COUNTS,
        "performance": None,
    }
    shown = plain(
        facts(
            state="blocked",
            reason="no key",
            doors={"service-key": {"reason": "no key", "since": NOW}},
            notes=[{"batch": "Physics", "file": "p.json", "reason": "No space left on device"}],
            batches=[batch, batch | {"name": "Chemistry", "hold": ""}],
        )
    )
    assert "closed: no key" in shown
    assert "progress file p.json: No space left on device" in shown
    assert "by a person" in shown


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"finish_at": {"p10": NOW + 20, "p50": NOW + 45, "p90": NOW + 130}}, "ends in 45 s (20 s to 2 min 10 s)"),
        ({"finish_at": {"p10": NOW - 20, "p50": NOW - 5, "p90": NOW + 13}}, "ends any moment"),
        ({"binding": {"bound": "largest", "reason": "", "until": None}}, "one long video"),
        ({"binding": {"bound": "quota", "reason": "9 requests per day", "until": NOW}}, "9 requests per day until"),
        (
            {"finish_at": None, "binding": {"bound": "paused", "reason": "paused by you", "until": None}},
            "no end in sight: paused by you",
        ),
        (
            {"finish_at": None, "binding": {"bound": "unseen", "reason": "1 of 3 successes", "until": None}},
            "no forecast yet: too few videos are done to tell (1 of 3 successes)",
        ),
    ],
)
def test_the_end_is_told_in_words(change: Facts, says: str) -> None:
    assert says in ending.end(PERFORMANCE | change, NOW, left=3)


def test_an_end_on_another_day_is_told_with_the_day() -> None:
    far = {"p10": NOW + 86_400, "p50": NOW + 100_000, "p90": NOW + 200_000}
    assert ending.end(PERFORMANCE | {"finish_at": far}, NOW, left=3).split()[1][:3].isalpha()


@pytest.mark.parametrize(
    ("seconds", "says"),
    [
        (None, ""),
        (0.04, "0.0 s"),
        (95.4, "95 s"),
        (125.0, "2 min 05 s"),
        (3000.0, "50 min"),
        (7500.0, "2 h 05 min"),
        (200_000.0, "2 d 7 h"),
    ],
)
def test_spans_of_time_have_two_units_at_most(seconds: float | None, says: str) -> None:
    assert ending.lasting(seconds) == says


# -- what is gathered ----------------------------------------------------------------------------------------------------


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "state").mkdir()
    return find_places(tmp_path, None, {})


@pytest.fixture
def queue(places: Places) -> Iterator[TaskQueue]:
    with contextlib.closing(open_database(places.state / "gsvrd.db", create=True)) as conn:
        queue = TaskQueue(conn, SystemClock())
        queue.add_batch(1, "Physics", "folder")
        queue.add_batch(2, "7", "folder")
        for number in range(6):
            new = NewTask(f"/inbox/{number}".encode(), f"{number}.mp4", 1, number, 100 + number, 1)
            queue.add(new, batch=1 if number < 4 else 2)
        queue.commit()
        yield queue


def look(places: Places, word: str | None = None) -> Facts:
    return gather(places, places.state / "gsvrd.db", places.state / "lock", word)


def end_one(queue: TaskQueue, *, well: bool = True) -> None:
    task = queue.ready()
    assert task is not None
    queue.claim(task, worker=1)
    if well:
        queue.complete(task.id, 1)
    else:
        queue.fail(task.id, 1, OutcomeKind.FAILED, ErrorFacts(ErrorKind.UNKNOWN, "no video in it", "Convert it."))
    queue.commit()


def test_before_the_first_start_it_says_so(places: Places) -> None:
    shown = look(places)
    assert "no daemon has run" in plain(shown)
    assert frames.line(shown).endswith(shown["reason"])


def test_without_a_daemon_it_shows_what_waits_and_what_was_done(places: Places, queue: TaskQueue) -> None:
    end_one(queue)
    end_one(queue, well=False)
    shown = plain(look(places))
    assert "2 of 6 done" in shown
    assert "4 wait for the daemon, which does not run" in shown
    assert "No video in it. Convert it." in shown
    assert "0.mp4" in shown


@pytest.mark.parametrize(("word", "name"), [("Physics", "Physics"), ("1", "Physics"), ("7", "7"), ("2", "7")])
def test_one_batch_is_named_by_its_name_or_its_number(places: Places, queue: TaskQueue, word: str, name: str) -> None:
    end_one(queue)
    shown = look(places, word)
    assert (shown["batch"]["name"], shown["unknown"]) == (name, False)
    assert sum(shown["counts"].values()) == {"Physics": 4, "7": 2}[name]
    assert len(shown["done"]) == (name == "Physics")


@pytest.mark.parametrize("word", ["nix", "3", "9" * 30])
def test_a_batch_that_is_none_is_refused(places: Places, queue: TaskQueue, word: str) -> None:
    assert look(places, word)["unknown"]


def test_a_database_that_cannot_be_read_is_a_sentence_and_no_end(places: Places) -> None:
    (places.state / "gsvrd.db").write_bytes(b"no database" * 1000)
    assert "cannot be read" in frames.line(look(places))


def test_a_line_comes_at_a_change_and_not_for_the_time(places: Places, queue: TaskQueue) -> None:
    first, second = look(places), look(places)
    assert frames.gist(first) == frames.gist(second | {"at": first["at"] + 1})
    end_one(queue)
    assert frames.gist(look(places)) != frames.gist(first)


# -- the command ---------------------------------------------------------------------------------------------------------


def command(home: Path, *words: str) -> list[str]:
    return [str(BIN / "gsvrctl"), "--home", str(home), "watch", *words]


def test_in_a_pipe_it_writes_plain_lines_and_ctrl_c_ends_it(tmp_path: Path, queue: TaskQueue) -> None:
    with subprocess.Popen(
        command(tmp_path, "--interval", "0.1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "0 of 6 done" in process.stdout.readline()
        end_one(queue)
        changed = process.stdout.readline()
        assert "1 of 6 done" in changed
        assert changed.strip().isprintable()
        process.send_signal(signal.SIGINT)
        assert (process.wait(20), process.stdout.read(), process.stderr.read()) == (0, "", "")


def test_once_is_one_picture(tmp_path: Path, queue: TaskQueue) -> None:
    done = subprocess.run(command(tmp_path, "--once"), capture_output=True, text=True, env=environment(), timeout=60)
    assert (done.returncode, done.stdout.count(" done · "), done.stderr) == (0, 1, "")
    assert "\x1b" not in done.stdout


def test_an_unknown_batch_ends_the_command(tmp_path: Path, queue: TaskQueue) -> None:
    done = subprocess.run(command(tmp_path, "nix"), capture_output=True, text=True, env=environment(), timeout=60)
    assert (done.returncode, done.stdout) == (os.EX_NOINPUT, "")
    assert "there is no batch 'nix'" in done.stderr


class Terminal:
    """The command on a terminal of its own."""

    def __init__(self, words: list[str], columns: int, rows: int, **environ: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            self.resize_own(0, columns, rows)
            os.execve(words[0], words, environment(**{"TERM": "xterm-256color", **environ}))
        self.said = b""

    @staticmethod
    def resize_own(fd: int, columns: int, rows: int) -> None:
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def hear(self) -> bytes:
        while select.select([self.fd], [], [], 0)[0]:
            try:
                data = os.read(self.fd, 1 << 16)
            except OSError:
                break
            if not data:
                break
            self.said += data
        return self.said

    def until(self, condition: Callable[[bytes], bool]) -> bytes:
        eventually(lambda: condition(self.hear()), 30)
        return self.said

    def end(self) -> int:
        status = 0

        def ended() -> int:
            nonlocal status
            self.hear()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            return pid

        eventually(ended, 30)
        self.hear()
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)


@pytest.mark.parametrize("way", ["ctrl-c", "kill"])
def test_on_a_terminal_it_follows_its_size_and_leaves_it_as_it_was(tmp_path: Path, queue: TaskQueue, way: str) -> None:
    terminal = Terminal(command(tmp_path, "--interval", "600"), 80, 24)
    first = terminal.until(lambda said: b"0 of 6 done" in said)
    assert b"\x1b[?1049h" in first
    assert "━".encode() * 100 not in first
    terminal.resize_own(terminal.fd, 160, 50)
    terminal.until(lambda said: "━".encode() * 140 in said)
    end_one(queue)
    if way == "ctrl-c":
        os.write(terminal.fd, b"\x03")
    else:
        os.kill(terminal.pid, signal.SIGTERM)
    assert terminal.end() == 0
    after = terminal.said.split(b"\x1b[?1049l")
    assert len(after) == 2, "the screen was not given back"
    assert b"of 6 done" in after[1], "the last picture does not stay"
    assert terminal.said.rindex(b"\x1b[?25h") > terminal.said.rindex(b"\x1b[?25l"), "there is no cursor"


def test_a_terminal_that_knows_nothing_gets_lines(tmp_path: Path, queue: TaskQueue) -> None:
    terminal = Terminal(command(tmp_path, "--interval", "600"), 80, 24, TERM="dumb")
    terminal.until(lambda said: b"0 of 6 done" in said)
    os.write(terminal.fd, b"\x03")
    assert (terminal.end(), b"\x1b" in terminal.said) == (0, False)
