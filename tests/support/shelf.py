"""A web server that has videos: honest by default, with ranges and an ETag; or it lies, hangs, drips and breaks off."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from support import loopback
from support.loopback import Loopback

Act = Callable[["Handler"], None]


@dataclass(frozen=True)
class Got:
    """A request as it came."""

    path: str
    headers: dict[str, str]

    @property
    def range(self) -> str:
        return self.headers.get("range", "")


@dataclass
class Shelf(Loopback):
    """Listens on loopback. `acts` is what it does with one request after the other; after those it gives `data`."""

    data: bytes = b""
    acts: list[Act] = field(default_factory=list)
    got: list[Got] = field(default_factory=list)
    path = "/talk.mp4"

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.data).hexdigest()[:16]}"'


class Handler(loopback.Handler):
    @property
    def shelf(self) -> Shelf:
        return cast(Shelf, self.server.owner)

    def do_GET(self) -> None:  # noqa: N802 (as `http.server` calls it)
        shelf = self.shelf
        shelf.got.append(Got(self.path, self.lower_headers()))
        (shelf.acts.pop(0) if shelf.acts else give())(self)


Shelf.handler = Handler


def say(status: int, body: bytes = b"", **headers: str) -> Act:
    """An answer."""

    return lambda handler: handler.answer(status, body, **headers)


def give(most: int | None = None, **headers: str) -> Act:
    """The video, from where it is asked for; after `most` bytes the connection breaks."""

    def act(handler: Handler) -> None:
        data, etag = handler.shelf.data, handler.shelf.etag
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        at = int(asked[1]) if asked and handler.headers.get("If-Range") in (None, etag) else 0
        told = {"Content-Type": "video/mp4", "ETag": etag, "Content-Length": str(len(data) - at)}
        told |= {name.replace("_", "-"): value for name, value in headers.items()}
        if at:
            told["Content-Range"] = f"bytes {at}-{len(data) - 1}/{len(data)}"
        handler.head(206 if at else 200, **told)
        handler.wfile.write(data[at:] if most is None else data[at : at + most])
        handler.close_connection = True

    return act


def stall(after: int) -> Act:
    """So many bytes, and then nothing until the shelf is released."""

    def act(handler: Handler) -> None:
        data = handler.shelf.data
        handler.head(200, Content_Type="video/mp4", ETag=handler.shelf.etag, Content_Length=str(len(data)))
        handler.wfile.write(data[:after])
        handler.shelf.released.wait(60)
        handler.close_connection = True

    return act


def flood(handler: Handler) -> None:
    """A video that never ends."""
    handler.head(200, Content_Type="video/mp4")
    handler.wfile.write(handler.shelf.data[:4096])
    while not handler.shelf.released.is_set():
        handler.wfile.write(b"x" * 65536)


def go_to(location: str, status: int = 302) -> Act:
    """A redirect."""
    return say(status, Location=location)
