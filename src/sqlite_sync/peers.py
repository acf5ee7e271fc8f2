"""What each peer said it holds, and which bundles were taken in.

Only what came from a peer says what it has: a file that was written for it may have been lost.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlite_sync.database import Database


def holds(database: Database, peer_device_id: bytes) -> dict[int, int]:
    """Return what a peer said it holds, by ordinal; nothing where it was never heard of."""
    rows = database.execute(
        "SELECT p.ordinal, p.seq FROM main.sync_devices AS d JOIN main.sync_peers AS p ON p.peer_ordinal = "
        "d.ordinal WHERE d.device_id = ?",
        (peer_device_id,),
    )
    return dict(rows.fetchall())


def note(database: Database, peer_ordinal: int, bundle_id: bytes, held: Mapping[int, int]) -> None:
    """Note what a peer says it holds; its newest word counts, also where it is less: its file was restored."""
    if not database.one(
        "SELECT max(bundle_id) > ? FROM main.sync_bundles WHERE ordinal = ?", (bundle_id, peer_ordinal)
    ):
        database.execute("DELETE FROM main.sync_peers WHERE peer_ordinal = ?", (peer_ordinal,))
    database.executemany(
        "INSERT INTO main.sync_peers VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET seq = max(seq, excluded.seq)",
        [(peer_ordinal, ordinal, seq) for ordinal, seq in held.items()],
    )


def known(database: Database) -> list[bytes]:
    """List the device ids of all peers that were heard of."""
    rows = database.execute(
        "SELECT device_id FROM main.sync_devices "
        "WHERE ordinal IN (SELECT peer_ordinal FROM main.sync_peers) ORDER BY ordinal"
    )
    return [device_id for (device_id,) in rows]


def lacks(database: Database, peer_device_id: bytes) -> int:
    """Count the operations that a peer has not acknowledged."""
    held = holds(database, peer_device_id)
    clock = database.execute("SELECT ordinal, seq FROM main.sync_clock").fetchall()
    return sum(max(seq - held.get(ordinal, 0), 0) for ordinal, seq in clock)


def was_imported(database: Database, bundle_id: bytes) -> bool:
    """Tell whether this very bundle was imported before."""
    return bool(database.one("SELECT 1 FROM main.sync_bundles WHERE bundle_id = ?", (bundle_id,)))


def imported(database: Database, digest: bytes) -> tuple[bytes, bytes, int] | None:
    """Return the bundle id, source and number of operations of the imported bundle with this digest, if any."""
    found: tuple[bytes, bytes, int] | None = database.execute(
        "SELECT b.bundle_id, d.device_id, b.operations FROM main.sync_bundles AS b "
        "JOIN main.sync_devices AS d USING (ordinal) "
        "WHERE b.digest = ?",
        (digest,),
    ).fetchone()
    return found


def note_bundle(database: Database, bundle: tuple[bytes, int, bytes], ordinal: int, now_ms: int) -> None:
    """Note that a bundle, given by its id, number of operations and digest, was imported."""
    bundle_id, operations, digest = bundle
    database.execute(
        "INSERT INTO main.sync_bundles VALUES (?, ?, ?, ?, ?)", (bundle_id, ordinal, now_ms, operations, digest)
    )
