from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gsvrd.policy.limiter import Call, Go, Instant, Lane
from gsvrd.policy.spending import CostLimits, Money, Price, Rates, Sums, Usage, may_spend, worst_case
from gsvrd.store.ledger import QUOTA_DAY, Ledger, Line, pacific_day, spending
from gsvrd.store.opening import open_database
from gsvrd.store.schema import SCHEMA_VERSION, migrate

HOUR = 3600.0
NONE = Usage()


@dataclass
class Clocks:
    """Two clocks that are moved apart at will."""

    wall_s: float
    monotonic_s: float = 50.0

    def wall(self) -> float:
        return self.wall_s

    def monotonic(self) -> float:
        return self.monotonic_s

    def at(self, text: str) -> None:
        self.wall_s = utc(text)


def utc(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def call(task: int = 1, lane: Lane = Lane.GENERATE, model: str = "flash", attempt: int = 1, tokens: int = 5) -> Call:
    return Call(task, attempt, lane, "project", model if lane is Lane.GENERATE else "", tokens)


@dataclass
class Daemon:
    """A ledger and the journal it writes to, as the loop has them; `crash` loses what is not committed."""

    conn: sqlite3.Connection
    clock: Clocks
    journal: list[tuple[str, tuple[object, ...]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.journal.clear()
        self.ledger = Ledger(self.conn, self.clock, lambda sql, values: self.journal.append((sql, values)))

    def commit(self) -> None:
        self.conn.execute("BEGIN IMMEDIATE")
        for sql, values in self.journal:
            self.conn.execute(sql, values)
        self.conn.execute("COMMIT")
        self.journal.clear()

    def restart(self) -> None:
        """It dies, starts and recovers."""
        self.start()
        self.ledger.recover()
        self.commit()

    def sent(self, upper: int = 100, batch: int | None = None, of: Call | None = None) -> int:
        permit = self.ledger.reserve(of or call(), upper, batch)
        assert self.ledger.sent(permit)
        self.commit()
        return permit

    def row(self, permit: int) -> dict[str, object]:
        cursor = self.conn.execute("SELECT * FROM ledger WHERE permit = ?", (permit,))
        return dict(zip([column[0] for column in cursor.description], cursor.fetchone(), strict=True))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gsvrd.db"


@pytest.fixture
def daemon(path: Path) -> Iterator[Daemon]:
    db = open_database(path, create=True)
    yield Daemon(db, Clocks(utc("2026-11-24 20:00")))
    db.close()


# -- days ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "day", "hours"),
    [
        ("2026-07-01 06:59:59", "2026-06-30", 24),
        ("2026-07-01 07:00:00", "2026-07-01", 24),
        ("2026-12-31 07:59:59", "2026-12-30", 24),
        ("2026-12-31 08:00:00", "2026-12-31", 24),
        ("2026-03-08 12:00:00", "2026-03-08", 23),
        ("2026-11-01 12:00:00", "2026-11-01", 25),
        ("2027-03-14 08:00:00", "2027-03-14", 23),
        ("2027-11-08 07:59:59", "2027-11-07", 25),
    ],
)
def test_days_are_those_of_los_angeles_also_when_its_clocks_change(moment: str, day: str, hours: int) -> None:
    found = pacific_day(utc(moment))
    assert (found.name, (found.ends_at - found.starts_at) / HOUR) == (day, hours)
    assert found.starts_at <= utc(moment) < found.ends_at
    assert pacific_day(found.ends_at).starts_at == found.ends_at


def test_the_requests_of_a_day_are_counted_by_model_and_begin_anew_the_next_day(daemon: Daemon) -> None:
    daemon.clock.at("2026-11-01 07:30")  # the day on which the clocks are set back
    daemon.sent()
    daemon.sent(of=call(lane=Lane.UPLOAD))
    daemon.sent(of=call(model="pro"))
    use = daemon.ledger.day_use("project", "flash")
    assert (use.requests, use.refused, use.ends_at) == (1, False, utc("2026-11-02 08:00"))
    assert daemon.ledger.day_use("project", "").requests == 0
    daemon.clock.at("2026-11-02 07:59")
    assert daemon.ledger.day_use("project", "flash").requests == 1
    daemon.clock.at("2026-11-02 08:00")
    assert daemon.ledger.day_use("project", "flash").requests == 0


@pytest.mark.parametrize("restarted", [False, True])
def test_the_day_does_not_go_back_with_the_clock(daemon: Daemon, restarted: bool) -> None:
    daemon.sent()
    daemon.clock.wall_s += 20 * HOUR
    daemon.sent()
    daemon.sent()
    daemon.clock.wall_s -= 20 * HOUR
    if restarted:
        daemon.restart()
    use = daemon.ledger.day_use("project", "flash")
    assert use.requests == 2
    assert use.ends_at == utc("2026-11-26 08:00")
    daemon.clock.wall_s += 20 * HOUR
    assert daemon.ledger.day_use("project", "flash").requests == 2


@pytest.mark.parametrize("restarted", [False, True])
def test_a_clock_that_was_a_year_ahead_does_not_close_the_day_for_a_year(daemon: Daemon, restarted: bool) -> None:
    daemon.sent()
    daemon.clock.wall_s += 365 * 24 * HOUR
    daemon.sent()
    daemon.sent()
    daemon.clock.wall_s -= 365 * 24 * HOUR
    if restarted:
        daemon.restart()
    use = daemon.ledger.day_use("project", "flash")
    assert (use.requests, use.ends_at) == (1, utc("2026-11-25 08:00"))


def test_a_day_the_service_called_used_up_stays_so_over_a_restart_and_ends(daemon: Daemon) -> None:
    daemon.ledger.settle(daemon.sent(), QUOTA_DAY, NONE, 0)
    assert daemon.ledger.day_use("project", "flash").refused
    daemon.commit()
    daemon.restart()
    assert daemon.ledger.day_use("project", "flash").refused
    assert not daemon.ledger.day_use("project", "pro").refused
    daemon.clock.wall_s += 24 * HOUR
    assert not daemon.ledger.day_use("project", "flash").refused


# -- permits -------------------------------------------------------------------------------------------------------------


def test_a_call_is_booked_at_its_worst_case_and_settled_at_its_cost(daemon: Daemon) -> None:
    permit = daemon.ledger.reserve(call(), 100, batch=7)
    assert daemon.ledger.sums(7) == Sums(Money(0, 100), Money(0, 100), Money(0, 100), utc("2026-11-25 08:00"))
    daemon.ledger.sent(permit)
    daemon.clock.wall_s += 40
    daemon.ledger.settle(permit, "ok", Usage(11, 12, 13), 60)
    daemon.commit()
    for _ in range(2):
        assert daemon.ledger.sums(7) == Sums(Money(60), Money(60), Money(60), utc("2026-11-25 08:00"))
        assert daemon.ledger.sums(None).batch == Money()
        assert daemon.ledger.sums(8) == Sums(Money(60), Money(), Money(60), utc("2026-11-25 08:00"))
        daemon.restart()
    row = daemon.row(permit)
    assert (row["state"], row["outcome"], row["cost_micro"], row["batch"]) == ("settled", "ok", 60, 7)
    assert (row["tokens_in"], row["tokens_out"], row["tokens_thoughts"]) == (11, 12, 13)
    assert row["settled_at"] == daemon.clock.wall_s


def test_a_call_that_ends_after_midnight_is_charged_to_the_day_it_was_booked_on(daemon: Daemon) -> None:
    daemon.clock.at("2026-11-25 07:59")
    permit = daemon.sent()
    daemon.clock.at("2026-11-25 08:01")
    assert daemon.ledger.sums(None).day == Money()
    daemon.ledger.settle(permit, "ok", NONE, 60)
    assert daemon.ledger.sums(None).day == Money()
    assert daemon.ledger.sums(None).total == Money(60)


def test_only_the_first_end_of_a_permit_counts(daemon: Daemon) -> None:
    permit = daemon.sent()
    daemon.ledger.settle(permit, "ok", NONE, 60)
    daemon.ledger.settle(permit, "ok", NONE, 60)
    daemon.ledger.unknown(permit, "late")
    daemon.ledger.void(permit, "late")
    daemon.ledger.end_attempt(1, 1, "late")
    assert not daemon.ledger.sent(permit)
    daemon.commit()
    assert daemon.ledger.sums(None).total == Money(60)
    assert daemon.row(permit)["outcome"] == "ok"
    assert daemon.ledger.day_use("project", "flash").requests == 1


def test_what_never_left_costs_neither_money_nor_a_request(daemon: Daemon) -> None:
    permit = daemon.sent()
    daemon.ledger.void(permit, "no connection")
    daemon.commit()
    for _ in range(2):
        assert daemon.ledger.sums(None).total == Money()
        assert daemon.ledger.day_use("project", "flash").requests == 0
        daemon.restart()


def test_the_end_of_an_attempt_frees_what_it_holds_and_charges_what_was_handed_out(daemon: Daemon) -> None:
    handed = daemon.sent(upper=100)
    kept = daemon.ledger.reserve(call(), 30)
    other = daemon.ledger.reserve(call(attempt=2), 7)
    daemon.ledger.end_attempt(1, 1, "the worker died")
    daemon.commit()
    assert [daemon.row(permit)["state"] for permit in (handed, kept, other)] == ["unknown", "void", "reserved"]
    assert daemon.ledger.sums(None).total == Money(100, 7)


def test_after_a_crash_what_was_handed_out_is_charged_and_what_was_not_is_void(daemon: Daemon) -> None:
    handed = daemon.sent(upper=100, batch=3)
    held = daemon.ledger.reserve(call(2), 30)
    daemon.commit()
    lost = daemon.ledger.reserve(call(3), 1000)
    daemon.restart()
    assert daemon.ledger.sums(3).batch == Money(100)
    assert daemon.ledger.sums(3).total == Money(100)
    assert [daemon.row(permit)["state"] for permit in (handed, held)] == ["unknown", "void"]
    assert daemon.ledger.reserve(call(4), 1) == lost, "it was never handed out, so its number is free"
    daemon.commit()
    daemon.restart()
    assert daemon.ledger.sums(3).total == Money(100)


def test_the_last_minute_is_known_after_a_restart(daemon: Daemon) -> None:
    wall = daemon.clock.wall_s
    daemon.sent()
    daemon.clock.wall_s += 30
    daemon.ledger.settle(daemon.sent(of=call(2, tokens=8)), "ok", Usage(9), 0)
    daemon.sent(of=call(3, lane=Lane.UPLOAD))
    daemon.ledger.void(daemon.sent(of=call(4)), "no connection")
    daemon.commit()
    daemon.clock.wall_s += 30
    daemon.restart()
    expected = [(wall, call()), (wall + 30, call(2, tokens=9)), (wall + 30, call(3, lane=Lane.UPLOAD))]
    assert daemon.ledger.recent() == expected
    daemon.clock.wall_s += 1
    assert daemon.ledger.recent() == expected[1:]
    daemon.clock.wall_s -= 5 * HOUR
    assert daemon.ledger.recent() == expected, "times to come tell of a clock that was set back"


# -- the report ----------------------------------------------------------------------------------------------------------


def test_people_see_today_this_month_batches_and_models_with_what_is_reserved(daemon: Daemon, path: Path) -> None:
    for moment, batch, model, cost in [
        ("2026-10-31 20:00", 1, "pro", 1000),
        ("2026-11-02 20:00", 1, "flash", 200),
        ("2026-11-24 20:00", 2, "flash", 30),
    ]:
        daemon.clock.at(moment)
        daemon.ledger.settle(daemon.sent(batch=batch, of=call(model=model)), "ok", Usage(1, 2, 3), cost)
    daemon.sent(upper=4, batch=2)
    daemon.sent(upper=0, batch=2, of=call(lane=Lane.UPLOAD))  # no request of those that are counted
    daemon.sent(upper=5)
    with sqlite3.connect(path) as conn:
        conn.execute("INSERT INTO batches (id, name, kind, created_at) VALUES (1, 'Physics', 'folder', 0)")
    report = spending(sqlite3.connect(path), daemon.clock.wall_s)
    assert report == {
        "today": [Line("2026-11-24", 3, 6, 30, 9)],
        "month": [Line("2026-11", 4, 12, 230, 9)],
        "total": [Line("total", 5, 18, 1230, 9)],
        "batches": [Line("2", 2, 6, 30, 4), Line("Physics", 2, 12, 1200, 0)],
        "models": [Line("pro", 1, 6, 1000, 0), Line("flash", 4, 12, 230, 9)],
    }
    assert spending(sqlite3.connect(path), daemon.clock.wall_s, most=1)["batches"] == [Line("2", 2, 6, 30, 4)]


def test_a_ledger_nobody_has_written_reports_nothing(daemon: Daemon) -> None:
    report = spending(daemon.conn, daemon.clock.wall_s)
    assert report["total"] == [Line("total", 0, 0, 0, 0)]
    assert report["batches"] == report["models"] == []


def test_a_database_of_the_first_version_gets_the_ledger_and_keeps_what_it_has(path: Path) -> None:
    db = open_database(path, create=True)
    for kind, name in db.execute("SELECT type, name FROM sqlite_master WHERE name LIKE 'ledger%'").fetchall():
        if kind in ("table", "view"):
            db.execute(f"DROP {kind} {name}")
    db.execute("DELETE FROM _sqlite_migrations WHERE name = 'ledger_tables'")
    db.execute("INSERT INTO service VALUES ('pause', 'true', 0)")
    db.execute("PRAGMA user_version = 1")
    db.commit()
    db.close()
    db = open_database(path, create=True)
    assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    assert db.execute("SELECT value FROM service").fetchone() == ("true",)
    Daemon(db, Clocks(0.0)).sent()


# -- never beyond the limit ----------------------------------------------------------------------------------------------

PRICE = Price("flash", Rates(1_000_000, 2_000_000))
LIMITS = CostLimits(per_day=1000, per_batch=700, total=2500)
WORKERS = 8


def some(workers: set[int], pick: int) -> int:
    return sorted(workers)[pick % len(workers)]


class Spenders(RuleBasedStateMachine):
    """Eight workers, a service with a till of its own, and a daemon that dies. Nothing may ever pass a limit."""

    def __init__(self) -> None:
        super().__init__()
        db = sqlite3.connect(":memory:")
        migrate(db)
        self.daemon = Daemon(db, Clocks(utc("2026-11-01 05:00")))
        self.permits: dict[int, tuple[int, int, int]] = {}
        """Worker to its permit, its batch and the worst case."""
        self.granted: dict[int, tuple[int, int, int]] = {}
        """Told to the worker: it may call at any time."""
        self.bill: list[tuple[str, int, int]] = []
        """What the service charged: day, batch, micro-dollars."""
        self.bills: dict[int, int] = {}
        """Permit to what it cost, as the worker knows."""

    @precondition(lambda self: len(self.permits) < WORKERS)
    @rule(tokens=st.integers(0, 300), out=st.integers(0, 100), batch=st.integers(1, 3))
    def ask(self, tokens: int, out: int, batch: int) -> None:
        worker = min(set(range(WORKERS)) - self.permits.keys())
        ledger, clock = self.daemon.ledger, self.daemon.clock
        upper = worst_case(tokens, out, PRICE)
        if may_spend(upper, LIMITS, ledger.sums(batch), Instant(clock.monotonic(), clock.wall())) == Go():
            permit = ledger.reserve(call(worker), upper, batch)
            ledger.sent(permit)
            self.permits[worker] = (permit, batch, upper)

    @rule()
    def commit(self) -> None:
        self.daemon.commit()
        self.granted = dict(self.permits)

    @precondition(lambda self: self.uncalled)
    @rule(pick=st.integers(0, WORKERS), share=st.floats(0, 1))
    def worker_calls(self, pick: int, share: float) -> None:
        permit, batch, upper = self.granted[some(self.uncalled, pick)]
        self.bills[permit] = int(upper * share)
        day = self.daemon.conn.execute("SELECT pacific_day FROM ledger WHERE permit = ?", (permit,)).fetchone()[0]
        self.bill.append((day, batch, self.bills[permit]))

    @precondition(lambda self: self.called)
    @rule(pick=st.integers(0, WORKERS))
    def worker_tells(self, pick: int) -> None:
        worker = some(self.called, pick)
        permit = self.granted[worker][0]
        self.daemon.ledger.settle(permit, "ok", NONE, self.bills[permit])
        self.end(worker)

    @precondition(lambda self: self.uncalled)
    @rule(pick=st.integers(0, WORKERS))
    def worker_could_not_connect(self, pick: int) -> None:
        worker = some(self.uncalled, pick)
        self.daemon.ledger.void(self.granted[worker][0], "no connection")
        self.end(worker)

    @precondition(lambda self: self.permits)
    @rule(pick=st.integers(0, WORKERS))
    def worker_dies(self, pick: int) -> None:
        worker = some(set(self.permits), pick)
        self.daemon.ledger.end_attempt(worker, 1, "the worker died")
        self.end(worker)

    @property
    def called(self) -> set[int]:
        return {worker for worker, (permit, *_) in self.granted.items() if permit in self.bills}

    @property
    def uncalled(self) -> set[int]:
        return self.granted.keys() - self.called

    def end(self, worker: int) -> None:
        del self.permits[worker]
        self.granted.pop(worker, None)

    @rule()
    def daemon_dies(self) -> None:
        self.daemon.restart()
        self.permits.clear()
        self.granted.clear()

    @rule(hours=st.floats(-30, 30))
    def clock_jumps(self, hours: float) -> None:
        self.daemon.clock.wall_s += hours * HOUR

    @invariant()
    def nothing_passes_a_limit(self) -> None:
        sums = [self.daemon.ledger.sums(batch) for batch in (1, 2, 3)]
        for name, most in [("day", LIMITS.per_day), ("batch", LIMITS.per_batch), ("total", LIMITS.total)]:
            for money in (getattr(one, name) for one in sums):
                assert min(money.settled, money.reserved) >= 0
                assert money.settled + money.reserved <= (most or 0), name

    @invariant()
    def the_tables_never_pass_one_either(self) -> None:
        for column, most in [("day", LIMITS.per_day), ("batch", LIMITS.per_batch), ("'all'", LIMITS.total)]:
            for (booked,) in self.daemon.conn.execute(
                f"SELECT sum(cost_micro + reserved_micro) FROM ledger_lines GROUP BY {column}"
            ):
                assert booked <= most

    @invariant()
    def the_service_has_charged_no_more_than_the_ledger_knows(self) -> None:
        for column, index in [("day", 0), ("batch", 1)]:
            booked = dict(
                self.daemon.conn.execute(
                    f"SELECT {column}, sum(cost_micro + reserved_micro) FROM ledger_lines GROUP BY {column}"
                )
            )
            for key in {line[index] for line in self.bill}:
                assert sum(line[2] for line in self.bill if line[index] == key) <= booked[key]

    @invariant()
    def memory_and_tables_agree_once_written(self) -> None:
        if not self.daemon.journal:
            again = Ledger(self.daemon.conn, self.daemon.clock, lambda _sql, _values: None)
            again._day = self.daemon.ledger._day
            for batch in (1, 2, 3):
                assert again.sums(batch) == self.daemon.ledger.sums(batch)
            assert again.day_use("project", "flash") == self.daemon.ledger.day_use("project", "flash")


Spenders.TestCase.settings = settings(
    max_examples=60, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestSpenders = Spenders.TestCase
