"""One way to make a call that the daemon governs: ask first, settle exactly once, whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from gsvrd.analyzers.base import Call, GovernedBench, Spent
from gsvrd.analyzers.gemini.classify import spent_on
from gsvrd.analyzers.gemini.service import ServiceFault
from gsvrd.errors import ErrorKind, TaskError

_Result = TypeVar("_Result")


def governed(
    bench: GovernedBench, call: Call, make: Callable[[], _Result], cost: Callable[[_Result], Spent]
) -> _Result:
    """What `make` gives, once the call may start; `cost` says what it spent.

    Raises what `bench.ask` and `make` raise.
    """
    permit = bench.ask(call)
    # For what nobody foresaw: the call counts with its worst case.
    spent = Spent(outcome=ErrorKind.UNKNOWN, is_known=False)
    try:
        result = make()
        spent = cost(result)
    except ServiceFault as fault:
        spent = spent_on(fault)
        raise
    except TaskError as error:
        spent = Spent(outcome=error.kind)
        raise
    finally:
        permit.settle(spent)
    return result
