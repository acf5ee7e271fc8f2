-- The tables of a bundle (SPEC.md, section 7). For each row of `tables`, two tables come in addition:
-- inserts_<table_no> and operations_<table_no>.

CREATE TABLE bundle (                     -- one row
    bundle_id        BLOB NOT NULL,       -- UUIDv7
    source_device_id BLOB NOT NULL,
    peer_device_id   BLOB,                -- NULL: for anyone
    created_at_ms    INTEGER NOT NULL
);

CREATE TABLE devices (                    -- every device that the source knows
    ordinal   INTEGER PRIMARY KEY,        -- in this file; 0 is the source
    device_id BLOB NOT NULL,
    from_seq  INTEGER NOT NULL,           -- its operations in this file are those with from_seq < seq <= to_seq
    from_hlc  INTEGER NOT NULL,
    to_seq    INTEGER NOT NULL,           -- what the source holds of it
    to_hlc    INTEGER NOT NULL,
    base_hlc  INTEGER NOT NULL            -- what to add to the `hlc` of its operations in this file
);

CREATE TABLE contexts (                   -- from its operation `seq` on, a device knew another up to `known_seq`
    ordinal       INTEGER NOT NULL,
    known_ordinal INTEGER NOT NULL,
    seq           INTEGER NOT NULL,
    known_seq     INTEGER NOT NULL,
    PRIMARY KEY (ordinal, known_ordinal, seq)
) WITHOUT ROWID;

CREATE TABLE tables (
    table_no INTEGER PRIMARY KEY,
    name     TEXT NOT NULL
);

CREATE TABLE columns (
    table_no  INTEGER NOT NULL,
    position  INTEGER NOT NULL,
    name      TEXT NOT NULL,
    key_place INTEGER NOT NULL,           -- 1, 2, ... in the primary key; 0 outside it
    mapped    INTEGER,                    -- the table whose rows its integers number; NULL: they stand for themselves
    PRIMARY KEY (table_no, position)
) WITHOUT ROWID;
