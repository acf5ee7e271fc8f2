"""Two processes write to a file while a third one syncs it: nothing is lost, and nobody is stopped for good."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from conftest import MakeEngine, exchange, rows, send

SCHEMA = "CREATE TABLE t (id TEXT PRIMARY KEY, x, u UNIQUE)"
MEETINGS = 12
WRITER = """
import os, sqlite3, sys, time
path, name, stop = sys.argv[1:]
place = 0
program = sqlite3.connect(path, timeout=60, isolation_level=None)  # knows nothing of sync
while not os.path.exists(stop):
    program.execute("BEGIN IMMEDIATE")
    program.execute("INSERT INTO t VALUES (?, ?, ?)", (f"{name}{place}", place, f"{name}{place}"))
    program.execute("UPDATE t SET x = x + 1 WHERE id = ?", (f"{name}{place // 2}",))
    program.execute("INSERT OR REPLACE INTO t VALUES ('both', ?, 'one')", (f"{name}{place}",))
    program.execute("DELETE FROM t WHERE id = ?", (f"{name}{place - 50}",))
    program.execute("ROLLBACK" if place % 10 == 9 else "COMMIT")
    place += 1
    time.sleep(0.01)  # a busy file goes to whoever asks first, not to who waits longest
print(place)
"""


def test_two_processes_write_while_a_third_syncs(make: MakeEngine, tmp_path: Path) -> None:
    a, b = (make(name, SCHEMA, ("t",)) for name in "ab")
    a.connection.execute("PRAGMA busy_timeout = 60000")
    stop = tmp_path / "stop"
    writers = {
        name: subprocess.Popen(
            [sys.executable, "-c", WRITER, str(a.path), name, str(stop)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for name in ("one", "other")
    }
    try:
        while a.get_vector_clock().get(a.device_id, 0) < 10:  # until they are at work
            assert all(writer.poll() is None for writer in writers.values())
        for meeting in range(MEETINGS):
            send(a, b)
            b.connection.execute("INSERT INTO t VALUES (?, ?, NULL)", (f"b{meeting}", meeting))
            b.connection.execute("UPDATE t SET x = 'b' WHERE id = 'both'")
            send(b, a)
    finally:
        stop.touch()
        told = {name: (*writer.communicate(timeout=120), writer.returncode) for name, writer in writers.items()}
    assert [(error, code) for _, error, code in told.values()] == [(b"", 0), (b"", 0)]

    exchange(a, b)
    assert rows(a, "t") == rows(b, "t")
    assert a.get_unresolved_conflicts() == b.get_unresolved_conflicts()
    ids = {row[0][1] for row in rows(a, "t")}
    last = {name: int(place) for name, (place, _, _) in told.items()}
    kept = {
        f"{name}{place}" for name in last for place in range(max(last[name] - 50, 0), last[name]) if place % 10 != 9
    }
    assert kept | {"both"} | {f"b{meeting}" for meeting in range(MEETINGS)} <= ids
    for engine in (a, b):
        diagnosis = engine.doctor(deep=True)
        findings = [*diagnosis.findings, *(one for each in diagnosis.tables for one in each.findings)]
        assert [one for one in findings if one.level == "error"] == []
    assert a.reconcile() == b.reconcile() == 0
