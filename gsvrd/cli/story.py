"""The way of one task, as data: what happened to it, where its files are, what it cost and what it waits for.

Called by `why`. Everything is read from rows that the daemon and the database's triggers wrote; nothing is guessed but
where a failure record lies, and that is looked up.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gsvrd.cli.wishes import options_of
from gsvrd.config.places import Places
from gsvrd.model import TAKEN_AWAY, Home, TaskState
from gsvrd.policy.links import parse_link
from gsvrd.reports.naming import failure_name
from gsvrd.store.reading import Reading, Row
from gsvrd.store.tracing import Problem, Tracing, retry_problem

SHORT_S = 1.0
"""A wait below this is not worth a line."""
_RECORD_BYTES = 1 << 20
_ENDINGS = ("complete", "fail", "retry", "release", "cancel")


def tell(
    task: Row, tracing: Tracing, daemon: dict[str, Any], places: Places, config_file: Path | None = None
) -> dict[str, Any]:
    """A task (a row as it is) with all that belongs to it. `daemon` is what `status` says of it."""
    reading = Reading(tracing.conn)
    attempts = {attempt["number"]: attempt for attempt in reading.attempts(task["id"])}
    calls, where = tracing.cost(task["id"]), _where(task, places)
    return {
        "id": task["id"],
        "name": task["name"],
        "state": task["state"],
        "size": task["size"],
        "priority": task["priority"],
        "sha256": task["sha256"],
        "attempts_spent": task["spent"],
        "deaths": task["deaths"],
        "created_at": task["created_at"],
        "changed_at": task["changed_at"],
        "now": _now(task, attempts.get(task["attempt"]), tracing, daemon, where),
        "timeline": _timeline(task, reading.events(task["id"]), attempts),
        "batch": tracing.batch(task),
        "options": options_of(task.get("options", "{}"), places.home, config_file),
        "kept_stages": tracing.stages(task["id"]),
        "where": where,
        "cost": {"calls": calls, **{name: sum(call[name] for call in calls) for name in _SUMS}},
    }


_SUMS = ("tokens_in", "tokens_out", "tokens_thoughts", "cost_micro", "reserved_micro")


def shown(path: bytes) -> str:
    r"""A path as text that any output takes; bytes that are no UTF-8 as \xNN."""
    return path.decode("utf-8", "backslashreplace")


# -- what happened ---------------------------------------------------------------------------------------------------------


def _timeline(task: Row, events: list[Row], attempts: dict[int, Row]) -> list[Row]:
    told: list[Row] = [] if task["home"] == Home.LINK else [{"what": "written", "at": task["mtime_ns"] / 1e9}]
    waiting: Row | None = None
    for event in events:
        if waiting is not None:
            told += _wait(waiting, event["at"])
        waiting = event if event["state"] == TaskState.PENDING else None
        told += _happening(task, event, attempts)
    return told


def _wait(since: Row, until: float) -> Iterator[Row]:
    """From when it was put in line until it was taken out of it."""
    seconds = until - since["at"]
    if seconds >= SHORT_S:
        why = since["why"] if since["change"] in ("retry", "release") else ""
        yield {"what": "waited", "at": since["at"], "until": until, "seconds": round(seconds, 1), "why": why}


def _happening(task: Row, event: Row, attempts: dict[int, Row]) -> Iterator[Row]:
    at, by, change = event["at"], event["actor"], event["change"]
    if change == "add":
        yield {"what": "queued", "at": at, "by": by, "why": event["why"]}
    elif change == "refuse":
        yield {"what": "refused", "at": at, "by": by, "why": event["why"]}
    elif change == "requeue":
        yield {"what": "tried_again", "at": at, "by": by, "why": event["why"]}
    elif change == "claim":
        if task["state"] == TaskState.RUNNING and event["attempt"] == task["attempt"]:
            yield _attempt(attempts[event["attempt"]], None)
    elif change in _ENDINGS:
        attempt = attempts.get(event["attempt"])
        if attempt is not None and attempt["ended_at"] == at:
            yield _attempt(attempt, event)
        if change == "cancel":
            yield {"what": "cancelled", "at": at, "by": by, "why": event["why"]}


def _attempt(attempt: Row, end: Row | None) -> Row:
    """An attempt and its end; the cause is what was found out about it, not only how it was sorted."""
    cause = attempt["error"]
    if cause is None and end is not None and end["change"] != "complete":
        cause = {"kind": "", "message": end["why"], "hint": "", "detail": ""}
    until = attempt["ended_at"]
    return {
        "what": "attempt",
        "at": attempt["started_at"],
        "until": until,
        "seconds": round((until or time.time()) - attempt["started_at"], 1),
        "number": attempt["number"],
        "worker": attempt["worker"],
        "stage": attempt["stage"],
        "fraction": attempt["fraction"],
        "outcome": attempt["outcome"],
        "then": end["change"] if end else None,
        "cause": cause,
    }


# -- where things are ------------------------------------------------------------------------------------------------------


def _where(task: Row, places: Places) -> dict[str, Any]:
    path, link = bytes(task["path"]), parse_link(task["url"]).name if task.get("url") else None
    source = {"path": shown(path), "home": task["home"], "exists": task["home"] != Home.GONE and os.path.lexists(path)}
    if task["home"] == Home.LINK:  # there is no file
        source |= {"path": link, "exists": True}
    report = places.directories["reports"] / task["report"] if task["report"] else None
    made = report is not None and task["state"] == TaskState.COMPLETED
    return {
        "source": source,
        "link": link,
        "report": {"path": str(report), "exists": os.path.lexists(report)} if report and made else None,
        "failure_record": _failure_record(task, places),
    }


def _failure_record(task: Row, places: Places) -> str | None:
    """The record beside the failed source, whose name may have got a number."""
    if task["state"] != TaskState.FAILED and task["home"] != Home.FAILED:
        return None
    if task["home"] == Home.LINK:
        placed = bytes(task["path"])
        return os.fsdecode(placed) if placed and os.path.lexists(placed) else None
    folder = places.directories["failed"] / Path(task["name"]).parent
    if task["home"] == Home.FAILED and Path(os.fsdecode(task["path"])).is_relative_to(places.directories["failed"]):
        folder = Path(os.fsdecode(task["path"])).parent
    for number in range(1, 100):
        record = folder / failure_name(Path(task["name"]).name, number)
        if (found := _task_of(record)) is None:
            return None
        if found == str(task["id"]):
            return str(record)
    return None


def _task_of(record: Path) -> str | None:
    """Which task a record is about; None when there is no such file, "" when it does not say."""
    try:
        with record.open("rb") as file:
            return str(json.loads(file.read(_RECORD_BYTES))["task"])
    except OSError:
        return None
    except (ValueError, KeyError, TypeError):
        return ""


# -- how it stands ---------------------------------------------------------------------------------------------------------


def _now(task: Row, attempt: Row | None, tracing: Tracing, daemon: dict[str, Any], where: dict[str, Any]) -> Row:
    """A word for programs, sentences for people, and each thing it waits for."""
    state = TaskState(task["state"])
    before: int | None = None
    waits: list[Row] = []
    retry = retry_problem(task) if state in (TaskState.FAILED, TaskState.CANCELLED) else None
    match state:
        case TaskState.PENDING:
            before = None if task["due_at"] is not None else tracing.before(task)
            waits = [*_own_waits(task, tracing), *_common_waits(daemon)]
            stands = _pending(waits, before, attempt)
        case TaskState.RUNNING:
            stands = _running(attempt, daemon)
        case TaskState.COMPLETED:
            stands = _completed(where["report"])
        case TaskState.FAILED:
            stands = _failed(task, retry)
        case TaskState.CANCELLED:
            stands = _cancelled(task, retry)
    can_retry = state in (TaskState.FAILED, TaskState.CANCELLED) and retry is None
    return {**asdict(stands), "before": before, "waits": waits, "can_retry": can_retry}


def _own_waits(task: Row, tracing: Tracing) -> Iterator[Row]:
    if hold := tracing.hold(task):
        yield _waiting("batch_held", f"its batch is held: {hold}")
    elif task["due_at"] is not None:
        yield {**_waiting("due", task["why"]), "until": task["due_at"]}


def _common_waits(daemon: dict[str, Any]) -> Iterator[Row]:
    """What keeps every task waiting."""
    if daemon["pid"] is None:
        yield _waiting("daemon_down", "the daemon does not run")
        if daemon["pause_wish"]:
            yield _waiting("paused", "the daemon will be paused at its next start")
    elif daemon["state"] in ("paused", "draining"):
        state, reason = daemon["state"], daemon["reason"]
        yield _waiting(state, f"the daemon is {reason if reason.startswith(state) else f'{state}: {reason}'}")
    for door in daemon["doors"].values():
        yield _waiting("door_closed", door["reason"])
    workers = daemon["workers"]
    if daemon["pid"] and workers["busy"] >= workers["up"]:
        are_busy = f"all {workers['up']} workers are busy" if workers["up"] != 1 else "the worker is busy"
        yield _waiting("workers_busy", are_busy if workers["up"] else "no worker is up yet")


def _waiting(code: str, message: str) -> Row:
    return {"code": code, "message": message, "until": None}


def _pending(waits: list[Row], before: int | None, attempt: Row | None) -> Problem:
    place = "" if before is None else "it is the next in line" if before == 0 else f"before it in line: {before}"
    messages = [wait["message"] for wait in waits]
    code = waits[0]["code"] if waits else "in_line"
    hint = _TO_DO.get(code, _NOTHING)
    if code == "due" and attempt and attempt["error"] and attempt["error"]["hint"]:
        hint = f"{hint} Sooner: {attempt['error']['hint']}"  # a limit that can be raised, for instance
    return Problem(code, "; ".join(filter(None, [place, *messages])), hint)


_NOTHING = "Nothing to do: it goes on by itself."
_TO_DO = {
    "daemon_down": "Start the daemon.",
    "paused": "`gsvrctl resume` starts work again.",
    "batch_held": "It goes on when the batch does.",
    "draining": "It goes on at the daemon's next start.",
    "door_closed": "It goes on by itself when that has ended; see `gsvrctl status`.",
}


def _running(attempt: Row | None, daemon: dict[str, Any]) -> Problem:
    if daemon["pid"] is None:
        hint = "It is given back, at no cost of an attempt, when the daemon is started."
        return Problem("abandoned", "the daemon ended while this ran", hint)
    stage = f"{attempt['stage']}, {attempt['fraction']:.0%} done" if attempt and attempt["stage"] else "just begun"
    return Problem("running", f"it is being worked on: {stage}", "Nothing to do. `gsvrctl cancel` would end it.")


def _completed(report: dict[str, Any] | None) -> Problem:
    if report and not report["exists"]:
        hint = "Drop the video again to have another one."
        return Problem("report_gone", "its report was moved or removed by somebody", hint)
    return Problem("completed", "its report is in place", "")


def _failed(task: Row, retry: Problem | None) -> Problem:
    error = json.loads(task["error"]) if task["error"] else {}
    again = f"`gsvrctl retry {task['id']}` tries it again." if retry is None else _no_retry(retry)
    hint = " ".join(filter(None, [error.get("hint", ""), again]))
    return Problem("failed", error.get("message") or task["why"], hint)


def _cancelled(task: Row, retry: Problem | None) -> Problem:
    if task["why"] == TAKEN_AWAY:
        return Problem("gone", f"its file was {TAKEN_AWAY}", "Drop it again if it is still wanted.")
    if task["home"] == Home.GONE:
        return Problem("replaced", task["why"], "What lies in its place is another task, or will be.")
    hint = f"`gsvrctl retry {task['id']}` takes it back into the line." if retry is None else _no_retry(retry)
    return Problem("cancelled", task["why"], hint)


def _no_retry(problem: Problem) -> str:
    return "" if problem.code == "refused" else f"It cannot be retried: {problem.message}. {problem.hint}"
