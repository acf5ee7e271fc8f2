"""The commands that exchange: bundles by hand, or all at once through a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from sqlite_sync import GapError, ImportResult, Strategy, SyncEngine, SyncError, inspect_bundle
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
    reason,
    say,
    terminal,
    view_of,
)
from sqlite_sync.cli.progress import ProgressBar
from sqlite_sync.cli.strategy_names import resolve_option
from sqlite_sync.cli.values import fields, machine, operation_fields, printable, short_device
from sqlite_sync.cli.views import View, count

Imported = tuple[Path, ImportResult]
Refused = tuple[Path, Exception]

TRAILER_BYTES = 56
TRAILER_MAGIC = b"sqlite-sync "
FULL_ID = 32  # hexadecimal digits


@click.command(
    epilog=examples(
        "sqlite-sync bundle notes.db -o tablet.bundle \\",
        "    --peer 0193a5c27e4f7a03b6d98c1d52e0f417",
        "sqlite-sync bundle notes.db -o tablet.bundle --peer 52e0f417",
        "sqlite-sync bundle notes.db -o all.bundle --everything",
    )
)
@database_argument
@click.option("--peer", metavar="HEX", help="The other device's id, or its end once it is known here.")
@click.option("--everything", is_flag=True, help="Write all that is held here, for anyone, instead of for one peer.")
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The bundle; an older one is replaced.",
)
@click.option("--acknowledge", is_flag=True, help="Write one even if there is nothing new, to say what is held here.")
@json_option
def bundle(  # noqa: PLR0913 - one for each option
    *, database: Path, peer: str | None, everything: bool, output: Path, acknowledge: bool, as_json: bool
) -> None:
    """Write what a peer lacks into a file to carry there.

    What was written is sent again each time, until the peer's own bundle says that it arrived. The peer's device id is
    what `init` and `status` print there.
    """
    if everything == (peer is not None):
        message = "give either --peer or --everything"
        raise click.UsageError(message)
    check_output(output)
    with opened(database) as engine:
        peer_id = None if peer is None else device_named(engine, peer)
        path = engine.generate_bundle(peer_id, output, acknowledge=acknowledge)
    whom = "anyone" if peer_id is None else short_device(peer_id)
    if as_json:
        print_json({"path": machine(path), "peer_device_id": machine(peer_id)})
    elif path is None:
        say(f"nothing new for {whom}: no bundle written")
    else:
        click.echo(printable(f"{path}: {path.stat().st_size:,} bytes for {whom}"))


def check_output(output: Path) -> None:
    """Refuse to replace anything but an older bundle, whose operations are all in the log."""
    if output.is_dir():
        message = f"{output}: is a folder; name a file in it"
        raise Failure(message)
    if output.exists() and not is_bundle(output):
        message = f"{output}: is there already and is no bundle; name another file"
        raise Failure(message)


def is_bundle(path: Path) -> bool:
    """Tell a bundle by its trailer (SPEC.md, section 7), whether or not it is whole."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - TRAILER_BYTES, 0))
        return file.read(len(TRAILER_MAGIC)) == TRAILER_MAGIC


def device_named(engine: SyncEngine, text: str) -> bytes:
    """Find the device that a full id, or the end of a known one, names."""
    digits = text.replace("-", "").lower()
    if not digits or not set(digits) <= set("0123456789abcdef"):
        message = f"{text!r} is no device id, which is made of hexadecimal digits"
        raise click.BadParameter(message, param_hint="--peer")
    if len(digits) == FULL_ID:
        return bytes.fromhex(digits)
    known = {peer.device_id for peer in engine.status().peers} | set(engine.get_vector_clock())
    found = [device for device in known if device.hex().endswith(digits)]
    if len(found) == 1:
        return found[0]
    whose = "several known device ids end" if found else "no known device id ends"
    message = f"{whose} in {text}: give all {FULL_ID} digits"
    raise Failure(message)


@click.command(epilog=examples("sqlite-sync inspect for-tablet.bundle", "sqlite-sync inspect a.bundle --limit 1000"))
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--limit", type=click.IntRange(min=0), metavar="N", default=20, show_default=True, help="Show so many operations."
)
@full_option
@json_option
def inspect(*, file: Path, limit: int, full: bool, as_json: bool) -> None:
    """Show what is in a bundle: from whom, what and which rows.

    No database is needed and none is changed.
    """
    info = inspect_bundle(file)
    rows = list(info.rows(limit or info.total_operations))
    if as_json:
        devices = [
            dict(zip(("device_id", "from_seq", "to_seq"), map(machine, each), strict=True)) for each in info.devices
        ]
        print_json({**fields(info), "devices": devices, "rows": [operation_fields(each) for each in rows]})
    else:
        View(terminal(), full=full).bundle(info, rows)


@click.command(
    "import",
    epilog=examples(
        "sqlite-sync import notes.db from-laptop.bundle",
        "sqlite-sync import notes.db --dry-run from-laptop.bundle",
        "sqlite-sync import notes.db stick/*.bundle --exit-code",
        "sqlite-sync import notes.db --resolve merge-fields tablet.bundle",
    ),
)
@database_argument
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@resolve_option
@exit_code_option
@full_option
@json_option
def import_(  # noqa: PLR0913 - one for each option
    *, database: Path, files: tuple[Path, ...], dry_run: bool, resolver: Strategy | None, full: bool, as_json: bool
) -> None:
    """Take in the bundles of other devices.

    A bundle that was imported before changes nothing. Of several files, one that is refused does not stop the others;
    one that continues another is imported after it, whatever their order.
    """
    with opened(database) as engine:
        imported, refused = import_all(engine, files, resolver, dry_run=dry_run)
        open_conflicts = len(engine.get_unresolved_conflicts())
        view = view_of(database, engine, full=full)
    if as_json:
        results = [{"path": str(file), **fields(result)} for file, result in imported]
        reasons = [{"path": str(file), "reason": reason(error)} for file, error in refused]
        print_json({"imported": results, "refused": reasons, "open_conflicts": open_conflicts})
    else:
        for file, result in imported:
            view.imported(str(file), result)
        if imported and not dry_run:
            view.facts([("conflicts", view.open_conflicts(open_conflicts))])
    for _, error in refused:
        say(f"Error: {reason(error)}")
    if refused:
        raise click.exceptions.Exit(1)
    exit_for(open_conflicts)


def import_all(
    engine: SyncEngine, files: Sequence[Path], resolver: Strategy | None, *, dry_run: bool
) -> tuple[list[Imported], list[Refused]]:
    """Import files, those with a gap again after the others, until nothing more can be imported."""
    imported: list[Imported] = []
    refused: list[Refused] = []
    waiting = list(files)
    while waiting:
        gaps: list[Refused] = []
        before = len(imported)
        for file in waiting:
            try:
                imported.append((file, import_file(engine, file, resolver, dry_run=dry_run)))
            except GapError as error:
                gaps.append((file, error))
            except (SyncError, OSError) as error:
                refused.append((file, error))
        is_stuck = dry_run or len(imported) == before
        refused += gaps if is_stuck else []
        waiting = [] if is_stuck else [file for file, _ in gaps]
    return imported, refused


def import_file(engine: SyncEngine, file: Path, resolver: Strategy | None, *, dry_run: bool) -> ImportResult:
    """Import a file, and show the progress of a long one."""
    with ProgressBar(file.name) as bar:
        return engine.import_bundle(file, resolver=resolver, dry_run=dry_run, progress=bar)


@click.command(epilog=examples("sqlite-sync sync notes.db ~/Dropbox/notes", "sqlite-sync sync notes.db /media/stick"))
@database_argument
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@resolve_option
@exit_code_option
@full_option
@json_option
def sync(*, database: Path, folder: Path, resolver: Strategy | None, full: bool, as_json: bool) -> None:
    """Exchange everything with the other devices that use a folder.

    The folder can be on a stick, or one that another program keeps in step. It must be there: an absent one is more
    often a stick that is not plugged in than a new one. Repeat this on each device, whenever you like.
    """
    if not folder.is_dir():
        message = f"{folder}: no such folder; plug it in, or make it with mkdir"
        raise Failure(message)
    with opened(database) as engine:
        with ProgressBar(folder.name) as bar:
            result = engine.sync_folder(folder, resolver=resolver, progress=bar)
        open_conflicts = len(engine.get_unresolved_conflicts())
        view = view_of(database, engine, full=full)
    if as_json:
        print_json({**fields(result), "open_conflicts": open_conflicts})
    else:
        view.folder(result, open_conflicts)
    if result.refused:
        message = (
            f"{folder}: {count(len(result.refused), 'bundle')} refused, for the reasons given; the rest is exchanged"
        )
        raise Failure(message)
    exit_for(open_conflicts)
