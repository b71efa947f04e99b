"""One suite over both SDKs' services, each spoken to over loopback: the same answers, the same faults, one call each."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support.gemini.clients import Raw
from support.gemini.faults import Fault, Kind, Route
from support.gemini.rules import KEY, Rules
from support.gemini.server import FakeGemini

from gsvrd.analyzers.gemini import sdk
from gsvrd.analyzers.gemini.answer import SCHEMA, parse
from gsvrd.analyzers.gemini.classify import Trouble, Verdict, spent_on, verdict_of
from gsvrd.analyzers.gemini.service import Capability, GeminiService, Reply, Request, ServiceFault, Turn, Video
from gsvrd.analyzers.gemini.settings import GeminiSettings, SdkName

MODEL = "gemini-3.8-flash"
NAME = "files/gsvrd-contract-1"
SDKS: tuple[SdkName, ...] = ("google-genai", "google-generativeai")


@pytest.fixture(autouse=True)
def _misleading_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the SDKs would listen to, if they were not told everything."""
    for name in ("GOOGLE_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, "wrong-key-of-the-environment")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")


@pytest.fixture
def gemini() -> Iterator[FakeGemini]:
    with FakeGemini() as server:
        connection = Raw(server.url)
        connection.piece(connection.start(1000, NAME), 0, bytes(1000))
        connection.close()
        yield server


Make = Callable[..., GeminiService]


@pytest.fixture(params=SDKS)
def make(request: pytest.FixtureRequest, gemini: FakeGemini) -> Make:
    if not sdk.is_installed(request.param):
        pytest.skip(f"{request.param} is not installed")

    def made(key: str = KEY, url: str = gemini.url, timeout_s: float = 10.0) -> GeminiService:
        settings = GeminiSettings(MODEL, sdk=request.param, base_url=url, timeout_s=timeout_s)
        return sdk.make_service(request.param, settings, key)

    return made


@pytest.fixture
def service(make: Make) -> GeminiService:
    return make()


def ask(gemini: FakeGemini, *, model: str = MODEL, name: str = NAME, **wishes: Any) -> Request:
    video = Video(f"{gemini.url}/v1beta/{name}", "video/mp4")
    return Request(model, "Be brief. Language: en", (Turn("user", "Teach it.", video),), SCHEMA, 4096, **wishes)


def fault_of(call: Callable[[], object]) -> ServiceFault:
    with pytest.raises(ServiceFault) as caught:
        call()
    return caught.value


def test_an_answer_comes_with_its_text_its_model_and_its_cost(gemini: FakeGemini, service: GeminiService) -> None:
    reply = service.generate(ask(gemini))
    (call,) = gemini.requests(Route.GENERATE)
    assert (reply.finish, reply.blocked, reply.model) == ("STOP", "", MODEL)
    assert (reply.tokens_in, reply.tokens_out) == (call.prompt_tokens, call.output_tokens)
    assert reply.tokens_out > gemini.rules.thoughts_tokens
    assert reply.has_usage
    reading = parse(reply.text, 0.0, 60.0)
    assert reading.analysis, reading.problems
    assert reading.analysis.chapters[-1].end_s == 60.0


def test_the_schema_reaches_the_model(gemini: FakeGemini, service: GeminiService) -> None:
    analysis = parse(service.generate(ask(gemini)).text, 0.0, 60.0).analysis
    assert analysis
    # The server fills in what the schema has and nothing else.
    for section in ("summary", "objectives", "chapters", "key_terms", "activities", "quiz", "transcript", "gaps"):
        assert getattr(analysis, section), section
    assert analysis.quiz[0].choices
    assert analysis.transcript[0].speaker


def test_a_conversation_is_sent_as_it_was_held(gemini: FakeGemini, service: GeminiService) -> None:
    plain = ask(gemini)
    longer = ask(gemini)
    turns = (*longer.turns, Turn("model", "x" * 400), Turn("user", "y" * 400))
    longer = Request(MODEL, longer.system, turns, SCHEMA, 4096)
    assert service.count(longer) == pytest.approx(service.count(plain) + 200, abs=2)
    assert service.generate(longer).tokens_in == pytest.approx(service.generate(plain).tokens_in + 200, abs=2)


def test_files_are_looked_at_listed_and_removed(gemini: FakeGemini, service: GeminiService) -> None:
    file = service.get(NAME)
    assert (file.name, file.state, file.size_bytes) == (NAME, "ACTIVE", 1000)
    assert file.uri == f"{gemini.url}/v1beta/{NAME}"
    assert file.expires_at == pytest.approx(time.time() + 48 * 3600, abs=60)
    assert file.created_at == pytest.approx(time.time(), abs=60)
    assert [one.name for one in service.files()] == [NAME]
    service.delete(NAME)
    assert gemini.files_alive() == []
    assert service.files() == []


def test_all_pages_of_a_long_list_are_read(gemini: FakeGemini, service: GeminiService) -> None:
    connection = Raw(gemini.url)
    for number in range(120):
        connection.piece(connection.start(1, f"files/more-{number}"), 0, b"x")
    connection.close()
    assert len({one.name for one in service.files()}) == 121


def test_a_file_that_cannot_be_read_says_so(gemini: FakeGemini, service: GeminiService) -> None:
    gemini.fault(Fault(Kind.FILE_FAILED))
    connection = Raw(gemini.url)
    connection.piece(connection.start(10, "files/bad"), 0, bytes(10))
    connection.close()
    file = service.get("files/bad")
    assert file.state == "FAILED"
    assert "failed to be processed" in file.error


REFUSALS: list[tuple[Fault, Verdict]] = [
    (Fault(Kind.RATE_MINUTE, delay="38.2s"), Verdict(Trouble.RATE, 38.2)),
    (Fault(Kind.RATE_TOKENS, delay="0.2s"), Verdict(Trouble.RATE, 1.0)),
    (Fault(Kind.RATE_BARE), Verdict(Trouble.RATE)),
    (Fault(Kind.RATE_DAY), Verdict(Trouble.DAILY)),
    (Fault(Kind.STORAGE, route=Route.GENERATE), Verdict(Trouble.STORAGE, 3600.0)),
    (Fault(Kind.INTERNAL), Verdict(Trouble.SERVER)),
    (Fault(Kind.OVERLOADED), Verdict(Trouble.SERVER)),
    (Fault(Kind.DEADLINE), Verdict(Trouble.SERVER)),
    (Fault(Kind.UNAUTHORIZED), Verdict(Trouble.KEY)),
    (Fault(Kind.KEY_INVALID), Verdict(Trouble.KEY)),
    (Fault(Kind.KEY_LEAKED), Verdict(Trouble.KEY)),
    (Fault(Kind.LOCATION), Verdict(Trouble.KEY)),
    (Fault(Kind.MODEL_GONE), Verdict(Trouble.MODEL)),
    (Fault(Kind.FILE_GONE), Verdict(Trouble.FILE_GONE)),
    (Fault(Kind.FILE_NOT_ACTIVE), Verdict(Trouble.NOT_ACTIVE)),
    (Fault(Kind.BAD_REQUEST), Verdict(Trouble.REQUEST)),
]


@pytest.mark.parametrize(("trouble", "verdict"), REFUSALS, ids=lambda one: getattr(one, "kind", ""))
def test_a_refusal_is_told_once_and_costs_nothing(
    gemini: FakeGemini, service: GeminiService, trouble: Fault, verdict: Verdict
) -> None:
    gemini.fault(trouble)
    fault = fault_of(lambda: service.generate(ask(gemini)))
    assert verdict_of(fault) == verdict
    assert fault.is_refusal
    assert spent_on(fault).is_known
    assert spent_on(fault).tokens_in == spent_on(fault).tokens_out == 0
    assert len(gemini.requests()) - 2 == 1, "2 are the upload of the fixture"


BROKEN: list[tuple[Fault, Trouble]] = [
    (Fault(Kind.RESET), Trouble.NETWORK),
    (Fault(Kind.RESET, late=True), Trouble.NETWORK),
    (Fault(Kind.CUT_BODY), Trouble.NETWORK),
    (Fault(Kind.HTML_200), Trouble.SERVER),
    (Fault(Kind.HTML_502), Trouble.SERVER),
]


@pytest.mark.parametrize(("trouble", "expected"), BROKEN, ids=lambda one: getattr(one, "kind", ""))
def test_of_a_broken_answer_nobody_knows_the_cost(
    gemini: FakeGemini, service: GeminiService, trouble: Fault, expected: Trouble
) -> None:
    gemini.fault(trouble)
    fault = fault_of(lambda: service.generate(ask(gemini)))
    assert verdict_of(fault).trouble is expected
    spent = spent_on(fault)
    assert spent.was_sent
    assert not spent.is_known
    assert len(gemini.requests(Route.GENERATE)) == 1


@pytest.mark.parametrize("kind", [Kind.HANG, Kind.TRICKLE])
def test_a_call_ends_when_its_time_is_up(gemini: FakeGemini, make: Make, kind: Kind) -> None:
    gemini.fault(Fault(kind, seconds=30.0))
    service = make(timeout_s=1.0)
    begun = time.monotonic()
    fault = fault_of(lambda: service.generate(ask(gemini)))
    assert time.monotonic() - begun < 4.0
    assert verdict_of(fault).trouble is Trouble.NETWORK
    assert not spent_on(fault).is_known
    assert len(gemini.requests(Route.GENERATE)) == 1


def test_looking_at_a_file_ends_in_time_too(gemini: FakeGemini, make: Make) -> None:
    gemini.fault(Fault(Kind.HANG, route=Route.FILE_GET, seconds=30.0))
    service = make(timeout_s=1.0)
    begun = time.monotonic()
    fault_of(lambda: service.get(NAME))
    assert time.monotonic() - begun < 4.0


def test_a_call_that_was_never_sent_is_free(gemini: FakeGemini, make: Make) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        service = make(url=f"http://127.0.0.1:{nobody.getsockname()[1]}")
        fault = fault_of(lambda: service.generate(ask(gemini)))
    assert verdict_of(fault).trouble is Trouble.NETWORK
    assert not spent_on(fault).was_sent


@pytest.mark.parametrize(
    ("trouble", "finish", "blocked"),
    [
        (Fault(Kind.SAFETY), "SAFETY", ""),
        (Fault(Kind.RECITATION), "RECITATION", ""),
        (Fault(Kind.FINISH, text="A_REASON_OF_TOMORROW"), "A_REASON_OF_TOMORROW", ""),
        (Fault(Kind.PROMPT_BLOCKED), "", "PROHIBITED_CONTENT"),
        (Fault(Kind.NO_CANDIDATES), "", ""),
        (Fault(Kind.MAX_TOKENS_EMPTY), "MAX_TOKENS", ""),
    ],
    ids=lambda one: getattr(one, "kind", ""),
)
def test_an_answer_without_text_names_its_reason_and_its_cost(
    gemini: FakeGemini, service: GeminiService, trouble: Fault, finish: str, blocked: str
) -> None:
    gemini.fault(trouble)
    reply = service.generate(ask(gemini))
    assert (reply.text, reply.finish, reply.blocked) == ("", finish, blocked)
    assert reply.has_usage
    assert reply.tokens_in == gemini.requests(Route.GENERATE)[0].prompt_tokens


def test_no_finish_reason_makes_the_sdk_call_again(gemini: FakeGemini, service: GeminiService) -> None:
    gemini.fault(Fault(Kind.FINISH, text="CONTINUATION"))
    assert service.generate(ask(gemini)).finish == "CONTINUATION"
    assert len(gemini.requests(Route.GENERATE)) == 1


@dataclass
class Stub:
    """A server that always gives the same answer, and notes who came."""

    url: str = ""
    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)


@pytest.fixture
def stubs() -> Iterator[Callable[[], Stub]]:
    with ExitStack() as stack:

        def started() -> Stub:
            stub = Stub()

            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    stub.seen.append(f"{self.command} {self.path}")
                    self.rfile.read(int(self.headers.get("content-length") or 0))
                    self.send_response(stub.status)
                    for name, value in {**stub.headers, "Content-Length": str(len(stub.body))}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(stub.body)

                do_POST = do_DELETE = do_GET  # noqa: N815 - http.server looks for these names

                def log_message(self, format: str, *args: Any) -> None:
                    pass

            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
            stack.callback(server.shutdown)
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            stub.url = f"http://127.0.0.1:{server.server_port}"
            return stub

        yield started


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_the_key_is_not_carried_to_another_address(
    gemini: FakeGemini, make: Make, stubs: Callable[[], Stub], status: int
) -> None:
    first, other = stubs(), stubs()
    first.status, first.headers = status, {"Location": f"{other.url}/elsewhere"}
    service = make(url=first.url)
    for call in (lambda: service.get(NAME), lambda: service.generate(ask(gemini))):
        assert verdict_of(fault_of(call)).trouble is Trouble.SERVER
    assert len(first.seen) == 2
    assert other.seen == []


@pytest.mark.parametrize(
    "told", [{"candidates": 3}, {"candidates": [{"content": []}]}, {"usageMetadata": "x"}, {"modelVersion": {"a": 1}}]
)
def test_an_answer_of_a_strange_shape_is_no_crash(
    gemini: FakeGemini, make: Make, stubs: Callable[[], Stub], told: dict[str, Any]
) -> None:
    stub = stubs()
    stub.body = json.dumps(told).encode()
    service = make(url=stub.url)
    came: list[Reply | ServiceFault] = []
    try:
        came.append(service.generate(ask(gemini)))
    except ServiceFault as fault:
        came.append(fault)
    if isinstance(came[0], ServiceFault):
        assert verdict_of(came[0]).trouble is Trouble.SERVER
        assert not spent_on(came[0]).is_known
    else:
        assert came[0].text == ""


def test_a_cut_off_answer_keeps_its_text(gemini: FakeGemini, service: GeminiService) -> None:
    gemini.fault(Fault(Kind.MAX_TOKENS))
    reply = service.generate(ask(gemini))
    assert reply.finish == "MAX_TOKENS"
    assert reply.text.startswith("{")


def test_a_service_works_on_after_a_fault(gemini: FakeGemini, service: GeminiService) -> None:
    gemini.fault(Fault(Kind.RESET), Fault(Kind.HTML_200, calls=(2,)))
    for _ in range(2):
        fault_of(lambda: service.generate(ask(gemini)))
    assert service.generate(ask(gemini)).finish == "STOP"


def test_the_key_goes_into_no_url_no_log_and_no_error(
    gemini: FakeGemini, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    service = make()
    service.generate(ask(gemini))
    service.count(ask(gemini))
    service.files()
    service.get(NAME)
    gemini.fault(
        Fault(Kind.RATE_MINUTE),
        Fault(Kind.RESET, calls=(2,)),
        Fault(Kind.KEY_INVALID, calls=(3,), route=Route.GENERATE),
    )
    told = [chain(fault_of(lambda: service.generate(ask(gemini)))) for _ in range(3)]
    told.append(chain(fault_of(lambda: make(key="another-key-for-tests").get(NAME))))
    assert not any(entry.key_in_url for entry in gemini.requests())
    seen = "\n".join([caplog.text, *(str(vars(record)) for record in caplog.records), *told])
    assert "Teach it" not in "\n".join(told)
    assert KEY not in seen
    assert "another-key-for-tests" not in seen


def chain(error: BaseException | None) -> str:
    """Everything that an error, and those behind it, could tell."""
    told = ""
    while error is not None:
        told += f"{error!r} {error} {vars(error)}\n"
        error = error.__cause__ or error.__context__
    return told


def test_the_words_of_the_service_are_told_without_the_key(gemini: FakeGemini, make: Make) -> None:
    gemini.rules = Rules(keys={})
    fault = fault_of(lambda: make(key="quoted-back-by-a-gateway").get(NAME))
    assert "API key not valid" in str(fault)


def test_capabilities_are_those_that_are_promised(service: GeminiService) -> None:
    assert service.capabilities == sdk.capabilities("google-genai" if service.name == SDKS[0] else SDKS[1])


def test_clips_and_savings_reach_the_model(gemini: FakeGemini, make: Make) -> None:
    service = make()
    if Capability.CLIP not in service.capabilities:
        pytest.skip("this SDK cannot send them")
    gemini.rules = Rules(default_duration_s=100.0)
    whole = ask(gemini)
    video = Video(f"{gemini.url}/v1beta/{NAME}", "video/mp4", start_s=10.5, end_s=40.5, fps=0.5)
    turns = (Turn("user", "Teach it.", video),)
    part = Request(MODEL, whole.system, turns, SCHEMA, 4096, thinking="low", media_resolution="high", flex=True)
    reply = service.generate(part)
    usual, dear = service.generate(whole).tokens_in, 30 * 32 + 15 * 280
    assert reply.tokens_in == usual - 100 * 102 + dear
    first, second = gemini.requests(Route.GENERATE)
    thoughts = gemini.rules.thoughts_tokens
    assert second.usd == pytest.approx((second.prompt_tokens * 0.75 + second.output_tokens * 3.75) / 1e6)
    assert first.usd == pytest.approx((first.prompt_tokens * 0.75 + first.output_tokens * 3.75) / 2e6)
    assert reply.tokens_out < len(reply.text) / 4 + thoughts, "it thought although it should hardly"


def test_the_module_of_the_analyzer_imports_no_sdk() -> None:
    import subprocess
    import sys

    code = (
        "import sys, gsvrd.analyzers.gemini, gsvrd.analyzers.gemini.sdk;"
        "sys.exit(any(n.startswith(('google.genai', 'google.generativeai', 'requests', 'httpx')) for n in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path.cwd(), check=False).returncode == 0
