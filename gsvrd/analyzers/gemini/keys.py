"""Where the key comes from. Read by the worker itself, so that it never travels in a message or a row."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from gsvrd.errors import ErrorKind, TaskError

_LARGEST = 4096


def read_key(source: str, environ: Mapping[str, str] = os.environ) -> str:
    """The key that `source` names: `env:NAME`, `file:/path`, or `credential:NAME` in systemd's directory.

    Raises `TaskError` (KEY) that says what is missing, never what was found.
    """
    kind, _, name = source.partition(":")
    match kind:
        case "env":
            key = environ.get(name, "")
        case "file":
            key = _read(Path(name), source)
        case "credential":
            key = _read(_credential(name, environ), source)
        case _:
            # Not shown: somebody may have written the key itself there.
            raise _no_key("the source of the key is not known; allowed: env:NAME, file:/path, credential:NAME")
    key = key.strip()
    if not key:
        raise _no_key(f"there is no key in {source}")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise _no_key(f"what is in {source} is no key: it holds spaces, line breaks or letters no key has")
    return key


def _credential(name: str, environ: Mapping[str, str]) -> Path:
    folder = environ.get("CREDENTIALS_DIRECTORY", "")
    if not folder:
        raise _no_key("systemd gave no credentials (CREDENTIALS_DIRECTORY is not set)")
    return Path(folder, name)


def _read(path: Path, source: str) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST).decode("utf-8", "replace")
    except OSError as error:
        raise _no_key(f"{source} cannot be read: {error.strerror}") from error


def _no_key(message: str) -> TaskError:
    hint = "Make a key in Google AI Studio, and set GEMINI_API_KEY or analyzer.gemini.key."
    return TaskError(ErrorKind.KEY, message, hint)
