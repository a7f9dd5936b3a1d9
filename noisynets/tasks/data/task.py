"""What a task is: examples to learn from, examples kept back, and how a system is judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from noisynets.core.errors import InputError
from noisynets.tasks.data.measure import ACCURACY, Measure
from noisynets.tasks.data.store import Files


@dataclass(frozen=True)
class Examples:
    """Inputs and targets, kept whole on one device.

    Attributes:
        x: (n, *input_shape), or (n, T, *input_shape) for events in time; unsigned bytes stand for
            fractions of 255, signed ones for counts, long integers for the seeds of episodes.
        y: labels (n,), int64; or values (n, outputs).
        scale: what is taken from inputs and what they are divided by, then; None: nothing is.
    """

    x: Tensor
    y: Tensor
    scale: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.y)

    def to(self, device: torch.device) -> Examples:
        """Copy to a device."""
        scale = None if self.scale is None else (self.scale[0].to(device), self.scale[1].to(device))
        return Examples(self.x.to(device), self.y.to(device), scale)

    def first(self, n: int) -> Examples:
        """Return the first n examples."""
        return Examples(self.x[:n], self.y[:n], self.scale)

    def standardised(self, by: Examples) -> Examples:
        """Return inputs that will have zero mean and unit variance over `by`, per channel.

        The channels are the first dimension of a picture; other inputs are taken as a whole.

        >>> train = Examples(torch.tensor([[1.0], [3.0]]), torch.tensor([0, 1]))
        >>> train.standardised(train).batch(slice(2), torch.float32)[0].tolist()
        [[-1.0], [1.0]]
        """
        kept = [1] if by.x.dim() == 4 else []
        rest = [d for d in range(by.x.dim()) if d not in kept]
        shape = [by.x.shape[d] if d in kept else 1 for d in range(by.x.dim())]
        sums = torch.zeros(2, *shape, dtype=torch.float64)
        for part, _ in by.batches(1000, torch.float64):
            sums += torch.stack(
                [part.sum(rest, keepdim=True), part.square().sum(rest, keepdim=True)]
            )
        mean, square = sums / (by.x.numel() / sums[0].numel())
        return Examples(self.x, self.y, (mean, (square - mean.square()).clamp_min(1e-24).sqrt()))

    def batch(self, index: Tensor | slice, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return inputs (B, ...) and values in `dtype`, or labels (B,)."""
        x, y = self.x[index], self.y[index]
        if x.dtype != torch.int64:  # seeds stay as they are
            x = x.to(dtype).div_(255) if x.dtype == torch.uint8 else x.to(dtype)
        if self.scale is not None:
            x = (x - self.scale[0].to(dtype)) / self.scale[1].to(dtype)
        return x, y.to(dtype) if y.is_floating_point() else y

    def batches(self, size: int, dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all examples in their order."""
        for start in range(0, len(self), size):
            yield self.batch(slice(start, start + size), dtype)

    def check(self, name: str, classes: int) -> None:
        """Refuse examples that cannot be learnt from.

        Args:
            name: of the examples.
            classes: number of labels, or of values.

        Raises:
            InputError: for no examples, labels out of range, or numbers that are not finite.

        >>> Examples(torch.zeros(2, 3), torch.tensor([0, 5])).check("mine", classes=3)
        Traceback (most recent call last):
        ...
        noisynets.core.errors.InputError: mine: label 5 of example 1 is not within 0..2
        """
        if len(self.x) != len(self.y) or not len(self.y):
            raise InputError(f"{name}: {len(self.x)} inputs and {len(self.y)} labels do not pair")
        values = self.y.is_floating_point()
        if values and not bool(self.y.isfinite().all()):
            i = int((~self.y.flatten(1).isfinite().all(1)).nonzero()[0])
            raise InputError(f"{name}: target {i} holds NaN or infinity: clean the data first")
        wrong = [] if values else ((self.y < 0) | (self.y >= classes)).nonzero().flatten().tolist()
        if wrong:
            i = wrong[0]
            raise InputError(
                f"{name}: label {int(self.y[i])} of example {i} is not within 0..{classes - 1}"
            )
        if self.x.is_floating_point() and not bool(self.x.isfinite().all()):
            i = int((~self.x.flatten(1).isfinite().all(1)).nonzero()[0])
            raise InputError(f"{name}: input {i} holds NaN or infinity: clean the data first")


Predictor = Callable[[Tensor], Tensor]
"""Inputs (B, *input_shape) → outputs (B, outputs), by a trained system."""


@dataclass(frozen=True)
class Closing:
    """A judgement made once, with a trained system as a function.

    Attributes:
        name: as in summary.json, behind `val_` and `test_`.
        judge: (system, part) → the score; part is 'val' or 'test'.
    """

    name: str
    judge: Callable[[Predictor, str], float]


@dataclass(frozen=True)
class Task:
    """Examples of inputs and labels, or of inputs and values.

    Attributes:
        name: as on the command line.
        summary: one line.
        input_shape: of one example; of one step, for events in time.
        classes: number of labels, or of values.
        load: (part, folder) → examples; part is 'train' or 'test', folder where to look
            instead of the usual place.
        validation: how many of the last training examples everything is chosen on.
        measure: how a system is judged.
        steps: T of events in time; 0: the input has no time of its own.
        reference: what others reached, and where it stands.
        closing: a last judgement that takes more than examples; None: the measure alone.
        files: what has to be fetched before it can be loaded; None: nothing.
        world: network → the system that lets it act in an environment, whose inputs are the seeds
            of episodes; None: the examples are the network's own inputs.
        pictures: (system) → names and contents of files that show what a trained system does;
            None: there are none.
    """

    name: str
    summary: str
    input_shape: tuple[int, ...]
    classes: int
    load: Callable[[str, Path | None], Examples]
    validation: int
    measure: Measure = ACCURACY
    steps: int = 0
    reference: str = ""
    closing: Closing | None = None
    files: Files | None = None
    world: Callable[[nn.Module], nn.Module] | None = None
    pictures: Callable[[nn.Module], dict[str, bytes]] | None = None

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
