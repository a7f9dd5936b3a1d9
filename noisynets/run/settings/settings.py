"""The settings of a run, as the command line explains them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
import tyro

from noisynets.core.decorrelation import VARIANTS
from noisynets.core.errors import InputError
from noisynets.core.noise import SAMPLERS
from noisynets.estimators.methods import BEST, METHODS
from noisynets.systems.catalogue import ARCHITECTURES, BOXES, FAMILIES
from noisynets.systems.devices import PRESETS
from noisynets.systems.models import FIRINGS, INITIALISATIONS, NEURONS
from noisynets.systems.spiking import ENCODERS, READOUTS
from noisynets.tasks.data import AUGMENTATIONS, FROM_FILES, TASKS
from noisynets.tasks.environments import ENVIRONMENTS

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}
OPTIMISERS = ("adam", "sgd")
SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "constant": lambda done: 1.0,
}
"""A factor on a rate after a fraction `done` of the run."""


def _help(text: str, metavar: str = "NAME") -> Any:
    """Describe a setting on the command line."""
    return tyro.conf.arg(help=text, metavar=metavar)


def _tuned(setting: str, *rest: str) -> str:
    """List the tuned values of a setting, rule by rule."""
    values = {m.name: getattr(m, setting) for m in METHODS.values() if getattr(m, setting)}
    return "Unset: tuned, " + ", ".join([*(f"{v:g} {name}" for name, v in values.items()), *rest])


@dataclass(frozen=True)
class Config:
    """Train a system on a task, then test it once. `noisynets list` names what there is."""

    task: Annotated[
        str,
        tyro.conf.Positional,
        _help(
            f"What to learn: {', '.join([*TASKS, *FROM_FILES])}; to act in an environment: "
            f"{', '.join(ENVIRONMENTS)}, or the id of any that Gymnasium knows.",
            "TASK",
        ),
    ] = "mnist"
    system: Annotated[
        str,
        _help(
            f"What is trained: {', '.join(ARCHITECTURES)}, with a family before it: "
            f"{', '.join(f'{name}-' for name in FAMILIES if name)} as in sign-conv; lif, noisy-lif "
            f"and rlif alone are perceptrons. Black boxes: {', '.join(BOXES)}."
        ),
    ] = "noisy-mlp"
    rule: Annotated[
        str,
        _help(
            f"How: {', '.join(METHODS)}; a leading d (before np, inp, anp, bp) decorrelates every "
            f"layer's inputs. best is {BEST}."
        ),
    ] = "best"
    hidden: Annotated[
        tuple[int, ...] | None,
        _help("Widths of the hidden layers (channels for conv). Unset: the system's.", "INT ..."),
    ] = None
    epochs: Annotated[int, _help("Passes over the training examples.", "INT")] = 20
    batch_size: Annotated[int, _help("Examples per step.", "INT")] = 100
    lr: Annotated[
        float | None, _help(f"Learning rate of the weights. {_tuned('lr')}.", "FLOAT")
    ] = None
    sigma: Annotated[
        float | Literal["auto"] | None,
        _help(
            "Standard deviation of the injected noise, in units of the activities (of the "
            "weights for wp and spsa); auto: measured on the first batches, before training. "
            f"{_tuned('sigma')}; for a system with noise of its own: "
            f"{_tuned('sigma_in_noise', 'else nothing is injected')}.",
            "FLOAT|auto",
        ),
    ] = None
    decor_lr: Annotated[
        float | None, _help(f"Rate of decorrelation. {_tuned('decor_lr')}.", "FLOAT")
    ] = None
    resamples: Annotated[
        int, _help("K, noisy passes per reference pass (per layer for inp).", "INT")
    ] = 1
    intrinsic_noise: Annotated[
        float | None,
        _help(
            "Standard deviation of the system's own noise at every node, in units of the "
            "activities; it can be neither read nor switched off. Unset: the system's.",
            "FLOAT",
        ),
    ] = None
    noise_over: Annotated[
        str,
        _help("Of spiking systems: noise is drawn anew in every step, or once per trial."),
    ] = "step"
    device_preset: Annotated[
        str | None,
        _help(
            f"Simulated device under every layer: {', '.join(PRESETS)}; or none. Unset: the "
            "system's."
        ),
    ] = None
    device_seed: Annotated[
        int, _help("Of the simulated chip: what differs between devices, and stays.", "INT")
    ] = 0
    spread: Annotated[
        float,
        _help(
            "Of boxes: relative spread of a chip's weights and gains, and spread of its offsets.",
            "FLOAT",
        ),
    ] = 0.3
    box: Annotated[
        str | None,
        _help(
            "Of process-box: the command that answers, as docs/how-to/blackbox.md says. Unset: a "
            "simulated chip.",
            "COMMAND",
        ),
    ] = None
    noise_during: Annotated[
        str, _help("When the system's own noise and device act: both, training, evaluation.")
    ] = "both"
    freeze_hidden: Annotated[
        bool,
        tyro.conf.arg(help="Train the output layer alone: the control for what hidden layers add."),
    ] = False
    seed: Annotated[
        int, _help("Of the initial weights, the order of examples, and all noise.", "INT")
    ] = 0
    noise: Annotated[
        str | None,
        _help(f"Distribution of what is injected: {', '.join(SAMPLERS)}. Unset: the rule's."),
    ] = None
    scaling: Annotated[
        str, _help("Of inp and anp: count (N/‖δa‖²), root (√N/‖δa‖²) or variance (1/σ²).")
    ] = "count"
    decor_variant: Annotated[str, _help(f"Update of the decorrelation: {', '.join(VARIANTS)}.")] = (
        "offdiag"
    )
    demean: Annotated[
        bool, tyro.conf.arg(help="Subtract the running mean of every decorrelated input.")
    ] = False
    decor_rows: Annotated[
        int, _help("Examples (patches), at most, for one update of the decorrelation.", "INT")
    ] = 32
    slope: Annotated[float, _help("Of the LeakyReLU for negative activities.", "FLOAT")] = 0.2
    steps: Annotated[
        int | None,
        _help(
            "T, time steps of a trial. Unset: 10; for events in time theirs, or at most 100 bins.",
            "INT",
        ),
    ] = None
    encoder: Annotated[
        str | None,
        _help(
            f"What a spiking system sees of its input: {', '.join(ENCODERS)} (events in time, "
            "counted in bins). Unset: current; frames for events in time."
        ),
    ] = None
    readout: Annotated[
        str,
        _help(
            f"Of spiking systems: {', '.join(READOUTS)} (mean potential of neurons that do not "
            "fire, number of spikes, time of the first spike)."
        ),
    ] = "membrane"
    neuron: Annotated[str, _help(f"Of spiking systems: {', '.join(NEURONS)}.")] = "leaky"
    beta: Annotated[
        float, _help("Share of a membrane potential that is left after a step.", "FLOAT")
    ] = 0.9
    threshold: Annotated[float, _help("Potential at which a neuron fires.", "FLOAT")] = 1.0
    firing: Annotated[
        str, _help(f"When neurons fire: {', '.join(FIRINGS)} (noisy threshold, escape rate).")
    ] = "threshold"
    firing_noise: Annotated[
        float,
        _help(
            "In units of the potential: standard deviation of a noisy threshold, width of an "
            "escape rate.",
            "FLOAT",
        ),
    ] = 0.1
    membrane_noise: Annotated[
        float, _help("Standard deviation of what each step adds to the potentials.", "FLOAT")
    ] = 0.0
    credit_over: Annotated[
        str | None,
        _help(
            "Of spiking systems: steps gives credit to every step, trial to the mean over a trial, "
            "in memory that does not grow with it. Unset: trial; steps for events in time."
        ),
    ] = None
    loss_gradient: Annotated[
        str,
        _help(
            "Of feedback: known takes the loss's derivative at the output, measured only its "
            "differences."
        ),
    ] = "known"
    correction: Annotated[
        float,
        _help(
            "Share, from 0 to 1, of what the loss differences say beyond the credit of a feedback "
            "that is added to it.",
            "FLOAT",
        ),
    ] = 0.0
    bits: Annotated[int, _help("Of quantised units: 2^bits levels.", "INT")] = 4
    temperature: Annotated[
        float, _help("Of Bernoulli units, in units of the activity.", "FLOAT")
    ] = 0.2
    init: Annotated[
        str, _help(f"Normal initial weights: {', '.join(INITIALISATIONS)}; biases are zero.")
    ] = "he"
    output_scale: Annotated[
        float, _help("Factor on the output layer's initial weights.", "FLOAT")
    ] = 1.0
    optimiser: Annotated[str, _help(f"One of {', '.join(OPTIMISERS)}.")] = "adam"
    adam_beta2: Annotated[
        float | None,
        _help(
            "Share of Adam's second moments that is kept from step to step. Unset: 0.999 for "
            "raw rules, whose estimates are noisy; 0.99 where the error at the output is exact.",
            "FLOAT",
        ),
    ] = None
    schedule: Annotated[
        str, _help("Of the learning rate over the run: cosine (down to 0) or constant.")
    ] = "cosine"
    decor_schedule: Annotated[
        str | None, _help("Of the rate of decorrelation. Unset: as --schedule.")
    ] = None
    standardise: Annotated[
        bool,
        tyro.conf.arg(help="Give inputs zero mean and unit variance over the training examples."),
    ] = False
    augment: Annotated[
        str, _help(f"Of training pictures, the same for both passes: {', '.join(AUGMENTATIONS)}.")
    ] = "none"
    final_fit: Annotated[
        bool, tyro.conf.arg(help="Train on all examples; none are kept back for validation.")
    ] = False
    test: Annotated[
        bool, tyro.conf.arg(help="Read the test set at the end; not while settings are chosen.")
    ] = True
    device: Annotated[str, _help("One of auto, cpu, cuda.")] = "auto"
    dtype: Annotated[str, _help(f"One of {', '.join(DTYPES)}.")] = "float32"
    product_dtype: Annotated[
        str | None,
        _help(
            "In which credit and inputs are multiplied; bfloat16 is quicker where the processor "
            "has it, and no less exact than the credit. Unset: as --dtype."
        ),
    ] = None
    threads: Annotated[
        int,
        _help(
            "CPU threads; equal numbers give equal bits. 0: 1 for systems of less than a million "
            "weights, where more do not help, else PyTorch's choice.",
            "INT",
        ),
    ] = 0
    env: Annotated[
        tuple[str, ...],
        _help(
            "Settings of an environment: sigma=0.2, say; values as in JSON, or texts.",
            "NAME=VALUE ...",
        ),
    ] = ()
    random_numbers: Annotated[
        str,
        _help(
            "Of an environment: common to the passes of a pair (same start, same draws), or "
            "independent."
        ),
    ] = "common"
    discount: Annotated[
        float,
        _help(
            "Of an environment: weight in a credit of a reward that comes one step later, from 0 "
            "to 1. The return that is reported is not discounted.",
            "FLOAT",
        ),
    ] = 0.99
    data_dir: Annotated[
        str | None,
        _help(
            "Folder with the task's files; for events and sarcos, a file. Unset: the cache.",
            "PATH",
        ),
    ] = None

    @property
    def injected(self) -> float | None:
        """σ as a number.

        Raises:
            InputError: if it has yet to be measured; see `noisynets.diagnose.settled`.
        """
        if self.sigma == "auto":
            raise InputError("--sigma auto: is measured for single runs alone: give a number here")
        return self.sigma
