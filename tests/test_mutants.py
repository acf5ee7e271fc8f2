"""The list of deliberate faults is in step with the code; `python tests/mutants.py` tries them."""

from __future__ import annotations

import ast

import pytest

from mutants import MUTANTS, ROOT, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_changes_one_place_and_is_still_a_program(mutant: Mutant) -> None:
    source = (ROOT / mutant.path).read_text()
    assert source.count(mutant.old) == 1
    ast.parse(source.replace(mutant.old, mutant.new))
    for test in mutant.tests:
        assert (ROOT / test.partition("::")[0]).is_file()


def test_there_are_mutants_of_every_part_and_their_names_differ() -> None:
    parts = {mutant.name.partition(":")[0] for mutant in MUTANTS}
    assert parts >= {"capture", "generate", "verify", "import", "conflicts", "resolve", "reconcile", "renew"}
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 25
