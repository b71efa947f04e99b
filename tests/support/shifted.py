"""A wall clock that a test can move while a process runs: a small library put in front of libc's.

Only real time is moved; monotonic time goes on as it is. The shift, in seconds, lies in a file that every process with
the library has mapped, so that a change is seen at once.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

_SOURCE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int64_t nothing;
static volatile int64_t *shift_s = &nothing;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("SHIFTED_CLOCK");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *found = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
    if (found != MAP_FAILED) shift_s = found;
    close(fd);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += *shift_s;
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec real;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &real)) return -1;
    now->tv_sec = real.tv_sec;
    now->tv_usec = real.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *where) {
    struct timespec real;
    clock_gettime(CLOCK_REALTIME, &real);
    if (where) *where = real.tv_sec;
    return real.tv_sec;
}
"""


@dataclass(frozen=True)
class ShiftedClock:
    """The library and the file with the shift, both in `folder`."""

    folder: Path

    @staticmethod
    def is_possible() -> bool:
        return shutil.which("cc") is not None

    def __post_init__(self) -> None:
        self.set(0)
        source, library = self.folder / "shifted.c", self.folder / "shifted.so"
        source.write_text(_SOURCE)
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source)], check=True)

    @property
    def environ(self) -> dict[str, str]:
        """For the processes whose clock is to be moved."""
        return {"LD_PRELOAD": str(self.folder / "shifted.so"), "SHIFTED_CLOCK": str(self.folder / "shift")}

    def set(self, seconds: int) -> None:
        """Move the clock so far from the real one, at once."""
        with open(self.folder / "shift", "r+b" if (self.folder / "shift").exists() else "w+b") as file:
            file.write(struct.pack("<q", seconds))
