"""What `docs/webhooks.md` tells receivers is true: its code is run against what the daemon sends."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gsvrd.daemon.heralding import Herald
from gsvrd.errors import ErrorFacts, ErrorKind
from gsvrd.model import Task
from gsvrd.policy.webhook import headers, parse_secrets

PAGE = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()
OLD, NEW = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3", "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4"
BODY = '{"type": "task.completed", "data": {"name": "课.mp4"}}'.encode()


@pytest.fixture(scope="module")
def is_genuine() -> Callable[..., bool]:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert code.count("\n") <= 16
    names: dict[str, Any] = {}
    exec(code, names)
    found: Callable[..., bool] = names["is_genuine"]
    return found


def sent(at: float, *secrets: str) -> dict[str, str]:
    return headers("evt_1", int(at), BODY, parse_secrets("\n".join(secrets)))


def test_the_documented_check_takes_what_the_daemon_signs_during_a_change_of_secrets(
    is_genuine: Callable[..., bool],
) -> None:
    now = time.time()
    assert is_genuine(sent(now, OLD), BODY, OLD)
    assert is_genuine(sent(now, NEW, OLD), BODY, OLD)
    assert is_genuine(sent(now, NEW, OLD), BODY, NEW)


def test_the_documented_check_refuses_what_is_forged_stale_or_not_signed(is_genuine: Callable[..., bool]) -> None:
    now = time.time()
    assert not is_genuine(sent(now, OLD), BODY + b" ", OLD)
    assert not is_genuine({**sent(now, OLD), "webhook-id": "evt_2"}, BODY, OLD)
    assert not is_genuine(sent(now - 3600, OLD), BODY, OLD)
    assert not is_genuine({**sent(now - 3600, OLD), "webhook-timestamp": str(int(now))}, BODY, OLD)
    assert not is_genuine(sent(now, OLD), BODY, NEW)
    assert not is_genuine({"webhook-id": "evt_1", "webhook-timestamp": str(int(now))}, BODY, OLD)
    assert not is_genuine({}, BODY, OLD)


class Outbox:
    """Keeps what is put into it."""

    def __init__(self) -> None:
        self.put_in: dict[str, set[str]] = {}

    def put(self, event: str, data: dict[str, object], url: str, **_: object) -> None:
        self.put_in[event] = set(data)


def test_every_field_of_every_event_is_documented() -> None:
    outbox = Outbox()
    herald = Herald(outbox, "https://example.org")  # type: ignore[arg-type]
    task = Task(1, b"/i/a.mp4", "a.mp4", 1, 2, 3, 4, 1, 0, 0, 50, 0.0, None, batch=1)
    herald.completed(task, 1, "a.md")
    herald.failed(task, 1, ErrorFacts(ErrorKind.NOT_VIDEO, "it is none", "Convert it."))
    rows = dict(re.findall(r"^\| `([a-z.]+)` \| (.*) \|$", PAGE, re.MULTILINE))
    assert set(outbox.put_in) < set(rows)
    for event, fields in outbox.put_in.items():
        assert {name for name in fields if f"`{name}`" not in rows[event]} == set(), event
