"""The journal's tables: calls, their events, letters. Times are integers in microseconds since the epoch, named `…_us`.

JSON is kept as text: nothing is asked inside of it, and both databases keep text alike.
"""

from sqlalchemy import BigInteger, Column, Float, Index, Integer, MetaData, Table, Text, text

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s",
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
    }
)

Big = BigInteger().with_variant(Integer, "sqlite")
Id = Text().with_variant(Text(collation="C"), "postgresql")
"""Compared byte by byte, so that the order of ids is the order of time in both databases."""

calls = Table(
    "calls",
    metadata,
    Column("n", Big, primary_key=True, autoincrement=True),
    Column("call", Id, nullable=False, unique=True),
    Column("tenant", Text),
    Column("agent", Text),
    Column("session", Text),
    Column("tool", Text),
    Column("connector", Text),
    Column("connection", Text),
    Column("key", Text),
    Column("request_source", Text),
    Column("request_id", Text),
    Column("op_class", Text),
    Column("priority", Text),
    Column("confidence", Float),
    Column("trace_id", Text),
    Column("accepted_us", BigInteger),
    Column("deadline_us", BigInteger),
    Column("replay_of", Text),
    Column("root", Text),
    # Of the event with the highest `seq`.
    Column("seq", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("effect", Text),
    Column("error_class", Text),
    Column("message", Text),
    Column("fingerprint", Text),
    Column("dead_letter", Text),
    Column("attempts", Integer),
    Column("ended_us", BigInteger),
    # Of the result.
    Column("http_status", Integer),
    Column("queued_ms", BigInteger),
    Column("duration_ms", BigInteger),
    Column("contract", Text),
    Column("summary", Text),
    Column("result", Text),
    Column("search", Text),
)

BY = ("agent", "session", "tool", "connector", "state", "error_class", "trace_id", "fingerprint")
"""The columns of calls that are asked for by their exact value; each has an index that is also in the order of time."""

for _name in BY:
    _partial = calls.c[_name].is_not(None)
    Index(None, calls.c[_name], calls.c.call, sqlite_where=_partial, postgresql_where=_partial)
Index(
    None,
    calls.c.confidence,
    sqlite_where=calls.c.confidence.is_not(None),
    postgresql_where=calls.c.confidence.is_not(None),
)

events = Table(
    "events",
    metadata,
    Column("id", Id, primary_key=True),
    Column("call", Id),
    Column("seq", Integer),
    Column("type", Text, nullable=False),
    Column("time_us", BigInteger, nullable=False),
    Column("data", Text, nullable=False),
    sqlite_with_rowid=False,
)
_of_call, _of_none = events.c.call.is_not(None), events.c.call.is_(None)
Index(None, events.c.call, sqlite_where=_of_call, postgresql_where=_of_call)
Index(None, events.c.time_us, sqlite_where=_of_none, postgresql_where=_of_none)

letters = Table(
    "letters",
    metadata,
    Column("letter", Id, primary_key=True),
    Column("call", Id),
    Column("tenant", Text),
    Column("agent", Text),
    Column("session", Text),
    Column("tool", Text),
    Column("connector", Text),
    Column("operation", Text),
    Column("connection", Text),
    Column("op_class", Text),
    Column("error_class", Text),
    Column("message", Text),
    Column("action", Text),
    Column("effect", Text),
    Column("fingerprint", Text),
    Column("trace_id", Text),
    Column("first_us", BigInteger),
    Column("last_us", BigInteger),
    Column("root", Text),
    Column("parent", Text),
    Column("generation", Integer),
    Column("record", Text),
    # Of the newest `letter.changed`.
    Column("version", BigInteger, nullable=False, server_default=text("0")),
    Column("status", Text, nullable=False, server_default=text("'open'")),
    Column("changed_us", BigInteger),
    Column("decided_by", Text),
    Column("reason", Text),
    Column("replay", Text),
    Column("search", Text),
    sqlite_with_rowid=False,
)
LETTERS_BY = ("status", "error_class", "effect", "fingerprint", "tool", "connector", "agent", "session", "call")
"""The columns of letters that are asked for by their exact value."""

for _name in LETTERS_BY:
    Index(None, letters.c[_name], letters.c.letter)
