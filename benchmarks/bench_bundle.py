"""What it costs to write a bundle, and how large it is."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import measure
from measure import Figure, Key, Pair, Row, Scale, Timings, cpu

WRITTEN = 0.6
BYTES_PER_INSERT = 140
COMPRESSED_BYTES_PER_INSERT = 45
BY_HISTORY = 1.3
BY_DEVICES = 1.5
SAME_BYTES = 1.01


def figures(scale: Scale, folder: Path) -> Iterator[Figure]:
    """Measure everything about writing bundles."""
    for key in measure.KEYS:
        rows = key.rows(scale.rows)
        rounds = [_inserts(folder, key, rows) for _ in range(scale.rounds)]
        name = f"bundle written: inserts, {key.name}, against a plain bulk insert"
        yield measure.ratio(name, WRITTEN, rounds, ("written", "plain"), len(rows))
    yield from _bytes(folder, measure.INTEGER.rows(scale.rows))
    yield _by_history(scale, folder)
    yield from _by_devices(scale, folder)


def _by_history(scale: Scale, folder: Path) -> Figure:
    few, many = (measure.old_pair(folder, f"history-{n}", n) for n in (scale.short_history, scale.long_history))
    rounds = measure.compare_pairs(few, many, scale.rounds)
    few.close()
    many.close()
    name = f"bundle written: 1,000 operations after {scale.long_history:,}, against after {scale.short_history:,}"
    return measure.ratio(name, BY_HISTORY, rounds, ("many written", "few written"), 1000)


def _inserts(folder: Path, key: Key, rows: Sequence[Row]) -> Timings:
    plain, engine = measure.plain(folder / "plain.db", key.schema), measure.device(folder / "captured.db", key.schema)
    measure.run_many(engine.connection, measure.INSERT, rows)
    timings = {
        "plain": cpu(partial(measure.run_many, plain, measure.INSERT, rows)),
        "written": cpu(partial(engine.generate_bundle, bytes(16), folder / "inserts.bundle")),
    }
    plain.close()
    engine.close()
    return timings


def _bytes(folder: Path, rows: Sequence[Row]) -> Iterator[Figure]:
    with measure.device(folder / "captured.db") as engine:
        measure.run_many(engine.connection, measure.INSERT, rows)
        bundle = folder / "inserts.bundle"
        engine.generate_bundle(bytes(16), bundle)
        row = f"user row of {measure.row_bytes(folder, rows):.0f} bytes"
    content = bundle.read_bytes()
    yield Figure("bundle bytes per insert", BYTES_PER_INSERT, len(content) / len(rows), " bytes", row)
    compressed = len(zlib.compress(content, 6)) / len(rows)
    yield Figure("the same, compressed by zlib", COMPRESSED_BYTES_PER_INSERT, compressed, " bytes", row)


def _by_devices(scale: Scale, folder: Path) -> Iterator[Figure]:
    """Compare two devices that know many others with two that know none."""
    few, many = (measure.old_pair(folder, f"devices-{n}", scale.short_history, n) for n in (0, scale.devices))
    devices = f"{scale.devices:,} more devices in the clock"
    rounds = measure.compare_pairs(few, many, scale.rounds)
    yield measure.ratio(
        f"bundle written: 1,000 operations with {devices}", BY_DEVICES, rounds, ("many written", "few written"), 1000
    )
    bytes_each = [_bytes_each(pair) for pair in (few, many)]
    for where, less, more in zip(("log", "bundle"), *bytes_each, strict=True):
        absolute = f"{measure.number(more)} against {measure.number(less)} bytes"
        yield Figure(f"{where} bytes per operation with {devices}", SAME_BYTES, more / less, " x", absolute)
    few.close()
    many.close()


def _bytes_each(pair: Pair) -> tuple[float, float]:
    """Return what an operation takes in the log and in a bundle, apart from what each bundle has once."""
    connection = pair.source.connection
    empty, before = measure.write(pair.source, pair.target).stat().st_size, measure.size(connection)
    [(last,)] = connection.execute("SELECT max(id) FROM items")
    count = 20_000
    connection.execute(measure.FILL, (last + 1, last + count))
    full = measure.write(pair.source, pair.target).stat().st_size
    return (measure.size(connection) - before) / count, (full - empty) / count
