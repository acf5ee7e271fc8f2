"""The text of the capture triggers, rendered from a table's shape.

They use built-in functions only, so that any program can go on writing to a captured table, and `VALUES` where they
can: a `SELECT` that looks into the log would first copy what it reads. The application's outer `OR REPLACE` or `OR
IGNORE` overrides conflict clauses in here, so the log has no constraint that an insert could hit.

REPLACE deletes rows that stand in its way without firing a delete trigger. Where they share the key of the new row,
its insert says all there is to say. Where they share a value of another UNIQUE index, a BEFORE trigger notes the
candidates, and an AFTER trigger logs those that are gone. A note is no more than a candidate: `OR IGNORE` fires
BEFORE and not AFTER.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlite_sync.indexes import UniqueIndex
from sqlite_sync.operation import Kind
from sqlite_sync.tables import Column, Table, commas, literal, quote

# Later than the own last operation and than everything imported, by a random step: two copies of one file that go on
# apart so give their operations different HLCs. Not unixepoch('subsec'), which is NULL before 3.42.
NEXT_HLC = (
    "max(CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER) << 16, "
    "(SELECT hlc FROM sync_operations ORDER BY op DESC LIMIT 1), (SELECT hlc_floor FROM sync_state)) "
    "+ 1 + (random() & 4095)"
)

TRIGGER = """\
CREATE TRIGGER {name} {event} ON {table}{when}
BEGIN
{body}
END"""

APPEND = """\
    INSERT INTO sync_operations (table_no, kind, base, hlc, {columns})
    VALUES ({table_no}, {kind}, {base}, {hlc}, {values});"""

REFUSE_NULL = """\
    SELECT RAISE(ABORT, {message}) WHERE {nulls};"""

# What stands there, not NEW: where a row refers to itself, ON UPDATE changed it before any AFTER trigger fires.
APPEND_CURRENT = """\
    INSERT INTO sync_operations (table_no, kind, base, hlc, {columns})
    SELECT {table_no}, {kind}, {base}, {hlc}, {values} FROM {table} AS t WHERE {same_key};"""

FORGET_NOTE = """\
    DELETE FROM sync_notes_{n} WHERE {same_key};"""

NOTE_CANDIDATES = """\
    DELETE FROM sync_notes_{n} WHERE EXISTS (SELECT 1 FROM {table} AS t WHERE {noted} AND ({candidate}));
    INSERT INTO sync_notes_{n} ({columns}) SELECT {values} FROM {table} AS t WHERE {candidate};"""

# {hlc} is computed once for all of them, with a random step below 4096: each next one is that far behind.
LOG_DISPLACED = """\
    INSERT INTO sync_operations (table_no, kind, base, hlc, {columns})
    SELECT {table_no}, {kind}, {base}, {hlc} + 4096 * (rowid - (SELECT min(rowid) FROM sync_notes_{n})), {columns}
    FROM sync_notes_{n} WHERE {gone} ORDER BY rowid;
    DELETE FROM sync_notes_{n} WHERE {gone};"""

# 0 where the row is parked: whoever writes it has no row in front of them.
SHOWN = (
    "(SELECT f.shown * (1 - f.is_parked) FROM sync_keys_{n} AS k JOIN sync_forks AS f USING (fork) "
    "WHERE {same_key} AND (f.is_open OR f.is_parked))"
)


KEEP = """\
    DELETE FROM sync_notes_{n} WHERE {same_key};
    INSERT INTO sync_notes_{n} ({columns}) VALUES ({values});"""

# s is the noted row, n0, n1, ... its key as the update leaves it, t the row that has that key now.
LOG_KEPT = """\
    INSERT INTO sync_operations (table_no, kind, base, hlc, {columns})
    SELECT {table_no}, {kind}, {base}, {hlc} + 4096 * (rowid - (SELECT min(rowid) FROM sync_notes_{n})), {columns}
    FROM sync_notes_{n} WHERE {gone} ORDER BY rowid;
    INSERT INTO sync_operations (table_no, kind, base, hlc, {columns})
    SELECT {table_no}, {insert}, {moved_base}, {hlc}, {moved} FROM sync_notes_{n} AS s JOIN {table} AS t ON {there}
    WHERE NOT EXISTS (SELECT 1 FROM {table} AS u WHERE {old_there});
    INSERT INTO sync_operations (table_no, kind, base, hlc, {changed_columns})
    SELECT {table_no}, {update}, {moved_base}, {hlc}, {changed} FROM sync_notes_{n} AS s JOIN {table} AS t ON {stays}
    WHERE {differs};
    DELETE FROM sync_notes_{n} WHERE {gone}
    OR rowid IN (SELECT s.rowid FROM sync_notes_{n} AS s JOIN {table} AS t ON {stays} WHERE {differs})
    OR rowid = (SELECT max(rowid) FROM sync_notes_{n} WHERE n0 IS NOT NULL);"""

VERBS = (
    *("insert", "update", "rekey", "delete", "note_insert", "note_update", "displaced_insert", "displaced_update"),
    *("keep_delete", "keep_update", "displaced_delete"),
)


def outside(sql: str) -> str:
    """Render a part of a trigger for a statement of ours: only inside `main` can a name mean nothing but `main`'s."""
    return sql.replace("FROM sync_", "FROM main.sync_").replace("JOIN sync_", "JOIN main.sync_")


@dataclass(frozen=True, slots=True)
class Renderer:
    """Renders a table's triggers; with a look-up of the base where the table has open conflicts."""

    table: Table
    is_contested: bool

    def render(self) -> dict[str, str]:
        """Return the triggers by name, in the order in which to create them: the newest fires first."""
        texts = {
            "insert": self._trigger("insert", "AFTER INSERT", self._refuse_null(), self._append(Kind.INSERT, "NEW")),
            "rekey": self._rekey(),
            **self._cascading(),  # fires after the next one, which drops the note of what it logs
            "delete": self._trigger("delete", "AFTER DELETE", self._append(Kind.DELETE, "OLD"), self._forget()),
        }
        if self._watched() and not self.table.has_mistyped_children:
            texts["update"] = self._trigger("update", "AFTER UPDATE", self._append_update(), when=self._when_changed())
        if self.table.uniques or self.table.cascades_to_itself:
            texts |= self._displacing()
        if self.table.has_mistyped_children:
            texts |= self._keeping()
        return {f"sync_{verb}_{self.table.number}": text for verb, text in texts.items()}

    def _trigger(self, verb: str, event: str, *body: str, when: str = "") -> str:
        return TRIGGER.format(
            name=f"sync_{verb}_{self.table.number}",
            event=event,
            table=quote(self.table.name),
            when=f" WHEN {when}" if when else "",
            body="\n".join(filter(None, body)),
        )

    # --- inserts, updates, deletes ---

    def _rekey(self) -> str:
        arrived = self._append_current() if self.table.follows_keys else self._append(Kind.INSERT, "NEW")
        moved = (self._append(Kind.DELETE, "OLD"), arrived)
        when = f"NOT ({self._same_row()})"
        of = f"AFTER UPDATE OF {self._key_names()}"
        return self._trigger("rekey", of, self._refuse_null(), *moved, self._forget(), when=when)

    def _key_names(self) -> str:
        names = [column.sql for column in self.table.key]
        if self.table.has_rowid_key:  # SET rowid = ... changes it as well
            names += ["rowid", "oid", "_rowid_"]
        return commas(names)

    def _append(self, kind: Kind, row: str) -> str:
        return self._append_columns(kind, row, {c.new: f"{row}.{c.sql}" for c in self.table.columns})

    def _append_current(self) -> str:
        columns = self.table.columns
        return APPEND_CURRENT.format(
            table_no=self.table.number,
            kind=int(Kind.INSERT),
            base=self._base({i: f"NEW.{column.sql}" for i, column in enumerate(self.table.key)}),
            hlc=NEXT_HLC,
            columns=commas(c.new for c in columns),
            values=commas(f"t.{c.sql}" for c in columns),
            table=quote(self.table.name),
            same_key=self._is_here(),
        )

    def _is_here(self) -> str:
        return " AND ".join(f"t.{c.keyed} = NEW.{c.sql}" for c in self.table.key)

    def _append_update(self) -> str:
        columns = {column.new: f"NEW.{column.sql}" for column in self.table.key}
        for column in self._watched():
            differs = _differs(column)
            if not column.key_place:
                columns[column.new] = f"CASE WHEN {differs} THEN NEW.{column.sql} END"
            columns[column.old] = f"CASE WHEN {differs} THEN OLD.{column.sql} END"
        return self._append_columns(Kind.UPDATE, "NEW", columns)

    def _append_columns(self, kind: Kind, row: str, columns: dict[str, str]) -> str:
        return APPEND.format(
            table_no=self.table.number,
            kind=int(kind),
            base=self._base({i: f"{row}.{column.sql}" for i, column in enumerate(self.table.key)}),
            hlc=NEXT_HLC,
            columns=commas(columns.keys()),
            values=commas(columns.values()),
        )

    def _base(self, key: dict[int, str]) -> str:
        if not self.is_contested:
            return "NULL"
        return SHOWN.format(n=self.table.number, same_key=" AND ".join(f"k.k{i} = {value}" for i, value in key.items()))

    def _when_changed(self) -> str:
        keys_last = sorted(self._watched(), key=lambda column: column.key_place > 0)  # they seldom change alone
        return f"{self._same_row()} AND ({' OR '.join(map(_differs, keys_last))})"

    def _watched(self) -> list[Column]:
        """List the columns that can change while the row stays the same: not a key whose equals are the same bytes."""
        is_rowid = self.table.has_rowid_key
        return [c for c in self.table.columns if not (c.key_place and (is_rowid or _has_one_spelling(c)))]

    def _same_row(self) -> str:
        return " AND ".join(f"OLD.{c.keyed} IS NEW.{c.sql}" for c in self.table.key)

    def _refuse_null(self) -> str:
        nulls = " OR ".join(f"NEW.{column.sql} IS NULL" for column in self.table.key if column.is_nullable)
        message = literal(f"NULL in the primary key of {self.table.name}: sync needs every row to have a key")
        return REFUSE_NULL.format(message=message, nulls=nulls) if nulls else ""

    # --- values that SQLite converts ---

    def _keeping(self) -> dict[str, str]:
        """Note rows before their foreign keys are looked at: in AFTER triggers OLD and NEW may have a child's type.

        What became of a noted row is read from the table: it is gone, it has another key, or other values.
        """
        columns = {column.new: f"OLD.{column.sql}" for column in self.table.columns}
        after = {f"n{i}": f"NEW.{column.sql}" for i, column in enumerate(self.table.key)}
        return {
            "keep_delete": self._trigger("keep_delete", "BEFORE DELETE", self._keep(columns)),
            "keep_update": self._trigger("keep_update", "BEFORE UPDATE", self._keep(columns | after)),
            "insert": self._trigger(
                "insert", "AFTER INSERT", self._refuse_null(), self._append(Kind.INSERT, "NEW"), self._forget("NEW")
            ),
            "delete": self._trigger("delete", "AFTER DELETE", self._log_displaced("insert")),
            "rekey": self._trigger("rekey", "AFTER UPDATE", self._refuse_null(), self._log_kept()),
        }

    def _keep(self, columns: dict[str, str]) -> str:
        return KEEP.format(
            n=self.table.number,
            same_key=self._is_noted("OLD"),
            columns=commas(columns),
            values=commas(columns.values()),
        )

    def _log_kept(self) -> str:
        table, key = self.table, self.table.key
        there = " AND ".join(f"t.{c.keyed} = s.n{i}" for i, c in enumerate(key))
        differ = {
            c: f"(t.{c.sql} IS NOT s.{c.new} COLLATE BINARY OR typeof(t.{c.sql}) <> typeof(s.{c.new}))"
            for c in table.columns
        }
        changed = {
            c.new: f"t.{c.sql}" if c.key_place else f"CASE WHEN {differ[c]} THEN t.{c.sql} END" for c in table.columns
        }
        changed |= {c.old: f"CASE WHEN {differ[c]} THEN s.{c.new} END" for c in table.columns}
        return LOG_KEPT.format(
            n=table.number,
            table_no=table.number,
            table=quote(table.name),
            kind=int(Kind.DELETE),
            insert=int(Kind.INSERT),
            update=int(Kind.UPDATE),
            hlc=NEXT_HLC,
            base=self._base({i: f"sync_notes_{table.number}.{c.new}" for i, c in enumerate(key)}),
            moved_base=self._base({i: f"t.{c.sql}" for i, c in enumerate(key)}),
            columns=commas(c.new for c in table.columns),
            moved=commas(f"t.{c.sql}" for c in table.columns),
            changed_columns=commas(changed),
            changed=commas(changed.values()),
            gone=self._gone(),
            there=there,
            old_there=" AND ".join(f"u.{c.keyed} = s.{c.new}" for c in key),
            stays=" AND ".join((there, *(f"t.{c.keyed} = s.{c.new}" for c in key))),
            differs=" OR ".join(differ.values()),
        )

    def _is_noted(self, row: str) -> str:
        return " AND ".join(f"{c.new} = {row}.{c.sql}" for c in self.table.key)  # notes have the key's collations

    # --- rows that REPLACE displaces through another UNIQUE index ---

    def _displacing(self) -> dict[str, str]:
        touched = self.table.unique_columns
        keys = [self._key_names()] if self.table.cascades_to_itself else []
        of = "" if touched is None else f" OF {commas([*map(quote, touched), *keys])}"
        texts = {}
        for verb, event, row in (("insert", "INSERT", "NEW"), ("update", f"UPDATE{of}", "OLD")):
            if verb == "insert" and not self.table.uniques:
                continue
            candidate = self._candidate(row)
            exists = f"EXISTS (SELECT 1 FROM {quote(self.table.name)} AS t WHERE {candidate})"
            texts[f"note_{verb}"] = self._trigger(f"note_{verb}", f"BEFORE {event}", self._note(candidate), when=exists)
            texts[f"displaced_{verb}"] = self._trigger(
                f"displaced_{verb}", f"AFTER {event}", self._log_displaced(verb), when=self._has_notes()
            )
        return texts

    def _cascading(self) -> dict[str, str]:
        """Log what a REPLACE displaced when that deletes, by ON DELETE CASCADE, the very row that it was to write.

        The statement then ends with that row's delete, and no AFTER UPDATE fires.
        """
        if not self.table.cascades_to_itself:
            return {}
        body = self._log_displaced("insert")
        return {
            "displaced_delete": self._trigger("displaced_delete", "AFTER DELETE", body, when=self._has_notes()),
        }

    def _has_notes(self) -> str:
        return f"EXISTS (SELECT 1 FROM sync_notes_{self.table.number})"

    def _candidate(self, row: str) -> str:
        """Render the test whether a row t stands in the way of the new one, which is not itself."""
        itself = " AND ".join(f"t.{c.keyed} IS {row}.{c.sql}" for c in self.table.key)
        if row == "NEW" and self.table.has_rowid_key:  # SQLite shows -1 before an insert that gives no key
            itself += f" AND NEW.{self.table.key[0].sql} <> -1"
        clashes = [f"({self._clash(index)})" for index in self.table.uniques]
        if row == "OLD" and self.table.cascades_to_itself:
            clashes.append(f"({self._is_here()})")
        return f"NOT ({itself}) AND ({' OR '.join(clashes)})"

    def _clash(self, index: UniqueIndex) -> str:
        written = {column.name: column.instead_of_null for column in self.table.columns}
        new = {name: _written(name, written.get(name)) for name in self.table.names}
        new_row = commas(f"{value} AS {quote(name)}" for name, value in new.items())
        tests = []
        for term in index.terms:
            if term.column is not None:
                value = new.get(term.column) or f"NEW.{quote(term.column)}"  # the rowid
                tests.append(f"t.{quote(term.column)} = {value} COLLATE {term.collation}")
            else:
                old = f"(SELECT {term.sql} FROM (SELECT {self._row_of_t()}))"
                tests.append(f"{old} = (SELECT {term.sql} FROM (SELECT {new_row})) COLLATE {term.collation}")
        if index.where is not None:
            tests += [f"(SELECT {index.where} FROM (SELECT {row}))" for row in (self._row_of_t(), new_row)]
        return " AND ".join(tests)

    def _row_of_t(self) -> str:
        return commas(f"t.{quote(name)} AS {quote(name)}" for name in self.table.names)

    def _note(self, candidate: str) -> str:
        return NOTE_CANDIDATES.format(
            n=self.table.number,
            table=quote(self.table.name),
            noted=" AND ".join(f"t.{c.keyed} = sync_notes_{self.table.number}.{c.new}" for c in self.table.key),
            candidate=candidate,
            columns=commas(c.new for c in self.table.columns),
            values=commas(f"t.{c.sql}" for c in self.table.columns),
        )

    def _log_displaced(self, verb: str) -> str:
        notes = f"sync_notes_{self.table.number}"
        return LOG_DISPLACED.format(
            n=self.table.number,
            table_no=self.table.number,
            kind=int(Kind.DELETE),
            base=self._base({i: f"{notes}.{c.new}" for i, c in enumerate(self.table.key)}),
            hlc=NEXT_HLC,
            columns=commas(c.new for c in self.table.columns),
            gone=f"{self._gone()}{self._not_itself(verb)}",
        )

    def _gone(self) -> str:
        """Render the test whether a noted row is in the table no more."""
        notes = f"sync_notes_{self.table.number}"
        same = " AND ".join(f"t.{c.keyed} = {notes}.{c.new}" for c in self.table.key)
        return f"NOT EXISTS (SELECT 1 FROM {quote(self.table.name)} AS t WHERE {same})"

    def _not_itself(self, verb: str) -> str:
        """Leave out the row that an update itself gives another key: the rekey trigger logs that."""
        if self.table.has_mistyped_children:
            return " AND n0 IS NULL"
        if verb != "update":
            return ""
        notes = f"sync_notes_{self.table.number}"
        return f" AND NOT ({' AND '.join(f'{notes}.{c.new} = OLD.{c.sql}' for c in self.table.key)})"

    def _forget(self, row: str = "OLD") -> str:
        """Drop the note of a row that was written before our eyes, so that it is not logged twice."""
        if not self.table.needs_notes:
            return ""
        return FORGET_NOTE.format(n=self.table.number, same_key=self._is_noted(row))


def _differs(column: Column) -> str:
    """Render the test whether a value differs: to the bit, not by the column's collation, and 1 is not 1.0."""
    test = f"OLD.{column.sql} IS NOT NEW.{column.sql} COLLATE BINARY"
    other_type = f"typeof(OLD.{column.sql}) <> typeof(NEW.{column.sql})"
    if column.key_place and column.collation == "BINARY":  # the row is the same, so its key is equal
        return other_type
    return test if column.has_one_type else f"({test} OR {other_type})"


def _written(name: str, instead_of_null: str | None) -> str:
    """Render what a statement writes; NEW has the NULL yet in whose place REPLACE writes the default."""
    return f"NEW.{quote(name)}" if instead_of_null is None else f"ifnull(NEW.{quote(name)}, {instead_of_null})"


def _has_one_spelling(column: Column) -> bool:
    """Tell whether equal values of a column are the same bytes."""
    return column.collation == "BINARY" and column.has_one_type
