"""A lecture whose report has every section."""

from __future__ import annotations

import pytest

from gsvrd.analysis import Analysis, Chapter, KeyTerm, Line, MediaFacts, Picture, Question, Step
from gsvrd.reports.lesson_plan import ReportContext


@pytest.fixture
def facts() -> MediaFacts:
    return MediaFacts(
        sha256="ab12" * 16,
        size_bytes=48_300_000,
        container="mov",
        duration_s=4000.0,
        video_codec="h264",
        width=1280,
        height=720,
        fps=29.97,
        notes=("two packets are damaged",),
    )


@pytest.fixture
def analysis() -> Analysis:
    return Analysis(
        title="Photosynthesis",
        language="en",
        duration_s=4000.0,
        summary=("How light becomes sugar.",),
        objectives=("Name what goes in.",),
        chapters=(
            Chapter(
                start_s=0,
                end_s=3700,
                title="The leaf",
                key_points=("Light goes in",),
                slide_text=("The leaf", "- light"),
                picture=Picture(file="001.jpg", at_s=12, width=960, height=540),
            ),
            Chapter(start_s=3700, end_s=4000, title=" "),
        ),
        key_terms=(KeyTerm(term="Stroma", meaning="the space inside", at_s=75),),
        transcript=(
            Line(start_s=0, end_s=2, text="Good morning."),
            Line(start_s=2, end_s=4, text="It's mumbled.", unclear=True),
        ),
        activities=("Draw a leaf.",),
        quiz=(
            Question(prompt="Which gas?", answer="Oxygen", choices=("Nitrogen", "Oxygen"), at_s=80),
            Question(prompt="Why green?", answer="It reflects green."),
        ),
        resources=("https://bio.example.org/x",),
        steps=(Step(name="Speech", how="recognised"),),
        gaps=("There are no subtitles.",),
    )


@pytest.fixture
def context() -> ReportContext:
    return ReportContext(
        source="lecture.mp4",
        template="lesson_plan",
        analyzer="local",
        language="auto",
        version="0.1.0",
        assets="lecture (1).assets",
        made_at=1_767_323_045.0,
        task="17-ab12",
        attempt=2,
    )
