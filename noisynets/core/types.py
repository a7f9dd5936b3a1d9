"""The vocabulary that every other file speaks.

Symbols, with their shapes; the same names stand in the code and in the docs:

======== ====================================================== ===============
symbol   meaning                                                shape
======== ====================================================== ===============
B, K     samples in the batch; noisy passes per reference pass
P        noisy passes in all: K, or K per node where nodes are
         perturbed in turn
T        time steps of a trial
x        a layer's input in the reference pass                  (B, *in)
a        a node's activity: W x + b, with whatever noise the
         system adds                                            (B, *out)
xi       noise that we inject at a node                         (K, B, *out)
delta    a(noisy) − a(reference), as measured                   (K, B, *out)
dloss    loss(noisy) − loss(reference), per sample              (P, B)
credit   the estimate of ∂loss/∂a that a rule gives each node   (B, *out)
======== ====================================================== ===============
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]
"""(outputs (R, ...), targets (R, ...)) → one loss per row (R,): `reduction="none"`."""


class Sampler(Protocol):
    """Draws white noise of zero mean and unit variance."""

    def __call__(self, shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
        """Return a tensor of `shape`, with the dtype and on the device of `like`."""


class Wrapper(nn.Module):
    """A module around one layer that is part of the layer's node.

    What comes out of the wrapper is the node's activity; the layer inside holds the
    weights. Wrappers nest.

    Attributes:
        layer: what is wrapped: a layer, or another wrapper.
        deterministic: adds no noise to what the layer does.
    """

    layer: nn.Module
    deterministic: bool = False

    @property
    def core(self) -> tuple[str, nn.Module]:
        """The layer inside all wrappers, and the prefix of its parameters within `layer`."""
        prefix, module = "", self.layer
        while isinstance(module, Wrapper):
            prefix, module = f"{prefix}layer.", module.layer
        return prefix, module


class Weights(NamedTuple):
    """The weights with which a layer multiplies.

    Attributes:
        mean: (*weight), in units of the weights.
        variance: of the noise that each weight has by itself in every single product, (*weight);
            None where there is none.
    """

    mean: Tensor
    variance: Tensor | None = None


class Effect(nn.Module):
    """What a device does to a layer; it belongs to the layer's node.

    `Noisy(layer, effect)` wraps a layer with it; an effect on the activities alone may also
    follow its layer in an `nn.Sequential`. It may act in three places, and leaves alone those
    that it does not override: x → `inputs` → product with `weights` → `forward` → a.
    """

    def inputs(self, x: Tensor) -> Tensor:
        """What enters the product: (B, *in) → (B, *in)."""
        return x

    def weights(self, weights: Weights) -> Weights:
        """What the inputs are multiplied with."""
        return weights

    def forward(self, a: Tensor) -> Tensor:
        """What comes out: (B, *out) → (B, *out)."""
        return a

    @property
    def acts_within(self) -> bool:
        """Whether it acts on inputs or weights, so that it must wrap its layer."""
        return type(self).inputs is not Effect.inputs or self.acts_on_weights

    @property
    def acts_on_weights(self) -> bool:
        """Whether it acts on weights."""
        return type(self).weights is not Effect.weights


class Stateful(nn.Module):
    """Keeps something from step to step of a trial, and nothing from trial to trial.

    What it keeps is neither copied nor saved with it.

    Attributes:
        fresh: names of the attributes that it keeps, and what they are at the start of a trial.
    """

    fresh: Mapping[str, Any] = MappingProxyType({})

    def __init__(self) -> None:
        super().__init__()
        self.forget()

    def forget(self) -> None:
        """Drop the state: the next call begins a trial."""
        for name, value in self.fresh.items():
            setattr(self, name, value)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), **self.fresh}


class Population(Stateful):
    """Nodes that act each for itself through the steps of a trial: neurons, or a read-out.

    What goes in and what comes out can be measured, and `signals` names it; what is inside cannot,
    but for the membrane potential of a population that says so.

    Attributes:
        signals: what an experimenter can measure.
        final: what comes out counts at the last step alone; else at every step.
    """

    signals: tuple[str, ...] = ("current", "spikes")
    final: bool = False

    @property
    def membrane(self) -> Tensor | None:
        """Potential after the last step, (B, *out), where it is among the signals."""
        return None


class Stepped(nn.Module):
    """Runs a network step by step through a trial."""

    network: nn.Module


class Sealed(nn.Module):
    """Reports what it measured, and computes it elsewhere: nothing can be injected into it."""


@dataclass(frozen=True, slots=True)
class Course:
    """What became of episodes.

    Attributes:
        rewards: in every step, 0 once an episode is over, (R, T).
        alive: whether an episode was still running when the network acted, (R, T).
    """

    rewards: Tensor
    alive: Tensor

    def to_go(self, discount: float = 1.0) -> Tensor:
        """Σ_{s ≥ t} γ^(s−t) r_s, what was still to come from every step on, (R, T).

        Args:
            discount: γ, weight of a reward that is one step later.

        >>> course = Course(torch.tensor([[1.0, 2.0, 4.0]]), torch.ones(1, 3, dtype=torch.bool))
        >>> course.to_go(), course.to_go(0.5)
        (tensor([[7., 6., 4.]]), tensor([[3., 4., 4.]]))
        """
        if discount == 1:
            return self.rewards.flip(1).cumsum(1).flip(1)
        found = [torch.zeros_like(self.rewards[:, 0])]
        for reward in self.rewards.unbind(1)[::-1]:
            found.append(reward + discount * found[-1])
        return torch.stack(found[:0:-1], 1)


class RollOut(Stateful):
    """Lets a network act: in each step its inputs depend on what it did in those before.

    So the passes of a pair part for good, each with inputs of its own. A row of the system's
    input names an episode, and its output is the return, (R, 1).

    Attributes:
        network: called once for every step, (R, *in) → (R, *out).
        course: of the episodes run last, until it is forgotten.
        steps: of all episodes in training so far, added up; a buffer of one whole number.
    """

    network: nn.Module
    steps: Tensor
    fresh = MappingProxyType({"course": None})
    course: Course | None


@dataclass(frozen=True)
class Node:
    """A layer with weights, and the modules between which its activity arises.

    Attributes:
        name: path of the outlet in the system, as in `named_modules()`.
        layer: owns the weights; what enters it is x.
        inlet: what enters it is the raw input: the layer itself, or the wrapper around it.
        outlet: what leaves it is the activity a: the inlet, or the last effect that follows it.
    """

    name: str
    layer: nn.Module
    inlet: nn.Module
    outlet: nn.Module


@dataclass(frozen=True, slots=True)
class Report:
    """What one node measured in one call, or on average over a trial: all that a rule may know.

    Attributes:
        node: where it was measured.
        x: input of the layer in the reference pass, (B, *in).
        raw: the same before any decorrelation, (B, *in).
        delta: measured differences of the activity, (K, B, *out).
        own: the noisy passes, among P, whose noise entered at this node: `delta` and `xi`
            hold these, and `dloss[own]` is theirs.
        xi: injected noise, (K, B, *out), where the rule reads it.
        sigma: its standard deviation, in units of a; None where nothing is injected.
        a: the activity in the reference pass, (B, *out), where the rule asks for it.
        shift: differences of the raw input, (K, B, *in), where the rule asks for them; None
            also where the passes have not parted yet.
        steps: x in every step of a trial, (B, T, *in), where the rest is a mean over them and
            the rule asks for it.
        draws: independent draws of noise in each mean: the variance of what entered at the node
            is smaller by this factor.
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


@dataclass(frozen=True, slots=True)
class Track:
    """What one node met and did in every call, in all passes, where these went their own ways.

    Attributes:
        node: where it was measured.
        x: input of the layer, (1 + P, B, T, *in).
        raw: the same before any decorrelation, in the reference pass, (B, T, *in).
        a: activity, (1 + P, B, T, *out).
        own: the noisy passes, among P, whose noise entered at this node.
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


@dataclass(frozen=True, slots=True)
class Response:
    """What a population measured in one trial, as means over the steps.

    Attributes:
        name: path of the population in the system.
        current: what went in, in the reference pass, (B, *out).
        shift: its differences, (K, B, *out).
        spikes: what came out, in the reference pass, (B, *out); of a read-out, at the last step.
        change: its differences, (K, B, *out).
        membrane: potential after the last step, (B, *out); None where it cannot be measured.
        steps: current and spikes in every step of the reference pass, (2, B, T, *out), where the
            rule asks for them.
        pairs: the same in all passes, of some samples, (2, 1 + K, R, T, *out).
    """

    name: str
    current: Tensor
    shift: Tensor
    spikes: Tensor
    change: Tensor
    membrane: Tensor | None = None
    steps: Tensor | None = None
    pairs: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an estimator saw while it wrote `.grad`; nothing here was read back to the host.

    Attributes:
        loss: per sample, in the reference pass, (B,).
        output: of the system in the reference pass, (B, ...); a list or dict of such where the
            system returns several tensors. One that has not the batch first is left whole.
        sample_forwards: forward passes made, times samples.
    """

    loss: Tensor
    output: Tensor
    sample_forwards: int


class Estimator(Protocol):
    """Accumulates an estimate of the gradient of the mean loss in `.grad`."""

    def __call__(self, inputs: Tensor, targets: Tensor) -> Estimate:
        """Estimate from one batch: inputs (B, ...), targets (B, ...)."""

    def state(self) -> dict[str, Tensor]:
        """Return what must be kept to continue with the same bits."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
