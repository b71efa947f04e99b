"""From a file and the environment to one `Config`, or to a list of everything that is wrong.

Called by both commands at start, by `gsvrd check`, and by the daemon on SIGHUP. Reads the file, writes nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from gsvrd.config.document import Document, Problem, read_file
from gsvrd.config.environment import override
from gsvrd.config.explain import explain
from gsvrd.config.models import Config, Settings
from gsvrd.config.places import find_file
from gsvrd.errors import ConfigError


def load(home: Path, file: Path | None, environ: Mapping[str, str]) -> Config:
    """The settings in effect at `home`: the defaults, over them the file, over it variables (`GSVRD_WORKERS__MAX=3`).

    Without `file` it is the one that `find_file` names. Raises `ConfigError`; its message lists every problem.
    """
    home = Path(os.path.abspath(home))
    chosen = file or find_file(home, environ)
    document = read_file(chosen) if chosen else Document("defaults")
    if document.values is None:
        document.values = {}
    if isinstance(document.values, dict):  # said or not, the directories must be apart at this home
        document.values.setdefault("directories", None)
    override(document, environ)
    problems = list(document.problems)
    try:
        settings = Settings.model_validate(document.values, context={"home": str(home)})
    except ValidationError as error:
        problems += [explain(detail, document, Settings) for detail in error.errors(include_url=False)]
    if problems:
        raise ConfigError(
            _listed(problems), "Correct this and try again; `gsvrd check` looks without starting anything."
        )
    return Config(home=home, **dict(settings))


def fingerprint(config: Config) -> str:
    """Twelve hex digits that change with any setting in effect, but not with the home or the wording of the file."""
    plain = json.dumps(config.model_dump(exclude={"home"}), sort_keys=True)
    return hashlib.sha256(plain.encode()).hexdigest()[:12]


def _listed(problems: Sequence[Problem]) -> str:
    """Problems in the order of the file, then those of variables."""
    ordered = sorted(problems, key=lambda problem: (not problem.place.line, problem.place.line))
    title = (
        "the configuration has a problem:" if len(problems) == 1 else f"the configuration has {len(problems)} problems:"
    )
    return "\n  ".join([title, *map(str, ordered)])
