"""Backpropagation: the exact gradient by autograd, the baseline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from noisynets.core.batch import called, reference
from noisynets.core.check import check_called
from noisynets.core.decorrelation import decorrelations, learn_
from noisynets.core.errors import InputError
from noisynets.core.losses import losses
from noisynets.core.nodes import find_nodes, survey
from noisynets.core.notes import Note
from noisynets.core.probe import Probe, Rows
from noisynets.core.types import Estimate, Loss


class Backpropagation:
    """The exact gradient by autograd, with the same signature: the baselines BP and DBP.

    Args:
        system: any module that autograd can differentiate.
        loss: (outputs (B, ...), targets (B, ...)) → one value per row or position; both may be
            trees.
        before: called before every step with its number, from 0.

    >>> net = nn.Sequential(nn.Linear(4, 3))
    >>> estimate = Backpropagation(net, nn.CrossEntropyLoss(reduction="none"))(
    ...     torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1]))
    >>> net[0].weight.grad.shape, estimate.sample_forwards
    (torch.Size([3, 4]), 5)
    """

    def __init__(
        self, system: nn.Module, loss: Loss, before: Callable[[int], None] | None = None
    ) -> None:
        self.system = system
        self.loss = loss
        self._before, self._steps = before, 0
        self.notes: tuple[Note, ...] = ()
        self._rows = Rows(autocast=True)
        self.nodes = find_nodes(system) if decorrelations(system) else []

    def __call__(self, inputs: Any, targets: Any) -> Estimate:
        """Accumulate the gradient in `.grad`; inputs (B, ...), targets (B, ...), or trees."""
        inputs, targets, batch = self._rows(inputs, targets)
        if self._before is not None:
            self._before(self._steps)
            self._steps += 1
        probe = Probe(survey(self.system, self.nodes), batch=batch, resamples=0)
        with torch.enable_grad(), probe:
            outputs = called(self.system, inputs)
            loss = losses(self.loss, outputs, targets, batch)
            if not loss.requires_grad:
                raise InputError("this loss has no derivative, which backpropagation needs")
            loss.mean().backward()
        check_called(self.nodes, probe.calls)
        learn_(probe.calls)
        return Estimate(loss.detach(), reference(outputs, batch, 1), batch)

    def state(self) -> dict[str, Tensor]:
        """Return the number of steps, if anything is done before each."""
        return {} if self._before is None else {"steps": torch.tensor(self._steps)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        self._steps = int(state.get("steps", 0))
