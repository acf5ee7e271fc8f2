"""Promise 6: a bundle is one self-contained file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from hypothesis import strategies as st

from verification.search import Search, require
from verification.steps import Change, Step, a_change, a_resolution, a_send, histories
from verification.world import Device, World

NAMES = [
    "sync_bundle.db", "no suffix", "50%.bundle", "what?mode=ro", "a#b;c", "it's", 'quo"te.db', "ünï 表", "-",
    "x-journal", "x-wal", ".hidden", "file:x.db", "back\\slash", "x" * 200, "new\nline",
]  # fmt: skip


def self_contained(search: Search) -> None:
    """Carry a bundle under another name into a read-only folder, remove all else that its source had, and import it."""

    def claim(history: list[Step], written_as: str, carried_as: str) -> None:
        with World(2, search.tried) as world:
            world.play([*history, Change(0, "put", 0, (1, 2))])
            source, target = world.devices
            outbox, inbox = world.folder / "outbox", world.folder / "inbox"
            outbox.mkdir()
            inbox.mkdir()
            written = source.engine.generate_bundle(target.engine.device_id, outbox / written_as)
            require(written == outbox / written_as, f"the bundle was written to {written}")
            require(_names(outbox) == [written_as], f"beside the bundle stands something else: {_names(outbox)}")
            search.tried["bundles carried"] += 1
            carried = inbox / carried_as
            carried.write_bytes((outbox / written_as).read_bytes())
            (outbox / written_as).unlink()
            source.engine.close()
            source.path.rename(world.folder / "gone.db")
            _import_from(carried, target)
            source.path = world.folder / "gone.db"
            source.open()
            _require_all_arrived(source, target)

    search.run(
        claim,
        history=histories(a_change, a_change, a_send, a_resolution, most=10),
        written_as=st.sampled_from(NAMES),
        carried_as=st.sampled_from(NAMES),
    )


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _import_from(path: Path, target: Device) -> None:
    """Open the bundle as any SQLite tool does, then import it from where nothing can be written."""
    sealed = path.read_bytes()
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as tool:
        require(tool.execute("PRAGMA integrity_check").fetchall() == [("ok",)], "the bundle is no sound SQLite file")
        ((count,),) = tool.execute("SELECT sum(to_seq - from_seq) FROM devices")
    path.chmod(0o400)
    path.parent.chmod(0o500)
    try:
        result = target.engine.import_bundle(path)
    finally:
        path.parent.chmod(0o700)
    require(result.total_operations == count, f"the bundle carries {count} operations, not {result.total_operations}")
    require(_names(path.parent) == [path.name], f"the import left {_names(path.parent)} beside the bundle")
    require(path.read_bytes() == sealed, "the import changed the bundle")


def _require_all_arrived(source: Device, target: Device) -> None:
    known = target.engine.get_vector_clock()
    require(known.covers(source.engine.get_vector_clock()), "the bundle did not bring all that its source knew")
    found = {operation.op_id: repr(operation) for operation in target.engine.operations()}
    for operation in source.engine.operations():
        require(found[operation.op_id] == repr(operation), f"the bundle brought another {operation}")
