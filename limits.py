"""Every limit, with its unit in its name or its docstring; docs/operations.md says what a caller sees at each.

Read by whoever keeps one, gunicorn.conf.py included. Holds numbers and nothing else.
"""

# ---- What a caller may send

BODY_BYTES_MAX = 64 * 1024
"""The largest request body; a bank's webhook is a few hundred bytes."""

URL_CHARACTERS_MAX = 2000
"""The longest address of an endpoint, or of anything else that is sent to."""

NESTING_MAX = 50
"""How many objects and arrays may stand within each other in a body."""

HEADER_SECONDS = 5
"""How long the line and the headers of a request may take to arrive; on a new connection also the first byte."""

IDLE_SECONDS = 75
"""How long a connection may stay idle between two requests: longer than balancers keep one (60 seconds is common)."""

BODY_SECONDS = 10
"""How long a request's body may take to arrive."""

UNREAD_BYTES_MAX = 256 * 1024
"""How much of a body that nobody wanted is read all the same, so that its sender gets to the answer."""

ANSWER_SECONDS = 30
"""How long a client may take to receive the next part of an answer."""

OPEN_UNUSABLE_WEBHOOKS_MAX = 1000
"""How many refused bodies of one bank may be open incidents; what comes above that is counted in one more."""

IDEMPOTENCY_SECONDS = 24 * 3600
"""How long the answer to a call with an Idempotency-Key is kept for its repeats."""

IDEMPOTENCY_CALLS_MAX = 10_000
"""How many such answers are kept for one API key at the same time."""

IDEMPOTENCY_CALLS_PURGED = 100
"""How many answers that are too old one such call removes."""

# ---- How much one process takes at once

CONNECTIONS_MAX = 800
"""How many connections one process holds; with room below the usual limit of 1024 open files."""

QUEUE_CREDITS_MAX = 500
"""How many credits may wait for the next transaction in one process."""

BATCH_CREDITS_MAX = 200
"""How many credits share one transaction: with the largest bodies still less than MariaDB's smallest packet limit."""

ACCESS_LOG_SECONDS = 0.1
"""How long a line of the access log may wait for others that are written with it."""

ACCESS_LOG_LINES_MAX = 500
"""How many lines may wait so."""

# ---- The database, and how long it may take

POOL_CONNECTIONS = 16
"""How many connections to the database one process opens at most."""

POOL_SECONDS = 10
"""How long a request waits for one of them."""

CONNECT_SECONDS = 5
"""How long a database may take to answer at all."""

LOCK_SECONDS = 5
"""How long a statement waits for a row, or on SQLite for the file, that another transaction has locked."""

MIGRATION_WAIT_SECONDS = 120
"""How long `flask db` waits for another one: it holds its lock for as long as its migrations take."""

STATEMENT_SECONDS = 30
"""How long one statement may run, except within snapshot()."""

DEADLOCK_ATTEMPTS_MAX = 5
"""How often a transaction that lost a deadlock, or gave in to another, is run in all."""

DEADLOCK_PAUSE_SECONDS = 0.01
"""How long it waits before the second run at most; the third waits twice as long, and so on."""

CLOCK_DIFFERENCE_SECONDS_MAX = 5
"""How far the database's clock may be from this machine's before a warning says so."""

EXPORT_SECONDS = 45
"""How long a statement may take to be written as a file; its answer begins only then, and proxies wait for 60."""

# ---- What a caller is told

RETRY_AFTER_SECONDS = 5
"""What a 503 asks a caller to wait before the next try."""

SHUTDOWN_SECONDS = 30
"""How long requests in progress have to end after SIGTERM."""

STOP_SECONDS = 45
"""How long the supervisor lets processes end: longer than SHUTDOWN_SECONDS, and than a delivery takes."""

# ---- How events are delivered

LEASE_SECONDS = 60
"""How long a worker may keep a delivery; of one that vanished another takes over then."""

FAILING_SECONDS_MAX = 5 * 24 * 3600
"""How long every attempt at an endpoint may fail before it is disabled."""

SENDERS_MAX = 512
"""How many deliveries one worker sends at the same time; what waits for an answer costs it little."""

UNPROVEN_SENDERS_MAX = 384
"""How many of them to endpoints that are sick or have not answered it yet; the rest is for those that are quick."""

SICK_SENDERS_MAX = 256
"""How many to endpoints that are sick: they fail, are slow, or have not answered within QUICK_SECONDS."""

ENDPOINT_SENDERS_MAX = 8
"""How many to one endpoint, if it is quick."""

SLOW_ENDPOINT_SENDERS_MAX = 2
"""How many to one that is slow; an endpoint that fails, or that is not known yet, gets one."""

QUICK_SECONDS = 1
"""How fast an endpoint that is quick answers."""

RECOVERY_ATTEMPTS = 3
"""How many attempts in a row it must answer so fast after it has failed or was slow."""

PROVEN_SECONDS = 5
"""How long ago it may have answered to get more than one sender."""

CLAIM_ROUNDS = 3
"""How many deliveries a worker claims for each sender of a quick endpoint; all must be tried within LEASE_SECONDS."""

LOOK_SECONDS = 0.05
"""How old a look at an endpoint may be when something is sent there; who revokes a secret waits for that long."""

CLAIM_ENDPOINTS_MAX = 32
"""How many endpoints one claim looks after."""

BLOCKED_SECONDS = 5
"""How long a delivery waits before it is looked at again when the one before it is under way."""

PAUSED_DELIVERIES = 500
"""How many deliveries to a disabled endpoint one claim pauses."""

ENDPOINTS_MAX = 1000
"""How many endpoints there may be: a credit writes a delivery for each one that listens, in its own transaction."""

CURRENT_SECRETS_MAX = 5
"""How many secrets of an endpoint may be good at the same time; each makes the signature header longer."""

ORDERED_LOOK_DELIVERIES = 500
"""How many deliveries one claim looks at to find those that may go to an endpoint that wants them in order."""

TICK_SECONDS = 0.5
"""How long a worker that found nothing to do waits before it looks again."""

INBOX_BATCH_WEBHOOKS = 100
"""How many webhooks of the inbox are credited in one transaction."""

INBOX_ATTEMPTS_BEFORE_INCIDENT = 5
"""How often a webhook of the inbox may fail for a reason of ours before it becomes an incident."""

INBOX_WAIT_SECONDS_MAX = 3600
"""The longest it waits between two tries; the first wait is 5 seconds, and each is twice the one before."""

INBOX_OVERDUE_SECONDS = 300
"""How long a webhook may wait in the inbox before a person is told."""

INBOX_LOOK_SECONDS = 60
"""How often one server process looks whether one does, at most; some webhook that arrives then has it looked after."""

REPLAY_BATCH_EVENTS = 500
"""How many events of a replay are queued in one transaction."""

ROTATION_SECONDS_MAX = 30 * 24 * 3600
"""The longest time for which an old secret stays beside a new one."""

# ---- How events are sent

DELIVERY_CONNECT_SECONDS = 5
"""How long an endpoint may take to accept a connection, TLS included."""

DELIVERY_SECONDS = 15
"""How long a delivery may take in all, from asking DNS to the last byte that is read of the answer."""

EXCERPT_BYTES_MAX = 2048
"""How much of the body of an endpoint's answer is read and kept."""

ANSWER_HEAD_BYTES_MAX = 64 * 1024
"""How long an endpoint's answer may be in all besides that excerpt."""

TLS_OVERHEAD_BYTES_MAX = 256 * 1024
"""How much may come before a handshake is done, or between two pieces of an answer, without saying anything."""

ADDRESS_ATTEMPTS_MAX = 4
"""How many of the addresses that DNS gives for an endpoint are tried."""

IDLE_CONNECTIONS_MAX = 128
"""How many connections to endpoints one worker keeps for the next delivery; the oldest ones give way."""

REUSE_SECONDS = 60
"""How long one connection serves deliveries; then DNS is asked again, in case that the endpoint has moved."""

SHELL_SECONDS = 30
"""How long a webhook that a person sends from the shell may take in all."""

SHELL_ANSWER_BYTES_MAX = 64 * 1024
"""How much of the body of its answer is read and shown."""

# ---- How workers are woken

WAKE_SECONDS = 0.1
"""How often one process sends the message that wakes a worker, at most, for each job."""

WAKE_EXPIRY_SECONDS = 30
"""How old such a message may be and still do something; longer than clocks may differ."""

BROKER_SECONDS = 2
"""How long the broker may take to accept a connection or a message of ours."""

BEAT_SECONDS = 1
"""How often Celery's beat has deliveries and the inbox looked after, woken or not."""

REPLAY_BEAT_SECONDS = 5
"""How often it has replays looked after."""

TASK_SECONDS = 5
"""How long a Celery task goes on finding new work; then it finishes what it has, and others have their turn."""

JOB_SECONDS_MAX = 120
"""How long a Celery task may take in all; the process of one that hangs is killed, and another takes its place."""
