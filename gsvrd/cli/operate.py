"""The commands about single tasks: `gsvrctl why`, `retry` and `cancel`. All work with the daemon down.

Rows are changed by `store.operating`; a running daemon is then told by its doorbell, and without one nothing else is
needed. The data that `--json` prints is made here and in `why`; `telling` has the words.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from gsvrd.cli.common import edge, fail, json_option
from gsvrd.errors import ErrorKind
from gsvrd.model import TaskState

if TYPE_CHECKING:
    from gsvrd.store.operating import Answer, Operator

SCHEMA = 1
EXIT_SOME = 1
"""Some of what was asked could not be done."""

dry_option = click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
_KINDS = [kind.value for kind in ErrorKind]


@click.command()
@click.argument("task_or_file")
@json_option
@click.pass_context
@edge
def why(context: click.Context, task_or_file: str, as_json: bool) -> None:
    """Tell the story of one video: what happened to it, what it waits for, where its files are, what it cost.

    TASK_OR_FILE is a task's number, or a file: absolute, relative to here or to the inbox, or the end of its name.
    For a file that has no task it says why not.
    """
    from gsvrd.cli.why import why as look

    place = context.obj
    facts = look(task_or_file, place.places, place.database, place.lock, context.find_root().params["config_file"])
    error = facts["error"]
    if error and not as_json:
        fail(error["message"], error["hint"], os.EX_NOINPUT)
    _print(facts, as_json, "why")
    sys.exit(os.EX_NOINPUT if error else os.EX_OK)


@click.command()
@click.argument("tasks", metavar="TASK...", nargs=-1, required=True)
@dry_option
@json_option
@click.pass_context
@edge
def cancel(context: click.Context, tasks: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Take waiting or running tasks back. Their videos stay where they are and are not queued again.

    TASK is a number, a name, or the end of a name from a / on. Exit codes: 0 all done, 1 some not, 66 no such task.
    """
    facts = _operate(context, "cancel", dry_run, lambda operator: operator.cancel(tasks))
    _print(facts, as_json, "operated")
    sys.exit(exit_code(facts))


@click.command()
@click.argument("tasks", metavar="[TASK...]", nargs=-1)
@click.option("--failed", is_flag=True, help="All failed tasks that can be tried again.")
@click.option(
    "--kind", type=click.Choice(_KINDS), metavar="KIND", help="With --failed: only those of one kind of error."
)
@dry_option
@json_option
@click.pass_context
@edge
def retry(
    context: click.Context, tasks: tuple[str, ...], failed: bool, kind: str | None, dry_run: bool, as_json: bool
) -> None:
    """Put failed or cancelled tasks back in line, as if they had never been tried.

    TASK is a number, a name, or the end of a name from a / on. Exit codes: 0 all done, 1 some not, 66 no such task.
    """
    if bool(tasks) == failed:
        raise click.UsageError("name the tasks, or give --failed for all that failed")
    if kind is not None and not failed:
        raise click.UsageError("--kind goes with --failed")

    def carry_out(operator: Operator) -> list[Answer]:
        return operator.retry_failed(kind) if failed else operator.retry(tasks)

    facts = _operate(context, "retry", dry_run, carry_out)
    _print(facts, as_json, "operated")
    sys.exit(exit_code(facts, failed=failed))


def _print(facts: dict[str, Any], as_json: bool, view: str) -> None:
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False, indent=2))
        return
    from gsvrd.cli import telling

    getattr(telling, view)(facts)


# -- the data of retry and cancel ------------------------------------------------------------------------------------------


def _operate(
    context: click.Context, action: str, dry_run: bool, carry_out: Callable[[Operator], list[Answer]]
) -> dict[str, Any]:
    from gsvrd.daemon.service import holder
    from gsvrd.daemon.signals import ring
    from gsvrd.store.operating import operator

    place = context.obj
    with operator(place.database, dry_run=dry_run) as open_operator:
        answers = carry_out(open_operator)
    if not dry_run and any(answer.problem is None for answer in answers):
        ring(place.places.state / "doorbell")
    after = TaskState.CANCELLED if action == "cancel" else TaskState.PENDING
    results = [_result(answer, after) for answer in answers]
    return {"schema": SCHEMA, "action": action, "dry_run": dry_run, "pid": holder(place.lock), "results": results}


def exit_code(facts: dict[str, Any], *, failed: bool = False) -> int:
    """0: all done; 66: no such task; 1: some could not. With `failed`, what cannot be retried was not asked for."""
    codes = {result["code"] for result in facts["results"] if not result["done"]}
    if failed:
        codes &= {"busy", "changed"}
    if not codes:
        return os.EX_OK
    return os.EX_NOINPUT if codes == {"unknown"} else EXIT_SOME


def _result(answer: Answer, after: TaskState) -> dict[str, Any]:
    from gsvrd.store.tracing import brief

    task, problem = answer.task, answer.problem
    return {
        "asked": os.fsencode(answer.asked).decode("utf-8", "backslashreplace"),
        "task": task["id"] if task else None,
        "name": task["name"] if task else "",
        "before": task["state"] if task else None,
        "after": after.value if problem is None else None,
        "done": problem is None,
        "code": problem.code if problem else "done",
        "message": problem.message if problem else "",
        "hint": problem.hint if problem else "",
        "matches": [brief(match) for match in answer.matches],
    }
