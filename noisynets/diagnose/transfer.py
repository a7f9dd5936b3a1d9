"""Transfer curves: output of a unit, or of a layer on its device, with noise, against activity."""

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
        a: activities, (n,).
        samples: outputs, (chips, rows, n).
    """

    a: Tensor
    samples: Tensor

    @property
    def mean(self) -> Tensor:
        """Mean over rows and chips, (n,)."""
        return self.samples.mean((0, 1))

    @property
    def in_time(self) -> Tensor:
        """Standard deviation over the rows of one chip, root mean square over chips, (n,)."""
        return self.samples.var(1).mean(0).sqrt()

    @property
    def between_chips(self) -> Tensor:
        """Standard deviation over chips of a chip's mean, (n,); 0 for one chip."""
        return self.samples.mean(1).std(0, correction=0)


class Rate(nn.Module):
    """Firing rate of a population under a constant current: its f-I curve.

    Args:
        population: population of neurons.
        steps: T of a trial.
    """

    def __init__(self, population: Population, steps: int) -> None:
        super().__init__()
        self.population = population
        self.steps = steps

    def forward(self, a: Tensor) -> Tensor:
        """Map currents of any shape to mean spikes per step, of the same shape."""
        self.population.forget()
        total = sum((self.population(a) for _ in range(self.steps)), torch.zeros_like(a))
        self.population.forget()
        return total / self.steps


STEPS = 100
"""T of a trial, for systems that do not define it."""


def split(system: nn.Module) -> tuple[nn.Sequential, nn.Module, nn.Module | None]:
    """Return a chain's first layer with its device, the layer itself, and the following unit.

    For a spiking network the unit is the neuron's firing rate over a trial.

    Args:
        system: a chain, `nn.Sequential`, or a `Stepped` system around one.

    Returns:
        Layer and device, the layer alone, and the unit; None for a layer without a unit.

    Raises:
        SystemRefused: if the system is not a chain.
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
    """Measure a chain's first layer on several chips: input 1, weights from −reach to reach.

    Args:
        build: (points, chip) → a chain whose first layer has one input and `points` outputs.
        reach: largest weight, which is the largest activity without the device.
        points: n.
        rows: number of reads of each chip.
        chips: number of chips; they are numbered from 0.
    """
    a = torch.linspace(-reach, reach, points)
    samples = []
    for chip in range(chips):
        node, layer, _ = split(build(points, chip))
        weight = layer.get_parameter("weight").zero_().flatten(1)
        weight[:, weight.shape[1] // 2] = a  # the centre, for a convolution kernel
        kernel = layer.get_parameter("weight").dim() - 2
        out = node(torch.ones(rows, 1, *[1] * kernel))
        samples.append(out.flatten(1))
    return Transfer(a, torch.stack(samples))


@torch.no_grad()
def of_unit(
    unit: nn.Module, *, reach: float = 3.0, points: int = 301, rows: int = 1000
) -> Transfer:
    """Measure a unit's output for activities from −reach to reach.

    Args:
        unit: the unit.
        reach: largest activity.
        points: n.
        rows: number of outputs for each activity.

    >>> from noisynets.systems.units import Sign
    >>> of_unit(Sign(), points=3).mean
    tensor([-1.,  1.,  1.])
    """
    a = torch.linspace(-reach, reach, points)
    return Transfer(a, unit(a.repeat(rows, 1)).unsqueeze(0))


def panels(build: Callable[[int, int], nn.Module]) -> Sequence[tuple[str, Transfer]]:
    """Measure the transfer curves of a chain's first layer and unit, each with a title.

    Args:
        build: (points, chip) → a chain whose first layer has one input and `points` outputs.
    """
    node, layer, unit = split(build(2, 0))
    device = ("bare layer", 1) if list(node) == [layer] else ("layer on its device", 5)
    found = [(device[0], of_device(build, chips=device[1]))]
    if unit is not None:
        name = f"unit: {type(unit).__name__}"
        if isinstance(unit, Rate):
            name = f"{type(unit.population).__name__}: spikes per step, {unit.steps} steps"
        found.append((name, of_unit(unit)))
    return found
