"""Running, steering and stopping the daemon, from the outside."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from support.daemon import BIN, Daemon, environment
from support.waiting import eventually, lives


def test_a_dropped_video_becomes_a_report_and_moves_to_the_archive(daemon: Daemon, sample: Path) -> None:
    daemon.start()
    daemon.drop(sample, "course/第一课 lesson.mp4")
    daemon.until_counts(completed=1)
    assert daemon.files("reports") == ["course/第一课 lesson.md"]
    eventually(lambda: daemon.files("archive") == ["course/第一课 lesson.mp4"])
    assert daemon.files("inbox") == []
    assert (daemon.home / "reports/course/第一课 lesson.md").read_text().startswith("---\n")
    assert daemon.stop() == 0


def test_videos_that_were_there_before_the_start_are_found(daemon: Daemon, sample: Path) -> None:
    daemon.drop(sample, "a.mp4")
    daemon.drop(sample, "b.mp4")
    daemon.start()
    daemon.until_counts(completed=2)


def test_the_same_video_dropped_again_is_done_again_beside_the_first_report(daemon: Daemon, sample: Path) -> None:
    daemon.start()
    daemon.drop(sample)
    daemon.until_counts(completed=1)
    eventually(lambda: daemon.files("inbox") == [])
    archived = daemon.home / "archive" / sample.name
    eventually(archived.exists)
    os.rename(archived, daemon.home / "inbox" / sample.name)
    daemon.until_counts(completed=2)
    assert [name for name in daemon.files("reports") if name.endswith(".md")] == ["lecture-en-2.md", "lecture-en.md"]


def test_status_has_the_documented_fields(daemon: Daemon) -> None:
    daemon.start()
    facts = daemon.status()
    assert facts["state"] == "running"
    assert facts["reason"] == ""
    assert facts["pid"] == daemon.pid
    assert set(facts["counts"]) == {"pending", "running", "completed", "failed", "cancelled"}
    assert set(facts["workers"]) == {"up", "busy", "pids", "target", "hand", "min", "max", "cap", "note"}
    assert facts["running"] == []
    assert facts["last_errors"] == []
    assert facts["analyzer"] == "probe"
    page = (Path(__file__).parents[2] / "docs" / "status.md").read_text()
    missing = [name for name in facts if f"`{name}`" not in page]
    assert missing == []


def test_status_works_with_the_daemon_down_and_says_so_by_exit_code(daemon: Daemon) -> None:
    never = daemon.ctl("status", "--json")
    assert (never.returncode, json.loads(never.stdout)["state"]) == (3, "stopped")
    daemon.start()
    assert daemon.ctl("status").returncode == 0
    daemon.stop()
    after = daemon.ctl("status")
    assert after.returncode == 3
    assert "stopped" in after.stdout
    daemon.start()
    daemon.kill()
    killed = daemon.ctl("status")
    assert killed.returncode == 3
    assert "without a word" in killed.stdout
    assert "its last sign of life" in killed.stdout
    facts = json.loads(daemon.ctl("status", "--json").stdout)
    assert (facts["since"], facts["last_sign_at"] > 0) == (None, True)


def test_a_home_that_is_not_there_is_never_made(daemon: Daemon) -> None:
    slip = Daemon(daemon.home / "slip of the pen")
    for words in (["status"], ["pause"], ["plan"], ["why", "a.mp4"], ["retry", "--failed"]):
        done = slip.ctl(*words)
        assert (done.returncode, str(slip.home) in done.stderr) == (os.EX_NOINPUT, True), words
    for verb in ("run", "check"):
        done = subprocess.run(
            [BIN / "gsvrd", verb, "--home", slip.home], capture_output=True, text=True, env=environment(), timeout=60
        )
        assert (done.returncode, str(slip.home) in done.stderr) == (os.EX_CONFIG, True), done.stderr
    assert not slip.home.exists()


def test_pause_is_confirmed_survives_a_restart_and_resume_goes_on(daemon: Daemon, sample: Path) -> None:
    daemon.start()
    paused = daemon.ctl("pause")
    assert (paused.returncode, paused.stdout) == (0, f"The daemon (pid {daemon.pid}) is paused.\n")
    assert daemon.status()["state"] == "paused"
    daemon.drop(sample)
    daemon.until_counts(pending=1)
    daemon.stop()
    daemon.start()
    assert daemon.status()["state"] == "paused"
    assert daemon.counts()["pending"] == 1
    assert daemon.ctl("resume").returncode == 0
    daemon.until_counts(completed=1)
    assert daemon.status()["state"] == "running"


def test_signals_pause_and_resume(daemon: Daemon) -> None:
    daemon.start()
    daemon.signal(signal.SIGUSR1)
    eventually(lambda: daemon.status()["state"] == "paused")
    daemon.signal(signal.SIGUSR2)
    eventually(lambda: daemon.status()["state"] == "running")


def test_a_wish_with_the_daemon_down_is_kept_for_the_next_start(daemon: Daemon) -> None:
    wish = daemon.ctl("pause")
    assert wish.returncode == 3
    assert "does not run" in wish.stdout
    daemon.start()
    assert daemon.status()["state"] == "paused"
    daemon.stop()
    assert daemon.ctl("resume").returncode == 3
    daemon.start()
    assert daemon.status()["state"] == "running"


def test_list_and_show_tell_about_tasks_with_the_daemon_down(daemon: Daemon, sample: Path) -> None:
    daemon.start()
    daemon.drop(sample, "good.mp4")
    (daemon.home / "inbox" / "bad.mp4").write_text("no video")
    daemon.until_counts(completed=1, failed=1)
    daemon.stop()
    listed = json.loads(daemon.ctl("list", "--json").stdout)
    assert {(row["name"], row["state"]) for row in listed} == {("good.mp4", "completed"), ("bad.mp4", "failed")}
    shown = json.loads(daemon.ctl("show", "good.mp4", "--json").stdout)
    assert [event["change"] for event in shown["events"]] == ["add", "claim", "complete"]
    assert daemon.ctl("show", "bad.mp4").stdout.count("bad.mp4") >= 1
    assert "bad.mp4" in daemon.ctl("list", "--state", "failed").stdout
    unknown = daemon.ctl("show", "nothing.mp4")
    assert unknown.returncode == 66


def test_a_second_daemon_on_the_same_state_is_refused_and_the_first_goes_on(daemon: Daemon, sample: Path) -> None:
    daemon.start()
    second = subprocess.run(
        [BIN / "gsvrd", "run", "--home", daemon.home], capture_output=True, text=True, timeout=30, env=environment()
    )
    assert second.returncode == 75
    assert f"pid {daemon.pid}" in second.stderr
    daemon.drop(sample)
    daemon.until_counts(completed=1)


def test_a_broken_configuration_is_refused_with_everything_that_is_wrong(daemon: Daemon) -> None:
    daemon.configure("workers: {max: many}\nlanguge: en\n")
    done = subprocess.run(
        [BIN / "gsvrd", "run", "--home", daemon.home], capture_output=True, text=True, timeout=30, env=environment()
    )
    assert done.returncode == 78
    assert "workers.max" in done.stderr
    assert "languge" in done.stderr
    checked = subprocess.run(
        [BIN / "gsvrd", "check", "--home", daemon.home], capture_output=True, text=True, timeout=30, env=environment()
    )
    assert checked.returncode == 78
    assert not (daemon.home / "state").exists()


def test_hup_takes_a_good_configuration_and_keeps_the_old_one_over_a_bad_one(daemon: Daemon) -> None:
    daemon.configure("workers: {max: 1}\n")
    daemon.start()
    assert daemon.status()["workers"]["up"] == 1
    daemon.configure("workers: {min: 3, max: 3}\n")
    daemon.signal(signal.SIGHUP)
    eventually(lambda: daemon.status()["workers"]["up"] == 3)
    daemon.configure("workers: {max: 0}\n")
    daemon.signal(signal.SIGHUP)
    eventually(lambda: "workers.max" in (daemon.status()["reload"] or {}).get("problem", ""))
    assert daemon.status()["workers"]["up"] == 3


def test_hup_puts_new_settings_into_the_workers_too(daemon: Daemon, sample: Path) -> None:
    daemon.configure('output_pattern: "{stem}.md"\n')
    daemon.start()
    daemon.configure('output_pattern: "new-{stem}.md"\n')
    daemon.signal(signal.SIGHUP)
    eventually(lambda: (daemon.status()["reload"] or {}).get("problem") == "")
    daemon.drop(sample)
    daemon.until_counts(completed=1)
    assert daemon.files("reports") == ["new-lecture-en.md"]


def test_signals_to_the_whole_group_while_workers_start_kill_nobody(daemon: Daemon, sample: Path) -> None:
    daemon.configure("workers: {max: 4}\n")
    daemon.drop(sample)
    daemon.start(wait=False)
    eventually(lambda: _signal_family(daemon.pid, '"ready"' in daemon.log), 30)
    daemon.until_counts(completed=1)
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
        os.killpg(daemon.pid, number)
    daemon.drop(sample, "second.mp4")
    eventually(lambda: daemon.ctl("resume").returncode == 0)
    daemon.until_counts(completed=2)
    assert [event for event in daemon.events if event["event"] == "attempt_failed"] == []


def _signal_family(pid: int, is_ready: bool) -> bool:
    """Signals to the daemon's children as soon as there are any; the daemon itself may not listen yet."""
    for child in psutil.Process(pid).children(recursive=True):
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.send_signal(number)
    return is_ready


def test_after_kill_9_nothing_is_lost_and_nothing_is_doubled(daemon: Daemon, sample: Path) -> None:
    for number in range(12):
        daemon.drop(sample, f"{number}.mp4")
    daemon.start()
    eventually(lambda: daemon.counts()["completed"] >= 3, 60)
    family = psutil.Process(daemon.pid).children(recursive=True)
    daemon.kill()
    eventually(lambda: not any(lives(child.pid) for child in family), 3)
    daemon.start()
    daemon.until_counts(completed=12, running=0, pending=0)
    assert daemon.files("reports") == sorted(f"{number}.md" for number in range(12))
    eventually(lambda: daemon.files("inbox") == [])
    assert daemon.files("archive") == sorted(f"{number}.mp4" for number in range(12))


def test_gsvrctl_status_imports_no_sdk_no_watchdog_and_no_decoder(daemon: Daemon) -> None:
    daemon.start()
    daemon.stop()
    code = (
        "import sys\nfrom gsvrd.cli.gsvrctl import main\n"
        f"try:\n    main(['--home', {str(daemon.home)!r}, 'status'])\nexcept SystemExit: pass\n"
        "heavy = ('watchdog', 'google.generativeai', 'google.genai', 'av', 'numpy', 'sqlite_utils', 'pydantic')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), timeout=30)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


@pytest.mark.parametrize("words", [["--nonsense"], ["nonsense"]])
def test_usage_errors_have_the_exit_code_of_sysexits(words: list[str]) -> None:
    for command in ("gsvrd", "gsvrctl"):
        done = subprocess.run([BIN / command, *words], capture_output=True, text=True, env=environment(), timeout=30)
        assert done.returncode == 64


def test_a_pause_that_comes_while_the_daemon_starts_is_not_its_end(daemon: Daemon) -> None:
    daemon.start(wait=False)
    mask = Path(f"/proc/{daemon.pid}/status")

    def blocks_usr1() -> bool:
        line = next(line for line in mask.read_text().splitlines() if line.startswith("SigBlk:"))
        return bool(int(line.split()[1], 16) & (1 << (signal.SIGUSR1 - 1)))

    eventually(blocks_usr1)
    daemon.signal(signal.SIGUSR1)
    eventually(lambda: '"ready"' in daemon.log or daemon.died(), 30)
    eventually(lambda: daemon.status()["state"] == "paused")
