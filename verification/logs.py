"""The promises about the log of one device: nobody changes it (1), and it says all there is to say (9)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import strategies as st

from sqlite_sync import Operation, RawText, SyncEngine
from verification.compare import exact_image, plain
from verification.search import Search, fail, require
from verification.statements import TABLES, scripts
from verification.steps import Change, Step, a_change, a_resolution, a_send, histories
from verification.world import Device, World

# --- 1 ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attack:
    """A statement that would change or remove operations of the log; `?` is an operation."""

    sql: str
    place: int
    is_recursive: bool


ATTACKS = [
    "UPDATE sync_operations SET kind = 2 WHERE op = ?",
    "UPDATE OR IGNORE sync_operations SET v1 = 'forged' WHERE op = ?",
    "UPDATE OR REPLACE sync_operations SET op = op + 1 WHERE op = ?",
    "UPDATE sync_operations SET hlc = hlc WHERE op >= ?",
    "UPDATE sync_operations AS o SET v0 = t.name FROM sync_tables AS t WHERE o.op = ?",
    "DELETE FROM sync_operations WHERE op = ?",
    "DELETE FROM sync_operations WHERE op >= ? RETURNING op",
    "DELETE FROM sync_operations WHERE ? IS NOT NULL",
    "DELETE FROM sync_operations",
    "REPLACE INTO sync_operations (op, kind) VALUES (?, 2)",
    "REPLACE INTO sync_operations (rowid, kind) VALUES (?, 2)",
    "REPLACE INTO sync_operations (op, kind) VALUES (CAST(? AS TEXT), 2)",
    "REPLACE INTO sync_operations (op, kind) VALUES (? + 0.0, 2)",
    "INSERT OR REPLACE INTO sync_operations (op, kind, hlc) SELECT op, 2, hlc FROM sync_operations WHERE op = ?",
    "INSERT OR IGNORE INTO sync_operations (op, kind) VALUES (?, 2)",
    "INSERT INTO sync_operations (op, kind) VALUES (?, 2) ON CONFLICT (op) DO UPDATE SET kind = excluded.kind",
    "INSERT INTO sync_operations (op, kind) VALUES (?, 2) ON CONFLICT DO NOTHING",
]
attacks = st.builds(Attack, st.sampled_from(ATTACKS), st.integers(0, 50), st.booleans())


def append_only(search: Search) -> None:
    """Attack the log with plain SQL, between writes, imports and a_resolution; what stood in it must go on standing."""

    def claim(history: list[Step], attacks: list[Attack]) -> None:
        with World(2, search.tried) as world:
            logs: list[list[object]] = [[], []]
            for step in [Change(0, "put", 0, (1, 1)), Change(1, "put", 0, (2, 2)), *history]:
                world.step(step)
                logs = [_require_grown(device, log) for device, log in zip(world.devices, logs, strict=True)]
            for attack in attacks:
                search.tried["attacks"] += 1
                device = world.devices[attack.place % 2]
                _require_refused(device, attack)
                _require_same_log(device, logs[device.number], attack)

    search.run(claim, history=histories(a_change, a_send, a_resolution, most=10), attacks=st.lists(attacks, min_size=1))


def _log(device: Device) -> list[object]:
    with plain(device.path) as connection:
        return list(connection.execute("SELECT * FROM sync_operations ORDER BY op"))


def _require_grown(device: Device, before: Sequence[object]) -> list[object]:
    after = _log(device)
    require(set(map(repr, before)) <= set(map(repr, after)), f"the log of device {device.number} lost or changed a row")
    return after


def _require_refused(device: Device, attack: Attack) -> None:
    with plain(device.path) as connection:
        connection.execute(f"PRAGMA recursive_triggers = {attack.is_recursive:d}")
        known = [op for (op,) in connection.execute("SELECT op FROM sync_operations ORDER BY op")]
        parameters = (known[attack.place % len(known)],) * attack.sql.count("?")
        try:
            connection.execute(attack.sql, parameters).fetchall()
        except sqlite3.IntegrityError as error:
            require("sync_operations is append-only" in str(error), f"refused for another reason: {error}")
        else:
            fail(f"the database did not refuse: {attack.sql}")


def _require_same_log(device: Device, before: Sequence[object], attack: Attack) -> None:
    require(_log(device) == list(before), f"the log changed, though the database refused: {attack.sql}")


# --- 9 ----------------------------------------------------------------------------------------------------------


def complete_capture(search: Search) -> None:
    """Run any SQL through a connection that knows nothing of us: the log alone gives the tables, to the bit."""

    def claim(first: list[str], script: list[str]) -> None:
        with TemporaryDirectory() as folder, _engine(Path(folder) / "a.db", first) as engine:
            with _program(engine.path) as program:
                for line in script:
                    search.tried["statements"] += _run(program, line)
                if program.in_transaction:
                    _run(program, "COMMIT")
            tables = _tables(engine)
            replayed = _replay(engine.operations())
            search.tried["operations"] += sum(engine.get_vector_clock().values())
            search.tried["rows"] += sum(map(len, replayed.values()))
            require(replayed == tables, f"the log gives {replayed}, but the tables are {tables}")
            with _engine(Path(folder) / "b.db", []) as other:
                if engine.generate_bundle(other.device_id, Path(folder) / "bundle"):
                    other.import_bundle(Path(folder) / "bundle")
                require(_tables(other) == tables, f"an empty device got {_tables(other)}, but the tables are {tables}")

    search.run(claim, first=scripts(3), script=scripts(16))


def _engine(path: Path, first: Sequence[str]) -> SyncEngine:
    engine = SyncEngine(path)
    engine.initialize()
    for table in TABLES:
        engine.connection.execute(table.sql)
    with _program(path) as program:
        for line in first:
            _run(program, line)
        for table in TABLES:
            for key in table.key:  # rows without a key cannot be synced, and are refused by enable
                _run(program, f'DELETE FROM "{table.name}" WHERE {key} IS NULL')
    for table in TABLES:
        engine.enable_sync_for_table(table.name, keys="natural")
    return engine


@contextmanager
def _program(path: Path) -> Iterator[sqlite3.Connection]:
    with plain(path) as program:
        program.execute("PRAGMA foreign_keys = ON")  # without it there may be orphans: SPEC.md, section 14
        yield program


def _run(program: sqlite3.Connection, line: str) -> bool:
    """Run a statement; a constraint may refuse it, and there may be no transaction to end. Tell whether it ran."""
    try:
        program.execute(line).fetchall()
    except (sqlite3.IntegrityError, sqlite3.OperationalError):
        return False
    return True


def _tables(engine: SyncEngine) -> dict[str, dict[object, object]]:
    """Read the tables: name -> key -> image, to the bit."""
    found: dict[str, dict[object, object]] = {}
    with plain(engine.path) as program:
        program.text_factory = _text
        for table in TABLES:
            names = ", ".join('"' + name.replace('"', '""') + '"' for name in table.columns)
            images = [
                dict(zip(table.columns, row, strict=True))
                for row in program.execute(f'SELECT {names} FROM "{table.name}"')
            ]
            found[table.name] = {table.row_key(image): exact_image(image) for image in images}
    return found


def _replay(operations: Iterator[Operation]) -> dict[str, dict[object, object]]:
    """Replay a log on dictionaries, which know nothing of SQLite but when two keys are the same."""
    tables = {table.name: table for table in TABLES}
    images: dict[str, dict[object, dict[str, object]]] = {name: {} for name in tables}
    for operation in operations:
        rows, key = images[operation.table_name], tables[operation.table_name].row_key(operation.row_pk)
        if operation.kind == "insert":
            rows[key] = dict(operation.new)
        elif operation.kind == "update":
            rows[key].update(operation.new)
        else:
            del rows[key]
    return {name: {key: exact_image(image) for key, image in rows.items()} for name, rows in images.items()}


def _text(stored: bytes) -> str | RawText:
    try:
        return stored.decode()
    except UnicodeDecodeError:
        return RawText(stored)
