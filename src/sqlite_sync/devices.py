"""Two databases that go on under one device id: found, named, and mended (SPEC.md, section 12)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlite_sync import births, bundle, bundle_reader, catalog, log, peers, transcoder, versions
from sqlite_sync.bundle import DeviceRange, Header
from sqlite_sync.database import Database, new_uuid
from sqlite_sync.errors import BundleError, DeviceError
from sqlite_sync.operation import (
    ID_BYTES,
    ORDINAL_SHIFT,
    PARKED_KINDS,
    conflict_id,
    dot_number,
    op_id,
    ordinal_of,
    parked_id,
    seq_of,
)
from sqlite_sync.schema import open_log

_REMEDY = (
    "On the copy, or on the restored file, call renew_device with this bundle (sqlite-sync renew DB "
    "BUNDLE); then sync again"
)


def require_id(device_id: object) -> bytes:
    """Return a device id that is one; DeviceError otherwise."""
    if not isinstance(device_id, bytes) or len(device_id) != ID_BYTES:
        msg = (
            f"a device id is {ID_BYTES} bytes, not {device_id!r}: take it from the other device's "
            "initialize() or device_id"
        )
        raise DeviceError(msg)
    return device_id


def require_peer_id(database: Database, peer: object) -> bytes | None:
    """Return the id of another device, or None for anyone; DeviceError otherwise."""
    if peer is not None and require_id(peer) == database.device_id():
        msg = f"{require_id(peer).hex()} is this very device: give the id of the other one, as it says there"
        raise DeviceError(msg)
    return None if peer is None else require_id(peer)


def require_peer(database: Database, path: Path, header: Header) -> None:
    """Refuse a bundle of this very device."""
    if header.source_device_id != database.device_id():
        return
    own, device = log.own_seq(database), header.devices[0]
    if device.to_seq <= own and log.hlc_at(database, 0, device.to_seq) == device.to_hlc:
        msg = f"{path} was written by this very device: import it on the other one"
        raise BundleError(msg)
    raise _forked(path, device, "it was written under this device's id, with another history")


@dataclass(frozen=True, slots=True)
class Incoming:
    """A verified bundle, attached under the name `schema`."""

    path: Path
    header: Header
    schema: str


@contextmanager
def opened(database: Database, path: Path, schema: str) -> Iterator[Incoming]:
    """Verify and attach a bundle."""
    with bundle_reader.opened(path) as (copy, header), transcoder.reading(database, path, copy, schema):
        yield Incoming(path, header, schema)


def require_own_history(incoming: Incoming, device: DeviceRange, ordinal: int, known: int) -> None:
    """Refuse a bundle whose source holds more of this device than it has written itself."""
    if ordinal == 0 and device.to_seq > known:
        what = (
            f"its source holds {device.to_seq} operations of this device, which has written {known} itself: "
            "this file is an older copy"
        )
        raise _forked(incoming.path, device, what)


def require_same_history(database: Database, incoming: Incoming, device: DeviceRange, known: int, hlc: int) -> None:
    """Compare the last operation of a device that both sides know; DeviceError if it is not the same.

    `hlc` is its HLC here.
    """
    at = min(known, device.to_seq)
    there = {0: 0, device.from_seq: device.from_hlc, device.to_seq: device.to_hlc}.get(at)
    if there is None:
        there = _sent_hlc(database, incoming, dot_number(device.ordinal, at))
    if hlc != there:
        what = f"its operation {at} is not the one that is known here under this number"
        raise _forked(incoming.path, device, what)


def _forked(path: Path, device: DeviceRange, what: str) -> DeviceError:
    return DeviceError(
        f"two databases go on under the device id {device.device_id.hex()}: one is a copy of the "
        "other, or was restored from a backup. "
        f"Seen in {path}: {what}. Nothing was changed. {_REMEDY}"
    )


def _sent_hlc(database: Database, incoming: Incoming, dot: int) -> int | None:
    for part in (part for table in incoming.header.tables for part in bundle.parts(table)):
        hlc: int | None = database.one(
            f"SELECT d.base_hlc + b.hlc FROM {bundle.range_of(part, incoming.schema)} WHERE b.op = ?", (dot,)
        )
        if hlc is not None:
            return hlc
    return None


def agreed_seq(database: Database, incoming: Incoming) -> int:
    """Return the last own seq at which this file and an attached bundle have the same operation.

    DeviceError where the bundle does not show it: it is this file's own, or it begins after the histories part.
    """
    header, own = incoming.header, log.own_seq(database)
    device = next((device for device in header.devices if device.device_id == database.device_id()), None)
    if device is None:
        raise _unshown(incoming.path, "knows nothing of this device")
    proven = min(peers.holds(database, header.source_device_id).get(0, 0), own)  # imports compared the HLC there
    if log.hlc_at(database, 0, device.from_seq) == device.from_hlc:
        proven = max(proven, device.from_seq)
    if device.from_seq > proven and own > proven:
        raise _unshown(incoming.path, f"begins at operation {device.from_seq}, after the two histories part")
    agreed = max(proven, _last_same(database, incoming, device))
    if agreed == device.to_seq and header.source_device_id == database.device_id():
        raise _unshown(incoming.path, "was written by this very file")
    return agreed


def _last_same(database: Database, incoming: Incoming, device: DeviceRange) -> int:
    """Find the last own operation that stands in a bundle as well."""
    found = [
        database.one(
            f"SELECT max(o.op) FROM {bundle.range_of(part, incoming.schema)} CROSS JOIN main.sync_operations AS o "
            f"ON o.op = b.op + (d.ordinal << {ORDINAL_SHIFT}) AND o.hlc = d.base_hlc + b.hlc WHERE d.ordinal = ?",
            (device.ordinal,),
        )
        for table in incoming.header.tables
        for part in bundle.parts(table)
    ]
    return max((seq for seq in found if seq), default=0)


def _unshown(path: Path, why: str) -> DeviceError:
    return DeviceError(
        f"{path} {why}, so it does not show where they part. Nothing was changed. Let another device write a bundle "
        "of everything, generate_bundle(None, ...) (sqlite-sync bundle DB --everything), and renew with that"
    )


def renew(database: Database, agreed: int) -> bytes:
    """Go on under a new device id, in the caller's transaction; operations beyond `agreed` become the new device's."""
    former, new = database.device_id(), new_uuid()
    database.execute("UPDATE main.sync_devices SET device_id = ? WHERE ordinal = 0", (new,))
    ordinal = log.ordinal_for(database, former)
    database.execute("UPDATE main.sync_devices SET seq = ? WHERE ordinal = ?", (agreed, ordinal))
    _keep_births(database, agreed, ordinal)
    _renumber(database, agreed, ordinal)
    log.raise_floor(database, log.hlc_at(database, ordinal, agreed))  # the new device writes after the former one
    _move_contexts(database, agreed, ordinal)
    database.execute("DELETE FROM main.sync_peers WHERE ordinal = ?", (ordinal,))
    database.execute("UPDATE main.sync_peers SET ordinal = ?, seq = min(seq, ?) WHERE ordinal = 0", (ordinal, agreed))
    passed = "settled_seq = max(settled_seq - ?1, 0), named_seq = max(named_seq - ?1, 0)"
    database.execute(f"UPDATE main.sync_state SET {passed}", (agreed,))
    _rename_conflicts(database)
    return new


def _keep_births(database: Database, agreed: int, ordinal: int) -> None:
    """Let the rows that were born under the former id stay so: those that an operation up to `agreed` names."""
    entries = catalog.entries(database)
    for number in catalog.mapped(database):
        named = [
            f"SELECT DISTINCT {side}{position} AS number FROM main.sync_operations "
            f"WHERE op <= {agreed} AND table_no = {entry.number}"
            for entry in entries
            for position, numbered in entry.numbers.items()
            if numbered == number
            for side in "vo"
        ]
        births.keep(database, number, ordinal, " UNION ".join(named))


def _renumber(database: Database, agreed: int, ordinal: int) -> None:
    """Give every dot number of this device its new one, wherever it stands."""
    shift = ordinal << ORDINAL_SHIFT

    def moved(name: str) -> str:
        return f"{name} = CASE WHEN {name} > {agreed} THEN {name} - {agreed} ELSE {name} - {shift} END"

    with open_log(database):
        database.execute(f"UPDATE main.sync_operations SET op = op - {shift} WHERE op BETWEEN 1 AND {agreed}")
        database.execute(f"UPDATE main.sync_operations SET op = op - {agreed} WHERE op > {agreed}")
        database.execute(f"UPDATE main.sync_operations SET {moved('base')} WHERE base > 0")
    for table, column in (
        ("sync_forks", "shown"),
        ("sync_fork_operations", "op"),
        ("sync_conflicts", "local_op"),
        ("sync_conflicts", "remote_op"),
    ):
        database.execute(f"UPDATE main.{table} SET {moved(column)} WHERE {column} > 0")


def _move_contexts(database: Database, agreed: int, ordinal: int) -> None:
    """Split this device's contexts between the former device and the new one, which also knows the former."""
    database.execute(
        "UPDATE main.sync_contexts SET known_ordinal = ?, known_seq = min(known_seq, ?) WHERE known_ordinal = 0",
        (ordinal, agreed),
    )
    own = database.execute("SELECT known_ordinal, seq, known_seq FROM main.sync_contexts WHERE ordinal = 0").fetchall()
    database.execute("DELETE FROM main.sync_contexts WHERE ordinal = 0")
    insert = (
        "INSERT INTO main.sync_contexts VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET known_seq = "
        "max(known_seq, excluded.known_seq)"
    )
    database.executemany(insert, [(ordinal, known, seq, known_seq) for known, seq, known_seq in own if seq <= agreed])
    database.executemany(insert, [(0, known, max(seq - agreed, 1), known_seq) for known, seq, known_seq in own])
    database.executemany(insert, [(0, ordinal, 1, agreed)] if agreed else [])


def _rename_conflicts(database: Database) -> None:
    """Derive the ids of open conflicts again, since op ids come from device ids."""
    ids = log.device_ids(database)
    rows = database.execute("SELECT conflict_id, kind, local_op, remote_op FROM main.sync_conflicts").fetchall()
    renamed = []
    for former, kind, *dots in rows:
        ops = [op_id(ids[ordinal_of(dot)], seq_of(dot)) for dot in dots]
        renamed.append((parked_id(*ops) if kind in PARKED_KINDS else conflict_id(*ops), former))
    database.executemany("UPDATE main.sync_conflicts SET conflict_id = ? WHERE conflict_id = ?", renamed)
    versions.rename(database, renamed)
