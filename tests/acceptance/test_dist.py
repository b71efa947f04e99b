"""What is handed out can be used without this repository. `make dist` tries it on every Python that is there."""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email.message import Message
from pathlib import Path

import pytest
from support.daemon import environment

ROOT = Path(__file__).parents[2]
WHOLE = bool(os.environ.get("GSVRD_DIST"))
"""Fetch the dependencies, too, and try other Pythons: minutes."""
PYTHONS = [f"python3.{minor}" for minor in range(11, 15)]


def run(*words: object, cwd: Path, home: Path) -> subprocess.CompletedProcess[str]:
    shown = {name: value for name, value in environment(HOME=str(home)).items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(word) for word in words], cwd=cwd, env=shown, text=True, capture_output=True, timeout=900
    )


@pytest.fixture(scope="module")
def handed_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist; made from a copy, so that nothing is left in the repository."""
    folder = tmp_path_factory.mktemp("dist")
    copy = folder / "clone"
    unwanted = shutil.ignore_patterns(".*_cache", ".git", ".venv*", ".hypothesis", "__pycache__", "state", "reports-*")
    copy.mkdir()
    for entry in sorted(ROOT.iterdir()):
        if entry.name in (".git", "archive", "failed", "reports", "state") or unwanted(str(ROOT), [entry.name]):
            continue
        if entry.is_dir():
            shutil.copytree(entry, copy / entry.name, ignore=unwanted)
        else:
            shutil.copy2(entry, copy / entry.name)
    made = run(sys.executable, "-m", "hatchling", "build", "-d", folder, cwd=copy, home=folder)
    assert made.returncode == 0, made.stderr
    shutil.rmtree(copy)
    return folder


@pytest.fixture(scope="module")
def wheel(handed_out: Path) -> Path:
    (found,) = handed_out.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def sdist(handed_out: Path) -> Path:
    (found,) = handed_out.glob("*.tar.gz")
    return found


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def content(wheel: Path) -> dict[str, int]:
    with zipfile.ZipFile(wheel) as archive:
        return {item.filename: item.CRC for item in archive.infolist()}


def test_the_wheel_carries_code_types_units_and_the_licence_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {"gsvrd/py.typed", "gsvrd/unit/gsvrd.service", "gsvrd/unit/gsvrd.yaml"} <= names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"gsvrd"}
    code = {str(path.relative_to(ROOT)) for path in (ROOT / "gsvrd").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == code
    assert not any("__pycache__" in name for name in names)


def test_the_metadata_names_licence_and_pythons_and_no_index(wheel: Path) -> None:
    said = metadata(wheel)
    assert said["License-Expression"] == "MIT"
    assert said["Requires-Python"] == ">=3.11"
    classifiers = said.get_all("Classifier") or []
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in range(11, 15)} <= set(classifiers)
    assert "Typing :: Typed" in classifiers
    assert not [line for line in said.get_all("Requires-Dist") or [] if "://" in line]
    assert "simple/" not in str(said)


def test_the_sdist_holds_what_is_needed_to_test_and_to_build_it(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {
        "pyproject.toml",
        "constraints.txt",
        "Makefile",
        "Containerfile",
        "LICENSE",
        ".importlinter",
        "CHANGELOG.md",
    }
    wanted |= {"README.md", "README.zh-CN.md", "systemd/gsvrd.service", "config/gsvrd.yaml", "docs/security.md"}
    wanted |= {"tests/conftest.py", "tests/media/samples/lecture-en.mp4", "benchmarks/daemon.py", "inbox/.gitkeep"}
    assert wanted - names == set()
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".db"))]


def test_the_sdist_makes_the_same_wheel(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    made = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path, cwd=folder, home=tmp_path)
    assert made.returncode == 0, made.stderr
    assert content(tmp_path / wheel.name) == content(wheel)


def test_the_wheel_works_in_a_fresh_environment_without_the_repository(wheel: Path, tmp_path: Path) -> None:
    """Its dependencies are lent to it, so that nothing is fetched."""
    fresh = tmp_path / "fresh"
    assert run(sys.executable, "-m", "venv", "--without-pip", fresh, cwd=tmp_path, home=tmp_path).returncode == 0
    site = fresh / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    pip = (sys.executable, "-m", "pip", "--python", fresh / "bin" / "python", "install", "--no-deps", "--no-index")
    made = run(*pip, wheel, cwd=tmp_path, home=tmp_path)
    assert made.returncode == 0, made.stderr
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    works(fresh / "bin", tmp_path)


@pytest.mark.skipif(not WHOLE, reason="fetches hundreds of megabytes: `make dist` does it")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("python", PYTHONS)
def test_the_wheel_and_all_it_needs_install_on_every_python(wheel: Path, tmp_path: Path, python: str) -> None:
    if shutil.which(python) is None or run(python, "--version", cwd=tmp_path, home=Path.home()).returncode:
        pytest.skip(f"no {python} here")
    fresh = tmp_path / "fresh"
    assert run(python, "-m", "venv", fresh, cwd=tmp_path, home=Path.home()).returncode == 0
    pip = (fresh / "bin" / "python", "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt")
    made = run(*pip, wheel, cwd=tmp_path, home=Path.home())
    assert made.returncode == 0, made.stderr
    works(fresh / "bin", tmp_path)


def works(commands: Path, folder: Path) -> None:
    home = folder / "home"
    home.mkdir()
    version = run(commands / "gsvrd", "--version", cwd=home, home=home)
    assert version.returncode == 0, version.stderr
    assert version.stdout.startswith("gsvrd, version ")
    helped = run(commands / "gsvrctl", "--help", cwd=home, home=home)
    assert helped.returncode == 0, helped.stderr
    assert "See and steer" in helped.stdout
    checked = run(commands / "gsvrd", "check", cwd=home, home=home)
    assert checked.returncode == 0, checked.stderr
    assert "no problems" in checked.stdout
    where = run(commands / "python", "-c", "import gsvrd; print(gsvrd.__file__)", cwd=home, home=home).stdout
    assert Path(where).is_relative_to(folder)
    unit = run(commands / "gsvrctl", "service", "show", cwd=home, home=home)
    assert "[Service]" in unit.stdout, unit.stderr


# -- the container -------------------------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """Of the Containerfile: lines that go on are joined, comments left out."""
    text = (ROOT / "Containerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(None, 1)[0], " ".join(line.split(None, 1)[1].split())) for line in lines]


def test_the_container_is_made_of_what_is_there() -> None:
    copied = [words for name, words in instructions() if name == "COPY"]
    assert copied
    for words in copied:
        if words.startswith("--from="):
            continue
        for source in words.split()[:-1]:
            assert (ROOT / source).exists(), source


def test_what_the_container_copies_is_enough_to_build_a_whole_wheel(wheel: Path, tmp_path: Path) -> None:
    for name, words in instructions():
        for source in words.split()[:-1] if name == "COPY" and not words.startswith("--") else ():
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(ROOT / source, tmp_path / source)
    made = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", cwd=tmp_path, home=tmp_path)
    assert made.returncode == 0, made.stderr
    assert content(tmp_path / "dist" / wheel.name).keys() == content(wheel).keys()


def test_the_container_runs_as_a_user_of_its_own_and_says_how_it_fares() -> None:
    found = instructions()
    names = [name for name, _ in found]
    users = [words for name, words in found if name == "USER"]
    assert users == ["10001:10001"]  # a number, so that "must not be root" can be checked from outside
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert not [words for name, words in found if name == "ADD" or ("latest" in words and name == "FROM")]
    (health,) = (words for name, words in found if name == "HEALTHCHECK")
    assert "gsvrctl" in health
    assert "status" in health
    assert dict(found)["STOPSIGNAL"] == "SIGTERM"


def test_what_the_container_starts_and_asks_are_commands_that_there_are(tmp_path: Path) -> None:
    found = dict(instructions())
    words = found["ENTRYPOINT"].strip("[]").replace('"', "").replace(",", "").split()
    words += found["CMD"].strip("[]").replace('"', "").replace(",", "").split()
    assert words == ["gsvrd", "run"]
    for program, command in (("gsvrd", "run"), ("gsvrctl", "status")):
        asked = run(Path(sys.executable).parent / program, command, "--help", cwd=tmp_path, home=tmp_path)
        assert asked.returncode == 0, asked.stderr


def test_the_container_asks_for_the_files_of_a_build_only() -> None:
    """What is not for it is not even sent: above all nobody's videos and no key."""
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert ignored[0] == "*"
    copied = {source for name, words in instructions() if name == "COPY" for source in words.split()[:-1]}
    assert ignored[-1] == "**/__pycache__"
    allowed = {line.lstrip("!") for line in ignored if line.startswith("!")}
    assert {source for source in copied if not source.startswith("--from=") and not source.startswith("/")} <= allowed


# -- shells and man ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", ["gsvrd", "gsvrctl"])
@pytest.mark.parametrize(("shell", "word"), [("bash", "complete "), ("zsh", "compdef"), ("fish", "complete ")])
def test_each_shell_gets_a_completion_that_knows_the_command(
    program: str, shell: str, word: str, tmp_path: Path
) -> None:
    command = Path(sys.executable).parent / program
    made = run(command, "completion", shell, cwd=tmp_path, home=tmp_path)
    assert made.returncode == 0, made.stderr
    assert word in made.stdout
    assert program in made.stdout
    assert f"_{program.upper()}_COMPLETE" in made.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes_a_command(tmp_path: Path) -> None:
    folder = Path(sys.executable).parent
    script = (
        f'PATH="{folder}:$PATH"; eval "$(gsvrctl completion bash)"; COMP_WORDS=(gsvrctl bat); COMP_CWORD=1;'
        'compopt() { :; }; _gsvrctl_completion gsvrctl; echo "${COMPREPLY[@]}"'
    )
    assert run("bash", "-c", script, cwd=tmp_path, home=tmp_path).stdout.split() == ["batch", "batches"]


def test_the_manual_pages_tell_every_command_and_option_and_nothing_is_markup(tmp_path: Path) -> None:
    command = Path(sys.executable).parent / "gsvrctl"
    page = run(command, "manual", cwd=tmp_path, home=tmp_path).stdout
    helped = run(command, "--help", cwd=tmp_path, home=tmp_path).stdout
    commands = re.findall(r"^  ([a-z]+)\b", helped.partition("Commands:")[2], re.MULTILINE)
    assert "submit" in commands
    assert [name for name in commands if f'\n.SS "gsvrctl {name} ' not in page] == []
    assert "\\-\\-cost\\-limit" in page
    assert "\b" not in page
    known = (".TH", ".SH", ".SS", ".TP", ".B", ".PP", ".nf", ".fi", ".nh", ".ad")
    assert [line for line in page.splitlines() if line.startswith((".", "'")) and not line.startswith(known)] == []


@pytest.mark.skipif(shutil.which("man") is None, reason="no man here")
@pytest.mark.parametrize("program", ["gsvrd", "gsvrctl"])
def test_man_shows_the_page_without_a_complaint(program: str, tmp_path: Path) -> None:
    page = tmp_path / f"{program}.1"
    page.write_text(run(Path(sys.executable).parent / program, "manual", cwd=tmp_path, home=tmp_path).stdout)
    shown = run("man", "--warnings=w", "-E", "utf8", "-l", page, cwd=tmp_path, home=tmp_path)
    assert shown.returncode == 0
    assert shown.stderr == ""
    assert program in shown.stdout
