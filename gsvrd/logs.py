"""The log: one line an entry on standard error, for people, for the journal of systemd, or as JSON.

`setup` is called once by each process (and again when the level changes); everybody else takes `structlog.get_logger()`
and logs `event_name` with values. Three promises: an entry cannot be forged by what is in its values (everything but a
traceback stays on its line), no key or password gets through, and no trouble with standard error reaches the caller.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, Literal

import structlog

from gsvrd.journal import SOCKET, WINDOW_S, Flood, Journal

Style = Literal["console", "journal", "json"]
Entry = MutableMapping[str, Any]

_STDERR = 2
_LONGEST_TEXT = 8000
_LONGEST_TRACE = 32_000
_DEEPEST = 6
_HIDDEN = "[hidden]"

_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_COLOURS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}
_HEAD = ("time", "level", "event", "process")
_FIRST = {"task": 0, "attempt": 1}
"""Bound as context variables, whose order is by chance; they go before the other values."""

_NAMED = r"(x-goog-api-key|authorization|api[_-]?key)"
_SECRETS = (
    (re.compile(r"AIza[\w-]{20,}"), _HIDDEN),
    (re.compile(r"\bAQ\.[\w.-]{8,}"), _HIDDEN),
    (
        re.compile(rf"(?i){_NAMED}([\"']?(?:\s*:\s*|[\"']\s*,\s*)(?:b?[\"'])?)(?:bearer\s+)?[^\s\"',;)}}\]]+"),
        rf"\1\2{_HIDDEN}",
    ),
    (re.compile(r"(?i)((?:\b|_|api|%3f|%26)key(?:=|%3d))[^&\s\"'#<>]+"), rf"\1{_HIDDEN}"),
    (re.compile(r"(://)[^/?#\s\"']*@"), rf"\1{_HIDDEN}@"),
)
_SECRET_NAMES = frozenset({"x-goog-api-key", "authorization", "key", "api_key", "apikey", "password", "secret"})


def setup(level: str, format: str, *, process: str) -> None:
    """Send all entries of at least `level` to standard error; `process` (`gsvrd`, `worker-3`) is named in each.

    `format` is `text`, `json`, or `auto`: text for the journal of systemd (priority in front, no time) and on a
    terminal (with colours), else JSON. Warnings of libraries that use `logging` or `warnings` go the same way.
    """
    _occupy_stderr()
    style = _style(format)
    renderer = _Renderer(style, process, coloured=_wants_colour())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _ToJournal(renderer) if style == "journal" else renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=_Stderr,
        cache_logger_on_first_use=False,  # a reload may change the level
    )
    _route_libraries()


def redact(text: str) -> str:
    """`text` without what looks like a key, a password or a user in a URL."""
    for pattern, substitute in _SECRETS:
        text = pattern.sub(substitute, text)
    return text


class _Stderr:
    """Writes entries; what cannot be written is dropped, since nobody could be told."""

    _torn = False
    """The last entry was cut off in the middle (the disk is full): the next one starts a new line."""

    def __init__(self, *_: object) -> None:
        """Takes and ignores the logger's name."""

    def _write(self, line: bytes) -> None:
        data = (b"\n" if _Stderr._torn else b"") + line + b"\n"
        with contextlib.suppress(OSError):
            while data:
                written = os.write(_STDERR, data)
                _Stderr._torn = written < len(data)
                data = data[written:]

    debug = info = warning = error = critical = exception = msg = _write


class _Renderer:
    """The last processor: from the entry to one line of bytes."""

    def __init__(self, style: Style, process: str, *, coloured: bool) -> None:
        self._process = process
        self._lay_out: Callable[[Entry], str] = {
            "console": lambda entry: _console(entry, coloured=coloured),
            "journal": _journal,
            "json": _json,
        }[style]

    def __call__(self, _logger: object, _method: str, entry: Entry) -> bytes:
        return self.line(self.clean(entry))

    def line(self, clean: Entry) -> bytes:
        """What `clean` gave, as it is written."""
        return self._lay_out(clean).encode("utf-8", "backslashreplace")

    def clean(self, entry: Entry) -> Entry:
        """The entry with plain values in order, without secrets."""
        trace = _trace(entry.pop("exc_info", None))
        clean: Entry = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": entry.pop("level"),
            "event": redact(_as_text(entry.pop("event", ""))),
            "process": self._process,
        }
        for name, value in sorted(entry.items(), key=lambda pair: _FIRST.get(pair[0], len(_FIRST))):
            clean.setdefault(_name(name), _hidden_or(name, value))
        if trace:
            clean["exception"] = redact(trace)[-_LONGEST_TRACE:]
        return clean


class _ToJournal:
    """The last processor where the journal reads: entries with fields, and not more of an event than it can bear.

    What it does not take by its own protocol (too large, too busy) goes to standard error, which it reads, too.
    """

    def __init__(self, renderer: _Renderer) -> None:
        self._renderer = renderer
        self._flood = Flood(time.monotonic)
        self._journal = Journal() if os.path.exists(SOCKET) else None
        atexit.register(self._tell, self._flood.kept_back)

    def __call__(self, _logger: object, _method: str, entry: Entry) -> bytes:
        self._tell(self._flood.ended)
        event = str(entry.get("event", ""))
        if not self._flood.admits(event):
            if self._flood.has_begun(event):
                self._write({"level": "warning", "event": "suppressing", "what": event, "until_in_s": WINDOW_S})
            raise structlog.DropEvent
        if line := self._unsent(entry):
            return line
        raise structlog.DropEvent

    def _tell(self, kept_back: Callable[[], Mapping[str, int]]) -> None:
        for event, lines in kept_back().items():
            self._write({"level": "warning", "event": "suppressed", "what": event, "lines": lines})

    def _write(self, entry: Entry) -> None:
        if line := self._unsent(entry):
            _Stderr().msg(line)

    def _unsent(self, entry: Entry) -> bytes:
        """Empty when the journal has taken it, else what is to be written instead."""
        clean = self._renderer.clean(entry)
        line = self._renderer.line(clean)
        if self._journal is None:
            return line
        values = {name: value for name, value in clean.items() if name not in ("time", "level")}
        message = re.sub(rb"(?m)^<\d>", b"", line).decode()
        try:
            self._journal.send(message, _PRIORITIES[clean["level"]], values)
        except OSError:
            return line
        return b""


def _json(entry: Entry) -> str:
    """One object; whatever could confuse a terminal or a reader of lines is escaped as JSON does it."""
    line = json.dumps(entry, ensure_ascii=False, allow_nan=False)
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)


def _journal(entry: Entry) -> str:
    """Without time, which the journal knows; each line has its priority in front, as `sd-daemon(3)` has it."""
    mark = f"<{_PRIORITIES[entry['level']]}>"
    return "\n".join(mark + line for line in [f"{_escaped(entry['event'])}{_pairs(entry)}", *_trace_lines(entry)])


def _console(entry: Entry, *, coloured: bool) -> str:
    """Local time of day, level, event and values; a traceback below, indented."""
    level, event = f"{entry['level']:<8}", _escaped(entry["event"])
    if coloured:
        level, event = f"\x1b[{_COLOURS[entry['level']]}m{level}\x1b[0m", f"\x1b[1m{event}\x1b[0m"
    moment = datetime.now().astimezone().strftime("%H:%M:%S")
    return "\n".join([f"{moment} {level} {event}{_pairs(entry)}", *_trace_lines(entry)])


def _pairs(entry: Entry) -> str:
    values = {name: value for name, value in entry.items() if name not in (*_HEAD, "exception")}
    values["process"] = entry["process"]
    return "".join(f" {_escaped(name)}={_pair_value(value)}" for name, value in values.items())


def _pair_value(value: object) -> str:
    if isinstance(value, str):
        shown = _escaped(value)
        return shown if shown and not re.search(r"[\s=\"]", shown) else f'"{shown}"'
    return _escaped(json.dumps(value, ensure_ascii=False))


def _trace_lines(entry: Entry) -> list[str]:
    return [f"    {_escaped(line)}" for line in entry.get("exception", "").splitlines()]


def _escaped(text: str) -> str:
    """`text` on one line and harmless to a terminal; a byte that was no UTF-8 reads `\\xff`."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return ascii(character)[1:-1]


def _plain(value: object, depth: int = 0) -> Any:
    """`value` as what JSON knows, without secrets; numbers, truth and None stay what they are."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    if depth < _DEEPEST:
        if isinstance(value, Mapping):
            return {_name(name): _hidden_or(name, item, depth + 1) for name, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [_plain(item, depth + 1) for item in value]
    text = redact(_as_text(value))
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}… ({len(text)} characters)"


def _hidden_or(name: object, value: object, depth: int = 0) -> Any:
    if isinstance(name, str | bytes) and _name(name).lower() in _SECRET_NAMES:
        return _HIDDEN
    return _plain(value, depth)


def _name(name: object) -> str:
    return redact(_as_text(name))


def _as_text(value: object) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        text = bytes(value).decode("utf-8", "surrogateescape")
    else:
        try:
            text = f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else str(value)
        except Exception as error:  # noqa: BLE001 - a value that cannot be shown must not stop the loop that logs it
            text = f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"
    # A name's undecodable bytes become visible here, so that every reader of JSON can take the entry.
    return re.sub("[\ud800-\udfff]", lambda found: _escape(found[0]), text)


def _trace(exc_info: object) -> str:
    if exc_info is True:
        exc_info = sys.exc_info()
    if isinstance(exc_info, tuple):
        exc_info = exc_info[1]
    if not isinstance(exc_info, BaseException):
        return ""
    return _as_text("".join(traceback.format_exception(exc_info)).rstrip())


class _Route(logging.Handler):
    """Takes what libraries log with the standard library."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log it as the event `library` with the logger's name."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):  # arguments that do not fit: the library's slip, still worth a line
            message = str(record.msg)
        level = min(max(record.levelno, logging.WARNING), logging.CRITICAL) // 10 * 10
        structlog.get_logger().log(level, "library", logger=record.name, message=message, exc_info=record.exc_info)


def _route_libraries() -> None:
    root = logging.getLogger()
    root.handlers = [_Route(logging.WARNING)]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)


def _style(format: str) -> Style:
    if format == "json":
        return "json"
    if is_journal():
        return "journal"
    return "console" if format == "text" or _is_terminal() else "json"


def is_journal() -> bool:
    """Whether standard error is the stream that systemd announced (systemd.exec(5), JOURNAL_STREAM)."""
    status = os.fstat(_STDERR)
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _is_terminal() -> bool:
    return os.isatty(_STDERR)


def _wants_colour() -> bool:
    return _is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _occupy_stderr() -> None:
    """Give descriptor 2 to /dev/null if it is closed: else the next file opened gets it, and the log with it."""
    try:
        os.fstat(_STDERR)
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        if null != _STDERR:
            os.dup2(null, _STDERR)
            os.close(null)
