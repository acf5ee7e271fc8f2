"""Take tables into sync whose rows another file had as well before both met (SPEC.md, section 6.4)."""

from __future__ import annotations

from collections.abc import Mapping

from sqlite_sync import catalog, enroller, mapping, pairing, tables
from sqlite_sync.database import Database
from sqlite_sync.errors import TableError
from sqlite_sync.mapping import Wish
from sqlite_sync.pairing import DISTINCT, KEY, Adoption, Same
from sqlite_sync.tables import fold


def adopt(database: Database, same: Mapping[str, Same], references: Mapping[str, str]) -> dict[str, Adoption]:
    """Enable tables, and say which of their rows are those that arrived; in the caller's transaction."""
    if not isinstance(same, Mapping) or not same:
        msg = f"adopt was told {same!r}: name tables, and how their rows are the same, as in {{'customers': ['email']}}"
        raise TableError(msg)
    wanted = {fold(tables.find(database, name)): each for name, each in same.items()}
    if set(same.values()) != {DISTINCT} and not any(catalog.entry(database, name) for name in wanted):
        msg = f"nothing has arrived for {', '.join(same)}: import the other file's bundle first, then adopt"
        raise TableError(msg)
    return {
        name: _adopt(database, name, Wish(references=references, same=wanted[fold(name)]))
        for name in enroller.parents_first(enroller.parents(database, references))
        if fold(name) in wanted
    }


def _adopt(database: Database, name: str, wish: Wish) -> Adoption:
    assert wish.same is not None  # that is what it is about  # noqa: S101
    entry = catalog.entry(database, name)
    is_distinct = wish.same == DISTINCT
    if entry is not None and catalog.was_enabled(database, entry.number):
        if not (is_distinct and entry.is_mapped):
            msg = (
                f"{name} was enabled in {database.path} already, and its rows have their names. To say which of them "
                "are those of another file: uninstall, initialize, import the other file's bundle, then adopt"
            )
            raise TableError(msg)
        catalog.set_distinct(database, entry.number)
        return Adoption(0, 0, database.one(f"SELECT count(*) FROM {tables.quote(name)}"), 0, 0)
    table = mapping.register_own(database, tables.read(database, name, 0, {}), wish)
    entry = mapping.registered(database, name)
    if is_distinct and not entry.is_mapped:
        msg = f"rows of {name} are the same where the key is the same, on every device: give {KEY!r}"
        raise TableError(msg)
    adoption = pairing.compare(database, entry, table, wish.same)
    enroller.enable(database, name, wish)
    if is_distinct:
        catalog.set_distinct(database, entry.number)
    return adoption
