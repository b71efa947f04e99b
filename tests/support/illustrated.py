"""`python illustrated.py PROGRAM ARGUMENTS…`: run gsvrd's command with work that shows pictures and takes a moment.

Storms, kill points and power cuts put it before the command, as they do `strace`: everything is the product's own but the
analyzer, which says what the container holds, as `probe` does, and adds stills. So a report is more than one file, long
enough to be cut in the middle, and there is time to strike while it is made.
"""

from __future__ import annotations

import os
import runpy
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from gsvrd.analysis import Analysis, Picture
from gsvrd.analyzers.base import Analyzer, Workbench
from gsvrd.analyzers.probe import ProbeAnalyzer
from gsvrd.pool.execute import VideoWork, Ways
from gsvrd.pool.execute import make as make_video_work
from gsvrd.pool.worker import Work

PICTURES = {"slide-1.png": b"\x89PNG\r\n\x1a\n" + b"first" * 4000}
"""What each report shows, byte for byte."""
SUMMARY = " ".join(["This stands for what a lecture has to say."] * 400)
MOMENT_S = 0.02


class IllustratedAnalyzer(ProbeAnalyzer):
    """See `analyzers.base.Analyzer`."""

    name = "illustrated"

    def analyze(self, bench: Workbench) -> Analysis:
        """What `probe` says, with a picture and a long text."""
        told = super().analyze(bench)
        for name, data in PICTURES.items():
            (bench.assets / name).write_bytes(data)
        time.sleep(MOMENT_S)
        (name,) = PICTURES
        picture = Picture(file=name, at_s=0.0, width=32, height=32)
        chapters = tuple(chapter.model_copy(update={"picture": picture}) for chapter in told.chapters)
        return told.model_copy(update={"chapters": chapters, "summary": (SUMMARY,)})


def make(settings: bytes) -> Work:
    """The product's work with that analyzer."""
    work = make_video_work(settings)
    assert isinstance(work, VideoWork)
    _, template = work.ways._make(work.settings.template, work.settings.language, work.settings.gemini.max_duration_s)
    longest_s = work.settings.gemini.max_duration_s
    illustrated: Analyzer = IllustratedAnalyzer()
    made = {(work.settings.template, work.settings.language, longest_s): (illustrated, template)}
    return replace(work, ways=Ways(work.settings, made))


def prefix() -> tuple[str, ...]:
    """Words to run the command under."""
    return (sys.executable, os.path.abspath(__file__))


def environ() -> dict[str, str]:
    """What the daemon and its workers need to find this module."""
    paths = (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", ""))
    return {"GSVRD_ANALYZER": "probe", "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def is_whole(report: bytes, sha256: str) -> bool:
    """Whether a report of this video goes to its very end, where the video's hash stands."""
    return report.startswith(b"---\n") and SUMMARY.encode() in report and report.endswith(f"{sha256}\n".encode())


def main() -> None:
    """Be the command."""
    from gsvrd.daemon import run

    run.run = partial(run.run, work=run.WorkMaker("support.illustrated:make"))
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
