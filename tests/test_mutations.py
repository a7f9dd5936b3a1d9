"""Every mutation fits today's code; `python tests/mutations.py` carries them out."""

import dataclasses
from collections import Counter

import pytest
from mutations import MUTATIONS, Mutation, problems


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_every_mutation_finds_its_text_once_and_its_tests(mutation: Mutation) -> None:
    assert not problems(mutation)


def test_names_are_different() -> None:
    names = Counter(mutation.name for mutation in MUTATIONS)
    assert names.most_common(1)[0][1] == 1


def test_what_does_not_fit_is_named() -> None:
    good = MUTATIONS[0]
    wrong = [
        dataclasses.replace(good, file="noisynets/nowhere.py"),
        dataclasses.replace(good, old="text that is not there"),
        dataclasses.replace(good, old="e"),
        dataclasses.replace(good, new=good.old),
        dataclasses.replace(good, tests=("tests/test_seeds.py::test_nothing",)),
        dataclasses.replace(good, tests=("tests/test_nowhere.py",)),
    ]
    assert all(len(problems(mutation)) == 1 for mutation in wrong)
