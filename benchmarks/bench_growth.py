"""What grows with the history, the devices, the open conflicts and the width of a row: the points of pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import measure
from measure import Figure, Pair, Row, Scale, Timings, cpu

ROUNDS = 3
NEW = 1_000
# How wide, and of how many rows a share.
COLUMNS = {2: 2, 5: 2, 10: 2, 20: 5, 50: 10, 100: 10}
LENGTHS = {10: 2, 100: 2, 1_000: 2, 10_000: 20}


def figures(scale: Scale, folder: Path) -> Iterator[Figure]:
    """Measure all growth."""
    for history in _up_to(scale.longest_history, 10_000):
        yield from _meetings(measure.old_pair(folder, f"history-{history}", history), "operations of history", history)
    for devices in (2, *_up_to(scale.devices, 10)):
        pair = measure.old_pair(folder, f"devices-{devices}", scale.short_history, devices - 2)
        yield from _meetings(pair, "devices", devices)
    for conflicts in (0, *_up_to(scale.conflicts, 100)):
        yield from _meetings(_torn(folder, conflicts), "open conflicts", conflicts)
    for columns, share in COLUMNS.items():
        yield from _rows(folder, Width("columns", columns, columns, 20), scale.rows // share)
    for length, share in LENGTHS.items():
        yield from _rows(folder, Width("bytes of a text", length, 5, length), scale.rows // share)


def _up_to(most: int, first: int) -> list[int]:
    steps = [first * factor * 10**power for power in range(8) for factor in (1, 3)]
    return [step for step in steps if step < most] + [most]


# --- two devices that meet again ----------------------------------------------------------------------------------


def _meetings(pair: Pair, axis: str, x: int) -> Iterator[Figure]:
    """Write 1,000 operations, carry them over, look; as CPU time."""
    [(last,)] = pair.source.connection.execute("SELECT max(id) FROM items")
    rounds = [_meeting(pair, last + 1 + 1_000 * i) for i in range(ROUNDS + 1)][1:]  # the first fills caches
    pair.close()
    for verb in rounds[0]:
        best = min(timings[verb] for timings in rounds)
        worst = max(timings[verb] for timings in rounds)
        spread = f"{measure.number(best * 1e3)} to {measure.number(worst * 1e3)}"
        name = f"{verb}: {x:,} {axis}"
        yield Figure(name, None, best * 1e3, " ms", spread=spread, series=f"growth by {axis}: {verb}", x=x)


def _meeting(pair: Pair, first: int) -> Timings:
    source, target = pair
    timings = {f"capture {NEW:,} operations": cpu(partial(pair.edit, first))}
    timings[f"generate {NEW:,} operations"] = cpu(partial(measure.write, source, target))
    bundle = source.path.with_suffix(".bundle")
    timings[f"import {NEW:,} operations"] = cpu(partial(target.import_bundle, bundle))
    timings["status"] = cpu(target.status)
    timings["list conflicts"] = cpu(target.get_unresolved_conflicts)
    measure.send(target, source)
    return timings


def _torn(folder: Path, conflicts: int) -> Pair:
    """Give two devices that hold 20,000 rows, so many of them in conflict."""
    pair = measure.old_pair(folder, f"torn-{conflicts}", 20_000)
    for engine, amount in zip(pair, (-1, -2), strict=True):
        changes = [(amount, key) for key in range(1, conflicts + 1)]
        measure.run_many(engine.connection, measure.UPDATE, changes)
    for here, there in (pair, pair[::-1], pair):
        measure.send(here, there)
    if (found := len(pair.target.get_unresolved_conflicts())) != conflicts:
        msg = f"{found} conflicts instead of {conflicts}"
        raise AssertionError(msg)
    return pair


# --- rows ---------------------------------------------------------------------------------------------------------


class Width(NamedTuple):
    """Rows with so many columns, whose texts have such a length; one of both is the axis of a picture."""

    axis: str
    x: int
    columns: int
    length: int


def _rows(folder: Path, width: Width, count: int) -> Iterator[Figure]:
    """Compare what is done with such rows with the plain statements."""
    axis, x, columns, length = width
    names = ", ".join(f"c{n} {('INTEGER', 'TEXT')[n % 2]}" for n in range(columns - 1))
    schema = f"CREATE TABLE items (id INTEGER PRIMARY KEY, {names})"
    text = (measure.integer_rows(1)[0][2] * (length // 76 + 1))[:length]
    rows = [(i, *(text if n % 2 else i for n in range(columns - 1))) for i in range(1, count + 1)]
    rounds = [_exchange(folder, schema, rows) for _ in range(ROUNDS)]
    for verb, against in (
        ("insert captured", "insert"),
        ("update captured", "update"),
        ("inserts written", "insert"),
        ("inserts imported", "insert"),
    ):
        name = f"{verb}: {x:,} {axis}, against the plain statements"
        figure = measure.ratio(name, None, rounds, (verb, against), count)
        yield figure._replace(series=f"rows by {axis}: {verb}", x=x)


def _exchange(folder: Path, schema: str, rows: list[Row]) -> Timings:
    plain = measure.plain(folder / "plain.db", schema)
    source, target = (measure.device(folder / f"{name}.db", schema) for name in ("source", "target"))
    insert = f"INSERT INTO items VALUES ({', '.join('?' for _ in rows[0])})"
    changes = [(-1, key) for key in measure.scattered(rows)]
    change = "UPDATE items SET c0 = ? WHERE id = ?"
    actions: Mapping[str, Callable[[], object]] = {
        "insert": partial(measure.run_many, plain, insert, rows),
        "insert captured": partial(measure.run_many, source.connection, insert, rows),
        "inserts written": partial(measure.write, source, target),
        "inserts imported": partial(target.import_bundle, source.path.with_suffix(".bundle")),
        "update": partial(measure.run_many, plain, change, changes),
        "update captured": partial(measure.run_many, source.connection, change, changes),
    }
    timings = {name: cpu(action) for name, action in actions.items()}
    for one in (plain, source, target):
        one.close()
    return timings
