"""Which SDK is used, what is refused, where the key comes from, and that nothing is imported or made too early."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from gsvrd.analyzers.gemini import sdk
from gsvrd.analyzers.gemini.keys import read_key
from gsvrd.analyzers.gemini.settings import GeminiSettings, SdkName
from gsvrd.errors import ConfigError, ErrorKind, TaskError


def only(*installed: SdkName) -> Callable[[SdkName], bool]:
    return lambda name: name in installed


def test_auto_takes_the_maintained_sdk_where_it_is_installed() -> None:
    assert sdk.check(GeminiSettings("m"), only("google-genai", "google-generativeai")) == "google-genai"
    assert sdk.check(GeminiSettings("m"), only("google-generativeai")) == "google-generativeai"


@pytest.mark.parametrize("name", ["google-genai", "google-generativeai"])
def test_a_named_sdk_is_the_one_that_is_used(name: SdkName) -> None:
    assert sdk.check(GeminiSettings("m", sdk=name), only("google-genai", "google-generativeai")) == name


def test_a_missing_sdk_is_an_error_that_says_how_to_get_it() -> None:
    with pytest.raises(ConfigError, match="google-genai") as caught:
        sdk.check(GeminiSettings("m", sdk="google-genai"), only("google-generativeai"))
    assert "pip install google-genai" in caught.value.hint


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"fps": 0.5}, "fps"),
        ({"media_resolution": "low"}, "media_resolution"),
        ({"thinking": "low"}, "thinking"),
        ({"flex": True}, "flex"),
    ],
)
def test_what_the_older_sdk_cannot_send_is_refused_not_dropped(wishes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        sdk.check(GeminiSettings("m", **wishes), only("google-generativeai"))
    assert "pip install google-genai" in caught.value.hint
    assert sdk.check(GeminiSettings("m", **wishes), only("google-genai")) == "google-genai"


def test_the_older_sdk_is_used_with_one_clear_notice() -> None:
    with capture_logs() as logs:
        sdk.make_service("google-generativeai", GeminiSettings("m"), "k")
    (notice,) = [entry for entry in logs if entry["event"] == "gemini_sdk_fallback"]
    assert notice["missing"] == "google-genai"
    assert "pip install google-genai" in notice["install"]
    assert "clip" in notice["lost"]


def test_who_asked_for_the_older_sdk_is_not_told_about_it() -> None:
    with capture_logs() as logs:
        sdk.make_service("google-generativeai", GeminiSettings("m", sdk="google-generativeai"), "k")
    assert logs == []


def test_the_promised_capabilities_are_those_of_the_services() -> None:
    for name in ("google-genai", "google-generativeai"):
        if sdk.is_installed(name):
            service = sdk.make_service(name, GeminiSettings("m", sdk=name), "k")
            assert (service.name, service.capabilities) == (name, sdk.capabilities(name))


def test_an_analyzer_imports_no_sdk_and_reads_no_key_before_its_first_video() -> None:
    code = (
        "import sys\n"
        "from gsvrd.analyzers.gemini.analyzer import GeminiAnalyzer\n"
        "from gsvrd.analyzers.gemini.settings import GeminiSettings\n"
        "from gsvrd.templates.load import load_templates\n"
        "GeminiAnalyzer(GeminiSettings('m', key_source='file:/nowhere'), load_templates(None)['study_notes'])\n"
        "heavy = ('google.genai', 'google.generativeai', 'google.auth', 'grpc', 'requests', 'httpx', 'httpx2')\n"
        "sys.exit(' '.join(n for n in sys.modules if n.startswith(heavy)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_settings_travel_as_json_and_hold_no_key() -> None:
    settings = GeminiSettings("m", fps=0.5, thinking="low", key_source="credential:gemini")
    told = msgspec.json.encode(settings)
    assert msgspec.json.decode(told, type=GeminiSettings) == settings


# Keys


def test_a_key_comes_from_the_environment() -> None:
    assert read_key("env:MY_KEY", {"MY_KEY": " abc\n"}) == "abc"


def test_a_key_comes_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("abc\n")
    assert read_key(f"file:{tmp_path / 'key'}", {}) == "abc"


def test_a_key_comes_from_the_credentials_of_systemd(tmp_path: Path) -> None:
    (tmp_path / "gemini").write_text("abc\n")
    assert read_key("credential:gemini", {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == "abc"


@pytest.mark.parametrize(
    ("source", "environ", "words"),
    [
        ("env:MY_KEY", {}, "no key in env:MY_KEY"),
        ("env:MY_KEY", {"MY_KEY": "  "}, "no key in env:MY_KEY"),
        ("env:MY_KEY", {"MY_KEY": "secret-part with-rest"}, "is no key"),
        ("env:MY_KEY", {"MY_KEY": "secret-part\r\nX: y"}, "is no key"),
        ("env:MY_KEY", {"MY_KEY": "secret-part-ä"}, "is no key"),
        ("file:/nowhere/at/all", {}, "No such file"),
        ("credential:gemini", {}, "CREDENTIALS_DIRECTORY"),
        ("secret-part", {}, "allowed: env:NAME"),
    ],
)
def test_a_key_that_is_not_there_is_said_to_be_missing(source: str, environ: dict[str, str], words: str) -> None:
    with pytest.raises(TaskError, match=words) as caught:
        read_key(source, environ)
    assert caught.value.kind is ErrorKind.KEY
    assert caught.value.hint
    assert "secret-part" not in str(caught.value)


def test_what_the_older_sdk_warns_of_still_reaches_our_log() -> None:
    if not sdk.is_installed("google-generativeai"):
        pytest.skip("google-generativeai is not installed")
    code = (
        "import logging\n"
        "from gsvrd import logs\n"
        "from gsvrd.analyzers.gemini import sdk\n"
        "from gsvrd.analyzers.gemini.settings import GeminiSettings\n"
        "logs.setup('info', 'json', process='worker')\n"
        "sdk.make_service('google-generativeai', GeminiSettings('m', sdk='google-generativeai'), 'k')\n"
        "logging.getLogger('google.api_core.retry').warning('a word of theirs')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    told = [line for line in done.stderr.splitlines() if "a word of theirs" in line]
    assert [json.loads(line)["event"] for line in told] == ["library"]
