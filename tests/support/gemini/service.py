"""One request to one reply: who asks, what for, which fault strikes, and then the room that knows the answer.

`wire` calls `enter`, then `reply`; all state lies here, behind one lock. Bodies of uploads are read outside the lock.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gsvrd.clock import Clock

from . import files as store
from . import generate, refusals, uploads
from .body import Body
from .faults import Fault, Kind, Route, Script
from .files import File, Files, Session
from .generate import Ask
from .meter import Entry, Meter
from .quotas import Quotas
from .refusals import Refusal
from .rules import Rules
from .uploads import Reply, Uploads

_HTML = b"<!DOCTYPE html><html><title>Error</title><body><h1>That did not work.</h1></body></html>"
_ON_THE_WIRE = frozenset({Kind.RESET, Kind.TRICKLE, Kind.CUT_BODY})
_OPEN = frozenset({Route.UPLOAD_CHUNK, Route.UPLOAD_QUERY, Route.UPLOAD_CANCEL, Route.UNKNOWN})
_ADDRESSES: tuple[tuple[str, str, Route], ...] = (
    ("POST", r"/v1(?:beta)?/models/(?P<model>[^/:]+):generateContent", Route.GENERATE),
    ("POST", r"/v1(?:beta)?/models/(?P<model>[^/:]+):countTokens", Route.COUNT),
    ("GET", r"/v1(?:beta)?/models/(?P<model>[^/:]+)", Route.MODEL_GET),
    ("GET", r"/v1(?:beta)?/files", Route.FILE_LIST),
    ("GET", r"/v1(?:beta)?/(?P<file>files/[^/:]+)", Route.FILE_GET),
    ("DELETE", r"/v1(?:beta)?/(?P<file>files/[^/:]+)", Route.FILE_DELETE),
    ("GET", r"/\$discovery/rest", Route.DISCOVERY),
)
_UPLOAD = re.compile(r"(?:/resumable)?/upload/v1(?:beta)?/files")


@dataclass(frozen=True, slots=True)
class Request:
    """What came over the wire; header names in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Body
    base: str
    """`http://host:port`, as the client calls it."""


@dataclass
class Call:
    """A request on its way."""

    request: Request
    entry: Entry
    file: str = ""
    ask: Ask | None = None
    session: Session | None = None
    described: Mapping[str, Any] | None = None
    """Of a file to come."""


class Service:
    """The pretended Google."""

    def __init__(self, rules: Rules, clock: Clock) -> None:
        self.rules = rules
        self.script = Script()
        self.meter = Meter()
        self.files = Files()
        self.lock = threading.RLock()
        self._clock = clock
        self._shift_s = 0.0
        self._quotas = Quotas()

    def now(self) -> float:
        """UTC epoch seconds of this server."""
        return self._clock.wall() + self._shift_s

    def advance(self, seconds: float) -> None:
        """Set this server's clock forward."""
        self._shift_s += seconds

    def enter(self, request: Request) -> Call:
        """Log the request; it is in its lane from now on, until the wire lets it out."""
        entry = Entry(at=self.now(), method=request.method, path=request.path)
        call = Call(request, entry)
        if _UPLOAD.fullmatch(request.path):
            entry.route = uploads.route_of(request.method, request.query, request.headers)
        for method, address, route in _ADDRESSES:
            found = re.fullmatch(address, request.path)
            if found and method == request.method:
                entry.route = route
                named = found.groupdict()
                entry.model, call.file = named.get("model", ""), named.get("file", "")
        entry.key_in_url = "key" in request.query
        self.meter.begin(entry)
        return call

    def reply(self, call: Call) -> Reply:
        """The answer, refusals included. Raises `ConnectionError` when the client breaks off."""
        try:
            reply = self._reply(call)
        except Refusal as refusal:
            reply = Reply(refusal.code, refusal.body())
            if "x-goog-upload-command" in call.request.headers and not call.entry.fault:
                reply.headers["X-Goog-Upload-Status"] = "final"
        finally:
            call.entry.bytes_in = call.request.body.taken
        call.entry.status = reply.status
        return reply

    def _reply(self, call: Call) -> Reply:
        self._authorise(call)
        self._read(call)
        fault = self.script.strike(call.entry.route, call.entry.model, self._names(call))
        if fault:
            call.entry.fault = fault.kind
            refusal = fault.refusal(call.entry.model, next(iter(call.entry.files), call.file))
            if refusal:
                raise refusal
            if fault.undone:
                return _undone(fault)
        reply = self._answer(call, fault)
        if fault and fault.kind in _ON_THE_WIRE:
            reply.fault = fault
        return reply

    def _authorise(self, call: Call) -> None:
        if call.entry.route in _OPEN:
            return
        given = call.request.headers.get("x-goog-api-key") or call.request.query.get("key")
        if not given:
            raise refusals.key_missing()
        key = self.rules.keys.get(given)
        if key is None:
            raise refusals.key_invalid()
        call.entry.project = key.project
        if key.status == 401:
            raise refusals.unauthorized()
        if key.status == 403:
            raise refusals.key_leaked()

    def _read(self, call: Call) -> None:
        """Learn what the request is about, before any fault may strike it."""
        request, entry = call.request, call.entry
        if entry.route in (Route.GENERATE, Route.COUNT):
            call.ask = generate.read(_json(request.body))
            entry.files = [clip.name for clip in call.ask.clips]
            entry.max_output_tokens, entry.temperature = call.ask.max_output_tokens, call.ask.temperature
            entry.thinking_level = call.ask.thinking_level
        elif entry.route is Route.UPLOAD_START:
            call.described = generate.camel(_json(request.body)).get("file") or {}
        elif "upload_id" in request.query:
            with self.lock:
                call.session = self.files.session(request.query["upload_id"])
            entry.upload = str(call.session.number)

    def _names(self, call: Call) -> set[str]:
        """Everything a fault may know the call's files by."""
        names = {call.file, *call.entry.files}
        with self.lock:
            alive = {file.name: file for file in self.files.alive(self.rules, self.now())}
        for file in (alive[name] for name in list(names) if name in alive):
            names |= {file.display_name, file.sha256}
        if call.session:
            names |= {call.session.name, call.session.display_name}
        if call.described:
            names |= {str(call.described.get("name")), str(call.described.get("displayName"))}
        return names

    def _answer(self, call: Call, fault: Fault | None) -> Reply:
        if call.session:
            return self._take(call, call.session, fault)
        with self.lock:
            match call.entry.route:
                case Route.GENERATE | Route.COUNT:
                    return self._generate(call, fault)
                case Route.UPLOAD_START:
                    return self._start(call)
                case Route.FILE_GET:
                    return self._look(call)
                case Route.FILE_LIST:
                    return self._list(call)
                case Route.FILE_DELETE:
                    self.files.delete(self.rules, call.file, self.now())
                    return Reply()
                case Route.MODEL_GET:
                    return self._model(call)
                case Route.DISCOVERY:
                    return _json_reply(uploads.discovery(call.request.base))
        raise refusals.no_route(call.request.path)

    def _generate(self, call: Call, fault: Fault | None) -> Reply:
        entry, ask, now = call.entry, call.ask, self.now()
        model = self.rules.models.get(entry.model)
        if model is None or ask is None:
            raise refusals.no_model(entry.model)
        seen = generate.videos(self.rules, ask, [self._active(clip.name, now) for clip in ask.clips])
        entry.hashes = [video.file.sha256 for video in seen if video.file]
        tokens = generate.weigh(model, ask, seen)
        if entry.route is Route.COUNT:
            return _json_reply(generate.counted(tokens, ask))
        entry.prompt_tokens = tokens
        self._quotas.admit(
            self.rules.limits,
            entry.project,
            entry.model,
            now=now,
            tokens=tokens,
            inside=self.meter.inside(entry.project, entry.model),
        )
        answer = generate.answer(self.rules, entry.model, ask, seen, tokens, fault)
        entry.output_tokens, entry.usd = answer.output_tokens, answer.usd
        reply = _json_reply(answer.body)
        reply.wait_s = self.rules.generate_s
        return reply

    def _active(self, name: str, now: float) -> File:
        if not name.startswith("files/"):
            return self._public(name, now)
        file = self.files.get(self.rules, name, now)
        if store.state(self.rules, file, now) != "ACTIVE":
            raise refusals.file_not_active(name)
        return file

    def _public(self, name: str, now: float) -> File:
        """A video of YouTube, which the client has not sent."""
        if name not in self.rules.youtube:
            raise refusals.not_public()
        sha256 = hashlib.sha256(name.encode()).hexdigest()
        return File(name, f"[duration={self.rules.youtube[name]}]", "video/mp4", 0, sha256, now)

    def _start(self, call: Call) -> Reply:
        request = call.request
        kind, size = uploads.announced(request.headers)
        session = self.files.start(self.rules, call.described or {}, kind, size, self.now())
        call.entry.upload = str(session.number)
        url = f"{request.base}/upload/v1beta/files?upload_id={session.id}&upload_protocol=resumable"
        if "key" in request.query:
            url += f"&key={request.query['key']}"  # Google echoes it, too.
        return uploads.started(session, request.headers, url)

    def _take(self, call: Call, session: Session, fault: Fault | None) -> Reply:
        request, had = call.request, session.finished
        taker = Uploads(self.files, self.lock, lambda file: self._shown(file, request.base))
        piece = uploads.piece_of(request.method, request.headers)
        reply = taker.take(self.rules, session, piece, request.body, self.now(), fault)
        if session.finished and not had:
            call.entry.files, call.entry.hashes = [session.finished.name], [session.finished.sha256]
        return reply

    def _look(self, call: Call) -> Reply:
        file = self.files.get(self.rules, call.file, self.now())
        reply = _json_reply(self._shown(file, call.request.base))
        file.polls += 1
        return reply

    def _list(self, call: Call) -> Reply:
        query = call.request.query
        start, size = int(query.get("pageToken") or 0), min(int(query.get("pageSize") or 10), 100)
        alive = self.files.alive(self.rules, self.now())
        body: dict[str, Any] = {"files": [self._shown(f, call.request.base) for f in alive[start : start + size]]}
        if start + size < len(alive):
            body["nextPageToken"] = str(start + size)
        return _json_reply(body if alive else {})

    def _model(self, call: Call) -> Reply:
        name = call.entry.model
        model = self.rules.models.get(name)
        if model is None:
            raise refusals.no_model(name)
        return _json_reply(
            {
                "name": f"models/{name}",
                "version": name.split("-")[1],
                "displayName": name,
                "inputTokenLimit": model.input_limit,
                "outputTokenLimit": model.output_limit,
                "supportedGenerationMethods": ["generateContent", "countTokens"],
            }
        )

    def _shown(self, file: File, base: str) -> dict[str, Any]:
        return store.as_json(self.rules, file, self.now(), base)


def _undone(fault: Fault) -> Reply:
    if fault.kind in (Kind.HTML_200, Kind.HTML_502):
        return Reply(200 if fault.kind is Kind.HTML_200 else 502, _HTML, content_type="text/html; charset=UTF-8")
    return Reply(0, fault=fault)


def _json(body: Body) -> dict[str, Any]:
    try:
        made = json.loads(body.all() or b"{}")
    except ValueError as error:
        raise refusals.bad_request(f"Invalid JSON payload received: {error}") from error
    if not isinstance(made, dict):
        raise refusals.bad_request("Invalid JSON payload received: not an object.")
    return made


def _json_reply(body: Mapping[str, Any]) -> Reply:
    return Reply(body=json.dumps(body, ensure_ascii=False).encode())
