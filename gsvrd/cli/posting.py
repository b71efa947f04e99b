"""Writing a submission into the inbox: the manifest in one step, copies before their folder gets its name.

Called by `submit` when nothing is wrong. Raises OSError, and leaves nothing behind then.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from gsvrd.cli.submitting import Submission, Video
from gsvrd.config.base import parts
from gsvrd.config.document import Place, Problem
from gsvrd.config.models import Config
from gsvrd.config.options import Options
from gsvrd.config.rules import Rule
from gsvrd.intake.manifest import read_manifest
from gsvrd.intake.names import NameRules
from gsvrd.reports.naming import slug

_NAME_BYTES = 150


def check(submission: Submission, config: Config) -> list[Problem]:
    """What the daemon would say against the manifest as a whole: too many rows, or a name that is left alone."""
    name = f"{_stem(submission)}.yaml"
    if not NameRules(config.intake.suffixes, config.intake.ignore).is_manifest(os.fsencode(name)):
        return [Problem(Place(name), "intake.ignore leaves a manifest of this name alone; give another --name")]
    return list(read_manifest(Path(name), text_of(submission, config.inbox).encode()).problems)


def post(submission: Submission, inbox: Path) -> Path:
    """Write it; the path of the manifest."""
    stem = _stem(submission)
    manifest = inbox / f"{stem}.{secrets.token_hex(4)}.yaml"
    if not (submission.copy and any(map(_is_outside, submission.videos))):
        _write(manifest, text_of(submission, inbox))
        return manifest
    staged = inbox / f".gsvrd-{secrets.token_hex(8)}.part"
    folder = _free_folder(inbox, stem)
    try:
        placed = _copied(submission.videos, staged, folder)
        # First the manifest: when the videos appear, what was said of them is known.
        _write(manifest, text_of(replace(submission, videos=placed), inbox))
        os.rename(staged, folder)
    except BaseException:
        manifest.unlink(missing_ok=True)
        shutil.rmtree(staged, ignore_errors=True)
        folder.rmdir()
        raise
    return manifest


def text_of(submission: Submission, inbox: Path) -> str:
    """The manifest as YAML; JSON's strings are YAML's, whatever is in them."""
    lines = ["# Written by gsvrctl submit.", f"name: {_quoted(submission.name)}"]
    options = list(_options(submission.options))
    lines += ["options:", *(f"  {option}" for option in options)] if options else []
    lines.append("videos:")
    lines += [f"  - {_row(video, os.fsencode(inbox))}" for video in submission.videos]
    return "\n".join(lines) + "\n"


def _stem(submission: Submission) -> str:
    return slug(submission.name, _NAME_BYTES).replace("~", "_")


def _is_outside(video: Video) -> bool:
    return bool(video.path) and not video.is_inside


def _row(video: Video, inbox: bytes) -> str:
    row = video.row
    path = video.path[len(inbox.rstrip(b"/")) + 1 :] if video.is_inside else video.path
    said = [f"url: {_quoted(row.url)}" if row.url else f"path: {_quoted(os.fsdecode(path))}"]
    said += [f"output_name: {_quoted(row.output_name)}"] if row.output_name else []
    said += _options(row.options)
    return "{" + ", ".join(said) + "}" if len(said) > 1 else _quoted(row.url or os.fsdecode(path))


def _options(options: Options) -> Iterator[str]:
    for name, part in parts(Options).items():
        value = getattr(options, name)
        if value is not None and isinstance(part, Rule):
            yield f"{name}: {_plain(part.show(value))}"


def _plain(value: Any) -> str:
    return f"{value:.6f}" if isinstance(value, float) else _quoted(value)


def _quoted(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _copied(videos: list[Video], staged: Path, folder: Path) -> list[Video]:
    staged.mkdir(mode=0o755)
    placed = []
    for video in videos:
        if _is_outside(video):
            below = _free(staged, video.below)
            target = os.path.join(os.fsencode(staged), below)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copyfile(video.path, target)
            video = replace(video, path=os.path.join(os.fsencode(folder), below), is_inside=True)
        placed.append(video)
    return placed


def _free(staged: Path, below: bytes) -> bytes:
    stem, suffix = os.path.splitext(below)
    number = 1
    while os.path.lexists(os.path.join(os.fsencode(staged), below)):
        number += 1
        below = b"%s-%d%s" % (stem, number, suffix)
    return below


def _free_folder(inbox: Path, stem: str) -> Path:
    """An empty folder that nobody else uses."""
    number = 1
    while True:
        folder = inbox / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir(mode=0o755)
        except FileExistsError:
            number += 1
        else:
            return folder


def _write(target: Path, text: str) -> None:
    temporary = target.with_name(f".gsvrd-{secrets.token_hex(8)}.part")
    try:
        with open(temporary, "xb") as stream:
            stream.write(text.encode())
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
