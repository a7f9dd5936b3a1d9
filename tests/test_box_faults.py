"""A sample of the faults of `box_faults.py`, whose command makes all of them, once and for good."""

from pathlib import Path

import box_faults
import pytest
from faulty_box import FAULTS

SAMPLE = {
    "sleeps with a child": False,
    "ends in the middle of the answer": True,
    "closes its output and sleeps": False,
    "fills its errors first": True,
    "big endian numbers": True,
    "an array that claims 373 GiB": True,
    "a bomb of 50 MB": False,
    "objects": True,
    "a value of 1e300": True,
    "answers twice": False,
    "answers the trial before": False,
    "names another trial": True,
    "says so in many lines": True,
    "greets with other layers": True,
}
"""Names of faults, and True for those that stay."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(box_faults.TASKS, "tiny", box_faults.tiny.TASK)
        yield box_faults.reference(tmp_path_factory.mktemp("whole") / "whole")


def test_there_are_at_least_sixty_kinds() -> None:
    assert len(FAULTS) >= 60 and SAMPLE.keys() <= FAULTS.keys()


@pytest.mark.xdist_group("box faults")
@pytest.mark.parametrize("name", SAMPLE)
def test_a_fault_loses_nothing(name: str, whole, tmp_path: Path) -> None:
    trial = len(name) * 31 % box_faults.TRIALS
    folder, stays = tmp_path / "run", SAMPLE[name]
    wrong = box_faults.check(FAULTS[name], folder, whole, trial, stays=stays, timeout=3.0)
    assert not wrong
