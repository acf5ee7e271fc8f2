"""Ask a strategy about rows in conflict, and write what it decides (SPEC.md, section 10)."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlite_sync import app_triggers, capture, catalog, conflicts, log, resolver, settler
from sqlite_sync.codec import Value
from sqlite_sync.conflicts import Conflict, Images
from sqlite_sync.database import Database
from sqlite_sync.decision import (
    ROW_KINDS,
    Copy,
    Decision,
    Deferred,
    Delete,
    Dispute,
    Leave,
    Resolutions,
    Resolved,
    Strategy,
    Take,
    TakeBoth,
    Version,
    Write,
)
from sqlite_sync.errors import ConflictError, ConstraintError
from sqlite_sync.log import Contexts
from sqlite_sync.operation import MAX_STRATEGY_CHARACTERS, Operation, op_id
from sqlite_sync.resolver import Outcome
from sqlite_sync.tables import Table, commas, fold, mark
from sqlite_sync.verdict import RowOperation


@dataclass(frozen=True, slots=True)
class _Asked:
    """A row in conflict as a strategy sees it, and where it stands in the file: its fork, and its heads by op id."""

    table: Table
    dispute: Dispute
    fork: int
    dots: Mapping[bytes, int]

    def place(self, places: Mapping[bytes, int]) -> int:
        """Return the first place that one of its conflicts has."""
        return min(places[one.conflict_id] for one in self.dispute.conflicts if one.conflict_id in places)


@dataclass(frozen=True, slots=True)
class _Decided:
    """A row in conflict, what was decided about it, and what it is to become."""

    asked: _Asked
    decision: Decision
    outcome: Outcome
    word: str

    @property
    def dispute(self) -> Dispute:
        return self.asked.dispute


def resolve_all(database: Database, strategy: Strategy, table: str | None = None) -> Resolutions:
    """Ask about every open conflict, or those of one table, in the caller's transaction."""
    settler.settle(database)
    return resolve(database, strategy, conflicts.listed(database, table))


def resolve_one(database: Database, strategy: Strategy, conflict: Conflict) -> Operation | None:
    """Ask about one open conflict; return the resolution, None where the strategy leaves it open."""
    settler.settle(database)
    table, fork, *_ = conflicts.located(database, conflict)
    if conflict.kind not in ROW_KINDS:
        return None
    [asked] = _disputes(database, table, [fork])
    decided = _decided(database, strategy, asked)
    if isinstance(decided.decision, Leave):
        return None
    _apply(database, [decided])
    return log.one_operation(database, log.own_seq(database))


def resolve(database: Database, strategy: Strategy, asked: Sequence[Conflict]) -> Resolutions:
    """Ask about the rows of these conflicts, tables that others refer to first; their forks are settled."""
    by_table: dict[str, list[Conflict]] = {}
    found = _Found([], [])
    for conflict in asked:
        if conflict.kind in ROW_KINDS:
            by_table.setdefault(conflict.table_name, []).append(conflict)
        else:
            found.leave(
                [conflict], f"a {conflict.kind} conflict is not between versions of one row: change a row of it"
            )
    for name in _parents_first(database, by_table):
        table = _enabled(database, name)
        if table is None:
            found.leave(by_table[name], f"{name} is not synced here: enable it first")
            continue
        forks = conflicts.forks_of(database, [conflict.conflict_id for conflict in by_table[name]])
        places = {conflict.conflict_id: place for place, conflict in enumerate(by_table[name])}
        disputes = sorted(_disputes(database, table, forks), key=lambda one: one.place(places))  # not as they arrived
        decided = [_decided(database, strategy, one) for one in disputes]
        for one in decided:
            if isinstance(one.decision, Leave):
                found.leave(one.dispute.conflicts, one.decision.reason)
        _write(database, [one for one in decided if not isinstance(one.decision, Leave)], found)
    return Resolutions(tuple(found.resolved), tuple(found.deferred))


@dataclass(frozen=True, slots=True)
class _Found:
    """What became of conflicts so far."""

    resolved: list[Resolved]
    deferred: list[Deferred]

    def close(self, conflicts: Iterable[Conflict], outcome: str) -> None:
        self.resolved.extend(Resolved(conflict, outcome) for conflict in conflicts)

    def leave(self, conflicts: Iterable[Conflict], reason: str) -> None:
        self.deferred.extend(Deferred(conflict, reason) for conflict in conflicts)


def _enabled(database: Database, name: str) -> Table | None:
    entry = catalog.entry(database, name)
    if entry is None or not entry.is_enabled or not catalog.exists(database, entry):
        return None
    return catalog.shape(database, entry)


def _parents_first(database: Database, names: Collection[str]) -> list[str]:
    """Order tables so that a copied row has its new key before those that refer to it are looked at."""
    parents = {
        name: {
            fold(parent) for (parent,) in database.execute('SELECT "table" FROM pragma_foreign_key_list(?)', (name,))
        }
        for name in names
    }
    ordered: list[str] = []
    waiting = sorted(names)
    while waiting:
        ahead = {fold(name) for name in waiting}
        free = [name for name in waiting if not (parents[name] - {fold(name)}) & ahead]
        ordered += free or waiting[:1]  # references in a circle: by name
        waiting = [name for name in waiting if name not in ordered]
    return ordered


def _disputes(database: Database, table: Table, forks: Sequence[int]) -> Iterator[_Asked]:
    """Yield these rows as a strategy sees them."""
    listed = conflicts.by_fork(database, forks)
    contexts = Contexts(database)
    references = _references(database, table)
    for fork, base, operations in conflicts.loaded_all(database, table, forks):
        verdict = conflicts.judged(base, operations, contexts, table)
        others = sorted(
            verdict.conflicting(), key=lambda head: (verdict.images[head.dot] is not None, head.order), reverse=True
        )
        heads = [verdict.shown, *others]
        versions = [_version(head, conflicts.named(table, verdict.images[head.dot])) for head in heads]
        places = {version.op_id: place for place, version in enumerate(versions)}
        dispute = Dispute(
            conflicts=tuple(sorted(listed[fork], key=lambda one: places[one.remote_op_id])),
            base=conflicts.named(table, verdict.base_of(heads)),
            versions=tuple(versions),
            columns=tuple(column.name for column in table.columns),
            key=tuple(column.name for column in table.key),
            references=references,
        )
        yield _Asked(table, dispute, fork, dict(zip(places, (head.dot for head in heads), strict=True)))


def _version(head: RowOperation, image: dict[str, Value] | None) -> Version:
    hlc, device_id, seq = head.order
    return Version(op_id(device_id, seq), device_id, hlc, image)


def _references(database: Database, table: Table) -> frozenset[str]:
    """Name the columns of a table that are declared to refer to another."""
    rows = database.execute('SELECT "from" FROM pragma_foreign_key_list(?)', (table.name,))
    found = {fold(column) for (column,) in rows}
    return frozenset(column.name for column in table.columns if fold(column.name) in found)


def _decided(database: Database, strategy: Strategy, asked: _Asked) -> _Decided:
    """Ask the strategy about one row."""
    dispute = asked.dispute
    decision = strategy.decide(dispute)
    chosen, image, word = dispute.local, dispute.local.image, "local"
    match decision:
        case Take(version) if version.op_id in asked.dots:
            chosen, image = version, version.image
            word = "local" if version.op_id == dispute.local.op_id else "remote"
        case Write(values):
            versions = Images(dispute.base, dispute.local.image, dispute.remote.image)
            laid = resolver.given(database, asked.table, dispute.conflicts[0], versions, values)
            image, word = laid, "values"
        case Delete():
            image, word = None, "delete"
        case TakeBoth():
            word = "both"
        case Leave():
            pass
        case _:
            row = f"{dispute.table_name} {dict(dispute.row_pk)}"
            msg = f"{strategy.name} answered {decision!r} for {row}: that is no decision about this row"
            raise ConflictError(msg)
    local = asked.dots[dispute.local.op_id]
    name = strategy.name[:MAX_STRATEGY_CHARACTERS]
    return _Decided(asked, decision, Outcome(asked.fork, local, asked.dots[chosen.op_id], image, name), word)


def _write(database: Database, decided: Sequence[_Decided], found: _Found) -> None:
    """Write decisions about one table; those that a constraint does not let stand are left open, the others not."""
    if not decided:
        return
    database.execute("SAVEPOINT sync_resolve")
    try:
        _apply(database, decided)
    except ConstraintError as error:
        database.execute("ROLLBACK TO sync_resolve")
        database.execute("RELEASE sync_resolve")
        if len(decided) == 1:
            found.leave(decided[0].dispute.conflicts, str(error))
        else:
            middle = len(decided) // 2
            _write(database, decided[:middle], found)
            _write(database, decided[middle:], found)
        return
    database.execute("RELEASE sync_resolve")
    for one in decided:
        found.close(one.dispute.conflicts, one.word)


def _apply(database: Database, decided: Sequence[_Decided]) -> None:
    copies = [
        (one.asked, copy) for one in decided if isinstance(one.decision, TakeBoth) for copy in one.decision.copies
    ]
    if copies:
        _insert(database, decided[0].asked.table, copies)
    for one in decided:
        resolver.append(database, one.asked.table, one.outcome)
    settler.settle(database)


def _insert(database: Database, table: Table, copies: Sequence[tuple[_Asked, Copy]]) -> None:
    """Insert kept versions as rows of their own; capture logs them, and triggers fire by the rule of an import."""
    names = [one.name for one in catalog.enabled(database)]
    mine = [one for one in app_triggers.decide(database, names) if one.table_name == table.name and not one.fires]
    with app_triggers.silenced(database, mine):
        for asked, copy in copies:
            _insert_one(database, table, asked, copy)
    if mine:  # they are newer than ours now
        capture.install(database, table)


def _insert_one(database: Database, table: Table, asked: _Asked, copy: Copy) -> None:
    image = tuple(copy.image[column.name] for column in table.columns)
    names = commas(column.sql for column in table.columns)
    try:
        database.execute(f"INSERT OR ABORT INTO {table.sql} ({names}) VALUES ({commas(map(mark, image))})", image)
    except sqlite3.IntegrityError as error:
        row = f"{table.name} {dict(asked.dispute.row_pk)}"
        msg = f"{error}: the other version of {row} cannot be kept beside it. Resolve this conflict another way"
        raise ConstraintError(msg) from error
