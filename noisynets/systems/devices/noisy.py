"""Noisy(layer, effects...): a layer on a simulated device, treated as one node."""

from __future__ import annotations

from collections.abc import Iterable
from functools import singledispatch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from noisynets.core.errors import SystemRefused
from noisynets.core.noise import Source
from noisynets.core.pages import Page
from noisynets.core.types import Effect, Weights, Wrapper


class Noisy(Wrapper):
    """One node: a layer with the effects of its device on inputs, weights and activities.

    The effects act in the given order, first on the inputs, then on the weights, then on the
    output: x → inputs → product → activities → a. Wrapping a `Noisy` layer again appends effects:
    Noisy(Noisy(layer, A), B) equals Noisy(layer, A, B).

    If an effect makes the weights noisy with variance V, drawn independently in every product,
    activity i of every row (for a convolution: of every patch) receives N(0, Σ_j V_ij x_j²).

    Args:
        layer: a layer, or another wrapper.
        effects: `Effect` modules, or any modules without weights that map activities to activities
            of the same shape.
        seed: of the weight noise; None: drawn from PyTorch's global generator.

    Raises:
        SystemRefused: if an effect acts on weights and the layer has none; in the first call, if
            weights are noisy and the layer is neither a Linear nor a convolution.

    >>> import torch
    >>> net = nn.Sequential(Noisy(nn.Linear(3, 2), nn.Hardtanh()), nn.ReLU())
    >>> net(torch.ones(4, 3)).shape
    torch.Size([4, 2])
    """

    def __init__(self, layer: nn.Module, *effects: nn.Module, seed: int | None = None) -> None:
        super().__init__()
        inner = layer if isinstance(layer, Noisy) else None
        self.layer: nn.Module = layer if inner is None else inner.layer
        first: Iterable[nn.Module] = () if inner is None else inner.effects
        self.effects: nn.ModuleList = nn.ModuleList([*first, *effects])
        self.source: Source | None = None
        if any(e.acts_on_weights for e in self._inner_effects):
            weight_of(self.core[1])
            kept = inner.source if inner is not None and seed is None else None
            self.source = kept or Source(seed, "weight noise")

    @property
    def _inner_effects(self) -> list[Effect]:
        """The effects that act on inputs or weights."""
        return [e for e in self.effects if isinstance(e, Effect) and e.acts_within]

    @property
    def linear(self) -> bool:
        """True if all effects act on activities."""
        return not self._inner_effects

    def forward(self, x: Tensor) -> Tensor:
        """Compute the layer with its effects: (B, *in) → (B, *out)."""
        within = self._inner_effects
        a = self._product(x, within) if within else self.layer(x)
        for effect in self.effects:
            a = effect(a)
        return a

    def _product(self, x: Tensor, effects: list[Effect]) -> Tensor:
        for effect in effects:
            x = effect.inputs(x)
        if self.source is None:
            return self.layer(x)
        prefix, core = self.core
        weights = Weights(weight_of(core))
        for effect in effects:
            weights = effect.weights(weights)
        a: Tensor = functional_call(self.layer, {f"{prefix}weight": weights.mean}, (x,))
        if weights.variance is None:
            return a
        if core is not self.layer:
            raise SystemRefused(
                f"weight noise cannot act through {type(self.layer).__name__}: put the effect next "
                "to the layer, Noisy(layer, effect), and wrap that",
                page=Page.DEVICES,
            )
        with torch.no_grad():
            noise = product_variance(core, weights.variance, x).sqrt_().mul_(self.source.normal(a))
        return a + noise


def weight_of(layer: nn.Module) -> Tensor:
    """Return the weight of a layer; under `functional_call`, the tensor that replaces it.

    Raises:
        SystemRefused: if the layer has no weight.
    """
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor):
        raise SystemRefused(
            f"{type(layer).__name__} has no weight for a device to act on", page=Page.DEVICES
        )
    return weight


@singledispatch
def product_variance(layer: nn.Module, variance: Tensor, x: Tensor) -> Tensor:
    """Σ_j V_ij x_j²: variance of the activities if weight W_ij has variance V_ij in every product.

    Args:
        layer: a Linear, Conv1d or Conv2d.
        variance: V, (*weight).
        x: input of the layer, (B, *in).

    Returns:
        Variance of the activities, (B, *out).

    Raises:
        SystemRefused: for any other layer.

    >>> import torch
    >>> product_variance(nn.Linear(2, 1), torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 1.0]]))
    tensor([[11.]])
    """
    kind = type(layer).__name__
    raise SystemRefused(
        f"weight noise is implemented for Linear and convolutions, not {kind}", page=Page.DEVICES
    )


@product_variance.register
def _linear(layer: nn.Linear, variance: Tensor, x: Tensor) -> Tensor:
    return F.linear(x.square(), variance)


@product_variance.register(nn.Conv1d)
@product_variance.register(nn.Conv2d)
def _conv(layer: nn.Conv1d | nn.Conv2d, variance: Tensor, x: Tensor) -> Tensor:
    return layer._conv_forward(x.square(), variance, None).clamp_min_(0)


class During(Wrapper):
    """Runs a wrapped layer with its device in one phase, and without it in the other.

    Args:
        phase: 'training' or 'evaluation', as set by `module.train()` and `module.eval()`.
        layer: a wrapped layer, such as Noisy(layer, effect).

    Raises:
        SystemRefused: for another phase, or a layer that is not wrapped.

    >>> import torch
    >>> layer = During("training", Noisy(nn.Linear(3, 2), nn.Hardsigmoid()))
    >>> bool((layer.eval()(torch.ones(1, 3)) == layer.core[1](torch.ones(1, 3))).all())
    True
    """

    def __init__(self, phase: str, layer: Wrapper) -> None:
        super().__init__()
        if phase not in ("training", "evaluation"):
            raise SystemRefused(
                f"phase {phase!r} is neither 'training' nor 'evaluation'", page=Page.DEVICES
            )
        if not isinstance(layer, Wrapper):
            raise SystemRefused(
                f"{type(layer).__name__}: wrap a layer: Noisy(layer, effect)", page=Page.DEVICES
            )
        self.layer = layer
        self.phase = phase

    @property
    def linear(self) -> bool:
        """True: what is inside is called as it is."""
        return True

    @property
    def bare(self) -> nn.Module:
        """The layer without its device; deterministic wrappers such as decorrelation stay."""
        module: nn.Module = self.layer
        while isinstance(module, Wrapper) and not module.deterministic:
            module = module.layer
        return module

    def forward(self, x: Tensor) -> Tensor:
        """Compute the layer, with its device in the given phase: (B, *in) → (B, *out)."""
        active = self.training == (self.phase == "training")
        output: Tensor = self.layer(x) if active else self.bare(x)
        return output
