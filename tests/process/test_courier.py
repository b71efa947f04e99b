"""The courier against a real server: order, repeats, kills, hangs. Nothing here may lose a message."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest
from support.couriers import SETTINGS, Loop
from support.receivers import Act, Receiver, drip, flood, hang, hang_up, say
from support.waiting import eventually, lives

from gsvrd.daemon.courier import GRACE_S, IDLE_S, MOST_AT_A_TIME

PATIENCE_S = 40.0


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    made = Loop(tmp_path / "gsvrd.db")
    yield made
    made.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


def ends(loop: Loop, state: str, *ids: str) -> None:
    eventually(lambda: loop.has(state, *ids), PATIENCE_S)


def turns(loop: Loop, condition: Callable[[], object]) -> None:
    def met() -> object:
        loop.turn()
        return condition()

    eventually(met, PATIENCE_S)


def change(loop: Loop, **settings: object) -> None:
    loop.courier.change(msgspec.structs.replace(SETTINGS, **settings), 86_400.0)


def test_a_message_arrives_as_it_was_put_and_can_be_verified(loop: Loop, receiver: Receiver, tmp_path: Path) -> None:
    old, new = os.urandom(32), os.urandom(24)
    (tmp_path / "secret").write_text(f"whsec_{base64.b64encode(new).decode()}\n{base64.b64encode(old).decode()}\n")
    change(loop, secret_file=str(tmp_path / "secret"))
    message_id = loop.put(7, receiver.url("/hook/讲座?to=me"))
    ends(loop, "delivered", message_id)
    (got,) = receiver.got
    assert got.path == "/hook/%E8%AE%B2%E5%BA%A7?to=me"
    assert json.loads(got.body)["type"] == "task.completed"
    assert json.loads(got.body)["data"] == {"task": 7}
    assert got.headers["content-type"] == "application/json"
    sent_at = got.headers["webhook-timestamp"]
    assert abs(int(sent_at) - time.time()) < 300
    for secret, said in zip((new, old), got.headers["webhook-signature"].split(" "), strict=True):
        mac = hmac.new(secret, f"{message_id}.{sent_at}.".encode() + got.body, hashlib.sha256)
        assert said == "v1," + base64.b64encode(mac.digest()).decode()


def test_a_secret_that_is_replaced_counts_from_the_next_message_on(
    loop: Loop, receiver: Receiver, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    change(loop, secret_file=str(secret))
    for number, key in enumerate((bytes(32), bytes(range(32)))):
        secret.write_text(base64.b64encode(key).decode())
        ends(loop, "delivered", loop.put(number, receiver.url()))
        got = receiver.got[-1]
        signed = f"{got.id}.{got.headers['webhook-timestamp']}.".encode() + got.body
        expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        assert got.headers["webhook-signature"] == f"v1,{expected}"
    assert len(receiver.got) == 2


def test_a_secret_that_cannot_be_read_sends_nothing_until_it_can(
    loop: Loop, receiver: Receiver, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    change(loop, secret_file=str(secret))
    message_id = loop.put(1, receiver.url())
    turns(loop, lambda: "secret_file cannot be used" in loop.error_of(message_id))
    assert receiver.connections == 0
    secret.write_text(base64.b64encode(bytes(32)).decode())
    ends(loop, "delivered", message_id)
    assert "webhook-signature" in receiver.got[0].headers


def test_nothing_is_sent_before_the_event_is_durable(loop: Loop, receiver: Receiver) -> None:
    loop.desk.outbox.put("task.completed", {"task": 1}, receiver.url())
    loop.courier.send()
    assert loop.courier.pids == []
    loop.desk.start()  # a crash
    loop.courier.outbox = loop.desk.outbox
    first = loop.put(2, receiver.url())
    ends(loop, "delivered", first)
    assert receiver.ids == [first]


@pytest.mark.parametrize("act", [say(503), say(429), say(408), hang_up, say(500, b"oops")])
def test_the_same_message_comes_again_and_those_behind_it_wait(loop: Loop, receiver: Receiver, act: Act) -> None:
    receiver.acts += [act, act]
    ids = [loop.put(number, receiver.url()) for number in range(3)]
    ends(loop, "delivered", *ids)
    assert receiver.ids == [ids[0], ids[0], *ids]
    assert len({got.body for got in receiver.got[:3]}) == 1
    assert loop.desk.states()[ids[0]] == ("delivered", 3)


def test_a_batch_that_hangs_delays_no_other(loop: Loop, receiver: Receiver) -> None:
    receiver.acts.append(hang)
    stuck = [loop.put(number, receiver.url()) for number in range(2)]
    turns(loop, lambda: receiver.got)
    others = [loop.put(number, receiver.url(), batch=2) for number in range(3)]
    ends(loop, "delivered", *others)
    assert receiver.ids == [stuck[0], *others]
    receiver.released.set()
    ends(loop, "delivered", *stuck)
    assert receiver.ids == [stuck[0], *others, stuck[1]]


def test_many_batches_at_once_are_sent_so_many_at_a_time(loop: Loop, receiver: Receiver) -> None:
    receiver.acts += [hang] * (MOST_AT_A_TIME + 1)
    ids = [loop.put(1, receiver.url(), batch) for batch in range(MOST_AT_A_TIME + 1)]
    turns(loop, lambda: len(receiver.got) == MOST_AT_A_TIME)
    loop.turn()
    assert receiver.connections == MOST_AT_A_TIME
    receiver.released.set()
    ends(loop, "delivered", *ids)
    assert sorted(receiver.ids) == sorted(ids)


@pytest.mark.parametrize("act", [hang, drip])
def test_an_answer_that_takes_too_long_is_none(loop: Loop, receiver: Receiver, act: Act) -> None:
    change(loop, timeout_s=1.0)
    receiver.acts.append(act)
    message_id = loop.put(1, receiver.url())
    ends(loop, "delivered", message_id)
    assert len(receiver.ids) > 1
    assert set(receiver.ids) == {message_id}


def test_a_server_that_is_down_gets_everything_in_order_when_it_is_back(loop: Loop) -> None:
    with Receiver() as gone:
        port = gone.port
    ids = [loop.put(number, gone.url()) for number in range(3)]
    turns(loop, lambda: "refused" in loop.error_of(ids[0]))
    with Receiver(port=port) as back:
        loop.clock.by_s += 3600
        ends(loop, "delivered", *ids)
        assert back.ids == ids


def test_a_receiver_that_does_not_want_the_message_gets_it_thrice(loop: Loop, receiver: Receiver) -> None:
    receiver.acts += [say(400, b"no such\nhook\x1b[31m api_key=s3cret")] * 3
    unwanted, wanted = loop.put(1, receiver.url()), loop.put(2, receiver.url())
    ends(loop, "delivered", wanted)
    assert loop.desk.states()[unwanted] == ("dead", 3)
    assert loop.error_of(unwanted) == "HTTP 400 Bad Request: no such hook?[31m api_key=[hidden]"
    assert receiver.ids == [unwanted] * 3 + [wanted]


def test_a_receiver_that_is_gone_for_good_gets_it_once(loop: Loop, receiver: Receiver) -> None:
    receiver.acts.append(say(410))
    message_id = loop.put(1, receiver.url())
    ends(loop, "dead", message_id)
    assert receiver.connections == 1


def test_a_receiver_that_stays_in_trouble_is_given_up_after_a_day(loop: Loop, receiver: Receiver) -> None:
    receiver.acts += [say(500)] * 99
    message_id = loop.put(1, receiver.url())
    turns(loop, lambda: loop.desk.states()[message_id][1] >= 3)
    assert loop.desk.states()[message_id][0] == "pending"
    loop.clock.by_s += 86_400
    ends(loop, "dead", message_id)
    assert loop.error_of(message_id) == "HTTP 500 Internal Server Error"


def test_retry_after_is_honoured(loop: Loop, receiver: Receiver) -> None:
    receiver.acts.append(say(503, Retry_After="600"))
    message_id = loop.put(1, receiver.url())
    turns(loop, lambda: loop.desk.states()[message_id][1] == 1)
    loop.turn()
    loop.clock.by_s += 500
    loop.turn()
    assert loop.courier.pids == []
    assert 0 < (loop.courier.next_deadline() or 0.0) - loop.clock.monotonic() <= 100
    loop.clock.by_s += 101
    ends(loop, "delivered", message_id)


@pytest.mark.parametrize("where", ["http://169.254.169.254/latest/meta-data/", "lure"])
def test_a_redirect_is_not_followed(loop: Loop, receiver: Receiver, where: str) -> None:
    with Receiver() as lure:
        receiver.acts += [say(302, Location=lure.url() if where == "lure" else where)] * 3
        message_id = loop.put(1, receiver.url())
        ends(loop, "dead", message_id)
        assert loop.error_of(message_id) == "HTTP 302 Found"
        assert (receiver.connections, lure.connections) == (3, 0)


@pytest.mark.parametrize("host", ["localhost", "2130706433", "[::ffff:127.0.0.1]", "127.0.0.2"])
def test_a_target_near_by_gets_no_connection_and_the_operator_a_reason(
    loop: Loop, receiver: Receiver, host: str
) -> None:
    message_id = loop.put(1, receiver.url(host=host))
    ends(loop, "dead", message_id)
    assert "not an address of the open internet; webhook.allow does not list it" in loop.error_of(message_id)
    assert receiver.connections == 0


def test_an_address_that_is_none_is_given_up_at_once(loop: Loop, receiver: Receiver) -> None:
    bad, good = loop.put(1, "http://me:secret@127.0.0.1/"), loop.put(1, receiver.url())
    ends(loop, "dead", bad)
    ends(loop, "delivered", good)
    assert "secret" not in loop.error_of(bad)


def test_a_refusal_without_end_is_cut_short(loop: Loop, receiver: Receiver) -> None:
    receiver.acts.append(flood)
    message_id = loop.put(1, receiver.url())
    turns(loop, lambda: loop.error_of(message_id).startswith("HTTP 500 Flood: xxx"))
    assert len(loop.error_of(message_id)) == 500
    receiver.released.set()
    ends(loop, "delivered", message_id)


# -- the child -----------------------------------------------------------------------------------------------------------


def test_there_is_a_child_only_while_there_is_something_to_do(loop: Loop, receiver: Receiver) -> None:
    loop.turn()
    assert loop.courier.pids == []
    assert loop.courier.next_deadline() is None
    ends(loop, "delivered", loop.put(1, receiver.url()))
    (pid,) = loop.courier.pids
    loop.clock.by_s += IDLE_S - 5
    ends(loop, "delivered", loop.put(2, receiver.url()))
    assert loop.courier.pids == [pid]
    loop.clock.by_s += IDLE_S + 1
    loop.turn()
    assert loop.courier.pids == []
    assert not lives(pid)
    ends(loop, "delivered", loop.put(3, receiver.url()))


def test_a_child_that_is_killed_is_replaced_and_what_it_had_in_hand_sent_again(loop: Loop, receiver: Receiver) -> None:
    receiver.acts += [hang, hang]
    ids = [loop.put(number, receiver.url()) for number in range(2)] + [loop.put(9, receiver.url(), batch=2)]
    turns(loop, lambda: len(receiver.got) == 2)
    (pid,) = loop.courier.pids
    os.kill(pid, signal.SIGKILL)
    turns(loop, lambda: not loop.courier.pids)
    loop.clock.by_s += 60
    ends(loop, "delivered", *ids)
    assert sorted(receiver.ids[:2]) == sorted([ids[0], ids[2]])
    assert [found for found in receiver.ids[2:] if found != ids[2]] == ids[:2]
    assert receiver.ids.count(ids[2]) == 2


def test_a_child_that_hangs_is_ended(loop: Loop, receiver: Receiver) -> None:
    receiver.acts.append(hang)
    message_id = loop.put(1, receiver.url())
    turns(loop, lambda: receiver.got)
    (pid,) = loop.courier.pids
    os.kill(pid, signal.SIGSTOP)
    loop.clock.by_s += SETTINGS.timeout_s + GRACE_S + 1
    loop.turn()
    assert not lives(pid)
    assert loop.error_of(message_id) == "the courier did not answer in time"
    loop.clock.by_s += 60
    ends(loop, "delivered", message_id)
    assert receiver.ids == [message_id] * 2


def test_a_message_that_fells_the_courier_does_not_do_so_for_ever(loop: Loop, receiver: Receiver) -> None:
    receiver.acts += [hang] * 3
    message_id = loop.put(1, receiver.url())
    loop.clock.by_s += 86_400
    for count in range(1, 4):
        turns(loop, partial(_has_got, receiver, count))
        os.kill(loop.courier.pids[0], signal.SIGKILL)
        turns(loop, lambda: not loop.courier.pids)
        loop.clock.by_s += 60
    ends(loop, "dead", message_id)
    assert "the courier ended" in loop.error_of(message_id)


def _has_got(receiver: Receiver, count: int) -> bool:
    return len(receiver.got) == count


def test_signals_meant_for_the_daemon_do_not_hurt_the_child(loop: Loop, receiver: Receiver) -> None:
    receiver.acts.append(hang)
    message_id = loop.put(1, receiver.url())
    turns(loop, lambda: receiver.got)
    (pid,) = loop.courier.pids
    assert os.getsid(pid) == pid
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT):
        os.kill(pid, number)
    receiver.released.set()
    ends(loop, "delivered", message_id)
    assert loop.courier.pids == [pid]
    assert receiver.ids == [message_id]


def test_a_reload_that_changes_something_takes_effect_at_once(loop: Loop, receiver: Receiver) -> None:
    receiver.acts += [hang]
    change(loop)
    message_id = loop.put(1, receiver.url())
    turns(loop, lambda: receiver.got)
    (pid,) = loop.courier.pids
    change(loop)
    assert loop.courier.pids == [pid]
    change(loop, allowed=())
    ends(loop, "dead", message_id)
    assert receiver.connections == 1


def test_nothing_is_lost_when_the_daemon_is_killed(tmp_path: Path, receiver: Receiver) -> None:
    path = tmp_path / "gsvrd.db"
    before = Loop(path)
    ids = [before.put(number, receiver.url()) for number in range(3)]
    before.close()
    receiver.acts += [say(204), hang]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "support.couriers", str(path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        child = int(daemon.stdout.readline())
        eventually(lambda: len(receiver.got) == 2, PATIENCE_S)
        os.kill(child, signal.SIGSTOP)  # one that cannot see that its daemon is gone
        daemon.kill()
    eventually(lambda: not lives(child), PATIENCE_S)
    after = Loop(path)
    try:
        ends(after, "delivered", *ids)
        assert receiver.ids == [ids[0], ids[1], ids[1], ids[2]]
        assert receiver.got[1].body == receiver.got[2].body
    finally:
        after.close()


def test_closing_ends_the_child_and_keeps_what_is_under_way(loop: Loop, receiver: Receiver) -> None:
    receiver.acts.append(hang)
    message_id = loop.put(1, receiver.url())
    turns(loop, lambda: receiver.got)
    (pid,) = loop.courier.pids
    loop.courier.close()
    assert not lives(pid)
    assert loop.desk.states()[message_id] == ("pending", 0)
