"""The fork server that workers come from: what it has loaded, and how it is started early.

It loads for half a second, which the daemon spends on its own start; so `gsvrd run` starts it before everything else.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from multiprocessing import forkserver, resource_tracker

PRELOAD = ("gsvrd.pool.execute", "gsvrd.reports.lesson_plan", "av", "numpy", "PIL.Image", "jinja2")
"""What the real work needs."""
_BLOCKED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT)

# A native library in the fork server must not start a thread a core: threads do not survive the fork.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# The fork server would import from the working directory first, whatever lies there.
os.environ["PYTHONSAFEPATH"] = "1"


def load_there(modules: tuple[str, ...]) -> None:
    """Name what the fork server loads when it starts; without effect once it runs."""
    multiprocessing.set_forkserver_preload(["gsvrd.pool.worker", *modules])


def start_early(modules: tuple[str, ...] = PRELOAD) -> None:
    """Start it now; does not wait until it is ready."""
    load_there(modules)
    with signals_blocked():
        resource_tracker.ensure_running()  # the first time, it unblocks INT and TERM behind our back
    with signals_blocked():
        forkserver.ensure_running()


def number() -> int:
    """Its pid; 0 before it is started."""
    return getattr(forkserver._forkserver, "_forkserver_pid", None) or 0


def has_ended(pid: int) -> bool:
    """Whether the fork server that was `pid` is gone, and with it all workers it made."""
    if pid != number():
        return True  # another one has been started since
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Signals meant for the daemon do not reach a child between its first instruction and the one that ignores them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def main_module_hidden() -> Iterator[None]:
    """Keep the child from importing the daemon's own main module, which it has no use for.

    multiprocessing re-imports whatever `__main__.__file__` names, so that functions of a script can be found.
    """
    module = sys.modules["__main__"]
    spec, file = getattr(module, "__spec__", None), getattr(module, "__file__", None)
    module.__spec__, module.__file__ = None, None
    try:
        yield
    finally:
        module.__spec__, module.__file__ = spec, file
