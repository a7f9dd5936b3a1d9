"""`np` without sampling error: one unit at a time is moved by ±h, in float64.

A noise design of K passes has no sampling error if the mean of z zᵀ over the passes is the
identity, over the components of all nodes and calls, and 0 between the rows of the batch. Here a
pass moves one component, with signs that are orthogonal between rows and sum to 0 in each, so that
`np` is the gradient up to O(h²) in every system in which it is unbiased. A wrong product, a weight
that acts elsewhere, or rows that mix show up as a wrong gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from noisynets import NodePerturbation
from noisynets.core.losses import losses
from noisynets.core.nodes import find_nodes, parameters_between
from noisynets.core.noise import Injection
from noisynets.core.types import Loss
from noisynets.core.verify import rowless

STEP = 1e-5
"""h, by which a component of an activity is moved."""


class OneHot:
    """A sampler: in every pass one component of one call moves, by ±1 in every row.

    Args:
        batch: B.

    Attributes:
        sizes: components of every call, in the order of the calls, once `measured`.
        amplitude: of what moves.
    """

    def __init__(self, batch: int) -> None:
        self.signs = _hadamard(batch + 1)[1:]  # (≥ B, H), orthogonal, each with mean 0
        self.sizes: list[int] = []
        self.amplitude = 1.0
        self.first: int | None = None
        self._seen: list[int] = []

    @property
    def components(self) -> int:
        """N, of all calls together."""
        return sum(self.sizes)

    @property
    def patterns(self) -> int:
        """H, passes per component."""
        return self.signs.shape[1]

    def start(self, first: int) -> None:
        """Begin with number `first` of the N·H passes in the next call of the estimator."""
        self.first, self._seen = first, []

    def measured(self) -> None:
        """Take the calls that were seen as those of every pass."""
        self.sizes, self._seen = self._seen, []

    def __call__(self, shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
        """Return z, (K, B, *out), of the next call."""
        passes, batch, *out = shape
        self._seen.append(prod(out))
        z = torch.zeros(passes, batch, prod(out), dtype=like.dtype, device=like.device)
        if self.first is None:  # only to find the calls; noise of any kind
            return z.normal_(generator=torch.Generator(z.device).manual_seed(0)).view(tuple(shape))
        call = len(self._seen) - 1
        assert self._seen == self.sizes[: call + 1], "the calls differ from pass to pass"
        start = sum(self.sizes[:call])
        for k in range(passes):
            component, pattern = divmod(self.first + k, self.patterns)
            if start <= component < start + self.sizes[call]:
                signs = self.signs[:batch, pattern].to(z)
                z[k, :, component - start] = self.amplitude * signs
        return z.view(tuple(shape))


def _hadamard(least: int) -> Tensor:
    """The smallest Hadamard matrix of Sylvester's construction with `least` rows."""
    found = torch.ones(1, 1)
    while len(found) < max(least, 2):
        found = torch.cat([torch.cat([found, found], 1), torch.cat([found, -found], 1)])
    return found


def components(system: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor, **settings) -> int:
    """N, the components of the activities of all nodes and calls; raises as the estimator does."""
    design = OneHot(len(inputs))
    NodePerturbation(system, loss, "np", sigma=1e-3, noise=design, **settings)(inputs, targets)
    design.measured()
    system.zero_grad()
    return design.components


def np_gradients(
    system: nn.Module,
    loss: Loss,
    inputs: Tensor,
    targets: Tensor,
    *,
    rows: int = 512,
    step: float = STEP,
    **settings,
) -> dict[str, Tensor]:
    """The gradient by `np`, by parameter; `.grad` is cleared.

    Args:
        system: in float64, without noise of its own.
        loss: one value per row.
        inputs: (B, ...).
        targets: (B, ...).
        rows: of a stacked batch, about.
        step: h.
        **settings: of NodePerturbation.

    Cost: about N·H·B sample-forwards, with H = 2 for B = 1 and 4 for B = 2 or 3.

    Raises:
        SystemRefused: as the estimator does.
    """
    design = OneHot(len(inputs))
    system.zero_grad()
    NodePerturbation(system, loss, "np", sigma=step, noise=design, **settings)(inputs, targets)
    design.measured()
    total = design.components * design.patterns
    passes = max(1, min(total, rows // len(inputs)))
    starts = range(0, total, passes)
    design.amplitude = (len(starts) * passes / design.patterns) ** 0.5
    injection = Injection(step / design.amplitude, design)
    estimator = NodePerturbation(system, loss, "np", sigma=injection, resamples=passes, **settings)
    system.zero_grad()
    for first in starts:
        design.start(first)
        estimator(inputs, targets)
    found = {
        name: torch.zeros_like(p) if p.grad is None else p.grad / len(starts)
        for name, p in system.named_parameters()
        if p.requires_grad
    }
    system.zero_grad()
    return found


def autograd_gradients(
    system: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor
) -> dict[str, Tensor]:
    """The gradient of the mean loss by backpropagation, by parameter; `.grad` is left alone."""
    trained = {name: p for name, p in system.named_parameters() if p.requires_grad}
    value = losses(loss, system(inputs), targets).mean()
    found = torch.autograd.grad(value, list(trained.values()), allow_unused=True)
    return {
        name: torch.zeros_like(p) if g is None else g
        for (name, p), g in zip(trained.items(), found, strict=True)
    }


@dataclass(frozen=True)
class Agreement:
    """How well an estimate of one parameter's gradient agrees with the truth.

    Attributes:
        name: of the parameter.
        cosine: of the angle.
        ratio: of the norms, estimate to truth.
        equal: they agree: cosine ≥ 0.999 and norm within 1 %, or both are 0 beside the gradients
            of other parameters.
    """

    name: str
    cosine: float
    ratio: float
    equal: bool


def agreements(found: dict[str, Tensor], truth: dict[str, Tensor]) -> list[Agreement]:
    """Compare two gradients, parameter by parameter."""
    assert found.keys() == truth.keys()
    largest = max(float(g.norm()) for g in truth.values())
    result = []
    for name, exact in truth.items():
        g = found[name]
        lengths = float(g.norm()), float(exact.norm())
        cosine = float((g * exact).sum()) / max(lengths[0] * lengths[1], 1e-300)
        ratio = lengths[0] / max(lengths[1], 1e-300)
        alike = cosine >= 0.999 and 0.99 <= ratio <= 1.01
        negligible = float((g - exact).norm()) <= 1e-7 * largest
        result.append(Agreement(name, cosine, ratio, alike or negligible))
    return result


@contextmanager
def nodes_alone(system: nn.Module, inputs: Any) -> Iterator[None]:
    """Freeze the parameters between the nodes: raw rules train these by weight perturbation."""
    nodes = find_nodes(system)
    without = [node.layer for node in rowless(system, nodes, inputs)]
    between = parameters_between(system, find_nodes(system, without)).values()
    for parameter in between:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in between:
            parameter.requires_grad_(True)


def compare(
    system: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor, **settings
) -> list[Agreement]:
    """`np` against autograd, parameter by parameter; see `np_gradients` for the arguments."""
    with nodes_alone(system, inputs):
        truth = autograd_gradients(system, loss, inputs, targets)
        return agreements(np_gradients(system, loss, inputs, targets, **settings), truth)


def wrong(
    system: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor, **settings
) -> list[Agreement]:
    """The parameters whose gradient by `np` is wrong; empty for a sound system."""
    return [a for a in compare(system, loss, inputs, targets, **settings) if not a.equal]
