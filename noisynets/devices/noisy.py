"""Noisy(layer, effect): a layer whose activity is measured behind an effect of its own."""

from __future__ import annotations

from torch import Tensor, nn

from noisynets.types import Wrapper


class Noisy(Wrapper):
    """effect(layer(x)): one node, whose activity is what comes out of the effect.

    Args:
        layer: a layer, or another wrapper.
        effect: any module from activities to activities of the same shape, without weights.

    >>> import torch
    >>> net = nn.Sequential(Noisy(nn.Linear(3, 2), nn.Hardtanh()), nn.ReLU())
    >>> net(torch.ones(4, 3)).shape
    torch.Size([4, 2])
    """

    def __init__(self, layer: nn.Module, effect: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.effect = effect

    def forward(self, x: Tensor) -> Tensor:
        """(B, *in) → (B, *out)."""
        output: Tensor = self.effect(self.layer(x))
        return output
