"""Reception: what was asked for a video that comes in, by the folders it lies in or by a manifest.

What is slow (syncing videos, reading options and manifests) is done by the filing thread through `incoming`. `Reception`
belongs to the loop: it notes tasks and batches, holds a batch whose options are wrong until they are mended, and remembers
the rows of a manifest whose videos have not arrived yet.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import structlog

from gsvrd.clock import Clock
from gsvrd.config.document import Place, Problem
from gsvrd.config.models import Config
from gsvrd.config.options import FILE, Layer, Options, resolve, to_json
from gsvrd.daemon.batches import FOLDER, MANIFEST, Batches
from gsvrd.daemon.filing import Filing
from gsvrd.daemon.incoming import Listed, Received, layers_of, read, wrong_folder
from gsvrd.daemon.outside import Awaited, Outside
from gsvrd.intake.allowed import Placed
from gsvrd.intake.identity import Candidate, Identity
from gsvrd.intake.manifest import MOST_PROBLEMS
from gsvrd.intake.manifest_errors import write_errors
from gsvrd.intake.moving import Source, move_out
from gsvrd.intake.names import NameRules, printable
from gsvrd.model import NewTask, TaskState, said
from gsvrd.policy.links import Link, parse_link
from gsvrd.policy.spending import COST_LIMIT
from gsvrd.store.queue import TaskQueue

log = structlog.get_logger("gsvrd.reception")

WRONG = "wrong options: "
"""How the reason begins of a batch that is held for its options."""
DRY_RUN = "dry run: `gsvrctl plan` tells what would be done, `gsvrctl batch NAME resume` does it"
LOOK_AGAIN_S = 10.0
ROWS_AT_A_TIME = 500
PUT_AWAY_AGAIN_S = 60.0


@dataclass(slots=True)
class Reception:
    """The loop's side; see the module."""

    config: Config
    queue: TaskQueue
    filing: Filing
    clock: Clock
    batches: Batches
    templates: frozenset[str]
    rules: NameRules
    later: Callable[[float, Callable[[], None]], None]
    moved: Callable[[bytes, Identity], None]
    """Told when a manifest has left the inbox."""
    _expected: dict[bytes, tuple[int, str]] = field(default_factory=dict)
    """Batch and options of videos that a manifest names and that have not come yet; the database has them, too."""
    _wrong: dict[int, bytes] = field(default_factory=dict)
    """Batches held for their options, and the folder of one of their videos."""
    _dear: set[int] = field(default_factory=set)
    """Batches held for their cost limit."""
    _is_looking: bool = False
    _outside: Outside = field(init=False)

    def __post_init__(self) -> None:
        """Who waits for videos that lie outside the inbox."""
        settle_s, remember = self.config.intake.settle, self.queue.set_service
        self._outside = Outside(settle_s, self.filing, self.clock, self.later, self._accept_outside, remember)

    def change(self, config: Config, templates: frozenset[str]) -> None:
        """The configuration was read again."""
        self.config, self.templates = config, templates
        self.rules = NameRules(config.intake.suffixes, config.intake.ignore)
        self.batches.idle_close_s = config.batch.idle_close

    def restore(self) -> None:
        """At start: batches that were held for their options are looked at again."""
        inbox = os.fsencode(self.config.inbox)
        for path, (batch, options) in self.queue.expected().items():
            if path.startswith(inbox + b"/"):
                self._expected[path] = (batch, options)
            else:
                self._outside.expect(Awaited(path, self._root_of(path), batch, options))
        for number, kind, name, hold in self.queue.batches():
            if hold.startswith(WRONG):
                below = os.fsencode(name) if kind == FOLDER else b""
                self._watch(number, os.path.join(inbox, below, b"x"))

    def _root_of(self, path: bytes) -> bytes:
        roots = (os.fsencode(root) for root in self.config.roots)
        return next((root for root in roots if path.startswith(root.rstrip(b"/") + b"/")), os.path.dirname(path))

    def is_manifest(self, candidate: Candidate) -> bool:
        """Whether it is a list of videos."""
        return self.rules.is_manifest(os.path.basename(candidate.path))

    # -- videos ------------------------------------------------------------------------------------------------------

    def accept(self, received: Received) -> None:
        """A video is queued, with what was asked for it."""
        candidate = received.candidate
        new = new_task(candidate.path, candidate.name, candidate.identity, received.link)
        if self.queue.knows(new):  # queued before this start: at most its name is another one
            self.queue.add(new)
            return
        expected = self._expected.pop(candidate.path, None)
        if expected is not None:
            self.queue.expect_no_more(candidate.path)
        batch, asked = expected or (self.batches.of(candidate.name), "{}")
        options = _over(to_json(resolve(received.layers)), asked)
        self.queue.add(new, batch=batch, options=options, points=said(options, "priority", 0))
        self._hold_if_need_be(batch, options, received.problem, candidate.path)
        log.debug("video_accepted", name=candidate.name, batch=batch)

    def _hold_if_need_be(self, batch: int, options: str, problem: str, path: bytes) -> None:
        """For wrong options, or because only a plan was asked for; not when it is held for something else."""
        if problem:
            log.warning("options_refused", problem=problem)
            self.queue.suspend_batch(batch, WRONG + problem, WRONG)
            self._watch(batch, path)
        elif said(options, "dry_run", self.config.batch.dry_run):
            self.queue.suspend_batch(batch, DRY_RUN, DRY_RUN)

    # -- options that are mended -------------------------------------------------------------------------------------

    def _watch(self, batch: int, path: bytes) -> None:
        self._wrong[batch] = path
        self._look_later()

    def watch_cost(self, batch: int) -> None:
        """It is held for its cost limit; its folder may come to say another one."""
        self._dear.add(batch)
        self._look_later()

    def _look_later(self) -> None:
        if (self._wrong or self._dear) and not self._is_looking:
            self._is_looking = True
            self.later(LOOK_AGAIN_S, self._look)

    def _look(self) -> None:
        """One batch after the other; the next look comes when the last of them is heard of."""
        inbox = os.fsencode(self.config.inbox)
        for batch, path in list(self._wrong.items()):
            waiting = [
                (task.id, task.path, task.options)
                for task in self.queue.pending_of(batch)
                if task.path.startswith(inbox + b"/")
            ]
            look = partial(_look_at, waiting, path, self.config, self.templates)
            self.filing.submit(look, partial(self._looked, batch), lambda _: self._looked_all())
        self._look_at_cost(inbox)
        self.filing.submit(lambda: None, lambda _: self._looked_all(), lambda _: self._looked_all())

    def _look_at_cost(self, inbox: bytes) -> None:
        self._dear &= {number for number, _, _, hold in self.queue.batches() if hold.startswith(COST_LIMIT)}
        for batch in self._dear:
            waiting = [task for task in self.queue.pending_of(batch) if task.path.startswith(inbox + b"/")]
            if waiting:
                known = [(task.id, task.path, task.options) for task in waiting]
                look = partial(_look_at, known, b"", self.config, self.templates)
                self.filing.submit(look, partial(self._looked_at_cost, batch, known), lambda _: None)

    def _looked_at_cost(
        self, batch: int, known: list[tuple[int, bytes, str]], found: tuple[list[tuple[int, str]], str]
    ) -> None:
        before = {task: said(options, "cost_limit") for task, _, options in known}
        changed = [(task, options) for task, options in found[0] if said(options, "cost_limit") != before[task]]
        if changed:
            for task, options in changed:
                self.queue.set_options(task, options)
            log.info("cost_limit_changed", batch=batch)
            self.queue.let_go(batch, COST_LIMIT)

    def _looked_all(self) -> None:
        self._is_looking = False
        self._look_later()

    def _looked(self, batch: int, found: tuple[list[tuple[int, str]], str]) -> None:
        mended, problem = found
        if problem:
            self.queue.let_go(batch, WRONG, WRONG + problem)
            return
        self._wrong.pop(batch, None)
        for task, options in mended:
            self.queue.set_options(task, options)
        log.info("options_mended", batch=batch)
        is_plan = any(said(options, "dry_run", self.config.batch.dry_run) for _, options in mended)
        self.queue.let_go(batch, WRONG, DRY_RUN if is_plan else "")

    # -- manifests ---------------------------------------------------------------------------------------------------

    def take_manifest(self, candidate: Candidate) -> None:
        """A manifest has settled in the inbox."""
        self.filing.submit(
            partial(read, candidate, self.config, self.rules, self.templates),
            self._listed,
            partial(self._not_read, candidate),
        )

    def _not_read(self, candidate: Candidate, error: OSError) -> None:
        log.error("manifest_errors_not_written", name=candidate.name, error=str(error))
        self.later(LOOK_AGAIN_S, lambda: self.take_manifest(candidate))

    def _listed(self, listed: Listed | None) -> None:
        if listed is None:
            return
        if not listed.placed:  # nothing of it can be done: the file beside it says why
            self._put_away(listed)
            return
        batch = self.batches.named(MANIFEST, listed.manifest.name)
        if listed.problem:
            self._hold_if_need_be(batch, "{}", listed.problem, listed.candidate.path)
        is_awaited = any(one.located is not None and one.found is None for one in listed.placed)
        gone = self.queue.taken_away(batch) if is_awaited else {}
        self._take_rows(listed, batch, 0, gone, [])

    def _take_rows(
        self, listed: Listed, batch: int, start: int, gone: dict[str, tuple[str, str]], skipped: list[Problem]
    ) -> None:
        """Some at a time: a manifest may have 100,000, and the loop has others to serve."""
        source = listed.candidate.name
        for placed in listed.placed[start : start + ROWS_AT_A_TIME]:
            own = f"{source}:{placed.row.line}"
            layers = (*listed.layers, (source, listed.manifest.options), (own, _row_options(placed)))
            options = to_json(resolve(layers))
            self._hold_if_need_be(batch, options, "", b"")
            if why := self._take_row(placed, batch, options, gone):
                skipped.append(Problem(Place(os.fsdecode(listed.candidate.path), placed.row.line), why))
        if start + ROWS_AT_A_TIME < len(listed.placed):
            self.later(0.0, lambda: self._take_rows(listed, batch, start + ROWS_AT_A_TIME, gone, skipped))
            return
        if skipped:
            log.info("rows_skipped", name=source, rows=len(skipped))
            self._tell_of_skipped(listed, skipped)
        self._put_away(listed)

    def _tell_of_skipped(self, listed: Listed, skipped: list[Problem]) -> None:
        """Beside the manifest, where its author looks."""
        told = sorted([*listed.problems, *skipped[:MOST_PROBLEMS]], key=lambda problem: problem.place.line)
        self.filing.submit(
            partial(write_errors, Path(os.fsdecode(listed.candidate.path)), told),
            lambda _: None,
            lambda error: log.error("manifest_errors_not_written", name=listed.candidate.name, error=str(error)),
        )

    def _put_away(self, listed: Listed) -> None:
        candidate = listed.candidate
        log.info("manifest_read", name=candidate.name, videos=len(listed.placed), problems=len(listed.problems))
        source = Source(candidate.path, os.fsencode(self.config.inbox), candidate.identity)
        self.filing.submit(
            partial(move_out, source, os.fsencode(self.config.archive), with_sidecars=False),
            lambda _: self.moved(candidate.path, candidate.identity),
            lambda error: self._not_put_away(listed, error),
        )

    def _not_put_away(self, listed: Listed, error: OSError) -> None:
        log.warning("manifest_not_moved", name=listed.candidate.name, error=str(error))
        self.later(PUT_AWAY_AGAIN_S, lambda: self._put_away(listed))

    def _take_row(self, placed: Placed, batch: int, options: str, gone: dict[str, tuple[str, str]]) -> str:
        """Queue it, or see to it that it is; returns why it is skipped, or nothing."""
        located, found = placed.located, placed.found
        points = said(options, "priority", 0)
        if located is None:
            new = link_task(parse_link(placed.row.url), options)
            known = self.queue.met_before(batch, new)
            self.queue.add(new, batch=batch, options=options, points=points, elsewhere=True)
            return _skipped(placed, known)
        name = printable(located.path[len(located.root.rstrip(b"/")) + 1 :])
        if located.root == os.fsencode(self.config.inbox):
            if found is None and name in gone:
                return _skipped(placed, gone[name])
            if not self.queue.ask_for(located.path, batch, options, points):
                return f"'{printable(located.path)}' is skipped: it is being studied, or was done before"
            if found is not None and self._waits(found):
                self.queue.expect_no_more(located.path)
            else:
                self._expected[located.path] = (batch, options)  # the intake brings it when it has settled
            return ""
        known = found and self.queue.met_before(batch, new_task(located.path, name, Identity.of(found)))
        if not known:
            self.queue.expect(located.path, batch, options)
            self._outside.expect(Awaited(located.path, located.root, batch, options))
        return _skipped(placed, known)

    def _accept_outside(self, video: Awaited, identity: Identity) -> None:
        """It has settled, where a list has named it, and stays there."""
        new, points = new_task(video.path, video.name, identity), said(video.options, "priority", 0)
        self.queue.add(new, batch=video.batch, options=video.options, points=points, elsewhere=True)
        if not self._outside.awaits(video.path):
            self.queue.expect_no_more(video.path)

    def _waits(self, found: os.stat_result) -> bool:
        """Whether it is queued already: then it has what was asked for it, and nothing more is expected."""
        return self.queue.knows(new_task(b"", "", Identity.of(found)))


def _look_at(
    waiting: list[tuple[int, bytes, str]], path: bytes, config: Config, templates: frozenset[str]
) -> tuple[list[tuple[int, str]], str]:
    """In the filing thread: what the folders say by now for videos that wait, over it what a manifest said for them."""
    inbox = os.fsencode(config.inbox)
    read: dict[bytes, tuple[Layer | None, str]] = {}
    mended = []
    for task, one, options in waiting or [(0, path, "{}")]:
        layers, problem = layers_of(one, inbox, templates, read)
        if problem := problem or wrong_folder(layers, config):
            return [], problem
        if task:
            mended.append((task, _over(to_json(resolve(layers)), _by_manifest(options))))
    return mended, ""


def _skipped(placed: Placed, known: tuple[str, str] | None) -> str:
    """Why a row of a list that is read again is skipped: state and report of its video; nothing without one."""
    if known is None:
        return ""
    state, report = known
    shown_there = parse_link(placed.row.url).name if placed.row.url else placed.row.path
    what = {
        TaskState.COMPLETED: f"it was done before ({report}); a list of another name has it done again",
        TaskState.FAILED: "it has failed before; `gsvrctl retry` tries it again",
        TaskState.CANCELLED: "it was cancelled; `gsvrctl retry` puts it back in line",
    }
    return f"'{shown_there}' is skipped: {what.get(TaskState(state), 'it is in line already')}"


def _over(below: str, above: str) -> str:
    """Options over others, both as JSON."""
    return below if above == "{}" else msgspec.json.encode(_decoded(below) | _decoded(above)).decode()


def _by_manifest(options: str) -> str:
    """Those that no folder has said."""
    kept = {name: value for name, value in _decoded(options).items() if not str(value[1]).endswith(FILE)}
    return msgspec.json.encode(kept).decode()


def _decoded(options: str) -> dict[str, list[Any]]:
    return msgspec.json.decode(options, type=dict[str, list[Any]])


def _row_options(placed: Placed) -> Options:
    row = placed.row
    return row.options.model_copy(update={"output_pattern": row.output_name}) if row.output_name else row.options


def new_task(path: bytes, name: str, identity: Identity, link: Link | None = None) -> NewTask:
    """What the queue shall keep of a file, which may be a shortcut."""
    url = link.url if link else ""
    return NewTask(path, name, identity.dev, identity.ino, identity.size, identity.mtime_ns, url)


def link_task(link: Link, options: str) -> NewTask:
    """What the queue shall keep of a link that a list names: the same for the same link with the same options."""
    wishes = sorted((name, said[0]) for name, said in _decoded(options).items())
    return NewTask(b"", link.name, 0, link.identity(wishes), 0, 0, link.url)
