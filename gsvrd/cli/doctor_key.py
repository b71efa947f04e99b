"""The key, for `gsvrctl doctor`: is there one, can others read it, and, only when asked, does the service take it?

The key is sent to the address of the configuration and nowhere else: no redirect is followed. It is never shown.
"""

from __future__ import annotations

import http.client
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from gsvrd.analyzers.gemini.keys import read_key
from gsvrd.analyzers.gemini.settings import GOOGLE
from gsvrd.cli.finding import Finding, error, good, note, warning
from gsvrd.daemon.settings import analyzer_of, key_source
from gsvrd.errors import TaskError

if TYPE_CHECKING:
    from gsvrd.config.models import Config

_TIMEOUT_S = 15.0
_MAKE_ONE = "Make a key in Google AI Studio, and set GEMINI_API_KEY or analyzer.gemini.key_file."


def look(config: Config, pid: int | None, *, online: bool) -> Iterator[Finding]:
    """As this command sees it: a daemon that was started otherwise may have another one."""
    source = key_source(config)
    if not source:
        if config.analyzer.use == "gemini":
            yield error("key", "there is no key to be seen from here", f"{_MAKE_ONE} A service may have its own.")
        else:
            yield note("key", f"there is no key to be seen from here; the analyzer would be {analyzer_of(config)}")
        return
    try:
        key = read_key(source)
    except TaskError as trouble:
        yield error("key", trouble.facts.message, trouble.facts.hint)
        return
    yield from _secrecy(source)
    if online:
        yield _ask(config, key)
    else:
        yield good("key", f"there is a key ({source.partition(':')[0]}); --online asks whether it is taken")


def _secrecy(source: str) -> Iterator[Finding]:
    kind, _, name = source.partition(":")
    if kind == "file" and Path(name).stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO) & ~stat.S_IRGRP:
        yield warning("key_open", f"others may read the key in {name}", f"chmod 600 {name}")


def _ask(config: Config, key: str) -> Finding:
    gemini = config.analyzer.gemini
    try:
        status = _status(gemini.base_url or GOOGLE, f"/v1beta/models/{quote(gemini.model)}", key)
    except (OSError, http.client.HTTPException) as trouble:
        hint = "Look at the network, the proxy and the clock; videos wait meanwhile."
        return warning("key", f"the service cannot be asked: {trouble}", hint)
    match status:
        case 200:
            return good("key", f"the service takes the key and knows {gemini.model}")
        case 400 | 401 | 403:
            return error("key", f"the service refuses the key (HTTP {status})", _MAKE_ONE)
        case 404:
            hint = "Set analyzer.gemini.model to one that your key may use."
            return error("model", f"the service knows no {gemini.model} for this key", hint)
        case _:
            return warning("key", f"the service answers with HTTP {status}", "Ask again later; videos wait meanwhile.")


def _status(base_url: str, path: str, key: str) -> int:
    """What a GET is answered with; the body is not read."""
    parts = urlsplit(base_url)
    host, port = parts.hostname or "", parts.port
    if parts.scheme == "https":
        context = ssl.create_default_context()
        conn: http.client.HTTPConnection = http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_S, context=context)
    else:
        conn = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        conn.request("GET", f"{parts.path.rstrip('/')}{path}", headers={"x-goog-api-key": key})
        return conn.getresponse().status
    finally:
        conn.close()
