"""NodePerturbation: passes, then a rule, then credit ⊗ x into `.grad`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from noisynets.core.check import (
    check,
    check_called,
    check_dtype,
    check_named,
    check_noisy,
    check_open,
    check_output,
    warn_fixed_statistics,
    warn_quiet,
    warn_unfrozen,
)
from noisynets.core.decorrelation import decorrelations, learn_
from noisynets.core.errors import InputError
from noisynets.core.graph import Graph, Plan, TracesByShape, plan_of
from noisynets.core.losses import Errors, KnownError, OutputError, losses_at
from noisynets.core.nodes import Survey, settings_between, survey
from noisynets.core.noise import Injection, check_sigma
from noisynets.core.notes import Note, Notes
from noisynets.core.outer import accumulate_
from noisynets.core.paired import Where, needs_pairing
from noisynets.core.probe import Probe, Rows, reference_rows
from noisynets.core.record import Needs, NodeRecord
from noisynets.core.speed import warn_slow_products
from noisynets.core.trial import Stepped
from noisynets.core.types import Estimate, Loss, Sampler
from noisynets.core.verify import Verified, rowless, verify
from noisynets.estimators.between import Between
from noisynets.estimators.named import rule_of
from noisynets.estimators.obstacles import EVERY, LOOKS, Batch, Obstacles
from noisynets.estimators.possible import check_needs, check_system
from noisynets.estimators.weight_space import WeightSpace
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
                steps = call.sampled or (call,)
                for step in steps:
                    accumulate_(call.node.layer, step.x, credit / len(steps), self.dtype)
        for name, gradient in self.assigned.parameters.items():
            parameter = self.survey.parameters[name]
            gradient, before = gradient.to(parameter.dtype), parameter.grad
            parameter.grad = gradient if before is None else before.add_(gradient)


class Surveyed:
    """A system, surveyed again whenever its modules or parameters have changed.

    Layers may be frozen, switched to training or converted between two calls of an estimator.

    Args:
        system: any module.
        rule: says what is needed of the passes.
        injection: that nodes must allow; None where nothing is injected.
        physical: paths of modules, and names of operations, that are declared physical.
        verifies: the first batch is used to verify the system.

    Attributes:
        current: the survey of the system as it was last seen.
        pairs: passes share batch statistics and random numbers; see `Paired`.
        shared: what they were seen to share, when the system was verified.
        last_graph: that was traced, of the system as it is; None before.
        traces: what is known of the system as it is from its passes.
        verified: rows with which it was verified, 2 at most: one row shows nothing of others.
    """

    def __init__(
        self,
        system: nn.Module,
        rule: Rule,
        injection: Injection | None,
        physical: Collection[str] = (),
        verifies: bool = True,
    ) -> None:
        self.system, self.rule, self.injection = system, rule, injection
        self.physical = tuple(physical)
        self.verifies, self.verified = verifies, 0
        self.needs = Needs()
        self._seen: object = None
        self._graph: Graph | None = None
        self.last_graph: Graph | None = None
        self._graph_shape: torch.Size | None = None
        self._between: list[dict[str, Any]] | None = None
        self._checked = False
        self._rowless: tuple[nn.Module, ...] = ()
        self.survey()

    def survey(self) -> Survey:
        """Return the survey of the system as it is now.

        Raises:
            SystemRefused: if it cannot be trained so.
        """
        modules = list(self.system.modules())
        parameters = [p for m in modules for p in m._parameters.values() if p is not None]
        now = (
            [(module, module.training) for module in modules],
            [(id(p), p.requires_grad, p.dtype) for p in parameters],
        )
        if now != self._seen:
            self.needs = self.rule.needs(self.system)
            nodes = check(self.system, self._rowless, devices=self.needs.graph)
            self.dtype = next(nodes[0].layer.parameters()).dtype
            if self.injection is not None:
                check_open(self.system)
                check_sigma(self.injection.sigma, self.dtype)
            self.current = survey(self.system, nodes, self.physical)
            self.decorrelates = bool(decorrelations(self.system))
            self._seen, self._graph, self.last_graph, self._checked = now, None, None, False
            self.traces = TracesByShape()
            embeds = any(isinstance(node.layer, nn.Embedding) for node in nodes)
            self.verified = 0 if self.verifies or embeds else 2
            self.pairs = needs_pairing(self.system, strangers=not self.verifies)
            self.shared: dict[Where, None] = {}
        return self.current

    def verify(self, loss: Loss, inputs: Any, targets: Any, batch: int) -> Survey:
        """Verify the system on B rows, and return its survey; see `noisynets.core.verify`.

        Layers whose outputs have no rows, as an embedding of positions, are no nodes: their
        parameters count among those between the nodes.
        """
        if self.verifies:
            injects, nodes = self.injection is not None, self.current.nodes
            found = verify(self.system, nodes, loss, inputs, targets, batch, injects)
        else:
            nodes = rowless(self.system, self.current.nodes, inputs)
            found = Verified(rowless=[node.layer for node in nodes])
        if found.rowless:
            self._rowless, self._seen = (*self._rowless, *found.rowless), None
            self.survey()
        self.shared = found.shared
        self.pairs = self.pairs or bool(found.shared)
        self.verified = min(batch, 2)
        return self.current

    def check_first(self, calls: Sequence[NodeRecord], notes: Notes) -> None:
        """Check the first batch for what only a pass can show; synchronises the device."""
        if not self._checked:
            check_called(self.current.nodes, calls)
            check_dtype(calls)
            warn_unfrozen(self.system, notes)
            if self.rule.reads_dloss:
                warn_fixed_statistics(self.system, notes)
            if self.injection is None:
                check_noisy(calls)
                if not self.needs.error:
                    warn_quiet(calls, notes)
            self._checked = True

    def graph(self, inputs: Any) -> Graph | None:
        """Return the graph of inputs if it is known; None: the pass must be traced."""
        known = isinstance(inputs, Tensor) and inputs.shape[1:] == self._graph_shape
        if not known or self._graph is None or self._between != self._settings():
            return None
        return self._graph

    def _settings(self) -> list[dict[str, Any]] | None:
        """Return the settings of what lies between the nodes, if nothing else decides about it."""
        network = self.system.network if isinstance(self.system, Stepped) else self.system
        current = self.current
        return settings_between(network, current.nodes, current.populations.values())

    def plan(self, learned: Collection[str], reached: Collection[str]) -> Plan:
        """Return the plan of the last graph.

        Args:
            learned: paths of nodes with learned credit.
            reached: paths of the parameters between the nodes that credit reaches.

        Raises:
            InputError: if nothing was traced yet, or never is.
        """
        if self.last_graph is None:
            why = "make a step first" if self.needs.graph else "this rule sends no credit"
            raise InputError(f"the plan of credit between the nodes: {why}")
        return plan_of(self.last_graph, learned, self.current.parameters, reached)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the graph, which is traced again: adjoints cannot be pickled."""
        return {**vars(self), "_graph": None, "last_graph": None, "traces": TracesByShape()}

    def keep_graph(self, graph: Graph, inputs: Any) -> None:
        """Keep a traced graph, if every pass of the system has the same."""
        if self.last_graph is None:
            check_named(self.current.physical.operations, graph)
        self.last_graph = graph
        single = isinstance(inputs, Tensor) and len(graph.outputs) == 1
        self._between = self._settings()
        same = single and self._between is not None and graph.recorded and not self.pairs
        self._graph = graph if same else None  # masks and statistics are those of one batch
        self._graph_shape = inputs.shape[1:] if single else None


PARTS = ("rule", "error", "between")
"""Attributes with a state of their own."""


class NodePerturbation:
    """Estimates gradients from one reference pass and K noisy passes; no derivatives are used.

    Args:
        system: any module; its layers with weights are the nodes.
        loss: (outputs (R, ...), targets (R, ...)) → one value per row, or per position: summed.
        rule: a name in `RULES`, or a `Rule`.
        sigma: standard deviation of the injected noise, in units of the activities; or an
            `Injection`. None, the intrinsic mode: all passes have the system's own noise alone.
        resamples: K.
        noise: distribution of the injected noise: a name in `SAMPLERS`, or a sampler.
        seed: of the injected noise, and of what the rule draws.
        error: gives the error at the output, to rules that start from it; None: `KnownError()`,
            the loss's own derivative. `MeasuredError()` uses loss differences alone.
        product_dtype: in which credit and inputs are multiplied, bfloat16 for example; the passes,
            whose differences are small, keep their dtype. None: as the passes.
        physical: paths of modules and names of operations ('softmax', 'norm') that are not digital.
        verify: check the system on the first batch; see `noisynets.core.verify`.
        others: trains what no credit reaches by passes of its own, as `SPSA(system, loss)` does.

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
        others: WeightSpace | None = None,
    ) -> None:
        check_system(system, resamples)
        self.system, self.loss = system, loss
        self.rule = rule_of(rule, seed) if isinstance(rule, str) else rule
        self.error = KnownError() if error is None else error
        self.resamples, self.product_dtype = resamples, product_dtype
        warn_slow_products(system, product_dtype)
        self.injection = Injection(sigma, noise, seed) if isinstance(sigma, float | int) else sigma
        check_needs(self.rule, self.rule.needs(system), self.injection, error)
        self._surveyed = Surveyed(system, self.rule, self.injection, physical, verify)
        self._rows, self._obstacles = Rows(), Obstacles(system, passes=verify)
        self.between = Between(seed, self._obstacles.notes, others)

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
        left = self.between.left
        return self.between.train_left_(inputs, targets, found.estimate) if left else found.estimate

    @torch.no_grad()
    def credit(self, inputs: Any, targets: Any, always: bool = True) -> Credited:
        """Make the passes and give credit, without touching `.grad`; the rule learns.

        Args:
            inputs: (B, ...), or a tree; see `Rows`. Leave it alone until credit is accumulated.
            targets: (B, ...), or a tree.
            always: noisy passes also in steps in which the rule needs none.
        """
        inputs, targets, batch = self._rows(inputs, targets)
        current = self._surveyed.survey()
        if self._surveyed.verified < min(batch, 2):
            current = self._surveyed.verify(self.loss, inputs, targets, batch)
        needs = self._surveyed.needs
        graph = self._surveyed.graph(inputs) if needs.graph else None
        pairs = always or self.rule.due or self.error.needs_pairs
        between, resamples = current.parameters, self.resamples if pairs else 0
        shifts = self.between.shifts(current, needs, resamples) if between and resamples else {}
        needed = needs if graph is None else replace(needs, graph=False)
        probe, outputs = passes(self._surveyed, inputs, batch, resamples, needed, shifts)
        rows = (1 + probe.passes) * batch
        loss = losses_at(self.loss, outputs, probe.repeat(targets), rows)
        loss = loss.reshape(1 + probe.passes, batch, -1).sum(2)
        dloss, error = (loss[1:] - loss[0]).to(self._surveyed.dtype), None
        if needs.error:
            error = _mean(self.error(self.loss, outputs, targets, dloss), batch)
        if pairs:
            self._surveyed.check_first(probe.calls, self._obstacles.notes)
        record = probe.record(outputs, dloss / batch, graph, error, self.error.exact)
        if graph is None and record.graph is not None:
            check_output(record, outputs)
            self._surveyed.keep_graph(record.graph, inputs)
        self._obstacles.steps += 1
        if self._obstacles.steps in LOOKS or self._obstacles.steps % EVERY == 0:
            reads = self.rule.reads_dloss or self.error.needs_pairs
            seen = Batch(inputs, batch, outputs, loss, probe.sigma, reads)
            self._obstacles.look(seen, self.rule, record)
        estimate = Estimate(loss[0], reference_rows(outputs, batch, 1 + probe.passes), loss.numel())
        assigned = self.between.assign(self.rule, record, between) if between else None
        assigned = assigned or Assigned(self.rule(record))
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


def passes(
    surveyed: Surveyed,
    inputs: Any,
    batch: int,
    resamples: int,
    needs: Needs,
    shifts: Mapping[str, Tensor] = MappingProxyType({}),
) -> tuple[Probe, Any]:
    """Make the passes of one step.

    Where the forward did another thing than its program, they are made once more, with the same
    injected noise, and traced.

    Args:
        surveyed: the system.
        inputs: of the batch.
        batch: B.
        resamples: K.
        needs: what is recorded.
        shifts: of parameters; see `Probe`.

    Returns:
        The closed probe, and the outputs in the rows of all passes.
    """
    injection = surveyed.injection
    traces = surveyed.traces(inputs) if needs.graph else None
    probe = Probe(
        surveyed.current,
        batch=batch,
        resamples=resamples,
        injection=injection,
        needs=needs,
        shifts=shifts,
        pairs=surveyed.pairs,
        traces=traces,
    )
    stream = injection.stream.state() if injection is not None and probe.rerun else None
    with probe:
        outputs = probe.call(inputs)
    if probe.rerun is None or probe.rerun.fits(outputs):
        return probe, outputs
    surveyed.traces(inputs).misfit()
    if injection is not None and stream is not None:
        injection.stream.restore(stream)
    return passes(surveyed, inputs, batch, resamples, needs, shifts)


def surveyed_of(estimator: NodePerturbation) -> Surveyed:
    """Return the system of an estimator as it was last seen, to measure what passes cost."""
    return estimator._surveyed


def pairs(estimator: NodePerturbation) -> bool:
    """Return True if all passes share batch statistics and random masks, as far as is known yet."""
    return estimator._surveyed.pairs


def shared(estimator: NodePerturbation) -> tuple[Where, ...]:
    """Return what all passes share, as the first batch showed."""
    return tuple(estimator._surveyed.shared)


def _mean(errors: Errors, batch: int) -> Errors:
    """Return the errors of the mean loss, of those of the losses."""
    return tuple([None if e is None else e / batch for e in errors])


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
