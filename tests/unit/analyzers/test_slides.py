from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gsvrd.analyzers.local import media, slides
from gsvrd.analyzers.local.film import Film, Still, Track, walk
from gsvrd.analyzers.local.slides import Deck, find_slides

TOPICS = [
    ("Photosynthesis", ("Light is caught by leaves", "Water comes from the roots")),
    ("Respiration", ("Sugar is taken apart", "Energy becomes free")),
    ("The Water Cycle", ("The sun heats the sea", "Clouds carry it over land")),
    ("Erosion", ("Rivers carry sand away", "Wind grinds the rocks")),
    ("Volcanoes", ("Plates drift apart", "Magma rises to the top")),
]


def study(path: Path, duration_s: float) -> tuple[Deck, Track]:
    track = walk(f"file:{path}", media.Damage(), 1, lambda _: None)
    with Film(f"file:{path}", track, 1) as film:
        return find_slides(track, film, duration_s), track


@pytest.fixture
def deck(drawn: Callable[..., Any]) -> list[tuple[Any, float]]:
    return [(drawn(title, bullets), 5.3) for title, bullets in TOPICS]


STARTS = [0.0, 5.3, 10.6, 15.9, 21.2]


def test_slides_are_found_from_key_frames_and_packet_sizes(maker: Any, deck: Any) -> None:
    found, track = study(maker.video("deck.mp4", deck), 26.5)
    assert not track.sampled
    assert found.starts == pytest.approx(STARTS, abs=0.25)
    assert not found.live


def test_slides_are_found_where_there_are_no_key_frames(maker: Any, deck: Any) -> None:
    found, track = study(maker.video("deck.mkv", deck, key_every_s=1000), 26.5)
    assert track.sampled
    assert found.starts == pytest.approx(STARTS, abs=0.25)


def test_two_changes_between_two_key_frames_are_both_found(maker: Any, drawn: Any) -> None:
    shown = [(drawn(t, b), s) for (t, b), s in zip(TOPICS, (3, 4, 13.4, 10, 9.6), strict=True)]
    found, track = study(maker.video("deck.mp4", shown, key_every_s=10), 40.0)
    assert not track.sampled
    assert found.starts == pytest.approx([0, 3, 7, 20.4, 30.4], abs=0.5)


def test_a_bullet_that_appears_is_no_new_slide(maker: Any, drawn: Any) -> None:
    shown = []
    for title, bullets in TOPICS:
        shown += [(drawn(title), 2.2), (drawn(title, bullets[:1]), 2.2), (drawn(title, bullets), 2.2)]
    found, _ = study(maker.video("builds.mp4", shown, key_every_s=1), 33.0)
    assert found.starts == pytest.approx([0, 6.6, 13.2, 19.8, 26.4], abs=0.5)


def test_bullets_between_two_key_frames_do_not_hide_the_slide_that_comes_with_them(maker: Any, drawn: Any) -> None:
    shown = []
    for title, bullets in TOPICS:
        shown += [(drawn(title), 2.1), (drawn(title, bullets[:1]), 2.1), (drawn(title, bullets), 2.1)]
    found, track = study(maker.video("builds.mp4", shown, key_every_s=6.3), 31.5)  # two slides begin on a key frame
    assert not track.sampled
    assert found.starts == pytest.approx([0, 6.3, 12.6, 18.9, 25.2], abs=0.3)
    found, _ = study(maker.video("later.mp4", shown, key_every_s=7.1), 31.5)
    assert found.starts == pytest.approx([0, 6.3, 12.6, 18.9, 25.2], abs=0.3)


def test_a_speaker_in_the_corner_is_no_change(maker: Any, deck: Any) -> None:
    rng = np.random.default_rng(5)

    def with_speaker(pixels: Any, _: int) -> Any:
        busy = pixels.copy()
        busy[150:330, 400:630] = rng.integers(0, 255, (180, 230, 3), np.uint8)
        return busy

    found, _ = study(maker.video("pip.mp4", deck, each=with_speaker), 26.5)
    assert found.starts == pytest.approx(STARTS, abs=0.5)
    assert not found.live


def test_slides_that_come_back_are_slides_again(maker: Any, deck: Any) -> None:
    found, _ = study(maker.video("again.mp4", [*deck, *deck, deck[0]], key_every_s=4.3), 58.3)
    assert found.starts == pytest.approx([5.3 * i for i in range(11)], abs=0.5)


def test_a_clip_that_plays_on_a_slide_is_no_new_slide(maker: Any, deck: Any) -> None:
    rng = np.random.default_rng(9)

    def with_clip(pixels: Any, number: int) -> Any:
        busy = pixels.copy()
        if 60 < number < 95:  # in the middle of the second slide
            busy[110:300, 380:620] = rng.integers(0, 255, (190, 240, 3), np.uint8)
        return busy

    found, _ = study(maker.video("clip.mp4", deck, each=with_clip, key_every_s=0.8), 26.5)
    assert found.starts == pytest.approx(STARTS, abs=0.5)


def test_a_mouse_pointer_is_no_change(maker: Any, drawn: Any) -> None:
    def with_pointer(pixels: Any, number: int) -> Any:
        busy = pixels.copy()
        x = 20 + 4 * number
        busy[200:212, x : x + 10] = 0
        return busy

    found, _ = study(maker.video("pointer.mp4", [(drawn(*TOPICS[0]), 12.0)], each=with_pointer), 12.0)
    assert found.starts == (0.0,)


def test_ink_that_goes_from_a_few_tiles_makes_no_new_slide() -> None:
    def with_mark(size: int) -> Any:
        gray = np.full((180, 320), 255, np.uint8)
        gray[40 : 40 + size, 40 : 40 + size : 2] = 0
        return gray

    blank = with_mark(0)
    finder = slides._Finder(Track(stills=[Still(0.0, blank), Still(1.0, blank)]), None, 18.0)  # type: ignore[arg-type]
    assert finder.is_build(slides._Change(1.0, with_mark(16), blank)), "a pointer"
    assert not finder.is_build(slides._Change(1.0, with_mark(80), blank)), "a drawing"


def test_filmed_action_is_told_from_slides(maker: Any) -> None:
    rng = np.random.default_rng(7)
    scenes = [(np.kron(rng.integers(0, 255, (18, 32, 3), np.uint8), np.ones((20, 20, 1), np.uint8)), 0.1)] * 120
    film = maker.video("film.mp4", scenes, each=lambda p, n: np.roll(p, 9 * n, axis=1))
    found, _ = study(film, 12.0)
    assert found.live


def test_a_very_long_video_keeps_a_bounded_number_of_stills() -> None:
    track = Track()
    gray = np.zeros((180, 320), np.uint8)
    for second in range(12 * 3600):
        track.add(Still(float(second), gray))
    assert len(track.stills) <= 2000
    assert track.stills[-1].at_s > 12 * 3600 - 60


def test_the_frame_asked_for_is_the_one_shown_at_that_time(maker: Any) -> None:
    ramp = [(np.full((90, 160, 3), 10 * i, np.uint8), 1.0) for i in range(20)]
    path = maker.video("ramp.mp4", ramp, key_every_s=5)
    track = walk(f"file:{path}", media.Damage(), 1, lambda _: None)
    with Film(f"file:{path}", track, 1) as film:
        frames: list[Any] = [film.frame_at(at) for at in (2.5, 3.5, 13.5, 7.5, 19.9)]
        assert len(list(film.grays(15.0, 20.0, 0.2))) > 20
        frames.append(film.frame_at(19.9))
    levels = [float(frame.to_ndarray(format="gray").mean()) for frame in frames]
    assert levels == pytest.approx([20, 30, 130, 70, 190, 190], abs=8)
