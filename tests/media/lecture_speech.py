"""Speaks the sentences of the generated lectures with flite or espeak-ng.

`make_lecture` calls it. One sentence in, samples out: times are reckoned by the caller. It installs nothing; it says
what is missing.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

RATE = 22050
"""Samples a second of everything that `Voice.speak` returns."""
Samples = NDArray[np.int16]

_SECONDS_A_LETTER = {"en": 1 / 15, "zh": 1 / 4.5}


class MissingVoiceError(RuntimeError):
    """No speech engine is installed; the message names the packages."""


@dataclass(frozen=True, slots=True)
class Voice:
    """A way to speak: `flite`, `espeak-ng` or `none` (silence of about the right length)."""

    engine: str
    language: str

    def speak(self, text: str) -> Samples:
        """Mono samples at `RATE`."""
        if self.engine == "none":
            return np.zeros(round(len(text) * _SECONDS_A_LETTER[self.language] * RATE), np.int16)
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "speech.wav"
            subprocess.run(self._command(text, str(target)), check=True, capture_output=True, timeout=60)
            return _read_wav(target)

    def _command(self, text: str, target: str) -> list[str]:
        if self.engine == "flite":
            return ["flite", "-voice", "slt", "-t", text, "-o", target]
        accent, speed = ("cmn", "220") if self.language == "zh" else ("en-us", "150")
        return ["espeak-ng", "-v", accent, "-s", speed, "-w", target, "--", text]


def find_voice(language: str) -> Voice:
    """The best engine installed for `en` or `zh`. Raises `MissingVoiceError`.

    flite is understood better by recognisers, but speaks only English.
    """
    engines = ("flite", "espeak-ng") if language == "en" else ("espeak-ng",)
    for engine in engines:
        if shutil.which(engine):
            return Voice(engine, language)
    raise MissingVoiceError(
        f"no speech engine for {language!r}: install the Debian package {' or '.join(engines)}, or use --variant silent"
    )


def _read_wav(path: Path) -> Samples:
    """The samples of a sound file as mono at `RATE`."""
    resampler = av.AudioResampler("s16", "mono", RATE)
    with av.open(str(path)) as file:
        frames = [part for frame in file.decode(audio=0) for part in resampler.resample(frame)]
    frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray()[0] for frame in frames]).astype(np.int16)
