"""What a trained classifier makes of single examples: confusion, accuracy by class, mistakes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from noisynets.core.noise import Stream
from noisynets.run.data import load_data, load_test
from noisynets.run.evaluate import EVALUATION, evaluating, evaluation_batch
from noisynets.run.session import Session
from noisynets.run.settings import DTYPES, Config, seeds
from noisynets.tasks.data import ACCURACY, Examples, Task


@dataclass(frozen=True)
class Predictions:
    """Predicted classes and losses of some examples.

    Attributes:
        part: of the examples: 'validation', 'test' or 'training'.
        labels: true classes (n,), int64.
        predicted: (n,), int64.
        losses: (n,).
        names: of all classes.
    """

    part: str
    labels: Tensor
    predicted: Tensor
    losses: Tensor
    names: tuple[str, ...]

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.names)

    @property
    def accuracy(self) -> float:
        """Fraction of the examples whose predicted class is the true one."""
        return float((self.labels == self.predicted).double().mean())

    @property
    def confusion(self) -> Tensor:
        """Number of examples by true class (rows) and predicted class (columns).

        >>> found = Predictions("test", torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]),
        ...                     torch.zeros(3), ("cat", "dog"))
        >>> found.confusion.tolist(), found.by_class
        ([[1, 0], [1, 1]], [1.0, 0.5])
        """
        pairs = self.labels * self.classes + self.predicted
        return pairs.bincount(minlength=self.classes**2).view(self.classes, self.classes)

    @property
    def by_class(self) -> list[float | None]:
        """Accuracy on the examples of each class; None where there are none."""
        found = self.confusion
        counts = zip(found.diagonal().tolist(), found.sum(1).tolist(), strict=True)
        return [right / n if n else None for right, n in counts]

    def mistake(self, index: int) -> tuple[str, str]:
        """Return the names of an example's class and of the predicted one."""
        return self.names[int(self.labels[index])], self.names[int(self.predicted[index])]

    def worst(self, n: int) -> list[int]:
        """Return the positions of at most n mistakes, the highest loss first."""
        wrong = (self.labels != self.predicted).nonzero().flatten()
        order = self.losses[wrong].argsort(descending=True, stable=True)
        return wrong[order[:n]].tolist()


def classifies(task: Task) -> bool:
    """Return True if each example of a task has one class."""
    return task.measure is ACCURACY and task.world is None


def judged_part(config: Config) -> tuple[str, Examples]:
    """Load the examples on which a run is looked at, and name their part.

    These are the validation examples. A run without any (`--final-fit`) has the test set if its
    own evaluation has read that, else its training examples.
    """
    train_set, val_set = load_data(config)
    if val_set is not None:
        return "validation", val_set
    return ("test", load_test(config)) if config.test else ("training", train_set)


def predictions(session: Session, part: str, examples: Examples) -> Predictions:
    """Run a trained classifier on examples, in its own noise, as `eval` does.

    Args:
        session: of the run; its task must be one that `classifies`.
        part: name of the examples.
        examples: whose labels are (n,).
    """
    outputs, losses = [], []
    stream = Stream(seeds(session.config)["encoding"], EVALUATION)
    size, dtype = evaluation_batch(session.task), DTYPES[session.config.dtype]
    with torch.no_grad(), evaluating(session.system):
        for x, y in examples.batches(size, dtype):
            output = session.system(session.encode(x, stream))
            outputs.append(output.argmax(1).cpu())
            losses.append(session.task.measure.loss(output, y).double().cpu())
    labels = examples.y.cpu()
    names = session.task.class_names
    return Predictions(part, labels, torch.cat(outputs), torch.cat(losses), names)
