"""`gsvrctl submit`: videos, folders, links and manifests become one manifest in the inbox. Works with the daemon down.

Everything is checked before anything is written; the daemon does the rest. `submitting` finds out what is meant and what is
wrong with it, `posting` writes. Both are imported only when the command runs.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from gsvrd.cli.common import edge, fail

if TYPE_CHECKING:
    from pathlib import Path

    from gsvrd.cli.submitting import Submission
    from gsvrd.config.models import Config

SCHEMA = 1

_SHORT = ("template", "language", "priority", "parallel", "cost_limit", "output_dir", "output_pattern")


@click.command()
@click.argument("sources", metavar="FILE|DIR|URL...", nargs=-1, required=True)
@click.option("--name", metavar="BATCH", help="Name of the batch; else that of the only source, or the time.")
@click.option("--template", help="The template of the reports.")
@click.option("--language", help="The language of the reports.")
@click.option("--priority", help="Points added to the priority: a lower figure comes first.")
@click.option("--parallel", help="The most videos of the batch that are studied at a time.")
@click.option("--cost-limit", metavar="USD", help="The most to spend on the batch.")
@click.option("--output-dir", metavar="DIR", help="A folder below the reports directory.")
@click.option("--output-pattern", metavar="PATTERN", help="The names of the reports below that.")
@click.option("--force", is_flag=True, help="Study anew what was studied before, and pay for it again.")
@click.option("--option", "options", metavar="KEY=VALUE", multiple=True, help="Any option of docs/batches.md.")
@click.option("--copy", is_flag=True, help="Copy what lies outside the inbox into it, into a folder of the batch.")
@click.option("--dry-run", is_flag=True, help="Say what would be submitted, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; the fields are in docs/batches.md.")
@click.pass_context
@edge
def submit(
    context: click.Context,
    /,
    sources: tuple[str, ...],
    name: str | None,
    force: bool,
    options: tuple[str, ...],
    copy: bool,
    dry_run: bool,
    as_json: bool,
    **short: str | None,
) -> None:
    """Hand videos to the daemon as a batch: files, all videos below a folder, http links, or the rows of a manifest.

    What is said here goes before what a manifest says. Nothing is submitted unless all of it is right. Exit codes: 0 done,
    64 a wrong option or link, 66 a source that is missing, unreadable or not allowed, 73 the inbox cannot be written.
    """
    from gsvrd.cli.posting import check
    from gsvrd.cli.submitting import Asked, gather
    from gsvrd.config.load import load

    place = context.obj
    config = load(place.places.home, context.find_root().params["config_file"], os.environ)
    said = [(f"--{key.replace('_', '-')}", key, short[key]) for key in _SHORT]
    said += [("--force", "force", "true")] if force else []
    for option in options:
        key, sign, value = option.partition("=")
        if not sign:
            raise click.UsageError(f"--option {option}: write it as KEY=VALUE")
        said.append((f"--option {key}", key, value))
    submission = gather(Asked(sources, name, tuple(said), copy), config)
    if not submission.wrong:
        submission.wrong = [(os.EX_USAGE, problem) for problem in check(submission, config)]
    manifest = None
    if not submission.wrong and not dry_run:
        manifest = _post(submission, config, place.places.state / "doorbell")
    facts = _facts(submission, dry_run, manifest, place.lock)
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False, indent=2))
    else:
        _say(facts, submission)
    sys.exit(submission.exit_code)


def _post(submission: Submission, config: Config, doorbell: Path) -> str:
    from gsvrd.cli.posting import post
    from gsvrd.daemon.signals import ring

    if not config.inbox.is_dir():
        fail(f"there is no inbox {config.inbox}", "Name the home with --home or GSVRD_HOME.", os.EX_NOINPUT)
    try:
        manifest = post(submission, config.inbox)
    except OSError as error:
        name = error.filename if isinstance(error.filename, str) else os.fsdecode(error.filename or b"")
        what = f"{config.inbox} could not be written: {error.strerror}{f' ({name})' if name else ''}"
        fail(what, "Nothing was submitted.", os.EX_CANTCREAT)
        raise AssertionError from None
    ring(doorbell)
    return str(manifest)


def _facts(submission: Submission, dry_run: bool, manifest: str | None, lock: Path) -> dict[str, Any]:
    from gsvrd.daemon.service import holder

    problems = [problem for _, problem in submission.wrong]
    return {
        "schema": SCHEMA,
        "action": "submit",
        "dry_run": dry_run,
        "pid": holder(lock),
        "batch": submission.name,
        "manifest": manifest,
        "videos": [one.shown for one in submission.videos] if not problems else [],
        "problems": [
            {"source": problem.place.source, "line": problem.place.line or None, "message": problem.what}
            for problem in problems
        ],
    }


def _say(facts: dict[str, Any], submission: Submission) -> None:
    if submission.wrong:
        count = len(submission.wrong)
        title = "there is a problem" if count == 1 else f"there are {count} problems"
        click.echo(f"{click.style('error:', fg='red', bold=True)} nothing was submitted; {title}:", err=True)
        for _, problem in submission.wrong:
            click.echo(f"  {problem}", err=True)
        for hint in submission.hints:
            click.echo(f"  {hint}", err=True)
        return
    videos = facts["videos"]
    what = f"{len(videos)} {'video' if len(videos) == 1 else 'videos'} as the batch {facts['batch']!r}"
    if facts["dry_run"]:
        click.echo(f"Would submit {what}:")
        for video in videos:
            click.echo(f"  {video}")
        return
    click.echo(f"Submitted {what}.")
    if facts["pid"] is None:
        click.echo("The daemon does not run; it takes them at its next start.")
