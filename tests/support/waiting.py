"""The only way tests wait: for a condition, with a limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import psutil

T = TypeVar("T")


def eventually(condition: Callable[[], T], timeout_s: float = 10.0) -> T:
    """The first true value of `condition`; fails when there is none within `timeout_s`."""
    end = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {timeout_s} s: {condition}"
        time.sleep(0.005)
    return value


def lives(pid: int) -> bool:
    """Whether a process still does something: one that only waits to be reaped by somebody else does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
