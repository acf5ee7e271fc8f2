"""Make a database and a bundle of the format that this version writes, to be read by every later version.

    PYTHONPATH=src python tests/files/make.py              # tests/files/format-<n>, if it is not there
    PYTHONPATH=src python tests/files/make.py --replace    # only while format n is not released

Beside them stands what they hold, `expected.json`, so that a later version is not judged by itself.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from sqlite_sync import LastWriteWins, SyncEngine, bundle, schema

FOLDER = Path(__file__).parent
SCHEMA = """
CREATE TABLE todos (id TEXT PRIMARY KEY, title TEXT NOT NULL, done INTEGER DEFAULT 0, mail TEXT UNIQUE);
CREATE TABLE parts (todo TEXT REFERENCES todos, n INTEGER, weight REAL, raw BLOB, PRIMARY KEY (todo, n)) WITHOUT ROWID;
CREATE TABLE counts (id INTEGER PRIMARY KEY, n ANY) STRICT;
"""
TABLES = ("todos", "parts", "counts")
HELD = "CREATE TABLE later (id TEXT PRIMARY KEY, x)"


def opened(path: Path, *more: str) -> SyncEngine:
    """Open a database with every table enabled."""
    engine = SyncEngine(path)
    engine.connection.execute("PRAGMA page_size = 1024")
    engine.initialize()
    engine.connection.executescript(SCHEMA)
    for statement in more:
        engine.connection.execute(statement)
    for table in (*TABLES, *(["later"] if more else [])):
        engine.enable_sync_for_table(table, keys="natural")
    return engine


def send(source: SyncEngine, target: SyncEngine) -> None:
    """Carry what `target` lacks from `source` to it."""
    path = source.generate_bundle(target.device_id, source.path.with_suffix(".bundle"), acknowledge=True)
    if path is not None:
        target.import_bundle(path)


def write(engine: SyncEngine, *statements: str) -> None:
    """Run statements of the application's."""
    for statement in statements:
        engine.connection.execute(statement)


def play(folder: Path) -> None:
    """Let two devices write values of every kind, edit, disagree, decide, park and hold."""
    with opened(folder / "database.db") as a, opened(folder / "b.db", HELD) as b:
        write(
            a,
            "INSERT INTO todos VALUES ('1', 'one', 0, 'a@x'), ('2', 'two', 0, NULL), ('3', 'drei \u00fc \U0001f600', 0, 'c@x')",
            "INSERT INTO parts VALUES ('1', 1, 0.1, x'00ff'), ('1', 2, 9e999, ''), ('2', 1, -1e-300, NULL)",
            f"INSERT INTO counts VALUES ({2**63 - 1}, 1), (-7, 'text'), (8, 1.5), (9, x'616200')",
        )
        send(a, b)
        send(b, a)
        write(a, "UPDATE todos SET title = 'a''s' WHERE id IN ('1', '2', '3')")
        write(
            b,
            "UPDATE todos SET title = 'b''s', done = 1 WHERE id IN ('1', '2', '3')",
            "DELETE FROM counts WHERE id = 8",
        )
        send(b, a)
        a.resolve(next(c for c in a.get_unresolved_conflicts() if c.row_pk == {"id": "2"}), {"title": "both"})
        a.resolve(next(c for c in a.get_unresolved_conflicts() if c.row_pk == {"id": "3"}), LastWriteWins())
        send(a, b)
        write(a, "INSERT INTO todos VALUES ('4', 'first', 0, 'same@x')", "UPDATE todos SET done = 5 WHERE id = '1'")
        write(b, "INSERT INTO todos VALUES ('5', 'second', 0, 'same@x')", "INSERT INTO later VALUES ('l', 1)")
        send(b, a)
        send(a, b)
        a.connection.execute("PRAGMA wal_checkpoint")
        write(b, "UPDATE parts SET n = 3 WHERE n = 2", "INSERT INTO counts VALUES (10, NULL)", "DELETE FROM later")
        write(b, "UPDATE todos SET title = 'b once more' WHERE id = '1'", "INSERT INTO later VALUES ('m', 2)")
        b.generate_bundle(None, folder / "everything.bundle")
    (folder / "b.db").unlink()
    for leftover in ("b.bundle", "database.bundle"):
        (folder / leftover).unlink()


def state(engine: SyncEngine) -> dict[str, Any]:
    """Return what a database holds, as JSON can say it."""
    quoted = {
        table: [
            f"quote({name})" for (name,) in engine.connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
        ]
        for table in TABLES
    }
    content = {
        table: engine.connection.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY 1, 2").fetchall()
        for table, columns in quoted.items()
    }
    return {
        "rows": {table: [list(row) for row in rows] for table, rows in content.items()},
        "conflicts": sorted([c.conflict_id.hex(), c.table_name, c.kind] for c in engine.get_unresolved_conflicts()),
        "clock": {device.hex(): seq for device, seq in sorted(engine.get_vector_clock().items())},
        "operations": [[one.op_id.hex(), one.table_name, one.kind] for one in engine.operations()],
    }


def expectations(folder: Path) -> dict[str, Any]:
    """Say what the database holds, and what it and an empty one hold with the bundle."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        copy = Path(shutil.copy(folder / "database.db", name))
        with SyncEngine(copy) as engine:
            engine.initialize()
            found["database"] = state(engine)
            engine.import_bundle(folder / "everything.bundle")
            found["database with bundle"] = state(engine)
        with opened(Path(name) / "empty.db") as empty:
            empty.import_bundle(folder / "everything.bundle")
            found["empty with bundle"] = state(empty)
    return found


def main() -> None:
    """Make the files of the present format."""
    version = max(schema.FORMAT, bundle.FORMAT)
    folder = FOLDER / f"format-{version}"
    if folder.exists() and sys.argv[1:] != ["--replace"]:
        sys.exit(
            f"{folder} is there: files of a released format are never made anew (--replace, if it is not released)"
        )
    with tempfile.TemporaryDirectory() as name:
        made = Path(name)
        play(made)
        (made / "expected.json").write_text(json.dumps(expectations(made), separators=(",", ":")) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(made, folder)
    print(f"{folder}: {', '.join(f'{path.name} ({path.stat().st_size} bytes)' for path in sorted(folder.iterdir()))}")


if __name__ == "__main__":
    main()
