"""A session: the objects of one run, and their state as one tree that can be saved."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from noisynets.core.decorrelation import Decorrelated, decorrelate, decorrelations
from noisynets.core.errors import InputError
from noisynets.core.noise import Stream
from noisynets.core.reading import reason
from noisynets.core.types import Estimate, Estimator
from noisynets.core.values import differing, written
from noisynets.estimators.methods import METHODS
from noisynets.run.memory import check_memory
from noisynets.run.restored import (
    check_files,
    check_optimiser,
    check_progress,
    check_vocabulary,
)
from noisynets.run.schedule import extension, share_of_rate
from noisynets.run.settings import DTYPES, OPTIMISERS, SCHEDULES, Config, Rates, seeds, task_of
from noisynets.run.summary import columns
from noisynets.systems.catalogue import SYSTEMS
from noisynets.systems.pulses import UPDATES, UpdateRates
from noisynets.systems.spiking import ENCODERS
from noisynets.tasks.data import AUGMENTATIONS, Measure, Task


@dataclass
class Meter:
    """Sums over the examples seen, kept on the device until they are read.

    >>> from noisynets.tasks.data import ACCURACY
    >>> meter = Meter.zero(torch.device("cpu"), ACCURACY)
    >>> meter.add(torch.tensor([1.0, 3.0]), torch.tensor([[2.0, 1.0], [2.0, 1.0]]),
    ...           torch.tensor([0, 1]))
    >>> meter.read()
    (2.0, 0.5)
    """

    sums: Tensor
    count: int
    measure: Measure

    @classmethod
    def zero(cls, device: torch.device, measure: Measure) -> Meter:
        """Return an empty meter."""
        return cls(torch.zeros(2, dtype=torch.float64, device=device), 0, measure)

    def add(self, loss: Tensor, output: Tensor, y: Tensor) -> None:
        """Count in losses (B,), outputs (B, ...) and targets (B, ...)."""
        self.sums[0] += loss.sum()
        self.sums[1] += self.measure.score(output, y).sum()
        self.count += len(y)

    def read(self) -> tuple[float, float]:
        """Mean loss and score; synchronises the device."""
        loss, score = self.sums.tolist()
        return loss / max(self.count, 1), score / max(self.count, 1)


@dataclass
class Progress:
    """Progress of a run.

    Attributes:
        epoch: finished epochs.
        step: finished steps of the present epoch.
        first_loss: mean loss of the first batch, by which divergence is judged.
        sample_forwards: so far.
        seconds: so far.
        rows: of metrics.csv.
        notes: what the estimator has warned of, by kind.
    """

    epoch: int = 0
    step: int = 0
    first_loss: float = math.nan
    sample_forwards: int = 0
    seconds: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)


@dataclass
class Session:
    """The objects of one run."""

    config: Config
    task: Task
    system: nn.Module
    estimator: Estimator
    optimiser: torch.optim.Optimizer
    decorrelations: list[Decorrelated]
    meter: Meter
    progress: Progress
    encoding: Stream | None
    augmentation: Stream | None
    kept: dict[str, Any] = field(default_factory=dict)
    log: Callable[[int, Mapping[str, float]], None] = lambda step, values: None

    def encode(self, x: Tensor, stream: Stream | None) -> Tensor:
        """Encode inputs (B, ...) for the system; random spikes are drawn from `stream`."""
        c = self.config
        if c.encoder is None or stream is None:
            return x
        return ENCODERS[c.encoder](x, _given(c.steps), stream.on(x.device))

    def step_(self, x: Tensor, y: Tensor, done: float) -> Estimate:
        """One update of the weights from one batch, after a fraction `done` of the run."""
        c = self.config
        self.keep_()
        for group in self.optimiser.param_groups:
            group["lr"] = _given(c.lr) * share_of_rate(c, done)
        for module in self.decorrelations:
            module.rate = _given(c.decor_lr) * SCHEDULES[c.decor_schedule or c.schedule](done)
        self.optimiser.zero_grad()
        if self.augmentation is not None:
            x = AUGMENTATIONS[c.augment](x, self.augmentation.on(x.device))
        estimate = self.estimator(self.encode(x, self.encoding), y)
        self.optimiser.step()
        return estimate

    def notes(self) -> list[str]:
        """Return what the estimator has warned of in this run, also before it was resumed."""
        for note in getattr(self.estimator, "notes", ()):
            self.progress.notes.setdefault(note.kind, note.message)
        return list(self.progress.notes.values())

    def state(self) -> dict[str, Any]:
        """Everything that must be kept to continue with the same bits."""
        self.notes()
        return self._advanced() | {
            "optimiser": self.optimiser.state_dict(),
            "meter": {"sums": self.meter.sums, "count": self.meter.count},
            "progress": asdict(self.progress),
            "settings": written(self.config),
            "vocabulary": self.task.vocabulary,
            "files": "" if self.task.own is None else self.task.own.fingerprint,
        }

    def _advanced(self) -> dict[str, Any]:
        """Return the parts of the state that passes advance."""
        return {
            "system": self.system.state_dict(),
            "estimator": self.estimator.state(),
            "encoding": None if self.encoding is None else self.encoding.state(),
            "augmentation": None if self.augmentation is None else self.augmentation.state(),
        }

    def keep_(self) -> None:
        """Keep the state to which `resumable` returns, if the box of this system should fail.

        Passes advance it before anything is updated, so that a step or an evaluation that fails can
        be made again with the same bits. It holds until the next update.
        """
        if SYSTEMS[self.config.system].boxed:
            self.kept = self._advanced()
            buffers = {name for name, _ in self.system.named_buffers()}
            kept = self.kept["system"]
            self.kept["system"] = {n: v.clone() if n in buffers else v for n, v in kept.items()}

    def resumable(self) -> dict[str, Any]:
        """Return the state before the step or the evaluation in which a box has failed."""
        return self.state() | self.kept

    def restore_(self, state: dict[str, Any]) -> None:
        """Continue from a `state`.

        Raises:
            InputError: if it belongs to other settings.
        """
        check_vocabulary(state.get("vocabulary", ""), self.task.vocabulary)
        own = self.task.own
        check_files(state.get("files", ""), "" if own is None else own.fingerprint)
        try:
            check_progress(
                state["progress"], columns(self.task.measure.name, self.config.writes is not None)
            )
            check_optimiser(state["optimiser"], self.optimiser)
            self.system.load_state_dict(state["system"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.estimator.restore(state["estimator"])
            if self.encoding is not None:
                self.encoding.restore(state["encoding"])
            if self.augmentation is not None:
                self.augmentation.restore(state["augmentation"])
            sums = state["meter"]["sums"].to(self.meter.sums).reshape(2)
            self.meter = Meter(sums, int(state["meter"]["count"]), self.task.measure)
            self.progress = Progress(**state["progress"])
            recorded = state.get("settings", {}).get("epochs", self.config.epochs)
            self.progress.notes |= extension(self.config, recorded, self.progress.epoch)
        except Exception as error:  # modules and estimators raise errors of many kinds
            raise InputError(
                f"the checkpoint does not fit its config.json: {reason(error)}"
            ) from error


def check_settings(state: dict[str, Any], config: Config) -> None:
    """Check that a run may continue from a state with these settings.

    Args:
        state: as of `Session.state`; those of older versions do not record the settings.
        config: resolved settings.

    Raises:
        InputError: if settings have been changed that must not change during a run.
    """
    recorded, now = state.get("settings", {}), written(config)
    wrong = [f"{n} was {recorded[n]!r}, is {now[n]!r}" for n in differing(recorded, config)]
    done = state.get("progress", {}).get("epoch", 0)
    if isinstance(done, int) and config.epochs < done:
        wrong.append(f"epochs is {config.epochs}, of which {done} were made")
    if wrong:
        raise InputError(
            f"the checkpoint does not fit its config.json: {'; '.join(wrong)}: change it back, or "
            "start another run"
        )


def build(config: Config) -> Session:
    """Build the session of resolved settings.

    Raises:
        InputError: for settings that contradict each other.
    """
    check_memory(config)
    task, method, seed = task_of(config), METHODS[config.rule], seeds(config)
    device, dtype = torch.device(config.device), DTYPES[config.dtype]
    kind = SYSTEMS[config.system]
    timed = task.steps and not kind.spiking
    shape = (task.steps, *task.input_shape) if timed else task.input_shape
    system = kind.build(shape, task.classes, config)
    if task.world is not None:
        system = task.world(system)
    system = system.to(device=device, dtype=dtype)
    if config.decor_lr:
        system = decorrelate(
            system,
            rate=config.decor_lr,
            variant=config.decor_variant,
            demean=config.demean,
            rows=config.decor_rows,
        )
    return Session(
        config=config,
        task=task,
        system=system,
        estimator=method.make(system, task.measure.loss, config),
        optimiser=_optimiser(system, config),
        decorrelations=[module for _, module in decorrelations(system)],
        meter=Meter.zero(device, task.measure),
        progress=Progress(),
        encoding=Stream(seed["encoding"], "encoding in training") if config.encoder else None,
        augmentation=None
        if config.augment == "none"
        else Stream(seed["augmentation"], "augmentation"),
    )


def _optimiser(system: nn.Module, config: Config) -> torch.optim.Optimizer:
    lr = _given(config.lr)
    if config.writes is not None:
        assert config.update is not None, "the settings are not resolved"
        rates = UpdateRates(lr=lr, threshold=config.write_threshold)
        return UPDATES[config.update].make(system, rates)
    return OPTIMISERS[config.optimiser].make(
        system.parameters(),
        Rates(
            lr=lr,
            beta2=config.adam_beta2,
            momentum=config.momentum,
            weight_decay=config.weight_decay or 0.0,
        ),
    )


def steps_per_epoch(config: Config, examples: int) -> int:
    """Return the number of steps of an epoch, for a number of training examples.

    >>> steps_per_epoch(Config(batch_size=8), 20), steps_per_epoch(Config(steps_per_epoch=2), 900)
    (3, 2)
    """
    steps = math.ceil(examples / config.batch_size)
    return min(steps, config.steps_per_epoch or steps)


Number = TypeVar("Number", int, float)


def _given(value: Number | None) -> Number:
    """Return a setting that `resolve` has filled in."""
    assert value is not None, "the settings are not resolved"
    return value
