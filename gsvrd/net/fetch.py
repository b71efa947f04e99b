"""Fetches what a link leads to into a spool: checked addresses, limits, and going on where a broken connection ended.

Called by workers, as the first stage of an attempt. Every hop of a redirect is asked anew through `guarded`, so it is
checked like the first. What is wrong is told in words that never hold the address: it may be a secret.
"""

from __future__ import annotations

import email.utils
import fnmatch
import http.client
import itertools
import re
import socket
import ssl
import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

from gsvrd import __version__
from gsvrd.errors import ErrorKind, Snooze, TaskError
from gsvrd.net.containers import is_page, is_video
from gsvrd.net.guarded import Deadline, Guard, RefusedTargetError, Resolver, connect
from gsvrd.net.spool import Spool
from gsvrd.policy.addresses import Target, parse_target

SILENCE_S = 60.0
"""A server that sends nothing for so long has hung."""
_MOST_CONNECTIONS = 50
"""For one try."""
MOST_REDIRECTS = 5
SPARE_BYTES = 256 << 20
"""So much of the disk is left alone."""
_NO_ROOM_S = 300.0
LONGEST_WAIT_S = 24 * 3600.0
"""A server's word on when to come again is believed up to this."""
_BLOCK_BYTES = 1 << 18
_HEAD_BYTES = 1024
"""Enough to see what it is."""
_WORTH_GOING_ON_BYTES = 1 << 16
"""A connection that has brought so much before it broke is taken up again at once."""
_REDIRECTS = (301, 302, 303, 307, 308)
_LATER = (408, 425, 429)
_WORDS = {
    401: "wants a password",
    403: "does not allow it",
    404: "has nothing at this address",
    410: "had something at this address, and has it no more",
    451: "may not give it away, for legal reasons",
}
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_AGAIN = "Nothing to do: it is tried again, and goes on where it ended if the server allows it."
_CHECK = "Open the link in a browser; if it works there without logging in, `gsvrctl retry` tries it again."
_A_FILE = "Use the address of the video file itself, or download the video and drop that into the inbox."


@dataclass(frozen=True, slots=True)
class FetchTerms:
    """What may be fetched."""

    allowed: Container[str] = ()
    """Hosts that may be near by; see `guarded.Guard`."""
    most_bytes: int = 10 << 30
    timeout_s: float = 3600.0
    """For one try, from the host's name to the last byte."""
    types: Sequence[str] = ("video/*", "audio/*")
    """What servers may call it; `*` stands for anything."""
    silence_s: float = SILENCE_S
    resolve: Resolver | None = None
    """Instead of the machine's."""
    tls: ssl.SSLContext | None = None
    """Instead of the machine's certificates."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What lies in the spool."""

    path: Path
    size_bytes: int
    name: str
    """What the server calls it; empty when it does not say."""


class _BrokenError(Exception):
    """The connection ended in the middle; it can be gone on with."""

    def __init__(self, error: TaskError, *, was_cleared: bool = False) -> None:
        super().__init__()
        self.error = error
        self.was_cleared = was_cleared
        """The server would not go on; the next request asks for all of it."""


def fetch(url: str, folder: Path, terms: FetchTerms, progress: Callable[[float], None]) -> Fetched:
    """What `url` leads to, whole, as a file in `folder`, which is the link's own.

    Raises `TaskError`: LINK, TOO_LARGE or EMPTY if it will never be a video, HOST or NETWORK if it may be later, PLACE for
    the disk; and `Snooze` as long as there is no room for it.
    """
    spool, deadline = Spool(folder, url), Deadline(terms.timeout_s, terms.silence_s)
    for tries in itertools.count(1):
        if spool.is_complete:
            break
        before = spool.size
        try:
            _Fetching(url, spool, terms, deadline, progress).run()
        except _BrokenError as broken:
            goes_on = spool.resumes_at and spool.size - before >= _WORTH_GOING_ON_BYTES
            if deadline.is_over or tries >= _MOST_CONNECTIONS or not (goes_on or broken.was_cleared):
                raise broken.error from broken
    return Fetched(spool.path, spool.size, spool.about.name)


@dataclass
class _Fetching:
    """One request, with its redirects."""

    url: str
    spool: Spool
    terms: FetchTerms
    deadline: Deadline
    progress: Callable[[float], None]

    def run(self) -> None:
        """Until all is there. Raises `_BrokenError` and `TaskError`."""
        url = self.url
        for _ in range(MOST_REDIRECTS + 1):
            target = self._target(url)
            location = self._ask(target)
            if location is None:
                return
            url = self._next(target, url, location)
        raise TaskError(ErrorKind.LINK, f"the link was passed on more than {MOST_REDIRECTS} times", _CHECK)

    def _target(self, url: str) -> Target:
        try:
            return parse_target(url)
        except ValueError as error:
            raise TaskError(
                ErrorKind.LINK, f"the link leads to where nothing can be fetched: {error}", _CHECK
            ) from error

    def _next(self, target: Target, url: str, location: str) -> str:
        try:
            following = urljoin(url, location)
        except ValueError:
            raise TaskError(ErrorKind.LINK, "the link is passed on to what is no address", _CHECK) from None
        if target.scheme == "https" and self._target(following).scheme != "https":
            message = (
                f"{target.host} passes the link on from https to plain http, where anybody could read and change it"
            )
            raise TaskError(ErrorKind.LINK, message, _A_FILE)
        return following

    def _ask(self, target: Target) -> str | None:
        """Take the answer; returns where it is passed on to instead."""
        guard = Guard(self.terms.allowed, self.terms.timeout_s, self.terms.resolve, self.terms.tls)
        try:
            connection = connect(target, guard, self.deadline)
        except RefusedTargetError as error:
            hint = "Only the operator can allow it: links.allow in config/gsvrd.yaml names hosts that may be near by."
            raise TaskError(ErrorKind.LINK, f"the link is not followed: {error}", hint) from error
        except OSError as error:
            raise self._unreachable(target, error) from error
        try:
            connection.request("GET", target.path, headers=self._headers())
            with connection.getresponse() as answer:
                if answer.status in _REDIRECTS and (location := answer.headers["Location"]):
                    return str(location)
                self._take(answer, target)
                return None
        except (OSError, http.client.HTTPException) as error:
            raise _BrokenError(self._broken(target, error)) from error
        finally:
            connection.close()

    def _headers(self) -> dict[str, str]:
        headers = {"User-Agent": f"gsvrd/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}
        if at := self.spool.resumes_at:
            headers |= {"Range": f"bytes={at}-", "If-Range": self.spool.about.validator}
        return headers

    # -- the answer --------------------------------------------------------------------------------------------------

    def _take(self, answer: http.client.HTTPResponse, target: Target) -> None:
        at = self.spool.resumes_at
        if answer.status == 206 and at and self._goes_on(answer, at):
            self._pour(answer, b"", target)
            return
        if answer.status in (206, 416) and at:  # another file by now, or all of it is there and nobody knew
            self.spool.clear()
            error = TaskError(ErrorKind.HOST, f"{target.host} cannot go on where it ended", _AGAIN)
            raise _BrokenError(error, was_cleared=True)
        if answer.status != 200:
            raise _refused(answer, target)
        if coding := (answer.headers["Content-Encoding"] or "").strip().lower().replace("identity", ""):
            message = f"{target.host} sends it packed ({_word(coding)}), though it was asked not to"
            raise TaskError(ErrorKind.LINK, message, _A_FILE)
        self._check_type(answer, target)
        length = answer.length
        self._check_size(length)
        head = answer.read(_HEAD_BYTES)
        if not head and not length:
            raise TaskError(ErrorKind.EMPTY, f"{target.host} sends nothing", _CHECK)
        self._check_head(head, target, length)
        self.spool.begin(_validator(answer), length, _file_name(answer))
        self._pour(answer, head, target)

    def _goes_on(self, answer: http.client.HTTPResponse, at: int) -> bool:
        found = _RANGE.fullmatch((answer.headers["Content-Range"] or "").strip())
        length = self.spool.about.length
        is_same = length is None or (found is not None and found[2] in ("*", str(length)))
        return found is not None and int(found[1]) == at and is_same and not answer.headers["Content-Encoding"]

    def _check_type(self, answer: http.client.HTTPResponse, target: Target) -> None:
        told = answer.headers.get_content_type() if answer.headers["Content-Type"] else ""
        if told in ("text/html", "application/xhtml+xml"):
            raise _a_page(target)
        if told and not any(fnmatch.fnmatchcase(told, pattern) for pattern in self.terms.types):
            message = f"{target.host} says that this is {_word(told)}, which is no video"
            raise TaskError(ErrorKind.LINK, message, f"{_A_FILE} links.types lists what is taken.")

    def _check_size(self, length: int | None) -> None:
        most = self.terms.most_bytes
        if (length or 0) > most:
            raise self._too_large(f"the video has {length} bytes")
        if (length or 0) + SPARE_BYTES > self.spool.free_bytes():
            # Others may have room enough: nobody else has to wait.
            raise Snooze(_NO_ROOM_S, "the disk of the state directory has no room for what the link leads to")

    def _too_large(self, what: str) -> TaskError:
        hint = "Raise links.max_size and limits.max_file_size, or download a smaller version and drop that."
        return TaskError(ErrorKind.TOO_LARGE, f"{what}, more than the {self.terms.most_bytes} of links.max_size", hint)

    def _check_head(self, head: bytes, target: Target, length: int | None) -> None:
        if is_page(head):
            raise _a_page(target)
        if len(head) < min(_HEAD_BYTES, length or 0):
            raise http.client.IncompleteRead(head)
        if not is_video(head):
            raise TaskError(ErrorKind.LINK, f"what {target.host} sends is in no form that videos have", _A_FILE)

    def _pour(self, answer: http.client.HTTPResponse, head: bytes, target: Target) -> None:
        length, block = self.spool.about.length, head or answer.read1(_BLOCK_BYTES)
        size = self.spool.size
        while block:
            size += len(block)
            if size > self.terms.most_bytes:
                self.spool.clear()
                raise self._too_large("the video is still not all there after as many bytes as are allowed")
            self.spool.write(block)
            self.progress(size / length if length else 0.0)
            block = answer.read1(_BLOCK_BYTES)
        if length is not None and size < length:
            raise http.client.IncompleteRead(b"", length - size)
        self.spool.finish()

    # -- what went wrong -----------------------------------------------------------------------------------------------

    def _unreachable(self, target: Target, error: OSError) -> TaskError:
        cause = error.__cause__
        if isinstance(error, ssl.SSLCertVerificationError):
            message = f"{target.host} cannot prove that it is {target.host}: {error.verify_message}"
            return TaskError(ErrorKind.LINK, message, _CHECK)
        if isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_AGAIN:
            message = f"no name server answers about {target.host}"
            return TaskError(ErrorKind.NETWORK, message, "Check this machine's network; it is tried again.")
        if self.deadline.is_over:
            return self._late(target)
        return TaskError(ErrorKind.HOST, f"{target.host} cannot be reached: {_said(error)}", _AGAIN)

    def _broken(self, target: Target, error: OSError | http.client.HTTPException) -> TaskError:
        if self.deadline.is_over:
            return self._late(target)
        there, length = self.spool.size, self.spool.about.length
        so_far = f" after {there}{f' of {length}' if length else ''} bytes" if there else ""
        what = f"sent nothing for {self.terms.silence_s:.0f} s" if isinstance(error, TimeoutError) else ""
        what = what or f"broke off: {_said(error)}"
        return TaskError(ErrorKind.HOST, f"{target.host} {what}{so_far}", _AGAIN)

    def _late(self, target: Target) -> TaskError:
        message = f"{target.host} has not sent all of it within {self.terms.timeout_s:.0f} s"
        return TaskError(ErrorKind.HOST, message, f"{_AGAIN} links.timeout sets the time for one try.")


def _refused(answer: http.client.HTTPResponse, target: Target) -> TaskError:
    status = answer.status
    if status in _LATER or status >= 500:
        wait_s = _retry_after(answer.headers["Retry-After"])
        later = f" and says to come again in {wait_s:.0f} s" if wait_s else ""
        return TaskError(ErrorKind.HOST, f"{target.host} answers {status}{later}", _AGAIN, delay_s=wait_s)
    words = _WORDS.get(status, "does not give it")
    return TaskError(ErrorKind.LINK, f"{target.host} {words} ({status})", _CHECK)


def _retry_after(told: str | None) -> float:
    """Seconds; 0 where nothing is said that can be understood."""
    text = (told or "").strip()
    if text.isdecimal():
        wait_s = float(text[:9])
    else:
        try:
            wait_s = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return min(max(0.0, wait_s), LONGEST_WAIT_S)


def _a_page(target: Target) -> TaskError:
    return TaskError(ErrorKind.LINK, f"this is a page of {target.host}, not a video", _A_FILE)


def _validator(answer: http.client.HTTPResponse) -> str:
    """What `If-Range` takes: a weak ETag says nothing about bytes."""
    if answer.headers["Accept-Ranges"] == "none":
        return ""
    tag = (answer.headers["ETag"] or "").strip()
    return tag if tag.startswith('"') else ("" if tag else (answer.headers["Last-Modified"] or "").strip())


def _file_name(answer: http.client.HTTPResponse) -> str:
    """The last part alone, whatever folders it says."""
    told = answer.headers.get_filename() or ""
    return re.split(r"[/\\]", told)[-1].strip()[:255]


def _word(text: str) -> str:
    """A server's word in a sentence of ours."""
    return "".join(char for char in text[:60] if char.isprintable())


def _said(error: Exception) -> str:
    if isinstance(error, http.client.IncompleteRead):
        return "the connection ended too early"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return f"its answer is no HTTP ({type(error).__name__})"
