"""The tables, step by step from version to version. Imported only where there is a step to take; see `schema.migrate`.

Bookkeeping is done by triggers, so that no statement, ours or an operator's, can change a state without leaving an event
and closing its attempt: a transition stays one UPDATE. Claims walk `tasks_ready` alone; finished rows are not in it.
"""

from __future__ import annotations

import sqlite3

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from gsvrd.store.decisions import TABLES as DECISIONS
from gsvrd.store.outbox import OUTBOX
from gsvrd.store.schema import STRANDED

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


_BATCHES = (
    """
    CREATE TABLE batches (
        id         INTEGER PRIMARY KEY,
        name       TEXT NOT NULL,
        kind       TEXT NOT NULL,
        created_at REAL NOT NULL,
        hold       TEXT NOT NULL DEFAULT ''
    ) STRICT
    """,
    "ALTER TABLE tasks ADD COLUMN batch INTEGER REFERENCES batches(id)",
    "CREATE INDEX tasks_batch ON tasks(batch, state)",
    "CREATE INDEX tasks_stranded ON tasks(id) WHERE "
    "(home = 'inbox' AND state IN ('completed', 'failed') OR home = 'failed' AND state = 'completed')",
    "CREATE INDEX tasks_deadly ON tasks(sha256) WHERE deaths > 0",
    # Tasks of a batch that is held wait for a time that never comes, so that they do not lie in the claim's way.
    """
    CREATE TRIGGER task_made_held AFTER INSERT ON tasks
    WHEN new.state = 'pending' AND (SELECT hold FROM batches WHERE id = new.batch) <> '' BEGIN
        UPDATE tasks SET due_at = 9e15 WHERE id = new.id;
    END
    """,
    """
    CREATE TRIGGER task_back_held AFTER UPDATE OF state ON tasks
    WHEN new.state = 'pending' AND (SELECT hold FROM batches WHERE id = new.batch) <> '' BEGIN
        UPDATE tasks SET due_at = 9e15 WHERE id = new.id;
    END
    """,
    """
    CREATE TRIGGER batch_held AFTER UPDATE OF hold ON batches WHEN new.hold <> '' BEGIN
        UPDATE tasks SET due_at = 9e15 WHERE batch = new.id AND state = 'pending';
    END
    """,
    """
    CREATE TRIGGER batch_freed AFTER UPDATE OF hold ON batches WHEN new.hold = '' AND old.hold <> '' BEGIN
        UPDATE tasks SET due_at = NULL WHERE batch = new.id AND state = 'pending' AND due_at = 9e15;
    END
    """,
)


@MIGRATIONS()
def batch_tables(db: Database) -> None:
    """Version 3: which tasks came together, and deaths counted by content."""
    for statement in _BATCHES:
        db.conn.execute(statement)


_COURSES = (
    "ALTER TABLE tasks ADD COLUMN options TEXT NOT NULL DEFAULT '{}'",
    "ALTER TABLE tasks ADD COLUMN key TEXT",
    "ALTER TABLE tasks ADD COLUMN reused TEXT",
    "ALTER TABLE tasks ADD COLUMN url TEXT",
    "ALTER TABLE batches ADD COLUMN options TEXT NOT NULL DEFAULT '{}'",
    # What was found out about a content with a template and a model; for the next video of the same content.
    """
    CREATE TABLE analyses (
        key     TEXT PRIMARY KEY,
        task    INTEGER NOT NULL,
        made_at REAL    NOT NULL,
        result  BLOB    NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX analyses_age ON analyses(made_at)",
    "CREATE INDEX tasks_path ON tasks(path)",
    "CREATE TABLE expected (path BLOB PRIMARY KEY, batch INTEGER NOT NULL, options TEXT NOT NULL) STRICT, WITHOUT ROWID",
    # A manifest may be read twice.
    "CREATE UNIQUE INDEX tasks_elsewhere ON tasks(batch, ino, size, mtime_ns) WHERE home = 'elsewhere'",
)


@MIGRATIONS()
def course_tables(db: Database) -> None:
    """Version 4: what was asked for each task, and what need not be found out twice."""
    for statement in _COURSES:
        db.conn.execute(statement)


@MIGRATIONS()
def outbox_tables(db: Database) -> None:
    """The other half of version 4: what webhooks are to be told."""
    for statement in OUTBOX:
        db.conn.execute(statement)


_LINKS = (
    # A source that stays where it is does not show whether its failure record is written.
    "ALTER TABLE tasks ADD COLUMN owes_record INTEGER NOT NULL DEFAULT 0",
    # A list may be read twice.
    "CREATE UNIQUE INDEX tasks_links ON tasks(batch, ino) WHERE home = 'link'",
    "DROP INDEX tasks_stranded",
    f"CREATE INDEX tasks_stranded ON tasks(id) WHERE {STRANDED}",
)


@MIGRATIONS()
def link_tables(db: Database) -> None:
    """Version 5: links of lists are tasks without a file."""
    for statement in _LINKS:
        db.conn.execute(statement)


@MIGRATIONS()
def decision_tables(db: Database) -> None:
    """Version 5: how many workers there were, and why."""
    for statement in DECISIONS:
        db.conn.execute(statement)


def apply(conn: sqlite3.Connection) -> None:
    """Take every step that the database has not taken yet."""
    MIGRATIONS.apply(Database(conn, execute_plugins=False))
