from __future__ import annotations

import pytest

from gsvrd.errors import ErrorKind
from gsvrd.policy.retry import RULES, Answer, RetryStrategy, Verdict

STRATEGY = RetryStrategy(max_retries=3, poison_limit=2)


def judge(kind: ErrorKind, spent: int = 0, deaths: int = 0, chance: float = 0.5) -> Verdict:
    return STRATEGY.judge(kind, spent=spent, deaths=deaths, chance=chance)


def test_every_kind_of_error_has_a_rule() -> None:
    assert set(RULES) == set(ErrorKind)


@pytest.mark.parametrize(
    "kind",
    [
        ErrorKind.UNREADABLE,
        ErrorKind.EMPTY,
        ErrorKind.NOT_VIDEO,
        ErrorKind.NOT_REGULAR,
        ErrorKind.TOO_LARGE,
        ErrorKind.PERMISSION,
        ErrorKind.UNKNOWN,
    ],
)
def test_what_the_same_bytes_would_do_again_is_given_up_at_once(kind: ErrorKind) -> None:
    assert judge(kind) == Verdict(Answer.GIVE_UP)


def test_a_file_that_was_taken_away_is_no_failure() -> None:
    assert judge(ErrorKind.NOT_FOUND) == Verdict(Answer.LET_GO)


def test_network_errors_have_three_retries_with_factor_two() -> None:
    delays = [judge(ErrorKind.NETWORK, spent).delay_s for spent in range(3)]
    assert delays == [4.0, 8.0, 16.0]


@pytest.mark.parametrize("kind", [ErrorKind.NETWORK, ErrorKind.SERVER])
def test_an_outage_is_waited_out_and_fails_no_video(kind: ErrorKind) -> None:
    assert judge(kind, 3) == Verdict(Answer.GIVE_BACK, 120.0)


def test_a_quota_gives_the_attempt_back_for_an_hour_however_often() -> None:
    assert judge(ErrorKind.QUOTA, spent=50) == Verdict(Answer.GIVE_BACK, 3600.0)


def test_trouble_of_the_machine_costs_no_attempt() -> None:
    assert judge(ErrorKind.PLACE, spent=50).answer is Answer.GIVE_BACK


def test_a_changed_file_is_replaced() -> None:
    assert judge(ErrorKind.CHANGED) == Verdict(Answer.REPLACE)


@pytest.mark.parametrize("kind", [ErrorKind.CRASHED, ErrorKind.TIMEOUT])
def test_a_video_that_fells_its_worker_twice_is_given_up(kind: ErrorKind) -> None:
    assert judge(kind, spent=0, deaths=1).answer is Answer.RETRY
    assert judge(kind, spent=1, deaths=2) == Verdict(Answer.GIVE_UP)


def test_the_configuration_caps_the_table() -> None:
    strict = RetryStrategy(max_retries=0)
    assert strict.judge(ErrorKind.MEMORY, spent=0, deaths=0, chance=0.5) == Verdict(Answer.GIVE_UP)
    assert strict.judge(ErrorKind.NETWORK, spent=0, deaths=0, chance=0.5) == Verdict(Answer.GIVE_BACK, 120.0)


def test_delays_are_spread_from_half_to_one_and_a_half() -> None:
    assert judge(ErrorKind.NETWORK, chance=0.0).delay_s == 2.0
    assert judge(ErrorKind.NETWORK, chance=0.999999).delay_s == pytest.approx(6.0, abs=0.001)
