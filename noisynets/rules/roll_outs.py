"""What entered at a node in each pass of a roll-out, where the passes are in different states."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from noisynets.core.record import Trajectory
from noisynets.core.recorders import wide

RIDGE = 1e-6
"""Ridge of the regression of activities on inputs, relative to the mean square of an input."""


@dataclass(frozen=True)
class RollOutPasses:
    """Losses of the passes of roll-outs, and what each pass is compared with.

    Attributes:
        to_go: losses still to come, (1 + P, B, T).
        alive: True in steps in which an episode was still running, (1 + P, B, T).
        injected: noise is injected into all passes but the reference, which is the baseline of
            the others. If not, each pass has noise of its own, and all are used.
    """

    to_go: Tensor
    alive: Tensor
    injected: bool

    def used(self, values: Tensor) -> Tensor:
        """Leave out the reference pass if it has no noise: (1 + P, ...) → (Q, ...)."""
        return values[1:] if self.injected else values

    def compared(self, values: Tensor) -> Tensor:
        """Difference from the reference pass, or from the mean of the others: (1 + P, ...).

        >>> two = torch.tensor([[1.0], [4.0]])
        >>> [RollOutPasses(two, two > 0, i).compared(two).tolist() for i in (True, False)]
        [[[0.0], [3.0]], [[-3.0], [3.0]]]
        """
        if self.injected:
            return values - values[0]
        n = len(values)
        return (values - values.mean(0)) * (n / (n - 1))


def differences(trajectory: Trajectory, passes: RollOutPasses) -> Tensor:
    """δa between passes, which may be in different states: (1 + P, B, T, *out)."""
    other = passes.alive[0] if passes.injected else passes.alive.all(0)
    return _masked(passes.compared(trajectory.a), passes.alive & other)


def innovations(trajectory: Trajectory, passes: RollOutPasses) -> Tensor:
    """ε = a − M x − c, what entered at the node in each pass: (1 + P, B, T, *out).

    M and c are the least-squares fit over all steps of all passes, so that neither weights nor
    noise are read. If the noise is injected and M fits, ε is ξ up to its share in the fit.
    """
    return residuals(trajectory.x, trajectory.a, passes.alive)


def residuals(inputs: Tensor, values: Tensor, alive: Tensor) -> Tensor:
    """Return the residuals of the best affine fit of values to inputs, (1 + P, B, T, *out).

    Args:
        inputs: (1 + P, B, T, *in).
        values: (1 + P, B, T, *out).
        alive: True in the steps that are fitted, (1 + P, B, T); residuals are 0 in the others.
    """
    x, a = wide(inputs).flatten(3), wide(values).flatten(3)
    weight = alive.flatten().to(x)[:, None]
    rows = torch.cat([x, torch.ones_like(x[..., :1])], 3).flatten(0, 2).double()
    moment = rows.T @ (rows * weight)
    ridge = RIDGE * moment.diagonal().mean() + torch.finfo(moment.dtype).tiny
    moment.diagonal().add_(ridge)
    fitted, _ = torch.linalg.solve_ex(moment, rows.T @ (a.flatten(0, 2) * weight).double())
    left = a - (rows @ fitted).to(a).view_as(a)
    return _masked(left.to(values).view_as(values), alive)


def injections(trajectory: Trajectory, passes: RollOutPasses) -> Tensor:
    """ξ as it was injected: (1 + P, B, T, *out); 0 in passes without noise."""
    assert trajectory.xi is not None, "refused with the settings of the estimator"
    xi = torch.zeros_like(trajectory.a)
    xi[1:][trajectory.own] = trajectory.xi
    return _masked(xi, passes.alive)


def _masked(values: Tensor, alive: Tensor) -> Tensor:
    """Set to 0 what a node did after the end of an episode."""
    shape = alive.shape + (1,) * (values.dim() - alive.dim())
    return values * alive.view(shape).to(values)
