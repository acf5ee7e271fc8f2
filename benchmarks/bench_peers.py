"""The same work done by others, each where it is installed: what docs/performance.md says how to install.

Each peer's statements are compared with the plain ones in the very same build of SQLite. PouchDB has none; it is
compared with those of Python's sqlite3.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import measure
from measure import Figure, Row, Scale, Timings, cpu

HERE = Path(__file__).parent / "peers"
ORIGINAL, NODE = "SYNC_BENCH_ORIGINAL", "SYNC_BENCH_NODE"
TIMEOUT_S = 600
ROUNDS = 3
FEW = 1_000  # rows for a peer that needs a pause after each, or a second for them all

Statements = Mapping[str, tuple[str, list[Row]]]


class Found(NamedTuple):
    """What one peer's round found: CPU seconds, and bytes."""

    name: str
    found: Timings


class Missing(Exception):  # noqa: N818 - no error: the peer is skipped with this word
    """A peer that is not installed."""


def figures(scale: Scale, folder: Path) -> Iterator[Figure]:
    """Let each peer insert, update and delete rows, export each, and import it elsewhere."""
    count = scale.rows // 5
    ours = _rounds(partial(_ours, folder, _statements(count)))
    yield from _figures(ours, ours, count, count)
    for peer, done in _peers(folder, count):
        try:
            rounds = _rounds(peer)
        except Missing as missing:
            print(f"skipped: {missing}", file=sys.stderr)
            continue
        yield from _figures(rounds, ours, done, count)


def _statements(count: int) -> Statements:
    rows = measure.UUID_TEXT.rows(count)
    keys = measure.scattered(rows)
    return {
        "insert": (measure.INSERT, rows),
        "update": (measure.UPDATE, [(-i, key) for i, key in enumerate(keys)]),
        "delete": (measure.DELETE, [(key,) for key in keys]),
    }


def _rounds(peer: Callable[[], Found]) -> list[Found]:
    return [peer() for _ in range(ROUNDS)]


def _figures(rounds: list[Found], ours: list[Found], count: int, most: int) -> Iterator[Figure]:
    [name] = {one.name for one in rounds}
    timings = [one.found for one in rounds]
    alone = [{step: value * count / most for step, value in one.found.items()} for one in ours]
    for step in timings[0]:
        verb, what = step.split(": ")
        if what == "plain":
            continue
        series = f"peers: {verb} {what}"
        if what == "bytes":
            yield Figure(f"{name}: {step}", None, timings[0][step] / count, " bytes", series=series, x=name)
            continue
        plain = f"{verb}: plain"
        both = [{"it": one[step], "plain": one.get(plain, our[plain])} for one, our in zip(timings, alone, strict=True)]
        figure = measure.ratio(f"{name}: {step}", None, both, ("it", "plain"), count)
        yield figure._replace(series=series, x=name)


# --- the peers ----------------------------------------------------------------------------------------------------


def _peers(folder: Path, count: int) -> Iterator[tuple[Callable[[], Found], int]]:
    """Yield the peers, and on how many rows they work."""
    yield partial(_session, folder, _statements(count)), count
    few, work = _written(folder / "few.json", _statements(FEW)), _written(folder / "work.json", _statements(count))
    yield partial(_original, few), FEW
    yield partial(_node, HERE / "crsqlite.mjs", work), count
    yield partial(_node, HERE / "sqliteai.mjs", work), count
    yield partial(_node, HERE / "pouchdb.mjs", few), FEW


def _written(path: Path, statements: Statements) -> Path:
    look = "SELECT * FROM items ORDER BY id"
    path.write_text(json.dumps({"schema": measure.UUID_TEXT.schema, "statements": statements, "look": look}))
    return path


def _ours(folder: Path, statements: Statements) -> Found:
    schema = measure.UUID_TEXT.schema
    plain = measure.plain(folder / "plain.db", schema)
    source, target = (measure.device(folder / f"{name}.db", schema) for name in ("source", "target"))
    found = Timings()
    for verb, (sql, rows) in statements.items():
        found[f"{verb}: plain"] = cpu(partial(measure.run_many, plain, sql, rows))
        found[f"{verb}: captured"] = cpu(partial(measure.run_many, source.connection, sql, rows))
        found[f"{verb}: exported"] = cpu(partial(measure.write, source, target))
        bundle = source.path.with_suffix(".bundle")
        found[f"{verb}: bytes"] = bundle.stat().st_size
        found[f"{verb}: imported"] = cpu(partial(target.import_bundle, bundle))
        measure.send(target, source)
    for one in (plain, source, target):
        one.close()
    return Found("this library", found)


def _session(folder: Path, statements: Statements) -> Found:
    """Use SQLite's session extension, on files in WAL mode; a session for each statement, as its changeset is asked for."""
    try:
        import apsw  # noqa: PLC0415 - it may not be there
    except ImportError:
        msg = "SQLite's session extension: apsw is not installed (pip install -e '.[bench]')"
        raise Missing(msg) from None
    plain, source, target = (_apsw(apsw, folder / f"session-{name}.db") for name in ("plain", "source", "target"))
    found = Timings()
    for verb, (sql, rows) in statements.items():
        session = apsw.Session(source, "main")
        session.attach("items")
        found[f"{verb}: plain"] = cpu(partial(measure.run_many, plain, sql, rows))
        found[f"{verb}: captured"] = cpu(partial(measure.run_many, source, sql, rows))
        changes: list[bytes] = []
        found[f"{verb}: exported"] = cpu(lambda session=session, changes=changes: changes.append(session.changeset()))
        found[f"{verb}: bytes"] = len(changes[0])
        found[f"{verb}: imported"] = cpu(partial(apsw.Changeset.apply, changes[0], target))
        session.close()
    for one in (plain, source, target):
        one.close()
    return Found(f"session extension (SQLite {apsw.sqlite_lib_version()})", found)


def _apsw(apsw: Any, path: Path) -> Any:  # noqa: ANN401 - a module that may not be there
    connection = apsw.Connection(str(measure.remove(path)))
    for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL", measure.UUID_TEXT.schema):
        connection.execute(statement)
    return connection


def _original(work: Path) -> Found:
    python = os.environ.get(ORIGINAL)
    if not python:
        msg = f"sqlite-sync-core 0.7.1: {ORIGINAL} does not name the Python of an environment that has it"
        raise Missing(msg)
    return _run([python, str(HERE / "original.py"), str(work)], None, None)


def _node(script: Path, work: Path) -> Found:
    folder, node = os.environ.get(NODE), shutil.which("node")
    if not folder or not node:
        msg = f"{script.stem}: " + (
            "node is not installed" if not node else f"{NODE} does not name the folder of node_modules"
        )
        raise Missing(msg)
    # Given on standard input, a module finds its packages from the folder in which it runs.
    return _run([node, "--input-type=module", "-", str(work)], Path(folder), script.read_text())


def _run(command: list[str], folder: Path | None, script: str | None) -> Found:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(  # noqa: S603 - what the user named
        command,
        cwd=folder,
        input=script,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        msg = f"{Path(command[-1]).name}: {command[0]} said {done.stderr.strip().splitlines()[-1:]}"
        raise Missing(msg)
    print(done.stderr, end="", file=sys.stderr)
    answer = json.loads(done.stdout.splitlines()[-1])
    return Found(answer["name"], answer["found"])
