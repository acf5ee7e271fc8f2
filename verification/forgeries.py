"""Promise 11: a changed or hostile bundle is refused and changes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from sqlite_sync import BundleError, SyncEngine, SyncError
from verification.compare import copied, dump, require_same_state
from verification.search import BrokenError, Search, fail, require
from verification.steps import KEYS, SCHEMA, Change, Send, a_resolution
from verification.world import World

TRAILER_BYTES = 56


def nothing_foreign(search: Search) -> None:
    """Change bytes of bundles, cut and extend them; then lie in them under a digest that is right."""
    with _target(search) as target:
        search.run(target.require_every_byte, examples=1, offset=st.integers(0, 2**32))
        search.run(target.require_refused_damage, damages=st.lists(damages, min_size=1, max_size=4))
        target.require_refused_lies()
        places = st.integers(0, 20)
        search.run(target.require_harmless_value, table=places, row=places, column=places, value=weird)
        search.run(target.require_harmless_base, examples=search.part(2), table=places, row=places, base=places)


@dataclass(frozen=True)
class Damage:
    """What happens to a file under way: bytes are replaced, by as many, by fewer, or by more."""

    start: float
    removed: int
    inserted: bytes

    def inflict(self, sealed: bytes) -> bytes:
        """Return the damaged file."""
        at = int(self.start * len(sealed))
        return sealed[:at] + self.inserted + sealed[at + self.removed :]


damages = st.builds(
    Damage,
    st.floats(0, 1),
    st.sampled_from([0, 1, 1, 2, 56, 4096, 10**6]),
    st.sampled_from([b"", b"\0"]) | st.binary(max_size=64),
)
weird = st.sampled_from(
    [None, 0, 1, 2, 3, -1, 2**40, 2**62, 2**63 - 1, 1.5, "", "x", "title", b"", b"x" * 16, "sync_state"]
)

# Each is a script of SQL on a bundle that a reader must refuse (SPEC.md, section 7); :n is a table operations_<n>, :i
# is a table inserts_<n>.
LIES = [
    "CREATE TABLE more (x)",
    "CREATE VIEW more AS SELECT 1",
    "CREATE INDEX more ON tables (name)",
    "CREATE TRIGGER more AFTER INSERT ON bundle BEGIN DELETE FROM bundle; END",
    "CREATE TABLE operations_99 (op INTEGER PRIMARY KEY, kind, base, hlc, v0, o0)",
    "ALTER TABLE :n ADD COLUMN v99",
    "ALTER TABLE :n RENAME COLUMN v0 TO w0",
    "DROP TABLE contexts",
    "DROP TABLE :n",
    "PRAGMA user_version = 2",
    "PRAGMA user_version = 0",
    "PRAGMA application_id = 1",
    "DELETE FROM bundle",
    "INSERT INTO bundle SELECT * FROM bundle",
    "UPDATE bundle SET bundle_id = x'00'",
    "UPDATE bundle SET bundle_id = 'sixteen letters.'",
    "UPDATE bundle SET source_device_id = randomblob(16)",
    "UPDATE bundle SET peer_device_id = randomblob(15)",
    "UPDATE bundle SET created_at_ms = 'now'",
    "UPDATE devices SET device_id = randomblob(17)",
    "UPDATE devices SET device_id = (SELECT device_id FROM devices WHERE ordinal = 0)",
    "DELETE FROM devices WHERE ordinal = 0",
    "UPDATE devices SET ordinal = ordinal + 1",
    "UPDATE devices SET to_seq = to_seq + 1 WHERE ordinal = 0",
    "UPDATE devices SET to_seq = to_seq - 1 WHERE ordinal = 0",
    "UPDATE devices SET from_seq = to_seq + 1 WHERE ordinal = 0",
    "UPDATE devices SET from_seq = -1 WHERE ordinal = 0",
    "UPDATE devices SET to_seq = 1 << 40 WHERE ordinal = 0",
    "UPDATE devices SET to_seq = 'x' WHERE ordinal = 0",
    "UPDATE devices SET to_hlc = 1 WHERE ordinal = 0",
    "UPDATE devices SET to_hlc = 1 << 62 WHERE ordinal = 0",
    "UPDATE devices SET from_hlc = 5 WHERE ordinal = 0",
    "UPDATE :n SET kind = 5",
    "UPDATE :n SET kind = -1",
    "UPDATE :n SET kind = '0'",
    "UPDATE :n SET kind = NULL",
    "UPDATE :n SET hlc = -(SELECT base_hlc FROM devices WHERE ordinal = -((op - 1) >> 40))",
    "UPDATE :n SET hlc = 1 << 62",
    "UPDATE :n SET hlc = hlc + 0.5",
    "UPDATE :n SET v0 = NULL",
    "UPDATE :n SET base = 'x'",
    "UPDATE :n SET base = -(77 << 40)",
    "UPDATE :n SET base = op",
    "UPDATE :n SET base = 1000",
    "UPDATE :n SET op = op + 1000",
    "UPDATE :n SET op = op - (77 << 40)",
    "DELETE FROM :n WHERE op = (SELECT max(op) FROM :n)",
    "INSERT INTO :n (op, kind, hlc, v0) SELECT max(op) + 50, kind, hlc, v0 FROM :n",
    "UPDATE tables SET name = 'sqlite_schema'",
    "UPDATE tables SET name = 'sync_operations'",
    "UPDATE tables SET name = ''",
    "UPDATE tables SET name = x'00'",
    "UPDATE tables SET name = CASE table_no WHEN (SELECT min(table_no) FROM tables) THEN 'NOTES' ELSE 'notes' END",
    "UPDATE tables SET table_no = table_no + 7",
    "DELETE FROM tables",
    "INSERT INTO tables VALUES (55, 'more')",
    "UPDATE columns SET name = 'same'",
    "UPDATE columns SET name = 'TITLE' WHERE name = 'body'; UPDATE columns SET name = 'NOTE' WHERE name = 'weight'",
    "UPDATE columns SET name = x'00'",
    "UPDATE columns SET key_place = 0",
    "UPDATE columns SET key_place = 2 WHERE key_place = 1",
    "UPDATE columns SET key_place = -1 WHERE key_place = 0",
    "UPDATE columns SET key_place = 'x' WHERE key_place = 0",
    "UPDATE columns SET position = position + 1 WHERE position = (SELECT max(position) FROM columns)",
    "DELETE FROM columns WHERE position = 0",
    "INSERT INTO contexts VALUES (0, 0, 1, 1)",
    "INSERT INTO contexts VALUES (0, 99, 1, 1)",
    "INSERT INTO contexts VALUES (99, 0, 1, 1)",
    "INSERT INTO contexts SELECT 0, max(ordinal), 1000, 1 FROM devices",
    "INSERT INTO contexts SELECT 0, max(ordinal), 1, 1000 FROM devices",
    "UPDATE contexts SET known_seq = known_seq + 1000",
    "UPDATE contexts SET known_seq = -1",
    "UPDATE contexts SET seq = 'x'",
    "UPDATE :n SET hlc = (SELECT max(hlc) + min(hlc) FROM :n WHERE op > 0) - hlc WHERE op > 0",  # against their seqs
    "UPDATE :n SET hlc = 1 - (SELECT base_hlc FROM devices WHERE ordinal = 0) WHERE op = (SELECT max(op) FROM :n)",
    "UPDATE devices SET base_hlc = base_hlc + 1 WHERE from_seq < to_seq",
    "UPDATE devices SET base_hlc = to_hlc + 1",
    "UPDATE devices SET base_hlc = -1",
    "UPDATE devices SET base_hlc = x'00'",
    "CREATE TABLE inserts_99 (op INTEGER PRIMARY KEY, hlc, v0)",
    "ALTER TABLE :i ADD COLUMN kind",
    "DROP TABLE :i",
    "UPDATE :i SET hlc = -(SELECT base_hlc FROM devices WHERE ordinal = -((op - 1) >> 40))",
    "UPDATE :i SET hlc = 1 << 62",
    "UPDATE :i SET hlc = hlc + 0.5",
    "UPDATE :i SET hlc = NULL",
    "UPDATE :i SET v0 = NULL",
    "UPDATE :i SET op = op + 1000",
    "UPDATE :i SET op = op - (77 << 40)",
    "DELETE FROM :i WHERE op = (SELECT max(op) FROM :i)",
    "INSERT INTO :i (op, hlc, v0) SELECT max(op) + 50, hlc, v0 FROM :i",
    "INSERT INTO :i (op, hlc, v0) SELECT op, hlc, v0 FROM :n",
    "UPDATE devices SET to_hlc = to_hlc + 1",
    "UPDATE devices SET from_hlc = from_hlc - 1 WHERE from_hlc > 1",
]


@dataclass
class Target:
    """A device that hostile bundles are offered to, and a bundle that it could import."""

    search: Search
    folder: Path
    path: Path
    engine: SyncEngine
    sealed: bytes
    pristine: bytes

    @property
    def bundle(self) -> Path:
        """Where the hostile bundle lies."""
        return self.folder / "hostile.bundle"

    def require_refused(self, how: object, kind: type[SyncError] = BundleError) -> None:
        """Offer the bundle; it must be refused with an error that names it, and nothing may change."""
        before = self.path.read_bytes()
        try:
            self.engine.import_bundle(self.bundle)
        except kind as error:
            require(str(self.bundle) in str(error), f"{how}: the error does not name the bundle: {error}")
        else:
            fail(f"{how}: the bundle was imported")
        require(self.path.read_bytes() == before, f"{how}: the bundle was refused, but the database changed")

    def require_every_byte(self, offset: int) -> None:
        """Flip the bytes one by one, and cut the file there: as many places as the search allows, all if it can."""
        stride = self.search.stride(len(self.sealed) // 150)
        places = range(offset % stride, len(self.sealed), stride)
        for place in [*places, *range(len(self.sealed) - TRAILER_BYTES, len(self.sealed))]:
            mask = (place + offset) % 255 + 1
            damaged = bytearray(self.sealed)
            damaged[place] ^= mask
            self.bundle.write_bytes(damaged)
            self.require_refused(f"byte {place} changed by {mask:#04x}")
            self.search.tried["bytes flipped"] += 1
            if place % (16 * stride) == 0:
                self.bundle.write_bytes(self.sealed[:place])
                self.require_refused(f"cut to {place} bytes")
                self.search.tried["cuts"] += 1

    def require_refused_damage(self, damages: Sequence[Damage]) -> None:
        """Damage a bundle in several places."""
        damaged = self.sealed
        for damage in damages:
            damaged = damage.inflict(damaged)
        if damaged != self.sealed:
            self.bundle.write_bytes(damaged)
            self.require_refused(damages)
            self.search.tried["damages"] += 1

    def require_refused_lies(self) -> None:
        """Change what a bundle says so that it breaks the format, in each way that is listed, and seal it again."""
        believed = []
        for lie in LIES[:: self.search.stride(10)]:
            for place in range(2):
                if self._forge(partial(_run_lie, lie=lie, place=place)):
                    self.search.tried["lies"] += 1
                    try:
                        self.require_refused(lie)
                    except BrokenError as error:
                        believed.append(str(error))
                        self._reset()
        require(not believed, "; ".join(believed))

    def require_harmless_value(self, table: int, row: int, column: int, value: object) -> None:
        """Change one value of a bundle and seal it again."""
        self._require_harmless(partial(_replace_value, table=table, row=row, column=column, value=value))

    def require_harmless_base(self, table: int, row: int, base: int) -> None:
        """Give one operation of a bundle another one as its base, and seal it again."""
        self._require_harmless(partial(_replace_base, table=table, row=row, base=base))

    def _require_harmless(self, forge: Callable[[sqlite3.Connection], None]) -> None:
        """Offer the bundle: it must be refused, or be as good as any other."""
        if not self._forge(forge):
            return
        self.search.tried["values replaced"] += 1
        before = dump(self.path)
        path = copied(self.path, self.folder / "harmless.db")
        onward = self.folder / f"onward {self.search.tried['values replaced']}.db"
        with SyncEngine(path) as engine, SyncEngine(onward) as other:
            engine.initialize()
            try:
                engine.import_bundle(self.bundle)
            except SyncError:
                require(dump(path) == before, "the bundle was refused, but the database changed")
                return
            self.search.tried["believed"] += 1
            _prepare(other)
            _require_agreement(engine, other, self.folder / "onward.bundle")

    def _reset(self) -> None:
        """Make the database as it was, so that the next bundle is not taken for one that was imported before."""
        self.engine.close()
        self.path.write_bytes(self.pristine)
        self.engine = SyncEngine(self.path)
        self.engine.initialize()

    def _forge(self, forge: Callable[[sqlite3.Connection], None]) -> bool:
        """Change the bundle's database and seal it with the right digest; tell whether it changed."""
        inside = self.folder / "forged.db"
        inside.write_bytes(self.sealed[:-TRAILER_BYTES])
        with closing(sqlite3.connect(inside, isolation_level=None)) as forger:
            before = list(forger.iterdump())
            pragmas = _header_pragmas(forger)
            with suppress(sqlite3.IntegrityError):
                forge(forger)
            changed = before != list(forger.iterdump()) or pragmas != _header_pragmas(forger)
        database = inside.read_bytes()
        head = b"sqlite-sync 001\n" + len(database).to_bytes(8, "big")
        self.bundle.write_bytes(database + head + sha256(database + head).digest())
        return changed


def _header_pragmas(forger: sqlite3.Connection) -> list[Any]:
    return [forger.execute(f"PRAGMA {name}").fetchone() for name in ("user_version", "application_id")]


def _operation_tables(forger: sqlite3.Connection, prefix: str = "operations") -> list[str]:
    """Name the tables of operations, or of plain inserts; those that are not empty, if there are such."""
    names = "SELECT name FROM sqlite_schema WHERE name LIKE ? ORDER BY name"
    found = [name for (name,) in forger.execute(names, (f"{prefix}%",))]
    return [name for name in found if forger.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone()] or found


def _run_lie(forger: sqlite3.Connection, lie: str, place: int) -> None:
    for word, prefix in ((":n", "operations"), (":i", "inserts")):
        tables = _operation_tables(forger, prefix)
        lie = lie.replace(word, tables[place % len(tables)])
    forger.executescript(lie)


def _replace_value(forger: sqlite3.Connection, table: int, row: int, column: int, value: object) -> None:
    operations = [*_operation_tables(forger), *_operation_tables(forger, "inserts")]
    tables = ["bundle", "devices", "contexts", "tables", "columns", *operations * 2]
    name = tables[table % len(tables)]
    columns = [found[1] for found in forger.execute(f"PRAGMA table_info({name})")]
    first = ", ".join(columns[:3])
    key = f"SELECT {first} FROM {name} LIMIT 1 OFFSET {row} % max(1, (SELECT count(*) FROM {name}))"
    target = columns[column % len(columns)]
    forger.execute(f"UPDATE {name} SET {target} = ? WHERE ({first}) IS ({key})", (value,))


def _replace_base(forger: sqlite3.Connection, table: int, row: int, base: int) -> None:
    tables = _operation_tables(forger)
    name, other = tables[table % len(tables)], tables[(table // 2) % len(tables)]
    ops = [
        f"SELECT op FROM {of} LIMIT 1 OFFSET {place} % (SELECT count(*) FROM {of})"
        for of, place in ((other, base), (name, row))
    ]
    forger.execute(f"UPDATE {name} SET base = ({ops[0]}) WHERE op = ({ops[1]})")


@contextmanager
def _target(search: Search) -> Iterator[Target]:
    """Make two devices with conflicts between them, a resolution, and a bundle from one to the other."""
    with World(3, search.tried) as world:
        rows = [
            Change(device, verb, row, (device, row))
            for verb in ("put", "set")
            for device in (0, 1, 2)
            for row in (0, 1, 2)
        ]
        world.play([*rows[:9], Send(2, 0), Send(1, 0), Send(1, 2), *rows[9:], Send(2, 0), Change(0, "drop", 1, (0, 0))])
        world.step(a_resolution(0, 0, 1))
        source, target = world.devices[:2]
        bundle = world.folder / "good.bundle"
        source.engine.generate_bundle(target.engine.device_id, bundle)
        yield Target(search, world.folder, target.path, target.engine, bundle.read_bytes(), target.path.read_bytes())


def _prepare(engine: SyncEngine) -> None:
    engine.initialize()
    engine.connection.executescript(SCHEMA)
    for table in KEYS:
        engine.enable_sync_for_table(table, keys="natural")


def _require_agreement(engine: SyncEngine, other: SyncEngine, bundle: Path) -> None:
    """Use a database in every way, and hand all of it on to an empty one."""
    engine.status()
    for conflict in engine.get_unresolved_conflicts():
        engine.images(conflict)
    engine.generate_bundle(other.device_id, bundle)
    other.import_bundle(bundle)
    require_same_state(engine, other, "when a bundle with a lie was imported and handed on")
