"""The commands on one database: prepare it, look at it, mend it."""

from __future__ import annotations

import subprocess
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import click

from sqlite_sync import Operation, SyncEngine
from sqlite_sync.cli.adopt_command import pairs
from sqlite_sync.cli.group import (
    database_argument,
    examples,
    existing,
    full_option,
    json_option,
    opened,
    print_json,
    require_synced,
    say,
    synced_name,
    table_option,
    view_of,
)
from sqlite_sync.cli.values import machine, operation_fields, printable
from sqlite_sync.cli.views import count

WORDS = {"fires": True, "silent": False, "rule": None}
SHORT_REACH = 10_000  # operations that are held in memory at once


@click.command(epilog=examples("sqlite-sync init notes.db", "sqlite-sync init --create new.db"))
@database_argument
@click.option("--create", is_flag=True, help="Make an empty database if there is none.")
@json_option
def init(*, database: Path, create: bool, as_json: bool) -> None:
    """Prepare a database for syncing, and print its device id.

    Your tables are not touched. Doing it again changes nothing. Where several devices begin from copies of one file,
    copy it first and prepare each copy.
    """
    if create and not database.exists():
        database.touch(exist_ok=False)
    with existing(database) as engine:
        device_id = engine.initialize()
    if as_json:
        print_json({"path": str(database), "device_id": device_id.hex()})
    else:
        click.echo(device_id.hex())


@click.command(epilog=examples("sqlite-sync enable notes.db notes tags", "sqlite-sync enable notes.db --all"))
@database_argument
@click.argument("tables", metavar="[TABLE...]", nargs=-1)
@click.option("--all", "is_all", is_flag=True, help="Every table that can be synced.")
@click.option(
    "--keys",
    type=click.Choice(["natural", "mapped"]),
    help="Natural: a number is the same row everywhere. Mapped, as counted keys are else: each device counts.",
)
@click.option(
    "--reference", "references", metavar="COLUMN=TABLE", multiple=True, help="A column refers to a mapped table."
)
@json_option
def enable(  # noqa: PLR0913 - one for each option
    *,
    database: Path,
    tables: tuple[str, ...],
    is_all: bool,
    keys: str | None,
    references: tuple[str, ...],
    as_json: bool,
) -> None:
    """Begin to capture every change of these tables.

    Any program can go on writing to them. Rows that are there already are taken in as the baseline. Tables that others
    refer to come first, in whatever order they are named: name them together. With --all, tables that cannot be synced
    are named, with the reason, and left out; `doctor` says so beforehand.
    """
    if is_all == bool(tables):
        message = "name the tables, or use --all"
        raise click.UsageError(message)
    named = dict(pairs(references))
    rows: dict[str, int] = {}
    refused: dict[str, str] = {}
    with opened(database) as engine:
        if is_all:
            done = engine.enable_sync_for_all_tables(keys=keys, references=named)
            rows, refused = dict(done.enabled), dict(done.refused)
        for table in parents_first(engine, tables, named):
            rows[table] = engine.enable_sync_for_table(table, keys=keys, references=named)
            if not as_json:
                click.echo(_enabled(table, rows[table]))
        if not as_json:
            _suggest(engine, rows)
    if as_json:
        print_json({"baseline_rows": rows, **({"refused": refused} if is_all else {})})
    elif is_all:
        lines = [_enabled(*each) for each in rows.items()]
        lines += [printable(f"{table}: not enabled: {why}") for table, why in refused.items()]
        click.echo("\n".join(lines) or "nothing to enable: every table is synced already, or there is none")


def parents_first(engine: SyncEngine, tables: Sequence[str], references: Mapping[str, str]) -> list[str]:
    """Order named tables so that each comes after those that it refers to: what its numbers mean is known then."""
    said = {(column.rpartition(".")[0].lower(), parent.lower()) for column, parent in references.items()}
    select = 'SELECT "table" FROM pragma_foreign_key_list(?)'
    parents = {
        table: {parent.lower() for (parent,) in engine.connection.execute(select, (table,)).fetchall()}
        | {parent for child, parent in said if child == table.lower()}
        for table in tables
    }
    ordered, waiting = list[str](), list(dict.fromkeys(tables))
    while waiting:
        ahead = {table.lower() for table in waiting}
        free = [table for table in waiting if not (parents[table] - {table.lower()}) & ahead]
        ordered += free or waiting[:1]  # references in a circle
        waiting = [table for table in waiting if table not in ordered]
    return ordered


def _suggest(engine: SyncEngine, enabled: Collection[str]) -> None:
    """Name columns that look like references, and whose numbers would not be translated."""
    names = {name.lower() for name in enabled}
    for table in engine.doctor().tables:
        if table.name.lower() in names:
            for finding in table.findings:
                if finding.code == "reference" and finding.level == "warning":
                    say(f"{table.name}: {finding.message}; {finding.remedy}")


def _enabled(table: str, rows: int) -> str:
    return printable(f"{table}: enabled, {count(rows, 'row')} taken in as the baseline")


@click.command(epilog=examples("sqlite-sync trigger notes.db notes_ai fires"))
@database_argument
@click.argument("name", metavar="TRIGGER")
@click.argument("word", metavar="fires|silent|rule", type=click.Choice(list(WORDS)))
@json_option
def trigger(*, database: Path, name: str, word: str, as_json: bool) -> None:
    """Decide whether a trigger fires on import.

    `rule` leaves it to the rule: it fires if everything it writes is outside the synced tables. `status` shows what is
    decided.
    """
    with opened(database) as engine:
        engine.set_trigger_fires(name, WORDS[word])
        decided = [each for each in engine.status().triggers if each.name.lower() == name.lower()]
    if as_json:
        print_json({"triggers": machine(decided)})
        return
    for each in decided:
        click.echo(printable(f"{each.name}: {'fires' if each.fires else 'does not fire'} on import ({each.reason})"))
    if not decided:
        click.echo(printable(f"{name}: noted; it stands on no synced table"))


@click.command(epilog=examples("sqlite-sync disable notes.db drafts"))
@database_argument
@click.argument("table", metavar="TABLE")
def disable(*, database: Path, table: str) -> None:
    """Cease to capture a table; its log stays."""
    with opened(database) as engine:
        engine.disable_sync_for_table(table)
    click.echo(printable(f"{table}: disabled"))


@click.command(epilog=examples("sqlite-sync status notes.db", "sqlite-sync status notes.db --json"))
@database_argument
@full_option
@json_option
def status(*, database: Path, full: bool, as_json: bool) -> None:
    """Show a database's device id, tables, conflicts and peers."""
    with opened(database) as engine:
        found = engine.status()
        if as_json:
            print_json(machine(found))
        else:
            view_of(database, engine, full=full).status(found)


@click.command(epilog=examples("sqlite-sync log notes.db", "sqlite-sync log notes.db --table tags --limit 0 --json"))
@database_argument
@table_option
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    default=20,
    show_default=True,
    help="Only the last so many; 0: all.",
)
@full_option
@json_option
def log(*, database: Path, table: str | None, limit: int, full: bool, as_json: bool) -> None:
    """Show the operations, in the order that all devices share.

    The last one is the newest. With --json, each is one line.
    """
    with opened(database) as engine:
        name = synced_name(engine, table)
        view = view_of(database, engine, full=full)
        is_empty = True
        for operation in last_operations(engine, name, limit) if limit else engine.operations(name):
            is_empty = False
            if as_json:
                print_json(operation_fields(operation), indent=None)
            else:
                view.operation(operation)
        if is_empty:
            require_synced(engine, name)


def last_operations(engine: SyncEngine, table: str | None, limit: int) -> Sequence[Operation]:
    """Read the end of the log, at the cost of the end where that is enough.

    The last N operations of all are among the last N of each device.
    """
    reach = limit
    while reach <= SHORT_REACH:
        since = {device_id: max(seq - reach, 0) for device_id, seq in engine.get_vector_clock().items()}
        newest = deque(engine.operations(since=since), maxlen=reach)
        found = [operation for operation in newest if table in (None, operation.table_name)]
        if len(found) >= limit or len(newest) < reach:
            return found[-limit:]
        reach *= 8
    return deque(engine.operations(table), maxlen=limit)


@click.command(epilog=examples("sqlite-sync reconcile notes.db", "sqlite-sync reconcile notes.db notes"))
@database_argument
@click.argument("table", metavar="[TABLE]", required=False)
@json_option
def reconcile(*, database: Path, table: str | None, as_json: bool) -> None:
    """Write into the log what changed while nothing was captured.

    Needed after a table was rebuilt or altered; `status` and every other command say so.
    """
    with opened(database) as engine:
        written = engine.reconcile(table)
    if as_json:
        print_json({"operations": written})
    else:
        click.echo(f"{count(written, 'operation')} written")


@click.command(
    epilog=examples("sqlite-sync migrate app.db python manage.py migrate"),
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@database_argument
@click.argument("command", metavar="COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
def migrate(*, database: Path, command: tuple[str, ...]) -> None:
    """Run a migration, with capture off around it.

    Only for one that drops columns: SQLite refuses that while a trigger names the column. Then what it changed is
    logged, and capture goes on. The exit code is that of the command.
    """
    with opened(database) as engine, engine.migration():
        code = subprocess.run(command, check=False).returncode  # noqa: S603 - the user's own command
    raise click.exceptions.Exit(code)


@click.command(epilog=examples("sqlite-sync renew restored.db", "sqlite-sync renew copy.db refused.bundle"))
@database_argument
@click.argument("bundle_file", metavar="[BUNDLE]", type=click.Path(path_type=Path), required=False)
@json_option
def renew(*, database: Path, bundle_file: Path | None, as_json: bool) -> None:
    """Give a copied or restored database a device id of its own.

    Name the bundle that was refused, if there was one: what was written since the copy then becomes the new device's.
    """
    with opened(database) as engine:
        device_id = engine.renew_device(bundle_file)
    if as_json:
        print_json({"path": str(database), "device_id": device_id.hex()})
    else:
        click.echo(device_id.hex())


@click.command(epilog=examples("sqlite-sync uninstall notes.db", "sqlite-sync uninstall notes.db --yes"))
@database_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--discard-parked", is_flag=True, help="Even if rows are parked, whose values only the log has.")
def uninstall(*, database: Path, yes: bool, discard_parked: bool) -> None:
    """Remove sqlite-sync from a database; your tables stay.

    The log goes, and with it what no other device has yet and every open conflict. It asks first. Rows that a
    constraint keeps out of their table stand in the log alone: while there are any, it refuses, and names them.
    """
    with opened(database) as engine:
        if not yes:
            found = engine.status()
            lost = f"{count(found.operations, 'operation')} and {count(found.open_conflicts, 'open conflict')}"
            say(f"This removes the log of {database}: {lost}. Your tables stay as they are.")
            click.confirm("Go on?", abort=True, err=True)
        engine.uninstall(discard_parked=discard_parked)
    click.echo(printable(f"{database}: sqlite-sync is removed"))
