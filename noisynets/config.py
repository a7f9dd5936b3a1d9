"""The settings of a run: what a user may set, what is filled in, and what is refused."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro

from noisynets.data import AUGMENTATIONS, FROM_FILES, TASKS, Task, find_task
from noisynets.decorrelation import VARIANTS
from noisynets.devices import PRESETS
from noisynets.errors import InputError, unknown
from noisynets.feedback import FEEDBACKS
from noisynets.methods import BEST, METHODS
from noisynets.models import FIRINGS, INITIALISATIONS, NEURONS
from noisynets.noise import SAMPLERS, check_sigma
from noisynets.rules import SCALINGS
from noisynets.spiking import ENCODERS, READOUTS
from noisynets.systems import ARCHITECTURES, FAMILIES, SYSTEMS

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
        _help(f"What to learn: {', '.join([*TASKS, *FROM_FILES])}.", "TASK"),
    ] = "mnist"
    system: Annotated[
        str,
        _help(
            f"What is trained: {', '.join(ARCHITECTURES)}, with a family before it: "
            f"{', '.join(f'{name}-' for name in FAMILIES if name)} as in sign-conv; lif, noisy-lif "
            "and rlif alone are perceptrons."
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
        float | None,
        _help(
            "Standard deviation of the injected noise, in units of the activities (of the "
            f"weights for wp and spsa). {_tuned('sigma')}; for a system with noise of its own: "
            f"{_tuned('sigma_in_noise', 'else nothing is injected')}.",
            "FLOAT",
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
    bits: Annotated[int, _help("Of the units of quantised-mlp: 2^bits levels.", "INT")] = 4
    temperature: Annotated[
        float, _help("Of the units of bernoulli-mlp, in units of the activity.", "FLOAT")
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
    device: Annotated[str, _help("One of auto, cpu, cuda.")] = "auto"
    dtype: Annotated[str, _help(f"One of {', '.join(DTYPES)}.")] = "float32"
    threads: Annotated[
        int,
        _help(
            "CPU threads; equal numbers give equal bits. 0: 1 for systems of less than a million "
            "weights, where more do not help, else PyTorch's choice.",
            "INT",
        ),
    ] = 0
    data_dir: Annotated[
        str | None,
        _help(
            "Folder with the task's files; for events, the file. Unset: the package's own.", "PATH"
        ),
    ] = None


def resolve(config: Config) -> Config:
    """Fill in what was left open, and refuse what cannot be.

    Raises:
        InputError: one line that names every setting that is wrong.

    >>> resolve(Config(system="mlp", rule="danp")).decor_lr
    0.0001
    >>> resolve(Config(rule="amp"))
    Traceback (most recent call last):
    ...
    noisynets.errors.InputError: unknown rule 'amp': did you mean 'anp'? Known: anp, bp, danp, \
dbp, dfa, dinp, dnp, fa, frozen, innovation, inp, learned, mirrored, np, share, spsa, wp
    """
    config = replace(config, rule=BEST if config.rule == "best" else config.rule)
    _check_names(config)
    task = task_of(config)
    system, method = SYSTEMS[config.system], METHODS[config.rule]
    own = system.intrinsic_noise if config.intrinsic_noise is None else config.intrinsic_noise
    preset = system.device_preset if config.device_preset is None else config.device_preset
    preset = None if preset == "none" else preset
    noisy = (own > 0 or preset is not None) and config.noise_during != "evaluation"
    sigma = method.sigma_in_noise if noisy else method.sigma
    if sigma and system.sigma and not noisy and method.perturbs == "nodes":
        sigma = system.sigma
    sigma = sigma if config.sigma is None else config.sigma
    filled = replace(
        config,
        hidden=system.hidden if config.hidden is None else tuple(config.hidden),
        intrinsic_noise=own,
        device_preset=preset or "none",
        lr=method.lr if config.lr is None else config.lr,
        sigma=sigma,
        decor_lr=method.decor_lr if config.decor_lr is None else config.decor_lr,
        adam_beta2=_beta2(config),
        noise=method.noise if config.noise is None and sigma is not None else config.noise,
        decor_schedule=config.decor_schedule or config.schedule,
        **_time(config, task),
        device=_device(config.device),
        data_dir=None if config.data_dir is None else str(Path(config.data_dir).absolute()),
    )
    problems = [*_problems(filled), *_time_problems(filled, task), *_input_problems(filled, task)]
    if problems:
        raise InputError("; ".join(problems))
    return filled


def _beta2(config: Config) -> float | None:
    own = METHODS[config.rule].adam_beta2 if config.optimiser == "adam" else None
    return own if config.adam_beta2 is None else config.adam_beta2


def task_of(config: Config) -> Task:
    """Return the task that settings name."""
    return find_task(config.task, None if config.data_dir is None else Path(config.data_dir))


def _time(config: Config, task: Task) -> dict[str, Any]:
    """Fill in what a system that lives in time needs to know; 0 steps for any other."""
    if not SYSTEMS[config.system].spiking:
        return {}
    most = min(task.steps, 100)
    bins = next((n for n in range(most, most // 4, -1) if task.steps % n == 0), most)
    nodes = METHODS[config.rule].perturbs == "nodes"
    credit_over = ("steps" if task.steps else "trial") if nodes else None
    return {
        "steps": (bins or 10) if config.steps is None else config.steps,
        "encoder": config.encoder or ("frames" if task.steps else "current"),
        "credit_over": config.credit_over or credit_over,
    }


def seeds(config: Config) -> dict[str, int]:
    """Independent seeds: weights, the system's noise, injected noise, order, encoding, pictures."""
    names = ("weights", "system", "injection", "order", "encoding", "augmentation")
    states = np.random.SeedSequence(config.seed).generate_state(len(names))
    return {name: int(state) for name, state in zip(names, states, strict=True)}


def _check_names(config: Config) -> None:
    for kind, name, known in (
        ("system", config.system, SYSTEMS),
        ("rule", config.rule, METHODS),
        ("noise", config.noise or "gaussian", SAMPLERS),
        ("device preset", config.device_preset or "none", [*PRESETS, "none"]),
        ("phase of the noise", config.noise_during, ("both", "training", "evaluation")),
        ("augmentation", config.augment, AUGMENTATIONS),
        ("encoder", config.encoder or "current", ENCODERS),
        ("read-out", config.readout, READOUTS),
        ("neuron", config.neuron, NEURONS),
        ("firing", config.firing, FIRINGS),
        ("phase of the noise", config.noise_over, ("step", "trial")),
        ("phase of the credit", config.credit_over or "trial", ("steps", "trial")),
        ("loss gradient", config.loss_gradient, ("known", "measured")),
        ("scaling", config.scaling, SCALINGS),
        ("decorrelation variant", config.decor_variant, VARIANTS),
        ("initialisation", config.init, INITIALISATIONS),
        ("optimiser", config.optimiser, OPTIMISERS),
        ("schedule", config.schedule, SCHEDULES),
        ("schedule", config.decor_schedule or config.schedule, SCHEDULES),
        ("device", config.device, ("auto", "cpu", "cuda")),
        ("dtype", config.dtype, DTYPES),
    ):
        if name not in known:
            raise unknown(kind, name, known)


def _problems(c: Config) -> Iterator[str]:
    at_least = {"epochs": 1, "batch_size": 1, "resamples": 1, "decor_rows": 1, "bits": 1}
    at_least |= {"seed": 0, "device_seed": 0, "threads": 0}
    for name, least in at_least.items():
        if getattr(c, name) < least:
            yield f"--{name.replace('_', '-')} {getattr(c, name)} must be at least {least}"
    for name in ("lr", "sigma", "output_scale", "temperature", "threshold", "firing_noise"):
        value = getattr(c, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            yield f"--{name.replace('_', '-')} {value:g} must be positive and finite"
    for name in ("decor_lr", "intrinsic_noise", "slope", "membrane_noise"):
        value = getattr(c, name)
        if not (math.isfinite(value) and value >= 0):
            yield f"--{name.replace('_', '-')} {value:g} must be finite and not negative"
    if c.adam_beta2 is not None and c.optimiser != "adam":
        yield f"--adam-beta2 {c.adam_beta2:g}: {c.optimiser} has no second moments"
    elif c.adam_beta2 is not None and not 0 <= c.adam_beta2 < 1:
        yield f"--adam-beta2 {c.adam_beta2:g} must be at least 0 and below 1"
    if not 0 <= c.correction <= 1:
        yield f"--correction {c.correction:g} must be within 0..1"
    if c.correction and c.credit_over == "steps":
        yield f"--correction {c.correction:g}: needs --credit-over trial"
    if any(width < 1 for width in c.hidden or ()):
        yield f"--hidden {' '.join(map(str, c.hidden or ()))}: every width must be at least 1"
    cores = os.cpu_count() or 1
    if c.threads > cores:
        yield f"--threads {c.threads}: this machine has {cores}"
    yield from _without_effect(c)
    if c.intrinsic_noise:
        try:
            check_sigma(c.intrinsic_noise, DTYPES[c.dtype])
        except InputError as error:
            yield f"--intrinsic-noise: {error}"
    still = c.intrinsic_noise == 0 and c.device_preset == "none"
    if c.system == "noisy-mlp" and still:
        yield "--intrinsic-noise 0: noisy-mlp without noise is 'mlp'"
    if still and c.noise_during != "both":
        yield f"--noise-during {c.noise_during}: the system has no noise of its own at its nodes"
    differ = [preset.name for preset in PRESETS.values() if preset.spread]
    if c.device_seed and c.device_preset not in differ:
        yield (
            f"--device-seed {c.device_seed}: device {c.device_preset!r} is the same on every "
            f"chip; devices that differ: {', '.join(differ)}"
        )
    for name in sorted({name for system in SYSTEMS.values() for name in system.heeds}):
        if name not in SYSTEMS[c.system].heeds and getattr(c, name) != getattr(Config(), name):
            yield f"--{name.replace('_', '-')} {getattr(c, name)}: {c.system} has no such units"


def _input_problems(c: Config, task: Task) -> Iterator[str]:
    """Name what cannot be done to a task's inputs."""
    if c.augment != "none" and (len(task.input_shape) != 3 or task.steps):
        yield f"--augment {c.augment}: the inputs of {c.task} are no pictures"
    if c.standardise and task.steps:
        yield f"--standardise: the inputs of {c.task} are events"


def _time_problems(c: Config, task: Task) -> Iterator[str]:
    """Name settings of trials that make no sense."""
    default = Config()
    if not SYSTEMS[c.system].spiking:
        for name in ("steps", "encoder", "noise_over", "credit_over"):
            if getattr(c, name) != getattr(default, name):
                option = name.replace("_", "-")
                yield f"--{option} {getattr(c, name)}: {c.system} does not live in time"
        return
    steps = c.steps or 0
    if steps < 1:
        yield f"--steps {steps} must be at least 1"
    elif task.steps and steps > task.steps:
        yield f"--steps {steps}: the {task.steps} steps of {c.task} do not make so many bins"
    if bool(task.steps) != (c.encoder == "frames"):
        known = "frames" if task.steps else ", ".join(name for name in ENCODERS if name != "frames")
        yield f"--encoder {c.encoder}: {c.task} takes {known}"
    if not (math.isfinite(c.beta) and 0 <= c.beta <= 1):
        yield f"--beta {c.beta:g} must be within 0..1"
    if c.neuron in ("alpha", "lapicque") and not 0 < c.beta < 1:
        yield f"--beta {c.beta:g}: {c.neuron} needs a share between 0 and 1"
    if c.firing == "threshold" and c.firing_noise != default.firing_noise:
        yield f"--firing-noise {c.firing_noise:g}: a hard threshold has none"
    nodes = METHODS[c.rule].perturbs == "nodes"
    if c.noise_over == "trial" and c.intrinsic_noise == 0 and (c.sigma is None or not nodes):
        yield "--noise-over trial: there is no noise at the nodes"
    if c.noise_during != "both" and (c.membrane_noise or c.firing != "threshold"):
        yield f"--noise-during {c.noise_during}: neurons have their noise in both"
    if c.credit_over == "steps" and c.noise_over == "trial":
        yield "--noise-over trial: says nothing about single steps: use --credit-over trial"


DECORRELATION = ("decor_lr", "decor_schedule", "decor_variant", "decor_rows", "demean")


def unheeded(rule: str) -> dict[str, str]:
    """Name settings that a rule does not heed, and why.

    >>> sorted(unheeded("bp"))[:3]
    ['correction', 'credit_over', 'decor_lr']
    >>> sorted(unheeded("danp"))
    ['correction', 'loss_gradient']
    """
    method = METHODS[rule]
    found: dict[str, str] = {}
    if not method.decor_lr:
        found |= dict.fromkeys(DECORRELATION, "does not decorrelate")
    if method.perturbs == "nothing":
        found |= dict.fromkeys(("sigma", "noise", "resamples", "scaling"), "injects nothing")
    elif method.perturbs == "weights":
        found["scaling"] = "has none"
    if method.perturbs != "nodes":
        found["credit_over"] = "gives no credit to nodes"
    if rule not in FEEDBACKS:
        found |= dict.fromkeys(("loss_gradient", "correction"), "is no feedback")
    return found


def _without_effect(c: Config) -> Iterator[str]:
    """Name settings that the rule would not heed."""
    neutral = asdict(Config()) | {"decor_lr": 0.0, "decor_schedule": c.schedule}
    for name, reason in unheeded(c.rule).items():
        if getattr(c, name) not in (None, neutral[name]):
            yield f"--{name.replace('_', '-')}: {c.rule!r} {reason}"
    if METHODS[c.rule].decor_lr and c.decor_lr == 0:
        yield f"--decor-lr 0: without decorrelation {c.rule!r} is {c.rule[1:]!r}"
    if METHODS[c.rule].perturbs != "nothing" and c.sigma is None and c.noise is not None:
        yield "--noise: nothing is injected into a system with noise of its own, without --sigma"


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: PyTorch sees no CUDA device; use cpu or auto")
    return name
