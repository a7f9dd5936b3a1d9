"""NodePerturbation: passes, then a rule, then credit ⊗ x into `.grad`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from noisynets.core.check import (
    check,
    check_called,
    check_dtype,
    check_noisy,
    check_open,
    check_output,
    warn_fixed_statistics,
    warn_quiet,
    warn_unfrozen,
)
from noisynets.core.decorrelation import decorrelations, learn_
from noisynets.core.errors import InputError
from noisynets.core.graph import Graph
from noisynets.core.losses import KnownError, OutputError, losses
from noisynets.core.nodes import Survey, is_chain, survey
from noisynets.core.noise import Injection, check_sigma
from noisynets.core.notes import Note, Notes
from noisynets.core.outer import accumulate_
from noisynets.core.paired import Where, needs_pairing
from noisynets.core.probe import Probe, batch_size, reference
from noisynets.core.record import Needs, NodeRecord
from noisynets.core.speed import warn_slow_products
from noisynets.core.trial import RollOut, Stepped
from noisynets.core.types import Estimate, Loss, Sampler
from noisynets.core.verify import verify
from noisynets.estimators.named import rule_of
from noisynets.estimators.obstacles import EVERY, LOOKS, Batch, Obstacles
from noisynets.rules import Credit, Rule, StepCredit


@dataclass(frozen=True, slots=True)
class Credited:
    """What the passes of a batch measured, and the credit that a rule made of it.

    Attributes:
        estimate: losses and outputs.
        calls: one record per node and call.
        credits: one per call, each computed when it is asked for: iterate once.
        dtype: in which credit and x are multiplied; None: their own.
    """

    estimate: Estimate
    calls: Sequence[NodeRecord]
    credits: Iterable[Credit]
    dtype: torch.dtype | None = None

    def accumulate_(self) -> None:
        """Add credit ⊗ x to `.grad` of every node's parameters."""
        for call, credit in zip(self.calls, self.credits, strict=True):
            if isinstance(credit, StepCredit):
                x, credit = credit.x.flatten(0, 1), credit.credit.flatten(0, 1)
                accumulate_(call.node.layer, x, credit, self.dtype)
            elif credit is not None:
                accumulate_(call.node.layer, call.x, credit, self.dtype)


class Surveyed:
    """A system, surveyed again whenever its modules or parameters have changed.

    Layers may be frozen, switched to training or converted between two calls of an estimator.

    Args:
        system: any module.
        rule: says what is needed of the passes.
        injection: that nodes must allow; None where nothing is injected.
        verifies: the first batch is used to verify the system.

    Attributes:
        verified: rows with which it was verified, 2 at most: one row shows nothing of others.
        pairs: passes share batch statistics and random numbers; see `Paired`.
        shared: what they were seen to share, when the system was verified.
    """

    def __init__(
        self, system: nn.Module, rule: Rule, injection: Injection | None, verifies: bool = True
    ) -> None:
        self.system, self.rule, self.injection = system, rule, injection
        self.verifies, self.verified = verifies, 0
        self.needs = Needs()
        self._seen: object = None
        self._graph: Graph | None = None
        self._graph_shape = torch.Size()
        self._checked = False

    def survey(self) -> Survey:
        """Return the survey of the system as it is now.

        Raises:
            SystemRefused: if it cannot be trained so.
        """
        modules = list(self.system.modules())
        parameters = [p for m in modules for p in m._parameters.values() if p is not None]
        now = (
            [(module, module.training) for module in modules],
            [(p.requires_grad, p.dtype) for p in parameters],
        )
        if now != self._seen:
            nodes = check(self.system)
            self.dtype = next(nodes[0].layer.parameters()).dtype
            if self.injection is not None:
                check_open(self.system)
                check_sigma(self.injection.sigma, self.dtype)
            self._survey = survey(self.system, nodes)
            self.needs = self.rule.needs(self.system)
            self.decorrelates = bool(decorrelations(self.system))
            self._seen, self._graph, self._checked = now, None, False
            self.verified = 0 if self.verifies else 2
            self.pairs = needs_pairing(self.system, strangers=not self.verifies)
            self.shared: dict[Where, None] = {}
        return self._survey

    def verify(self, loss: Loss, inputs: Tensor, targets: Tensor) -> None:
        """Verify the system on a batch; see `noisynets.core.verify`."""
        injects = self.injection is not None
        self.shared = verify(self.system, self._survey.nodes, loss, inputs, targets, injects)
        self.pairs = self.pairs or bool(self.shared)
        self.verified = min(len(inputs), 2)

    def check_first(self, calls: Sequence[NodeRecord], notes: Notes) -> None:
        """Check the first batch for what only a pass can show; synchronises the device."""
        if not self._checked:
            check_called(self._survey.nodes, calls)
            check_dtype(calls)
            warn_unfrozen(self.system, notes)
            if self.rule.reads_dloss:
                warn_fixed_statistics(self.system, notes)
            if self.injection is None:
                check_noisy(calls)
                if not self.needs.error:
                    warn_quiet(calls, notes)
            self._checked = True

    def graph(self, shape: torch.Size) -> Graph | None:
        """Return the graph of inputs (*shape) if it is known; None: the pass must be traced."""
        return self._graph if self._graph_shape == shape else None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the graph, which is traced again: adjoints cannot be pickled."""
        return {**vars(self), "_graph": None}

    def keep_graph(self, graph: Graph, shape: torch.Size) -> None:
        """Keep a traced graph, if every pass of the system has the same."""
        network = self.system.network if isinstance(self.system, Stepped) else self.system
        self._graph = graph if is_chain(network) and graph.recorded else None
        if self.pairs:  # masks and statistics are those of one batch
            self._graph = None
        self._graph_shape = shape


class NodePerturbation:
    """Estimates gradients from one reference pass and K noisy passes; no derivatives are used.

    Args:
        system: any module; its layers with weights are the nodes.
        loss: (outputs (R, ...), targets (R, ...)) → (R,), one value per row.
        rule: a name in `RULES`, or a `Rule`.
        sigma: standard deviation of the injected noise, in units of the activities; or an
            `Injection` of its own settings, in place of `noise` and `seed`. None is the intrinsic
            mode: nothing is injected, all passes have the system's own noise, and only inputs,
            activities and losses are read.
        resamples: K.
        noise: distribution of the injected noise: a name in `SAMPLERS`, or a sampler.
        seed: of the injected noise, and of what the rule draws.
        error: how the error at the output is found, for rules that start from it; None:
            `KnownError()`, the loss's own derivative. `MeasuredError()` uses loss differences
            alone, for a loss without a derivative.
        product_dtype: in which credit and inputs are multiplied, bfloat16 for example; the passes,
            whose differences are small, keep their dtype. None: as the passes.
        verify: check on the first batch, in at most 6 more passes, that rows do not mix, that no
            noise is unknown, and that weights act through their layers alone; see
            `noisynets.core.verify`.

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
        verify: bool = True,
    ) -> None:
        if isinstance(system, RollOut):
            raise InputError(
                "passes of a network that acts receive different inputs: use RollOutPerturbation "
                "or RollOutFeedback"
            )
        if resamples < 1:
            raise InputError(f"resamples {resamples} must be at least 1")
        self.system = system
        self.loss = loss
        self.rule = rule_of(rule, seed) if isinstance(rule, str) else rule
        self.error = KnownError() if error is None else error
        self.resamples = resamples
        self.product_dtype = product_dtype
        warn_slow_products(system, product_dtype)
        self.injection = Injection(sigma, noise, seed) if isinstance(sigma, float | int) else sigma
        _check_needs(self.rule, self.rule.needs(system), self.injection, error)
        self._surveyed = Surveyed(system, self.rule, self.injection, verify)
        self._surveyed.survey()
        self._obstacles = Obstacles(system, passes=verify)

    @property
    def notes(self) -> tuple[Note, ...]:
        """What the estimator has warned of, each kind once."""
        return (*self._obstacles.notes, *self.rule.notes)

    @property
    def fallbacks(self) -> tuple[str, ...]:
        """Paths of nodes with learned credit, because no credit passes what lies behind them."""
        return tuple(self.rule.fallbacks)

    @torch.no_grad()
    def __call__(self, inputs: Tensor, targets: Tensor) -> Estimate:
        """Accumulate the estimate in `.grad`; inputs (B, ...), targets (B, ...)."""
        found = self.credit(inputs, targets, always=False)
        found.accumulate_()
        if self._surveyed.decorrelates:
            learn_(found.calls)
        return found.estimate

    @torch.no_grad()
    def credit(self, inputs: Tensor, targets: Tensor, always: bool = True) -> Credited:
        """Make the passes and give credit, without touching `.grad`; the rule learns.

        Args:
            inputs: (B, ...); records may refer to it: leave it alone until credit is accumulated.
            targets: (B, ...).
            always: make noisy passes also in steps in which the rule needs none.
        """
        batch = batch_size(inputs, targets)
        current = self._surveyed.survey()
        if self._surveyed.verified < min(batch, 2):
            self._surveyed.verify(self.loss, inputs, targets)
        needs, graph = self._surveyed.needs, self._surveyed.graph(inputs.shape[1:])
        alone = not (always or self.rule.due or self.error.needs_pairs)
        probe = Probe(
            current,
            batch=batch,
            resamples=0 if alone else self.resamples,
            injection=self.injection,
            needs=needs if graph is None else replace(needs, graph=False),
            pairs=self._surveyed.pairs,
        )
        with probe:
            outputs = self.system(probe.stack(inputs))
        passes = 1 + probe.passes
        loss = losses(self.loss, outputs, torch.cat([targets] * passes))
        loss = loss.unflatten(0, (passes, batch))
        dloss = (loss[1:] - loss[0]).to(self._surveyed.dtype)
        error = None
        if needs.error:
            error = self.error(self.loss, outputs, targets, dloss) / batch
        if not alone:
            self._surveyed.check_first(probe.calls, self._obstacles.notes)
        record = probe.record(outputs, dloss / batch, graph, error, self.error.exact)
        if record.graph is not None and graph is None:
            check_output(record.graph)
            self._surveyed.keep_graph(record.graph, inputs.shape[1:])
        self._obstacles.steps += 1
        if self._obstacles.steps in LOOKS or self._obstacles.steps % EVERY == 0:
            reads = self.rule.reads_dloss or self.error.needs_pairs
            found = Batch(inputs, batch, outputs, loss, probe.sigma, reads)
            self._obstacles.look(found, self.rule, record)
        estimate = Estimate(loss[0], reference(outputs, batch, passes), passes * batch)
        return Credited(estimate, record.calls, self.rule(record), self.product_dtype)

    def state(self) -> dict[str, Tensor]:
        """Return the state of the injected noise, and what the rule has learnt."""
        found = {} if self.injection is None else {"stream": self.injection.stream.state()}
        found |= {f"rule|{name}": value for name, value in self.rule.state().items()}
        found |= {f"error|{name}": value for name, value in self.error.state().items()}
        return found | {"looks": self._obstacles.state()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        if self.injection is not None:
            self.injection.stream.restore(state["stream"])
        self.rule.restore(_part(state, "rule|"))
        self.error.restore(_part(state, "error|"))
        self._obstacles.restore(state.get("looks"))


def pairs(estimator: NodePerturbation) -> bool:
    """Return True if all passes share batch statistics and random masks, as far as is known yet."""
    return estimator._surveyed.pairs


def shared(estimator: NodePerturbation) -> tuple[Where, ...]:
    """Return what all passes share, as the first batch showed."""
    return tuple(estimator._surveyed.shared)


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
