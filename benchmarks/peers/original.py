"""Drive sqlite-sync-core 0.7.1, installed in an environment of its own, by the calls of its README.

It takes the file of the work, and prints CPU seconds and bytes as JSON. It refuses its own bundles where two operations
fall into one millisecond, so there is a pause after each statement, which is not counted.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from sqlite_sync import SyncEngine  # not ours: that of the interpreter that runs this

PAUSE_S = 0.002


def main() -> None:
    """Do the work."""
    work = json.loads(Path(sys.argv[1]).read_text())
    with tempfile.TemporaryDirectory() as name:
        folder, found = Path(name), dict[str, float]()
        plain = sqlite3.connect(folder / "plain.db", isolation_level=None)
        source, target = (SyncEngine(str(folder / f"{side}.db")) for side in ("source", "target"))
        for connection in (plain, source.connection, target.connection):
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
        plain.execute(work["schema"])
        for engine in (source, target):
            engine.initialize()
            engine.connection.execute(work["schema"])
            engine.enable_sync_for_table("items")
        for verb, (sql, rows) in work["statements"].items():
            found[f"{verb}: plain"] = run(plain, sql, rows)
            found[f"{verb}: captured"] = run(source.connection, sql, rows, PAUSE_S)
            bundle = folder / f"{verb}.bundle"
            start = time.process_time()
            source.generate_bundle(peer_device_id=target.device_id, output_path=str(bundle))
            found[f"{verb}: exported"] = time.process_time() - start
            found[f"{verb}: bytes"] = bundle.stat().st_size
            start = time.process_time()
            target.import_bundle(str(bundle))
            found[f"{verb}: imported"] = time.process_time() - start
            same = [rounded(one.connection.execute(work["look"])) for one in (source, target)]
            if same[0] != same[1]:
                del found[f"{verb}: imported"]  # it said that it applied them all
                print(f"the {verb} did not arrive", file=sys.stderr)
    print(json.dumps({"name": f"sqlite-sync-core {version('sqlite-sync-core')}", "found": found}))


def rounded(rows: Iterable[tuple[object, ...]]) -> list[list[object]]:
    """Return rows whose doubles have 12 decimals."""
    return [[round(value, 12) if isinstance(value, float) else value for value in row] for row in rows]


def run(connection: sqlite3.Connection, sql: str, rows: list[list[object]], pause_s: float = 0) -> float:
    """Run a statement for all rows in one transaction; return the CPU seconds that it took."""
    took = 0.0
    connection.execute("BEGIN")
    for row in rows:
        start = time.process_time()
        connection.execute(sql, row)
        took += time.process_time() - start
        if pause_s:
            time.sleep(pause_s)
    start = time.process_time()
    connection.execute("COMMIT")
    return took + time.process_time() - start


main()
