"""The source of one attempt: a checked file, what a link leads to, or a video that stays where it is.

Called by `execute` inside a worker. A shortcut is read here, and what a link leads to is fetched here, as the stage
`fetch`; what lies in the spool is then a file like any other. Never changes the inbox.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from gsvrd.analysis import MediaFacts
from gsvrd.errors import ErrorKind, TaskError
from gsvrd.intake.identity import FILE_FLAGS, Identity, open_checked
from gsvrd.intake.moving import sidecars
from gsvrd.intake.names import is_shortcut
from gsvrd.intake.shortcuts import read_shortcut
from gsvrd.policy.links import Link, parse_link
from gsvrd.pool.confine import is_offline
from gsvrd.pool.messages import Assign
from gsvrd.pool.settings import WorkSettings
from gsvrd.pool.worker import Desk, Unfit

FETCH_STAGE = "fetch"


class Fetched(BaseModel):
    """What is kept of a download; the bytes lie in the spool."""

    model_config = ConfigDict(frozen=True)

    size_bytes: int
    name: str


@dataclass(frozen=True, slots=True)
class Source:
    """What is studied, open for as long as the attempt lasts."""

    shown: str
    """What reports call it: the name below the inbox, or a link without its secrets."""
    file: str
    """Of what the name of the report is made: a path with a suffix."""
    kept_open: tuple[tuple[int, Identity], ...]
    """Descriptors, and what they were when they were opened."""
    sidecars: Sequence[Path] = ()
    fd: int = -1
    """The video; -1 if it stays where it is."""
    size_bytes: int = 0
    link: Link | None = None

    @property
    def reference(self) -> str:
        """The address of a video that stays where it is; empty for a file."""
        return self.link.url if self.link and self.fd < 0 else ""

    @property
    def name(self) -> str:
        """Without folders, for titles and messages."""
        return self.shown if self.reference else self.file.rpartition("/")[2]

    @property
    def content(self) -> str:
        """What stands for its content where there are no bytes to hash."""
        return f"youtube:{self.link.video}" if self.link else ""

    def facts_of_reference(self) -> MediaFacts:
        """What is known of a video that stays where it is: not even its length."""
        return MediaFacts(sha256="", size_bytes=0, container="", duration_s=0.0)

    def check(self) -> None:
        """Raises `TaskError` (CHANGED) if it is not what it was."""
        if any(Identity.of(os.fstat(fd)) != identity for fd, identity in self.kept_open):
            raise TaskError(ErrorKind.CHANGED, "the file changed while it was studied", "Nothing to do.")


@contextlib.contextmanager
def opened(assign: Assign, desk: Desk, settings: WorkSettings) -> Iterator[Source]:
    """The source of an attempt. Raises what `open_checked`, `read_shortcut` and `net.fetch.fetch` raise."""
    folder = assign.folder or os.fsencode(settings.inbox)
    with ExitStack() as stack:
        if not assign.path:
            yield _linked(parse_link(assign.url), "", (), assign, desk, settings, stack)
            return
        identity, name = Identity(*assign.identity), os.path.basename(assign.path)
        below = os.fsdecode(os.path.relpath(assign.path, folder))
        if identity.size > settings.max_file_bytes:
            hint = "Raise limits.max_file_size, or make the file smaller."
            raise TaskError(ErrorKind.TOO_LARGE, f"the file has {identity.size} bytes, more than is allowed", hint)
        fd = open_checked(assign.path, folder, identity)
        stack.callback(os.close, fd)
        if is_shortcut(name):
            kept_open = ((fd, identity),)
            yield _linked(read_shortcut(fd, name), below, kept_open, assign, desk, settings, stack)
        else:
            yield Source(assign.name, below, ((fd, identity),), _beside(assign.path), fd, identity.size)


def _beside(path: bytes) -> list[Path]:
    return [Path(os.fsdecode(one)) for one in sidecars(path)]


def _linked(
    link: Link,
    file: str,
    kept_open: tuple[tuple[int, Identity], ...],
    assign: Assign,
    desk: Desk,
    settings: WorkSettings,
    stack: ExitStack,
) -> Source:
    """`file` is the shortcut's path below the inbox; empty for the link of a list."""
    beside = _beside(assign.path) if assign.path else []
    if link.video:
        return Source(link.name, file or f"{link.file}.url", kept_open, beside, link=link)
    path = Path(settings.spool, str(assign.task))
    fetched = _fetch(link, path, assign, desk, settings)
    fd = os.open(path / "video", FILE_FLAGS)
    stack.callback(os.close, fd)
    kept_open = (*kept_open, (fd, Identity.of(os.fstat(fd))))
    return Source(link.name, file or _named(fetched.name or link.file), kept_open, beside, fd, fetched.size_bytes, link)


def _named(name: str) -> str:
    """As a file on one level, whatever the server calls it."""
    return name.replace("/", "_") or "video"


def _fetch(link: Link, folder: Path, assign: Assign, desk: Desk, settings: WorkSettings) -> Fetched:
    if known := _kept(folder, assign, desk):
        return known
    if is_offline():
        raise Unfit("another worker shall fetch it: this one has given up the network")
    from gsvrd.net.fetch import FetchTerms, fetch  # only few videos need the network

    terms = FetchTerms(
        allowed=settings.links.allowed,
        most_bytes=min(settings.links.most_bytes, settings.max_file_bytes),
        timeout_s=settings.links.timeout_s,
        types=settings.links.types,
    )
    desk.progress(FETCH_STAGE, 0.0)
    found = fetch(link.url, folder, terms, lambda share: desk.progress(FETCH_STAGE, share))
    fetched = Fetched(size_bytes=found.size_bytes, name=found.name)
    desk.keep(FETCH_STAGE, fetched.model_dump_json().encode())
    return fetched


def _kept(folder: Path, assign: Assign, desk: Desk) -> Fetched | None:
    """What an earlier attempt has fetched, if it is still there."""
    if FETCH_STAGE not in assign.kept:
        return None
    with contextlib.suppress(ValidationError, OSError):
        known = Fetched.model_validate_json(assign.kept[FETCH_STAGE])
        if os.stat(folder / "video").st_size == known.size_bytes:
            return known
    for stage in (FETCH_STAGE, "probe"):  # what was found out is about bytes that are gone
        if assign.kept.pop(stage, None) is not None:
            desk.forget(stage)
    return None
