"""The metrics there are: one table, from which the page is made and against which docs, dashboard and alerts are tested.

Labels have few values, all ours: states, transitions, outcomes, stages, doors, directories, models. Never a file, a title or
a batch: their number has no bound, and their words are somebody else's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. Counters begin anew with the daemon unless their help says otherwise."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


def _gauge(name: str, help_text: str, *labels: str) -> Family:
    return Family(f"gsvrd_{name}", "gauge", help_text, labels)


def _counter(name: str, help_text: str, *labels: str) -> Family:
    return Family(f"gsvrd_{name}", "counter", help_text, labels)


def _histogram(name: str, help_text: str, *labels: str) -> Family:
    return Family(f"gsvrd_{name}", "histogram", help_text, labels)


FAMILIES = (
    _gauge("build_info", "Always 1; says which daemon this is.", "version", "analyzer"),
    _gauge("start_time_seconds", "When the daemon began, seconds since 1970."),
    _gauge("state", "1 for the state the daemon is in, 0 for the others.", "state"),
    _gauge("door_closed", "1 for each thing that keeps new work from starting; gsvrctl status says why.", "door"),
    _gauge("tasks", "Videos by state.", "state"),
    _gauge(
        "tasks_pending", "Pending videos by what they wait for: a worker, a time, or their held batch.", "waits_for"
    ),
    _gauge("queue_age_seconds", "How long the first in line has waited since it came; 0 when none waits for a worker."),
    _gauge("batches_held", "Batches of which nothing starts."),
    _counter("transitions_total", "Changes of state of videos, by name.", "change"),
    _histogram("attempt_duration_seconds", "How long attempts took, by how they ended.", "outcome"),
    _histogram("stage_duration_seconds", "How long the stages of attempts took.", "stage"),
    _gauge("workers", "Worker processes there are."),
    _gauge("workers_busy", "Worker processes that have a video in hand."),
    _gauge("workers_target", "Worker processes there are to be."),
    _gauge("workers_cap", "1 for what binds the number of workers; gsvrctl explain workers says more.", "cap"),
    _counter("api_requests_total", "Calls to the service since the database was made.", "model"),
    _counter("api_tokens_total", "Tokens that the service counted, since the database was made.", "model"),
    _gauge("api_requests_left_minute", "Calls that may still start in this minute.", "model"),
    _gauge("api_tokens_left_minute", "Input tokens that calls may still have in this minute.", "model"),
    _gauge("api_requests_left_today", "Calls that may still start in the service's day.", "model"),
    _counter("cost_dollars_total", "Money spent since the database was made, US dollars.", "model"),
    _gauge("cost_today_dollars", "Money spent in the service's day, US dollars."),
    _gauge("cost_reserved_dollars", "Money reserved for calls under way, US dollars."),
    _gauge("cost_limit_dollars", "What may be spent; absent where there is no limit.", "per"),
    _counter("watcher_overflows_total", "How often events of the inbox were lost; a scan makes up for it."),
    _gauge("watcher_polling", "1 while the inbox is polled, 0 while events tell of it."),
    _gauge("webhooks", "Messages to webhooks that wait or were given up.", "state"),
    _gauge("snapshot_failed", "1 while the last snapshot of the database did not succeed."),
    _gauge("loop_lag_seconds", "How long something that is due has waited for the loop."),
    _histogram("loop_turn_seconds", "How long the loop was at work between two waits."),
    _gauge("disk_free_bytes", "Bytes that the daemon may still write where a directory lies.", "directory"),
    _gauge("disk_size_bytes", "Bytes of the file system on which a directory lies.", "directory"),
    _gauge("database_readable", "0 when the database could not be read for this page: much is missing from it then."),
)
