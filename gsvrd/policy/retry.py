"""IntelligentRetryStrategy: what an attempt's failure leads to. The error table of the product is `RULES`.

Pure: the daemon passes the figures and a random number, and carries the verdict out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gsvrd.errors import ErrorKind


class Answer(StrEnum):
    """What to do with the task."""

    RETRY = "retry"
    """Again later; the attempt counts."""
    GIVE_UP = "give_up"
    """It failed for good."""
    GIVE_BACK = "give_back"
    """Again later; the attempt does not count: the trouble is not the video's."""
    REPLACE = "replace"
    """The file is another one now: this task ends and the new content is queued anew."""
    LET_GO = "let_go"
    """Somebody took the file away before it was studied: nobody wants it any more, and that is no failure."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """An answer, and how long to wait with it."""

    answer: Answer
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the error table."""

    answer: Answer
    retries: int = 0
    """At most so many after the first attempt, however many the configuration allows."""
    delay_s: float = 0.0
    """Before the first retry; it doubles with each further one."""
    patience_s: float = 0.0
    """If set, the task is not given up after the last retry but comes again after so long, with no attempt spent."""


RULES: dict[ErrorKind, Rule] = {
    # The video itself: the same bytes give the same result.
    ErrorKind.UNREADABLE: Rule(Answer.GIVE_UP),
    ErrorKind.EMPTY: Rule(Answer.GIVE_UP),
    ErrorKind.NOT_VIDEO: Rule(Answer.GIVE_UP),
    ErrorKind.NOT_REGULAR: Rule(Answer.GIVE_UP),
    ErrorKind.TOO_LARGE: Rule(Answer.GIVE_UP),
    ErrorKind.NOT_FOUND: Rule(Answer.LET_GO),
    ErrorKind.PERMISSION: Rule(Answer.GIVE_UP),
    ErrorKind.MOVED: Rule(Answer.GIVE_BACK, delay_s=4.0),
    ErrorKind.CHANGED: Rule(Answer.REPLACE),
    ErrorKind.READ: Rule(Answer.RETRY, retries=3, delay_s=20.0),
    # It may have been bad luck; the limit on deaths decides how often.
    ErrorKind.MEMORY: Rule(Answer.RETRY, retries=1, delay_s=10.0),
    ErrorKind.CRASHED: Rule(Answer.RETRY, retries=3, delay_s=1.0),
    ErrorKind.TIMEOUT: Rule(Answer.RETRY, retries=1, delay_s=10.0),
    # What links lead to. A server that is down comes back, but perhaps never: unlike our own network it is given up.
    ErrorKind.LINK: Rule(Answer.GIVE_UP),
    ErrorKind.HOST: Rule(Answer.RETRY, retries=5, delay_s=30.0),
    # The world outside.
    # No video is at fault for an outage, however long it lasts.
    ErrorKind.NETWORK: Rule(Answer.RETRY, retries=3, delay_s=4.0, patience_s=120.0),
    ErrorKind.SERVER: Rule(Answer.RETRY, retries=3, delay_s=8.0, patience_s=120.0),
    ErrorKind.QUOTA: Rule(Answer.GIVE_BACK, delay_s=3600.0),
    ErrorKind.KEY: Rule(Answer.GIVE_BACK, delay_s=60.0),
    ErrorKind.MODEL: Rule(Answer.GIVE_BACK, delay_s=60.0),
    ErrorKind.BUDGET: Rule(Answer.GIVE_BACK, delay_s=600.0),
    ErrorKind.REQUEST: Rule(Answer.GIVE_UP),
    ErrorKind.BLOCKED: Rule(Answer.GIVE_UP),
    ErrorKind.ANSWER: Rule(Answer.RETRY, retries=1, delay_s=8.0),
    ErrorKind.PLACE: Rule(Answer.GIVE_BACK, delay_s=2.0),
    ErrorKind.UNKNOWN: Rule(Answer.GIVE_UP),
}

JITTER = (0.5, 1.5)


@dataclass(frozen=True, slots=True)
class RetryStrategy:
    """The table with the operator's limits.

    `max_retries` caps every rule; `poison_limit` is how many workers one content may fell before it is given up.
    """

    max_retries: int = 3
    poison_limit: int = 2

    def judge(self, kind: ErrorKind, *, spent: int, deaths: int, chance: float) -> Verdict:
        """What follows from a failure of `kind`.

        `spent` counts the attempts that were charged before this one, `deaths` the workers this content has felled,
        this time included; `chance` in [0, 1) spreads the delays.
        """
        rule = RULES[kind]
        low, high = JITTER
        delay_s = rule.delay_s * (low + (high - low) * chance)
        if rule.answer is not Answer.RETRY:
            return Verdict(rule.answer, delay_s if rule.answer is Answer.GIVE_BACK else 0.0)
        if rule.patience_s and spent >= min(rule.retries, self.max_retries):
            return Verdict(Answer.GIVE_BACK, rule.patience_s * (low + (high - low) * chance))
        if deaths >= self.poison_limit or spent >= min(rule.retries, self.max_retries):
            return Verdict(Answer.GIVE_UP)
        return Verdict(Answer.RETRY, delay_s * 2.0**spent)
