"""What the page for users of other packages shows runs."""

import re
from pathlib import Path

import beside_biotorch
import pytest
import torch

PAGE = Path(__file__).parent.parent / "docs" / "coming-from.md"
BLOCKS = re.findall(r"## (\w+)\n\n```python\n(.*?)```", PAGE.read_text(), re.S)


def test_each_package_has_a_block() -> None:
    assert [name for name, _ in BLOCKS] == ["snnTorch", "aihwkit", "BioTorch", "Gymnasium"]


@pytest.mark.parametrize(("name", "block"), BLOCKS, ids=[name for name, _ in BLOCKS])
def test_the_blocks_run(name: str, block: str) -> None:
    torch.manual_seed(0)
    exec(compile(block, name, "exec"), {"__name__": name})


def test_the_comparison_measures_backpropagation_as_parallel_to_itself() -> None:
    """The angle of the comparison is 0 for the gradient, and 90° or less for random feedback."""

    def exact(seed: int):
        model = beside_biotorch.network(seed)
        loss = beside_biotorch.cross_entropy
        return model, lambda x, y: loss(model(x), y).mean().backward()

    accuracy, angles = beside_biotorch.result(*exact(0), 0, (0, 30))
    assert accuracy > 0.5 and max(angles) < 0.1
    _, angles = beside_biotorch.result(*beside_biotorch.ours("fa", 0), 0, (0, 30))
    assert 60 < angles[0] < 120 and 20 < angles[1] < 100
