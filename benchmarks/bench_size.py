"""How many bytes an operation takes, in the log, in a bundle and in a compressed bundle; and memory."""

from __future__ import annotations

import bz2
import lzma
import multiprocessing
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import measure
from measure import Figure, Row, Scale, cpu

from sqlite_sync import SyncEngine

MEGABYTES = 150
COMPRESSED = 45
PACKERS: Mapping[str, Callable[[bytes], bytes]] = {
    "zlib 1": partial(zlib.compress, level=1),
    "zlib 6": partial(zlib.compress, level=6),
    "bz2 9": bz2.compress,
    "lzma 6": lzma.compress,
}


def figures(scale: Scale, folder: Path) -> Iterator[Figure]:
    """Measure sizes, then memory."""
    rows = measure.INTEGER.rows(scale.rows)
    for verb, sql, values in (
        ("insert", measure.INSERT, rows),
        ("update of one column", measure.UPDATE, [(-1, row[0]) for row in rows]),
        ("delete", measure.DELETE, [(row[0],) for row in rows]),
    ):
        yield from _sizes(folder, verb, sql, values, rows)
    yield from _memory(scale, folder)


def raw(row: Row) -> int:
    """Count the bytes of a row's values: a text its characters, a number what SQLite needs for it."""
    return sum(len(value.encode()) if isinstance(value, str) else _number(value) for value in row)


def _number(value: float) -> int:
    if isinstance(value, float):
        return 8
    return next(size for size in (1, 2, 3, 4, 6, 8) if -(1 << 8 * size - 1) <= value < 1 << 8 * size - 1)


def _sizes(folder: Path, verb: str, sql: str, values: list[Row], rows: list[Row]) -> Iterator[Figure]:
    """Measure what these statements, on these rows, add to the log and make of a bundle."""
    with measure.device(folder / "a.db") as source, measure.device(folder / "b.db") as target:
        if verb != "insert":
            measure.run_many(source.connection, measure.INSERT, rows)
            measure.send(source, target)
            measure.send(target, source)
        [(before,)] = source.connection.execute("SELECT max(op) FROM sync_operations")
        measure.run_many(source.connection, sql, values)
        log = _log_bytes(source, before) / len(rows)
        written = cpu(partial(measure.write, source, target))
        content = source.path.with_suffix(".bundle").read_bytes()
    is_row = verb != "update of one column"
    bare = sum(map(raw, rows if is_row else values)) / len(rows)
    absolute = f"{measure.number(bare)} bytes of values"
    where = f"bytes of an operation: {verb}"
    yield Figure(f"{where}, its values alone", None, bare, " bytes", series=where, x="values")
    yield Figure(f"{where}, in the log", None, log, " bytes", absolute, series=where, x="log")
    yield Figure(f"{where}, in a bundle", None, len(content) / len(rows), " bytes", absolute, series=where, x="bundle")
    for packer, pack in PACKERS.items():
        packed: list[bytes] = []
        seconds = cpu(lambda pack=pack, packed=packed: packed.append(pack(content)))
        took = f"{measure.number(seconds * 1e6 / len(rows))} µs to compress, {measure.number(written * 1e6 / len(rows))} µs to write"
        size = len(packed[0]) / len(rows)
        yield Figure(f"{where}, compressed by {packer}", None, size, " bytes", took, series=where, x=packer)


def _log_bytes(engine: SyncEngine, after: int) -> int:
    """Measure the operations after one, copied to a file of their own."""
    connection = engine.connection
    names = ", ".join(name for _, name, *_ in connection.execute("PRAGMA table_info(sync_operations)") if name != "op")
    connection.execute("ATTACH ':memory:' AS alone")
    connection.execute(f"CREATE TABLE alone.log (op INTEGER PRIMARY KEY, {names})")
    connection.execute("INSERT INTO alone.log SELECT * FROM sync_operations WHERE op > ?", (after,))
    [(size,)] = connection.execute(
        "SELECT page_count * page_size FROM pragma_page_count('alone'), pragma_page_size('alone')"
    )
    connection.execute("DETACH alone")
    return int(size)


# --- memory -------------------------------------------------------------------------------------------------------


def _memory(scale: Scale, folder: Path) -> Iterator[Figure]:
    """Let processes of their own write and take in a long history."""
    pair = measure.old_pair(folder, f"history-{scale.long_history}", scale.long_history)
    pair.close()
    bundle = folder / "history.bundle"
    for verb, act in (("generated", _generate), ("imported", _import)):
        # A process starts with the peak of the one that forks it, and the fork server is small.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("forkserver")) as pool:
            before, after = pool.submit(act, folder, pair.source.path, bundle).result()
        name = f"memory while {scale.long_history:,} operations are {verb}"
        yield Figure(name, MEGABYTES, after, " MB", f"{measure.number(before)} MB before")


def _generate(_: Path, source: Path, bundle: Path) -> tuple[float, float]:
    with SyncEngine(source) as engine:
        engine.initialize()
        before = measure.peak()
        engine.generate_bundle(None, bundle)
    return before, measure.peak()


def _import(folder: Path, _: Path, bundle: Path) -> tuple[float, float]:
    with measure.device(folder / "fresh.db") as engine:
        before = measure.peak()
        engine.import_bundle(bundle)
    return before, measure.peak()
