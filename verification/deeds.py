"""What happens to the devices of a fleet, one short function for each kind of step."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from sqlite_sync import (
    BundleError,
    ConflictError,
    ConstraintError,
    DatabaseError,
    DeviceError,
    GapError,
    KeepBoth,
    LastWriteWins,
    MergeFields,
    Operation,
    PreferRemote,
    Strategy,
)
from verification.compare import difference, dump, plain
from verification.fitting import literal, often, seldom
from verification.fleet import Device, Fleet, Parcel, has_column
from verification.naming import Image, RowName, is_same, row_of
from verification.oracle import look, unchanged
from verification.phrases import Writer
from verification.search import fail, require
from verification.subject import quote

DAY_S = 86_400
OFFSETS_S = [0, 0, 3_650 * DAY_S, -3_650 * DAY_S, 36_500 * DAY_S, -20_000 * DAY_S, 1]
MOST_DEVICES = 6
STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "last-write-wins": LastWriteWins,
    "merge-fields:last-write-wins": lambda: MergeFields(LastWriteWins()),
    "merge-fields": MergeFields,
    "keep-both": KeepBoth,
    "prefer-remote": PreferRemote,
}
ATTACKS = [
    "UPDATE sync_operations SET hlc = hlc + 1",
    "DELETE FROM sync_operations",
    "INSERT OR REPLACE INTO sync_operations SELECT * FROM sync_operations LIMIT 1",
    "UPDATE OR REPLACE sync_operations SET op = op + 1",
]

Deed = Callable[[Fleet, Device, Random], None]


# --- writing ------------------------------------------------------------------------------------------------------


def write(fleet: Fleet, device: Device, chance: Random) -> None:
    """Let a program write; what was captured, replayed, must be what it did."""
    statements = Writer(fleet.fitting, device.content(), chance).script()
    before = device.content()
    is_outside = chance.random() < 0.5  # noqa: PLR2004
    with device.program(is_outside=is_outside) as connection:
        run(fleet, connection, statements)
    fleet.transcript.sql(device.number, statements, is_enforcing=device.is_enforcing)
    news = fleet.harvest(device)
    if device.is_intact:
        _require_replay(fleet, device, before, news)


def run(fleet: Fleet, connection: sqlite3.Connection, statements: Sequence[str]) -> None:
    """Run statements; a constraint may refuse each."""
    for statement in statements:
        try:
            connection.execute(statement)
            fleet.tried["statements"] += 1
        except (sqlite3.IntegrityError, sqlite3.OperationalError) as error:
            if "sync_" in str(error):
                fail(f"capture broke a statement of the application: {statement}: {error}")
            fleet.tried["statements refused"] += 1
    if connection.in_transaction:  # a deferred foreign key refused the COMMIT
        connection.execute("ROLLBACK")


def _require_replay(
    fleet: Fleet, device: Device, before: dict[str, dict[RowName, Image]], news: Sequence[Operation]
) -> None:
    for operation in news:
        rows, name = before[operation.table_name], row_of(fleet.subject, operation)
        if operation.kind == "insert":
            rows[name] = operation.new
        elif operation.kind == "delete":
            rows.pop(name, None)
        elif name in rows:
            rows[name] = {**rows[name], **operation.new}
    fleet.tried["9 statements replayed"] += 1
    now = device.content()
    for table in device.enabled:
        left, right = before[table], now[table]
        differing = {name for name in left.keys() | right.keys() if not is_same(left.get(name), right.get(name))}
        require(not differing, f"what was captured on device {device.number} does not give {table}: {differing}")


def uncaptured(fleet: Fleet, device: Device, chance: Random) -> None:
    """Let a capture trigger go missing, and something be written before anybody notices."""
    table = chance.choice(fleet.subject.tables).name
    with device.program(is_outside=True) as connection:
        triggers = connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ? AND name LIKE 'sync!_%' ESCAPE '!'",
            (table,),
        ).fetchall()
        drops = [f"DROP TRIGGER {quote(name)}" for (name,) in triggers if often(chance)]
        device.is_intact = False
        statements = [*drops, *Writer(fleet.fitting, device.content(), chance).script()]
        run(fleet, connection, statements)
    fleet.transcript.sql(device.number, statements, is_enforcing=device.is_enforcing)
    fleet.harvest(device)


def reconcile(fleet: Fleet, device: Device, _: Random) -> None:
    """Mend capture."""
    device.engine.reconcile()
    fleet.transcript.sync(device.number, "reconcile")
    fleet.harvest(device)
    look(fleet, device)


def attack(fleet: Fleet, device: Device, chance: Random) -> None:
    """Try to change the log from a plain connection."""
    if not sum(device.clock.values()):
        return
    with (
        unchanged(fleet, device, "1 attacks refused", "the log was attacked"),
        plain(device.path, fleet.subject.connect) as program,
    ):
        statement = chance.choice(ATTACKS)
        try:
            program.execute(statement)
        except sqlite3.IntegrityError as error:
            require("append-only" in str(error), f"{statement}: {error}")
        else:
            fail(f"the database did not refuse: {statement}")


# --- bundles ------------------------------------------------------------------------------------------------------


def send(fleet: Fleet, device: Device, chance: Random) -> None:
    """Let a device send another what it lacks."""
    target = fleet.at(device.number + chance.randrange(1, 6))
    if parcel := fleet.post(device, target):
        deliver(fleet, parcel, target)


def post(fleet: Fleet, device: Device, chance: Random) -> None:
    """Let a device write a bundle that is under way, or lost."""
    fleet.post(device, fleet.at(device.number + chance.randrange(1, 6)), acknowledge=seldom(chance))


def arrive(fleet: Fleet, device: Device, chance: Random) -> None:
    """Let a bundle arrive somewhere: at its addressee or a third party, late, or again."""
    if fleet.parcels:
        deliver(fleet, chance.choice(fleet.parcels), device)


def deliver(fleet: Fleet, parcel: Parcel, device: Device) -> None:
    """Import a bundle; where it must be refused, nothing may change."""
    gaps = [one for one, low, _ in parcel.ranges if device.clock.get(one, 0) < low]
    carried = parcel.path.read_bytes()
    number = device.number
    fleet.transcript.sync(number, "import", parcel.path.name)
    if parcel.source_device == device.engine.device_id:
        with unchanged(fleet, device, "10 refusals", "a device was given its own bundle"):
            _require_refused(device, parcel.path, BundleError)
    elif parcel.bundle_id in device.imported:
        look(fleet, device)
        with unchanged(fleet, device, "5 repeats", "a bundle was imported again"):
            result = device.engine.import_bundle(parcel.path)
            require(result.skipped, "a bundle was imported before, and was not skipped")
    elif gaps:
        with unchanged(fleet, device, "10 refusals", "a bundle was refused for a gap"):
            _require_refused(device, parcel.path, GapError)
    else:
        _take_in(fleet, parcel, device)
    require(parcel.path.read_bytes() == carried, "an import changed the bundle")
    fleet.tried["6 bundles carried"] += 1


def _take_in(fleet: Fleet, parcel: Parcel, device: Device) -> None:
    before = dict(device.clock)
    result = device.engine.import_bundle(parcel.path)
    device.imported.add(parcel.bundle_id)
    fleet.harvest(device, is_mixed=True)
    expected = {one: max(before.get(one, 0), high) for one, _, high in parcel.ranges} | {
        one: seq for one, seq in before.items() if one not in {two for two, _, _ in parcel.ranges}
    }
    own = device.engine.device_id
    gained = {one: seq for one, seq in device.clock.items() if one != own and seq}
    require(
        gained == {one: seq for one, seq in expected.items() if one != own and seq},
        f"device {device.number} knew {before}, took in {parcel.ranges}, and knows {device.clock}",
    )
    duplicates = sum(max(min(before.get(one, 0), high) - low, 0) for one, low, high in parcel.ranges)
    require(
        (result.total_operations, result.duplicate_count) == (parcel.total, duplicates),
        f"of {parcel.total} operations {duplicates} were known, but it says {result}",
    )
    fleet.tried["5 imports"] += 1
    look(fleet, device)


def _require_refused(device: Device, path: Path, error: type[Exception]) -> None:
    try:
        device.engine.import_bundle(path)
    except error:
        return
    fail(f"device {device.number} took in {path.name}, which it must refuse by {error.__name__}")


def damage(fleet: Fleet, device: Device, chance: Random) -> None:
    """Let a cut, changed or extended bundle arrive."""
    if not fleet.parcels:
        return
    whole = bytearray(chance.choice(fleet.parcels).path.read_bytes())
    match chance.randrange(3):
        case 0:
            del whole[chance.randrange(len(whole)) :]
        case 1:
            whole[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        case _:
            whole += bytes(chance.randrange(1, 100))
    path = fleet.folder / "damaged.bundle"
    path.write_bytes(whole)
    with unchanged(fleet, device, "11 damaged bundles refused", "a damaged bundle was refused"):
        _require_refused(device, path, BundleError)


def interrupt(fleet: Fleet, device: Device, chance: Random) -> None:
    """Break an import somewhere inside SQLite, then let it succeed."""
    fresh = [parcel for parcel in fleet.parcels if _is_takeable(parcel, device)]
    if not fresh:
        return
    parcel, connection = chance.choice(fresh), device.engine.connection
    place, seen = chance.randrange(1, 400), [0]

    def break_off() -> int:
        seen[0] += 1
        return seen[0] == place

    before = dump(device.path, fleet.subject.connect)
    connection.set_progress_handler(break_off, 20)
    try:
        device.engine.import_bundle(parcel.path)
    except (sqlite3.Error, DatabaseError, BundleError):
        is_broken_off = True
    else:
        is_broken_off = False
    connection.set_progress_handler(None, 0)
    if is_broken_off:
        changed = difference(before, dump(device.path, fleet.subject.connect))
        require(not changed, f"an import was broken off, and yet device {device.number} changed: {changed}")
        require(not connection.in_transaction, "an import was broken off, and its transaction is open")
        fleet.tried["10 imports broken off"] += 1
        deliver(fleet, parcel, device)
    else:
        device.imported.add(parcel.bundle_id)
        fleet.transcript.sync(device.number, "import", parcel.path.name)
        fleet.harvest(device, is_mixed=True)
        look(fleet, device)


def busy(fleet: Fleet, device: Device, chance: Random) -> None:
    """Let another process hold a transaction while an import begins."""
    fresh = [parcel for parcel in fleet.parcels if _is_takeable(parcel, device)]
    if not fresh:
        return
    parcel = chance.choice(fresh)
    with device.program(is_outside=True) as other:
        other.execute("BEGIN IMMEDIATE")
        _require_refused(device, parcel.path, DatabaseError)
        other.execute("ROLLBACK")
    fleet.tried["10 refusals"] += 1
    deliver(fleet, parcel, device)


def _is_takeable(parcel: Parcel, device: Device) -> bool:
    is_new = parcel.bundle_id not in device.imported and parcel.source_device != device.engine.device_id
    return is_new and all(device.clock.get(one, 0) >= low for one, low, _ in parcel.ranges)


def visit(fleet: Fleet, device: Device, chance: Random) -> None:
    """Let a device visit the shared folder, from which a file may be gone."""
    files = sorted(fleet.shared.glob("*/*.bundle"))
    if files and seldom(chance):
        lost = chance.choice(files)
        lost.unlink()
        fleet.transcript.say("a file of the shared folder is lost: the first of those that are there")
    result = device.engine.sync_folder(fleet.shared)
    fleet.transcript.lines.append("mkdir -p shared")
    fleet.transcript.sync(device.number, "sync", "shared")
    require(not result.refused and not result.ignored, f"of a sound folder, this was refused or ignored: {result}")
    device.imported.update(one.bundle_id for one in result.imported)
    fleet.harvest(device, is_mixed=True)
    fleet.tried["6 folders visited"] += 1
    look(fleet, device)


# --- conflicts ----------------------------------------------------------------------------------------------------


def resolve(fleet: Fleet, device: Device, chance: Random) -> None:
    """Let somebody close a conflict, in one of the ways there are."""
    found = look(fleet, device)
    if not found:
        return
    place = chance.randrange(len(found))
    conflict = found[place]
    row = device.engine.images(conflict).remote if conflict.is_parked else device.engine.images(conflict).local
    facts = fleet.subject.table(conflict.table_name)
    values = Writer(fleet.fitting, device.content(), chance).values(facts)
    choice = chance.choice(["local", "remote", None, values if row is not None and values else "local"])
    spelled = {name: literal(value) for name, value in choice.items()} if isinstance(choice, dict) else choice
    fleet.transcript.resolve(device.number, place, spelled or "delete")
    before = dump(device.path, fleet.subject.connect)
    try:
        operation = device.engine.resolve(conflict, choice)
    except (ConflictError, ConstraintError):
        changed = difference(before, dump(device.path, fleet.subject.connect))
        require(not changed, f"a resolution was refused, and yet device {device.number} changed: {changed}")
        fleet.tried["10 refusals"] += 1
        return
    fleet.harvest(device)
    heads = fleet.model.row((conflict.table_name, fleet.written[operation.op_id][1].row), device.clock)
    require(heads is not None and list(heads.heads) == [operation.op_id], f"a resolution leaves other heads: {heads}")
    left = {one.conflict_id for one in look(fleet, device)}
    require(conflict.conflict_id not in left, f"a conflict was resolved, and is open: {conflict}")
    fleet.tried["4 resolutions"] += 1


def decide(fleet: Fleet, device: Device, chance: Random) -> None:
    """Let a strategy decide about all conflicts."""
    if not look(fleet, device):
        return
    name = chance.choice(sorted(STRATEGIES))
    result = device.engine.resolve_all(STRATEGIES[name]())
    fleet.transcript.sync(device.number, "resolve", "--strategy", name)
    fleet.harvest(device)
    left = {one.conflict_id for one in look(fleet, device)}
    closed = {one.conflict.conflict_id for one in result.resolved}
    require(not closed & left, f"{name} says that it closed what is open on device {device.number}: {closed & left}")
    fleet.tried["4 resolutions"] += len(closed)


# --- rare ---------------------------------------------------------------------------------------------------------


def restart(_: Fleet, device: Device, __: Random) -> None:
    """Let the program be started again."""
    device.engine.close()
    device.open()


def set_clock(fleet: Fleet, device: Device, chance: Random) -> None:
    """Let a clock jump, by up to a century."""
    offset = chance.choice(OFFSETS_S)
    device.offset_ms = offset * 1000
    fleet.transcript.offsets[device.number] = offset


def disable(fleet: Fleet, device: Device, chance: Random) -> None:
    """Switch the capture of a table off."""
    if device.enabled:
        name = chance.choice(device.enabled)
        device.engine.disable_sync_for_table(name)
        fleet.transcript.sync(device.number, "disable", name)
        device.disabled.add(name)
        fleet.harvest(device)


def enable(fleet: Fleet, device: Device, chance: Random) -> None:
    """Switch the capture of a table on again."""
    if device.disabled:
        name = chance.choice(sorted(device.disabled))
        device.engine.enable_sync_for_table(name, keys="natural")
        fleet.transcript.sync(device.number, "enable", name)
        device.disabled.discard(name)
        fleet.harvest(device)
        look(fleet, device)


def upgrade(fleet: Fleet, device: Device, chance: Random) -> None:
    """Let the application's next version add a column, and perhaps write into it at once."""
    for later in fleet.subject.later:
        if not has_column(device, later.table, later.column):
            table, column = quote(later.table), quote(later.column)
            statements = [f"ALTER TABLE {table} ADD COLUMN {column} {later.definition}"]
            if seldom(chance):
                statements.append(f"UPDATE {table} SET {column} = {chance.choice(['1', '2'])}")
            with device.program(is_outside=True) as connection:
                run(fleet, connection, statements)
            fleet.transcript.sql(device.number, statements, is_enforcing=device.is_enforcing)
            fleet.harvest(device)
            device.is_intact = False
            fleet.tried["schema changes"] += 1
            if often(chance):
                look(fleet, device)
            return


def join(fleet: Fleet, _: Device, chance: Random) -> None:
    """Let a device join late."""
    if len(fleet.devices) < MOST_DEVICES:
        fleet.enable(fleet.add(is_enforcing=bool(chance.randrange(2))))


def clone(fleet: Fleet, device: Device, _: Random) -> None:
    """Let a device join as a copy of another, under an id of its own."""
    if len(fleet.devices) < MOST_DEVICES:
        copy = fleet.add_copy(device)
        fleet.tried["12 copies renewed"] += 1
        look(fleet, copy)


def fork(fleet: Fleet, device: Device, chance: Random) -> None:
    """Let a copy go on under its original's id: they must find out."""
    if device.disabled or not device.is_intact:
        return
    copy = Device(device.number, fleet.folder / "copy.db", fleet, device.is_enforcing)
    copy.path.unlink(missing_ok=True)
    copy.path.write_bytes(device.path.read_bytes())
    copy.open()
    try:
        copy.offset_ms, copy.luck, copy.clock = device.offset_ms, 1, dict(device.clock)
        statements = Writer(fleet.fitting, device.content(), chance).script()
        run(fleet, copy.engine.connection, statements)
        own = copy.engine.device_id
        has_written = copy.engine.get_vector_clock().get(own, 0) > device.clock.get(own, 0)
        path = fleet.folder / "copy.bundle"
        path.unlink(missing_ok=True)
        write(fleet, device, chance)
        both = has_written and device.clock.get(own, 0) > copy.clock.get(own, 0)
        if both and copy.engine.generate_bundle(None, path):
            with unchanged(fleet, device, "12 copies found out", "a copy's bundle was refused"):
                _require_refused(device, path, DeviceError)
    finally:
        copy.engine.close()
