"""The commands on conflicts: see them, and close them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import click

from sqlite_sync import Conflict, Operation, Strategy, SyncEngine
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
from sqlite_sync.cli.side_by_side import PARKED
from sqlite_sync.cli.strategy_names import StrategyName
from sqlite_sync.cli.surroundings import Parked, made_room
from sqlite_sync.cli.typed_rows import typed_values
from sqlite_sync.cli.values import fields, operation_fields, printable
from sqlite_sync.cli.views import View
from sqlite_sync.cli.walk import Walk

CHOICES: dict[str, Literal["local", "remote"] | None] = {"local": "local", "remote": "remote", "delete": None}
STANDS = {"local": "the local version", "remote": "the remote version", "delete": "deleted"}
PARKED_STANDS = {"local": "deleted", "remote": "in its table", "delete": "deleted"}


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
        found = list(engine.each_conflict(name))
        if not found:
            require_synced(engine, name)
        view = view_of(database, engine, full=full)
        known = Parked(engine)
        around = [known.around(*each) for each in found if not as_json]
    if as_json:
        listed = [{**fields(conflict), **fields(images)} for conflict, images in found]
        print_json({"open_conflicts": len(found), "conflicts": listed})
    else:
        for (conflict, images), surroundings in zip(found, around, strict=True):
            view.conflict(conflict, images, surroundings)
            view.line()
        view.conflicts_end(conflict for conflict, _ in found)
    exit_for(len(found))


RESOLVE_HELP = """Close conflicts with the versions that stand everywhere.

With a CONFLICT_ID, of which the first digits are enough: one. A VALUE is NULL, a number, x'00ff' for a BLOB, and text
otherwise; text that looks like one of these goes in single quotes.

Of a parked row, which a constraint keeps out of its table: `remote` lets it stand, --set changes it, `local` and
`delete` delete it.

With a strategy and no CONFLICT_ID: all, or those of one table, that the strategy decides. With neither: it shows one
after the other and asks.

\b
Strategies:
  last-write-wins             by the devices' clocks, deletions included
  higher-version-wins:COLUMN  the greater value in a column
  merge-fields                columns that one side alone changed; others
                              stay open, or merge-fields:last-write-wins
  prefer-local                what the table shows, on every device alike
  prefer-remote               the other version
  keep-both                   the other version as a row under a new key
"""


@click.command(
    help=RESOLVE_HELP,
    epilog=examples(
        "sqlite-sync resolve notes.db",
        "sqlite-sync resolve notes.db 4e1f09ab remote",
        "sqlite-sync resolve notes.db 4e1f --set title='Milk and eggs' --set done=1",
        "sqlite-sync resolve notes.db --strategy merge-fields --table notes",
    ),
)
@database_argument
@click.argument("conflict_id", metavar="[CONFLICT_ID]", required=False)
@click.argument("choice", required=False, type=click.Choice(["local", "remote", "delete"]))
@click.option(
    "--set",
    "texts",
    multiple=True,
    metavar="COLUMN=VALUE",
    callback=column_value,
    help="The local version, or the parked row, with this value; may be repeated.",
)
@click.option("--strategy", metavar="STRATEGY", type=StrategyName(), help="Let a strategy decide.")
@table_option
@full_option
@json_option
def resolve(  # noqa: PLR0913 - one for each option
    *,
    database: Path,
    conflict_id: str | None,
    choice: Literal["local", "remote", "delete"] | None,
    texts: dict[str, str],
    strategy: Strategy | None,
    table: str | None,
    full: bool,
    as_json: bool,
) -> None:
    """Close conflicts."""
    check_resolve(conflict_id, [choice, texts, strategy], table=table, as_json=as_json)
    with opened(database) as engine:
        view = view_of(database, engine, full=full)
        name = synced_name(engine, table)
        require_synced(engine, name)
        if conflict_id is None and strategy is None:
            Walk(engine, view, name).run()
        elif conflict_id is None and strategy is not None:
            found = engine.resolve_all(strategy, name)
            open_conflicts = len(engine.get_unresolved_conflicts())
            if as_json:
                print_json({**fields(found), "open_conflicts": open_conflicts})
            else:
                view.resolutions(found)
                view.facts([("conflicts", view.open_conflicts(open_conflicts))])
        elif conflict_id is not None:
            conflict = conflict_named(engine, conflict_id)
            around = Parked(engine).around(conflict, engine.images(conflict))
            operation = resolve_one(engine, conflict, strategy or choice, texts)
            open_conflicts = len(engine.get_unresolved_conflicts())
            if as_json:
                found_operation = None if operation is None else operation_fields(operation)
                print_json({"operation": found_operation, "open_conflicts": open_conflicts})
            else:
                stands = PARKED_STANDS if conflict.kind in PARKED else STANDS
                beside = made_room(conflict, around) if choice == "remote" else ""
                tell_resolved(view, conflict, operation, stands.get(choice or "", "as set") + beside)
                view.facts([("conflicts", view.open_conflicts(open_conflicts))])


def check_resolve(conflict_id: str | None, answers: Sequence[object], *, table: str | None, as_json: bool) -> None:
    """Refuse options that do not go together."""
    choice, texts, strategy = answers
    if conflict_id in CHOICES:
        conflict_id, choice = None, conflict_id
    if conflict_id is not None and sum(map(bool, answers)) != 1:
        message = "choose one: local, remote, delete, --set COLUMN=VALUE, or --strategy"
        raise click.UsageError(message)
    if conflict_id is not None and table:
        message = "give either a CONFLICT_ID or --table"
        raise click.UsageError(message)
    if conflict_id is None and (choice or texts):
        message = "name the conflict first: sqlite-sync resolve DB CONFLICT_ID ..."
        raise click.UsageError(message)
    if conflict_id is None and strategy is None and as_json:
        message = "--json needs a CONFLICT_ID or --strategy: without them, resolve asks"
        raise click.UsageError(message)


def resolve_one(
    engine: SyncEngine, conflict: Conflict, answer: Strategy | str | None, texts: dict[str, str]
) -> Operation | None:
    """Close one conflict; None where the strategy leaves it open."""
    if isinstance(answer, Strategy):
        return engine.resolve(conflict, answer)
    if answer is None:
        return engine.resolve(conflict, typed_values(engine, conflict.table_name, texts))
    return engine.resolve(conflict, CHOICES[answer])


def tell_resolved(view: View, conflict: Conflict, operation: Operation | None, stands: str) -> None:
    """Say what became of one conflict."""
    name, row = view.conflict_name(conflict), f"{conflict.table_name} {view.key(conflict.row_pk)}"
    if operation is None:
        click.echo(printable(f"conflict {name} stays open: the strategy does not decide about {row}"))
    else:
        stands = f"as {operation.strategy} says" if operation.strategy else stands
        click.echo(printable(f"conflict {name} is closed: {row} is {stands}"))


def conflict_named(engine: SyncEngine, digits: str) -> Conflict:
    """Find the open conflict whose id begins with these digits."""
    found = [each for each in engine.get_unresolved_conflicts() if each.conflict_id.hex().startswith(digits.lower())]
    if len(found) == 1:
        return found[0]
    problem = f"{len(found)} open conflicts begin" if found else "no open conflict begins"
    message = f"{problem} with {digits!r}; `sqlite-sync conflicts` lists them"
    raise Failure(message)
