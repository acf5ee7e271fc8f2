"""The commands on conflicts: see them, and close them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from sqlite_sync import Conflict, SyncEngine, Value
from sqlite_sync.cli.group import (
    Failure,
    database_argument,
    examples,
    exit_code_option,
    exit_for,
    full_option,
    json_option,
    opened,
    print_json,
    require_synced,
    synced_name,
    table_option,
    view_of,
)
from sqlite_sync.cli.values import fields, operation_fields, printable, typed

CHOICES: dict[str, Literal["local", "remote"] | None] = {"local": "local", "remote": "remote", "delete": None}
STANDS = {"local": "the local version", "remote": "the remote version", "delete": "deleted"}


def column_value(_context: click.Context, _option: click.Parameter, texts: tuple[str, ...]) -> dict[str, str]:
    """Split the arguments of --set."""
    pairs = [text.partition("=") for text in texts]
    for name, equals, _ in pairs:
        if not (name and equals):
            message = f"{name!r} is not of the form COLUMN=VALUE"
            raise click.BadParameter(message)
    return {name: text for name, _, text in pairs}


@click.command(epilog=examples("sqlite-sync conflicts notes.db", "sqlite-sync conflicts notes.db --table tags --full"))
@database_argument
@table_option
@exit_code_option
@full_option
@json_option
def conflicts(*, database: Path, table: str | None, full: bool, as_json: bool) -> None:
    """Show the open conflicts, the versions of a row side by side.

    The local version is the one that the table shows now, on every device alike. Columns that are equal are left out.
    """
    with opened(database) as engine:
        name = synced_name(engine, table)
        found = engine.get_unresolved_conflicts(name)
        if not found:
            require_synced(engine, name)
        view = view_of(database, engine, full=full)
        if as_json:
            listed = [{**fields(each), **fields(engine.images(each))} for each in found]
            print_json({"open_conflicts": len(found), "conflicts": listed})
        else:
            for each in found:
                view.conflict(each, engine.images(each))
                view.line()
            view.conflicts_end(len(found))
    exit_for(len(found))


@click.command(
    epilog=examples(
        "sqlite-sync resolve notes.db 4e1f09ab remote",
        "sqlite-sync resolve notes.db 4e1f --set title='Milk and eggs' --set done=1",
    )
)
@database_argument
@click.argument("conflict_id", metavar="CONFLICT_ID")
@click.argument("choice", required=False, type=click.Choice(["local", "remote", "delete"]))
@click.option(
    "--set",
    "texts",
    multiple=True,
    metavar="COLUMN=VALUE",
    callback=column_value,
    help="The local version with this value; may be repeated.",
)
@json_option
def resolve(*, database: Path, conflict_id: str, choice: str | None, texts: dict[str, str], as_json: bool) -> None:
    """Close a conflict with the version that stands everywhere.

    The first digits of the conflict's id are enough. A VALUE is NULL, a number, x'00ff' for a BLOB, and text otherwise;
    text that looks like one of these goes in single quotes.
    """
    if (choice is None) == (not texts):
        message = "choose one: local, remote, delete, or --set COLUMN=VALUE"
        raise click.UsageError(message)
    with opened(database) as engine:
        conflict = conflict_named(engine, conflict_id)
        values = typed_values(engine, conflict.table_name, texts)
        operation = engine.resolve(conflict, CHOICES[choice] if choice else values)
        open_conflicts = len(engine.get_unresolved_conflicts())
        view = view_of(database, engine)
    if as_json:
        print_json({"operation": operation_fields(operation), "open_conflicts": open_conflicts})
        return
    stands = STANDS[choice] if choice else "as set"
    row = f"{conflict.table_name} {view.key(conflict.row_pk)}"
    click.echo(printable(f"conflict {view.conflict_name(conflict)} is closed: {row} is {stands}"))
    view.facts([("conflicts", view.open_conflicts(open_conflicts))])


def conflict_named(engine: SyncEngine, digits: str) -> Conflict:
    """Find the open conflict whose id begins with these digits."""
    found = [each for each in engine.get_unresolved_conflicts() if each.conflict_id.hex().startswith(digits.lower())]
    if len(found) == 1:
        return found[0]
    problem = f"{len(found)} open conflicts begin" if found else "no open conflict begins"
    message = f"{problem} with {digits!r}; `sqlite-sync conflicts` lists them"
    raise Failure(message)


def typed_values(engine: SyncEngine, table: str, texts: dict[str, str]) -> dict[str, Value]:
    """Read the values of --set, each as its column would store it."""
    rows = engine.connection.execute("SELECT name, type FROM pragma_table_xinfo(?)", (table,)).fetchall()
    columns = {name.lower(): (name, declared) for name, declared in rows}
    values: dict[str, Value] = {}
    for given, text in texts.items():
        if given.lower() not in columns:
            message = f"{table} has no column {given!r}; it has {', '.join(name for name, _ in rows)}"
            raise Failure(message)
        name, declared = columns[given.lower()]
        values[name] = typed(text, declared)
    return values
