"""`fit`: trains a user's own model on a user's own data, by the loop of the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from noisynets.core.errors import InputError
from noisynets.core.types import Estimate, Estimator, Loss

if TYPE_CHECKING:
    from noisynets.run.session import Progress

Metric = Callable[[Any, Any], Tensor]
"""(outputs (B, ...), targets (B, ...)) → one value per example (B,)."""


class Callback(Protocol):
    """Is called during `fit`; a subclass overrides what it needs.

    What has `state_dict()` and `load_state_dict()` is kept in the checkpoint.
    """

    def on_step(self, model: nn.Module, progress: Progress, estimate: Estimate) -> None:
        """Act after an update of the weights."""

    def on_epoch(self, model: nn.Module, progress: Progress, row: Mapping[str, Any]) -> None:
        """Act after the evaluation of an epoch, before its checkpoint."""


@dataclass(frozen=True)
class Fitted:
    """What `fit` returns.

    Attributes:
        rows: one per epoch, as in metrics.csv.
        best_epoch: with the lowest validation loss; None without validation.
        notes: what the estimator has warned of.
    """

    rows: list[dict[str, Any]]
    best_epoch: int | None
    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """Keyword arguments of `fit`.

    Attributes:
        sigma: of what the named rule injects; 'tuned': the rule's; None: nothing is injected.
        optimiser: a name, or one of `torch.optim` with the model's parameters.
        lr: of the named optimiser; None: the rule's.
        scheduler: of the optimiser; moves on after every epoch.
        epochs: in all, with those before a resume.
        batch_size: of tensors and a Dataset.
        validation: as `data`; its loss decides about patience and the best epoch.
        metrics: by name.
        callbacks: called after steps and epochs.
        patience: epochs without a lower validation loss, after which training ends.
        keep: weights that the model has in the end.
        limit: multiple of the first loss that counts as divergence.
        out: folder for metrics.csv and a checkpoint; None: nothing is written.
        resume: continue from the checkpoint in `out`, if there is one.
        seed: of the order of tensors or a Dataset, and of what the named rule draws.
        progress_bar: show one on standard error.
    """

    sigma: float | Literal["tuned"] | None = "tuned"
    optimiser: str | Optimizer = "adam"
    lr: float | None = None
    scheduler: LRScheduler | None = None
    epochs: int = 10
    batch_size: int = 100
    validation: Any = None
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    callbacks: Sequence[Callback] = ()
    patience: int | None = None
    keep: Literal["last", "best"] = "last"
    limit: float = 10.0
    out: str | Path | None = None
    resume: bool = False
    seed: int = 0
    progress_bar: bool = True

    def __post_init__(self) -> None:
        if (self.patience is not None or self.keep == "best") and self.validation is None:
            raise InputError("patience and keep='best' need validation data: give validation=")
        if self.keep not in ("last", "best"):
            raise InputError(f"keep {self.keep!r} must be 'last' or 'best'")
        if self.epochs < 1 or (self.patience is not None and self.patience < 1):
            raise InputError("epochs and patience must be at least 1")
        if self.resume and self.out is None:
            raise InputError("resume needs the folder of the checkpoint: give out=")
        if self.lr is not None and not isinstance(self.optimiser, str):
            raise InputError("lr is that of the optimiser that you give: leave it out")


def fit(
    model: nn.Module, data: Any, loss: Loss, *, rule: str | Estimator = "mirrored", **settings: Any
) -> Fitted:
    """Train a model, in the mode (training or evaluation) in which it is.

    Args:
        model: any module that the rule can train.
        data: (inputs, targets), trees of tensors (n, ...); a Dataset; or a DataLoader.
        loss: (outputs, targets) → one value per row.
        rule: a name of `noisynets list`, or an estimator of this model and loss.
        **settings: see `FitSettings`.

    Raises:
        InputError: for what cannot be used.
        KeyboardInterrupt: at a signal, after the present step and a checkpoint.
        Diverged: if the loss or a weight is not finite, or the loss too high; the last good
            checkpoint stays.

    >>> import torch
    >>> x, net = torch.randn(20, 4), nn.Sequential(nn.Linear(4, 3))
    >>> cross_entropy = nn.CrossEntropyLoss(reduction="none")
    >>> found = fit(net, (x, x.argmax(1) % 3), cross_entropy, epochs=2, progress_bar=False)
    >>> [row["epoch"] for row in found.rows]
    [1, 2]
    """
    from noisynets.run.fitting import fitted  # not before it is used: it imports all systems

    return fitted(model, data, loss, rule, FitSettings(**settings))
