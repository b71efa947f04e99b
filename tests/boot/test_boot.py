"""The service on a machine booted for it: the wheel, `gsvrctl service install`, and what an administrator does then.

`make boot` runs all of it; the suite runs the first test alone.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support import booted
from support.waiting import eventually

SAMPLE = Path(__file__).parents[1] / "media" / "samples" / "lecture-en.mp4"
HOME = "/var/lib/gsvrd"
QUICK = "analyzer: probe\nservice: {drain: 2s}\nworkers: {min: 1, max: 1}\n"
EX_DATAERR, EX_TEMPFAIL, EX_NOPERM, EX_CONFIG = 65, 75, 77, 78
CANARY = "canary-0123456789-abcdefghij"

pytestmark = [
    pytest.mark.skipif(bool(why := booted.missing()), reason=why or "booted below"),
    pytest.mark.timeout(600),
]


@dataclass
class Service:
    """gsvrd on a booted machine."""

    machine: booted.Machine
    begun_at: str = ""
    """Where the journal was when the test began."""

    def sh(self, command: str) -> str:
        return self.machine.say("sh", "-ec", command)

    def systemctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.machine.run("systemctl", *words)

    def start(self) -> None:
        done = self.systemctl("start", "gsvrd")
        assert done.returncode == 0, self.sh("systemctl status gsvrd --no-pager --lines 40 || true")

    def stop(self) -> None:
        assert self.systemctl("stop", "gsvrd").returncode == 0

    def shows(self, name: str) -> str:
        return self.machine.say("systemctl", "show", "--value", "-p", name, "gsvrd").strip()

    @property
    def main(self) -> int:
        return int(self.shows("MainPID"))

    def configure(self, text: str) -> None:
        self.put("/etc/gsvrd/gsvrd.yaml", text)

    def drop_in(self, text: str) -> None:
        self.sh("mkdir -p /run/systemd/system/gsvrd.service.d")
        self.put("/run/systemd/system/gsvrd.service.d/test.conf", f"[Service]\n{text}\n")
        self.sh("systemctl daemon-reload")

    def put(self, path: str, text: str) -> None:
        Path(f"/proc/{self.machine.init}/root{path}").write_text(text)

    def ctl(self, *words: str, user: str = "gsvrd") -> subprocess.CompletedProcess[str]:
        command = ["env", f"GSVRD_HOME={HOME}", "/opt/gsvrd/bin/gsvrctl", *words]
        return self.machine.run("runuser", "-u", user, "--", *command)

    def status(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads(self.ctl("status", "--json").stdout)
        return facts

    def counts(self, **wanted: int) -> bool:
        counts = self.status()["counts"]
        return all(counts[name] == number for name, number in wanted.items())

    def drop(self, *names: str) -> None:
        """By somebody else than the service; each with content of its own."""
        for name in names:
            self.sh(f"cp {booted.SHARED}/{SAMPLE.name} {HOME}/.{name}; echo {name} >> {HOME}/.{name}")
            self.sh(f"mv {HOME}/.{name} {HOME}/inbox/{name}")

    def reports(self) -> list[str]:
        return sorted(self.sh(f"cd {HOME}/reports; find . -name '*.md' ! -name '_*'").split())

    def hold(self, *names: str) -> int:
        """Have the first of `names` run on a worker that stands still; the worker's pid."""
        assert self.ctl("pause").returncode == 0
        self.drop(*names)
        eventually(lambda: self.counts(pending=len(names)), 60)
        (worker,) = eventually(lambda: self.status()["workers"]["pids"], 30)
        self.sh(f"kill -STOP {worker}")
        assert self.ctl("resume").returncode == 0
        eventually(lambda: self.counts(running=1), 30)
        return int(worker)

    def journal(self, *words: str) -> list[dict[str, Any]]:
        printed = self.machine.say("journalctl", "--no-pager", "-o", "json", f"--after-cursor={self.begun_at}", *words)
        return [json.loads(line) for line in printed.splitlines()]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [entry for entry in self.journal("-u", "gsvrd") if entry.get("EVENT") == name]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[booted.Machine]:
    folder = tmp_path_factory.mktemp("boot")
    with booted.machine(folder) as made:
        booted.install(made)
        shutil.copy(SAMPLE, made.shared)
        made.boot()
        yield made


@pytest.fixture
def service(machine: booted.Machine) -> Iterator[Service]:
    """Installed anew, with the quick analyzer, not started."""
    made = Service(machine)
    made.systemctl("stop", "gsvrd")
    made.sh(f"rm -rf {HOME} /run/systemd/system/gsvrd.service.d /etc/systemd/system/gsvrd.service.d")
    made.sh("/opt/gsvrd/bin/gsvrctl service install")
    made.begun_at = made.sh("journalctl -n 0 --show-cursor").partition("cursor: ")[2].strip()
    made.systemctl("reset-failed", "gsvrd")
    made.configure(QUICK)
    made.put("/etc/gsvrd/gemini-api-key", "")
    yield made
    made.systemctl("kill", "-s", "KILL", "gsvrd")
    made.systemctl("stop", "gsvrd")


# -- the short way, in every run of the suite ---------------------------------------------------------------------------


def test_a_booted_machine_installs_the_service_and_does_a_video_over_pause_reload_a_kill_and_a_stop(
    service: Service,
) -> None:
    service.start()
    assert service.shows("ActiveState") == "active"
    service.drop("first.mp4")
    eventually(lambda: service.counts(completed=1), 60)

    workers = service.status()["workers"]["pids"]
    service.sh("systemctl kill -s USR1 gsvrd")  # all processes of the service get it
    eventually(lambda: service.status()["state"] == "paused", 30)
    assert service.status()["workers"]["pids"] == workers
    eventually(lambda: service.shows("StatusText").startswith("paused"), 30)
    service.sh("systemctl kill -s USR2 --kill-whom=main gsvrd")
    eventually(lambda: service.status()["state"] == "running", 30)

    service.configure(QUICK + "template: nonsense\n")
    assert service.systemctl("reload", "gsvrd").returncode != 0
    service.configure(QUICK)
    assert service.systemctl("reload", "gsvrd").returncode == 0
    assert service.status()["reload"]["problem"] == ""

    service.hold("second.mp4", "third.mp4")
    before = service.main
    service.sh(f"kill -9 {before}")
    eventually(lambda: service.counts(completed=3), 60)
    assert service.main != before
    assert service.shows("NRestarts") == "1"

    service.hold("fourth.mp4")
    service.stop()
    assert (service.shows("Result"), service.shows("ExecMainStatus")) == ("success", "0")
    service.start()
    eventually(lambda: service.counts(completed=4), 60)
    assert len(service.reports()) == 4
    assert service.status()["counts"]["failed"] == 0

    (done, *_) = service.events("task_completed")
    assert (done["TASK"], done["BATCH"], done["PRIORITY"], done["SYSLOG_IDENTIFIER"]) == ("1", "1", "6", "gsvrd")
    (refused,) = service.events("reload_refused")
    assert refused["PRIORITY"] == "3"


# -- the long way, by `make boot` ----------------------------------------------------------------------------------------


@pytest.mark.boot
def test_the_guide_leads_to_a_running_service_with_a_report(service: Service) -> None:
    """Its commands after those of pip, which need an index; the analyzer is the quick one."""
    service.sh("/opt/gsvrd/bin/gsvrctl service uninstall; rm -rf /etc/gsvrd")
    service.drop_in("Environment=GSVRD_ANALYZER=probe")
    guide = (booted.CLONE / "docs" / "deploy.md").read_text().split("```console\n")[1].split("\n```")[0]
    commands = [line.removeprefix("sudo ") for line in guide.splitlines()]
    install = commands.index("/opt/gsvrd/bin/gsvrctl service install")
    service.sh(f"cp {booted.SHARED}/{SAMPLE.name} /tmp/lecture.mp4")
    *doing, last = commands[install:]
    for command in doing:
        service.sh(f"cd /tmp; {command}")
    assert eventually(lambda: "lecture.mp4.md" in service.sh(last) or "lecture.md" in service.sh(last), 60)


@pytest.mark.boot
def test_a_user_has_a_service_of_their_own(service: Service) -> None:
    service.sh("useradd --create-home --shell /bin/sh teacher; systemctl start user@$(id -u teacher)")

    def teacher(command: str) -> str:
        runtime = 'export XDG_RUNTIME_DIR="/run/user/$(id -u)"; cd;'
        return service.machine.say("runuser", "-l", "teacher", "-c", f"{runtime} {command}")

    teacher("/opt/gsvrd/bin/gsvrctl service install --user")
    teacher("echo 'analyzer: probe' > .config/gsvrd/gsvrd.yaml; systemctl --user start gsvrd")
    teacher(f"cp {booted.SHARED}/{SAMPLE.name} .local/share/gsvrd/inbox/one.mp4")
    eventually(lambda: "one" in teacher("ls .local/share/gsvrd/reports"), 60)
    teacher("systemctl --user reload gsvrd; systemctl --user stop gsvrd")
    teacher("/opt/gsvrd/bin/gsvrctl service uninstall --user")
    assert "one" in teacher("ls .local/share/gsvrd/reports .config/gsvrd")


@pytest.mark.boot
def test_a_loop_that_stands_still_is_restarted_and_the_journal_says_where_it_stood(service: Service) -> None:
    service.drop_in("WatchdogSec=3")
    service.start()
    before = service.main
    service.sh(f"kill -STOP {before}")
    eventually(lambda: service.shows("NRestarts") == "1" and service.shows("ActiveState") == "active", 120)
    assert service.main != before
    messages = [str(entry.get("MESSAGE")) for entry in service.journal("-u", "gsvrd")]
    assert any("Watchdog timeout" in message for message in messages)
    assert any("supervisor.py" in message and "in _poll" in message for message in messages)
    service.drop("after.mp4")
    eventually(lambda: service.counts(completed=1), 60)


@pytest.mark.boot
def test_a_busy_loop_keeps_its_watchdog_quiet(service: Service) -> None:
    service.drop_in("WatchdogSec=3")
    service.start()
    service.drop(*(f"v{number}.mp4" for number in range(40)))
    eventually(lambda: service.counts(completed=40), 240)
    assert service.shows("NRestarts") == "0"


@pytest.mark.boot
def test_after_the_plug_was_pulled_the_machine_goes_on_where_it_was(service: Service) -> None:
    service.start()
    service.hold("one.mp4", "two.mp4")
    service.machine.crash()
    service.machine.boot()
    eventually(lambda: service.counts(completed=2), 60)
    assert len(service.reports()) == 2


@pytest.mark.boot
def test_a_reboot_in_good_order_keeps_a_pause_and_gives_running_tasks_back(service: Service) -> None:
    service.start()
    service.hold("one.mp4")
    service.ctl("pause")
    service.machine.shut_down()
    service.machine.boot()
    eventually(lambda: service.status()["state"] == "paused", 60)
    assert service.counts(pending=1, running=0)
    assert service.ctl("resume").returncode == 0
    eventually(lambda: service.counts(completed=1), 60)
    assert "died" not in service.ctl("why", "one.mp4").stdout


@pytest.mark.boot
def test_the_local_analyzer_works_under_the_hardening_and_without_any_network(service: Service) -> None:
    service.configure("analyzer: local\n")
    service.sh("/opt/gsvrd/bin/gsvrctl service install --offline")
    service.start()
    service.drop("lecture.mp4")
    eventually(lambda: service.counts(completed=1) or service.status()["last_errors"], 500)
    assert service.status()["last_errors"] == []
    (report,) = service.reports()
    text = service.sh(f"cat {HOME}/reports/{report}")
    assert "00:" in text
    filters = {
        pid: int(service.sh(f"sed -n 's/^Seccomp_filters:\\s*//p' /proc/{pid}/status"))
        for pid in (service.main, *service.status()["workers"]["pids"])
    }
    assert max(filters.values()) > filters[service.main] > 0, "no worker has given up the network by itself"
    service.sh("/opt/gsvrd/bin/gsvrctl service install --online")


@pytest.mark.boot
def test_the_key_comes_as_a_credential_and_is_nowhere_to_be_read(service: Service) -> None:
    service.configure("analyzer: gemini\nservice: {drain: 2s}\n")
    service.put("/etc/gsvrd/gemini-api-key", CANARY)
    service.start()
    service.drop("one.mp4")
    eventually(lambda: service.status()["doors"] or service.status()["running"], 60)
    service.sh("systemctl kill -s QUIT --kill-whom=main gsvrd || true")
    everything = service.sh("journalctl --no-pager -o export; systemctl status gsvrd --no-pager -l || true")
    assert CANARY not in everything
    pattern = f"[{CANARY[0]}]{CANARY[1:]}"  # not found in the words of the search itself
    places = f"/proc/[0-9]*/environ /proc/[0-9]*/cmdline {HOME} /tmp /var/tmp /etc/systemd"
    assert service.sh(f"grep -rl '{pattern}' {places} 2>/dev/null || true") == ""


@pytest.mark.boot
@pytest.mark.parametrize(
    ("break_it", "code", "words"),
    [
        ("echo 'nonsense: 3' >> /etc/gsvrd/gsvrd.yaml", EX_CONFIG, "nonsense: unknown key"),
        ("rm /etc/gsvrd/gsvrd.yaml", EX_CONFIG, "/etc/gsvrd/gsvrd.yaml"),
        ("echo 'analyzer: gemini' > /etc/gsvrd/gsvrd.yaml", EX_CONFIG, "there is no key"),
        (f"chmod 0 {HOME}/inbox; chown root {HOME}/inbox", EX_NOPERM, f"{HOME}/inbox cannot be read and written"),
        (f"chown root {HOME}/state", EX_NOPERM, f"{HOME}/state cannot be read and written"),
    ],
)
def test_a_wrong_set_up_fails_at_once_and_the_status_says_why(
    service: Service, break_it: str, code: int, words: str
) -> None:
    service.sh(break_it)
    assert service.systemctl("start", "gsvrd").returncode != 0
    assert service.shows("ActiveState") == "failed"
    assert (service.shows("ExecMainStatus"), service.shows("NRestarts")) == (str(code), "0")
    assert words in service.shows("StatusText")
    assert words in service.systemctl("status", "gsvrd", "--no-pager", "--full").stdout
    (said,) = service.events("cannot_start")
    assert said["PRIORITY"] == "2"
    assert words in said["ERROR"]


@pytest.mark.boot
def test_a_state_directory_that_is_read_only_fails_at_once(service: Service) -> None:
    service.drop_in(f"ReadOnlyPaths={HOME}/state")
    assert service.systemctl("start", "gsvrd").returncode != 0
    assert (service.shows("ActiveState"), service.shows("ExecMainStatus")) == ("failed", str(EX_NOPERM))
    assert f"{HOME}/state" in service.shows("StatusText")


@pytest.mark.boot
def test_a_second_instance_is_refused_and_the_first_goes_on(service: Service) -> None:
    service.start()
    second = service.machine.run("runuser", "-u", "gsvrd", "--", "/opt/gsvrd/bin/gsvrd", "run", "--home", HOME)
    assert second.returncode == EX_TEMPFAIL
    assert f"pid {service.main}" in second.stderr
    service.drop("one.mp4")
    eventually(lambda: service.counts(completed=1), 60)


@pytest.mark.boot
def test_a_service_whose_state_is_taken_does_not_try_for_ever(service: Service) -> None:
    service.sh(f"systemd-run --quiet --unit holder --uid gsvrd flock {HOME}/state/lock sleep infinity")
    service.systemctl("start", "gsvrd")
    eventually(lambda: service.shows("ActiveState") == "failed", 240)
    assert service.shows("ExecMainStatus") == str(EX_TEMPFAIL)
    assert int(service.shows("NRestarts")) <= 5
    service.sh("systemctl stop holder")


@pytest.mark.boot
def test_root_may_use_gsvrctl_and_the_service_can_still_write_its_state(service: Service) -> None:
    service.start()
    service.stop()
    service.ctl("pause", user="root")
    service.ctl("status", user="root")
    service.start()
    assert service.status()["state"] == "paused"
    service.ctl("resume", user="root")
    service.drop("one.mp4")
    eventually(lambda: service.counts(completed=1), 60)
    assert service.sh(f"find {HOME} -user root ! -name '*.mp4'") == ""


@pytest.mark.boot
def test_a_flood_of_one_event_leaves_a_bounded_number_of_lines(service: Service) -> None:
    service.start()
    service.sh(f"cd {HOME}/inbox; for n in $(seq 1500); do ln -s /etc/passwd $n.mp4; done")
    eventually(lambda: len(service.events("refused")) >= 500, 120)
    eventually(lambda: service.status()["intake"] and service.events("suppressing"), 60)
    service.stop()
    refused, suppressed = service.events("refused"), service.events("suppressed")
    assert len(refused) + sum(int(entry["LINES"]) for entry in suppressed if entry["WHAT"] == "refused") == 1500
    assert len(refused) < 1500


@pytest.mark.boot
@pytest.mark.skipif(not booted.limits_memory(), reason="this host's control groups do not limit memory (version 1)")
def test_a_worker_that_eats_all_memory_loses_its_task_and_the_service_lives(service: Service) -> None:
    service.drop_in("MemorySwapMax=0")
    service.start()
    worker, before = service.hold("hog.mp4"), service.main
    service.sh(f"echo 1000 > /proc/{worker}/oom_score_adj")  # the kernel takes the largest, and no other
    limit = int(service.shows("MemoryCurrent")) - 2**22
    service.sh(f"systemctl set-property --runtime gsvrd MemoryMax={limit}")
    eventually(lambda: service.events("attempt_failed"), 60)
    service.sh("systemctl set-property --runtime gsvrd MemoryMax=infinity")
    eventually(lambda: service.counts(completed=1), 120)
    assert (service.main, service.shows("ActiveState")) == (before, "active")


@pytest.mark.boot
def test_uninstalling_leaves_everything_that_people_made(service: Service) -> None:
    service.start()
    service.drop("one.mp4")
    eventually(lambda: service.counts(completed=1), 60)
    service.sh("/opt/gsvrd/bin/gsvrctl service uninstall")
    assert service.shows("LoadState") == "not-found"
    assert len(service.reports()) == 1
    assert service.sh("cat /etc/gsvrd/gsvrd.yaml") == QUICK
    assert service.sh(f"find {HOME}/archive -name one.mp4") != ""
    service.sh("/opt/gsvrd/bin/gsvrctl service install")
    service.start()
    assert service.counts(completed=1)
