"""Trained parameters that belong to no node: credit of the rule, or weight perturbation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from noisynets.core.nodes import Survey
from noisynets.core.noise import Injection
from noisynets.core.notes import Notes
from noisynets.core.record import Needs, Record
from noisynets.core.types import Estimate
from noisynets.estimators.weight_space import WeightSpace
from noisynets.rules import Assigned, Rule, StepCredit

RELATIVE = 1e-2
"""Standard deviation of a shift, relative to the root mean square of its parameter."""
FORGETTING = 0.1


class Between:
    """Gradients of the trained parameters that belong to no node.

    What the rule's credit reaches is left to the rule. All others are trained by weight
    perturbation within the same pairs: θ is shifted by ξ in every noisy pass, and ∂L/∂θ ≈ the mean
    over passes of ΔL ξ/σ². Nodes and parameters are perturbed at once, and each takes out of δL
    what is known of the other: the nodes' share, Σ ε·credit, where credit is not made of this very
    δL; and that of the parameters, ⟨g, ξ⟩ with g the running mean of the estimates. Both leave the
    mean as it is, since the noises are independent, and make its variance smaller.

    Args:
        seed: of ξ.
        notes: where parameters without credit are named.
        others: estimator that trains what no credit reaches instead, by passes of its own.

    Attributes:
        reached: paths of the parameters that the rule's credit reaches.
        left: paths of those that are left to `others`.
    """

    def __init__(self, seed: int, notes: Notes, others: WeightSpace | None = None) -> None:
        self.reached: set[str] = set()
        self.left: tuple[str, ...] = ()
        self._others = others
        self._traced = False
        self._notes = notes
        self._seed = seed
        self._injection: Injection | None = None  # until it is needed
        self._means: dict[str, Tensor] = {}

    def shifts(self, survey: Survey, needs: Needs, resamples: int) -> dict[str, Tensor]:
        """Return ξ of every parameter that no credit reaches, (P, *parameter)."""
        if needs.graph and not self._traced:
            return {}  # the first batch shows what credit reaches
        passes = resamples * (len(survey.nodes) if needs.per_node else 1)
        left = {name: p for name, p in survey.parameters.items() if name not in self.reached}
        other = self._others
        what = "weight perturbation within the same pairs" if other is None else other.noun
        if left:
            self._notes.warn(
                "weight perturbation",
                f"{', '.join(map(repr, left))}: no credit reaches it, so that it is trained by "
                f"{what}",
            )
        if other is not None:
            self.left = tuple(left)
            return {}
        return {name: self._drawn(p, passes) for name, p in left.items()}

    def train_left_(self, inputs: Any, targets: Any, estimate: Estimate) -> Estimate:
        """Add to `.grad` of what is left to `others`; return the estimate with their passes."""
        assert self._others is not None, "nothing is left otherwise"
        more = self._others(inputs, targets, self.left).sample_forwards
        return replace(estimate, sample_forwards=estimate.sample_forwards + more)

    @property
    def _noise(self) -> Injection:
        if self._injection is None:
            purpose = "shifts of parameters in pairs"
            self._injection = Injection(RELATIVE, seed=self._seed, purpose=purpose)
        return self._injection

    def _drawn(self, parameter: nn.Parameter, passes: int) -> Tensor:
        return self._noise((passes, *parameter.shape), like=parameter) * _scale(parameter)

    def assign(
        self,
        rule: Rule,
        record: Record,
        parameters: Mapping[str, nn.Parameter],
    ) -> Assigned:
        """Return the credit of the calls, and gradients of the parameters.

        Args:
            rule: that gives credit.
            record: of the passes.
            parameters: between the nodes, by path.
        """
        record = replace(record, dloss=self.taken_out(record))
        assigned = rule.assign(record)
        self.reached.update(assigned.parameters)
        self._traced = True
        if not record.shifts:
            return assigned
        assigned.calls = list(assigned.calls)
        found = self.gradients(parameters, record, assigned, rule.uses_dloss)
        return replace(assigned, parameters={**found, **assigned.parameters})

    def taken_out(self, record: Record) -> Tensor:
        """Return δL without the share of the parameters, as far as it is known, (P, B)."""
        known = [self._share(name, xi) for name, xi in record.shifts.items() if name in self._means]
        if not known:
            return record.dloss
        return record.dloss - torch.stack(known).sum(0)[:, None] / record.dloss.shape[1]

    def gradients(
        self,
        parameters: Mapping[str, nn.Parameter],
        record: Record,
        assigned: Assigned,
        uses_dloss: bool,
    ) -> dict[str, Tensor]:
        """Return the gradient of every parameter that was shifted.

        Args:
            parameters: that were shifted, by path.
            record: of the passes; its δL without the known share of the parameters.
            assigned: credit of the calls.
            uses_dloss: the credit is made of this very δL.
        """
        left = record.dloss if uses_dloss else _residual(record, assigned)
        change, found = left.sum(1), {}
        for name, xi in record.shifts.items():
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
        found = {f"mean|{name}": value for name, value in self._means.items()}
        found |= {f"reached|{name}": torch.ones(()) for name in self.reached}
        if self._injection is not None:
            found["stream"] = self._injection.stream.state()
        found |= {f"left|{name}": torch.ones(()) for name in self.left}
        others = {} if self._others is None else self._others.state()
        found |= {f"others|{name}": value for name, value in others.items()}
        return found | {"traced": torch.tensor(self._traced)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        if "stream" in state:
            self._noise.stream.restore(state["stream"])
        kept = [(name.partition("|"), value) for name, value in state.items()]
        self._means = {name: value for (what, _, name), value in kept if what == "mean"}
        self.reached = {name for (what, _, name), _ in kept if what == "reached"}
        self.left = tuple(name for (what, _, name), _ in kept if what == "left")
        if self._others is not None:
            others = {name: value for (what, _, name), value in kept if what == "others"}
            self._others.restore(others)
        self._traced = bool(state.get("traced", False))


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
