"""What the daemon reads of machine, control groups and workers: from a made-up tree of files, and from this machine."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.waiting import eventually

from gsvrd.clock import ManualClock
from gsvrd.daemon import machine
from gsvrd.daemon.cgroups import ControlGroups, GroupFacts
from gsvrd.daemon.sampler import SystemSampler, see_memory
from gsvrd.errors import ConfigError

MB = 1 << 20


class Tree:
    """A file system with control groups in it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def member(self, text: str, mounts: str) -> None:
        (self.root / "proc/self").mkdir(parents=True, exist_ok=True)
        (self.root / "proc/self/cgroup").write_text(text)
        (self.root / "proc/self/mountinfo").write_text(mounts)

    def group(self, path: str, **files: str) -> None:
        folder = self.root / "sys/fs/cgroup" / path
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name.replace("__", ".")).write_text(text)

    def read(self) -> GroupFacts:
        return ControlGroups(self.root).read()


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"
V1 = (
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)


def test_of_version_2_the_tightest_of_all_groups_above_counts(tree: Tree) -> None:
    tree.member("0::/system.slice/gsvrd.service\n", V2)
    tree.group("", cpu__stat="usage_usec 1\n")
    tree.group(
        "system.slice",
        cpu__max="150000 100000\n",
        memory__max=f"{900 * MB}\n",
        memory__current=f"{700 * MB}\n",
        memory__stat=f"anon 1\ninactive_file {50 * MB}\nactive_file {30 * MB}\n",
    )
    tree.group(
        "system.slice/gsvrd.service",
        cpu__max="max 100000\n",
        memory__max=f"{800 * MB}\n",
        memory__high="max\n",
        memory__current=f"{300 * MB}\n",
        memory__stat=f"inactive_file {100 * MB}\nactive_file {20 * MB}\n",
        memory__events="low 0\noom 4\noom_kill 3\n",
    )
    found = tree.read()
    assert (found.cores, found.memory_limit, found.oom_kills, found.notes) == (1.5, 800 * MB, 3, ())
    # The slice has 900 - 650 left, the service 800 - 200: only so much of the lower limit is still to be had.
    assert (found.memory_used, found.memory_held) == (800 * MB - 250 * MB, 800 * MB - 280 * MB)


def test_a_soft_limit_of_version_2_is_a_limit_too(tree: Tree) -> None:
    tree.member("0::/a\n", V2)
    tree.group("a", memory__max="max\n", memory__high=f"{500 * MB}\n", memory__current="0\n")
    assert tree.read().memory_limit == 500 * MB


def test_of_version_1_each_controller_has_its_own_place(tree: Tree) -> None:
    tree.member("4:memory:/docker/abc\n1:cpu,cpuacct:/\n0::/\n", V1)
    tree.group("cpu,cpuacct", cpu__cfs_quota_us="50000\n", cpu__cfs_period_us="100000\n")
    tree.group("memory", memory__limit_in_bytes="9223372036854771712\n", memory__usage_in_bytes="1\n")
    tree.group(
        "memory/docker/abc",
        memory__limit_in_bytes=f"{600 * MB}\n",
        memory__usage_in_bytes=f"{90 * MB}\n",
        memory__stat=f"inactive_file 0\ntotal_inactive_file {40 * MB}\n",
        memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 0\n",
    )
    assert tree.read() == GroupFacts(0.5, 600 * MB, 50 * MB, 50 * MB, 0)


@pytest.mark.parametrize("quota", ["-1\n", "0\n", "", "nonsense\n"])
def test_no_quota_is_no_limit(tree: Tree, quota: str) -> None:
    tree.member("1:cpu,cpuacct:/\n", V1)
    tree.group("cpu,cpuacct", cpu__cfs_quota_us=quota, cpu__cfs_period_us="100000\n")
    assert tree.read().cores is None


def test_in_a_container_that_sees_only_its_own_group_the_mount_is_looked_at(tree: Tree) -> None:
    tree.member("0::/../../host.slice\n", V2)
    tree.group("", memory__max=f"{300 * MB}\n", memory__current="0\n", cpu__max="200000 100000\n")
    found = tree.read()
    assert (found.cores, found.memory_limit) == (2.0, 300 * MB)
    assert "is not there below /sys/fs/cgroup" in found.notes[0]


def test_a_mount_that_begins_at_our_group_is_followed_from_there(tree: Tree) -> None:
    tree.member("0::/docker/abc/inner\n", V2.replace(" / /sys", " /docker/abc /sys"))
    tree.group("", memory__max=f"{300 * MB}\n", memory__current="0\n")
    tree.group("inner", memory__max=f"{200 * MB}\n", memory__current="0\n")
    assert tree.read() == GroupFacts(None, 200 * MB, 0, 0)


def test_without_control_groups_there_is_a_note_and_no_limit(tree: Tree) -> None:
    assert tree.read() == GroupFacts(notes=("no control groups",))


def test_a_limit_that_is_changed_while_we_run_is_seen_at_the_next_reading(tree: Tree) -> None:
    tree.member("0::/a\n", V2)
    tree.group("a", memory__max=f"{500 * MB}\n", memory__current="0\n")
    groups = ControlGroups(tree.root)
    assert groups.read().memory_limit == 500 * MB
    tree.group("a", memory__max=f"{400 * MB}\n")
    assert groups.read().memory_limit == 400 * MB


def test_a_limit_below_one_task_is_refused_at_start(tree: Tree) -> None:
    tree.member("0::/a\n", V2)
    tree.group("a", memory__max=f"{300 * MB}\n", memory__current="0\n")
    see_memory(ControlGroups(tree.root))
    tree.group("a", memory__max=f"{128 * MB}\n")
    with pytest.raises(
        ConfigError, match="allows 128 MiB of memory, and the daemon with one task needs 256"
    ) as refused:
        see_memory(ControlGroups(tree.root))
    assert "MemoryMax=" in refused.value.hint


# -- this machine ------------------------------------------------------------------------------------------------------


@pytest.fixture
def busy() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_what_a_worker_uses_is_ours_and_the_first_reading_tells_no_differences(busy: subprocess.Popen[bytes]) -> None:
    clock = ManualClock()
    sampler = SystemSampler(clock)
    first = sampler.read([busy.pid])
    assert (first.own_cores, first.other_cores, first.wait, first.oom_kills) == (None, None, None, None)
    before = machine.used_s(busy.pid)
    assert before is not None
    eventually(lambda: (machine.used_s(busy.pid) or 0.0) > before + 0.2)
    clock.advance(0.1)
    second = sampler.read([busy.pid])
    assert second.own_cores is not None
    assert second.own_cores > 1.9  # 0.2 s of it in 0.1 s of this clock
    assert second.memory.workers[busy.pid].data >= second.memory.workers[busy.pid].own > 0
    assert second.allowed_cores == float(len(os.sched_getaffinity(0))) or second.allowed_cores is not None
    assert second.memory.limit is not None
    assert second.memory.held is not None
    assert 0 < second.memory.held < second.memory.limit


def test_what_may_be_written_to_counts_before_it_is_written_to() -> None:
    """As the kernel counts it for its limit."""
    before = machine.footprint(os.getpid())
    with mmap.mmap(-1, 64 * MB, flags=mmap.MAP_PRIVATE):
        after = machine.footprint(os.getpid())
    assert before is not None
    assert after is not None
    assert after.data - before.data >= 64 * MB
    assert after.own - before.own < 32 * MB


@pytest.mark.skipif(machine.waits(os.getpid()) is None, reason="this kernel keeps no account of waits")
def test_two_that_share_one_processor_wait_half_the_time() -> None:
    one = min(os.sched_getaffinity(0))
    code = f"import os\nos.sched_setaffinity(0, {{{one}}})\nprint(flush=True)\nwhile True: pass"
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for process in both:
            assert process.stdout is not None
            process.stdout.readline()
        clock = ManualClock()
        sampler, pids = SystemSampler(clock), [process.pid for process in both]
        sampler.read(pids)
        before = sum(machine.used_s(pid) or 0.0 for pid in pids)
        eventually(lambda: sum(machine.used_s(pid) or 0.0 for pid in pids) > before + 0.5)
        clock.advance(1.0)
        wait = sampler.read(pids).wait
        assert wait is not None
        assert wait > 0.3
    finally:
        for process in both:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def test_a_worker_that_is_gone_between_two_readings_is_simply_missing(busy: subprocess.Popen[bytes]) -> None:
    clock = ManualClock()
    sampler = SystemSampler(clock)
    sampler.read([busy.pid, os.getpid()])
    busy.kill()
    busy.wait()
    clock.advance(10.0)
    found = sampler.read([busy.pid, os.getpid()])
    assert set(found.memory.workers) == {os.getpid()}
    assert found.own_cores is not None


def test_without_the_right_to_look_there_is_nothing_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: Any, **__: Any) -> Any:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "cpu_times", denied)
    monkeypatch.setattr(psutil, "virtual_memory", denied)
    clock = ManualClock()
    sampler = SystemSampler(clock, ControlGroups(Path("/nowhere")))
    sampler.read([])
    clock.advance(1.0)
    found = sampler.read([os.getpid(), 2**22 - 1])
    assert (found.other_cores, found.memory.limit, found.memory.held) == (None, None, None)
    assert found.own_cores is not None
    assert "no control groups" in found.notes


def test_counters_that_run_backwards_give_no_figure_and_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    used, busy = iter([5.0, 4.0, 6.0]), iter([100.0, 110.0, 90.0])
    monkeypatch.setattr(machine, "busy_s", lambda _: next(busy))
    monkeypatch.setattr(machine, "used_s", lambda pid: next(used) if pid == os.getpid() else None)
    clock = ManualClock()
    sampler = SystemSampler(clock, ControlGroups(Path("/nowhere")))
    found = []
    for _ in range(3):
        found.append(sampler.read([]))
        clock.advance(10.0)
    assert (found[1].own_cores, found[1].notes[1:]) == (None, ("a processor clock of ours ran backwards",))
    assert (found[2].own_cores, found[2].other_cores) == (0.2, None)
    assert found[2].notes[1:] == ("the machine's processor clock ran backwards",)


def test_two_readings_at_the_same_moment_tell_nothing_of_the_time_between() -> None:
    sampler = SystemSampler(ManualClock())
    sampler.read([])
    assert sampler.read([]).own_cores is None


def test_a_budget_of_our_own_counts_only_what_is_ours() -> None:
    found = SystemSampler(ManualClock(), budget=500 * MB).memory([])
    assert found.limit == 500 * MB
    assert found.used is not None
    own = machine.footprint(os.getpid())
    assert own is not None
    assert found.used >= 0.9 * own.own


def test_status_needs_no_psutil() -> None:
    rooms = "gsvrd.cli.gsvrctl, gsvrd.cli.status, gsvrd.cli.views, gsvrd.cli.explain"
    code = f"import sys, {rooms}\nprint('psutil' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
