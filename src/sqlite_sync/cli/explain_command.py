"""The command that tells the story of one row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from sqlite_sync import Conflict, Event, Explanation, SyncEngine, TableError, Value
from sqlite_sync.cli.group import (
    Failure,
    database_argument,
    examples,
    full_option,
    json_option,
    opened,
    print_json,
    view_of,
)
from sqlite_sync.cli.side_by_side import PARKED
from sqlite_sync.cli.typed_rows import typed_values
from sqlite_sync.cli.values import fields, operation_fields, printable, short_conflict, short_device
from sqlite_sync.cli.views import View, count


@click.command(epilog=examples("sqlite-sync explain notes.db notes n1", "sqlite-sync explain shop.db items 7 red"))
@database_argument
@click.argument("table", metavar="TABLE")
@click.argument("key", metavar="KEY...", nargs=-1, required=True)
@full_option
@json_option
def explain(*, database: Path, table: str, key: tuple[str, ...], full: bool, as_json: bool) -> None:
    """Tell the story of a row: who wrote what, over what.

    KEY is the row's primary key: a value for each of its columns, in its order. The operations come in the order that
    all devices share, each with what it superseded and which conflicts it opened or closed. In the end: how the row
    stands, and which other rows a constraint keeps out because of it.
    """
    with opened(database) as engine:
        story = engine.explain(table, key_values(engine, table, key))
        view = view_of(database, engine, full=full)
    if as_json:
        print_json({**fields(story), "events": [event_fields(event) for event in story.events]})
    else:
        show(view, story)


def key_values(engine: SyncEngine, table: str, texts: tuple[str, ...]) -> dict[str, Value]:
    """Read a key that was typed, as its columns would store it."""
    rows = engine.connection.execute(
        "SELECT name FROM pragma_table_info(?, 'main') WHERE pk > 0 ORDER BY pk", (table,)
    ).fetchall()
    names = [name for (name,) in rows]
    if not names:
        message = f"{table} is no table of {engine.path} with a primary key"
        raise TableError(message)
    if len(names) != len(texts):
        message = f"the key of {table} is {', '.join(names)}: give {len(names)} value(s), not {len(texts)}"
        raise Failure(message)
    return typed_values(engine, table, dict(zip(names, texts, strict=True)))


def show(view: View, story: Explanation) -> None:
    """Show each event on two or three lines, and how the row stands."""
    names = {event.operation.op_id: dot(view, event) for event in story.events}
    for event in story.events:
        view.operation(event.operation)
        over = [f"over {', '.join(names[one] for one in event.superseded)}"] if event.superseded else []
        opened_, closed = (
            [f"{verb} conflict {pair.hex() if view.full else short_conflict(pair)}" for pair in pairs]
            for verb, pairs in (("opens", event.opened), ("closes", event.closed))
        )
        if event.operation.kind.startswith("resolve") and over and not closed:
            closed = ["in a conflict of constraints"]
        if said := "; ".join([*over, *opened_, *closed]):
            view.line(" " * 21 + said)
    view.line()
    if story.birth is not None:
        device_id, number = story.birth
        view.line(
            f"to other devices: number {number} of device {device_id.hex() if view.full else short_device(device_id)}"
        )
    kinds = {conflict.kind for conflict in story.open_conflicts}
    stands = "deleted" if last_head(story).image is None else "in its table"
    if story.is_parked:
        stands = "parked: " + "; ".join(PARKED[kind] for kind in sorted(kinds & PARKED.keys()))
    view.line(f"{stands}; {count(len(story.open_conflicts), 'open conflict')}{named(view, story.open_conflicts)}")
    for one in story.keeps_out:
        row = printable(f"{one.table_name} {view.key(one.row_pk)}")
        view.line(f"keeps out {row}: {one.kind}{named(view, [one])}")


def named(view: View, found: Sequence[Conflict]) -> str:
    """Name conflicts in brackets, if there are any."""
    return f" ({', '.join(map(view.conflict_name, found))})" if found else ""


def dot(view: View, event: Event) -> str:
    """Name an operation as the log does."""
    device = event.operation.device_id
    return f"{device.hex() if view.full else short_device(device)}:{event.operation.seq}"


def last_head(story: Explanation) -> Event:
    """Return the shown head: of the heads a live one before a deletion, then the last."""
    return max(
        (event for event in story.events if event.is_head),
        key=lambda event: (event.image is not None, story.events.index(event)),
    )


def event_fields(event: Event) -> dict[str, object]:
    """Turn an event into a JSON object."""
    return {**fields(event), "operation": operation_fields(event.operation)}
