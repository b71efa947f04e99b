from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.house import House

from gsvrd.cli import judging, lengths
from gsvrd.cli.gsvrctl import main
from gsvrd.cli.weighing import Scales
from gsvrd.config.load import load
from gsvrd.policy.limiter import Call, Lane
from gsvrd.policy.spending import Usage
from gsvrd.store.foresight import Foresight

SAMPLE = (Path(__file__).parents[2] / "media" / "samples" / "lecture-en.mp4").read_bytes()
MODEL = "gemini-3.8-flash"
SECONDS = 81.4


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("GSVRD_", "GEMINI_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GSVRD_ANALYZER", "gemini")


def drop(house: House, name: str, more: bytes = b"") -> Path:
    """A video of 81 seconds; `more` makes its content another one."""
    path = house.config.inbox / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(SAMPLE + more)
    os.utime(path, (1000, 1000 + len(name)))
    return path


def configure(house: House, text: str) -> None:
    (house.config.home / "config").mkdir(exist_ok=True)
    (house.config.home / "config" / "gsvrd.yaml").write_text(text)


def plan(house: House, *words: str) -> dict[str, Any]:
    done = CliRunner().invoke(main, ["--home", str(house.config.home), "plan", *words, "--json"])
    assert done.stdout, done.stderr or done.exception
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def videos(facts: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in facts["videos"]}


def codes(facts: dict[str, Any]) -> dict[str, str]:
    return {name: one["code"] for name, one in videos(facts).items()}


def remember(house: House, content: bytes, *, report: str | None = "old.md", options: str = "{}") -> None:
    """As after an earlier day: this content was studied, and there is a report."""
    task = house.add("report:x.md", "earlier.mp4")
    house.db.execute(
        "UPDATE tasks SET state = 'completed', home = 'archive', report = ?, size = ? WHERE id = ?",
        (report, len(content), task),
    )
    config = load(house.config.home, None, os.environ)
    scales = Scales(config, Foresight(house.db), 0.0)
    template = scales.template(options)
    assert template is not None
    key = scales.key(hashlib.sha256(content).hexdigest(), template, options)
    house.db.execute("INSERT INTO analyses VALUES (?, ?, 0.0, x'7b7d')", (key, task))
    house.db.commit()
    (house.config.inbox / "earlier.mp4").unlink()


def spent(house: House, tokens_out: int, *, cost_micro: int = 1000, batch: int | None = None) -> None:
    permit = house.permits.ledger.reserve(Call(1, 1, Lane.GENERATE, "default", MODEL, 10), 10, batch)
    house.permits.ledger.sent(permit)
    house.permits.ledger.settle(permit, "ok", Usage(10, tokens_out, 0), cost_micro)
    house.queue.commit()


# -- what would be done --------------------------------------------------------------------------------------------------


def test_the_nearest_options_win_and_manifests_speak_for_their_videos(house: House) -> None:
    for name in ("physics/1.mp4", "physics/2.mp4", "loose.mp4"):
        drop(house, name, name.encode())
    (house.config.inbox / "gsvrd.yaml").write_text("language: fr\n")
    (house.config.inbox / "physics" / "gsvrd.yaml").write_text("language: zh\npriority: 7\n")
    (house.config.inbox / "term.csv").write_text("path,template,language\nphysics/2.mp4,study_notes,pt\nno.mp4,nice,\n")
    found = videos(plan(house))
    assert (found["loose.mp4"]["language"], found["loose.mp4"]["batch"]) == ("fr", "")
    assert (found["physics/1.mp4"]["language"], found["physics/1.mp4"]["batch"]) == ("zh", "physics")
    second = found["physics/2.mp4"]
    assert (second["language"], second["template"], second["batch"]) == ("pt", "study_notes", "term")
    assert list(found)[-3:] == ["loose.mp4", "physics/1.mp4", "physics/2.mp4"]
    assert "term.csv" not in found


def test_wrong_options_hold_a_folder_and_a_wrong_template_stops_nothing_else(house: House) -> None:
    for name in ("a/1.mp4", "b/1.mp4", "c.mp4"):
        drop(house, name, name.encode())
    (house.config.inbox / "a" / "gsvrd.yaml").write_text("priority: soon\n")
    (house.config.inbox / "term.csv").write_text("path,template\nb/1.mp4,nothing\n")
    found = videos(plan(house))
    assert (found["a/1.mp4"]["verdict"], "priority" in found["a/1.mp4"]["held"]) == ("held", True)
    assert found["b/1.mp4"]["code"] == "no_template"
    assert found["c.mp4"]["verdict"] == "done"


def test_what_has_a_task_is_told_once_and_what_is_held_is_not_done(house: House) -> None:
    drop(house, "waits.mp4", b"1")
    drop(house, "held/1.mp4", b"2")
    house.add_known("waits.mp4")
    held = house.add_known("held/1.mp4")
    house.queue.add_batch(1, "held", "folder")
    house.queue.commit()
    house.db.execute("UPDATE tasks SET batch = 1 WHERE id = ?", (held,))
    house.db.commit()
    house.queue.hold_batch(1, "paused by gsvrctl")
    house.queue.commit()
    facts = plan(house)
    found = videos(facts)
    assert {name: one["verdict"] for name, one in found.items()} == {"waits.mp4": "done", "held/1.mp4": "held"}
    assert "paused by gsvrctl" in found["held/1.mp4"]["held"]
    assert (facts["totals"]["done"]["videos"], facts["totals"]["held"]["videos"]) == (1, 1)
    asked = plan(house, str(house.config.inbox / "waits.mp4"))
    assert [one["code"] for one in asked["videos"] if one["source"] == "asked"] == ["has_task"]


def test_a_dry_run_is_weighed_as_if_it_were_none_and_is_not_in_the_sum_of_what_is_done(house: House) -> None:
    drop(house, "dry/1.mp4", b"1")
    drop(house, "dry/2.mp4", b"1")
    drop(house, "real/1.mp4", b"2")
    (house.config.inbox / "dry" / "gsvrd.yaml").write_text("dry_run: true\n")
    totals = plan(house)["totals"]
    assert (totals["held"]["videos"], totals["held"]["calls"], totals["done"]["calls"]) == (2, 1, 1)
    assert totals["held"]["cost_micro"] == totals["done"]["cost_micro"] > 0
    shown = CliRunner().invoke(main, ["--home", str(house.config.home), "plan"]).stdout
    assert "2 of dry: dry run" in shown
    assert "2 held (" in shown


def test_limits_of_size_and_length_are_known_before(house: House) -> None:
    configure(house, f"limits: {{max_duration: 1m, max_file_size: {len(SAMPLE) + 10}}}\n")
    drop(house, "long.mp4")
    drop(house, "large.mp4", b"x" * 20)
    assert codes(plan(house)) == {"long.mp4": "too_long", "large.mp4": "too_large"}


# -- the same content ----------------------------------------------------------------------------------------------------


def test_of_two_files_of_one_content_only_one_is_paid_for(house: House) -> None:
    drop(house, "1.mp4")
    drop(house, "2.mp4")
    drop(house, "3.mp4", b"x")
    facts = plan(house)
    assert codes(facts) == {"1.mp4": "study", "2.mp4": "known", "3.mp4": "study"}
    assert facts["totals"]["done"]["calls"] == 2
    configure(house, "batch: {skip_existing: true}\n")
    assert codes(plan(house)) == {"1.mp4": "study", "2.mp4": "same_content", "3.mp4": "study"}


def test_content_that_is_known_costs_nothing_and_with_skip_existing_gets_no_second_report(house: House) -> None:
    remember(house, SAMPLE)
    drop(house, "again.mp4")
    (known,) = plan(house)["videos"]
    assert (known["code"], known["calls"], known["cost_micro"]) == ("known", 0, 0)
    configure(house, "batch: {skip_existing: true}\n")
    (skipped,) = plan(house)["videos"]
    assert (skipped["verdict"], skipped["code"], "old.md" in skipped["why"]) == ("skipped", "report_exists", True)


def test_another_template_or_force_asks_anew(house: House) -> None:
    configure(house, "batch: {skip_existing: true}\n")
    remember(house, SAMPLE)
    drop(house, "other/1.mp4")
    drop(house, "forced/1.mp4")
    (house.config.inbox / "other" / "gsvrd.yaml").write_text("template: study_notes\n")
    (house.config.inbox / "forced" / "gsvrd.yaml").write_text("force: true\n")
    assert set(codes(plan(house)).values()) == {"study"}


def test_a_large_file_is_read_only_when_it_runs(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "HASHED_BYTES", 1000)
    remember(house, SAMPLE)
    drop(house, "perhaps.mp4")
    drop(house, "surely not.mp4", b"x")
    facts = plan(house)
    assert codes(facts) == {"perhaps.mp4": "unsure", "surely not.mp4": "study"}
    assert facts["totals"]["done"]["calls"] == 2


# -- what it weighs ------------------------------------------------------------------------------------------------------


def test_tokens_and_cost_follow_the_length_and_the_answers_of_late(house: House) -> None:
    drop(house, "1.mp4")
    first = plan(house)
    (one,) = first["videos"]
    assert abs(one["duration_s"] - SECONDS) < 1
    assert one["tokens_in"] > SECONDS * 102
    assert one["tokens_in"] < SECONDS * 102 * 1.05 + 5000
    assert one["cost_micro"] == one["cost_most_micro"]
    assert first["answers_measured"] is False
    for tokens_out in (1000, 3000):
        spent(house, tokens_out)
    second = plan(house)
    (two,) = second["videos"]
    assert (two["tokens_out"], second["answers_measured"]) == (2000, True)
    assert two["cost_micro"] < two["cost_most_micro"] == one["cost_most_micro"]


def test_a_long_video_is_weighed_in_its_parts(house: House) -> None:
    drop(house, "parts/1.mp4")
    (whole,) = plan(house)["videos"]
    (house.config.inbox / "parts" / "gsvrd.yaml").write_text("max_duration: 1m\n")
    (parts,) = plan(house)["videos"]
    assert (whole["calls"], parts["calls"]) == (1, 2)
    assert parts["tokens_in"] > whole["tokens_in"]


def test_an_unknown_price_is_said_to_be_unknown(house: House) -> None:
    configure(house, "analyzer: {gemini: {model: gemini-unheard-of}}\n")
    drop(house, "1.mp4")
    facts = plan(house)
    assert (facts["videos"][0]["cost_micro"], facts["totals"]["done"]["cost_micro"]) == (None, None)
    assert facts["totals"]["done"]["tokens_in"] > 0


def test_limits_on_cost_that_would_stop_it_are_named(house: House) -> None:
    configure(house, "analyzer: {gemini: {cost_limit_total: 1000, cost_limit_day: 0.01, cost_limit_batch: 0.02}}\n")
    for name in ("a/1.mp4", "b/1.mp4"):
        drop(house, name, name.encode())
    (house.config.inbox / "b" / "gsvrd.yaml").write_text("cost_limit: 100\n")
    limits = {limit["scope"]: limit for limit in plan(house)["limits"]}
    assert set(limits) == {"today", "for the batch a"}
    assert limits["for the batch a"]["limit_micro"] == 20_000
    assert limits["today"]["wanted_micro"] > limits["for the batch a"]["wanted_micro"] > 20_000


def test_more_videos_than_are_measured_are_reckoned_from_their_size(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "MOST_MEASURED", 1)
    drop(house, "1.mp4")
    drop(house, "2.mp4", SAMPLE)
    found = videos(plan(house))
    assert (found["1.mp4"]["measured"], found["2.mp4"]["measured"]) == (True, False)
    assert abs(found["2.mp4"]["duration_s"] - 2 * SECONDS) < 1


# -- when it would end ---------------------------------------------------------------------------------------------------


def attempts(house: House, count: int, seconds: float) -> None:
    """So many videos were done, one after another."""
    for number in range(count):
        task = house.add("report:x.md", f"done-{number}.mp4")
        house.queue.claim(next(one for one in house.queue.waiting() if one.id == task), 1)
        house.queue.commit()
        house.clock.advance(seconds)
        house.queue.complete(task, 1)
        house.queue.commit()
        house.db.execute("UPDATE tasks SET home = 'archive', size = ? WHERE id = ?", (len(SAMPLE), task))
        house.db.commit()
        (house.config.inbox / f"done-{number}.mp4").unlink()


def test_the_end_is_forecast_from_what_was_done(house: House) -> None:
    configure(house, "workers: {max: 1}\n")
    attempts(house, 10, 100.0)
    assert plan(house)["finish"]["remaining_s"] == {"p10": 0.0, "p50": 0.0, "p90": 0.0}
    for number in range(4):
        drop(house, f"{number}.mp4", bytes([number]))
    finish = plan(house)["finish"]
    assert 300 < finish["remaining_s"]["p50"] < 550
    assert (finish["workers"], finish["binding"]["bound"]) == (1, "workers")


def test_what_another_analyzer_took_says_nothing(house: House) -> None:
    attempts(house, 10, 100.0)
    house.queue.set_service("progress", {"kind": "local", "kind_since": 0})
    house.queue.commit()
    drop(house, "1.mp4")
    finish = plan(house)["finish"]
    assert (finish["remaining_s"], finish["binding"]["bound"]) == (None, "unseen")


def test_the_services_day_delays_the_end(house: House) -> None:
    configure(house, "analyzer: {gemini: {requests_per_day: 2}}\n")
    attempts(house, 10, 1.0)
    for number in range(5):
        drop(house, f"{number}.mp4", bytes([number]))
    finish = plan(house)["finish"]
    assert finish["remaining_s"]["p50"] > 86_400
    assert finish["binding"]["bound"] == "quota"


def test_a_backlog_of_thousands_is_forecast_in_groups(house: House) -> None:
    attempts(house, 5, 10.0)
    for number in range(3000):
        values = (b"/gone/%d.mp4" % number, f"{number}.mp4", number + 10_000_000)
        house.db.execute(
            "INSERT INTO tasks (path, name, dev, ino, size, mtime_ns, state, priority, rank, created_at, change, changed_at,"
            " changed_by) VALUES (?, ?, 1, ?, 1000000, 1, 'pending', 50, 1, 1, 'add', 1, 'test')",
            values,
        )
    house.db.commit()
    facts = plan(house)
    assert facts["totals"]["done"]["videos"] == 3000
    assert facts["finish"]["remaining_s"]["p50"] > 1000
    assert facts["totals"]["done"]["unknown"] == 3000


# -- lengths -------------------------------------------------------------------------------------------------------------


def test_lengths_are_told_and_what_is_no_video_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "a\n.mp4").write_bytes(SAMPLE)
    (tmp_path / "b.mp4").write_text("no video at all")
    paths = [os.fsencode(tmp_path / name) for name in ("b.mp4", "gone.mp4", "a\n.mp4")]
    found = lengths.lengths(paths)
    assert found[paths[0]] == lengths.NO_VIDEO
    assert paths[1] not in found
    assert abs(found[paths[2]] - SECONDS) < 1


CHILD = """
import os, signal, sys
for path in sys.stdin.buffer.read().split(b"\\0")[:-1]:
    if path.startswith(b"kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    if path.startswith(b"hang"):
        signal.pause()
    print(float(path.partition(b":")[2]), flush=True)
"""


def test_a_file_that_fells_or_hangs_the_decoder_costs_only_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "child.py").write_text(CHILD)
    monkeypatch.setattr(lengths, "COMMAND", (sys.executable, str(tmp_path / "child.py")))
    monkeypatch.setattr(lengths, "PATIENCE_S", 1.0)
    found = lengths.lengths([b"a:1", b"kill", b"b:2", b"hang", b"c:3"])
    assert found == {b"a:1": 1.0, b"b:2": 2.0, b"c:3": 3.0}
    assert lengths.lengths([]) == {}


def test_links_are_planned_without_a_call_and_weighed_by_the_longest_that_they_may_be(house: House) -> None:
    configure(house, "analyzer: {gemini: {max_duration: 1h}}\n")
    (house.config.inbox / "a.url").write_text("[InternetShortcut]\nURL=https://youtu.be/aqz-KE-bpKQ\n")
    (house.config.inbox / "b.url").write_text("[InternetShortcut]\nURL=ftp://example.org/b.mp4\n")
    (house.config.inbox / "term.txt").write_text("https://example.org/c.mp4?token=sesame\n")
    facts = plan(house)
    assert "sesame" not in json.dumps(facts)
    found = videos(facts)
    tube, fetched = found["a.url"], found["https://example.org/c.mp4?…"]
    assert (tube["verdict"], tube["duration_s"], tube["link"]) == ("done", 3600.0, "https://youtu.be/aqz-KE-bpKQ")
    assert tube["tokens_in"] > 3600 * 100
    assert tube["cost_most_micro"] > 0
    assert (fetched["verdict"], fetched["duration_s"], fetched["tokens_in"]) == ("done", None, None)
    assert "when it is fetched" in fetched["why"]
    assert (found["b.url"]["code"], facts["totals"]["done"]["unknown"]) == ("link", 1)


def test_a_video_of_youtube_is_skipped_where_nobody_can_look_at_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GSVRD_ANALYZER", "local")
    facts = plan(house, "https://youtu.be/aqz-KE-bpKQ")
    (one,) = facts["videos"]
    assert (one["verdict"], one["code"]) == ("skipped", "link")
    assert "cannot look at a video of YouTube" in one["why"]
