"""Calls, their events, letters, and the words of calls.

Revision ID: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

CALL_TEXTS = (
    *("tenant", "agent", "session", "tool", "connector", "connection", "key", "request_source", "request_id"),
    *("op_class", "priority", "trace_id", "replay_of", "root", "effect", "error_class", "message"),
    *("fingerprint", "dead_letter", "contract", "summary", "result", "search"),
)
LETTER_TEXTS = (
    *("tenant", "agent", "session", "tool", "connector", "operation", "connection", "op_class", "error_class"),
    *("message", "action", "effect", "fingerprint", "trace_id", "root", "parent", "record"),
    *("decided_by", "reason", "replay", "search"),
)
CALLS_BY = ("agent", "session", "tool", "connector", "state", "error_class", "trace_id", "fingerprint")
LETTERS_BY = ("status", "error_class", "effect", "fingerprint", "tool", "connector", "agent", "session", "call")

# An index of words over `calls.search`, kept by the database itself, so that no writer can forget it.
WORDS_SQLITE = (
    (
        "CREATE VIRTUAL TABLE calls_words USING fts5(search, content='calls', content_rowid='n',"
        " tokenize='unicode61 remove_diacritics 0')"
    ),
    (
        "CREATE TRIGGER calls_words_new AFTER INSERT ON calls BEGIN"
        " INSERT INTO calls_words(rowid, search) VALUES (new.n, new.search); END"
    ),
    (
        "CREATE TRIGGER calls_words_gone AFTER DELETE ON calls BEGIN"
        " INSERT INTO calls_words(calls_words, rowid, search) VALUES ('delete', old.n, old.search); END"
    ),
    (
        "CREATE TRIGGER calls_words_changed AFTER UPDATE OF search ON calls WHEN old.search IS NOT new.search BEGIN"
        " INSERT INTO calls_words(calls_words, rowid, search) VALUES ('delete', old.n, old.search);"
        " INSERT INTO calls_words(rowid, search) VALUES (new.n, new.search); END"
    ),
)
WORDS_POSTGRESQL = (
    "CREATE INDEX calls_words ON calls USING gin (to_tsvector('simple'::regconfig, coalesce(search, '')))",
)


def upgrade() -> None:
    """Make everything."""
    _calls()
    op.create_table(
        "events",
        sa.Column("id", ID, primary_key=True),
        sa.Column("call", ID),
        sa.Column("seq", sa.Integer),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("time_us", sa.BigInteger, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    _index("events", "call", where="call IS NOT NULL")
    _index("events", "time_us", where="call IS NULL")
    _letters()
    sqlite = op.get_bind().dialect.name == "sqlite"
    for statement in WORDS_SQLITE if sqlite else WORDS_POSTGRESQL:
        op.execute(statement)


def downgrade() -> None:
    """Take everything away; what was journalled is gone, the topics keep what they keep."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TABLE calls_words")
    for table in ("letters", "events", "calls"):
        op.drop_table(table)


def _calls() -> None:
    op.create_table(
        "calls",
        sa.Column("n", BIG, primary_key=True, autoincrement=True),
        sa.Column("call", ID, nullable=False, unique=True),
        *(sa.Column(name, sa.Text) for name in CALL_TEXTS),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("confidence", sa.Float),
        *(
            sa.Column(name, sa.BigInteger)
            for name in ("accepted_us", "deadline_us", "ended_us", "queued_ms", "duration_ms")
        ),
        sa.Column("seq", sa.Integer, nullable=False),
        *(sa.Column(name, sa.Integer) for name in ("attempts", "http_status")),
    )
    for name in CALLS_BY:
        _index("calls", name, "call", where=f"{name} IS NOT NULL")
    _index("calls", "confidence", where="confidence IS NOT NULL")


def _letters() -> None:
    op.create_table(
        "letters",
        sa.Column("letter", ID, primary_key=True),
        sa.Column("call", ID),
        *(sa.Column(name, sa.Text) for name in LETTER_TEXTS),
        *(sa.Column(name, sa.BigInteger) for name in ("first_us", "last_us", "changed_us")),
        sa.Column("generation", sa.Integer),
        sa.Column("version", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("status", sa.Text, nullable=False, server_default=sa.text("'open'")),
        sqlite_with_rowid=False,
    )
    for name in LETTERS_BY:
        _index("letters", name, "letter")


def _index(table: str, *columns: str, where: str | None = None) -> None:
    condition = None if where is None else sa.text(where)
    op.create_index(
        f"{table}_{'_'.join(columns)}", table, list(columns), sqlite_where=condition, postgresql_where=condition
    )
