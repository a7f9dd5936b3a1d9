"""Transfer curves: what a unit, or a layer on its device, does to an activity, and how noisily."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from noisynets.core.errors import SystemRefused
from noisynets.core.nodes import find_nodes
from noisynets.core.trial import Population, Stepped, populations


@dataclass(frozen=True)
class Transfer:
    """A measured transfer curve.

    Attributes:
        a: activities that go in, (n,).
        samples: what came out, (chips, rows, n).
    """

    a: Tensor
    samples: Tensor

    @property
    def mean(self) -> Tensor:
        """Over rows and chips, (n,)."""
        return self.samples.mean((0, 1))

    @property
    def in_time(self) -> Tensor:
        """Standard deviation from row to row on one chip, averaged over chips, (n,)."""
        return self.samples.var(1).mean(0).sqrt()

    @property
    def between_chips(self) -> Tensor:
        """Standard deviation of the chips' means, (n,); 0 for one chip."""
        return self.samples.mean(1).std(0, correction=0)


class Rate(nn.Module):
    """Mean spikes of a population under a constant current: its f-I curve.

    Args:
        population: of neurons.
        steps: T of a trial.
    """

    def __init__(self, population: Population, steps: int) -> None:
        super().__init__()
        self.population = population
        self.steps = steps

    def forward(self, a: Tensor) -> Tensor:
        """Currents, any shape → mean spikes per step, the same shape."""
        self.population.forget()
        total = sum((self.population(a) for _ in range(self.steps)), torch.zeros_like(a))
        self.population.forget()
        return total / self.steps


STEPS = 100
"""Of a trial, where a system does not say."""


def split(system: nn.Module) -> tuple[nn.Sequential, nn.Module, nn.Module | None]:
    """Return a chain's first layer with its device, the bare layer, and the unit behind it.

    Of a system that runs through trials, the unit is the neuron, over a whole trial.

    Raises:
        SystemRefused: for a system that is no chain.
    """
    steps = 0
    if isinstance(system, Stepped):
        steps, system = getattr(system, "steps", None) or STEPS, system.network
    node = find_nodes(system)[0]
    children = list(system.children()) if isinstance(system, nn.Sequential) else []
    whole = node.inlet in children and node.outlet in children
    first, last = (children.index(m) if whole else 0 for m in (node.inlet, node.outlet))
    behind = children[last + 1] if last + 2 < len(children) else None
    inside = list(populations(behind).values()) if behind is not None else []
    if inside:
        behind = Rate(inside[0], steps or STEPS)
    elif behind is not None and list(behind.parameters()):
        whole = False  # another layer, or a block of them
    if not whole:
        raise SystemRefused("only a chain, nn.Sequential, has a first layer and a unit to show")
    return nn.Sequential(*children[first : last + 1]), node.layer, behind


@torch.no_grad()
def of_device(
    build: Callable[[int, int], nn.Module],
    *,
    reach: float = 1.0,
    points: int = 101,
    rows: int = 1000,
    chips: int = 5,
) -> Transfer:
    """Measure a chain's first layer: weights from −reach to reach, input 1, on several chips.

    Args:
        build: (points, chip) → a chain whose first layer has one input and `points` nodes.
        reach: largest weight, and so largest activity without the device.
        points: n.
        rows: reads of each chip.
        chips: how many, from number 0 on.
    """
    a = torch.linspace(-reach, reach, points)
    samples = []
    for chip in range(chips):
        node, layer, _ = split(build(points, chip))
        weight = layer.get_parameter("weight").zero_().flatten(1)
        weight[:, weight.shape[1] // 2] = a  # of a kernel, the centre
        kernel = layer.get_parameter("weight").dim() - 2
        out = node(torch.ones(rows, 1, *[1] * kernel))
        samples.append(out.flatten(1))
    return Transfer(a, torch.stack(samples))


@torch.no_grad()
def of_unit(
    unit: nn.Module, *, reach: float = 3.0, points: int = 301, rows: int = 1000
) -> Transfer:
    """Measure a unit's output for activities from −reach to reach.

    >>> from noisynets.systems.units import Sign
    >>> of_unit(Sign(), points=3).mean
    tensor([-1.,  1.,  1.])
    """
    a = torch.linspace(-reach, reach, points)
    return Transfer(a, unit(a.repeat(rows, 1)).unsqueeze(0))


def panels(build: Callable[[int, int], nn.Module]) -> Sequence[tuple[str, Transfer]]:
    """Measure what a chain's first layer and unit do, under the titles of their pictures."""
    node, layer, unit = split(build(2, 0))
    device = ("bare layer", 1) if list(node) == [layer] else ("layer on its device", 5)
    found = [(device[0], of_device(build, chips=device[1]))]
    if unit is not None:
        name = f"unit: {type(unit).__name__}"
        if isinstance(unit, Rate):
            name = f"{type(unit.population).__name__}: spikes per step, {unit.steps} steps"
        found.append((name, of_unit(unit)))
    return found
