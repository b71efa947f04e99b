"""What only real processes can show: deaths and their causes, limits, signals, orphans."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.waiting import eventually, lives

from gsvrd.clock import SystemClock
from gsvrd.errors import ErrorKind
from gsvrd.pool.messages import Assign, Died, Event, Failed, Finished
from gsvrd.pool.process import ProcessPool
from gsvrd.pool.worker import WorkerLimits


@pytest.fixture
def pool() -> Iterator[ProcessPool]:
    made = ProcessPool("support.works:make", b"", WorkerLimits(256 << 20, 1.0), SystemClock())
    made.resize(1)
    eventually(lambda: made.events() == [] and made.free() == 1)
    yield made
    made.close()


def heard(pool: ProcessPool, count: int) -> list[Event]:
    said: list[Event] = []

    def enough() -> bool:
        said.extend(pool.events())
        return len(said) >= count

    eventually(enough)
    return said


def end_of(pool: ProcessPool, name: str, timeout_s: float = 0.0) -> Event:
    heard: list[Event] = []
    pool.assign(Assign(1, 1, name=name, timeout_s=timeout_s))

    def ended() -> bool:
        heard.extend(pool.events())
        return bool(heard)

    eventually(ended)
    return heard[-1]


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("segfault:", ErrorKind.CRASHED, "SIGSEGV"),
        ("die:SIGKILL", ErrorKind.CRASHED, "SIGKILL"),
        ("die:SIGABRT", ErrorKind.CRASHED, "SIGABRT"),
        ("exit:0", ErrorKind.CRASHED, "exit code 0 and without a result"),
        ("exit:7", ErrorKind.CRASHED, "exit code 7"),
        ("burn:", ErrorKind.TIMEOUT, "CPU time"),
    ],
)
def test_each_death_has_its_true_cause_and_is_replaced(
    pool: ProcessPool, name: str, kind: ErrorKind, words: str
) -> None:
    event = end_of(pool, name)
    assert isinstance(event, Died)
    assert event.error.kind is kind
    assert words in event.error.message
    eventually(lambda: pool.events() == [] and pool.free() == 1, timeout_s=2.0)
    assert end_of(pool, "done:") == Finished(1, 1)


def test_memory_beyond_the_limit_fails_the_task_cleanly_and_the_worker_is_replaced(pool: ProcessPool) -> None:
    before = pool.workers()[0].pid
    event = end_of(pool, "hog:")
    assert isinstance(event, Failed)
    assert event.error.kind is ErrorKind.MEMORY
    assert pool.free() == 0  # it is on its way out: a task it got now would die with it
    eventually(lambda: pool.events() == [] and pool.free() == 1 and pool.workers()[0].pid != before)
    assert end_of(pool, "done:") == Finished(1, 1)


def test_an_attempt_may_have_as_much_memory_as_it_was_given_and_no_more(pool: ProcessPool) -> None:
    pool.assign(Assign(1, 1, name="eat:100", memory_bytes=120 << 20))
    assert isinstance(heard(pool, 1)[0], Failed)
    eventually(lambda: pool.events() == [] and pool.free() == 1)
    pool.assign(Assign(2, 1, name="eat:20", memory_bytes=120 << 20))
    assert heard(pool, 1) == [Finished(2, 1, sha256="20")]
    eventually(lambda: pool.free() == 1)
    # What the one before was given is not the next one's: without a figure of its own any worker's limit holds.
    pool.assign(Assign(3, 1, name="eat:150"))
    assert heard(pool, 1) == [Finished(3, 1, sha256="150")]


@pytest.mark.parametrize(("before", "after", "ends_well"), [(60, 240, True), (240, 60, False)])
def test_the_limit_of_a_running_attempt_can_be_raised_and_lowered(
    pool: ProcessPool, tmp_path: Path, before: int, after: int, ends_well: bool
) -> None:
    gate = tmp_path / "gate"
    pool.assign(Assign(1, 1, name=f"eat:100@{gate}", memory_bytes=before << 20))
    heard(pool, 1)
    pid = pool.workers()[0].pid
    pool.limit_memory(1, after << 20)
    assert resource.prlimit(pid, resource.RLIMIT_DATA)[0] == after << 20
    gate.touch()
    event = heard(pool, 1)[-1]
    assert isinstance(event, Finished) is ends_well
    if isinstance(event, Failed):
        assert event.error.kind is ErrorKind.MEMORY


def test_the_limit_of_an_attempt_that_is_gone_concerns_nobody(pool: ProcessPool) -> None:
    ours, theirs = resource.getrlimit(resource.RLIMIT_DATA), pool.workers()[0].pid
    before = resource.prlimit(theirs, resource.RLIMIT_DATA)
    pool.limit_memory(77, 1 << 20)
    assert resource.prlimit(theirs, resource.RLIMIT_DATA) == before
    assert resource.getrlimit(resource.RLIMIT_DATA) == ours


def test_there_are_never_more_workers_than_were_asked_for_whatever_is_changed(
    pool: ProcessPool, tmp_path: Path
) -> None:
    """Also while those that are to go still work, and those with new settings are wanted."""
    gate = tmp_path / "gate"
    pool.resize(3)
    eventually(lambda: pool.events() == [] and pool.free() == 3)
    for task in range(3):
        pool.assign(Assign(task, 1, name=f"wait:{gate}"))
    before = {worker.pid for worker in pool.workers()}
    pool.resize(1)
    pool.resize(3)
    assert {worker.pid for worker in pool.workers()} == before  # taken back, and not replaced beside them
    pool.renew(b"", WorkerLimits())
    most, ended = 0, 0
    gate.touch()

    def all_new() -> bool:
        nonlocal most, ended
        ended += len(pool.events())
        pids = {worker.pid for worker in pool.workers()}
        most = max(most, len(pids))
        return ended == 3 and pool.free() == 3 and not pids & before

    eventually(all_new)
    assert most == 3


def test_an_idle_worker_that_does_not_go_is_ended(pool: ProcessPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gsvrd.pool.process.DISMISS_S", 0.05)
    pid = pool.workers()[0].pid
    os.kill(pid, signal.SIGSTOP)
    pool.renew(b"", WorkerLimits())
    eventually(lambda: pool.events() == [] and pool.free() == 1 and pool.workers()[0].pid != pid)


@pytest.mark.parametrize("name", ["hang:", "hang:deaf"])
def test_a_worker_past_its_deadline_is_ended_even_if_it_is_deaf_to_term(pool: ProcessPool, name: str) -> None:
    before = pool.workers()[0].pid
    event = end_of(pool, name, timeout_s=0.1)
    assert isinstance(event, Died)
    assert event.error.kind is ErrorKind.TIMEOUT
    assert not lives(before)


def test_a_stopped_worker_is_ended_at_its_deadline(pool: ProcessPool) -> None:
    os.kill(pool.workers()[0].pid, signal.SIGSTOP)
    event = end_of(pool, "done:", timeout_s=0.1)
    assert isinstance(event, Died)
    assert event.error.kind is ErrorKind.TIMEOUT


def test_a_worker_is_light_and_in_a_session_of_its_own(pool: ProcessPool) -> None:
    event = end_of(pool, "self:")
    assert isinstance(event, Finished)
    pid, session, main, has_sqlite = event.sha256.split()
    assert pid == session
    assert main == "None" or main.endswith("forkserver.py")
    assert has_sqlite == "False"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGQUIT])
def test_signals_for_the_daemon_do_not_kill_a_worker(pool: ProcessPool, number: signal.Signals) -> None:
    pid = pool.workers()[0].pid
    os.kill(pid, number)
    assert end_of(pool, "done:") == Finished(1, 1)
    assert pool.workers()[0].pid == pid


def test_workers_that_cannot_start_are_not_started_in_a_tight_loop() -> None:
    pool = ProcessPool("support.works:make_never", b"", WorkerLimits(), SystemClock())
    pool.resize(1)
    eventually(lambda: pool.events() == [] and pool._starts.failures >= 2)
    assert pool.next_deadline() is not None
    assert pool.free() == 0
    pool.close()


_DAEMON = textwrap.dedent("""
    import sys, time
    sys.path[:0] = {path!r}
    from gsvrd.clock import SystemClock
    from gsvrd.pool.messages import Assign
    from gsvrd.pool.process import ProcessPool
    from gsvrd.pool.worker import WorkerLimits
    pool = ProcessPool("support.works:make", b"", WorkerLimits(), SystemClock())
    pool.resize(3)
    while pool.free() < 3:
        pool.events()
    pool.assign(Assign(1, 1, name="hang:deaf"))
    pool.assign(Assign(2, 1, name="burn:"))
    print(*(worker.pid for worker in pool.workers()), flush=True)
    while True:
        pool.events()
        time.sleep(0.01)
""")


def _started() -> tuple[subprocess.Popen[str], list[int]]:
    code = _DAEMON.format(path=sys.path)
    daemon = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert daemon.stdout is not None
    return daemon, [int(word) for word in daemon.stdout.readline().split()]


def test_workers_of_a_killed_daemon_are_gone_within_two_seconds() -> None:
    daemon, pids = _started()
    assert len(pids) == 3
    daemon.kill()
    daemon.wait()
    eventually(lambda: not any(map(lives, pids)), timeout_s=2.0)


def test_signals_to_the_whole_group_kill_no_worker_and_no_helper_of_the_pool() -> None:
    daemon, pids = _started()
    try:
        parent = psutil.Process(daemon.pid)
        family = {process.pid for process in parent.children(recursive=True)}
        assert set(pids) <= family
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGINT):
            for pid in family:
                os.kill(pid, number)
        daemon.send_signal(signal.SIGCONT)
        assert {process.pid for process in parent.children(recursive=True)} == family
        assert all(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in family)
    finally:
        daemon.kill()
        daemon.wait()
        if daemon.stdout is not None:
            daemon.stdout.close()


def test_the_fork_server_is_told_apart_from_the_main_module(tmp_path: Path) -> None:
    """A console script's module must not be imported again by every worker."""
    script = tmp_path / "script.py"
    marker = tmp_path / "imported"
    script.write_text(
        f"import os, sys\nsys.path[:0] = {sys.path!r}\n"
        f"open({str(marker)!r}, 'a').write(__name__ + '\\n')\n"
        "from gsvrd.clock import SystemClock\nfrom gsvrd.pool.process import ProcessPool\n"
        "from gsvrd.pool.worker import WorkerLimits\n"
        "if __name__ == '__main__':\n"
        "    pool = ProcessPool('support.works:make', b'', WorkerLimits(), SystemClock())\n"
        "    pool.resize(1)\n"
        "    while not pool.free():\n        pool.events()\n"
        "    pool.close()\n"
    )
    subprocess.run([sys.executable, script], check=True, timeout=30)
    assert marker.read_text() == "__main__\n"


def test_the_end_of_the_fork_server_is_laid_to_no_video_and_its_workers_are_replaced(
    pool: ProcessPool, tmp_path: Path
) -> None:
    worker = pool.workers()[0].pid
    heard: list[Event] = []
    pool.assign(Assign(1, 1, name=f"wait:{tmp_path / 'never'}"))
    psutil.Process(worker).parent().kill()  # type: ignore[union-attr]

    def ended() -> bool:
        heard.extend(pool.events())
        return bool(heard)

    eventually(ended)
    assert [(event.error.kind, "fork server" in event.error.message) for event in heard if isinstance(event, Died)] == [
        (ErrorKind.PLACE, True)
    ]
    eventually(lambda: not lives(worker))
    eventually(lambda: pool.events() == [] and pool.free() == 1)
    assert end_of(pool, "done:") == Finished(1, 1)
