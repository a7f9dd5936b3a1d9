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

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

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


class Sealed(nn.Module):
    """Reports what it measured, and computes it elsewhere: nothing can be injected into it."""


@dataclass(frozen=True, slots=True)
class EpisodeLog:
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

        >>> log = EpisodeLog(torch.tensor([[1.0, 2.0, 4.0]]), torch.ones(1, 3, dtype=torch.bool))
        >>> log.to_go(), log.to_go(0.5)
        (tensor([[7., 6., 4.]]), tensor([[3., 4., 4.]]))
        """
        if discount == 1:
            return self.rewards.flip(1).cumsum(1).flip(1)
        found = [torch.zeros_like(self.rewards[:, 0])]
        for reward in self.rewards.unbind(1)[::-1]:
            found.append(reward + discount * found[-1])
        return torch.stack(found[:0:-1], 1)


@dataclass(frozen=True)
class Node:
    """A layer with weights, and the modules between which its activity arises.

    Attributes:
        name: path of the outlet in the system, as in `named_modules()`.
        layer: owns the weights; what enters it is x.
        inlet: what enters it is the raw input: the layer itself, or the wrapper around it.
        outlet: what leaves it is the activity a: the inlet, or the last effect that follows it.
        product: the layer inside all wrappers, which multiplies x with its weights.
    """

    name: str
    layer: nn.Module
    inlet: nn.Module
    outlet: nn.Module
    product: nn.Module


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
