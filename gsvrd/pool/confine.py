"""What a worker process gives up, so that a decoder that was taken over by a hostile video gains little.

Called by `worker.main` at its start, by `execute` before it decodes, and by `cli.lengths`; it cannot be taken back, so it
must never run in the daemon. In the inline pool, where work has no process of its own, nothing is given up.

No network: a seccomp filter of a dozen instructions, for all threads. A network namespace would cost a user namespace,
which many kernels and containers forbid, and in which the process would hold capabilities.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import socket
from dataclasses import dataclass

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 38, 22
_SECCOMP_MODE_FILTER = 2
_SECCOMP_SET_MODE_FILTER = 1
_ALL_THREADS = 1  # SECCOMP_FILTER_FLAG_TSYNC
_LOAD, _EQUALS, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
"""Offsets in the kernel's `struct seccomp_data`; of the argument, the low half on a little-endian machine."""
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000
_OTHER_TABLE = 0x40000000
"""Numbers from here on are x32's, which name the same calls a second time."""
_IO_URING_SETUP = 425
"""It opens sockets, too, and no filter sees that."""


@dataclass(frozen=True, slots=True)
class _Machine:
    """How the kernel numbers what we look for."""

    audit: int
    socket: int
    seccomp: int


_MACHINES = {
    "x86_64": _Machine(0xC000003E, 41, 317),
    "aarch64": _Machine(0xC00000B7, 198, 277),
    "riscv64": _Machine(0xC00000F3, 198, 277),
}


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("if_true", ctypes.c_uint8),
        ("if_false", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("filter", ctypes.POINTER(_Instruction)))


@dataclass(slots=True)
class _State:
    """Of this process; a forked one starts with its parent's, which is the fork server's: nothing."""

    is_worker: bool = False
    is_offline: bool = False


_state = _State()


def gain_nothing() -> None:
    """For good: no program that is started from here on gets more rights than we have, setuid or not."""
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _state.is_worker = True


def go_offline() -> None:
    """For good: no socket but to processes of this machine. Where the kernel cannot do it, all stays as it is."""
    machine = _MACHINES.get(platform.machine())
    if machine is None or not _state.is_worker or _state.is_offline:
        return
    lines = _filter(machine)
    program = _Program(len(lines), (_Instruction * len(lines))(*lines))
    libc = ctypes.CDLL(None)
    words = map(ctypes.c_long, (machine.seccomp, _SECCOMP_SET_MODE_FILTER, _ALL_THREADS))
    _state.is_offline = (
        libc.syscall(*words, ctypes.byref(program)) == 0
        # Some filters of systemd allow only the older call, which is for this thread and those that it makes.
        or libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program)) == 0
    )


def is_offline() -> bool:
    """Whether `go_offline` was called, and did it."""
    return _state.is_offline


def _filter(machine: _Machine) -> list[_Instruction]:
    """Jumps count the instructions that are skipped."""
    return [
        _Instruction(_LOAD, 0, 0, _ARCHITECTURE),
        _Instruction(_EQUALS, 0, 7, machine.audit),  # else: refuse what a 32-bit call would name otherwise
        _Instruction(_LOAD, 0, 0, _NUMBER),
        _Instruction(_AT_LEAST, 5, 0, _OTHER_TABLE),
        _Instruction(_EQUALS, 4, 0, _IO_URING_SETUP),
        _Instruction(_EQUALS, 0, 2, machine.socket),
        _Instruction(_LOAD, 0, 0, _FIRST_ARGUMENT),
        _Instruction(_EQUALS, 0, 2, socket.AF_UNIX),
        _Instruction(_RETURN, 0, 0, _ALLOW),
        _Instruction(_RETURN, 0, 0, _REFUSE | errno.EPERM),
        _Instruction(_RETURN, 0, 0, _REFUSE | errno.EAFNOSUPPORT),
    ]
