from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import gsvrd
from gsvrd import crashpoints
from gsvrd.crashpoints import POINTS, VARIABLE, arm
from gsvrd.errors import ConfigError

HOUSE = Path(gsvrd.__file__).parent
POINT, OTHER = "publish.linked", "publish.synced"
REACH = f"from gsvrd.crashpoints import reach; reach({POINT!r}); reach({OTHER!r})"


def python(code: str, armed: Path | None) -> int:
    environ = {name: value for name, value in os.environ.items() if name != VARIABLE}
    if armed is not None:
        environ[VARIABLE] = str(armed)
    return subprocess.run([sys.executable, "-c", code], env=environ, timeout=60, check=False).returncode


def test_no_point_does_anything_while_the_variable_is_not_set(tmp_path: Path) -> None:
    arm(tmp_path, POINT)
    assert python(REACH, None) == 0
    assert os.listdir(tmp_path) == [POINT]


def test_an_armed_point_fells_the_first_process_that_reaches_it_and_only_that(tmp_path: Path) -> None:
    arm(tmp_path, POINT)
    assert python(REACH, tmp_path) == -signal.SIGKILL
    assert python(REACH, tmp_path) == 0


def test_a_point_can_be_armed_while_the_process_runs(tmp_path: Path) -> None:
    code = (
        f"from pathlib import Path; from gsvrd.crashpoints import arm, reach; reach({OTHER!r});"
        f"arm(Path({str(tmp_path)!r}), {OTHER!r}); reach({POINT!r}); reach({OTHER!r})"
    )
    assert python(code, tmp_path) == -signal.SIGKILL
    assert os.listdir(tmp_path) == []


def test_a_transaction_fells_by_the_kinds_of_its_statements(tmp_path: Path) -> None:
    code = f"from gsvrd.crashpoints import reach_any; reach_any({{'UPDATE': {POINT!r}}}, ['INSERT', %r])"
    arm(tmp_path, POINT)
    assert python(code % "DELETE", tmp_path) == 0
    assert python(code % "UPDATE", tmp_path) == -signal.SIGKILL


def test_nothing_but_a_known_point_can_be_armed_and_only_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no crash point 'publish'"):
        arm(tmp_path, "publish")
    arm(tmp_path, POINT)
    with pytest.raises(FileExistsError):
        arm(tmp_path, POINT)


@pytest.mark.parametrize("mistake", ["an unknown point", "no folder"])
def test_a_daemon_does_not_start_with_points_nobody_knows(tmp_path: Path, mistake: str) -> None:
    armed = tmp_path / "armed"
    if mistake == "an unknown point":
        armed.mkdir()
        (armed / "publish.linkd").touch()
    ran = subprocess.run(
        [sys.executable, "-m", "gsvrd", "run", "--home", str(tmp_path)],
        env={"PATH": os.environ["PATH"], VARIABLE: str(armed)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == os.EX_CONFIG
    assert ("publish.linkd" if armed.exists() else VARIABLE) in ran.stderr
    assert not (tmp_path / "home").exists()


def test_every_point_stands_once_in_the_program_and_no_other_does() -> None:
    assert Counter(points_in_the_program()) == Counter(dict.fromkeys(POINTS, 1))


def points_in_the_program() -> Iterator[str]:
    """What `reach` is called with, and the tables of `reach_any`."""
    for file in HOUSE.rglob("*.py"):
        if file == Path(crashpoints.__file__):
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "reach":
                yield ast.literal_eval(node.args[0])
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("_UNCOMMITTED", "_COMMITTED"):
                assert isinstance(node.value, ast.Dict)
                yield from map(ast.literal_eval, node.value.values)
