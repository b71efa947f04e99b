"""The way of news from watchdog's threads to the loop, when there is more than finds room."""

from __future__ import annotations

from gsvrd.intake.tap import PROBE, Notice, Tell, Word


def test_what_finds_no_room_is_told_once_as_lost_and_the_probe_always_finds_room() -> None:
    pokes: list[None] = []
    tell = Tell(lambda: pokes.append(None), room=2)
    for name in (b"a.mp4", b"b.mp4", b"c.mp4", b"d.mp4", PROBE):
        tell(name)
    tell(Notice(Word.FOLDER, b"term"))
    lost = Notice(Word.LOST)
    assert tell.take(10) == [b"a.mp4", b"b.mp4", lost, PROBE, Notice(Word.FOLDER, b"term")]
    assert len(pokes) == 1
    tell(b"e.mp4")
    assert tell.take(10) == [b"e.mp4"]
    assert len(pokes) == 2
