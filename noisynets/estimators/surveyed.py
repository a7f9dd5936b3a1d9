"""What an estimator knows of a system, found again whenever the system has changed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from noisynets.core.check import (
    check,
    check_called,
    check_dtype,
    check_noisy,
    check_open,
    warn_fixed_statistics,
    warn_quiet,
    warn_unfrozen,
)
from noisynets.core.decorrelation import decorrelations
from noisynets.core.errors import InputError
from noisynets.core.graph import Graph, Plan, operation_names, plan_of
from noisynets.core.nodes import Survey, is_chain, survey
from noisynets.core.noise import Injection, check_sigma
from noisynets.core.notes import Notes
from noisynets.core.paired import Where, needs_pairing
from noisynets.core.record import Needs, NodeRecord
from noisynets.core.trial import Stepped
from noisynets.core.types import Loss
from noisynets.core.verify import RowsMissing, rowless, verify
from noisynets.rules import Rule


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
        pairs: passes share batch statistics and random numbers; see `Paired`.
        shared: what they were seen to share, when the system was verified.
        last_graph: that was traced, of the system as it is; None before.
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
        self._checked = False
        self._rowless: tuple[nn.Module, ...] = ()

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
            self.needs = self.rule.needs(self.system)
            nodes = check(self.system, self._rowless, devices=self.needs.graph)
            self.dtype = next(nodes[0].layer.parameters()).dtype
            if self.injection is not None:
                check_open(self.system)
                check_sigma(self.injection.sigma, self.dtype)
            self._survey = survey(self.system, nodes, self.physical)
            self.decorrelates = bool(decorrelations(self.system))
            self._seen, self._graph, self.last_graph, self._checked = now, None, None, False
            embeds = any(isinstance(node.layer, nn.Embedding) for node in nodes)
            self.verified = 0 if self.verifies or embeds else 2
            self.pairs = needs_pairing(self.system, strangers=not self.verifies)
            self.shared: dict[Where, None] = {}
        return self._survey

    def on(self, loss: Loss, inputs: Any, targets: Any, batch: int) -> Survey:
        """Return the survey, of a system that has been verified on a batch of B rows."""
        self.survey()
        if self.verified < min(batch, 2):
            self.verify(loss, inputs, targets, batch)
        return self._survey

    def verify(self, loss: Loss, inputs: Any, targets: Any, batch: int) -> None:
        """Verify the system on a batch of B rows; see `noisynets.core.verify`.

        Layers whose outputs have no rows, as an embedding of positions, are no nodes: their
        parameters count among those between the nodes.
        """
        injects = self.injection is not None
        if not self.verifies:
            self._without_rows(inputs, batch)
        else:
            given = (loss, inputs, targets, batch, injects)
            try:
                self.shared = verify(self.system, self._survey.nodes, *given)
            except RowsMissing:
                if not self._without_rows(inputs, batch):
                    raise
                self.shared = verify(self.system, self._survey.nodes, *given)
        self.pairs = self.pairs or bool(self.shared)
        self.verified = min(batch, 2)

    def _without_rows(self, inputs: Any, batch: int) -> bool:
        """Leave out the layers whose outputs have no rows; return True if there are any."""
        found = rowless(self.system, self._survey.nodes, inputs, batch)
        self._rowless = (*self._rowless, *(node.layer for node in found))
        self._seen = None if found else self._seen
        self.survey()
        return bool(found)

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

    def graph(self, inputs: Any) -> Graph | None:
        """Return the graph of inputs if it is known; None: the pass must be traced."""
        known = isinstance(inputs, Tensor) and inputs.shape[1:] == self._graph_shape
        return self._graph if known else None

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
        return plan_of(self.last_graph, learned, self._survey.parameters, reached)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the graph, which is traced again: adjoints cannot be pickled."""
        return {**vars(self), "_graph": None, "last_graph": None}

    def keep_graph(self, graph: Graph, inputs: Any) -> None:
        """Keep a traced graph, if every pass of the system has the same.

        Raises:
            InputError: if nothing was what `physical` names.
        """
        missing = set(self._survey.physical.operations) - graph.physical
        if self.last_graph is None and missing:
            raise InputError(
                f"physical {', '.join(map(repr, sorted(missing)))}: no module and no operation "
                f"between the nodes; there are {', '.join(operation_names(graph))}"
            )
        self.last_graph = graph
        network = self.system.network if isinstance(self.system, Stepped) else self.system
        single = isinstance(inputs, Tensor) and len(graph.outputs) == 1
        same = single and is_chain(network) and graph.recorded and not self.pairs
        self._graph = graph if same else None  # masks and statistics are those of one batch
        self._graph_shape = inputs.shape[1:] if single else None
