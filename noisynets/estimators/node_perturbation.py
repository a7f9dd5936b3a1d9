"""Estimators: passes, then a rule, then credit ⊗ x into `.grad`."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from noisynets.core import decorrelation
from noisynets.core.check import (
    check,
    check_called,
    check_dtype,
    check_noisy,
    check_open,
    warn_quiet,
)
from noisynets.core.errors import InputError, unknown
from noisynets.core.losses import DERIVATIVES, losses
from noisynets.core.noise import Injection, check_sigma
from noisynets.core.outer import accumulate_
from noisynets.core.probe import Probe, find_nodes, is_chain
from noisynets.core.trial import has_state, populations, trial
from noisynets.core.types import Estimate, Loss, Report, RollOut, Sampler, Stepped
from noisynets.rules import RULES, SCALINGS, Rule
from noisynets.rules.credit import (
    FEEDBACKS,
    Corrected,
    Feedback,
    InTime,
    MeasuredError,
    Pair,
    Traced,
    Watch,
    Wiring,
    learns,
)


@dataclass(frozen=True, slots=True)
class Credited:
    """What the passes of a batch showed, and the credit that was made of it.

    Attributes:
        estimate: losses and outputs.
        reports: one per node and call.
        credits: one per report, (B, *out), each made when it is asked for: go through them once.
            None: the node is left untrained.
        dtype: in which credit and x are multiplied; None: their own.
    """

    estimate: Estimate
    reports: Sequence[Report]
    credits: Iterable[Tensor | Traced | None]
    dtype: torch.dtype | None = None

    def accumulate_(self) -> None:
        """Add credit ⊗ x to `.grad` of every node's parameters."""
        for report, credit in zip(self.reports, self.credits, strict=True):
            if isinstance(credit, Traced):
                x, credit = credit.x.flatten(0, 1), credit.credit.flatten(0, 1)
                accumulate_(report.node.layer, x, credit, self.dtype)
            elif credit is not None:
                accumulate_(report.node.layer, report.x, credit, self.dtype)


class NodePerturbation:
    """Estimates gradients from one reference pass and K noisy passes; no derivatives are used.

    Args:
        system: any module; its layers with weights are the nodes.
        loss: (outputs (R, ...), targets (R, ...)) → (R,), one value per row.
        rule: a name in `RULES` or in `FEEDBACKS`, a `Rule`, or a `Feedback`.
        sigma: standard deviation of the injected noise, in units of the activities. None is
            the intrinsic mode: nothing is injected, all passes carry the system's own noise,
            and only inputs, activities and losses are read.
        resamples: K.
        noise: distribution of the injected noise: a name in `SAMPLERS`, or a sampler.
        scaling: a name in `SCALINGS`.
        seed: of the injected noise, and of random feedback.
        credit_over: 'steps' gives credit to every call of a node; 'trial' to its mean over all
            calls, which takes no more memory for more of them. None: 'trial' for feedback on a
            system with a state, else 'steps'.
        noise_over: 'step' injects anew in every call of a node, 'trial' the same in all of them.
        loss_gradient: of feedback: 'known' takes the loss's own derivative at the output,
            'measured' only the loss's differences, for a loss that has no derivative.
        product_dtype: in which credit and inputs are multiplied, bfloat16 say: the passes, whose
            differences are small, keep theirs. None: as the passes.

    Raises:
        InputError: for an unknown name or an impossible setting.
        SystemRefused: where the estimates would be wrong or parameters left untrained; see
            `check`.

    Cost: (1 + K) B sample-forwards (INP: 1 + K·layers), one weight product per layer.

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
        rule: str | Rule | Feedback = "anp",
        *,
        sigma: float | None = 1e-2,
        resamples: int = 1,
        noise: str | Sampler = "gaussian",
        scaling: str = "count",
        seed: int = 0,
        credit_over: str | None = None,
        noise_over: str = "step",
        loss_gradient: str = "known",
        product_dtype: torch.dtype | None = None,
    ) -> None:
        if isinstance(rule, str):
            if rule not in RULES and rule not in FEEDBACKS:
                raise unknown("rule", rule, [*RULES, *FEEDBACKS])
            rule = RULES[rule] if rule in RULES else FEEDBACKS[rule](seed)
        if scaling not in SCALINGS:
            raise unknown("scaling", scaling, SCALINGS)
        if resamples < 1:
            raise InputError(f"resamples {resamples} must be at least 1")
        if isinstance(rule, Rule):
            _check_mode(rule, scaling, sigma)
        elif scaling != "count":
            raise InputError(f"feedback has no scaling: leave out {scaling!r}")
        if loss_gradient not in ("known", "measured"):
            raise unknown("loss gradient", loss_gradient, ("known", "measured"))
        if isinstance(rule, Rule) and loss_gradient == "measured":
            raise InputError(f"rule {rule.name!r} takes no derivative of the loss anyway")
        if isinstance(rule, Corrected) and loss_gradient == "measured":
            raise InputError("a δL correction needs a known loss gradient: both come from δL")
        self._error = MeasuredError() if loss_gradient == "measured" else None
        stepped = False
        if not isinstance(rule, Rule) and has_state(system):
            stepped = True
            rule = InTime(rule) if credit_over == "steps" else rule
        credit_over = credit_over or ("trial" if stepped else "steps")
        _check_time(credit_over, noise_over)
        if isinstance(system, RollOut):
            raise InputError("passes of a network that acts part for good: RollOutPerturbation")
        self.system = system
        self.loss = loss
        self.rule = rule
        self.credit_over = credit_over
        self.noise_over = noise_over
        self._on_average = credit_over == "trial" or stepped
        self.scaling = SCALINGS[scaling]
        self.resamples = resamples
        self.product_dtype = product_dtype
        self.injection = None if sigma is None else Injection(sigma, noise, seed)
        self._wiring: Wiring | None = None
        self._wired_for = torch.Size()
        self._surveyed: object = None
        self._survey()

    @torch.no_grad()
    def __call__(self, inputs: Tensor, targets: Tensor) -> Estimate:
        """Accumulate the estimate in `.grad`; inputs (B, ...), targets (B, ...)."""
        found = self.credit(inputs, targets, always=False)
        found.accumulate_()
        decorrelation.learn_(found.reports)
        return found.estimate

    @torch.no_grad()
    def credit(self, inputs: Tensor, targets: Tensor, always: bool = True) -> Credited:
        """Make the passes and give credit, without touching `.grad`; feedback learns.

        Args:
            inputs: (B, ...); reports may refer to it: leave it alone until credit is accumulated.
            targets: (B, ...).
            always: make noisy passes also where feedback does not learn, and needs none.
        """
        batch = _batch(inputs, targets)
        self._survey()
        rule = self.rule
        raw = rule if isinstance(rule, Rule) else None
        alone = not (always or isinstance(rule, Rule) or learns(rule) or self._error is not None)
        probe = Probe(
            self.system,
            self.nodes,
            batch=batch,
            resamples=0 if alone else self.resamples,
            injection=self.injection,
            in_turn=raw is not None and raw.in_turn,
            keep_noise=raw is None or raw.reads_noise,
            keep_states=raw is None,
            on_average=self._on_average,
            keep_steps=isinstance(rule, InTime),
            hold_noise=self.noise_over == "trial",
        )
        passes = 1 + probe.passes
        rows = passes * batch
        wired = self._wiring is not None and self._wired_for == inputs.shape[1:]
        watching = raw is None and not wired
        inside = populations(self.system) if self._on_average else None
        watch = Watch(self.nodes, rows, inside) if watching else nullcontext()
        with trial(self.system), probe, watch:
            outputs = self.system(probe.stack(inputs))
        stacked_targets = torch.cat([targets] * passes)
        loss = losses(self.loss, outputs, stacked_targets).unflatten(0, (passes, batch))
        dloss = loss[1:] - loss[0]
        if not (self._looked or alone):
            self._look(probe)

        credits: Iterable[Tensor | Traced | None]
        if isinstance(rule, Rule):
            credits = rule.credit(probe.reports, dloss / batch, self.scaling)
        else:
            wiring = watch.wiring(outputs) if isinstance(watch, Watch) else self._wiring
            assert wiring is not None
            if self._error is None:
                error = derivative(self.loss, reference(outputs, batch, passes), targets)
            else:
                error = self._error(_one(outputs), dloss)
            exact = self._error is None
            credits = rule(
                Pair(probe.reports, dloss / batch, error / batch, wiring, probe.responses, exact)
            )
            if wiring is not self._wiring:
                fixed = is_chain(_network(self.system)) and wiring.reported
                self._wiring = replace(wiring, values={}) if fixed else None
                self._wired_for = inputs.shape[1:]
        estimate = Estimate(loss[0], reference(outputs, batch, passes), passes * batch)
        return Credited(estimate, probe.reports, credits, self.product_dtype)

    def state(self) -> dict[str, Tensor]:
        """Return the state of the stream of injected noise, and what feedback has learnt."""
        found = {} if self.injection is None else {"stream": self.injection.stream.state()}
        if not isinstance(self.rule, Rule):
            found |= {f"feedback|{name}": value for name, value in self.rule.state().items()}
        if self._error is not None:
            found |= {f"error|{name}": value for name, value in self._error.state().items()}
        return found

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        if self.injection is not None:
            self.injection.stream.restore(state["stream"])
        if not isinstance(self.rule, Rule):
            self.rule.restore(_part(state, "feedback|"))
        if self._error is not None:
            self._error.restore(_part(state, "error|"))

    def _survey(self) -> None:
        """Check the system wherever it is not as it was checked last.

        Layers may be frozen, switched to training or converted between two calls.
        """
        modules = list(self.system.modules())
        parameters = [p for m in modules for p in m._parameters.values() if p is not None]
        found = (
            [(module, module.training) for module in modules],
            [(p.requires_grad, p.dtype) for p in parameters],
        )
        if found == self._surveyed:
            return
        self.nodes = check(self.system)
        self._wiring = None
        if self.injection is not None:
            check_open(self.system)
            dtype = next(self.nodes[0].layer.parameters()).dtype
            check_sigma(self.injection.sigma, dtype)
        self._surveyed = found
        self._looked = False

    def _look(self, probe: Probe) -> None:
        """Look, at the first batch, at what only a pass can tell; synchronises the device."""
        check_called(self.nodes, probe.reports)
        check_dtype(probe.reports)
        if self.injection is None:
            check_noisy(probe.reports)
            if isinstance(self.rule, Rule):
                warn_quiet(probe.reports)
        self._looked = True


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def derivative(loss: Loss, output: Any, targets: Tensor) -> Tensor:
    """∂loss/∂output per sample, (B, ...): the loss is ours, and no pass is needed for it.

    Raises:
        InputError: for an output that is not one tensor, or a loss without a derivative.
    """
    output = _one(output).detach()
    closed = DERIVATIVES.get(loss) if isinstance(loss, Hashable) else None
    known = None if closed is None else closed(output, targets)
    if known is not None:
        return known
    with torch.enable_grad():
        output = output.requires_grad_()
        value = losses(loss, output, targets).sum()
        if not value.requires_grad:
            raise InputError("this loss has no derivative: feedback needs loss_gradient='measured'")
        (error,) = torch.autograd.grad(value, output)
    return error


def _one(output: Any) -> Tensor:
    if not isinstance(output, Tensor):
        raise InputError("feedback starts from one output tensor; this system returns several")
    return output


def reference(outputs: Any, batch: int, passes: int) -> Any:
    """Return the rows of the reference pass, of every tensor that has rows of all passes."""
    if isinstance(outputs, Tensor):
        stacked = outputs.dim() > 0 and len(outputs) == passes * batch
        return (outputs[:batch] if stacked else outputs).detach()
    if isinstance(outputs, dict):
        return {key: reference(part, batch, passes) for key, part in outputs.items()}
    if isinstance(outputs, tuple | list):
        return [reference(part, batch, passes) for part in outputs]
    return outputs


def _batch(inputs: Tensor, targets: Tensor) -> int:
    """Return B, of inputs and targets alike."""
    if not (isinstance(inputs, Tensor) and isinstance(targets, Tensor)):
        raise InputError("inputs and targets must each be one tensor, with the batch first")
    if len(inputs) != len(targets) or len(inputs) == 0:
        raise InputError(f"{len(inputs)} inputs and {len(targets)} targets make no batch")
    return len(inputs)


def _check_mode(rule: Rule, scaling: str, sigma: float | None) -> None:
    if sigma is None and rule.injects:
        raise InputError(
            f"rule {rule.name!r} needs a noise that is injected, and none is in intrinsic mode: "
            "use 'anp', or give a sigma, at least that of the system's own noise, to inject on top"
        )
    if sigma is None and scaling == "variance":
        raise InputError("scaling 'variance' needs the sigma of an injected noise: use 'count'")
    if scaling != "count" and not rule.scaled:
        raise InputError(f"rule {rule.name!r} has no scaling: leave out {scaling!r}")


def _check_time(credit_over: str, noise_over: str) -> None:
    if credit_over not in ("steps", "trial"):
        raise unknown("credit_over", credit_over, ("steps", "trial"))
    if noise_over not in ("step", "trial"):
        raise unknown("noise_over", noise_over, ("step", "trial"))
    if credit_over == "steps" and noise_over == "trial":
        raise InputError(
            "noise that is the same in all steps says nothing about single ones: "
            "use credit_over='trial', or noise_over='step'"
        )


def _network(system: nn.Module) -> nn.Module:
    """Return what is run in one step."""
    return system.network if isinstance(system, Stepped) else system


class Backpropagation:
    """The exact gradient by autograd, with the same signature: the baseline BP (and DBP).

    Args:
        system: any module that autograd can follow.
        loss: (outputs (B, ...), targets (B, ...)) → (B,), one value per row.

    >>> net = nn.Sequential(nn.Linear(4, 3))
    >>> estimate = Backpropagation(net, nn.CrossEntropyLoss(reduction="none"))(
    ...     torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1]))
    >>> net[0].weight.grad.shape, estimate.sample_forwards
    (torch.Size([3, 4]), 5)
    """

    def __init__(self, system: nn.Module, loss: Loss) -> None:
        self.system = system
        self.loss = loss
        self.nodes = find_nodes(system) if decorrelation.decorrelations(system) else []

    def __call__(self, inputs: Tensor, targets: Tensor) -> Estimate:
        """Accumulate the gradient in `.grad`; inputs (B, ...), targets (B, ...)."""
        batch = _batch(inputs, targets)
        probe = Probe(self.system, self.nodes, batch=batch, resamples=0)
        with trial(self.system), torch.enable_grad(), probe:
            outputs = self.system(inputs)
            loss = losses(self.loss, outputs, targets)
            loss.mean().backward()
        check_called(self.nodes, probe.reports)
        decorrelation.learn_(probe.reports)
        return Estimate(loss.detach(), reference(outputs, batch, 1), batch)

    def state(self) -> dict[str, Tensor]:
        """Return nothing: there is no noise to keep."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
