"""Going through the open conflicts with somebody who decides."""

from __future__ import annotations

import click

from sqlite_sync import Conflict, Images, KeepBoth, SyncEngine, SyncError
from sqlite_sync.cli.group import reason, say
from sqlite_sync.cli.side_by_side import PARKED, differing
from sqlite_sync.cli.surroundings import Parked, Surroundings, made_room
from sqlite_sync.cli.typed_rows import typed_values
from sqlite_sync.cli.values import clipped, printable, shown
from sqlite_sync.cli.views import View, count

QUESTION = "[l]ocal, [r]emote, [b]oth, [e]dit, [d]elete, [s]kip or [q]uit"
PARKED_QUESTION = "Of the parked row: let it stand ([r]emote), [e]dit, [d]elete, [s]kip or [q]uit"
ANSWERS = ("l", "r", "b", "e", "d", "s", "q")
PARKED_ANSWERS = ("r", "e", "d", "s", "q")  # no "l": it would delete the row that the word seems to keep
STANDS = {
    "l": "the local version",
    "r": "the remote version",
    "b": "kept twice, the other version under a new key",
    "e": "as edited",
    "d": "deleted",
}
PARKED_STANDS = {**STANDS, "r": "in its table"}
DEFAULT_WIDTH = 60


class Walk:
    """Shows one open conflict after the other and does what is answered."""

    def __init__(self, engine: SyncEngine, view: View, table: str | None) -> None:
        self._engine = engine
        self._view = view
        self._table = table
        self._skipped: set[bytes] = set()
        self._met: set[bytes] = set()

    def run(self) -> None:
        """Go on until none is left that was not skipped, or somebody quits."""
        while conflict := self._next():
            images = self._engine.images(conflict)
            around = Parked(self._engine).around(conflict, images)
            self._view.conflict(conflict, images, around)
            answer = self._ask(conflict)
            if answer == "q":
                break
            if answer == "s" or not self._close(conflict, images, answer, around):
                self._skipped.add(conflict.conflict_id)
            self._view.line()
        left = self._open()
        closed = len(self._met - {each.conflict_id for each in left})  # an answer may close several
        self._view.line(f"{count(closed, 'conflict')} closed, {len(left):,} left open")

    def _open(self) -> list[Conflict]:
        found = self._engine.get_unresolved_conflicts(self._table)
        self._met.update(each.conflict_id for each in found)
        return found

    def _next(self) -> Conflict | None:
        return next((each for each in self._open() if each.conflict_id not in self._skipped), None)

    def _ask(self, conflict: Conflict) -> str:
        is_parked = conflict.kind in PARKED
        question, answers = (PARKED_QUESTION, PARKED_ANSWERS) if is_parked else (QUESTION, ANSWERS)
        try:
            answer: str = click.prompt(question, type=click.Choice(answers), show_choices=False, err=True)
        except click.Abort:  # the end of the input
            say("")
            return "q"
        return answer

    def _close(self, conflict: Conflict, images: Images, answer: str, around: Surroundings) -> bool:
        """Do what was answered; tell whether the conflict is closed."""
        try:
            is_closed = self._resolve(conflict, images, answer)
        except SyncError as error:
            say(f"It stays open: {reason(error)}")
            return False
        if is_closed:
            row = f"{conflict.table_name} {self._view.key(conflict.row_pk)}"
            stands = PARKED_STANDS if conflict.kind in PARKED else STANDS
            beside = made_room(conflict, around) if answer == "r" and conflict.is_parked else ""
            self._view.line(printable(f"closed: {row} is {stands[answer]}{beside}"))
        return is_closed

    def _resolve(self, conflict: Conflict, images: Images, answer: str) -> bool:
        match answer:
            case "l":
                self._engine.resolve(conflict, "local")
            case "r":
                self._engine.resolve(conflict, "remote")
            case "d":
                self._engine.resolve(conflict, None)
            case "b":
                if self._engine.resolve(conflict, KeepBoth()) is None:
                    say("It stays open: no other key can be given to this row.")
                    return False
            case _:
                texts = self._edited(conflict, images)
                if texts is None:
                    return False
                values = typed_values(self._engine, conflict.table_name, texts)
                if conflict.kind in PARKED and not values:
                    say("It stays open: nothing was edited.")
                    return False
                self._engine.resolve(conflict, values or "local")
        return True

    def _edited(self, conflict: Conflict, images: Images) -> dict[str, str] | None:
        """Ask for each column in which the versions differ, or each of a parked row; None where the input ends."""
        if conflict.kind in PARKED:
            image = images.remote or {}
            columns = list(image)
        else:
            image = images.local or images.remote or {}
            columns = differing(images)
        texts: dict[str, str] = {}
        try:
            for column in columns:
                if column in conflict.row_pk:
                    continue
                present = shown(image.get(column))
                text: str = click.prompt(
                    f"{printable(column)} [{clipped(present, DEFAULT_WIDTH)}]", present, show_default=False, err=True
                )
                if text != present:
                    texts[column] = text
        except click.Abort:
            say("")
            return None
        return texts
