from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from gsvrd.analyzers.probe import ProbeAnalyzer
from gsvrd.errors import ErrorKind, TaskError

Probed = Callable[..., Any]


@pytest.fixture
def clip(maker: Any, drawn: Any) -> Path:
    tone = np.sin(np.arange(48_000) / 20).astype(np.float32) * 0.3
    path: Path = maker.video("clip.mp4", [(drawn("One"), 3.0)], sound=tone, title="A <b>lesson</b>\nabout \x1b[31mit")
    return path


def refusal(probed: Probed, path: Path, **limits: Any) -> TaskError:
    with pytest.raises(TaskError) as caught:
        probed(path, **limits)
    assert caught.value.hint, "every refusal says what to do"
    return caught.value


def test_a_good_video_is_described(clip: Path, probed: Probed) -> None:
    facts = probed(clip)
    assert (facts.video_codec, facts.audio_codec) == ("h264", "aac")
    assert (facts.width, facts.height, facts.fps, facts.rotation) == (640, 360, 10.0, 0)
    assert facts.duration_s == pytest.approx(3.0, abs=0.15)
    assert facts.size_bytes == clip.stat().st_size
    assert facts.notes == ()


def test_a_title_loses_markup_newlines_and_terminal_codes(clip: Path, probed: Probed) -> None:
    assert probed(clip).title == "A lesson about it"


def test_an_empty_file_is_called_empty(tmp_path: Path, probed: Probed) -> None:
    (tmp_path / "e.mp4").touch()
    assert refusal(probed, tmp_path / "e.mp4").kind is ErrorKind.EMPTY


def test_a_file_that_vanished_is_not_found(tmp_path: Path) -> None:
    from gsvrd.analyzers.limits import MediaLimits
    from gsvrd.analyzers.probe import probe

    with pytest.raises(TaskError) as caught:
        probe(f"file:{tmp_path}/gone.mp4", size_bytes=1, sha256="", limits=MediaLimits())
    assert caught.value.kind is ErrorKind.NOT_FOUND


@pytest.mark.parametrize(
    "content",
    [
        b"Dear colleagues, this is not a video.\n" * 30,
        b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
        b"v=0\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
    ],
)
def test_text_and_playlists_are_no_videos(content: bytes, tmp_path: Path, probed: Probed) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    assert refusal(probed, path).kind is ErrorKind.NOT_VIDEO


def test_a_list_that_names_a_good_video_is_refused(clip: Path, probed: Probed) -> None:
    path = clip.with_name("list.mp4")
    path.write_text(f"ffconcat version 1.0\nfile {clip.name}\n")
    error = refusal(probed, path)
    assert error.kind is ErrorKind.NOT_VIDEO
    assert "format" not in str(error), "the reader of lists was opened, and with it the file that is named"


def test_a_picture_is_no_video(tmp_path: Path, drawn: Any, probed: Probed) -> None:
    from PIL import Image

    Image.fromarray(drawn("Still")).save(tmp_path / "p.mp4", format="PNG")
    assert refusal(probed, tmp_path / "p.mp4").kind is ErrorKind.NOT_VIDEO


def test_bytes_without_meaning_are_unreadable(tmp_path: Path, probed: Probed) -> None:
    (tmp_path / "n.mp4").write_bytes(np.random.default_rng(1).bytes(20_000))
    assert refusal(probed, tmp_path / "n.mp4").kind is ErrorKind.UNREADABLE


def test_too_many_pixels_are_refused_from_the_header(clip: Path, probed: Probed) -> None:
    error = refusal(probed, clip, max_pixels=100_000)
    assert error.kind is ErrorKind.TOO_LARGE
    assert "640 x 360" in str(error)


def test_pixels_the_header_hides_are_refused_by_the_decoder(maker: Any, drawn: Any, probed: Probed) -> None:
    path = maker.video("bomb.mov", [(drawn("Bomb"), 0.3)], codec="png")
    assert probed(path).width == 640
    error = refusal(probed, path, max_pixels=100_000)
    assert error.kind is ErrorKind.TOO_LARGE
    assert "640" not in str(error), "the size was learned by decoding"


def test_a_video_beyond_the_longest_duration_is_refused(clip: Path, probed: Probed) -> None:
    assert refusal(probed, clip, max_duration_s=2.0).kind is ErrorKind.TOO_LARGE


def test_too_many_tracks_are_refused(clip: Path, probed: Probed) -> None:
    assert refusal(probed, clip, max_streams=1).kind is ErrorKind.TOO_LARGE


def test_the_duration_is_that_of_the_packets_and_not_of_the_header(maker: Any, drawn: Any, probed: Probed) -> None:
    rng = np.random.default_rng(2)
    noisy = [(rng.integers(0, 255, (90, 160, 3), np.uint8), 0.1) for _ in range(80)]
    path = maker.video("cut.mkv", noisy)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    facts = probed(path)
    assert 2.0 < facts.duration_s < 6.0
    assert any("promises 8 s" in note for note in facts.notes)


def test_a_clock_that_leaps_is_rebuilt(clip: Path, probed: Probed) -> None:
    path = clip.with_name("leap.ts")
    with av.open(str(clip)) as source, av.open(str(path), "w", format="mpegts") as out:
        track = source.streams.video[0]
        copy = out.add_stream_from_template(track)
        for number, packet in enumerate(p for p in source.demux(track) if p.size):
            leap = 0 if number < 15 else round(72_000 / float(packet.time_base))
            packet.pts, packet.dts = (packet.pts or 0) + leap, (packet.dts or 0) + leap
            packet.stream = copy
            out.mux(packet)
    facts = probed(path)
    assert facts.duration_s == pytest.approx(3.0, abs=0.3)
    assert any("leaps" in note for note in facts.notes)


def test_sound_alone_is_accepted_with_a_note(maker: Any, probed: Probed) -> None:
    path = maker.video("s.m4a", [], sound=np.zeros(32_000, np.float32), format="mp4")
    facts = probed(path)
    assert (facts.video_codec, facts.audio_codec, facts.width) == ("", "aac", 0)
    assert "There is no moving picture, only sound." in facts.notes


def test_cover_art_is_no_video(clip: Path, drawn: Any, probed: Probed, tmp_path: Path) -> None:
    from av.stream import Disposition

    path = tmp_path / "cover.mkv"
    with av.open(str(clip)) as source, av.open(str(path), "w", format="mp4") as out:
        track = source.streams.audio[0]
        copy = out.add_stream_from_template(track)
        cover: Any = out.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = 640, 360, "rgb24"
        cover.disposition = Disposition.attached_pic
        still = av.VideoFrame.from_ndarray(drawn("Cover"), format="rgb24")
        still.pts, still.time_base = 0, Fraction(1, 1)
        out.mux([*cover.encode(still), *cover.encode(None)])
        for packet in source.demux(track):
            if packet.size:
                packet.stream = copy
                out.mux(packet)
    facts = probed(path)
    assert facts.video_codec == ""
    assert "A cover picture was left out." in facts.notes


def test_pictures_in_an_unknown_format_are_said_to_be_so(clip: Path, probed: Probed) -> None:
    clip.write_bytes(clip.read_bytes().replace(b"avc1", b"zzzz"))
    facts = probed(clip)
    assert facts.video_codec == ""
    assert "The picture track cannot be decoded." in facts.notes


def test_a_file_of_which_nothing_can_be_decoded_is_unreadable(maker: Any, drawn: Any, probed: Probed) -> None:
    path = maker.video("z.mp4", [(drawn("One"), 1.0)])
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    assert refusal(probed, path).kind is ErrorKind.UNREADABLE


def test_a_file_cut_short_is_described_as_far_as_it_goes(maker: Any, probed: Probed) -> None:
    rng = np.random.default_rng(3)
    path = maker.video("d.mp4", [(rng.integers(0, 255, (90, 160, 3), np.uint8), 0.1) for _ in range(60)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    facts = probed(path)
    assert 2.0 < facts.duration_s < 4.5
    assert any("damaged" in note for note in facts.notes)


def test_the_probe_analyzer_reports_the_chapters_of_the_file(maker: Any, drawn: Any, bench_of: Any) -> None:
    marks = [(0.0, 2.0, "Start\n<i>here</i>"), (2.0, 4.0, "End")]
    path = maker.video("c.mkv", [(drawn("One"), 4.0)], chapters=marks)
    analysis = ProbeAnalyzer().analyze(bench_of(path))
    assert [(c.start_s, c.title) for c in analysis.chapters] == [(0.0, "Start here"), (2.0, "End")]
    assert analysis.transcript == ()
    assert "not studied" in analysis.gaps[0]


def test_the_probe_analyzer_makes_one_chapter_where_there_are_none(clip: Path, bench_of: Any) -> None:
    analysis = ProbeAnalyzer().analyze(bench_of(clip, language="zh"))
    assert [c.title for c in analysis.chapters] == ["A lesson about it"]
    assert analysis.chapters[0].end_s == analysis.duration_s
    assert "没有分析" in analysis.gaps[0]
