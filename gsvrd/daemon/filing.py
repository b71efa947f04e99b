"""A thread for file operations that may take seconds (fsync of a large input, a move to another disk, a snapshot).

It gets closed actions, does them in order and hands the results back; it knows no queue and no state. With it the loop
answers signals within milliseconds while a 2 GB file is being forced to a slow disk.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

_Item = tuple[Callable[[], Any], Callable[[Any], None], Callable[[OSError], None]]


class Filing:
    """Runs actions in one thread; their endings are called by `collect` in the caller's thread."""

    def __init__(self, wake: Callable[[], None], name: str = "filing") -> None:
        self._wake = wake
        self._todo: SimpleQueue[_Item | None] = SimpleQueue()
        self._done: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._open = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, act: Callable[[], T], done: Callable[[T], None], failed: Callable[[OSError], None]) -> None:
        """Do `act` in the thread; later, `collect` calls `done` with its result, or `failed` with its `OSError`."""
        self._open += 1
        self._todo.put((act, done, failed))

    @property
    def open(self) -> int:
        """How many actions have not been collected yet."""
        return self._open

    def collect(self, most_s: float = math.inf) -> bool:
        """Call the endings of what is finished, for `most_s` seconds or little more; True when there were any."""
        any_done = False
        end = time.monotonic() + most_s
        while not self._done.empty():
            if any_done and time.monotonic() >= end:
                self._wake()
                break
            self._done.get()()
            self._open -= 1
            any_done = True
        return any_done

    def close(self) -> None:
        """Finish what was submitted and end the thread; endings not collected are dropped."""
        self._todo.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (item := self._todo.get()) is not None:
            act, done, failed = item
            try:
                result = act()
            except OSError as error:
                self._done.put(_bound(failed, error))
            except Exception as error:  # noqa: BLE001 (a fault in the program: the loop shall end with its traceback)
                self._done.put(_bound(_raise, error))
            else:
                self._done.put(_bound(done, result))
            self._wake()


def _bound(call: Callable[[T], None], value: T) -> Callable[[], None]:
    return lambda: call(value)


def _raise(error: Exception) -> None:
    raise error
