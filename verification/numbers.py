"""Mapped keys: devices that count their rows each for itself agree up to their numbers (SPEC.md, section 4.7).

Histories of the machine, without its oracle, which speaks of rows by their numbers: here all devices are compared with
one another, every number replaced by the birth that it stands for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise
from random import Random

from sqlite_sync import ConflictError, ConstraintError, SyncEngine
from verification import deeds
from verification.fitting import Fitting
from verification.fleet import Device, Fleet
from verification.machine import Start, Step, told
from verification.naming import exact, texts
from verification.search import require
from verification.subject import quote

KINDS = (*["write"] * 10, *["send"] * 6, *["resolve"] * 2, "look")
ROUNDS = 3

Numbers = Mapping[str, Mapping[str, str]]  # by table: the columns that number rows, and of which table


def play(fitting: Fitting, start: Start, history: Sequence[Step], tried: Counter[str]) -> None:
    """Let a history happen, let all meet in the end, and compare them."""
    tried["histories with numbers"] += 1
    with told(fitting, tried) as fleet:
        _play(fleet, start, history)


def _play(fleet: Fleet, start: Start, history: Sequence[Step]) -> None:
    for number in range(start.devices):
        device = fleet.add(is_enforcing=bool(start.enforcing >> number & 1))
        for table in fleet.subject.tables:
            device.engine.enable_sync_for_table(table.name)
        fleet.transcript.sync(number, "enable", *(table.name for table in fleet.subject.tables))
    for place, step in enumerate(history):
        fleet.ticks += 1
        fleet.tried["steps with numbers"] += 1
        fleet.transcript.say(f"step {place + 1}")
        _act(fleet, fleet.at(step.device), step.kind, Random(step.chance))  # noqa: S311  # repeatable
    fleet.transcript.say("in the end all meet")
    for _ in range(ROUNDS):
        for source in fleet.devices:
            for target in fleet.devices:
                _send(fleet, source, target)
    _require_agreement(fleet)


def _act(fleet: Fleet, device: Device, kind: int, chance: Random) -> None:
    match KINDS[kind % len(KINDS)]:
        case "write":
            statements = deeds.Writer(fleet.fitting, device.content(), chance).script()
            with device.program(is_outside=chance.random() < 0.5) as connection:  # noqa: PLR2004
                deeds.run(fleet, connection, statements)
            fleet.transcript.sql(device.number, statements, is_enforcing=device.is_enforcing)
        case "send":
            _send(fleet, device, fleet.at(chance.randrange(len(fleet.devices))))
        case "resolve":
            _resolve(fleet, device, chance)
        case _:
            device.engine.get_unresolved_conflicts()
            fleet.transcript.look(device.number)


def _send(fleet: Fleet, source: Device, target: Device) -> None:
    if source is target:
        return
    fleet.bundles += 1
    path = fleet.folder / f"{fleet.bundles}.bundle"
    written = source.engine.generate_bundle(target.engine.device_id, path)
    fleet.transcript.bundle(source.number, target.number, path.name)
    if written is not None:
        target.engine.import_bundle(path)
        fleet.transcript.sync(target.number, "import", path.name)


def _resolve(fleet: Fleet, device: Device, chance: Random) -> None:
    found = device.engine.get_unresolved_conflicts()
    if found:
        place, choice = chance.randrange(len(found)), chance.choice(["local", "remote", None])
        fleet.transcript.resolve(device.number, place, choice or "delete")
        try:
            device.engine.resolve(found[place], choice)
        except (ConflictError, ConstraintError):
            fleet.tried["resolutions refused"] += 1


# --- the comparison -----------------------------------------------------------------------------------------------


def _require_agreement(fleet: Fleet) -> None:
    numbers = {table.name: table.numbers for table in fleet.devices[0].engine.status().tables}
    for what, say in (("operations", _operations), ("rows", _rows), ("conflicts", _conflicts)):
        said = [say(device.engine, numbers) for device in fleet.devices]
        for place, (one, other) in enumerate(pairwise(said)):
            differing = [name for name in {**one, **other} if one.get(name) != other.get(name)]
            require(
                not differing,
                f"devices {place} and {place + 1} have the same operations, and other {what}: "
                f"{[(name, one.get(name), other.get(name)) for name in differing[:3]]}",
            )
        fleet.tried[f"{what} compared"] += sum(map(len, said))
    for device in fleet.devices:
        require(device.engine.reconcile() == 0, f"the log of device {device.number} is not its tables")


def _born(engine: SyncEngine, numbers: Mapping[str, str], image: Mapping[str, object]) -> Hashable:
    """Make an image comparable, with births in place of numbers."""
    return tuple(
        (name, engine.birth_of(numbers[name], value) if name in numbers and isinstance(value, int) else exact(value))
        for name, value in sorted(image.items())
    )


def _operations(engine: SyncEngine, numbers: Numbers) -> dict[Hashable, Hashable]:
    return {
        one.op_id: (
            (one.table_name, one.kind, one.hlc, one.base_op_id),
            *(_born(engine, numbers[one.table_name], image) for image in (one.row_pk, one.new, one.old)),
        )
        for one in engine.operations()
    }


def _rows(engine: SyncEngine, numbers: Numbers) -> dict[Hashable, Hashable]:
    found: Counter[Hashable] = Counter()
    for table in numbers:
        names = [row[1] for row in engine.connection.execute(f"PRAGMA main.table_info({quote(table)})")]
        with texts(engine.connection):
            rows = engine.connection.execute(
                f"SELECT {', '.join(map(quote, names))} FROM main.{quote(table)}"
            ).fetchall()
        found.update((table, _born(engine, numbers[table], dict(zip(names, row, strict=True)))) for row in rows)
    return dict(found)


def _conflicts(engine: SyncEngine, _: Numbers) -> dict[Hashable, Hashable]:
    return {one.conflict_id: (one.kind, one.table_name) for one in engine.get_unresolved_conflicts()}
