"""The `Task` type: training, validation and test examples, and the measure of a system."""

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
    """Inputs and targets, all on one device.

    Attributes:
        x: inputs (n, *input_shape), or (n, T, *input_shape) for sequences. uint8 values are
            divided by 255 in a batch; int8 values are counts; int64 values are symbols of a text
            or episode seeds.
        y: labels (n,), int64; target values (n, outputs); or the next symbols of a text (n, T).
        scale: mean and standard deviation by which inputs are standardised; None: they are not.
        text: symbols (L,), if the examples are the windows of a text; see `windows`.
    """

    x: Tensor
    y: Tensor
    scale: tuple[Tensor, Tensor] | None = None
    text: Tensor | None = None

    def __len__(self) -> int:
        return len(self.y)

    def to(self, device: torch.device) -> Examples:
        """Return a copy on a device."""
        scale = None if self.scale is None else (self.scale[0].to(device), self.scale[1].to(device))
        text = None if self.text is None else self.text.to(device)
        return Examples(self.x.to(device), self.y.to(device), scale, text)

    def shifted(self, offset: int) -> Examples:
        """Return the windows of the same text that begin later, by less than their length."""
        if self.text is None:
            raise InputError("these examples are no windows of a text")
        return windows(self.text, self.x.shape[1], offset)

    def split(self, last: int) -> tuple[Examples, Examples]:
        """Return all but the last examples, and these; a text is split by its symbols."""
        if self.text is None:
            n = len(self) - last
            return self.first(n), Examples(self.x[n:], self.y[n:])
        n, length = len(self.text) - last, self.x.shape[1]
        return windows(self.text[:n], length), windows(self.text[n:], length)

    def first(self, n: int) -> Examples:
        """Return the first n examples."""
        return Examples(self.x[:n], self.y[:n], self.scale)

    def drawn(self, n: int) -> Examples:
        """Return n of the examples, or all if there are fewer, at random; always the same.

        Of a text, the first n windows, which can be shifted as those of the whole.

        >>> few = Examples(torch.arange(9.0).view(9, 1), torch.arange(9)).drawn(2)
        >>> bool((few.x[:, 0] == few.y).all()), len(few)
        (True, 2)
        """
        if self.text is not None:
            length = self.x.shape[1]
            return windows(self.text[: (n + 1) * length], length)
        index = torch.randperm(len(self), generator=torch.Generator().manual_seed(0))[:n]
        return Examples(self.x[index], self.y[index], self.scale)

    def standardised(self, by: Examples) -> Examples:
        """Return examples whose batches are standardised by mean and variance of other examples.

        Images (n, C, H, W) are standardised for each channel, other inputs by one mean and one
        variance over all components.

        Args:
            by: examples over which mean and variance are taken: the training examples.

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
        """Return a batch.

        Args:
            index: positions of the examples, (B,), or a slice.
            dtype: floating-point type of the inputs and of target values.

        Returns:
            Inputs (B, ...), and labels (B,) or target values (B, outputs).
        """
        x, y = self.x[index], self.y[index]
        if x.dtype != torch.int64:  # neither symbols nor seeds are converted
            x = x.to(dtype).div_(255) if x.dtype == torch.uint8 else x.to(dtype)
        if self.scale is not None:
            x = (x - self.scale[0].to(dtype)) / self.scale[1].to(dtype)
        return x, y.to(dtype) if y.is_floating_point() else y

    def batches(self, size: int, dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all examples in order, in batches of at most `size`."""
        for start in range(0, len(self), size):
            yield self.batch(slice(start, start + size), dtype)

    def check(self, name: str, classes: int) -> None:
        """Check that a system can be trained or tested on the examples.

        Args:
            name: name of the examples in error messages.
            classes: number of classes, or of target values.

        Raises:
            InputError: if there are no examples, a label is out of range, or a number is not
                finite.

        >>> Examples(torch.zeros(2, 3), torch.tensor([0, 5])).check("mine", classes=3)
        Traceback (most recent call last):
        ...
        noisynets.core.errors.InputError: mine: label 5 of example 1 is not within 0..2
        """
        if len(self.x) != len(self.y) or not len(self.y):
            raise InputError(
                f"{name}: {len(self.x)} inputs and {len(self.y)} targets: equal numbers of at "
                "least one are needed"
            )
        values = self.y.is_floating_point()
        if values and not bool(self.y.isfinite().all()):
            i = int((~self.y.flatten(1).isfinite().all(1)).nonzero()[0])
            raise InputError(f"{name}: target {i} contains NaN or infinity: clean the data first")
        wrong = [] if values else ((self.y < 0) | (self.y >= classes)).nonzero().flatten().tolist()
        if wrong:
            i = wrong[0]
            raise InputError(
                f"{name}: label {int(self.y[i])} of example {i} is not within 0..{classes - 1}"
            )
        if self.x.is_floating_point() and not bool(self.x.isfinite().all()):
            i = int((~self.x.flatten(1).isfinite().all(1)).nonzero()[0])
            raise InputError(f"{name}: input {i} contains NaN or infinity: clean the data first")


def windows(text: Tensor, length: int, offset: int = 0) -> Examples:
    """Return a text in windows, one behind the other, each with the symbols that follow its own.

    Args:
        text: symbols (L,), int64; more than `length`.
        length: T, symbols of a window.
        offset: at which the first begins, less than T. The number of windows does not depend on
            it: it leaves out between T − 1 and 3T − 2 symbols.

    Returns:
        Symbols (n, T) and their successors (n, T), views of the text.

    >>> found = windows(torch.arange(10), length=3, offset=1)
    >>> found.x.tolist(), found.y.tolist()
    ([[1, 2, 3], [4, 5, 6]], [[2, 3, 4], [5, 6, 7]])
    """
    n = max(1, (len(text) - length) // length)
    x, y = (text[i : i + n * length].view(n, length) for i in (offset, offset + 1))
    return Examples(x, y, text=text)


Inputs = tuple[Tensor, list[str]]
"""Inputs (n, ...), and what they are called: file names, or rows."""


@dataclass(frozen=True)
class OwnFiles:
    """What is known of a user's own files, beside the examples.

    Attributes:
        labels: names of the classes, by their number; (): the targets are numbers.
        fingerprint: checksum of all examples.
        understood: lines that say how the files were understood.
        inputs: (path) → inputs of further files, prepared as those of the task.
        others: (path, part) → examples of other files with the same classes; part is 'train',
            'validation' or 'test', and all examples are returned of files without parts.
        target: mean and standard deviation by which targets are standardised, each (outputs,);
            None: they are labels.
        scale: mean and standard deviation by which inputs are standardised, each of the shape of an
            input; None: they are not.
    """

    labels: tuple[str, ...]
    fingerprint: str
    understood: tuple[str, ...]
    inputs: Callable[[Path], Inputs]
    others: Callable[[Path, str], Examples]
    target: tuple[Tensor, Tensor] | None = None
    scale: tuple[Tensor, Tensor] | None = None


Predictor = Callable[[Tensor], Tensor]
"""A trained system as a function: inputs (B, *input_shape) → outputs (B, outputs)."""


@dataclass(frozen=True)
class Closing:
    """An evaluation at the end of training that needs more than single examples.

    Attributes:
        name: name of the score in summary.json, after `val_` and `test_`.
        judge: (system, part) → score; part is 'val' or 'test'.
    """

    name: str
    judge: Callable[[Predictor, str], float]


@dataclass(frozen=True)
class Task:
    """A task: examples, their splits, and the measure by which a system is trained and scored.

    Attributes:
        name: name on the command line.
        summary: one-line description.
        input_shape: shape of one input; for sequences, of one step.
        classes: number of classes, or of target values.
        load: (part, folder) → examples; part is 'train' or 'test'; folder replaces the default
            location of the files, None keeps it.
        validation: number of the last 'train' examples that form the validation set; of a text,
            of its last symbols.
        measure: loss and score.
        steps: T of sequences; 0: inputs have no time axis.
        reference: published results, with their source.
        closing: a further evaluation at the end of training; None: none.
        files: files to download before the examples can be loaded; None: none.
        world: network → system that runs the network as a policy in an environment; the examples'
            inputs are then episode seeds. None: the examples are the network's inputs.
        pictures: trained system → names and contents of files about it, such as images; None:
            none.
        vocabulary: characters of a text, by the number of their symbol; '': it is no text.
        with_context: (T) → the same text in windows of T symbols; None: it is no text.
        own: of tasks that are made of a user's own files; None: it is another one.
        labels: names of the classes; (): they have numbers.
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
    vocabulary: str = ""
    with_context: Callable[[int], Task] | None = None
    own: OwnFiles | None = None
    labels: tuple[str, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes: those of the task, or of its files, or their numbers."""
        labels = self.labels if self.own is None else self.own.labels
        return labels or tuple(map(str, range(self.classes)))

    def training(
        self, folder: Path | None = None, final_fit: bool = False
    ) -> tuple[Examples, Examples | None]:
        """Return the training examples and the validation examples.

        Args:
            folder: folder of the data files; None: their default location.
            final_fit: train on all examples; there is then no validation set.

        Raises:
            InputError: if files or examples cannot be used.
        """
        whole = self._checked("train", folder)
        if final_fit:
            return whole, None
        return whole.split(self.validation)

    def test(self, folder: Path | None = None) -> Examples:
        """Return the test examples, which are meant to be used once, at the end.

        Args:
            folder: folder of the data files; None: their default location.

        Raises:
            InputError: if files or examples cannot be used.
        """
        return self._checked("test", folder)

    def _checked(self, part: str, folder: Path | None) -> Examples:
        examples = self.load(part, folder)
        examples.check(f"{self.name} {part}", self.classes)
        return examples
