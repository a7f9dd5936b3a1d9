"""What a step needs is freed when it ends, not when Python next looks for cycles.

In a cycle of references, the activities of several steps would be in memory at once.
"""

import gc

import pytest
import torch

from noisynets.bench.steps import training
from noisynets.estimators.methods import METHODS
from noisynets.run.settings import Config

SYSTEMS = {
    "lif": {"hidden": (8,), "steps": 3},
    "gpt": {"task": "text", "layers": 1, "width": 8, "heads": 2, "context": 4, "batch_size": 2},
}


def in_cycles() -> list[torch.Tensor]:
    """Return the tensors that only the garbage collector can free."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        return [found for found in gc.garbage if type(found) is torch.Tensor]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


@pytest.mark.parametrize("rule", [n for n, m in METHODS.items() if not m.needs_model])
def test_a_step_leaves_no_tensor_in_a_cycle(rule: str) -> None:
    made = {}
    for system, settings in SYSTEMS.items():
        basis = {"task": "mnist", "batch_size": 4, "device": "cpu"}
        made[system] = training(Config(system=system, rule=rule, **(basis | settings)))
        made[system]()
    gc.collect()
    gc.disable()
    try:
        for step in made.values():
            step()
        shapes = [found.shape for found in in_cycles()]
    finally:
        gc.enable()
    assert not shapes
