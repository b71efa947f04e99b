"""The shipped templates, a folder for the user's own, and answers that are right until a test spoils them."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from gsvrd.analysis import Analysis, Chapter, KeyTerm, Line, Question
from gsvrd.errors import ConfigError
from gsvrd.templates.load import load_templates
from gsvrd.templates.model import Template

MINE = """\
name: mine
version: 1
description: For the tests.
parameters:
  topic:
    type: text
    default: light
    description: What it is about.
prompt:
  system: |
    Be exact.
    SYSTEM
  user: |
    Teach {{ topic }}.
    USER
output:
  sections: [summary]
"""

Mine = Callable[..., Template]
Problems = Callable[[str], list[str]]


@pytest.fixture(scope="session")
def shipped() -> Mapping[str, Template]:
    return load_templates(None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "templates"
    folder.mkdir()
    return folder


@pytest.fixture
def mine_text() -> str:
    """The text of a small template; the lines SYSTEM and USER are for tests to replace."""
    return MINE


@pytest.fixture
def mine(folder: Path) -> Mine:
    """A small template of the user's with `user` and `system` as a further line of its prompts."""

    def load(user: str = "", system: str = "", text: str = MINE) -> Template:
        text = text.replace("    USER", textwrap.indent(user, "    ")).replace("    SYSTEM", f"    {system}")
        (folder / "mine.yaml").write_text(text, encoding="utf-8")
        return load_templates(folder)["mine"]

    return load


@pytest.fixture
def problems(folder: Path) -> Problems:
    """The problems of a user template with this text, without the folder and the title."""

    def listed(text: str) -> list[str]:
        (folder / "mine.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError) as refused:
            load_templates(folder)
        return [line.strip().replace(f"{folder}/", "") for line in str(refused.value).splitlines()[1:]]

    return listed


@pytest.fixture
def lesson() -> Analysis:
    """A good answer to `comprehensive_lesson` about a video of 600 s."""
    chapters = [
        Chapter(
            start_s=start, end_s=start + 200, title=title, key_points=(f"{title} is shown with a lamp and a leaf.",)
        )
        for start, title in ((0, "Light arrives"), (200, "Water splits"), (400, "Sugar is made"))
    ]
    return Analysis(
        title="Photosynthesis",
        language="en",
        duration_s=600,
        summary=("Plants make sugar from light, water and air. The lesson follows one ray of light through a leaf.",),
        objectives=("Explain where the oxygen comes from.", "Draw the way of a ray of light."),
        chapters=tuple(chapters),
        key_terms=(KeyTerm(term="Stroma", meaning="The space inside the chloroplast", at_s=410),),
        transcript=(Line(start_s=30, end_s=40, text="Why is a leaf green?", speaker="Teacher"),),
        activities=("In pairs, learners put water weed under a lamp and count the bubbles.",),
        quiz=(
            Question(prompt="Which gas leaves the leaf?", answer="Oxygen", choices=("Oxygen", "Nitrogen"), at_s=250),
        ),
    )


@pytest.fixture
def transcript() -> Analysis:
    """A good answer to `chinese_transcript` about a video of 600 s."""
    lines = [
        Line(
            start_s=20 * n,
            end_s=20 * n + 18,
            text=f"现在我们看例子{n + 1}，它用{n * 7 + 3}片叶子说明，植物怎样利用阳光，把水和空气变成自己需要的养料。",
            speaker="主讲人",
        )
        for n in range(30)
    ]
    return Analysis(
        title="光合作用",
        language="zh",
        duration_s=600,
        summary=("我这节课想讲清楚一个问题：植物不吃东西，为什么也能长大。我从一片叶子讲起，带大家看了十个例子。",),
        transcript=tuple(lines),
    )
