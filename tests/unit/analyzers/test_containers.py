"""Every container and codec PyAV can write: the same short deck must give the same chapters and pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from gsvrd.analyzers.local import LocalAnalyzer, LocalSettings

TOPICS = ("Photosynthesis", "Respiration", "Fermentation")
HELD_S = 3.0
KINDS = [
    ("mp4", "libx264", "aac"),
    ("mp4", "mpeg4", "libmp3lame"),
    ("mov", "mpeg4", "pcm_s24le"),
    ("mov", "prores_ks", "pcm_s16le"),
    ("mov", "qtrle", "pcm_s16le"),
    ("matroska", "libx265", "flac"),
    ("matroska", "ffv1", "aac"),
    ("webm", "libvpx", "libopus"),
    ("webm", "libvpx-vp9", "libopus"),
    ("webm", "libsvtav1", "libopus"),
    ("avi", "mpeg4", "ac3"),
    ("avi", "msmpeg4", "libmp3lame"),
    ("avi", "msmpeg4v2", "pcm_s16le"),
    ("avi", "cinepak", "pcm_s16le"),
    ("avi", "mjpeg", "pcm_s16le"),
    ("mpeg", "mpeg1video", "mp2"),
    ("mpeg", "mpeg2video", "mp2"),
    ("vob", "mpeg2video", "ac3"),
    ("mpegts", "mpeg2video", "mp2"),
    ("mpegts", "libx264", "aac"),
    ("flv", "flv", "libmp3lame"),
    ("flv", "libx264", "aac"),
    ("asf", "wmv2", "libmp3lame"),
    ("mxf", "mpeg2video", "pcm_s16le"),
    ("wtv", "mpeg2video", "mp2"),
]


@pytest.mark.parametrize(("container", "codec", "audio"), KINDS, ids=["-".join(kind) for kind in KINDS])
def test_a_deck_is_understood_in_any_container(
    container: str, codec: str, audio: str, maker: Any, drawn: Callable[..., Any], bench_of: Callable[..., Any]
) -> None:
    missing = {codec, audio} - av.codecs_available
    if missing:
        pytest.skip(f"this build of PyAV cannot write {', '.join(sorted(missing))}")
    shown = [(drawn(title, size=(320, 240)), HELD_S) for title in TOPICS]
    sound = np.zeros(round(16_000 * HELD_S * len(TOPICS)), np.float32)
    fps = 2 if codec == "cinepak" else 25  # its encoder is slow
    path = maker.video("deck.bin", shown, sound=sound, format=container, codec=codec, audio=audio, fps=fps)
    bench = bench_of(path)
    assert bench.facts.duration_s == pytest.approx(HELD_S * len(TOPICS), abs=0.2)
    assert bench.facts.notes == ()
    assert not {bench.facts.video_codec, bench.facts.audio_codec} & {"libdav1d", "mp3float"}, "names of our decoders"
    analysis = LocalAnalyzer(LocalSettings(slide_text=False, speech=False)).analyze(bench)
    assert [c.start_s for c in analysis.chapters] == pytest.approx([0.0, HELD_S, 2 * HELD_S], abs=0.5)
    for chapter, (drawing, _) in zip(analysis.chapters, shown, strict=True):
        assert chapter.picture is not None
        picture = np.asarray(Image.open(bench.assets / chapter.picture.file).convert("L")).astype(int)
        assert np.abs(picture - np.asarray(Image.fromarray(drawing).convert("L"))).mean() < 6
