"""How long videos are, as their containers promise: asked by `gsvrctl plan`, found out by a process of its own.

Files in an inbox may be anything, and a decoder that falls over one must not take the plan with it; what cannot be told
in time is unknown. `python -m gsvrd.cli.lengths` reads paths, each ended by NUL, and answers each by a line of seconds.
"""

from __future__ import annotations

import math
import os
import resource
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

COMMAND = (sys.executable, "-m", "gsvrd.cli.lengths")
PATIENCE_S = 10.0
"""For one file: its header, no more, is read."""
NO_VIDEO = -1.0
_TRIES = 5
"""So many times another process goes on behind a file that the last one fell over."""
_MEMORY_BYTES = 1 << 30
_CPU_S = 120


@contextmanager
def readied() -> Iterator[None]:
    """Have the process load its decoder while the caller does something else; without it `lengths` waits for that."""
    _ready.append(_start())
    try:
        yield
    finally:
        while _ready:
            with _ready.pop() as child:
                child.kill()


_ready: list[subprocess.Popen[bytes]] = []


def lengths(paths: Sequence[bytes]) -> dict[bytes, float]:
    """Seconds by path, `NO_VIDEO` for what is none; those that cannot be told are left out.

    Raises OSError if no process can be started.
    """
    found: dict[bytes, float] = {}
    left = list(paths)
    for _ in range(_TRIES):
        if not left:
            break
        told = _ask(left)
        found.update((path, seconds) for path, seconds in zip(left, told, strict=False) if seconds)
        left = left[len(told) + 1 :]
    return found


def _ask(paths: Sequence[bytes]) -> list[float]:
    """What one process says, until it is done, falls, or stands still. 0 is what it cannot tell."""
    with _ready.pop() if _ready else _start() as child:
        assert child.stdin is not None  # noqa: S101 (both are pipes)
        assert child.stdout is not None  # noqa: S101
        try:
            child.stdin.write(b"".join(path + b"\0" for path in paths))
            child.stdin.close()
            told = _hear(child.stdout.fileno(), len(paths))
        except BrokenPipeError:
            told = []
        child.kill()
    return told


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 (ourselves; paths go by a pipe)
        COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
    )


def _hear(pipe: int, count: int) -> list[float]:
    text = b""
    while text.count(b"\n") < count and select.select([pipe], [], [], PATIENCE_S)[0]:
        chunk = os.read(pipe, 1 << 16)
        if not chunk:
            break
        text += chunk
    return [float(line) for line in text.split(b"\n")[:-1]]


def main() -> None:
    """Be that process."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    from gsvrd.pool.confine import gain_nothing, go_offline

    gain_nothing()
    go_offline()
    import gsvrd.analyzers.local.media  # noqa: F401 (takes longest; nothing is asked yet)

    for path in sys.stdin.buffer.read().split(b"\0")[:-1]:
        print(_length(path), flush=True)  # noqa: T201 (this is its answer)


def _length(path: bytes) -> float:
    from gsvrd.analyzers.local.media import open_media
    from gsvrd.errors import ErrorKind, TaskError
    from gsvrd.intake.identity import FILE_FLAGS

    try:
        descriptor = os.open(path, FILE_FLAGS)
    except OSError:
        return 0.0
    try:
        with open_media(f"file:/proc/self/fd/{descriptor}") as container:
            seconds = (container.duration or 0) / 1_000_000
    except TaskError as error:
        return NO_VIDEO if error.kind in (ErrorKind.NOT_VIDEO, ErrorKind.UNREADABLE) else 0.0
    except OSError:
        return 0.0
    finally:
        os.close(descriptor)
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0


if __name__ == "__main__":
    main()
