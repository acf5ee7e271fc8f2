"""What it costs to take a bundle in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import measure
from measure import Figure, Key, Row, Scale, Timings, cpu

from sqlite_sync import SyncEngine

REACH = {"inserts": 1.7, "updates": 2.0, "deletes": 2.2}
AGAIN = 0.02
BY_HISTORY = 1.3
BY_DEVICES = 1.5
BY_CONFLICTS = 2.5


def figures(scale: Scale, folder: Path) -> Iterator[Figure]:
    """Measure everything about importing."""
    for key in measure.KEYS:
        rows = key.rows(scale.rows)
        rounds = [_statements(folder, key, rows) for _ in range(scale.rounds)]
        for what, reach in REACH.items():
            name = f"bundle imported: {what}, {key.name}, against the plain statements"
            yield measure.ratio(name, reach, rounds, (what, f"plain {what}"), len(rows))
        for what in REACH:
            name = f"the same bundle again: {what}, {key.name}, against the first time"
            yield measure.ratio(name, AGAIN, rounds, (f"{what} again", what), len(rows))
    yield _by_history(scale, folder)
    yield _by_devices(scale, folder)
    yield from _conflicts(scale, folder)


def _statements(folder: Path, key: Key, rows: Sequence[Row]) -> Timings:
    """Run the statements on a plain database, and import them from a device where they were captured."""
    plain = measure.plain(folder / "plain.db", key.schema)
    source, target = (measure.device(folder / f"{name}.db", key.schema) for name in ("source", "target"))
    keys = measure.scattered(rows)
    timings = Timings()
    for what, sql, values in (
        ("inserts", measure.INSERT, rows),
        ("updates", measure.UPDATE, [(-i, key) for i, key in enumerate(keys)]),
        ("deletes", measure.DELETE, [(key,) for key in keys]),
    ):
        measure.run_many(source.connection, sql, values)
        bundle = measure.write(source, target)
        timings[f"plain {what}"] = cpu(partial(measure.run_many, plain, sql, values))
        timings[what] = cpu(partial(target.import_bundle, bundle))
        timings[f"{what} again"] = cpu(partial(target.import_bundle, bundle))
        measure.send(target, source)
    for one in (plain, source, target):
        one.close()
    return timings


def _by_history(scale: Scale, folder: Path) -> Figure:
    few, many = (measure.old_pair(folder, f"history-{n}", n) for n in (scale.short_history, scale.long_history))
    rounds = measure.compare_pairs(few, many, scale.rounds)
    few.close()
    many.close()
    name = f"bundle imported: 1,000 operations after {scale.long_history:,}, against after {scale.short_history:,}"
    return measure.ratio(name, BY_HISTORY, rounds, ("many imported", "few imported"), 1000)


def _by_devices(scale: Scale, folder: Path) -> Figure:
    few, many = (measure.old_pair(folder, f"devices-{n}", scale.short_history, n) for n in (0, scale.devices))
    rounds = measure.compare_pairs(few, many, scale.rounds)
    few.close()
    many.close()
    name = f"bundle imported: 1,000 operations with {scale.devices:,} more devices in the clock"
    return measure.ratio(name, BY_DEVICES, rounds, ("many imported", "few imported"), 1000)


def _conflicts(scale: Scale, folder: Path) -> Iterator[Figure]:
    """Import an update of every row where some of them were updated too, and where none was."""
    rows = measure.INTEGER.rows(10 * scale.conflicts)
    rounds = [_torn_and_calm(folder, rows, scale.conflicts) for _ in range(scale.rounds)]
    count = scale.conflicts
    name = f"bundle imported: {len(rows):,} updates with {count:,} conflicts, against none"
    yield measure.ratio(name, BY_CONFLICTS, rounds, ("torn", "calm"), len(rows))
    torn, calm = (min(timings[name] for timings in rounds) for name in ("torn", "calm"))
    yield Figure("each conflict that an import opens", None, (torn - calm) * 1e6 / count, " µs")


def _torn_and_calm(folder: Path, rows: Sequence[Row], count: int) -> Timings:
    source, calm, torn = (measure.device(folder / f"{name}.db") for name in ("source", "calm", "torn"))
    measure.run_many(source.connection, measure.INSERT, rows)
    for target in (calm, torn):
        measure.send(source, target)
        measure.send(target, source)
    keys = measure.scattered(rows)
    measure.run_many(torn.connection, measure.UPDATE, [(-2, key) for key in keys[:count]])
    measure.run_many(source.connection, measure.UPDATE, [(-1, key) for key in keys])
    timings = {name: _import_time(source, target) for name, target in (("calm", calm), ("torn", torn))}
    if (found := len(torn.get_unresolved_conflicts())) != count:
        msg = f"{found} conflicts instead of {count}"
        raise AssertionError(msg)
    for engine in (source, calm, torn):
        engine.close()
    return timings


def _import_time(source: SyncEngine, target: SyncEngine) -> float:
    return cpu(partial(target.import_bundle, measure.write(source, target)))
