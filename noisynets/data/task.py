"""What a task is: examples to learn from, examples kept back, and their shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from noisynets.errors import InputError


@dataclass(frozen=True)
class Examples:
    """Inputs and class labels, kept whole on one device.

    Attributes:
        x: (n, *input_shape); bytes stand for fractions of 255.
        y: labels, (n,), int64.
    """

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def to(self, device: torch.device) -> Examples:
        """Copy to a device."""
        return Examples(self.x.to(device), self.y.to(device))

    def first(self, n: int) -> Examples:
        """Return the first n examples."""
        return Examples(self.x[:n], self.y[:n])

    def batch(self, index: Tensor | slice, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return inputs (B, *input_shape) in `dtype` and labels (B,)."""
        x = self.x[index]
        return (x.to(dtype).div_(255) if x.dtype == torch.uint8 else x.to(dtype)), self.y[index]

    def batches(self, size: int, dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all examples in their order."""
        for start in range(0, len(self), size):
            yield self.batch(slice(start, start + size), dtype)

    def check(self, name: str, classes: int) -> None:
        """Refuse examples that cannot be learnt from.

        Raises:
            InputError: for no examples, labels out of range, or inputs that are not finite.

        >>> Examples(torch.zeros(2, 3), torch.tensor([0, 5])).check("mine", classes=3)
        Traceback (most recent call last):
        ...
        noisynets.errors.InputError: mine: label 5 of example 1 is not within 0..2
        """
        if len(self.x) != len(self.y) or not len(self.y):
            raise InputError(f"{name}: {len(self.x)} inputs and {len(self.y)} labels do not pair")
        wrong = ((self.y < 0) | (self.y >= classes)).nonzero()
        if len(wrong):
            i = int(wrong[0])
            raise InputError(
                f"{name}: label {int(self.y[i])} of example {i} is not within 0..{classes - 1}"
            )
        if self.x.is_floating_point() and not bool(self.x.isfinite().all()):
            i = int((~self.x.flatten(1).isfinite().all(1)).nonzero()[0])
            raise InputError(f"{name}: input {i} holds NaN or infinity: clean the data first")


@dataclass(frozen=True)
class Task:
    """A classification task.

    Attributes:
        name: as on the command line.
        summary: one line.
        input_shape: of one example.
        classes: number of labels.
        load: (part, folder) → examples; part is 'train' or 'test', folder where to look
            instead of the usual place.
        validation: how many of the last training examples everything is chosen on.
    """

    name: str
    summary: str
    input_shape: tuple[int, ...]
    classes: int
    load: Callable[[str, Path | None], Examples]
    validation: int

    def training(
        self, folder: Path | None = None, final_fit: bool = False
    ) -> tuple[Examples, Examples | None]:
        """Return what to train on and what to choose on; `final_fit` keeps nothing back."""
        whole = self._checked("train", folder)
        if final_fit:
            return whole, None
        n = len(whole) - self.validation
        return whole.first(n), Examples(whole.x[n:], whole.y[n:])

    def test(self, folder: Path | None = None) -> Examples:
        """Return the test examples: to be read once, at the end."""
        return self._checked("test", folder)

    def _checked(self, part: str, folder: Path | None) -> Examples:
        examples = self.load(part, folder)
        examples.check(f"{self.name} {part}", self.classes)
        return examples
