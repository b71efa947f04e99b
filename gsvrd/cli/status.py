"""What `gsvrctl status` says, as data: the documented, stable JSON of `docs/status.md`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from gsvrd.config.places import Places
from gsvrd.daemon.service import holder
from gsvrd.store.decisions import NOW
from gsvrd.store.reading import Reading

SCHEMA = 1
LAST_ERRORS = 5


def down(places: Places) -> dict[str, Any]:
    """The status where there is no database yet."""
    return {
        "schema": SCHEMA,
        "state": "stopped",
        "reason": f"no daemon has run in {places.home} yet",
        "since": None,
        "last_sign_at": None,
        "pid": None,
        "counts": dict.fromkeys(("pending", "running", "completed", "failed", "cancelled"), 0),
        "workers": _workers({}, [], []),
        "running": [],
        "last_errors": [],
        "machine": None,
        "doors": {},
        "held": [],
        "intake": None,
        "reload": None,
        "restored": None,
        "snapshots": None,
        "progress": None,
        "webhooks": {"pending": 0, "oldest_at": None, "dead": 0, "last_dead": None},
        "pause_wish": False,
        "directories": _directories(places),
        "version": None,
        "analyzer": None,
    }


def status(reading: Reading, places: Places, lock: Path) -> dict[str, Any]:
    """The status now. Works with the daemon down; the lock tells whether it is."""
    pid = holder(lock)
    run = reading.service("run") or {}
    daemon = reading.service("daemon") or {}
    doors = reading.service("doors") or {} if pid else {}
    pids = reading.service("workers") or [] if pid else []
    running = [_running(row) for row in reading.running()] if pid else []
    state, reason = _state(run, doors, pid)
    is_known = pid is not None or run.get("state") == "stopped"
    return {
        "schema": SCHEMA,
        "state": state,
        "reason": reason,
        "since": run.get("since") if is_known else None,  # when it began to run is not when it ended
        "last_sign_at": reading.last_sign(),
        "pid": pid,
        "counts": reading.counts(),
        "workers": _workers(reading.service(NOW) or {}, pids, running),
        "running": running,
        "last_errors": [_error(row) for row in reading.last_errors(LAST_ERRORS)],
        "machine": reading.service("machine") if pid else None,
        "doors": doors,
        "held": reading.held(),
        "intake": reading.service("intake") if pid else None,
        "reload": reading.service("reload"),
        "restored": reading.service("restored"),
        "snapshots": reading.service("snapshots") if pid else None,
        "progress": _progress(reading.service("progress")) if pid else None,
        "webhooks": reading.webhooks(),
        "pause_wish": bool((reading.service("pause") or {}).get("paused")),
        "directories": daemon.get("directories") or _directories(places),
        "version": daemon.get("version"),
        "analyzer": daemon.get("analyzer"),
    }


def _state(run: dict[str, Any], doors: dict[str, Any], pid: int | None) -> tuple[str, str]:
    if pid is None:
        if run.get("state") == "stopped":
            return "stopped", run.get("reason", "")
        return "stopped", "the daemon ended without a word (killed, or the machine went down)"
    if doors and run.get("state") == "running":
        return "blocked", "; ".join(door["reason"] for door in doors.values())
    return run.get("state", "running"), run.get("reason", "")


def _workers(now: dict[str, Any], pids: list[int], running: list[dict[str, Any]]) -> dict[str, Any]:
    """How many there are and should be; `now` is what the daemon says of it, and `gsvrctl explain workers` tells more."""
    return {
        "up": len(pids),
        "busy": len({row["worker"] for row in running}),
        "pids": pids,
        **{name: now.get(name) for name in ("target", "hand", "min", "max", "cap", "note")},
    }


def _progress(row: dict[str, Any] | None) -> dict[str, Any] | None:
    return row and {name: row[name] for name in ("at", "overall", "batches", "notes")}


def _running(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "task": row["task"],
        "name": row["name"],
        "attempt": row["attempt"],
        "worker": row["worker"],
        "stage": row["stage"],
        "fraction": row["fraction"],
        "seconds": round(max(0.0, time.time() - row["started_at"]), 1),
    }


def _error(row: dict[str, Any]) -> dict[str, Any]:
    error = row["error"] or {}
    return {
        "task": row["task"],
        "name": row["name"],
        "at": row["at"],
        "kind": error.get("kind", "unknown"),
        "message": error.get("message", ""),
        "hint": error.get("hint", ""),
    }


def _directories(places: Places) -> dict[str, str]:
    return {name: str(path) for name, path in places.directories.items()}
