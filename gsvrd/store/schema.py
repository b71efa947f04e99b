"""The tables, their migrations, and how a database is opened. Called at start by the daemon and by `gsvrctl`.

Bookkeeping is done by triggers, so that no statement, ours or an operator's, can change a state without leaving an event
and closing its attempt: a transition stays one UPDATE. Claims walk `tasks_ready` alone; finished rows are not in it.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from gsvrd.errors import StateError

MIGRATIONS = Migrations("gsvrd")

_TASKS = """
CREATE TABLE tasks (
    id          INTEGER PRIMARY KEY,
    path        BLOB    NOT NULL,
    name        TEXT    NOT NULL,
    dev         INTEGER NOT NULL,
    ino         INTEGER NOT NULL,
    size        INTEGER NOT NULL,
    mtime_ns    INTEGER NOT NULL,
    sha256      TEXT,
    home        TEXT    NOT NULL DEFAULT 'inbox',
    state       TEXT    NOT NULL,
    attempt     INTEGER NOT NULL DEFAULT 0,
    spent       INTEGER NOT NULL DEFAULT 0,
    deaths      INTEGER NOT NULL DEFAULT 0,
    priority    INTEGER NOT NULL,
    rank        REAL    NOT NULL,
    created_at  REAL    NOT NULL,
    due_at      REAL,
    worker      INTEGER,
    report      TEXT,
    outcome     TEXT,
    error       TEXT,
    change      TEXT    NOT NULL,
    changed_at  REAL    NOT NULL,
    changed_by  TEXT    NOT NULL,
    why         TEXT    NOT NULL DEFAULT ''
) STRICT
"""

_STATEMENTS = (
    _TASKS,
    """
    CREATE TABLE attempts (
        task        INTEGER NOT NULL REFERENCES tasks(id),
        number      INTEGER NOT NULL,
        worker      INTEGER,
        started_at  REAL    NOT NULL,
        stage       TEXT    NOT NULL DEFAULT '',
        fraction    REAL    NOT NULL DEFAULT 0,
        ended_at    REAL,
        outcome     TEXT,
        error       TEXT,
        PRIMARY KEY (task, number)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE events (
        id      INTEGER PRIMARY KEY,
        task    INTEGER NOT NULL,
        at      REAL    NOT NULL,
        actor   TEXT    NOT NULL,
        change  TEXT    NOT NULL,
        state   TEXT    NOT NULL,
        attempt INTEGER NOT NULL,
        why     TEXT    NOT NULL
    ) STRICT
    """,
    "CREATE INDEX events_task ON events(task)",
    """
    CREATE TABLE stages (
        task    INTEGER NOT NULL REFERENCES tasks(id),
        stage   TEXT    NOT NULL,
        attempt INTEGER NOT NULL,
        made_at REAL    NOT NULL,
        result  BLOB    NOT NULL,
        PRIMARY KEY (task, stage)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE TABLE service (key TEXT PRIMARY KEY, value TEXT NOT NULL, changed_at REAL NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE INDEX tasks_ready ON tasks(rank, id) WHERE state = 'pending' AND due_at IS NULL",
    "CREATE INDEX tasks_due ON tasks(due_at) WHERE state = 'pending' AND due_at IS NOT NULL",
    "CREATE INDEX tasks_running ON tasks(id) WHERE state = 'running'",
    "CREATE INDEX tasks_completed ON tasks(changed_at) WHERE state = 'completed'",
    "CREATE INDEX tasks_failed ON tasks(changed_at) WHERE state = 'failed'",
    "CREATE INDEX tasks_cancelled ON tasks(changed_at) WHERE state = 'cancelled'",
    # A file that lies in the inbox is queued once, whatever has become of its task. Not by device: its number may be
    # another one after a remount.
    "CREATE UNIQUE INDEX tasks_in_inbox ON tasks(ino, size, mtime_ns) WHERE home IN ('inbox', 'kept')",
    "CREATE UNIQUE INDEX tasks_report ON tasks(report) WHERE report IS NOT NULL",
    """
    CREATE TRIGGER task_made AFTER INSERT ON tasks BEGIN
        INSERT INTO events (task, at, actor, change, state, attempt, why)
        VALUES (new.id, new.changed_at, new.changed_by, new.change, new.state, new.attempt, new.why);
    END
    """,
    """
    CREATE TRIGGER task_claimed AFTER UPDATE OF state ON tasks WHEN new.state = 'running' BEGIN
        INSERT INTO attempts (task, number, worker, started_at)
        VALUES (new.id, new.attempt, new.worker, new.changed_at);
    END
    """,
    """
    CREATE TRIGGER task_let_go AFTER UPDATE OF state ON tasks WHEN old.state = 'running' BEGIN
        UPDATE attempts SET ended_at = new.changed_at, outcome = new.outcome, error = new.error
        WHERE task = new.id AND number = old.attempt;
    END
    """,
    """
    CREATE TRIGGER task_changed AFTER UPDATE OF state ON tasks BEGIN
        INSERT INTO events (task, at, actor, change, state, attempt, why)
        VALUES (new.id, new.changed_at, new.changed_by, new.change, new.state, new.attempt, new.why);
    END
    """,
)


@MIGRATIONS()
def first_tables(db: Database) -> None:
    """Everything of version 1."""
    for statement in _STATEMENTS:
        db.conn.execute(statement)


_LEDGER = (
    """
    CREATE TABLE ledger (
        permit          INTEGER PRIMARY KEY,
        task            INTEGER NOT NULL,
        attempt         INTEGER NOT NULL,
        batch           INTEGER,
        project         TEXT    NOT NULL,
        model           TEXT    NOT NULL,
        lane            TEXT    NOT NULL,
        state           TEXT    NOT NULL,
        reserved_at     REAL    NOT NULL,
        sent_at         REAL,
        settled_at      REAL,
        pacific_day     TEXT    NOT NULL,
        tokens_reserved INTEGER NOT NULL,
        tokens_in       INTEGER NOT NULL DEFAULT 0,
        tokens_out      INTEGER NOT NULL DEFAULT 0,
        tokens_thoughts INTEGER NOT NULL DEFAULT 0,
        reserved_micro  INTEGER NOT NULL,
        cost_micro      INTEGER NOT NULL DEFAULT 0,
        outcome         TEXT
    ) STRICT
    """,
    # Batch 0 is none: the key is one that can be updated in place.
    """
    CREATE TABLE ledger_days (
        day         TEXT    NOT NULL,
        project     TEXT    NOT NULL,
        model       TEXT    NOT NULL,
        batch       INTEGER NOT NULL,
        requests    INTEGER NOT NULL,
        tokens      INTEGER NOT NULL DEFAULT 0,
        cost_micro  INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (day, project, model, batch)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX ledger_open ON ledger(permit) WHERE state IN ('reserved', 'sent')",
    "CREATE INDEX ledger_sent ON ledger(sent_at)",
    "CREATE INDEX ledger_day_refused ON ledger(pacific_day) WHERE outcome = 'quota_day'",
    """
    CREATE VIEW ledger_lines AS
    SELECT day, project, model, batch, requests, tokens, cost_micro, 0 AS reserved_micro FROM ledger_days
    UNION ALL
    SELECT pacific_day, project, model, coalesce(batch, 0), 0, 0, 0, reserved_micro FROM ledger
    WHERE state IN ('reserved', 'sent')
    """,
    """
    CREATE TRIGGER ledger_made AFTER INSERT ON ledger BEGIN
        INSERT INTO ledger_days (day, project, model, batch, requests)
        VALUES (new.pacific_day, new.project, new.model, coalesce(new.batch, 0), new.lane = 'generate')
        ON CONFLICT DO UPDATE SET requests = requests + excluded.requests;
    END
    """,
    """
    CREATE TRIGGER ledger_ended AFTER UPDATE OF state ON ledger
    WHEN old.state IN ('reserved', 'sent') AND new.state NOT IN ('reserved', 'sent') BEGIN
        UPDATE ledger_days SET
            requests = requests - (new.state = 'void' AND new.lane = 'generate'),
            tokens = tokens + new.tokens_in + new.tokens_out + new.tokens_thoughts,
            cost_micro = cost_micro + new.cost_micro
        WHERE day = new.pacific_day AND project = new.project AND model = new.model AND batch = coalesce(new.batch, 0);
    END
    """,
)


@MIGRATIONS()
def ledger_tables(db: Database) -> None:
    """Version 2: what was reserved and spent, each call a row, and the sums of each day."""
    for statement in _LEDGER:
        db.conn.execute(statement)


SCHEMA_VERSION = 2

_DAMAGED_HINT = "Move the file aside and start again: the videos still in the inbox are enough to go on."


def open_database(path: Path, *, create: bool) -> Database:
    """Open the state database at `path`, bringing it up to date when `create` is set.

    Raises `StateError` when it is damaged, of a newer version, or absent while `create` is not set.
    """
    if not create and not path.exists():
        raise StateError(f"there is no database at {path} yet", "Start the daemon once, or name its home with --home.")
    if create and not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_CLOEXEC, 0o600))
    try:
        return _open(path, create=create)
    except sqlite3.OperationalError as error:
        raise StateError(f"the database {path} cannot be used: {error}", _DAMAGED_HINT) from error
    except sqlite3.DatabaseError as error:
        raise StateError(f"the database {path} is corrupt: {error}", _DAMAGED_HINT) from error


def _open(path: Path, *, create: bool) -> Database:
    conn = sqlite3.connect(path, timeout=10.0)
    db = Database(conn, execute_plugins=False)
    version = conn.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise StateError(
            f"the database {path} is of version {version}; this gsvrd knows version {SCHEMA_VERSION}",
            "Install the gsvrd that wrote it, or a newer one.",
        )
    if create:
        conn.execute("PRAGMA journal_mode = WAL")
        if version < SCHEMA_VERSION:
            MIGRATIONS.apply(db)
            conn.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    # An acknowledged row survives a power cut. Group commit by turn makes it cheap.
    conn.execute("PRAGMA synchronous = FULL")
    return db
