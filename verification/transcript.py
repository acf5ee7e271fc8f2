"""What was done, as a script that does it again with plain `sqlite3` and our command line."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from verification.subject import Subject, quote

HEAD = r"""#!/bin/sh
# Each N.db is a device. Needs in the PATH sqlite3, sqlite-sync (pip install 'sqlite-sync-core[cli]'), python3{needs}.
# It works in a new folder, whose name it prints, and shows in the end what each device holds.
set -u
cd "$(mktemp -d)" && pwd

id() {{ sqlite3 "$1" "SELECT lower(hex(device_id)) FROM sync_devices WHERE ordinal = 0"; }}
conflict() {{  # the id of a device's open conflict, counted from 0
    sqlite-sync conflicts "$1" --json |
        python3 -c "import json, sys; print(json.load(sys.stdin)['conflicts'][$2]['conflict_id'])"
}}
show() {{ sqlite3 -header "$1" "SELECT * FROM $2"; }}
"""


@dataclass
class Transcript:
    """Notes each step as shell; `offsets` are the seconds by which devices' clocks are wrong now."""

    subject: Subject
    lines: list[str] = field(default_factory=list)
    offsets: dict[int, int] = field(default_factory=dict)

    def say(self, comment: str) -> None:
        """Note a comment."""
        self.lines += ["", *(f"# {line}" for line in comment.splitlines())]

    def copy(self, source: str, target: str) -> None:
        """Note that a file was copied."""
        self.lines.append(f"cp {source} {target}")

    def sql(self, number: int, statements: Sequence[str], *, is_enforcing: bool) -> None:
        """Note statements of a program."""
        pragma = ["PRAGMA foreign_keys = ON"] if is_enforcing else []
        text = "\n".join(f"{statement};" for statement in [*pragma, *statements])
        self.lines.append(f"{self._at(number)}sqlite3 {number}.db <<'SQL'\n{text}\nSQL")

    def sync(self, number: int, command: str, *arguments: str | int) -> None:
        """Note a command of ours."""
        spelled = " ".join(one if str(one).startswith('"$(') else shlex.quote(str(one)) for one in map(str, arguments))
        self.lines.append(f"{self._at(number)}sqlite-sync {command} {number}.db {spelled}".rstrip())

    def look(self, number: int) -> None:
        """Note that the conflicts were listed, which settles the tables."""
        self.lines.append(f"{self._at(number)}sqlite-sync conflicts {number}.db > {number}.conflicts")

    def bundle(self, source: int, target: int, name: str, *, acknowledge: bool = False) -> None:
        """Note that a bundle was written."""
        option = " --acknowledge" if acknowledge else ""
        self.lines.append(
            f'{self._at(source)}sqlite-sync bundle {source}.db --peer "$(id {target}.db)" -o {name}{option}'
        )

    def resolve(self, number: int, place: int, choice: str | Mapping[str, str]) -> None:
        """Note a resolution: of the conflict at this place of the list."""
        if isinstance(choice, str):
            words = choice
        else:
            words = " ".join(f"--set {shlex.quote(f'{name}={value}')}" for name, value in choice.items())
        self.lines.append(
            f'{self._at(number)}sqlite-sync resolve {number}.db "$(conflict {number}.db {place})" {words}'
        )

    def _at(self, number: int) -> str:
        offset = self.offsets.get(number, 0)
        return f"faketime -f {offset:+d}s " if offset else ""

    def render(self, problem: str, devices: int) -> str:
        """Render the script."""
        needs = ", and faketime (clocks are wrong here)" if any("faketime" in line for line in self.lines) else ""
        broken = "\n".join(f"# {line}" for line in f"What is broken: {problem}".splitlines())
        head, _, rest = HEAD.format(needs=needs).partition("\n")
        template = [f"sqlite3 template.db <<'SQL'\n{self.subject.script}\nSQL"]
        ending = ["", "# what each device holds in the end"]
        for number in range(devices):
            ending.append(f"echo; echo 'device {number}'; sqlite-sync conflicts {number}.db")
            ending += [f"show {number}.db {shlex.quote(quote(table.name))}" for table in self.subject.tables]
        return "\n".join([head, broken, "#", rest, *template, *self.lines, *ending, ""])
