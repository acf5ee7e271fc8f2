"""The group of all commands, in the order in which one meets them."""

from __future__ import annotations

import io
import sys

import click

from sqlite_sync import __version__
from sqlite_sync.cli.adopt_command import adopt
from sqlite_sync.cli.bundle_commands import bundle, import_, inspect, sync
from sqlite_sync.cli.conflict_commands import conflicts, resolve
from sqlite_sync.cli.database_commands import (
    disable,
    enable,
    init,
    log,
    migrate,
    reconcile,
    renew,
    status,
    trigger,
    uninstall,
)
from sqlite_sync.cli.demo import run_demo
from sqlite_sync.cli.doctor_command import doctor
from sqlite_sync.cli.explain_command import explain
from sqlite_sync.cli.group import EPILOG, HELP, Commands, examples, terminal


@click.group(cls=Commands, help=HELP, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sqlite-sync")
def commands() -> None:
    """Hold the commands."""


@click.command(epilog=examples("sqlite-sync demo", "sqlite-sync demo --keep"))
@click.option("--keep", is_flag=True, help="Keep the folder, to look around in it.")
def demo(*, keep: bool) -> None:
    """Watch two copies of a small database part, meet and agree.

    All in a temporary folder; nothing of yours is touched.
    """
    run_demo(terminal(), keep=keep)


for command in (
    *(demo, doctor, init, enable, adopt, sync, status, conflicts, resolve),
    *(bundle, inspect, import_, log, explain, trigger, disable, reconcile, migrate, renew, uninstall),
):
    commands.add_command(command)


def run() -> None:
    """Run the command line on this process's arguments."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter must not end the program
    commands(prog_name="sqlite-sync")
