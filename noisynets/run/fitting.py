"""What `fit` does: a user's own model and data as the loop of the command line sees them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from noisynets.core.batch import called
from noisynets.core.decorrelation import decorrelations
from noisynets.core.errors import InputError
from noisynets.core.losses import losses
from noisynets.core.reading import reason
from noisynets.core.types import Estimate, Estimator, Loss
from noisynets.estimators.methods import METHODS
from noisynets.estimators.named import no_rule
from noisynets.estimators.settings import PerturbationSettings
from noisynets.run.checkpoint import load_state, save_state
from noisynets.run.evaluate import evaluating
from noisynets.run.fit import FitSettings, Fitted, Metric
from noisynets.run.folder import RunFolder, write_table
from noisynets.run.lock import locked
from noisynets.run.loop import Tally, check_divergence, finite, run_epochs
from noisynets.run.restored import check_progress
from noisynets.run.session import Progress
from noisynets.run.settings import OPTIMISERS, Rates
from noisynets.run.signals import Deferral, shielded
from noisynets.run.sources import Source, pair, source


class _Fit:
    """A user's model in training, as the loop sees it."""

    def __init__(
        self,
        model: nn.Module,
        estimator: Estimator,
        optimiser: Optimizer,
        loss: Loss,
        data: Any,
        settings: FitSettings,
        rule: str,
    ) -> None:
        self.rule = rule
        self.model, self.estimator, self.optimiser, self.loss = model, estimator, optimiser, loss
        self.choices, self.epochs, self.metrics = settings, settings.epochs, settings.metrics
        self.scheduler, self.callbacks = settings.scheduler, settings.callbacks
        self.train, given = source(data, settings.batch_size, settings.seed), settings.validation
        self.held_out = None if given is None else source(given, settings.batch_size, None)
        self.out = None if settings.out is None else RunFolder(Path(settings.out))
        self.steps, metrics, held_out = self.train.steps, self.metrics, self.held_out
        self.progress, self.tally = Progress(), Tally(1 + len(metrics))
        self.best: dict[str, Any] = {}
        self.device = next(model.parameters()).device
        parts = ("train", "val") if held_out is not None else ("train",)
        judged = [f"{part}_{name}" for part in parts for name in ("loss", *metrics)]
        self.columns = ("epoch", *judged, "sample_forwards", "seconds")

    @property
    def finished(self) -> bool:
        """True if no epoch is left to make, or validation has not improved for too long."""
        epoch, patience = self.progress.epoch, self.choices.patience
        waited = epoch - self.best["epoch"] if self.best else 0
        return epoch >= self.epochs or (patience is not None and waited >= patience)

    def batches(self) -> Iterator[tuple[Any, Any]]:
        """Return the batches of the present epoch, from the present step on."""
        found = self.train.epoch(self.progress.epoch, self.progress.step)
        return (pair(batch, self.device) for batch in found)

    def step_(self, x: Any, y: Any, done: float) -> Estimate:
        """One update of the weights."""
        self.optimiser.zero_grad()
        estimate = self.estimator(x, y)
        self.optimiser.step()
        _count(self.tally, self.metrics, estimate.loss, estimate.output, y)
        for callback in self.callbacks:
            callback.on_step(self.model, self.progress, estimate)
        return estimate

    def end_epoch_(self) -> None:
        """Evaluate, append a row, and save."""
        progress, means = self.progress, self.tally.means()
        if self.held_out is not None:
            means += _evaluate(self.model, self.loss, self.metrics, self.held_out, self.device)
        watched = means[1 + len(self.metrics)] if self.held_out is not None else means[0]
        self.check(watched)
        progress.epoch, progress.step = progress.epoch + 1, 0
        counts = (progress.sample_forwards, round(progress.seconds, 3))
        row = dict(zip(self.columns, (progress.epoch, *means, *counts), strict=True))
        progress.rows.append(row)
        if self.held_out is not None and watched < self.best.get("loss", math.inf):
            self.best = {"epoch": progress.epoch, "loss": watched}
            if self.choices.keep == "best":
                weights = {n: v.clone() for n, v in self.model.state_dict().items()}
                self.best["weights"] = weights
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(watched)
        elif self.scheduler is not None:
            self.scheduler.step()
        self.tally = Tally(1 + len(self.metrics))
        for callback in self.callbacks:
            callback.on_epoch(self.model, progress, row)
        self.save()

    def check(self, loss: float) -> None:
        """Raise `Diverged` for such a loss."""
        limit = self.choices.limit if self.progress.first_loss > 0 else math.inf
        lr = f"lower lr (now {self.optimiser.param_groups[0]['lr']:g})"
        decor = "lower the rate of decorrelation"
        check_divergence(self.model, self.progress, loss, limit, lr, decor)

    def speed(self, examples: int, seconds: float) -> str:
        """Say nothing."""
        return ""

    def save(self) -> None:
        """Write the checkpoint and metrics.csv, if there is a folder for them."""
        if not finite(self.model):
            self.check(math.nan)
        if self.out is not None:
            with shielded():
                save_state(self.out.checkpoint, self._state())
                write_table(self.out.path / "metrics.csv", self.columns, self.progress.rows)

    def restore_(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint.

        Raises:
            InputError: if it belongs to another model, other data or settings.
        """
        try:
            _check_same(state["settings"], self._settings())
            check_progress(state["progress"], self.columns)
            for part, kept in zip(self._parts(), state["parts"], strict=True):
                part.load_state_dict(kept)
            self.estimator.restore(state["estimator"])
            self.tally.sums, self.tally.count = state["sums"].to(self.device), state["count"]
            self.progress, self.best = Progress(**state["progress"]), state["best"]
            self.train.restore(state["data"])
        except Exception as error:  # modules and estimators raise errors of many kinds
            raise InputError(f"the checkpoint does not fit: {reason(error)}") from error

    def notes(self) -> list[str]:
        """Return what the estimator has warned of, also before it was resumed."""
        for note in getattr(self.estimator, "notes", ()):
            self.progress.notes.setdefault(note.kind, note.message)
        return list(self.progress.notes.values())

    def _settings(self) -> dict[str, Any]:
        names = [type(part).__name__ for part in (self.estimator, *self._parts())]
        return {
            "rule": self.rule,
            "sigma": getattr(getattr(self.estimator, "injection", None), "sigma", None),
            "batch_size": self.train.batch_size,
            "seed": self.choices.seed,
            "steps": self.steps,
            "parts": names,
        }

    def _parts(self) -> list[Any]:
        """Return what keeps its state as PyTorch does."""
        kept = [c for c in self.callbacks if hasattr(c, "load_state_dict")]
        scheduler = [] if self.scheduler is None else [self.scheduler]
        return [self.model, self.optimiser, *scheduler, *kept]

    def _state(self) -> dict[str, Any]:
        self.notes()
        return {
            "parts": [part.state_dict() for part in self._parts()],
            "estimator": self.estimator.state(),
            "data": self.train.state(),
            "sums": self.tally.sums,
            "count": self.tally.count,
            "progress": asdict(self.progress),
            "best": self.best,
            "settings": self._settings(),
        }


def _check_same(kept: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise ValueError with the settings that differ from those of a checkpoint."""
    differ = [n for n in now if kept.get(n) != now[n]]
    if differ:
        said = (f"{n} is {kept.get(n)} in the checkpoint and {now[n]} here" for n in differ)
        raise ValueError("; ".join(said))


def _rule_name(estimator: Estimator) -> str:
    """Return the kinds of an estimator and of its rule, if it has one."""
    rule = getattr(estimator, "rule", None)
    kind = type(estimator).__name__
    return kind if rule is None else f"{kind} with {type(rule).__name__}"


def _count(tally: Tally, metrics: Mapping[str, Metric], loss: Tensor, output: Any, y: Any) -> None:
    rows = [metric(output, y).reshape(len(loss), -1) for metric in metrics.values()]
    tally.add([loss, *(values.double().mean(1) for values in rows)])


def _evaluate(
    model: nn.Module,
    loss: Loss,
    metrics: Mapping[str, Metric],
    examples: Source,
    device: torch.device,
) -> list[float]:
    """Return the mean loss and metrics, in evaluation mode."""
    tally = Tally(1 + len(metrics))
    with torch.no_grad(), evaluating(model):
        for batch in examples.epoch(0, 0):
            x, y = pair(batch, device)
            output = called(model, x)
            _count(tally, metrics, losses(loss, output, y), output, y)
    return tally.means()


def _run(job: _Fit) -> Fitted:
    with Deferral() as signals:
        run_epochs(job, signals, job.choices.progress_bar)
    if "weights" in job.best:
        job.model.load_state_dict(job.best["weights"])
    return Fitted(job.progress.rows, job.best.get("epoch"), job.notes())


def _named(model: nn.Module, loss: Loss, rule: str, s: FitSettings) -> Estimator:
    method = METHODS[rule]
    if method.plain is not None and not decorrelations(model):
        raise no_rule(rule)
    sigma = method.sigma if s.sigma == "tuned" else s.sigma
    return method.make(model, loss, PerturbationSettings(sigma=sigma, injection_seed=s.seed))


def _optimiser(model: nn.Module, given: str | Optimizer, lr: float, beta2: float) -> Optimizer:
    if not isinstance(given, str):
        return given
    trained = [p for p in model.parameters() if p.requires_grad]
    return OPTIMISERS[given].make(trained, Rates(lr=lr, beta2=beta2))


def fitted(
    model: nn.Module, data: Any, loss: Loss, rule: str | Estimator, s: FitSettings
) -> Fitted:
    """Train a model; for the arguments and errors see `fit`."""
    if isinstance(rule, str):
        lr, beta2 = METHODS[rule].lr if s.lr is None else s.lr, METHODS[rule].adam_beta2
        estimator, name = _named(model, loss, rule, s), rule
    else:
        if isinstance(s.optimiser, str) and s.lr is None:
            raise InputError("an estimator has no learning rate of its own: give lr=")
        lr, beta2, estimator, name = s.lr or 0.0, 0.999, rule, _rule_name(rule)
    job = _Fit(model, estimator, _optimiser(model, s.optimiser, lr, beta2), loss, data, s, name)
    if job.out is None:
        return _run(job)
    job.out.path.mkdir(parents=True, exist_ok=True)
    with locked(job.out.path):
        if not job.out.checkpoint.is_file():
            job.save()
        elif s.resume:
            job.restore_(load_state(job.out.checkpoint))
        else:
            raise InputError(f"out {s.out}: holds a run: choose another, or resume=True")
        return _run(job)
