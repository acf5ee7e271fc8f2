"""Deliberate faults in our own code, and the tests that must catch each of them.

    python tests/mutants.py                 # all, in some minutes
    python tests/mutants.py digest order    # those with these words in their names

Each is made in a copy of the source tree, in which the named tests run until the first fails. Exit code 1 and a line
`SURVIVED` where they all pass: then a test is missing. `tests/test_mutants.py` keeps the list in step with the code.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

ROOT = Path(__file__).parent.parent
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", ".hypothesis", "build", "dist")


@dataclass(frozen=True)
class Mutant:
    """A fault: in this file of src/sqlite_sync, the one place that reads `old` reads `new`."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    @property
    def path(self) -> str:
        """Where the file is."""
        return f"src/sqlite_sync/{self.file}"


CAPTURE = ("tests/test_capture.py",)
BUNDLE = ("tests/test_bundle.py",)
BAD = ("tests/test_bad_input.py",)
EXAMPLES = ("tests/test_examples.py", "tests/test_verdict.py")
CONSTRAINTS = ("tests/test_constraints.py",)
RECONCILE = ("tests/test_reconcile.py",)
PROMISES = ("tests/test_promises.py",)
CONVERGENCE = ("tests/test_convergence.py",)
FOLDER = ("tests/test_folder.py",)
FAULTS = ("tests/test_faults.py",)
HOSTILE = ("tests/test_hostile.py",)
FOUND = ("tests/test_found_histories.py",)
ENCODINGS = ("tests/test_encodings.py",)
GUEST = ("tests/test_guest.py",)

MUTANTS = (
    # --- capture
    Mutant("capture: values are compared without their type", "triggers.py", 'test if column.has_one_type else f"({test} OR {other_type})"', "test", CAPTURE),
    Mutant("capture: values are compared by the column's collation", "triggers.py", 'IS NOT NEW.{column.sql} COLLATE BINARY"', 'IS NOT NEW.{column.sql}"', CAPTURE),
    Mutant("capture: a key changed by UPDATE is not followed", "triggers.py", '            "rekey": self._rekey(),\n', "", CAPTURE),
    Mutant("capture: rows displaced by REPLACE are not looked for", "triggers.py", "        if self.table.uniques or self.table.cascades_to_itself:\n            texts |=", "        if False:\n            texts |=", CAPTURE),
    Mutant("capture: a noted row is logged as deleted though it stands", "triggers.py", 'return f"NOT EXISTS (SELECT 1 FROM {quote(self.table.name)} AS t WHERE {same})"', 'return f"EXISTS (SELECT 1 FROM {quote(self.table.name)} AS t WHERE {same})"', CAPTURE),
    Mutant("capture: the note of a deleted row is kept", "triggers.py", '        if not self.table.needs_notes:\n            return ""', '        return ""', CAPTURE),
    Mutant("capture: a row that refers to itself keeps its former key", "triggers.py", "if self.table.follows_keys else", "if False else", FOUND),
    Mutant("capture: what a row that goes displaced is not logged", "triggers.py", "            **self._cascading(),", "            **{},", FOUND),
    Mutant("import: the update of a row that is not there is counted", "applier.py", "except (sqlite3.IntegrityError, AbsentRowsError):", "except sqlite3.IntegrityError:", FOUND),
    Mutant("resolve: a disabled table's conflict is closed", "conflicts.py", "    if found[0].number not in", "    if None in", FOUND),
    Mutant("capture: the key that an update gives is taken as SQLite converted it", "triggers.py", '"AFTER UPDATE", self._refuse_null(), self._log_kept())', '"AFTER UPDATE", self._append(Kind.DELETE, "OLD"), self._append(Kind.INSERT, "NEW"), self._forget())', CAPTURE),
    Mutant("capture: a baseline in UTF-16 is ordered by its own bytes", "database.py", "        if not self._is_converting:\n", "        if True:\n", ENCODINGS),
    Mutant("capture: NULL in a key is let through", "triggers.py", 'if nulls else ""', 'if False else ""', BAD),
    Mutant("capture: times go on from the clock alone", "triggers.py", '    "(SELECT hlc FROM sync_operations ORDER BY op DESC LIMIT 1), (SELECT hlc_floor FROM sync_state)) "\n', '    "0) "\n', ("tests/test_clock.py", *PROMISES, *CONVERGENCE)),
    Mutant("capture: times have no random step", "triggers.py", "+ 1 + (random() & 4095)", "+ 1", PROMISES),
    Mutant("capture: edits of a row in conflict have no base", "triggers.py", "        if not self.is_contested:", "        if True:", EXAMPLES),
    Mutant("capture: an edit of a parked row has the base of a standing one", "triggers.py", "f.shown * (1 - f.is_parked)", "f.shown", (*CONSTRAINTS, *EXAMPLES)),
    Mutant("capture: a rowid changed by its own name is not followed", "triggers.py", 'names += ["rowid", "oid", "_rowid_"]', "pass", CAPTURE),
    Mutant("log: rows may be replaced", "schema.py", "    WHERE EXISTS (SELECT 1 FROM sync_operations WHERE op = NEW.op);", "    WHERE 0;", PROMISES),
    Mutant("log: operations are listed by device", "log.py", 'f"{AUTHOR} {wanted} ORDER BY {TOTAL_ORDER}"', 'f"{AUTHOR} {wanted} ORDER BY o.op"', (*PROMISES, *CONVERGENCE)),
    # --- bundle, generate
    Mutant("generate: what the peer acknowledged is forgotten", "exporter.py", "    return peers.holds(database, peer_device_id)", "    return {}", ("tests/test_api.py",)),
    Mutant("generate: contexts are left out", "exporter.py", "AND c.seq > d.from_seq AND c.seq <= d.to_seq WHERE", "AND c.seq > d.to_seq WHERE", EXAMPLES),
    Mutant("generate: only the own operations are sent", "exporter.py", "known.items() if seq or o in named]", "known.items() if o == 0]", (*PROMISES, *CONVERGENCE)),
    Mutant("generate: a resolution's strategy is lost", "exporter.py", '| {"hlc": "o.hlc - d.base_hlc"}', '| {"hlc": "o.hlc - d.base_hlc", "o0": "NULL"}', ("tests/test_strategies.py", *CAPTURE, *EXAMPLES)),
    Mutant("generate: committed operations are not brought to the disk", "exporter.py", "                database.bring_to_disk()\n", "", FAULTS),
    Mutant("generate: the file is not synced before it is renamed", "bundle.py", "        os.fsync(file.fileno())\n", "", FAULTS),
    Mutant("generate: the bundle is written in its place at once", "bundle.py", '    part = target.parent / f".{target.name}.{new_uuid().hex()}{UNFINISHED}"', "    part = target", (*BUNDLE, *BAD)),
    # --- verify
    Mutant("verify: the digest is not compared", "bundle.py", "if trailer == head + digest.digest() and", "if trailer.startswith(head) and", BUNDLE),
    Mutant("verify: the length is left out of the digest", "bundle.py", "    digest.update(head)\n    if trailer", "    if trailer", BUNDLE),
    Mutant("verify: pages are not checked", "bundle_reader.py", "        check.pages()\n", "", (*BUNDLE, *HOSTILE)),
    Mutant("verify: the header is read from whatever has its name", "bundle_reader.py", "self.require(found >= set(bundle.fixed_schema()), _FOREIGN_SCHEMA)", "self.require(found, _FOREIGN_SCHEMA)", HOSTILE),
    Mutant("import: a text that UTF-16 cannot hold is taken for another", "codec.py", "        raise UnicodeError(msg)\n", "", ENCODINGS),
    Mutant("verify: the encoding is not looked at", "bundle_reader.py", "file.read(4) == _UTF_8", "file.read(4)", (*HOSTILE, *BUNDLE)),
    Mutant("verify: the schema may have more in it", "bundle_reader.py", "len(found) == len(wanted) and set(found) == wanted", "set(found) >= wanted", BUNDLE),
    Mutant("verify: operations are not counted", "bundle_reader.py", "counted == header.total_operations", "True", BUNDLE),
    Mutant("verify: contexts may come from the future", "bundle_reader.py", "known_seq <= reach[known_ordinal].to_seq", "True", BUNDLE),
    Mutant("verify: our tables may be named", "bundle_reader.py", "self.require(not is_ours(table.name),", "self.require(True,", BUNDLE),
    Mutant("verify: a device may stand there twice", "bundle_reader.py", "len({device.device_id for device in devices}) == len(devices)", "True", BUNDLE),
    # --- import
    Mutant("import: a gap is not seen", "importer.py", "        if known < device.from_seq:", "        if False:", BAD),
    Mutant("import: copies are not seen", "importer.py", "        devices.require_same_history(database, incoming, device, known, hlc)\n", "", PROMISES),
    Mutant("import: a restored file is not seen", "importer.py", "        devices.require_own_history(incoming, device, ordinal, known)\n", "", PROMISES),
    Mutant("import: the floor of times stays where it was", "importer.py", "    log.raise_floor(database, max(d.range.to_hlc for d in found))\n", "", (*PROMISES, *CONVERGENCE)),
    Mutant("import: what is known now is not noted", "importer.py", "    log.note_context(database, {d.ordinal: d.range.to_seq for d in found if d.new_count and d.ordinal != 0})\n", "", EXAMPLES),
    Mutant("import: the source's word on what it holds is ignored", "importer.py", "    peers.note(database, source.ordinal, header.bundle_id, {d.ordinal: d.range.to_seq for d in found})\n", "", (*BAD, *FOLDER)),
    Mutant("import: an older word of a peer counts", "peers.py", "SELECT max(bundle_id) > ? FROM", "SELECT max(bundle_id) < ? FROM", (*PROMISES, *FOLDER, *CONVERGENCE)),
    Mutant("import: clocks may run backwards", "appender.py", "    _require_ascending_clocks(database)\n", "", BUNDLE),
    Mutant("import: values of tables that are not here are not held", "importer.py", "    held_count = _hold(database, held, todo)\n", "    held_count = 0\n", RECONCILE),
    Mutant("import: the window begins too late", "importer.py", "{**dict(rows.fetchall()), device.ordinal: device.known}", "{**old, device.ordinal: device.known}", EXAMPLES),
    Mutant("import: it is committed when it fails", "database.py", '                self.put_right("ROLLBACK")\n        finally:', '                self.execute("COMMIT")\n        finally:', (*BAD, *FAULTS)),
    Mutant("import: foreign keys act on what is imported", "database.py", '        self.execute("PRAGMA foreign_keys = OFF")\n', "", (*CONSTRAINTS, *GUEST, *CONVERGENCE)),
    Mutant("import: SQLite commits bundle and database together", "database.py", '            self.execute(f"PRAGMA {schema}.synchronous = OFF")\n', "", FAULTS),
    Mutant("import: without memory to roll back, the transaction stays open", "database.py", "                self.connection.close()\n", "                pass\n", FAULTS),
    # --- conflicts
    Mutant("conflicts: the earlier version is shown", "verdict.py", "heads.sort(key=lambda head: (images[head.dot] is not None, head.order))", "heads.sort(key=lambda head: (images[head.dot] is not None, head.order), reverse=True)", EXAMPLES),
    Mutant("conflicts: a deletion may be shown before a row", "verdict.py", "(images[head.dot] is not None, head.order)", "head.order", EXAMPLES),
    Mutant("conflicts: an edit supersedes whatever its device knew", "verdict.py", "    if op.base is None:\n        return knows(op, head)\n    return head.dot == op.base or _continues(op, head)", "    return knows(op, head)", EXAMPLES),
    Mutant("conflicts: a base is believed", "verdict.py", "op.base is None or op.base in seen else op._replace(base=None)", "True else op", (*EXAMPLES, *BUNDLE)),
    Mutant("conflicts: what a delete says stood there is believed", "verdict.py", "            return Told(op.values)\n", "            return op.values\n", FOUND),
    Mutant("conflicts: equal outcomes conflict", "verdict.py", "    return left == right and all(map(same, left, right))", "    return False", EXAMPLES),
    Mutant("conflicts: two devices' equal bases are one", "verdict.py", "op.base == earlier.base and ordinal_of(op.dot) == ordinal_of(earlier.dot)", "op.base == earlier.base", (*EXAMPLES, *CONVERGENCE)),
    Mutant("conflicts: of two rows with one UNIQUE value the earlier stands", "parking.py", "        if last.order > row.order:", "        if last.order < row.order:", CONSTRAINTS),
    Mutant("conflicts: a parked row is not tried again", "parking.py", "        if row is not None:", "        if False:", CONSTRAINTS),
    Mutant("conflicts: local edits of forks are not settled", "settler.py", "    if settled == own and not is_due:", "    if True:", EXAMPLES),
    Mutant("resolve: a resolution may park another row", "parking.py", "    new = parked_forks(database) - set(before.parked)\n", "    new: set[int] = set()\n", CONSTRAINTS),
    Mutant("resolve: what only other devices' columns hold is lost", "resolutions.py", "        held = _held(database, table, outcome.fork, outcome.chosen)\n", "        held: dict[str, Value] = {}\n", RECONCILE),
    Mutant("resolve: remote is local", "resolver.py", "            return images.remote\n        case None:", "            return images.local\n        case None:", ("tests/test_cli.py",)),
    # --- reconcile
    Mutant("reconcile: differences in type are not found", "reconciler.py", " OR typeof(t.{column.sql}) <> typeof(s.c{i}))", ")", (*RECONCILE, *CAPTURE, "tests/test_differential.py")),
    Mutant("reconcile: deletions are not found", "reconciler.py", "FROM {replayed} LEFT JOIN", "FROM {replayed} JOIN", RECONCILE),
    Mutant("reconcile: updates of what nobody logged are left as they are", "reconciler.py", "compare(database, table) + _mend_torn(database, table)", "compare(database, table)", FOUND),
    Mutant("reconcile: forks are replayed as ordinary rows", "reconciler.py", "        _judge_forks(database, table)\n", "", RECONCILE),
    Mutant("reconcile: what was held is superseded", "reconciler.py", "        known[device] = min(known[device], seq - 1)\n", "", RECONCILE),
    Mutant("reconcile: new columns are not filled from the log", "reconciler.py", '            database.execute(\n                f"UPDATE {table.or_abort}', '            _ = (\n                f"UPDATE {table.or_abort}', RECONCILE),
    Mutant("reconcile: broken capture is not seen", "settler.py", "if capture.problem(database, table)]", "if False]", RECONCILE),
    Mutant("reconcile: lost laws stay lost", "settler.py", "    schema.enact(database)\n", "", RECONCILE),
    # --- renew, folder
    Mutant("renew: times begin before the former device's", "devices.py", "    log.raise_floor(database, log.hlc_at(database, ordinal, agreed))", "   ", PROMISES),
    Mutant("renew: bases keep their numbers", "devices.py", "        database.execute(f\"UPDATE main.sync_operations SET {moved('base')} WHERE base > 0\")\n", "", PROMISES),
    Mutant("renew: the new device does not know the former", "devices.py", "    database.executemany(insert, [(0, ordinal, 1, agreed)] if agreed else [])\n", "", PROMISES),
    Mutant("renew: conflicts keep their ids", "devices.py", "    _rename_conflicts(database)\n    return new", "    return new", PROMISES),
    Mutant("renew: the histories part one too late", "devices.py", "    return max((seq for seq in found if seq), default=0)", "    return max((seq for seq in found if seq), default=-1) + 1", PROMISES),
    Mutant("folder: what nobody acknowledged is removed", "folder.py", "is_done = bool(acknowledged) and all(", "is_done = bool(acknowledged) and any(", FOLDER),
    Mutant("folder: a bundle in another's subfolder is believed", "folder.py", "    if header.source_device_id == device_id:\n        seen.headers", "    if True:\n        seen.headers", FOLDER),
)  # fmt: skip


def run(mutant: Mutant, tree: Path) -> tuple[bool, float, str]:
    """Make the fault in a copy of the tree, run its tests there, and take it back: caught, seconds, by which test."""
    file = tree / mutant.path
    healthy = file.read_text()
    file.write_text(healthy.replace(mutant.old, mutant.new))
    start = perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *mutant.tests],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree / "src"), "CI": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        file.write_text(healthy)
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return (
        done.returncode == 1 and bool(failed),
        perf_counter() - start,
        failed[0] if failed else f"code {done.returncode}",
    )


def main(words: list[str]) -> int:
    """Run the mutants whose names contain one of the words, or all."""
    survivors = 0
    chosen = [one for one in MUTANTS if not words or any(word in one.name for word in words)]
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(shutil.copytree(ROOT, Path(folder) / "tree", ignore=LEFT_OUT))
        for mutant in chosen:
            is_caught, seconds, by = run(mutant, tree)
            survivors += not is_caught
            test = by.split(" - ")[0].removeprefix("FAILED tests/")
            print(f"{'caught  ' if is_caught else 'SURVIVED'} {seconds:6.1f} s  {mutant.name}  ({test})", flush=True)
    print(f"{len(chosen)} mutants, {len(chosen) - survivors} caught, {survivors} survived")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
