from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from gsvrd.analysis import Analysis
from gsvrd.analyzers.gemini.settings import GeminiSettings
from gsvrd.analyzers.local import LocalAnalyzer, LocalSettings
from gsvrd.analyzers.registry import make_analyzer
from gsvrd.errors import SetupError
from gsvrd.templates.load import load_templates

TOPICS = [
    ("Photosynthesis", ("Light is caught by the leaves", "Water comes from the roots")),
    ("Respiration", ("Sugar is taken apart", "Energy becomes free")),
    ("Fermentation", ("Yeast works without oxygen", "Bread rises in the warmth")),
]
SPOKEN = """1
00:00:00,500 --> 00:00:03,500
Photosynthesis is the way a plant makes sugar from light and water.

2
00:00:04,500 --> 00:00:07,500
Respiration takes the sugar apart and sets its energy free.

3
00:00:08,500 --> 00:00:11,500
Fermentation by yeast needs sugar but no oxygen.
"""


@pytest.fixture
def lesson(maker: Any, drawn: Any) -> Path:
    shown = []
    for title, bullets in TOPICS:
        shown += [(drawn(title, bullets[:1]), 3.0), (drawn(title, bullets), 1.0)]
    path: Path = maker.video("lesson.mp4", shown, key_every_s=1.7)
    path.with_suffix(".srt").write_text(SPOKEN)
    return path


def footed(title: str, bullets: Sequence[str], foot: str) -> Any:
    image = Image.new("RGB", (640, 360), "white")
    draw = ImageDraw.Draw(image)
    for y, size, text in [(24, 40, title), (110, 26, bullets[0]), (166, 26, bullets[1]), (326, 18, foot)]:
        draw.text((40, y), text, fill="black", font=ImageFont.load_default(size))
    return np.asarray(image)


def study(bench: Any, **settings: Any) -> Analysis:
    return LocalAnalyzer(LocalSettings(**settings)).analyze(bench)


def test_a_lesson_becomes_chapters_with_titles_points_and_words(lesson: Path, bench_of: Any) -> None:
    pytest.importorskip("rapidocr")
    bench = bench_of(lesson, sidecars=[lesson.with_suffix(".srt")])
    analysis = study(bench)
    assert [c.title for c in analysis.chapters] == [title for title, _ in TOPICS]
    assert [c.start_s for c in analysis.chapters] == pytest.approx([0, 4, 8], abs=0.3)
    assert [c.key_points for c in analysis.chapters] == [bullets for _, bullets in TOPICS]
    assert analysis.language == "en"
    assert len(analysis.transcript) == 3
    assert "sugar" in {t.term for t in analysis.key_terms}
    assert analysis.gaps == ()
    assert {step for step, _ in bench.told} == {"slides", "text", "speech", "writing"}
    assert all(0 <= fraction <= 1 for _, fraction in bench.told)


def test_the_picture_shows_the_slide_with_its_last_bullet(lesson: Path, bench_of: Any, drawn: Any) -> None:
    bench = bench_of(lesson)
    analysis = study(bench, slide_text=False)
    assert sorted(p.name for p in bench.assets.iterdir()) == ["001.jpg", "002.jpg", "003.jpg"]
    for chapter, (title, bullets) in zip(analysis.chapters, TOPICS, strict=True):
        assert chapter.picture is not None
        shown = np.asarray(Image.open(bench.assets / chapter.picture.file).convert("L")).astype(int)
        complete = np.asarray(Image.fromarray(drawn(title, bullets)).convert("L")).astype(int)
        assert np.abs(shown - complete).mean() < 3


def test_the_foot_of_the_slides_is_neither_text_nor_point(maker: Any, bench_of: Any) -> None:
    pytest.importorskip("rapidocr")
    shown = [(footed(title, bullets, f"Botany course {i}/3"), 4.0) for i, (title, bullets) in enumerate(TOPICS, 1)]
    analysis = study(bench_of(maker.video("footed.mp4", shown)))
    assert [c.slide_text for c in analysis.chapters] == [(title, *bullets) for title, bullets in TOPICS]
    assert [c.key_points for c in analysis.chapters] == [bullets for _, bullets in TOPICS]


def test_an_upright_film_gives_an_upright_picture(maker: Any, turned: Any, bench_of: Any) -> None:
    lying = np.zeros((360, 640, 3), np.uint8)
    lying[:, :320] = 255  # a quarter turn clockwise brings the left side to the top
    bench = bench_of(turned(maker.video("turned.mp4", [(lying, 2.0)])))
    (chapter,) = study(bench, slide_text=False).chapters
    assert chapter.picture is not None
    image = np.asarray(Image.open(bench.assets / chapter.picture.file).convert("L"))
    assert image.shape == (640, 360)
    assert image[:300].mean() > 200
    assert image[340:].mean() < 50


def test_pictures_are_at_most_1280_wide(maker: Any, drawn: Any, bench_of: Any) -> None:
    bench = bench_of(maker.video("wide.mp4", [(drawn("Wide", size=(1920, 1080)), 1.0)]))
    (chapter,) = study(bench, slide_text=False).chapters
    assert chapter.picture is not None
    assert (chapter.picture.width, chapter.picture.height) == (1280, 720)


def test_chapters_of_the_file_beat_those_that_would_be_found(maker: Any, drawn: Any, bench_of: Any) -> None:
    shown = [(drawn(title, bullets), 4.0) for title, bullets in TOPICS]
    marks = [(0.0, 7.0, "Plants\n<b>and light</b>"), (7.0, 12.0, "Yeast")]
    analysis = study(bench_of(maker.video("c.mkv", shown, chapters=marks)), slide_text=False)
    assert [(c.start_s, c.title) for c in analysis.chapters] == [(0.0, "Plants and light"), (7.0, "Yeast")]


def test_a_finished_stage_is_not_done_again(lesson: Path, bench_of: Any) -> None:
    bench = bench_of(lesson, sidecars=[lesson.with_suffix(".srt")])
    first = study(bench, slide_text=False)
    assert bench.made == ["slides", "text", "speech"]
    bench.made.clear()
    lesson.write_bytes(b"gone")
    assert study(bench, slide_text=False) == first
    assert bench.made == []


def test_texts_of_our_own_come_in_chinese_when_asked(lesson: Path, bench_of: Any) -> None:
    analysis = study(bench_of(lesson, language="zh"), slide_text=False)
    assert analysis.language == "zh"
    assert [c.title for c in analysis.chapters] == ["第 1 部分", "第 2 部分", "第 3 部分"]
    assert "视频没有声音，也没有字幕。" in analysis.gaps


@pytest.mark.parametrize(("asked", "says_so"), [("zh", True), ("fr-CA", True), ("en-GB", False), ("auto", False)])
def test_a_report_in_a_language_that_is_not_the_videos_says_that_nothing_was_translated(
    lesson: Path, bench_of: Any, asked: str, says_so: bool
) -> None:
    bench = bench_of(lesson, language=asked, sidecars=[lesson.with_suffix(".srt")])
    gaps = study(bench, slide_text=False).gaps
    assert any("nothing is translated" in gap or "不做翻译" in gap for gap in gaps) is says_so


def test_what_is_not_installed_is_a_gap_and_no_failure(
    maker: Any, drawn: Any, bench_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    path = maker.video("s.mp4", [(drawn("One"), 2.0)], sound=np.zeros(32_000, np.float32))
    analysis = study(bench_of(path))
    assert sum("pip install 'gsvrd[local]'" in gap for gap in analysis.gaps) == 2


def test_a_silent_picture_without_writing_gets_no_invented_text(maker: Any, bench_of: Any) -> None:
    pytest.importorskip("rapidocr")
    shades = [(np.full((180, 320, 3), level, np.uint8), 2.0) for level in (40, 200)]
    analysis = study(bench_of(maker.video("shades.mp4", shades)))
    assert analysis.language == "und"
    assert (analysis.summary, analysis.objectives, analysis.key_terms, analysis.quiz, analysis.transcript) == ((),) * 5
    assert len(analysis.gaps) == 3


def test_sound_without_pictures_is_studied(maker: Any, bench_of: Any) -> None:
    path = maker.video("s.m4a", [], sound=np.zeros(16_000 * 150, np.float32), format="mp4")
    path.with_suffix(".srt").write_text(SPOKEN)
    analysis = study(bench_of(path, sidecars=[path.with_suffix(".srt")]))
    assert len(analysis.chapters) == 2
    assert all(c.picture is None for c in analysis.chapters)
    assert len(analysis.transcript) == 3
    assert "There is no moving picture; only the sound was studied." in analysis.gaps


def test_damaged_pictures_are_counted_and_the_rest_is_used(maker: Any, bench_of: Any) -> None:
    rng = np.random.default_rng(3)
    path = maker.video("d.mp4", [(rng.integers(0, 255, (90, 160, 3), np.uint8), 0.1) for _ in range(60)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    analysis = study(bench_of(path), slide_text=False)
    assert analysis.chapters[0].picture is not None
    assert any("Damaged spots" in gap for gap in analysis.gaps)


def test_importing_the_analyzer_loads_no_decoder_and_no_engine() -> None:
    code = (
        "import sys; import gsvrd.analyzers.local, gsvrd.analyzers.registry; "
        "print([m for m in ('av', 'numpy', 'PIL', 'onnxruntime', 'rapidocr', 'faster_whisper') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_analyzers_are_made_by_name() -> None:
    template = load_templates(None)["comprehensive_lesson"]
    for name in ("probe", "local", "gemini"):
        assert make_analyzer(name, LocalSettings(), GeminiSettings("a-model"), template, {}).name == name
    with pytest.raises(SetupError) as caught:
        make_analyzer("nonsense", LocalSettings(), GeminiSettings("a-model"), template, {})
    assert "gemini" in caught.value.hint
