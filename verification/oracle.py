"""What each device must hold, by the pure model, and what all must hold in the end."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import model
from model import Clash, Constraints, Row
from sqlite_sync import Conflict
from verification.compare import difference, dump, plain
from verification.fleet import Device, Fleet, has_column, stored_context
from verification.naming import Image, RowName, is_same, row_name
from verification.search import require
from verification.subject import Subject, fold


@dataclass(frozen=True)
class Rules(Constraints):
    """The constraints of a schema, for the model."""

    subject: Subject | None = None

    @classmethod
    def of(cls, subject: Subject) -> Rules:
        """Take them from a schema."""
        uniques = {table.name: list(table.uniques) for table in subject.tables}
        references = {
            table.name: [
                model.Reference(one.columns, one.parent, one.targets)
                for one in reversed(table.references)  # the model counts as they were declared
            ]
            for table in subject.tables
        }
        return cls(uniques, references, subject)

    def seen(self, table: str, column: str, value: object) -> Hashable:
        """Return a value as the column's collation compares it."""
        if value is None or self.subject is None:
            return None
        facts = next(one for one in self.subject.table(table).columns if one.name == column)
        return fold(value, facts.collation, self.subject.collations)

    def parent(self, reference: model.Reference, image: Mapping[str, object]) -> RowName | None:
        """Name the row that a reference refers to."""
        values = dict(zip(reference.targets, (image[column] for column in reference.columns), strict=True))
        known = self.subject is not None and any(one.name == reference.parent for one in self.subject.tables)
        if self.subject is None or not known or any(value is None for value in values.values()):
            return None
        return row_name(self.subject, reference.parent, values)


@contextmanager
def unchanged(fleet: Fleet, device: Device, promise: str, what: str) -> Iterator[None]:
    """Require that a device's file is the same after this as before, ours and theirs."""
    before = dump(device.path, fleet.subject.connect)
    yield
    changed = difference(before, dump(device.path, fleet.subject.connect))
    require(not changed, f"{what}, and yet device {device.number} changed: {changed}")
    fleet.tried[promise] += 1


def look(fleet: Fleet, device: Device, *, is_mixed: bool = False) -> list[Conflict]:
    """Settle a device, and compare its conflicts and tables with the model's."""
    found = device.engine.get_unresolved_conflicts()
    fleet.transcript.look(device.number)
    fleet.harvest(device, is_mixed=is_mixed)
    device.is_intact = True
    rows = dict(fleet.model.rows(device.clock, device.enabled))
    here = [one for one in found if one.table_name in device.enabled]
    _require_conflicts(fleet, device, rows, [one for one in here if not one.is_parked])
    parked = _require_parked(fleet, device, rows, [one for one in here if one.is_parked])
    _require_content(fleet, device, rows, parked)
    held = device.engine.connection.execute("SELECT count(*) FROM sync_operations WHERE op <> 0").fetchone()[0]
    require(held == sum(device.clock.values()), f"device {device.number} knows {device.clock}, and has {held} rows")
    fleet.tried["1 logs counted"] += 1
    fleet.tried["8 looks"] += 1
    return found


def _require_conflicts(fleet: Fleet, device: Device, rows: Mapping[RowName, Row], found: Sequence[Conflict]) -> None:
    listed = {Clash(one.conflict_id, one.kind, one.local_op_id, one.remote_op_id) for one in found}
    expected = {clash for row in rows.values() for clash in row.conflicts}
    fleet.tried["4 conflicts"] += len(expected)
    if any(one.default is not None and not has_column(device, one.table, one.column) for one in fleet.subject.later):
        several = {row.shown.op_id for row in rows.values() if len(row.heads) > 1}
        listed = {clash for clash in listed if clash in expected or clash.local not in several}
    require(
        listed == expected,
        f"the conflicts of device {device.number} are not those of its operations: listed and not expected "
        f"{listed - expected}, expected and not listed {expected - listed}",
    )


def _require_parked(
    fleet: Fleet, device: Device, rows: Mapping[RowName, Row], found: Sequence[Conflict]
) -> dict[RowName, Conflict]:
    parked = {row_name(fleet.subject, one.table_name, one.row_pk): one for one in found}
    require(len(parked) == len(found), f"device {device.number} lists a parked row twice: {found}")
    for name, conflict in parked.items():
        fleet.tried[f"4 parked rows ({conflict.kind})"] += 1
        row = rows.get(name)
        require(
            row is not None and row.image is not None and row.shown.op_id == conflict.remote_op_id,
            f"device {device.number} parked {name}, of which its operations make {row and row.image}: {conflict}",
        )
    if fleet.subject.is_judged and not device.disabled:
        fleet.tried["8 parkings judged"] += 1
        state = Rules.of(fleet.subject).state(rows)
        kinds = {clash.kind for row in rows.values() for clash in row.conflicts}
        expected = {
            entry for entry in state.conflicts if entry[0] not in kinds and entry[0] in ("unique", "foreign_key")
        }
        listed = {(one.kind, *name, one.local_op_id, one.remote_op_id) for name, one in parked.items()}
        require(
            listed == expected,
            f"device {device.number} parked other rows than its operations say: parked and not expected "
            f"{listed - expected}, expected and not parked {expected - listed}",
        )
    return parked


def _require_content(
    fleet: Fleet, device: Device, rows: Mapping[RowName, Row], parked: Mapping[RowName, Conflict]
) -> None:
    shown = device.content()
    for table in device.enabled:
        standing: dict[RowName, Image] = {
            name: row.image
            for name, row in rows.items()
            if name[0] == table and row.image is not None and name not in parked
        }
        found = shown[table]
        fleet.tried["9 rows compared"] += len(standing)
        require(
            found.keys() == standing.keys(),
            f"device {device.number}, {table}: in the table and not of its operations {found.keys() - standing.keys()},"
            f" missing {standing.keys() - found.keys()}",
        )
        for name, image in found.items():
            require(
                is_same(image, standing[name]),
                f"device {device.number}, {name}: the table shows {dict(image)}, its operations make {standing[name]}",
            )


def require_agreement(fleet: Fleet) -> None:
    """Compare all devices with each other and with the record, after everybody heard from everybody."""
    in_order = sorted(fleet.written.values(), key=lambda pair: pair[1].order)
    everywhere: dict[bytes, int] = {}
    for _, write in in_order:
        everywhere[write.device] = max(everywhere.get(write.device, 0), write.seq)
    _require_order(fleet)
    expected = [fleet.spelled(operation) for operation, _ in in_order]
    first, *others = fleet.devices
    conflicts = look(fleet, first)
    content = first.content()
    for device in fleet.devices:
        where = f"device {device.number}"
        require(device.clock == everywhere, f"{where} does not have all: {device.clock}, {everywhere}")
        log = [fleet.spelled(operation) for operation in device.engine.operations()]
        require(log == expected, f"{where} lists other operations, or in another order, than were written")
        fleet.tried["1 log rows compared"] += len(log)
        fleet.tried["3 places in the order"] += len(log)
        _require_sound(fleet, device)
    for device in others:
        require(
            look(fleet, device) == conflicts, f"the devices {first.number} and {device.number} list other conflicts"
        )
        for table, rows in device.content().items():
            left, right = content[table], rows
            differing = {name for name in left.keys() | right.keys() if not is_same(left.get(name), right.get(name))}
            require(not differing, f"the devices {first.number} and {device.number} differ in {table}: {differing}")
    fleet.tried["8 devices that agree"] += len(fleet.devices)
    lost = next(fleet.model.lost(everywhere), None)
    require(lost is None, f"a write is lost: {lost}")
    fleet.tried["7 writes followed"] += len(in_order)


def _require_order(fleet: Fleet) -> None:
    ordered = sorted((write for _, write in fleet.written.values()), key=lambda write: write.order)
    for place, write in enumerate(ordered):
        early = next((one for one in ordered[:place] if write.happened_before(one)), None)
        require(early is None, f"{early} comes before {write} in the total order, which its author had seen")


def _require_sound(fleet: Fleet, device: Device) -> None:
    for operation, write in fleet.written.values():
        if write.device != device.engine.device_id:
            kept = stored_context(device, operation)
            known = {one: seq for one, seq in write.context.items() if seq}
            require(kept == known, f"device {device.number} keeps another context for {operation}: {kept}, not {known}")
            fleet.tried["2 contexts"] += 1
    with plain(device.path, fleet.subject.connect) as program:
        found = program.execute("PRAGMA integrity_check").fetchall()
    require(found == [(b"ok",)], f"device {device.number}: {found}")
    diagnosis = device.engine.doctor(deep=True)
    findings = [*diagnosis.findings, *(one for table in diagnosis.tables if table.is_enabled for one in table.findings)]
    errors = [finding for finding in findings if finding.level == "error"]
    require(not errors, f"the doctor of device {device.number}: {errors}")
    fleet.tried["9 logs replayed"] += 1
