"""Work for pools under test: it behaves well or badly as the name of the task says."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

from gsvrd.errors import ErrorKind, TaskError
from gsvrd.pool.confine import go_offline
from gsvrd.pool.messages import Assign, Finished
from gsvrd.pool.worker import Desk, Unfit, Work


def make(settings: bytes) -> Work:
    return behave


def make_never(settings: bytes) -> Work:
    raise SystemExit(3)


def behave(assign: Assign, desk: Desk) -> Finished:
    verb, _, argument = assign.name.partition(":")
    return _VERBS[verb](assign, desk, argument)


def _poison(assign: Assign, desk: Desk, argument: str) -> Finished:
    """Says what its content is, and never comes back."""
    desk.know(argument)
    return _hang(assign, desk, "")


def _stall(assign: Assign, desk: Desk, argument: str) -> Finished:
    """Begins a stage and never ends it."""
    desk.progress(argument, 0.0)
    return _hang(assign, desk, "")


def _done(assign: Assign, desk: Desk, argument: str) -> Finished:
    return Finished(assign.task, assign.attempt, sha256=argument)


def _stages(assign: Assign, desk: Desk, argument: str) -> Finished:
    desk.progress("first", 0.0)
    desk.keep("first", b'{"kept": true}')
    desk.progress("second", 0.5)
    return Finished(assign.task, assign.attempt)


def _reserve(assign: Assign, desk: Desk, argument: str) -> Finished:
    return Finished(assign.task, assign.attempt, temporary=desk.reserve(argument))


def _refuse(assign: Assign, desk: Desk, argument: str) -> Finished:
    raise TaskError(ErrorKind(argument), "as the test wants it", "Do nothing.")


def _raise(assign: Assign, desk: Desk, argument: str) -> Finished:
    raise ZeroDivisionError("a fault in the program")


def _wait_for(assign: Assign, desk: Desk, argument: str) -> Finished:
    """Until a file exists: the test says when."""
    while not os.path.exists(argument):
        time.sleep(0.002)
    return Finished(assign.task, assign.attempt)


def _die(assign: Assign, desk: Desk, argument: str) -> Finished:
    os.kill(os.getpid(), getattr(signal, argument))
    time.sleep(60)
    raise AssertionError("still alive")


def _segfault(assign: Assign, desk: Desk, argument: str) -> Finished:
    ctypes.string_at(0)
    raise AssertionError("still alive")


def _exit(assign: Assign, desk: Desk, argument: str) -> Finished:
    os._exit(int(argument))


def _hang(assign: Assign, desk: Desk, argument: str) -> Finished:
    if argument == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(60)


def _hog(assign: Assign, desk: Desk, argument: str) -> Finished:
    hoard = []
    while True:
        hoard.append(bytearray(16 << 20))


def _eat(assign: Assign, desk: Desk, argument: str) -> Finished:
    """So many megabytes; with `@FILE` only once that file exists."""
    amount, _, gate = argument.partition("@")
    if gate:
        desk.progress("eat", 0.0)
        _wait_for(assign, desk, gate)
    hoard = [bytearray(b"x" * (1 << 20)) for _ in range(int(amount))]
    return Finished(assign.task, assign.attempt, sha256=str(len(hoard)))


def _burn(assign: Assign, desk: Desk, argument: str) -> Finished:
    while True:
        pass


def _report_self(assign: Assign, desk: Desk, argument: str) -> Finished:
    """What the child sees of itself, in the hash field."""
    import sys

    main = sys.modules["__main__"]
    return Finished(
        assign.task,
        assign.attempt,
        sha256=f"{os.getpid()} {os.getsid(0)} {getattr(main, '__file__', None)} {'sqlite3' in sys.modules}",
    )


def _reach(assign: Assign, desk: Desk, argument: str) -> Finished:
    """Whether sockets of that family can be made, before and after giving up the network; also by a thread."""
    family = getattr(socket, argument)

    def tried() -> str:
        try:
            socket.socket(family).close()
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        return "made"

    words = [tried()]
    ready = threading.Event()
    with ThreadPoolExecutor(1) as older:
        late = older.submit(lambda: (ready.wait(10), tried())[1])
        go_offline()
        ready.set()
        words += [tried(), late.result()]
    return Finished(assign.task, assign.attempt, sha256=" ".join(words))


def _unfit(assign: Assign, desk: Desk, argument: str) -> Finished:
    """Ends, but takes half a second for it, in which its pool must know."""
    leave = os._exit

    def leave_slowly(status: int) -> NoReturn:
        time.sleep(0.5)
        leave(status)

    os._exit = leave_slowly
    raise Unfit("as the test wants it")


def _status(assign: Assign, desk: Desk, argument: str) -> Finished:
    """One line of what the kernel says of the process."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return Finished(assign.task, assign.attempt, sha256=lines[argument].strip())


_VERBS = {
    "done": _done,
    "poison": _poison,
    "stall": _stall,
    "stages": _stages,
    "reserve": _reserve,
    "refuse": _refuse,
    "raise": _raise,
    "wait": _wait_for,
    "die": _die,
    "segfault": _segfault,
    "exit": _exit,
    "hang": _hang,
    "hog": _hog,
    "burn": _burn,
    "eat": _eat,
    "self": _report_self,
    "reach": _reach,
    "unfit": _unfit,
    "status": _status,
}
