"""What stands in place of a node's own linear map when credit is sent through it."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Map(Protocol):
    """A map in place of a node's own, for sending credit from its output to its input.

    Attributes:
        learns: it learns from differences; if not, it is fixed.
    """

    learns: bool

    def update_(self, x: Tensor, shift: Tensor, made: Tensor) -> None:
        """Learn from differences.

        Args:
            x: raw input of the reference pass, (B, *in).
            shift: differences of the raw input, (K, B, *in).
            made: those of the activity, less the injected noise, (K, B, *out).
        """

    def __call__(self, credit: Tensor, x: Tensor) -> Tensor:
        """Return the credit of the raw input x (B, *in), from that of the activity (B, *out)."""

    def predict(self, x: Tensor, shift: Tensor) -> Tensor:
        """Return differences of the activity that follow from those of the raw input.

        Args:
            x: raw input of the reference pass, (B, *in).
            shift: differences of its first rows, (K, b, *in).

        Returns:
            (K, b, *out).
        """

    @property
    def map(self) -> Tensor | None:
        """What was learnt, as one tensor; None before the first update."""

    @property
    def lag(self) -> Tensor | None:
        """By how much the map was wrong before its last update; None: not known.

        It is the share of the squared differences of the activity that this update was found to
        explain, by the rows of the next one. Noise of its own adds nothing to its mean.
        """

    def state(self) -> dict[str, Tensor]:
        """Return what must be saved to continue with the same bits."""

    def restore(self, state: dict[str, Tensor], device: torch.device) -> None:
        """Continue from a `state`."""
