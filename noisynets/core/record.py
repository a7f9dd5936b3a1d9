"""What the passes of one batch measured: everything that a rule may use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from noisynets.core.graph import Adjoint, Graph
from noisynets.core.types import Node


@dataclass(frozen=True)
class Needs:
    """What a rule asks of the passes, and of their record.

    Attributes:
        injection: it works only with noise that the estimator injects.
        noise: the record holds the injected noise.
        states: the record holds activities, and the differences of inputs.
        per_node: each noisy pass perturbs one node alone, so that P = K · nodes.
        averages: the record holds one entry per node, the mean over its calls.
        steps: of means, the record also holds every step.
        trajectories: the probe keeps every call of every pass instead of a record, for passes
            that receive different inputs.
        graph: the record holds the graph.
        error: the record holds the error at the output.
        exact_error: the error must be the loss's derivative, not an estimate from δL.
    """

    injection: bool = False
    noise: bool = False
    states: bool = False
    per_node: bool = False
    averages: bool = False
    steps: bool = False
    trajectories: bool = False
    graph: bool = False
    error: bool = False
    exact_error: bool = False


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """What was measured at one node in one call, or on average over a trial.

    Attributes:
        node: where it was measured.
        x: input of the layer in the reference pass, (B, *in).
        raw: the same before any decorrelation, (B, *in).
        delta: measured differences of the activity, (K, B, *out).
        own: the noisy passes, among P, in which noise enters at this node: `delta` and `xi` hold
            these, and `dloss[own]` belongs to them.
        xi: injected noise, (K, B, *out), if the rule needs it.
        sigma: its standard deviation, in units of a; None where nothing is injected.
        a: the activity in the reference pass, (B, *out), if the rule needs it.
        shift: differences of the raw input, (K, B, *in), if the rule needs them; None also where
            the passes are still equal.
        steps: x in every step of a trial, (B, T, *in), where the rest is a mean over the steps
            and the rule needs them.
        draws: independent draws of noise in each mean; the variance of the noise that enters at
            the node is smaller by this factor.
        sampled: of a mean over a trial: the records of some of its steps, evenly spread, where the
            mean of what the layer computes is not what it computes of the mean input.
    """

    node: Node
    x: Tensor
    raw: Tensor
    delta: Tensor
    own: slice
    xi: Tensor | None = None
    sigma: float | None = None
    a: Tensor | None = None
    shift: Tensor | None = None
    steps: Tensor | None = None
    draws: int = 1
    sampled: tuple[NodeRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class PopulationRecord:
    """What was measured at one population in one trial, as means over the steps.

    Attributes:
        name: path of the population in the system.
        current: its input in the reference pass, (B, *out).
        shift: differences of its input, (K, B, *out).
        spikes: its output in the reference pass, (B, *out); of a read-out, at the last step.
        change: differences of its output, (K, B, *out).
        steps: current and spikes in every step of the reference pass, (2, B, T, *out), if the
            rule needs them.
        pairs: the same in all passes, of some samples, (2, 1 + K, R, T, *out).
    """

    name: str
    current: Tensor
    shift: Tensor
    spikes: Tensor
    change: Tensor
    steps: Tensor | None = None
    pairs: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Trajectory:
    """What was measured at one node in every call and pass, where all passes differ.

    Attributes:
        node: where it was measured.
        x: input of the layer, (1 + P, B, T, *in).
        raw: the same before any decorrelation, in the reference pass, (B, T, *in).
        a: activity, (1 + P, B, T, *out).
        own: the noisy passes, among P, in which noise enters at this node.
        xi: injected noise, (K, B, T, *out); None where nothing is injected.
        sigma: its standard deviation, in units of a.
    """

    node: Node
    x: Tensor
    raw: Tensor
    a: Tensor
    own: slice
    xi: Tensor | None = None
    sigma: float | None = None


@dataclass(frozen=True)
class Record:
    """What the passes of one batch measured.

    Attributes:
        calls: one entry per node and call, in the order of the calls; or one per node, in the
            order of the first calls.
        dloss: loss(noisy) − loss(reference), per sample, divided by the batch size, (P, B).
        populations: of a record of means, by path.
        graph: what lies between the calls, if the rule needs it.
        values: values between the calls, (rows, ...), by key, as far as credit needs them.
        applied: digital operations between the calls with their values, by key.
        shifts: of the parameters between the nodes that the passes read, by path: by how much they
            differ in each noisy pass, (P, *parameter).
        error: ∂(mean loss)/∂output in the reference pass, (B, ...), of every tensor of the outputs,
             if the rule needs it; None for a tensor that the loss does not use.
        exact: the error is the loss's derivative. If not, it was estimated from this very δL.
    """

    calls: Sequence[NodeRecord]
    dloss: Tensor
    populations: Mapping[str, PopulationRecord] = field(default_factory=dict)
    graph: Graph | None = None
    values: Mapping[int, Tensor] = field(default_factory=dict)
    applied: Mapping[int, Adjoint] = field(default_factory=dict)
    shifts: Mapping[str, Tensor] = field(default_factory=dict)
    error: tuple[Tensor | None, ...] | None = None
    exact: bool = True

    @property
    def flat_error(self) -> Tensor:
        """The errors at all tensors of the outputs, (B, numbers)."""
        assert self.error is not None, "feedback needs the error"
        parts = [e.flatten(1) for e in self.error if e is not None]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)
