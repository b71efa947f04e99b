"""The four users of the design, from the outside: what each does and has then. Only the installed commands are used."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from support.daemon import Daemon
from support.gemini.process import Served
from support.receivers import Got, Receiver
from support.waiting import eventually

Json = dict[str, Any]


def told(daemon: Daemon, *words: str, code: int = 0) -> Json:
    """What a command prints as JSON."""
    done = daemon.ctl(*words, "--json")
    assert done.returncode == code, done.stderr
    facts: Json = json.loads(done.stdout)
    return facts


def video(sample: Path, folder: Path, name: str) -> Path:
    """A video of its own content, copied as careful programs do it."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(sample.read_bytes() + name.encode())
    return part.rename(path)


def counts(daemon: Daemon, batch: str) -> Json:
    found: Json = told(daemon, "batch", batch)["counts"]
    return found


def calls(server: Served) -> int:
    return int(server.meter()["by_route"].get("generate", 0))


# -- the school office ---------------------------------------------------------------------------------------------------

TERM = "高一物理"
LESSONS = ["week 2/第一课 力.mp4", "week 2/第二课 运动.mp4", "week 2/第十课 能量.mp4", "week 10/热.mp4"]


def test_a_school_office_gets_a_term_of_plans_of_one_form_over_failures_and_a_reboot(
    gemini: Daemon, server: Served, sample: Path
) -> None:
    gemini.configure("workers: {max: 1}\nretry: {max_retries: 0}\n")
    term = gemini.home / "inbox" / TERM
    term.mkdir()
    (term / "gsvrd.yaml").write_text("template: study_notes\n")
    gemini.start()

    # The share is being written to: what is whole is taken, what is not is left alone.
    (term / "week 2").mkdir()
    with (term / LESSONS[1]).open("wb") as writer:
        data = sample.read_bytes() + LESSONS[1].encode()
        writer.write(data[: len(data) // 2])
        writer.flush()
        video(sample, term, LESSONS[0])
        eventually(lambda: gemini.counts()["completed"] == 1, 60)
        assert told(gemini, "why", f"{TERM}/{LESSONS[1]}")["file"]["code"] == "writing"
        first = gemini.home / "reports" / TERM / "week 2" / "第一课 力.md"
        before = (first.read_bytes(), first.stat().st_mtime_ns, calls(server))
        writer.write(data[len(data) // 2 :])

        # The machine goes down with one done and one begun.
        gemini.kill()
    gemini.start()
    eventually(lambda: counts(gemini, TERM)["completed"] == 2, 60)
    assert (first.read_bytes(), first.stat().st_mtime_ns, calls(server)) == (*before[:2], before[2] + 1)

    # Some fail, and the office sees how far it is.
    server.script(faults=[{"kind": "text", "text": "I cannot.", "calls": None}])
    for name in LESSONS[2:]:
        video(sample, term, name)
    eventually(lambda: counts(gemini, TERM)["failed"] == 2, 60)
    assert "2 completed · 2 failed" in gemini.ctl("batch", TERM).stdout
    server.script(clear=True)
    assert len(told(gemini, "retry", "--failed")["results"]) == 2
    eventually(lambda: counts(gemini, TERM) == {**dict.fromkeys(counts(gemini, TERM), 0), "completed": 4}, 60)

    reports = gemini.home / "reports" / TERM
    plans = [reports / Path(name).with_suffix(".md") for name in LESSONS]
    assert all('template: "study_notes"' in plan.read_text() for plan in plans)

    def lessons() -> list[str]:
        path = reports / "_summary.json"
        found: Json = json.loads(path.read_bytes()) if path.exists() else {"lessons": [], "completed": 0}
        return [lesson["video"] for lesson in found["lessons"]] if found["completed"] == 4 else []

    assert eventually(lessons, 60) == [f"{TERM}/{name}" for name in LESSONS]
    eventually(lambda: gemini.files("archive") == sorted(f"{TERM}/{name}" for name in LESSONS))
    assert gemini.files("failed") == []
    assert gemini.stop() == 0


# -- the researcher ------------------------------------------------------------------------------------------------------


TALK = "aqz-KE-bpKQ"


def test_a_researcher_has_the_good_rows_of_a_table_done_and_is_told_of_the_bad_ones(
    gemini: Daemon, server: Served, sample: Path, tmp_path_factory: Any
) -> None:
    corpus = tmp_path_factory.mktemp("corpus")
    gemini.configure(f"intake: {{roots: ['{corpus}']}}\n")
    for name in ("interviews/one.mp4", "interviews/two.mp4"):
        video(sample, corpus, name)
    table = [
        "path,template,output_name,# coder",
        f"{corpus}/interviews/one.mp4,study_notes,one-coded,Ada",
        f"{corpus}/interviews/two.mp4,summary_report,two-coded,Ada",
        f"{corpus}/interviews/two.mp4,study_notes,again,Ada",
        "/etc/passwd.mp4,study_notes,,",
        f"{corpus}/interviews/lost.mp4,study_notes,,",
        "draft.mp4,sonnet,,",
        "pilot.mp4,study_notes,pilot-coded,Bo",
        f"https://youtu.be/{TALK},summary_report,talk-coded,Bo",
    ]
    server.script(rules={"default_duration_s": 81.4, "youtube": {TALK: 600.0}})
    (gemini.home / "inbox" / "corpus.csv").write_text("\n".join(table) + "\n")
    gemini.start()
    eventually(lambda: (gemini.home / "archive" / "corpus.csv").exists(), 60)
    awaited = gemini.ctl("why", "pilot.mp4")
    assert (awaited.returncode, "corpus.csv" in awaited.stdout) == (0, True)
    video(sample, gemini.home / "inbox", "pilot.mp4")
    eventually(lambda: counts(gemini, "corpus")["completed"] == 4, 60)

    wrong = (gemini.home / "inbox" / "corpus.csv.errors.txt").read_text().splitlines()
    assert [line.split(":")[:2] for line in wrong] == [["corpus.csv", str(number)] for number in (4, 5, 6, 7)]
    forms = {path.name: path.read_text() for path in (gemini.home / "reports").glob("*-coded.md")}
    assert sorted(forms) == ["one-coded.md", "pilot-coded.md", "talk-coded.md", "two-coded.md"]
    assert all('template: "summary_report"' in forms[name] for name in ("two-coded.md", "talk-coded.md"))
    assert all('template: "study_notes"' in forms[name] for name in ("one-coded.md", "pilot-coded.md"))
    assert sorted(path.name for path in (corpus / "interviews").iterdir()) == ["one.mp4", "two.mp4"]
    options = told(gemini, "why", "pilot.mp4")["task"]["options"]
    assert {option["name"]: option["origin"] for option in options}["template"] == "corpus.csv:8"
    assert (calls(server), server.meter()["by_route"]["upload.start"]) == (4, 3)  # the link is not fetched


# -- the creator ---------------------------------------------------------------------------------------------------------


def test_a_creator_sees_the_price_first_never_pays_more_than_the_limit_and_nothing_twice(
    gemini: Daemon, server: Served, sample: Path
) -> None:
    inbox, reports = gemini.home / "inbox", gemini.home / "reports"
    names = ["knitting/1.mp4", "knitting/2.mp4"]
    for name in names:
        video(sample, inbox, name)
    (inbox / "knitting" / "gsvrd.yaml").write_text("dry_run: true\n")

    # What would it cost? Nothing is made, sent or moved for the answer, also when it is dropped.
    planned = told(gemini, "plan")
    assert [(one["name"], one["verdict"]) for one in planned["videos"]] == [(name, "held") for name in names]
    most = max(one["cost_most_micro"] for one in planned["videos"])
    assert not reports.exists()
    limit = (most + 1) / 1e6  # the first one may be begun; with its price paid the second may not
    gemini.environ["GSVRD_ANALYZER__GEMINI__COST_LIMIT_TOTAL"] = f"{limit:.6f}"
    gemini.environ["GSVRD_BATCH__SKIP_EXISTING"] = "true"
    gemini.start()
    eventually(lambda: gemini.counts()["pending"] == 2, 30)
    assert "dry run" in told(gemini, "batch", "knitting")["hold"]
    assert server.meter()["by_route"].get("generate", 0) == 0

    # Yes, do it: it stops before the limit is passed, and says so.
    told(gemini, "batch", "knitting", "resume")
    eventually(lambda: counts(gemini, "knitting")["completed"] == 1, 60)
    eventually(lambda: "cost limit" in gemini.status()["reason"], 60)
    assert (calls(server), counts(gemini, "knitting")["pending"]) == (1, 1)
    assert 0 < server.meter()["usd"] <= limit
    assert gemini.stop() == 0

    # With more money the rest is done, and only the rest.
    gemini.environ["GSVRD_ANALYZER__GEMINI__COST_LIMIT_TOTAL"] = f"{10 * limit:.6f}"
    gemini.start()
    eventually(lambda: counts(gemini, "knitting")["completed"] == 2, 60)
    assert calls(server) == 2

    # The same video once more, under another name: no call, no second report.
    plans = sorted(path.name for path in (reports / "knitting").glob("[0-9]*.md"))
    (inbox / "the same.mp4").write_bytes(sample.read_bytes() + names[0].encode())
    eventually(lambda: gemini.counts()["completed"] == 3, 60)
    assert calls(server) == 2
    assert sorted(path.name for path in reports.rglob("*.md") if path.name[0] != "_") == plans == ["1.md", "2.md"]
    spent = told(gemini, "spend")["total"][0]
    assert (spent["settled"], spent["reserved"]) == (round(server.meter()["usd"] * 1e6), 0)


# -- the training department ---------------------------------------------------------------------------------------------

SECRET = base64.b64encode(bytes(range(32))).decode()


def is_signed(got: Got) -> bool:
    """As a receiver checks it that has read the documentation only."""
    message = f"{got.id}.{got.headers['webhook-timestamp']}.".encode() + got.body
    right = hmac.new(base64.b64decode(SECRET), message, hashlib.sha256).digest()
    return got.headers["webhook-signature"] == f"v1,{base64.b64encode(right).decode()}"


def test_a_training_department_is_told_in_order_finds_plans_by_category_and_can_prove_what_happened(
    daemon: Daemon, sample: Path
) -> None:
    inbox = daemon.home / "inbox"
    with Receiver() as receiver:
        (daemon.home / "secret").write_text(f"whsec_{SECRET}\n")
        daemon.configure(
            f"batch: {{webhook_url: '{receiver.url()}'}}\nwebhook: {{secret_file: secret, allow: [127.0.0.1]}}\n"
        )
        for category in ("safety", "sales"):
            (inbox / category).mkdir()
            (inbox / category / "gsvrd.yaml").write_text(
                f"output_dir: library/{category}\noutput_pattern: '{{batch}}-{{stem}}.md'\n"
            )
        video(sample, inbox, "safety/fire.mp4")
        video(sample, inbox, "sales/pitch.mp4")
        (inbox / "safety" / "torn.mp4").write_bytes(b"no video")
        daemon.start()
        eventually(lambda: Counter(event["type"] for event in events(receiver))["batch.completed"] == 2, 60)
    assert all(is_signed(got) for got in receiver.got)
    assert len(set(receiver.ids)) == len({got.body for got in receiver.got})

    # In the order in which it happened, for each batch.
    for category in ("safety", "sales"):
        number = told(daemon, "batch", category)["number"]
        mine = [event for event in events(receiver) if event["data"]["batch"] == number]
        ended = ends(daemon, number)
        assert [event["data"]["name"] for event in mine if event["type"].startswith("task.")] == ended
        assert mine[-1]["type"] == "batch.completed"

    library = daemon.home / "reports" / "library"
    assert sorted(path.name for path in library.rglob("*.md")) == ["safety-fire.md", "sales-pitch.md"]

    # The audit: each video's history from the copy to the report, or to the reason why there is none.
    done, torn = told(daemon, "why", "safety/fire.mp4")["task"], told(daemon, "why", "torn.mp4")["task"]
    assert [entry["what"] for entry in done["timeline"] if entry["what"] != "waited"] == [
        "written",
        "queued",
        "attempt",
    ]
    assert done["where"]["report"] == {"path": str(library / "safety" / "safety-fire.md"), "exists": True}
    assert {option["name"]: option["origin"] for option in done["options"]}["output_dir"] == "safety/gsvrd.yaml"
    assert len(done["sha256"]) == 64
    assert torn["timeline"][-1]["cause"]["kind"] == "not_video"
    assert json.loads(Path(torn["where"]["failure_record"]).read_bytes())["what"]
    status = daemon.status()
    assert (status["counts"]["completed"], status["counts"]["failed"]) == (2, 1)
    assert [error["name"] for error in status["last_errors"]] == ["safety/torn.mp4"]
    assert told(daemon, "webhooks")["dead"] == told(daemon, "webhooks")["pending"] == 0


def events(receiver: Receiver) -> list[Json]:
    return [json.loads(got.body) for got in list(receiver.got)]


def ends(daemon: Daemon, batch: int) -> list[str]:
    """The videos of a batch in the order in which they ended, as the daemon's books have it."""
    sql = """
    SELECT t.name FROM events e JOIN tasks t ON t.id = e.task
    WHERE t.batch = ? AND e.change IN ('complete', 'fail', 'refuse') ORDER BY e.id
    """
    with closing(sqlite3.connect(daemon.home / "state" / "gsvrd.db")) as conn:
        return [row[0] for row in conn.execute(sql, (batch,))]
