-- All names begin with durably_: the user's own tables may live in the same file (promise P5).
-- Times are microseconds since 1970 (UTC); JSON is text.

CREATE TABLE durably_meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Numbers that are never given out twice, and maintained counts of records.
CREATE TABLE durably_numbers (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE durably_jobs (
    seq              INTEGER PRIMARY KEY,
    id               TEXT NOT NULL UNIQUE,
    type             TEXT NOT NULL,
    queue            TEXT NOT NULL,
    priority         INTEGER NOT NULL,
    state            INTEGER NOT NULL, -- durably.domain.job.State
    ready_at         INTEGER NOT NULL,
    created_at       INTEGER NOT NULL,
    max_attempts     INTEGER NOT NULL,
    granted          INTEGER NOT NULL,
    payload          TEXT NOT NULL,
    tags             TEXT NOT NULL,
    unique_key       TEXT,
    run_at           INTEGER,
    parent           TEXT, -- the id of the job whose attempt added this one
    attempts         INTEGER NOT NULL DEFAULT 0,
    crashes          INTEGER NOT NULL DEFAULT 0,
    processed_at     INTEGER,
    completed_at     INTEGER,
    next_retry_at    INTEGER,
    error            TEXT,
    errors           TEXT NOT NULL DEFAULT '[]',
    result           TEXT,
    progress         TEXT,
    token            INTEGER,
    worker           INTEGER,
    worker_name      TEXT,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    -- 3 while the job is live, then its state. A claim does not change it, and so touches none of
    -- the indexes below that are made of it.
    shelf            INTEGER NOT NULL DEFAULT 3
) STRICT;

-- The lanes: a claim reads the heads of those that its worker can run.
CREATE INDEX durably_ready ON durably_jobs (queue, type, (crashes > 0), priority, ready_at, seq)
    WHERE state = 1;
CREATE INDEX durably_scheduled ON durably_jobs (ready_at) WHERE state = 0;
CREATE INDEX durably_leased ON durably_jobs (worker) WHERE state IN (2, 3);
CREATE INDEX durably_cancelling ON durably_jobs (worker)
    WHERE state IN (2, 3) AND cancel_requested = 1;
CREATE UNIQUE INDEX durably_unique ON durably_jobs (type, unique_key)
    WHERE unique_key IS NOT NULL AND shelf = 3;
CREATE INDEX durably_final ON durably_jobs (completed_at) WHERE shelf > 3;
CREATE INDEX durably_children ON durably_jobs (parent, seq) WHERE parent IS NOT NULL;
CREATE INDEX durably_listing ON durably_jobs (shelf, priority DESC, seq);

CREATE TABLE durably_steps (
    job    INTEGER NOT NULL,
    name   TEXT NOT NULL,
    result TEXT NOT NULL,
    PRIMARY KEY (job, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE durably_counts (
    queue TEXT NOT NULL,
    type  TEXT NOT NULL,
    state INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (queue, type, state)
) STRICT, WITHOUT ROWID;

CREATE TABLE durably_workers (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT NOT NULL,
    info       TEXT NOT NULL,
    lease_us   INTEGER NOT NULL,
    expires_us INTEGER NOT NULL, -- on the monotonic clock of the boot
    boot       TEXT NOT NULL,
    wake_port  INTEGER NOT NULL,
    memory     INTEGER -- bytes its process held at the last renewal
) STRICT;

CREATE TABLE durably_paused (
    queue TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

CREATE TABLE durably_activity (
    worker INTEGER NOT NULL,
    window INTEGER NOT NULL,
    data   TEXT NOT NULL,
    PRIMARY KEY (worker, window)
) STRICT, WITHOUT ROWID;

CREATE TABLE durably_records (
    kind    TEXT NOT NULL,
    id      TEXT NOT NULL,
    version INTEGER NOT NULL,
    value   TEXT NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE durably_events (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at_us   INTEGER NOT NULL,
    topic   TEXT NOT NULL,
    subject TEXT NOT NULL,
    data    TEXT NOT NULL
) STRICT;
CREATE INDEX durably_events_by_subject ON durably_events (subject, id);
