"""Damaged files, 300 cases of the campaign in tests/damage.py: one line each, and nothing else."""

import io
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import damage
import pytest
import spoil

from noisynets.tasks.data import events, mnist, sarcos, store

CASES, BATCHES = 300, 4
SLOW = ("results of a suite", "links at outputs")
"""Kinds that draw pictures: tests/test_run_folder.py has a case of each."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs to damage, without results of a suite."""
    folder = tmp_path_factory.mktemp("sound")
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        damage.prepare(folder, suite=False)
    return folder


@pytest.mark.parametrize("batch", range(BATCHES))
def test_damaged_files_end_in_one_line(batch: int, sound, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(spoil, "BOMB", 2**25)  # so that they are made quickly
    for module in (events, sarcos):
        monkeypatch.setattr(module, "memory", lambda: 2**25)
    for module in (mnist, store):
        monkeypatch.setattr(module, "LONGEST", 2**24)
    numbers = [n for n in range(2 * CASES) if damage.drawn(n, 1)[0] not in SLOW][:CASES]
    found = [
        damage.carry_out(n, 1, tmp_path / str(n), sound, alone=False)
        for n in numbers[batch::BATCHES]
    ]
    broken = [(r["kind"], r["words"], r["problems"], r["printed"]) for r in found if r["problems"]]
    assert not broken, broken[0]
    codes = Counter(r["code"] for r in found)
    assert codes[2] > 0.8 * len(found), codes  # the rest damaged nothing that matters
