"""Strategies as one names them on the command line."""

from __future__ import annotations

from typing import Any

import click

from sqlite_sync import (
    HigherVersionWins,
    KeepBoth,
    LastWriteWins,
    MergeFields,
    PreferLocal,
    PreferRemote,
    Strategy,
)

PLAIN: dict[str, type[LastWriteWins | PreferLocal | PreferRemote | KeepBoth]] = {
    "last-write-wins": LastWriteWins,
    "prefer-local": PreferLocal,
    "prefer-remote": PreferRemote,
    "keep-both": KeepBoth,
}
NAMES = (*PLAIN, "merge-fields[:NAME]", "higher-version-wins:COLUMN")


def strategy_named(text: str) -> Strategy:
    """Make the strategy of a name such as merge-fields:last-write-wins."""
    name, _, rest = text.partition(":")
    name = name.lower()
    if name in PLAIN and not rest:
        return PLAIN[name]()
    if name == "merge-fields":
        return MergeFields(strategy_named(rest) if rest else None)
    if name == "higher-version-wins" and rest:
        return HigherVersionWins(rest)
    message = f"there is no strategy {text!r}; there are {', '.join(NAMES)}"
    raise click.BadParameter(message)


class StrategyName(click.ParamType):  # type: ignore[type-arg] # not generic in older releases
    """An option's value that names a strategy."""

    name = "strategy"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Strategy:  # noqa: ANN401
        """Make the strategy."""
        del param, ctx
        return value if isinstance(value, Strategy) else strategy_named(value)


resolve_option = click.option(
    "--resolve",
    "resolver",
    metavar="STRATEGY",
    type=StrategyName(),
    help="Let a strategy decide the conflicts that this opens; see `sqlite-sync resolve --help`.",
)
