"""SQL as an application would write it on a schema: every statement concrete, so that it can be run again by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random

from verification.fitting import Fitting, Row, insert, literal, often, seldom
from verification.naming import RowName
from verification.subject import Table, quote

Content = Mapping[str, Mapping[RowName, Mapping[str, object]]]  # table -> rows, as they stand now


class Writer:
    """Makes statements for a device, from what stands in its tables."""

    def __init__(self, fitting: Fitting, now: Content, chance: Random) -> None:
        self._fitting = fitting
        self._now = now
        self._chance = chance

    def script(self) -> list[str]:
        """Make one statement, or a transaction of some."""
        statements = [self.statement() for _ in range(self._chance.choice([1, 1, 1, 2, 3]))]
        if len(statements) == 1:
            return statements
        match self._chance.randrange(6):
            case 0:
                return ["BEGIN", *statements, "ROLLBACK"]
            case 1:
                return ["BEGIN", statements[0], "SAVEPOINT s", *statements[1:], "ROLLBACK TO s", "COMMIT"]
            case 2 | 3:
                return ["BEGIN", *statements, "COMMIT"]
            case _:
                return statements

    def statement(self) -> str:
        """Make a statement on some table."""
        table = self._chance.choice(self._fitting.subject.tables)
        makers: list[Callable[[Table], str]] = [
            *[self._insert] * 4,
            *[self._replace] * 2,
            self._upsert,
            *[self._update] * 5,
            self._update_all,
            self._rekey,
            *[self._delete] * 2,
            self._delete_like,
        ]
        return self._chance.choice(makers)(table)

    def row(self, table: Table) -> Row:
        """Make a row for a table as it stands."""
        return self._fitting.row(table, self._chance, self._parents(table))

    def values(self, table: Table) -> Row:
        """Make values for some columns outside the key."""
        row = self.row(table)
        names = [name for name in table.payload if name in row]
        chosen = self._chance.sample(names, self._chance.choice([1, 1, 2, len(names)]) % (len(names) + 1))
        chosen = chosen or names[:1]
        return {name: row[name] for name in names if name in chosen}

    def _parents(self, table: Table) -> list[list[Row]]:
        return [
            [
                {child: row[target] for child, target in zip(reference.columns, reference.targets, strict=False)}
                for row in self._now.get(reference.parent, {}).values()
                if all(target in row for target in reference.targets)
            ]
            for reference in table.references
        ]

    def _key(self, table: Table) -> str:
        """Name a row: most often one that is there."""
        rows = list(self._now.get(table.name, {}).values())
        row = self._chance.choice(rows) if rows and often(self._chance) else self.row(table)
        return " AND ".join(f"{quote(name)} = {literal(row[name])}" for name in table.key if name in row)

    def _insert(self, table: Table) -> str:
        row = self.row(table)
        if table.has_number_key and seldom(self._chance):
            del row[table.key[0]]  # the next number
        return insert(table.name, row, self._chance.choice(["INSERT", "INSERT", "INSERT", "INSERT OR IGNORE"]))

    def _replace(self, table: Table) -> str:
        return insert(table.name, self.row(table), "INSERT OR REPLACE")

    def _upsert(self, table: Table) -> str:
        row, update = self.row(table), self._assignments(self.values(table))
        action = f"UPDATE SET {update}" if update else "NOTHING"
        return f"{insert(table.name, row)} ON CONFLICT DO {action}"

    def _update(self, table: Table) -> str:
        values = self.values(table)
        verb = self._chance.choice(["UPDATE", "UPDATE", "UPDATE", "UPDATE OR REPLACE", "UPDATE OR IGNORE"])
        if not values:
            return self._delete(table)
        return f"{verb} {quote(table.name)} SET {self._assignments(values)} WHERE {self._key(table)}"

    def _update_all(self, table: Table) -> str:
        values = self.values(table)
        if not values:
            return self._delete(table)
        [(name, value), *_] = values.items()
        return f"UPDATE OR IGNORE {quote(table.name)} SET {quote(name)} = {literal(value)}"

    def _rekey(self, table: Table) -> str:
        row = self.row(table)
        name = self._chance.choice(table.key)
        verb = self._chance.choice(["UPDATE", "UPDATE", "UPDATE OR REPLACE"])
        return f"{verb} {quote(table.name)} SET {quote(name)} = {literal(row[name])} WHERE {self._key(table)}"

    def _delete(self, table: Table) -> str:
        return f"DELETE FROM {quote(table.name)} WHERE {self._key(table)}"

    def _delete_like(self, table: Table) -> str:
        values: Sequence[tuple[str, object]] = list(self.values(table).items())
        if not values or not seldom(self._chance):
            return self._delete(table)
        name, value = values[0]
        return f"DELETE FROM {quote(table.name)} WHERE {quote(name)} IS {literal(value)}"

    def _assignments(self, values: Row) -> str:
        return ", ".join(f"{quote(name)} = {literal(value)}" for name, value in values.items())
