"""What is refused: unknown names, impossible values, and settings that would have no effect."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import asdict

from noisynets.core.decorrelation import VARIANTS
from noisynets.core.errors import InputError, unknown
from noisynets.core.noise import SAMPLERS, check_sigma
from noisynets.estimators.methods import METHODS, MODELLED
from noisynets.estimators.roll_out import ENTERED
from noisynets.rules import RULES, SCALINGS
from noisynets.rules.credit import FEEDBACKS
from noisynets.run.settings.settings import DTYPES, OPTIMISERS, SCHEDULES, Config
from noisynets.systems.catalogue import SYSTEMS
from noisynets.systems.devices import PRESETS
from noisynets.systems.models import FIRINGS, INITIALISATIONS, NEURONS
from noisynets.systems.spiking import ENCODERS, READOUTS
from noisynets.tasks.data import AUGMENTATIONS, Task


def check_names(config: Config) -> None:
    """Raise an InputError for the first setting that names something unknown."""
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
        ("kind of random numbers", config.random_numbers, ("common", "independent")),
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
        ("dtype", config.product_dtype or config.dtype, DTYPES),
    ):
        if name not in known:
            raise unknown(kind, name, known)


def problems(c: Config, task: Task) -> list[str]:
    """Name everything that is wrong with settings whose gaps are filled, a line each."""
    acting = _acting(c) if task.world is not None else _not_acting(c)
    own = [*_time(c, task), *_inputs(c, task), *_box(c), *acting]
    return [*_values(c), *own, *_without_effect(c)]


def _values(c: Config) -> Iterator[str]:
    at_least = {"epochs": 1, "batch_size": 1, "resamples": 1, "decor_rows": 1, "bits": 1}
    at_least |= {"seed": 0, "device_seed": 0, "threads": 0}
    for name, least in at_least.items():
        if getattr(c, name) < least:
            yield f"--{name.replace('_', '-')} {getattr(c, name)} must be at least {least}"
    for name in ("lr", "sigma", "output_scale", "temperature", "threshold", "firing_noise"):
        value = getattr(c, name)
        if value not in (None, "auto") and not (math.isfinite(value) and value > 0):
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
    if c.correction and (c.loss_gradient == "measured" or c.rule in ("innovation", "share")):
        yield f"--correction {c.correction:g}: the credit is made of the same loss differences"
    if c.correction and c.credit_over == "steps":
        yield f"--correction {c.correction:g}: needs --credit-over trial"
    if any(width < 1 for width in c.hidden or ()):
        yield f"--hidden {' '.join(map(str, c.hidden or ()))}: every width must be at least 1"
    cores = os.cpu_count() or 1
    if c.threads > cores:
        yield f"--threads {c.threads}: this machine has {cores}"
    if c.intrinsic_noise:
        try:
            check_sigma(c.intrinsic_noise, DTYPES[c.dtype])
        except InputError as error:
            yield f"--intrinsic-noise: {error}"
    still = c.intrinsic_noise == 0 and c.device_preset == "none"
    if c.system.startswith("noisy-") and still:
        plain = c.system.removeprefix("noisy-")
        yield f"--intrinsic-noise 0: {c.system} without noise is {plain!r}"
    if still and c.noise_during != "both":
        yield f"--noise-during {c.noise_during}: the system has no noise of its own at its nodes"
    differ = [preset.name for preset in PRESETS.values() if preset.spread]
    if c.device_seed and c.device_preset not in differ and not SYSTEMS[c.system].boxed:
        yield (
            f"--device-seed {c.device_seed}: device {c.device_preset!r} is the same on every "
            f"chip; devices that differ: {', '.join(differ)}"
        )
    for name in sorted({name for system in SYSTEMS.values() for name in system.heeds}):
        if name not in SYSTEMS[c.system].heeds and getattr(c, name) != getattr(Config(), name):
            yield f"--{name.replace('_', '-')} {getattr(c, name)}: {c.system} has no such units"


def _box(c: Config) -> Iterator[str]:
    """Name what cannot be done with a black box, or with any other system."""
    if not SYSTEMS[c.system].boxed:
        if c.rule in MODELLED:
            yield f"--rule {c.rule}: {c.system} is no box with a model apart from it: use bp"
        return
    if not (math.isfinite(c.spread) and c.spread >= 0):
        yield f"--spread {c.spread:g} must be finite and not negative"
    if METHODS[c.rule].perturbs == "nothing" and c.rule not in MODELLED:
        yield (
            f"--rule {c.rule}: nothing can be differentiated in a box: use mirrored, or "
            f"{', '.join(MODELLED)}, which go through a model of it"
        )
    elif METHODS[c.rule].decor_lr:
        yield f"--rule {c.rule}: a box takes no products in front of its layers"
    elif METHODS[c.rule].perturbs == "nodes" and (
        c.sigma is not None or (c.rule in RULES and RULES[c.rule].injects)
    ):
        what = f"--rule {c.rule}" if c.sigma is None else f"--sigma {c.sigma}"
        yield f"{what}: nothing can be injected into a box: use anp, learned or mirrored, without"
    if c.box is not None and c.rule in MODELLED:
        yield f"--rule {c.rule}: nobody has a model of --box {c.box!r}"
    if c.device_preset != "none":
        yield f"--device-preset {c.device_preset}: a box is a device by itself"
    if c.noise_during != "both":
        yield f"--noise-during {c.noise_during}: the noise of a box cannot be switched off"


def _inputs(c: Config, task: Task) -> Iterator[str]:
    """Name what cannot be done to a task's inputs."""
    if c.augment != "none" and (len(task.input_shape) != 3 or task.steps):
        yield f"--augment {c.augment}: the inputs of {c.task} are no pictures"
    if c.standardise and task.steps:
        yield f"--standardise: the inputs of {c.task} are events"


_ENTERED = (*ENTERED, *(f"d{rule}" for rule in ENTERED if f"d{rule}" in METHODS))
_DOWN = tuple(rule for rule in FEEDBACKS if rule not in ENTERED)
ACTING = (*_ENTERED, *_DOWN, "wp", "spsa")


def _acting(c: Config) -> Iterator[str]:
    """Name what makes no sense in an environment."""
    if c.rule not in ACTING:
        yield f"--rule {c.rule}: an environment has no derivative: use {', '.join(ACTING)}"
    if not 0 <= c.discount <= 1:
        yield f"--discount {c.discount:g} must be within 0..1"
    elif c.discount != Config().discount and METHODS[c.rule].perturbs == "weights":
        yield f"--discount {c.discount:g}: {c.rule!r} sees whole episodes alone"
    default = Config()
    alien = ("encoder", "credit_over", "noise_over", "loss_gradient", "product_dtype")
    for name in (*alien, "standardise", "data_dir"):
        if getattr(c, name) != getattr(default, name):
            yield f"--{name.replace('_', '-')}: {c.task} is an environment"


def _not_acting(c: Config) -> Iterator[str]:
    """Name what makes sense in an environment alone."""
    if SYSTEMS[c.system].acts:
        plain = c.system.removesuffix("policy").rstrip("-")
        plain = plain if plain.endswith(("mlp", "lif")) else f"{plain}-mlp"
        yield f"--system {c.system}: acts in an environment: for {c.task} use {plain}"
    default = Config()
    for name in ("env", "random_numbers", "discount"):
        if getattr(c, name) != getattr(default, name):
            yield f"--{name.replace('_', '-')}: {c.task} is no environment"


def _time(c: Config, task: Task) -> Iterator[str]:
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
    if task.world is None and bool(task.steps) != (c.encoder == "frames"):
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
        found |= dict.fromkeys(("credit_over", "product_dtype"), "gives no credit to nodes")
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
