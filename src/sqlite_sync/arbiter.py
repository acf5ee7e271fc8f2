"""Ask a strategy about rows in conflict, and write what it decides (SPEC.md, section 10)."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlite_sync import carrier, catalog, conflicts, forks, log, parking, resolutions, resolver, settler
from sqlite_sync.carrier import Kept, Registry
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
    require_strategy,
)
from sqlite_sync.errors import ConflictError, ConstraintError
from sqlite_sync.log import Contexts
from sqlite_sync.operation import MAX_STRATEGY_CHARACTERS, Operation, op_id
from sqlite_sync.resolutions import Outcome
from sqlite_sync.tables import Table, commas, fold, mark
from sqlite_sync.verdict import RowOperation, Verdict


@dataclass(frozen=True, slots=True)
class _Asked:
    """A row in conflict as a strategy sees it, and as it stands in the file: its fork, and its heads by op id."""

    table: Table
    dispute: Dispute
    fork: int
    dots: Mapping[bytes, int]
    verdict: Verdict
    operations: Sequence[RowOperation]
    listed: Sequence[Conflict]  # as whoever asked knows them


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
    require_strategy(strategy)
    settler.settle(database)
    return resolve(database, strategy, conflicts.listed(database, table))


def resolve_one(database: Database, strategy: Strategy, conflict: Conflict) -> Operation | None:
    """Ask about one open conflict; return the resolution, None where the strategy leaves it open."""
    require_strategy(strategy)
    settler.settle(database)
    table, fork, *_ = conflicts.to_close(database, conflict)
    if conflict.kind not in ROW_KINDS:
        return None
    [asked] = _disputes(database, table, {fork: [conflict]})
    decided = _decided(database, strategy, asked)
    if isinstance(decided.decision, Leave):
        return None
    _apply(database, [decided], Registry(database))
    return log.one_operation(database, log.own_seq(database))


def resolve(database: Database, strategy: Strategy, asked: Sequence[Conflict]) -> Resolutions:
    """Ask about the rows of these conflicts, tables that others refer to first; their forks are settled."""
    found, registry = _Found([], []), Registry(database)
    rows: dict[str, dict[int, list[Conflict]]] = {}
    fork_by_id = conflicts.forks_of(database, [conflict.conflict_id for conflict in asked])
    for conflict in asked:
        if conflict.kind in ROW_KINDS:
            of_table = rows.setdefault(conflict.table_name, {})
            of_table.setdefault(fork_by_id[conflict.conflict_id], []).append(conflict)
        else:
            why = f"a {conflict.kind} conflict is not between versions of one row: resolve it by hand"
            found.leave([conflict], why)
    for name in _parents_first(database, rows):
        _resolve_table(database, strategy, _Table(name, rows[name]), found, registry)
    return Resolutions(tuple(found.resolved), tuple(found.deferred))


@dataclass(frozen=True, slots=True)
class _Table:
    """The rows of a table that a strategy is asked about: their conflicts by fork, in the order of the listing."""

    name: str
    rows: Mapping[int, Sequence[Conflict]]


def _resolve_table(database: Database, strategy: Strategy, of: _Table, found: _Found, registry: Registry) -> None:
    table = _enabled(database, of.name)
    if table is None:
        for listed in of.rows.values():
            found.leave(listed, f"{of.name} is not synced here: enable it first")
        return
    # Carried references may have changed the heads since the conflicts were listed, or made them equal.
    disputes = {one.fork: one for one in _disputes(database, table, of.rows)}
    decided = []
    for fork, listed in of.rows.items():
        if fork not in disputes:
            found.close(listed, "local")
            continue
        one = _decided(database, strategy, disputes[fork])
        if isinstance(one.decision, Leave):
            found.leave(listed, one.decision.reason)
        else:
            decided.append(one)
    _write(database, decided, found, registry)


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


def _disputes(database: Database, table: Table, rows: Mapping[int, Sequence[Conflict]]) -> Iterator[_Asked]:
    """Yield these rows, by fork, as a strategy sees them, if they are in conflict."""
    listed = conflicts.by_fork(database, rows)
    contexts = Contexts(database)
    references = _references(database, table)
    whole = catalog.whole(database, table)  # versions may differ in what this table lacks
    for fork, base, operations in forks.loaded_all(database, whole, list(listed)):
        verdict = forks.judged(base, operations, contexts)
        others = sorted(
            verdict.conflicting(), key=lambda head: (verdict.images[head.dot] is not None, head.order), reverse=True
        )
        heads = [verdict.shown, *others]
        versions = [_version(head, forks.named(table, verdict.images[head.dot])) for head in heads]
        places = {version.op_id: place for place, version in enumerate(versions)}
        dispute = Dispute(
            conflicts=tuple(
                sorted((one for one in listed[fork] if one.kind in ROW_KINDS), key=lambda one: places[one.remote_op_id])
            ),
            base=forks.named(table, verdict.base_of(heads)),
            versions=tuple(versions),
            columns=tuple(column.name for column in table.columns),
            key=tuple(column.name for column in table.key),
            references=references,
        )
        dots = dict(zip(places, (head.dot for head in heads), strict=True))
        yield _Asked(table, dispute, fork, dots, verdict, operations, rows[fork])


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
        case Take(Version() as version) if version.op_id in asked.dots:
            chosen, image = version, version.image
            word = "local" if version.op_id == dispute.local.op_id else "remote"
        case Write(Mapping() as values):
            versions = Images(dispute.base, dispute.local.image, dispute.remote.image)
            laid = resolver.given(database, asked.table, dispute.conflicts[0], versions, values)
            image, word = laid, "values"
        case Delete():
            image, word = None, "delete"
        case TakeBoth(tuple() as copies) if all(_is_copy(asked, copy) for copy in copies):
            for name, value in ((name, value) for copy in copies for name, value in copy.image.items()):
                resolver.require_storable(database, f"{name} of a copy in {dispute.table_name}", value)
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


def _is_copy(asked: _Asked, copy: object) -> bool:
    """Tell whether a copy is a whole row, of a version of this row."""
    return (
        isinstance(copy, Copy)
        and copy.op_id in asked.dots
        and isinstance(copy.image, Mapping)
        and copy.image.keys() == set(asked.dispute.columns)
    )


def _write(database: Database, decided: Sequence[_Decided], found: _Found, registry: Registry) -> None:
    """Write decisions about one table; those that a constraint does not let stand are left open, the others not."""
    if not decided:
        return
    database.execute("SAVEPOINT sync_resolve")
    try:
        copies = _apply(database, decided, registry)
    except ConstraintError as error:
        database.execute("ROLLBACK TO sync_resolve")
        database.execute("RELEASE sync_resolve")
        if len(decided) == 1:
            found.leave(decided[0].asked.listed, str(error))
        else:
            middle = len(decided) // 2
            _write(database, decided[:middle], found, registry)
            _write(database, decided[middle:], found, registry)
        return
    database.execute("RELEASE sync_resolve")
    registry.add(copies)
    for one in decided:
        found.close(one.asked.listed, one.word)


def _apply(database: Database, decided: Sequence[_Decided], registry: Registry) -> list[Kept]:
    """Write decisions about one table; return the versions that got new keys."""
    both = [(one.asked, copy) for one in decided if isinstance(one.decision, TakeBoth) for copy in one.decision.copies]
    copies = [
        carrier.kept(asked.table, asked.verdict, asked.operations, asked.dots[copy.op_id], copy.image)
        for asked, copy in both
    ]
    known = registry.with_more(copies)  # a table may refer to itself
    table = decided[0].asked.table
    beside = [(asked, _referring(asked, copy, known)) for asked, copy in both]
    keys = [tuple(one.dispute.row_pk.values()) for one in decided]
    keys += [tuple(values[column.name] for column in table.key) for _, values in beside]
    before = parking.footing(database, table, keys)
    if beside:
        with carrier.quiet(database, table):
            for asked, values in beside:
                _insert(database, asked, values)
    carrier.carry(database, copies)
    for one in decided:
        resolutions.append(database, one.asked.table, _adjusted(one, known))
    settler.settle(database)
    parking.require_footing(database, before)
    return copies


def _referring(asked: _Asked, copy: Copy, known: Registry) -> Mapping[str, Value]:
    """Return the image of a copy, which refers to copies of what its version referred to."""
    dot = asked.dots[copy.op_id]
    before = forks.named(asked.table, asked.verdict.images[dot]) or {}
    history = carrier.lineage(asked.verdict, asked.operations, dot)
    references = known.references(asked.table, before, history)
    if references.keys() & set(asked.dispute.key):  # that is a new key already
        return {**before, **references}
    return {**copy.image, **references}


def _adjusted(one: _Decided, known: Registry) -> Outcome:
    """Let a version that is taken refer to copies of what it referred to."""
    asked, outcome = one.asked, one.outcome
    if outcome.image is None or isinstance(one.decision, Write):
        return outcome
    history = carrier.lineage(asked.verdict, asked.operations, outcome.chosen)
    references = known.references(asked.table, outcome.image, history)
    outside = {name: value for name, value in references.items() if name not in asked.dispute.key}
    return replace(outcome, image={**outcome.image, **outside}) if outside else outcome


def _insert(database: Database, asked: _Asked, values: Mapping[str, Value]) -> None:
    """Insert a kept version as a row of its own; capture logs it."""
    table = asked.table
    image = tuple(values[column.name] for column in table.columns)
    names = commas(column.sql for column in table.columns)
    try:
        database.execute(
            f"INSERT {table.or_abort}INTO {table.sql} ({names}) VALUES ({commas(map(mark, image))})", image
        )
    except sqlite3.IntegrityError as error:
        row = f"{table.name} {dict(asked.dispute.row_pk)}"
        msg = f"{error}: the other version of {row} cannot be kept beside it. Resolve this conflict another way"
        raise ConstraintError(msg) from error
