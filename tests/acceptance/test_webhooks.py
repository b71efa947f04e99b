"""Who wants to know is told: by the real daemon, over real HTTP, over restarts."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import sqlite3
from pathlib import Path

from support.daemon import Daemon
from support.receivers import Receiver, say
from support.waiting import eventually

SECRET = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()


def configure(daemon: Daemon, receiver: Receiver, allow: str = "127.0.0.1") -> None:
    (daemon.home / "secret").write_text(f"whsec_{SECRET}\n")
    daemon.configure(
        f"batch: {{webhook_url: '{receiver.url()}'}}\n"
        f"webhook: {{secret_file: secret, allow: ['{allow}'], timeout: 2s}}\n"
        "workers: {max: 1}\n"
    )


def kinds(receiver: Receiver) -> list[str]:
    return [json.loads(got.body)["type"] for got in receiver.got]


def last_error(daemon: Daemon) -> str:
    with contextlib.closing(sqlite3.connect(daemon.home / "state" / "gsvrd.db")) as conn:
        return str(conn.execute("SELECT last_error FROM outbox").fetchone()[0])


def test_each_end_is_told_signed_and_in_order_although_the_receiver_fails_at_first(
    daemon: Daemon, sample: Path
) -> None:
    with Receiver(acts=[say(503), say(500)]) as receiver:
        configure(daemon, receiver)
        daemon.start()
        daemon.drop(sample, "course/a.mp4")
        daemon.until_counts(completed=1)
        (daemon.home / "inbox" / "course" / "b.mp4").write_bytes(b"no video")
        daemon.until_counts(failed=1)
        eventually(lambda: "batch.completed" in kinds(receiver)[-1:] and "task.failed" in kinds(receiver), 60)
    told = {got.id: json.loads(got.body) for got in receiver.got}
    ends = [event for event in told.values() if event["type"].startswith("task.")]
    assert [event["type"] for event in ends] == ["task.completed", "task.failed"]
    completed, failed = (event["data"] for event in ends)
    assert list(told.values())[-1]["data"]["counts"] == {"completed": 1, "failed": 1}
    assert (completed["name"], completed["report"]) == ("course/a.mp4", "course/a.md")
    assert (failed["name"], failed["kind"]) == ("course/b.mp4", "not_video")
    for got in receiver.got:
        signed = f"{got.id}.{got.headers['webhook-timestamp']}.".encode() + got.body
        right = hmac.new(base64.b64decode(SECRET), signed, hashlib.sha256).digest()
        assert got.headers["webhook-signature"] == f"v1,{base64.b64encode(right).decode()}"


def test_what_was_not_told_before_a_kill_is_told_after_the_restart(daemon: Daemon, sample: Path) -> None:
    with Receiver() as receiver:
        configure(daemon, receiver)
        port = receiver.port
    daemon.start()  # nobody listens
    daemon.drop(sample, "a.mp4")
    daemon.until_counts(completed=1)
    daemon.kill()
    with Receiver(port=port) as receiver:
        configure(daemon, receiver)
        daemon.start()
        daemon.drop(sample, "b.mp4")
        daemon.until_counts(completed=2)
        eventually(lambda: [json.loads(got.body)["data"]["name"] for got in receiver.got].count("b.mp4") == 1, 30)


def test_a_near_address_that_is_not_allowed_is_never_called(daemon: Daemon, sample: Path) -> None:
    with Receiver() as receiver:
        configure(daemon, receiver, allow="example.org")
        daemon.start()
        daemon.drop(sample, "a.mp4")
        daemon.until_counts(completed=1)
        eventually(lambda: "127.0.0.1" in last_error(daemon), 30)
        assert receiver.connections == 0


def test_a_secret_that_is_none_is_refused_at_the_start(daemon: Daemon) -> None:
    (daemon.home / "secret").write_text("short\n")
    daemon.configure("webhook: {secret_file: secret}\n")
    daemon.start(wait=False)
    assert daemon.process is not None
    assert daemon.process.wait(30) == os.EX_CONFIG
    assert "webhook.secret_file" in daemon.log
    assert "short" not in daemon.log.replace(str(daemon.home), "")
