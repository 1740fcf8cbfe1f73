"""Every limit, with its unit in its name or its docstring; docs/operations.md says what a caller sees at each.

Read by whoever keeps one, gunicorn.conf.py included. Holds numbers and nothing else.
"""

# ---- What a caller may send

BODY_BYTES_MAX = 64 * 1024
"""The largest request body; a bank's webhook is a few hundred bytes."""

NESTING_MAX = 50
"""How many objects and arrays may stand within each other in a body."""

HEADER_SECONDS = 5
"""How long the line and the headers of a request may take to arrive, and how long an idle connection is kept."""

BODY_SECONDS = 10
"""How long a request's body may take to arrive."""

UNREAD_BYTES_MAX = 256 * 1024
"""How much of a body that nobody wanted is read all the same, so that its sender gets to the answer."""

ANSWER_SECONDS = 30
"""How long a client may take to receive the next part of an answer."""

# ---- How much one process takes at once

CONNECTIONS_MAX = 800
"""How many connections one process holds; with room below the usual limit of 1024 open files."""

QUEUE_CREDITS_MAX = 500
"""How many credits may wait for the next transaction in one process."""

BATCH_CREDITS_MAX = 200
"""How many credits share one transaction: with the largest bodies still less than MariaDB's smallest packet limit."""

# ---- How long the database may take

POOL_CONNECTIONS = 16
"""How many connections to the database one process opens at most."""

POOL_SECONDS = 10
"""How long a request waits for one of them."""

CONNECT_SECONDS = 5
"""How long a database may take to answer at all."""

LOCK_SECONDS = 5
"""How long a statement waits for a row, or on SQLite for the file, that another transaction has locked."""

STATEMENT_SECONDS = 30
"""How long one statement may run, except within snapshot()."""

DEADLOCK_TRIES_MAX = 5
"""How often a transaction that lost a deadlock, or gave in to another, is run in all."""

DEADLOCK_PAUSE_SECONDS = 0.01
"""How long it waits before the second run at most; the third waits twice as long, and so on."""

# ---- What a caller is told

RETRY_AFTER_SECONDS = 5
"""What a 503 asks a caller to wait before the next try."""

SHUTDOWN_SECONDS = 30
"""How long requests in progress have to end after SIGTERM."""
