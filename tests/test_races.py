"""Two processes write to a file while a third one syncs it: nothing is lost, and nobody is stopped for good."""

from __future__ import annotations

import subprocess
import sys

from conftest import MakeEngine, exchange, rows, send
from sqlite_sync import SyncEngine

SCHEMA = "CREATE TABLE t (id TEXT PRIMARY KEY, x, u UNIQUE)"
ROUNDS = 120
WRITER = """
import sqlite3, sys
path, name, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
program = sqlite3.connect(path, timeout=60, isolation_level=None)  # knows nothing of sync
for place in range(rounds):
    program.execute("BEGIN IMMEDIATE")
    program.execute("INSERT INTO t VALUES (?, ?, ?)", (f"{name}{place}", place, f"{name}{place}"))
    program.execute("UPDATE t SET x = x + 1 WHERE id = ?", (f"{name}{place // 2}",))
    program.execute("INSERT OR REPLACE INTO t VALUES ('both', ?, 'one')", (f"{name}{place}",))
    program.execute("DELETE FROM t WHERE id = ?", (f"{name}{place - 50}",))
    program.execute("ROLLBACK" if place % 10 == 9 else "COMMIT")
"""


def started(engine: SyncEngine, name: str) -> subprocess.Popen[bytes]:
    """Let another process write."""
    return subprocess.Popen([sys.executable, "-c", WRITER, str(engine.path), name, str(ROUNDS)], stderr=subprocess.PIPE)


def test_two_processes_write_while_a_third_syncs(make: MakeEngine) -> None:
    a, b = (make(name, SCHEMA, ("t",)) for name in "ab")
    a.connection.execute("PRAGMA busy_timeout = 60000")
    writers = [started(a, "one"), started(a, "other")]
    meetings = 0
    while any(writer.poll() is None for writer in writers):
        send(a, b)
        b.connection.execute("INSERT INTO t VALUES (?, ?, NULL)", (f"b{meetings}", meetings))
        b.connection.execute("UPDATE t SET x = 'b' WHERE id = 'both'")
        send(b, a)
        meetings += 1
    assert [(writer.wait(), writer.communicate()[1]) for writer in writers] == [(0, b""), (0, b"")]
    assert meetings > 1

    exchange(a, b)
    assert rows(a, "t") == rows(b, "t")
    assert a.get_unresolved_conflicts() == b.get_unresolved_conflicts()
    ids = {row[0][1] for row in rows(a, "t")}
    kept = {f"{name}{place}" for name in ("one", "other") for place in range(ROUNDS - 50, ROUNDS) if place % 10 != 9}
    assert kept | {"both"} | {f"b{place}" for place in range(meetings)} <= ids
    for engine in (a, b):
        diagnosis = engine.doctor(deep=True)
        findings = [*diagnosis.findings, *(one for each in diagnosis.tables for one in each.findings)]
        assert [one for one in findings if one.level == "error"] == []
    assert a.reconcile() == b.reconcile() == 0
