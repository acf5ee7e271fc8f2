"""What the doctor says, as values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Level = Literal["ok", "note", "warning", "error"]
LEVELS: tuple[Level, ...] = ("ok", "note", "warning", "error")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found out.

    `ok`: as it should be. `note`: good to know. `warning`: sync works, but this will be met. `error`: this cannot be
    synced, or sync is broken here. `code` names the kind of finding, for programs; `remedy` says what to do.
    """

    level: Level
    code: str
    message: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class TableDiagnosis:
    """A table or view of the application: what it is (`kind`), its key, and what was found."""

    name: str
    kind: str
    key: tuple[str, ...]
    columns: int
    is_enabled: bool
    can_be_synced: bool
    findings: tuple[Finding, ...]

    @property
    def level(self) -> Level:
        """The worst level of its findings."""
        return worst(self.findings)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What the doctor found in a file: `findings` on the file as a whole, and each table's."""

    path: Path
    is_prepared: bool
    is_deep: bool
    findings: tuple[Finding, ...]
    tables: tuple[TableDiagnosis, ...]

    @property
    def level(self) -> Level:
        """The worst level of all findings."""
        return worst([*self.findings, *(finding for table in self.tables for finding in table.findings)])


def worst(findings: Iterable[Finding]) -> Level:
    """Return the worst level; `ok` where nothing was found."""
    return max((finding.level for finding in findings), key=LEVELS.index, default="ok")
