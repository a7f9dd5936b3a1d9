"""The settings of a run: those of systems and estimators, and those of the run itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass

import numpy as np

from noisynets.core.decorrelation import VARIANTS
from noisynets.core.pages import Page
from noisynets.core.registry import Registry
from noisynets.core.settings import (
    DTYPES,
    ENVIRONMENT,
    HOW,
    SPIKING,
    WHAT,
    Settings,
    derived,
    setting,
)
from noisynets.estimators.methods import BEST, METHODS, tuned
from noisynets.estimators.settings import PerturbationSettings
from noisynets.run.settings.optimisers import OPTIMISERS
from noisynets.systems.catalogue import ARCHITECTURES, BOXES, FAMILIES, SYSTEMS
from noisynets.systems.pulses import UPDATES
from noisynets.systems.settings import NetworkSettings
from noisynets.systems.spiking import ENCODERS
from noisynets.tasks.data import AUGMENTATIONS, FROM_FILES, TASKS
from noisynets.tasks.data.text import CONTEXT
from noisynets.tasks.environments import ENVIRONMENTS

SCHEDULES: Registry[Callable[[float], float]] = Registry(
    "schedule",
    {
        "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
        "constant": lambda done: 1.0,
    },
)
"""A factor on a rate after a fraction `done` of the run."""

LOGS = ("csv", "tensorboard", "wandb", "mlflow")
"""Logs for other programs; `noisynets.run.loggers` writes them."""

UPDATE = "threshold"
"""How pulsed weights are written where nothing else is said."""


@dataclass(frozen=True)
class TaskSettings(Settings):
    """Task, system and rule by name, and what is done to the examples."""

    task: str = setting(
        "mnist",
        lambda: (
            f"Task to learn: {', '.join([*TASKS, *FROM_FILES])}; to act in an environment: "
            f"{', '.join(ENVIRONMENTS)}, or the id of any that Gymnasium has registered."
        ),
        metavar="TASK",
        group=WHAT,
        common=True,
        positional=True,
    )
    _: KW_ONLY
    system: str = setting(
        "noisy-mlp",
        lambda: (
            f"System to train: {', '.join(ARCHITECTURES)}, with a family before it: "
            f"{', '.join(f'{name}-' for name in FAMILIES if name)} as in sign-conv; lif, noisy-lif "
            f"and rlif alone are perceptrons. Black boxes: {', '.join(BOXES)}."
        ),
        group=WHAT,
        choices=SYSTEMS,
        page=Page.SYSTEMS,
        common=True,
    )
    rule: str = setting(
        "best",
        lambda: (
            f"Rule to train with: {', '.join(METHODS)}; a leading d (before np, inp, anp, bp) "
            f"decorrelates every layer's inputs. best is {BEST}."
        ),
        group=HOW,
        choices=METHODS,
        page=Page.WHICH_RULE,
        common=True,
    )
    train_examples: int = setting(
        0,
        "Train on so many of the training examples, drawn once for all seeds; of a text, on the "
        "first. 0: on all.",
        metavar="INT",
        group=WHAT,
        at_least=0,
        used_by=("examples",),
    )
    context: int = setting(
        CONTEXT,
        "Characters of a text that are read at once.",
        metavar="INT",
        group=WHAT,
        at_least=1,
        at_most=100_000,
        used_by=("texts",),
        since="0.5",
    )
    standardise: bool = setting(
        False,
        "Give inputs zero mean and unit variance over the training examples.",
        group=WHAT,
        used_by=("examples",),
    )
    augment: str = setting(
        "none",
        lambda: (
            "Augmentation of training pictures, the same in both passes: "
            f"{', '.join(AUGMENTATIONS)}."
        ),
        group=WHAT,
        kind="augmentation",
        choices=AUGMENTATIONS,
    )
    size: int = setting(
        0,
        "Cut the pictures of a folder to squares, and resize them to so many pixels a side. 0: "
        "leave them as they are; they must then have equal sizes.",
        metavar="INT",
        group=WHAT,
        at_least=0,
        at_most=4096,
        used_by=("folders of pictures",),
        since="0.5",
    )
    encoder: str | None = setting(
        None,
        lambda: (
            f"Encoding of a spiking system's inputs: {', '.join(ENCODERS)} (events in time, "
            "counted in bins). Unset: current; frames for events in time."
        ),
        group=SPIKING,
        choices=ENCODERS,
        used_by=("spiking systems", "examples"),
    )
    env: tuple[str, ...] = setting(
        (),
        "Settings of the environment, as sigma=0.2; values as in JSON, or texts.",
        metavar="NAME=VALUE",
        group=ENVIRONMENT,
        used_by=("environments",),
    )
    random_numbers: str = setting(
        "common",
        "Random numbers of the environment: common to the passes of a pair (same start, same "
        "draws), or independent.",
        group=ENVIRONMENT,
        kind="kind of random numbers",
        choices=("common", "independent"),
        used_by=("environments",),
    )
    final_fit: bool = setting(False, "Train on all examples; none are kept back for validation.")
    test: bool = setting(True, "Read the test set at the end; not while settings are chosen.")
    data_dir: str | None = setting(
        None,
        "Folder with the task's files; for events, sarcos and text, a file; for folder: and "
        "arrays:, where they have been moved to. Unset: the cache; for text, that of the package.",
        metavar="PATH",
        used_by=("examples",),
        changeable=True,
    )


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(Settings):
    """Settings of training."""

    epochs: int = setting(
        20,
        "Passes over the training examples; or, by --steps-per-epoch, over a part of them.",
        metavar="INT",
        group=HOW,
        at_least=1,
        common=True,
        changeable=True,
    )
    batch_size: int = setting(
        100, "Examples per step.", metavar="INT", group=HOW, at_least=1, common=True
    )
    steps_per_epoch: int = setting(
        0,
        "Steps of an epoch, at most; each has other examples. 0: as many as all examples make.",
        metavar="INT",
        group=HOW,
        at_least=0,
        since="0.5",
    )
    lr: float | None = setting(
        None,
        lambda: f"Learning rate of the weights. Unset: {tuned('lr')}.",
        group=HOW,
        above=0,
        common=True,
    )
    optimiser: str = setting(
        "adam",
        lambda: f"Optimiser: {', '.join(OPTIMISERS)}.",
        group=HOW,
        choices=OPTIMISERS,
    )
    update: str | None = setting(
        None,
        lambda: (
            f"How the weights on the devices of --writes are written: {', '.join(UPDATES)}. Unset: "
            f"{UPDATE}. It replaces --optimiser."
        ),
        group=HOW,
        choices=UPDATES,
        since="0.5",
    )
    write_threshold: float = setting(
        1.0,
        "With --update threshold: accumulated steps at which a weight is written.",
        unit="mean steps of the device",
        group=HOW,
        at_least=1,
        at_most=31,
        since="0.5",
    )
    adam_beta2: float | None = setting(
        None,
        "Share of Adam's second moments that is kept from step to step. Unset: 0.999 for raw "
        "rules, whose estimates are noisy; 0.99 where the error at the output is exact.",
        group=HOW,
        at_least=0,
        below=1,
    )
    momentum: float = setting(
        0.0,
        "Share of the last step of the weights that is added to the next.",
        group=HOW,
        at_least=0,
        below=1,
        used_by=("optimisers with momentum",),
        since="0.5",
    )
    weight_decay: float | None = setting(
        None,
        "Decay of all weights per step and rate: adamw shrinks them, sgd adds it to the gradient. "
        "Unset: 0.01 for adamw, else 0.",
        group=HOW,
        at_least=0,
        used_by=("optimisers that decay weights",),
        since="0.5",
    )
    lr_warm_up: float = setting(
        0.0,
        "Share of the run in which the learning rate rises linearly from 0, before its schedule.",
        group=HOW,
        at_least=0,
        below=1,
        since="0.5",
    )
    schedule: str = setting(
        "cosine",
        "Schedule of the learning rate over the run: cosine (down to 0) or constant.",
        group=HOW,
        choices=SCHEDULES,
    )
    decor_lr: float | None = setting(
        None,
        lambda: f"Rate of decorrelation. Unset: {tuned('decor_lr')}.",
        group=HOW,
        at_least=0,
        used_by=("rules that decorrelate",),
    )
    decor_schedule: str | None = setting(
        None,
        "Schedule of the rate of decorrelation. Unset: as --schedule.",
        group=HOW,
        kind="schedule",
        choices=SCHEDULES,
        used_by=("rules that decorrelate",),
    )
    decor_variant: str = setting(
        "offdiag",
        lambda: f"Update of the decorrelation: {', '.join(VARIANTS)}.",
        group=HOW,
        kind="decorrelation variant",
        choices=VARIANTS,
        used_by=("rules that decorrelate",),
    )
    decor_rows: int = setting(
        32,
        "Examples (patches), at most, for one update of the decorrelation.",
        group=HOW,
        at_least=1,
        used_by=("rules that decorrelate",),
    )
    demean: bool = setting(
        False,
        "Subtract the running mean of every decorrelated input.",
        group=HOW,
        used_by=("rules that decorrelate",),
    )


@dataclass(frozen=True, kw_only=True)
class MachineSettings(Settings):
    """Random numbers, and the machine."""

    seed: int = setting(
        0,
        "Seed of the initial weights, the order of examples, and all noise.",
        at_least=0,
        common=True,
    )
    device: str = setting(
        "auto",
        "Where to compute: auto, cpu, cuda.",
        choices=("auto", "cpu", "cuda"),
        common=True,
        changeable=True,
    )
    dtype: str = setting(
        "float32", lambda: f"Precision of the passes: {', '.join(DTYPES)}.", choices=DTYPES
    )
    threads: int = setting(
        0,
        "CPU threads; equal numbers give equal bits. 0: 1 for systems of less than a million "
        "weights, where more do not help, else PyTorch's choice.",
        at_least=0,
        changeable=True,
    )


@dataclass(frozen=True, kw_only=True)
class CourseSettings(Settings):
    """Settings of how a run begins and ends, and of what it keeps and logs."""

    init_from: str | None = setting(
        None,
        "Initial weights: the folder of a run, or a state dict (.safetensors, .pt) with the names "
        "of a plain network, as `export` writes it. Unset: drawn by --seed.",
        metavar="PATH",
        group=HOW,
        since="0.5",
    )
    patience: int = setting(
        0,
        "End the run when the validation score has not improved for so many epochs. 0: never.",
        metavar="INT",
        group=HOW,
        at_least=0,
        changeable=True,
        since="0.5",
    )
    keep: str = setting(
        "last",
        "Checkpoints: last; best, that of the best validation score too, which is then tested and "
        "used by later commands; or all, one of every epoch.",
        group=HOW,
        kind="kind of checkpoints",
        choices=("best", "last", "all"),
        since="0.5",
    )
    log: str | None = setting(
        None,
        f"Log loss, scores and learning rate during training for another program: "
        f"{', '.join(LOGS)}. All but csv need the extra [loggers].",
        kind="log",
        choices=LOGS,
        changeable=True,
        since="0.5",
    )


@dataclass(frozen=True)
class Config(
    NetworkSettings,
    PerturbationSettings,
    MachineSettings,
    CourseSettings,
    TrainingSettings,
    TaskSettings,
):
    """All settings of a run.

    What is derived from them is computed whenever a config is made.
    """

    straight_through: bool = derived(False, init=False)
    weight_seed: int = derived(0, init=False)
    noise_seed: int = derived(0, init=False)
    injection_seed: int = derived(0, init=False)

    def __post_init__(self) -> None:
        method = METHODS.get(self.rule)
        if isinstance(self.seed, int) and self.seed >= 0:
            found = seeds(self)
            object.__setattr__(self, "weight_seed", found["weights"])
            object.__setattr__(self, "noise_seed", found["system"])
            object.__setattr__(self, "injection_seed", found["injection"])
        differentiates = method is not None and method.perturbs == "nothing"
        object.__setattr__(self, "straight_through", differentiates)


def seeds(config: MachineSettings) -> dict[str, int]:
    """Independent seeds: weights, the system's noise, injected noise, order, encoding, pictures."""
    names = ("weights", "system", "injection", "order", "encoding", "augmentation")
    states = np.random.SeedSequence(config.seed).generate_state(len(names))
    return {name: int(state) for name, state in zip(names, states, strict=True)}
