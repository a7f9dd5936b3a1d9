"""NodePerturbation: passes, then a rule, then credit ⊗ x into `.grad`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from noisynets.core.check import check_output
from noisynets.core.decorrelation import learn_
from noisynets.core.errors import InputError
from noisynets.core.graph import Plan
from noisynets.core.losses import Errors, KnownError, OutputError, losses
from noisynets.core.nodes import Survey
from noisynets.core.noise import Injection
from noisynets.core.notes import Note
from noisynets.core.outer import accumulate_, add_gradient_
from noisynets.core.paired import Where
from noisynets.core.probe import Probe, Rows, reference_rows
from noisynets.core.record import Needs, NodeRecord
from noisynets.core.speed import warn_slow_products
from noisynets.core.trial import RollOut
from noisynets.core.types import Estimate, Loss, Sampler
from noisynets.estimators.between import Between
from noisynets.estimators.named import rule_of
from noisynets.estimators.obstacles import Batch, Obstacles
from noisynets.estimators.surveyed import Surveyed
from noisynets.rules import Assigned, Rule, StepCredit


@dataclass(frozen=True, slots=True)
class Credited:
    """What the passes of a batch measured, and the credit that a rule made of it.

    Attributes:
        estimate: losses and outputs.
        calls: one record per node and call.
        assigned: credit of the calls, each computed when it is asked for: iterate once; and
            gradients of parameters between the nodes.
        survey: of the system.
        dtype: in which credit and x are multiplied; None: their own.
    """

    estimate: Estimate
    calls: Sequence[NodeRecord]
    assigned: Assigned
    survey: Survey
    dtype: torch.dtype | None = None

    def accumulate_(self) -> None:
        """Add credit ⊗ x to `.grad` of every node's parameters, and gradients to all others."""
        for call, credit in zip(self.calls, self.assigned.calls, strict=True):
            if isinstance(credit, StepCredit):
                x, credit = credit.x.flatten(0, 1), credit.credit.flatten(0, 1)
                accumulate_(call.node.layer, x, credit, self.dtype)
            elif credit is not None:
                accumulate_(call.node.layer, call.x, credit, self.dtype)
        for name, gradient in self.assigned.parameters.items():
            add_gradient_(self.survey.parameters[name], gradient)


PARTS = ("rule", "error", "between")
"""Attributes with a state of their own."""


class NodePerturbation:
    """Estimates gradients from one reference pass and K noisy passes; no derivatives are used.

    Args:
        system: any module; its layers with weights are the nodes.
        loss: (outputs (R, ...), targets (R, ...)) → one value per row, or per position: summed.
        rule: a name in `RULES`, or a `Rule`.
        sigma: standard deviation of the injected noise, in units of the activities; or an
            `Injection` of its own settings, in place of `noise` and `seed`. None is the intrinsic
            mode: nothing is injected, all passes have the system's own noise, and only inputs,
            activities and losses are read.
        resamples: K.
        noise: distribution of the injected noise: a name in `SAMPLERS`, or a sampler.
        seed: of the injected noise, and of what the rule draws.
        error: gives the error at the output, to rules that start from it; None: `KnownError()`,
            the loss's own derivative. `MeasuredError()` uses loss differences alone.
        product_dtype: in which credit and inputs are multiplied, bfloat16 for example; the passes,
            whose differences are small, keep their dtype. None: as the passes.
        physical: paths of modules, and names of operations ('softmax', 'norm', as in `plan`), that
            are declared physical: feedback passes them by measured gains and learned maps alone.
        verify: check on the first batch, in at most 6 more passes, what all rules take for
            granted; see `noisynets.core.verify`.

    Raises:
        InputError: for an unknown name or an impossible setting.
        SystemRefused: if the estimates would be wrong or parameters not trained; see `check`.

    Cost: (1 + K) B sample-forwards (INP: 1 + K·nodes), one weight product per layer.

    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> estimator = NodePerturbation(net, nn.CrossEntropyLoss(reduction="none"), rule="anp")
    >>> estimate = estimator(torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1]))
    >>> estimate.loss.shape, net[0].weight.grad.shape, estimate.sample_forwards
    (torch.Size([5]), torch.Size([8, 4]), 10)
    """

    def __init__(
        self,
        system: nn.Module,
        loss: Loss,
        rule: str | Rule = "mirrored",
        *,
        sigma: float | Injection | None = 1e-2,
        resamples: int = 1,
        noise: str | Sampler = "gaussian",
        seed: int = 0,
        error: OutputError | None = None,
        product_dtype: torch.dtype | None = None,
        physical: Collection[str] = (),
        verify: bool = True,
    ) -> None:
        _check_system(system, resamples)
        self.system = system
        self.loss = loss
        self.rule = rule_of(rule, seed) if isinstance(rule, str) else rule
        self.error = KnownError() if error is None else error
        self.resamples = resamples
        self.product_dtype = product_dtype
        warn_slow_products(system, product_dtype)
        self.injection = Injection(sigma, noise, seed) if isinstance(sigma, float | int) else sigma
        _check_needs(self.rule, self.rule.needs(system), self.injection, error)
        self._surveyed = Surveyed(system, self.rule, self.injection, physical, verify)
        self._surveyed.survey()
        self._rows = Rows()
        self._obstacles = Obstacles(system, passes=verify)
        self.between = Between(seed, self._obstacles.notes)

    @property
    def notes(self) -> tuple[Note, ...]:
        """What the estimator has warned of, each kind once."""
        return (*self._obstacles.notes, *self.rule.notes)

    @property
    def fallbacks(self) -> tuple[str, ...]:
        """Paths of nodes with learned credit, because no credit passes what lies behind them."""
        return tuple(self.rule.fallbacks)

    @property
    def plan(self) -> Plan:
        """What credit passes exactly, by measurement or by learning; see `Surveyed.plan`."""
        return self._surveyed.plan(self.fallbacks, self.between.reached)

    @torch.no_grad()
    def __call__(self, inputs: Any, targets: Any) -> Estimate:
        """Accumulate the estimate in `.grad`; for inputs and targets see `credit`."""
        found = self.credit(inputs, targets, always=False)
        found.accumulate_()
        if self._surveyed.decorrelates:
            learn_(found.calls)
        return found.estimate

    @torch.no_grad()
    def credit(self, inputs: Any, targets: Any, always: bool = True) -> Credited:
        """Make the passes and give credit, without touching `.grad`; the rule learns.

        Args:
            inputs: (B, ...), or a tree; see `Rows`. Leave it alone until credit is accumulated.
            targets: (B, ...), or a tree.
            always: make noisy passes also in steps in which the rule needs none.
        """
        inputs, targets, batch = self._rows(inputs, targets)
        current = self._surveyed.on(self.loss, inputs, targets, batch)
        needs, graph = self._surveyed.needs, self._surveyed.graph(inputs)
        alone = not (always or self.rule.due or self.error.needs_pairs)
        shifts = {} if alone else self.between.shifts(current, needs, self.resamples)
        probe = Probe(
            current,
            batch=batch,
            resamples=0 if alone else self.resamples,
            injection=self.injection,
            needs=needs if graph is None else replace(needs, graph=False),
            shifts={current.parameters[name]: xi for name, xi in shifts.items()},
            pairs=self._surveyed.pairs,
        )
        with probe:
            outputs = probe.call(inputs)
        loss = losses(self.loss, outputs, probe.repeat(targets), (1 + probe.passes) * batch)
        loss = loss.unflatten(0, (1 + probe.passes, batch))
        dloss, error = (loss[1:] - loss[0]).to(self._surveyed.dtype), None
        if needs.error:
            error = _mean(self.error(self.loss, outputs, targets, dloss), batch)
        if not alone:
            self._surveyed.check_first(probe.calls, self._obstacles.notes)
        record = probe.record(outputs, dloss / batch, graph, error, self.error.exact)
        if graph is None and record.graph is not None:
            check_output(record, outputs)
            self._surveyed.keep_graph(record.graph, inputs)
        if self._obstacles.count():
            reads = self.rule.reads_dloss or self.error.needs_pairs
            found = Batch(inputs, batch, outputs, loss, probe.sigma, reads)
            self._obstacles.look(found, self.rule, record)
        estimate = Estimate(loss[0], reference_rows(outputs, batch, 1 + probe.passes), loss.numel())
        assigned = self.between.assign(self.rule, record, current.parameters, shifts)
        return Credited(estimate, record.calls, assigned, current, self.product_dtype)

    def state(self) -> dict[str, Tensor]:
        """Return the state of the injected noise, and what the rule has learnt."""
        found = {} if self.injection is None else {"stream": self.injection.stream.state()}
        for name in PARTS:
            found |= {f"{name}|{key}": v for key, v in getattr(self, name).state().items()}
        return found | {"looks": self._obstacles.state()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        if self.injection is not None:
            self.injection.stream.restore(state["stream"])
        for name in PARTS:
            getattr(self, name).restore(_part(state, f"{name}|"))
        self._obstacles.restore(state.get("looks"))


def pairs(estimator: NodePerturbation) -> bool:
    """Return True if all passes share batch statistics and random masks, as far as is known yet."""
    return estimator._surveyed.pairs


def shared(estimator: NodePerturbation) -> tuple[Where, ...]:
    """Return what all passes share, as the first batch showed."""
    return tuple(estimator._surveyed.shared)


def _mean(errors: Errors, batch: int) -> Errors:
    """Return the errors of the mean loss, of those of the losses."""
    return tuple([None if e is None else e / batch for e in errors])


def _check_system(system: nn.Module, resamples: int) -> None:
    if isinstance(system, RollOut):
        raise InputError(
            "passes of a network that acts receive different inputs: use RollOutPerturbation or "
            "RollOutFeedback"
        )
    if resamples < 1:
        raise InputError(f"resamples {resamples} must be at least 1")


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _check_needs(
    rule: Rule, needs: Needs, injection: Injection | None, error: OutputError | None
) -> None:
    """Refuse settings that a rule cannot work with."""
    name = type(rule).__name__
    if needs.injection and injection is None:
        raise InputError(
            f"{name} needs injected noise, and sigma=None injects none: use 'anp', or give a "
            "sigma, at least that of the system's own noise, to inject in addition"
        )
    if injection is not None and injection.per_trial and (needs.steps or not needs.averages):
        raise InputError(
            "noise that is the same in all steps shows nothing about single steps: use "
            "OverTrial(rule) (--credit-over trial), or noise drawn in every step"
        )
    if error is not None and not needs.error:
        raise InputError(f"{name} does not use the error at the output: leave out `error`")
    if error is not None and needs.exact_error and not error.exact:
        raise InputError(f"{name} needs the known error at the output: both come from δL")
