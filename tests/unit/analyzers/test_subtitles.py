from __future__ import annotations

import codecs
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsvrd.analyzers.local import media, subtitles

SRT = "1\n00:00:01,000 --> 00:00:02,500\nFirst <i>line</i>\nand more\n\n2\n00:00:03,000 --> 00:00:04,000\nSecond\n"


def test_srt_becomes_lines_with_times_and_without_markup() -> None:
    lines = subtitles.parse(SRT)
    assert [(x.start_s, x.end_s, x.text) for x in lines] == [(1.0, 2.5, "First line and more"), (3.0, 4.0, "Second")]


def test_webvtt_settings_notes_names_and_speakers_are_understood() -> None:
    vtt = (
        "WEBVTT\n\nNOTE nothing\nto say\n\nintro\n00:01.000 --> 00:02.000 align:start position:0%\n"
        "<v Ada Lovelace>Numbers &amp; notes</v>\n\n01:00:00.000 --> 01:00:01.5\nLate\n"
    )
    lines = subtitles.parse(vtt)
    assert [(x.start_s, x.speaker, x.text) for x in lines] == [
        (1.0, "Ada Lovelace", "Numbers & notes"),
        (3600.0, "", "Late"),
    ]


def test_a_broken_cue_costs_only_itself() -> None:
    broken = (
        "garbage\n99\n00:00:xx --> nonsense\nlost\n\n"
        + SRT.replace("\n\n2\n", "\n2\n")
        + "\n3\n00:00:09,000 --> 00:00:08,000\nEnds early\n"
    )
    lines = subtitles.parse(broken)
    assert [x.text for x in lines] == ["First line and more", "Second", "Ends early"]
    assert lines[-1].end_s >= lines[-1].start_s


def test_cues_out_of_order_are_put_in_order() -> None:
    assert [x.start_s for x in subtitles.parse("00:05.000 --> 00:06.000\nb\n\n00:01.000 --> 00:02.000\na\n")] == [
        1.0,
        5.0,
    ]


def test_captions_that_roll_up_are_not_said_twice() -> None:
    rolling = (
        "00:01.000 --> 00:02.000\nwater\n\n00:02.000 --> 00:03.000\nwater flows\n\n00:03.000 --> 00:04.000\nflows\n"
    )
    assert [x.text for x in subtitles.parse(rolling)] == ["water", "flows"]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", "水循环与降水"),
        ("utf-8-sig", "水循环与降水"),
        ("gb18030", "水循环从蒸发开始，然后凝结成云。"),
        ("utf-16", "水循环与降水"),
        ("utf-16-le", "The water cycle begins with the sun and the sea"),
        ("cp1252", "Un café crème près de la rivière, déjà là"),
    ],
)
def test_any_usual_encoding_is_read(encoding: str, text: str) -> None:
    assert text in subtitles.decode_text(f"1\n00:00:01,000 --> 00:00:02,000\n{text}\n".encode(encoding))


@given(st.binary(max_size=300))
def test_no_bytes_can_make_it_fail(raw: bytes) -> None:
    for line in subtitles.parse(subtitles.decode_text(codecs.BOM_UTF8 + b"00:01.0 --> 00:02.0\n" + raw)):
        assert line.text.isprintable()


def test_the_first_file_that_holds_cues_wins(tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_bytes(b"nothing here")
    (tmp_path / "b.srt").write_text(SRT)
    assert len(subtitles.from_files([tmp_path / "gone.srt", tmp_path / "a.srt", tmp_path / "b.srt"])) == 2


def test_the_text_track_inside_a_video_is_read(tmp_path: Path) -> None:
    (tmp_path / "t.srt").write_text(SRT)
    with av.open(str(tmp_path / "t.srt")) as source, av.open(str(tmp_path / "t.mkv"), "w") as out:
        copy = out.add_stream_from_template(source.streams.subtitles[0])
        for packet in source.demux(source.streams.subtitles[0]):
            if packet.size:
                packet.stream = copy
                out.mux(packet)
    lines = subtitles.from_track(f"file:{tmp_path}/t.mkv", "en", media.Damage(), lambda _: None)
    assert [(x.start_s, x.end_s, x.text) for x in lines] == [(1.0, 2.5, "First line and more"), (3.0, 4.0, "Second")]
