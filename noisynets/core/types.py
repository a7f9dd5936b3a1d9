"""The types that all other modules share.

Symbols and shapes, used in code and documentation alike:

======== ====================================================== ===============
symbol   meaning                                                shape
======== ====================================================== ===============
B, K     samples in the batch; noisy passes per reference pass
P        all noisy passes: K, or K per node where nodes are
         perturbed one at a time
T        time steps of a trial
x        input of a layer in the reference pass                 (B, *in)
a        activity of a node: W x + b, with any noise of the
         system's own                                           (B, *out)
xi       noise injected at a node                               (K, B, *out)
delta    a(noisy pass) − a(reference pass), as measured         (K, B, *out)
dloss    loss(noisy pass) − loss(reference pass), per sample    (P, B)
credit   estimate of ∂loss/∂a at a node                         (B, *out)
======== ====================================================== ===============
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

Loss = Callable[[Any, Any], Tensor]
"""(outputs (R, ...), targets (R, ...)) → one loss per row (R,), as with `reduction="none"`, or per
position (R, T, ...). Outputs and targets may be trees: nested tuples, lists, mappings and
dataclasses of tensors."""


class Sampler(Protocol):
    """Draws white noise with mean 0 and variance 1."""

    def __call__(self, shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
        """Return a tensor of `shape`, with the dtype and on the device of `like`."""


class Wrapper(nn.Module):
    """A module around one layer, which together form one node.

    The output of the wrapper is the activity of the node; the layer inside holds the weights.
    Wrappers can be nested.

    Attributes:
        layer: a layer, or another wrapper.
        deterministic: True if the wrapper adds no noise.
        linear: True if the layer multiplies with its weights as they are: moving them by D moves
            its output by D x.
    """

    layer: nn.Module
    deterministic: bool = False

    @property
    def linear(self) -> bool:
        """False: a device may do anything to the weights."""
        return False

    @property
    def commanded(self) -> Tensor | None:
        """Weights as training has commanded them; None: those of the innermost layer are that."""
        return self.layer.commanded if isinstance(self.layer, Wrapper) else None

    @property
    def core(self) -> tuple[str, nn.Module]:
        """The prefix of the innermost layer's parameters within `layer`, and that layer."""
        prefix, module = "", self.layer
        while isinstance(module, Wrapper):
            prefix, module = f"{prefix}layer.", module.layer
        return prefix, module


class Physical(nn.Module):
    """A module that is declared physical: see `physical`.

    Attributes:
        module: that was declared.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the module."""
        return self.module(*args, **kwargs)


def physical(module: nn.Module) -> Physical:
    """Declare that a module is computed by hardware whose derivatives are unknown.

    Feedback then passes credit through it by measured gains and learned maps alone, and never by
    the derivatives of its operations at the values that were measured.

    >>> physical(nn.Softmax(1))(torch.zeros(1, 2))
    tensor([[0.5000, 0.5000]])
    """
    return Physical(module)


class Weights(NamedTuple):
    """The weights with which a layer multiplies its inputs.

    Attributes:
        mean: (*weight), in units of the weights.
        variance: of noise drawn for every weight in every product, (*weight); None: no noise.
    """

    mean: Tensor
    variance: Tensor | None = None


class Effect(nn.Module):
    """An effect of a device on a layer; both belong to one node.

    `Noisy(layer, effect)` applies it to a layer; an effect on activities alone may also follow its
    layer in an `nn.Sequential`. A subclass overrides one or more of three methods, applied in this
    order: x → `inputs` → product with `weights` → `forward` → a.
    """

    def inputs(self, x: Tensor) -> Tensor:
        """Transform the inputs of the product: (B, *in) → (B, *in)."""
        return x

    def weights(self, weights: Weights) -> Weights:
        """Transform the weights of the product."""
        return weights

    def forward(self, a: Tensor) -> Tensor:
        """Transform the activities: (B, *out) → (B, *out)."""
        return a

    @property
    def acts_within(self) -> bool:
        """True if the effect acts on inputs or weights, and therefore must wrap its layer."""
        return type(self).inputs is not Effect.inputs or self.acts_on_weights

    @property
    def acts_on_weights(self) -> bool:
        """True if the effect acts on weights."""
        return type(self).weights is not Effect.weights


class Sealed(nn.Module):
    """A system that is computed elsewhere and returns measurements; it takes no injected noise."""


@dataclass(frozen=True, slots=True)
class EpisodeLog:
    """Rewards of episodes.

    Attributes:
        rewards: of every step, (R, T); 0 after the end of an episode.
        alive: True if the episode was still running when the network acted, (R, T).
    """

    rewards: Tensor
    alive: Tensor

    def to_go(self, discount: float = 1.0) -> Tensor:
        """Σ_{s ≥ t} γ^(s−t) r_s: the return from every step on, (R, T).

        Args:
            discount: γ, weight of a reward one step later.

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
    """A layer with weights, and the modules between which its activity is computed.

    Attributes:
        name: path of the outlet in the system, as in `named_modules()`.
        layer: the layer that owns the weights; its input is x.
        inlet: receives the raw input: the layer itself, or the wrapper around it.
        outlet: returns the activity a: the inlet, or the last effect that follows it.
        product: the layer inside all wrappers, which multiplies x with its weights.
    """

    name: str
    layer: nn.Module
    inlet: nn.Module
    outlet: nn.Module
    product: nn.Module


@dataclass(frozen=True, slots=True)
class Estimate:
    """Losses and outputs that an estimator computed; nothing is copied to the host.

    Attributes:
        loss: per sample, in the reference pass, (B,).
        output: of the system in the reference pass, (B, ...), or a tree as the system returns it.
            A tensor whose first dimension is not the batch is returned whole.
        sample_forwards: number of forward passes times samples.
    """

    loss: Tensor
    output: Any
    sample_forwards: int


class Estimator(Protocol):
    """Adds an estimate of the gradient of the mean loss to `.grad`."""

    def __call__(self, inputs: Any, targets: Any) -> Estimate:
        """Estimate from one batch: inputs (B, ...), targets (B, ...), or trees."""

    def state(self) -> dict[str, Tensor]:
        """Return the state needed to continue with the same bits."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
