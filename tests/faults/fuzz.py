"""Let coverage look for bundles that crash: atheris changes a bundle's database, which is sealed anew and imported.

    pip install atheris
    PYTHONPATH=src:tests python tests/faults/fuzz.py tests/faults/corpus -max_total_time=600

The corpus is kept: what reaches new code is added to it. `tests/test_hostile.py` offers all of it again.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

try:
    import atheris
except ImportError:  # the corpus can be offered again without it
    atheris = None

with atheris.instrument_imports(include=["sqlite_sync"]) if atheris else nullcontext():
    from faults.forger import SCHEMA, TRAILER_BYTES, Forgery, Op, sealed
    from sqlite_sync import SyncEngine, SyncError

MOST_BYTES = 16_384


def seed(path: Path) -> None:
    """Write the first entry of a corpus: the database of a small bundle with an operation of each kind."""
    operations = [Op(0, i, 0, [f"k{i}", "title", i, None]) for i in (1, 2, 3)]
    operations += [Op(1, 1, 1, ["k1", "new"], [None, "title"], base=1), Op(1, 2, 2, ["k2", "title", 2, None])]
    operations += [Op(1, 3, 3, ["k3", "x", 9, None], ["rule"]), Op(1, 4, 0, ["c", None], table=2)]
    scratch = path.with_suffix(".scratch")
    Forgery(operations, contexts=[(1, 0, 1, 3)], edit="PRAGMA page_size = 512; VACUUM").write(scratch)
    path.write_bytes(scratch.read_bytes()[:-TRAILER_BYTES])
    scratch.unlink()


class Target:
    """A device that bundles are offered to; it is new each time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with SyncEngine(folder / "template.db") as engine:
            engine.initialize()
            engine.connection.executescript(SCHEMA)
            engine.connection.execute("INSERT INTO todos VALUES ('k1', 'mine', 7, 'mine')")
            for table in ("todos", "tree"):
                engine.enable_sync_for_table(table)

    def offer(self, database: bytes) -> bool:
        """Import it; tell whether it was taken in. Whatever is no SyncError is a finding."""
        bundle = self._folder / "hostile.bundle"
        bundle.write_bytes(sealed(database))
        path = Path(shutil.copy(self._folder / "template.db", self._folder / "target.db"))
        before = path.read_bytes()
        with SyncEngine(path) as engine:
            engine.connection.execute("PRAGMA synchronous = OFF")
            engine.initialize()
            try:
                engine.import_bundle(bundle)
            except SyncError:
                assert path.read_bytes() == before, "refused, but the database changed"
                return False
            assert engine.connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            for conflict in engine.get_unresolved_conflicts():
                engine.images(conflict)
            assert engine.generate_bundle(None, self._folder / "onward.bundle") is not None
            return True


def main() -> None:
    """Run libFuzzer; its options are those of this script."""
    if atheris is None:
        sys.exit("the fuzzer needs atheris: pip install atheris")
    corpus = Path(sys.argv[1])
    corpus.mkdir(exist_ok=True)
    if not list(corpus.iterdir()):
        seed(corpus / "seed")
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        target = Target(Path(name))

        def offer(database: bytes) -> None:
            target.offer(database)

        atheris.Setup([*sys.argv, f"-max_len={MOST_BYTES}", "-timeout=20", "-rss_limit_mb=1024"], offer)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
