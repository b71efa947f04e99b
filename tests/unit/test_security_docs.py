"""Every threat that `docs/security.md` names has tests, and they are there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
TOPICS = (
    "symbolic link",
    "hard link",
    "between check and use",
    "title",
    "pattern",
    "list names",
    "template",
    "decoder",
    "html",
    "yaml",
    "ssrf",
    "entry of the log",
    "read the state",
    "million tiny files",
    "steer the daemon",
)


@cache
def names_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def rows() -> list[list[str]]:
    table = PAGE.partition("## Threats")[2].partition("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_every_threat_names_tests_that_there_are() -> None:
    assert rows()
    for threat, _, cell in rows():
        named = re.findall(r"`([^`]+)`", cell)
        assert named, threat
        assert " ".join(f"`{name}`" for name in named) == cell, threat
        for name in named:
            file, _, test = name.partition("::")
            assert (ROOT / file).is_file(), name
            assert test in names_in(file), name


def test_no_threat_is_forgotten() -> None:
    threats = " ".join(row[0] for row in rows()).lower()
    assert [topic for topic in TOPICS if topic not in threats] == []
