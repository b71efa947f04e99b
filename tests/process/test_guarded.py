"""What can only be seen at a real socket: that nobody near by is connected to, and no deadline is stretched."""

from __future__ import annotations

import ipaddress
import ssl
import subprocess
import threading
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

import pytest
from support.receivers import Act, Receiver, babble, drip, flood, hang, hang_up, say

from gsvrd.net.guarded import Answer, Guard, RefusedTargetError, Resolver, post
from gsvrd.policy.addresses import Address, parse_target

LOOPBACK = ipaddress.ip_address("127.0.0.1")
PUBLIC = ipaddress.ip_address("192.88.99.1")
"""Of the open internet by its kind, and given back long ago: nobody answers there."""


def send(url: str, *allowed: str, timeout_s: float = 20.0, resolve: Resolver | None = None) -> Answer:
    return post(parse_target(url), b"{}", {}, Guard(allowed, timeout_s, resolve), 100)


def says(*answers: list[Address]) -> tuple[Resolver, list[str]]:
    """A resolver that gives one answer after the other, the last one again and again."""
    asked: list[str] = []

    def resolve(host: str, port: int) -> list[Address]:
        asked.append(host)
        return answers[min(len(asked), len(answers)) - 1]

    return resolve, asked


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "localhost", "2130706433", "0x7f000001", "017700000001", "0.0.0.0", "[::ffff:127.0.0.1]"],
)
def test_this_machine_is_not_connected_to_however_it_is_spelled(host: str) -> None:
    with Receiver() as receiver:
        with pytest.raises(RefusedTargetError, match="not an address of the open internet"):
            send(receiver.url(host=host))
        assert receiver.connections == 0
        assert send(receiver.url(host=host), parse_target(receiver.url(host=host)).host).status == 204


@pytest.mark.parametrize(
    "text", ["10.0.0.1", "192.168.0.1", "169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "::1"]
)
def test_a_name_that_leads_near_by_is_refused(text: str) -> None:
    resolve, asked = says([ipaddress.ip_address(text)])
    with pytest.raises(RefusedTargetError, match=r"harmless\.example is "):
        send("http://harmless.example/", resolve=resolve)
    assert asked == ["harmless.example"]


def test_a_name_with_one_address_near_by_is_refused_as_a_whole() -> None:
    with Receiver() as receiver:
        resolve, _ = says([PUBLIC, LOOPBACK])
        with pytest.raises(RefusedTargetError):
            send(receiver.url(host="both.example"), resolve=resolve)
        assert receiver.connections == 0


def test_a_name_that_changes_its_address_after_the_check_gains_nothing() -> None:
    with Receiver() as receiver:
        resolve, asked = says([PUBLIC], [LOOPBACK])
        with pytest.raises(OSError):  # noqa: PT011 (no route, or no answer: as the network is)
            send(receiver.url(host="rebinding.example"), timeout_s=2.0, resolve=resolve)
        assert asked == ["rebinding.example"]
        with pytest.raises(RefusedTargetError):
            send(receiver.url(host="rebinding.example"), resolve=resolve)
        assert receiver.connections == 0


def test_what_is_allowed_is_a_host_and_not_what_looks_like_it() -> None:
    with Receiver() as receiver:
        resolve, _ = says([LOOPBACK])
        for host in ("evil-inner.example", "inner.example.evil", "ner.example"):
            with pytest.raises(RefusedTargetError):
                send(receiver.url(host=host), "inner.example", resolve=resolve)
        assert receiver.connections == 0
        assert send(receiver.url(host="INNER.example."), "inner.example", resolve=resolve).status == 204


@pytest.mark.parametrize("where", ["http://169.254.169.254/latest/meta-data/", "lure"])
def test_a_redirect_is_an_answer_and_no_order(where: str) -> None:
    with Receiver() as lure, Receiver([say(302, Location=lure.url() if where == "lure" else where)]) as receiver:
        assert send(receiver.url(), "127.0.0.1").status == 302
        assert (receiver.connections, lure.connections) == (1, 0)


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with Receiver() as proxy, Receiver() as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url(""))
        assert send(receiver.url(), "127.0.0.1").status == 204
        assert (proxy.connections, receiver.connections) == (0, 1)


def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    with Receiver() as receiver:
        resolve, _ = says([ipaddress.ip_address("127.0.0.2"), LOOPBACK])
        assert send(receiver.url(host="two.example"), "two.example", resolve=resolve).status == 204


@pytest.mark.parametrize("act", [hang, drip])
def test_one_deadline_holds_however_slowly_the_answer_comes(act: Act) -> None:
    with Receiver([act]) as receiver, pytest.raises(TimeoutError):
        send(receiver.url(), "127.0.0.1", timeout_s=0.4)


def test_a_resolver_that_hangs_holds_nobody() -> None:
    answer = threading.Event()

    def resolve(host: str, port: int) -> list[Address]:
        answer.wait()
        return [LOOPBACK]

    with pytest.raises(TimeoutError, match="not found in time"):
        send("http://slow.example/", "slow.example", timeout_s=0.2, resolve=resolve)
    answer.set()


def test_of_an_answer_only_the_beginning_is_read() -> None:
    with Receiver([flood, say(400, b"no such hook")]) as receiver:
        answer = send(receiver.url(), "127.0.0.1")
        assert (answer.status, answer.body) == (500, b"x" * 100)
        answer = send(receiver.url(), "127.0.0.1")
        assert (answer.status, answer.reason, answer.body) == (400, "Bad Request", b"no such hook")


@pytest.mark.parametrize("act", [hang_up, babble])
def test_no_answer_at_all_is_an_error(act: Act) -> None:
    with Receiver([act]) as receiver, pytest.raises((OSError, HTTPException)):
        send(receiver.url(), "127.0.0.1")


def test_a_name_that_does_not_exist_is_an_error_for_people() -> None:
    with pytest.raises(OSError, match="the host is not found"):
        send(f"http://{'x' * 64}.invalid/", timeout_s=5)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=hook.example"
    names = ["-addext", "subjectAltName=DNS:hook.example", "-keyout", str(path), "-out", f"{path}.crt"]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


@pytest.fixture
def secure(certificate: Path) -> Callable[[], tuple[Receiver, list[str | None]]]:
    def make() -> tuple[Receiver, list[str | None]]:
        context, asked = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), list[str | None]()
        context.load_cert_chain(certificate)
        context.sni_callback = lambda _, name, __: asked.append(name)
        return Receiver(tls=context), asked

    return make


def test_the_host_is_named_and_its_certificate_checked_though_an_address_is_connected_to(
    certificate: Path, secure: Callable[[], tuple[Receiver, list[str | None]]]
) -> None:
    ours = ssl.create_default_context(cafile=f"{certificate}.crt")
    resolve, _ = says([LOOPBACK])
    receiver, names = secure()
    with receiver:
        url = receiver.url(host="hook.example").replace("http:", "https:")
        guard = Guard(("hook.example", "other.example"), 20.0, resolve, ours)
        assert post(parse_target(url), b"{}", {}, guard, 100).status == 204
        assert receiver.got[0].headers["host"] == f"hook.example:{receiver.port}"
        assert names == ["hook.example"]
        with pytest.raises(ssl.SSLCertVerificationError):
            post(parse_target(url.replace("hook.", "other.")), b"{}", {}, guard, 100)
        with pytest.raises(ssl.SSLCertVerificationError):
            post(parse_target(url), b"{}", {}, Guard(("hook.example",), 20.0, resolve), 100)
        assert len(receiver.got) == 1
