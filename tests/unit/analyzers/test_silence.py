"""The local analyzer tells nobody of its work: its engines leave no trace outside of what they are asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ENGINES = """
from gsvrd.analyzers.local import LocalAnalyzer, LocalSettings
LocalAnalyzer(LocalSettings())
import onnxruntime, rapidocr, pathlib
model = next(pathlib.Path(rapidocr.__file__).parent.rglob("*.onnx"))
onnxruntime.InferenceSession(str(model))
"""


def test_the_engines_make_no_device_id_and_no_store_of_telemetry(tmp_path: Path) -> None:
    environ = {**os.environ, "HOME": str(tmp_path)}
    environ.pop("ORT_DISABLE_TELEMETRY", None)
    subprocess.run([sys.executable, "-c", ENGINES], env=environ, check=True, timeout=100)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []
