-- The tables that sqlite-sync-core keeps in the user's file (SPEC.md, section 5).

CREATE TABLE sync_state (                 -- one row
    format      INTEGER NOT NULL,         -- version of these tables
    hlc_floor   INTEGER NOT NULL,         -- the greatest HLC known of other devices
    settled_seq INTEGER NOT NULL,         -- own operations up to here are reflected in the forks
    named_seq   INTEGER NOT NULL          -- own operations up to here were looked through for numbers taken again
);

CREATE TABLE sync_devices (
    ordinal   INTEGER PRIMARY KEY,        -- 0 is this device
    device_id BLOB NOT NULL UNIQUE,
    seq       INTEGER NOT NULL            -- all its operations up to here are known; not kept for ordinal 0
);

CREATE TABLE sync_contexts (              -- from its operation `seq` on, a device knew another up to `known_seq`
    ordinal       INTEGER NOT NULL,
    known_ordinal INTEGER NOT NULL,
    seq           INTEGER NOT NULL,
    known_seq     INTEGER NOT NULL,
    PRIMARY KEY (ordinal, known_ordinal, seq)
) WITHOUT ROWID;

CREATE TABLE sync_tables (
    table_no    INTEGER PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE COLLATE NOCASE,
    is_enabled  INTEGER NOT NULL,
    top         INTEGER NOT NULL,         -- the greatest number that a mapped table ever used here
    is_distinct INTEGER NOT NULL          -- 1: the user said that its rows of before the files met are all different
);

CREATE TABLE sync_columns (
    table_no  INTEGER NOT NULL,
    position  INTEGER NOT NULL,           -- of v<position> and o<position> in sync_operations
    name      TEXT NOT NULL COLLATE NOCASE,
    key_place INTEGER NOT NULL,           -- 1, 2, ... in the primary key; 0 outside it
    is_here   INTEGER NOT NULL,           -- 0: only other devices have it yet, its values are held
    mapped    INTEGER,                    -- the table whose rows its integers number; NULL: they stand for themselves
    PRIMARY KEY (table_no, position)
) WITHOUT ROWID;

-- The log. No declared types: a value stays what it was. No constraint that an application's OR REPLACE or
-- OR IGNORE, which reach into triggers, could hit. Columns v<i>, o<i> are added for the widest table.
CREATE TABLE sync_operations (
    op       INTEGER PRIMARY KEY,         -- dot number
    table_no,
    kind,                                 -- 0 insert, 1 update, 2 delete, 3 resolve, 4 resolve-delete; o0 of 3 and 4: a strategy
    base,                                 -- dot number of the head it was written on, while in conflict
    hlc
);

-- Not an operation: makes the next automatic rowid 1, also when the log holds only other devices' operations.
INSERT INTO main.sync_operations (op, table_no, kind, hlc) VALUES (0, 0, 0, 0);

CREATE VIEW sync_clock AS
    SELECT ordinal, device_id, CASE ordinal WHEN 0 THEN (SELECT max(op) FROM sync_operations) ELSE seq END AS seq
    FROM sync_devices;

CREATE TABLE sync_peers (                 -- what a peer said it holds
    peer_ordinal INTEGER NOT NULL,
    ordinal      INTEGER NOT NULL,
    seq          INTEGER NOT NULL,
    PRIMARY KEY (peer_ordinal, ordinal)
) WITHOUT ROWID;

CREATE TABLE sync_bundles (               -- bundles that were imported
    bundle_id      BLOB PRIMARY KEY,
    ordinal        INTEGER NOT NULL,      -- of the source
    imported_at_ms INTEGER NOT NULL,
    operations     INTEGER NOT NULL,      -- how many it carries
    digest         BLOB NOT NULL          -- the SHA-256 in its trailer
) WITHOUT ROWID;

CREATE TABLE sync_forks (                 -- rows that have, or once had, more than one head
    fork      INTEGER PRIMARY KEY,
    table_no  INTEGER NOT NULL,
    base      BLOB,                       -- the image before its operations: MessagePack map, position -> value; NULL: absent
    shown     INTEGER NOT NULL,           -- dot number of the shown head
    is_open   INTEGER NOT NULL,           -- 1 while in conflict
    is_parked INTEGER NOT NULL            -- 1 while a constraint does not let the row stand in its table
);

CREATE TABLE sync_fork_operations (
    fork INTEGER NOT NULL,
    op   INTEGER NOT NULL,
    PRIMARY KEY (fork, op)
) WITHOUT ROWID;

CREATE TABLE sync_conflicts (             -- open conflicts: the shown head and another; or a parked row and what is in its way
    conflict_id BLOB PRIMARY KEY,
    fork        INTEGER NOT NULL,
    kind        TEXT NOT NULL,
    local_op    INTEGER NOT NULL,
    remote_op   INTEGER NOT NULL,
    differing   TEXT NOT NULL,            -- positions of the columns in which both versions differ
    UNIQUE (fork, conflict_id)
) WITHOUT ROWID;

CREATE TABLE sync_held (                  -- operations on tables that are not enabled here, not yet applied
    table_no INTEGER NOT NULL,
    low      INTEGER NOT NULL,            -- dot numbers, both included; the table's operations among them
    high     INTEGER NOT NULL
);

CREATE TABLE sync_app_triggers (          -- the user's word on triggers of the application
    name  TEXT PRIMARY KEY COLLATE NOCASE,
    fires INTEGER NOT NULL
) WITHOUT ROWID;
