"""Weight perturbation within the same pairs, for parameters that no credit reaches."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from noisynets.core.noise import Injection
from noisynets.core.record import Record
from noisynets.rules import Assigned, StepCredit

RELATIVE = 1e-2
"""Standard deviation of a shift, relative to the root mean square of its parameter."""
FORGETTING = 0.1


class WeightShare:
    """∂L/∂θ ≈ mean over passes of ΔL ξ/σ²: θ is shifted by ξ in every noisy pass of a pair.

    Nodes and parameters are perturbed at once, and each takes out of δL what is known of the other:
    the nodes' share, Σ ε·credit, where credit is not made of this very δL; and that of the
    parameters, ⟨g, ξ⟩ with g the running mean of the estimates. Both leave the mean as it is, since
    the noises are independent, and make its variance smaller.

    Args:
        seed: of ξ.
    """

    def __init__(self, seed: int) -> None:
        self._injection = Injection(RELATIVE, seed=seed, purpose="shifts of parameters in pairs")
        self._means: dict[str, Tensor] = {}

    def draw(self, parameters: Mapping[str, nn.Parameter], passes: int) -> dict[str, Tensor]:
        """Return ξ of every parameter and noisy pass, (P, *parameter)."""
        return {
            name: self._injection((passes, *p.shape), like=p) * _scale(p)
            for name, p in parameters.items()
        }

    def taken_out(self, record: Record, shifts: Mapping[str, Tensor]) -> Tensor:
        """Return δL without the share of the parameters, as far as it is known, (P, B)."""
        known = [self._share(name, xi) for name, xi in shifts.items() if name in self._means]
        if not known:
            return record.dloss
        return record.dloss - torch.stack(known).sum(0)[:, None] / record.dloss.shape[1]

    def gradients(
        self,
        parameters: Mapping[str, nn.Parameter],
        record: Record,
        assigned: Assigned,
        shifts: Mapping[str, Tensor],
        uses_dloss: bool,
    ) -> dict[str, Tensor]:
        """Return the gradient of every parameter that was shifted.

        Args:
            parameters: that were shifted, by path.
            record: of the passes; its δL without the known share of the parameters.
            assigned: credit of the calls.
            shifts: ξ.
            uses_dloss: the credit is made of this very δL.
        """
        left = record.dloss if uses_dloss else _residual(record, assigned)
        change, found = left.sum(1), {}
        for name, xi in shifts.items():
            sigma = RELATIVE * _scale(parameters[name])
            seen = torch.tensordot(change, xi, 1) / (len(xi) * sigma**2)
            before = self._means.get(name, torch.zeros_like(seen)).to(seen.device)
            found[name] = seen + before
            self._means[name] = torch.where(
                found[name].isfinite(), before.lerp(found[name], FORGETTING), before
            )
        return found

    def _share(self, name: str, xi: Tensor) -> Tensor:
        """⟨g, ξ⟩ of every pass, (P,)."""
        return (xi * self._means[name].to(xi.device)).reshape(len(xi), -1).sum(1)

    def state(self) -> dict[str, Tensor]:
        """Return what must be saved to continue with the same bits."""
        return {"stream": self._injection.stream.state()} | {
            f"mean|{name}": value for name, value in self._means.items()
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        if "stream" in state:
            self._injection.stream.restore(state["stream"])
        self._means = {k.removeprefix("mean|"): v for k, v in state.items() if k != "stream"}


def _scale(parameter: Tensor) -> Tensor:
    """Return the root mean square of a parameter; 1 if it is 0."""
    size = parameter.detach().square().mean().sqrt()
    return torch.where(size > 0, size, 1.0)


def _residual(record: Record, assigned: Assigned) -> Tensor:
    """Return δL without the share of the noise at the nodes, as far as it is known, (P, B)."""
    left = record.dloss
    for call, credit in zip(record.calls, assigned.calls, strict=True):
        if credit is None or isinstance(credit, StepCredit) or call.xi is None:
            continue
        if len(call.xi) == len(left):
            left = left - (call.xi * credit).flatten(2).sum(2)
    return left
