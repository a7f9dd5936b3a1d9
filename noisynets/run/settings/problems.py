"""Settings that contradict each other or the task, and settings that would have no effect."""

from __future__ import annotations

import os
from collections.abc import Iterator

import torch

from noisynets.core.errors import InputError
from noisynets.core.noise import check_sigma
from noisynets.core.pages import Page
from noisynets.core.settings import DTYPES
from noisynets.core.values import options, out_of_range, value
from noisynets.estimators.methods import METHODS
from noisynets.run.settings.consumers import refusals
from noisynets.run.settings.optimisers import OPTIMISERS
from noisynets.run.settings.settings import UPDATE, Config
from noisynets.systems.catalogue import SYSTEMS
from noisynets.systems.devices import PRESETS
from noisynets.systems.pulses import PULSED, UPDATES
from noisynets.systems.spiking import ENCODERS, NEURONS
from noisynets.tasks.data import Task


def check_config(c: Config, task: Task) -> None:
    """Raise an InputError that names everything that is wrong, and the page for the first of it.

    Args:
        c: settings whose gaps are filled.
        task: of the settings.
    """
    parts = (
        (Page.SYSTEMS, out_of_range(c)),
        (Page.SYSTEMS, _training(c)),
        (Page.CHECKPOINTS, _course(c)),
        (Page.DEVICES, _noise(c)),
        (Page.PULSES, _pulses(c)),
        (Page.WHICH_RULE, _rule(c, task)),
        (Page.SYSTEMS, _system(c, task)),
        (Page.BOXES, _box(c)),
        (Page.DATA, _inputs(c, task)),
        (Page.NEURONS, _trial(c, task) if SYSTEMS[c.system].spiking else ()),
        (Page.SYSTEMS, _without_effect(c)),
    )
    found = [(line, page) for page, lines in parts for line in lines]
    if found:
        raise InputError("; ".join(line for line, _ in found), page=found[0][1])


def _training(c: Config) -> Iterator[str]:
    """Name what optimiser, feedback or machine do not allow."""
    if c.adam_beta2 is not None and not OPTIMISERS[c.optimiser].moments:
        yield f"--adam-beta2 {c.adam_beta2:g}: {c.optimiser} has no second moments"
    if c.correction and (c.loss_gradient == "measured" or METHODS[c.rule].from_dloss):
        yield f"--correction {c.correction:g}: the credit is made of the same loss differences"
    if c.correction and c.credit_over == "steps":
        yield f"--correction {c.correction:g}: needs --credit-over trial"
    cores = os.cpu_count() or 1
    if c.threads > cores:
        yield f"--threads {c.threads}: this machine has {cores}"


def _course(c: Config) -> Iterator[str]:
    """Name what cannot be done at the end of epochs."""
    if c.final_fit and (c.patience or c.keep == "best"):
        option = f"--patience {c.patience}" if c.patience else "--keep best"
        yield f"{option}: with --final-fit there is no validation set to judge by"


def _noise(c: Config) -> Iterator[str]:
    """Name what is wrong with the noise and the devices of the system."""
    system = SYSTEMS[c.system]
    if c.own_noise > 0:
        try:
            check_sigma(c.own_noise, DTYPES[c.dtype])
        except InputError as error:
            yield f"--intrinsic-noise: {error}"
    still = not c.own_noise and c.preset is None
    if still and system.noiseless is not None:
        yield f"--intrinsic-noise 0: {c.system} without noise is {system.noiseless!r}"
    if still and c.noise_during != "both":
        yield f"--noise-during {c.noise_during}: the system has no noise of its own at its nodes"
    differ = [preset.name for preset in PRESETS.values() if preset.spread]
    written = c.writes is not None and PULSED[c.writes].differs
    if c.device_seed and c.preset not in differ and not (system.boxed or written):
        yield (
            f"--device-seed {c.device_seed}: device {c.device_preset!r} is the same on every "
            f"chip; devices that differ: {', '.join(differ)}"
        )


def _pulses(c: Config) -> Iterator[str]:
    """Name what cannot be done to weights that are written by pulses, or are not."""
    default = Config()
    if c.writes is None:
        if c.update is not None:
            yield f"--update {c.update}: nothing is written by pulses: name devices with --writes"
        for name, option in options(Config).items():
            if name.startswith("write_") and value(c, name) != option.default:
                yield f"{option.spelled(value(c, name))}: nothing is written by pulses"
        return
    yield from _impossible(c)
    if SYSTEMS[c.system].boxed:
        yield f"--writes {c.writes}: a box is a device by itself"
    if METHODS[c.rule].perturbs == "weights":
        yield f"--rule {c.rule}: perturbs weights, which --writes {c.writes} changes by pulses"
    if DTYPES[c.dtype].itemsize < torch.float32.itemsize:
        yield f"--writes {c.writes}: a pulse is below the precision of {c.dtype}: use float32"
    if c.optimiser != default.optimiser:
        yield f"--optimiser {c.optimiser}: --update says how pulsed weights are written"
    if c.adam_beta2 is not None:
        yield f"--adam-beta2 {c.adam_beta2:g}: --update {c.update} has no second moments"
    if c.write_threshold != default.write_threshold and not UPDATES[c.update or UPDATE].threshold:
        yield f"--write-threshold {c.write_threshold:g}: --update {c.update} has none"


def _impossible(c: Config) -> Iterator[str]:
    """Name what the pulsed device of the settings cannot be."""
    try:
        assert c.pulsed_device is not None
    except InputError as error:
        yield f"--writes {c.writes}: {error}"


def _rule(c: Config, task: Task) -> Iterator[str]:
    """Name a rule that cannot train the system on the task."""
    system, method = SYSTEMS[c.system], METHODS[c.rule]
    if task.world is not None and not method.acts:
        known = ", ".join(m.name for m in METHODS.values() if m.acts)
        yield f"--rule {c.rule}: an environment has no derivative: use {known}"
    devices = (c.own_noise > 0 or c.preset is not None) and not method.needs_box
    if method.needs_model and not (system.boxed or devices):
        yield f"--rule {c.rule}: {c.system} has no model apart from it: use bp"
    if method.plain is not None and c.decor_lr == 0:
        yield f"--decor-lr 0: without decorrelation {c.rule!r} is {method.plain!r}"
    if method.perturbs != "nothing" and c.sigma is None and c.noise is not None:
        yield "--noise: nothing is injected into a system with noise of its own, without --sigma"


def _system(c: Config, task: Task) -> Iterator[str]:
    """Name a system that does not fit the task, or its own sizes."""
    system = SYSTEMS[c.system]
    if system.text and not task.vocabulary:
        yield f"--system {c.system}: reads the characters of a text: {c.task} is none"
    if task.vocabulary and not system.text:
        known = ", ".join(s.name for s in SYSTEMS.values() if s.text)
        yield f"--system {c.system}: its inputs are numbers, not characters: use {known}"
    if c.hidden and not system.hidden:
        yield f"{options(Config)['hidden'].spelled(c.hidden)}: {c.system} has --layers and --width"
    if "heads" in system.settings and c.heads > 0 and c.width % c.heads:
        yield f"--heads {c.heads}: does not divide --width {c.width}"
    if system.acts and task.world is None:
        yield (
            f"--system {c.system}: acts in an environment: for {c.task} use {system.counterpart}"
        )


def _box(c: Config) -> Iterator[str]:
    """Name what cannot be done with a black box."""
    method = METHODS[c.rule]
    if not SYSTEMS[c.system].boxed:
        return
    if method.perturbs == "nothing" and not method.needs_model:
        modelled = ", ".join(m.name for m in METHODS.values() if m.needs_model)
        yield (
            f"--rule {c.rule}: nothing can be differentiated in a box: use mirrored, or "
            f"{modelled}, which go through a model of it"
        )
    elif method.decor_lr:
        yield f"--rule {c.rule}: a box takes no products in front of its layers"
    elif method.perturbs == "nodes" and (c.sigma is not None or method.injects):
        what = f"--rule {c.rule}" if c.sigma is None else f"--sigma {c.sigma}"
        yield f"{what}: nothing can be injected into a box: use anp, learned or mirrored, without"
    if c.box is not None and method.needs_model:
        yield f"--rule {c.rule}: there is no model of --box {c.box!r}"
    if c.preset is not None:
        yield f"--device-preset {c.device_preset}: a box is a device by itself"
    if c.noise_during != "both":
        yield f"--noise-during {c.noise_during}: the noise of a box cannot be switched off"


def _inputs(c: Config, task: Task) -> Iterator[str]:
    """Name what cannot be done to a task's inputs."""
    if c.augment != "none" and (len(task.input_shape) != 3 or task.steps):
        yield f"--augment {c.augment}: the inputs of {c.task} are no pictures"
    if c.standardise and (task.steps or task.vocabulary):
        kind = "characters" if task.vocabulary else "events"
        yield f"--standardise: the inputs of {c.task} are {kind}"


def _trial(c: Config, task: Task) -> Iterator[str]:
    """Name settings of trials that contradict the task or each other."""
    if task.steps and (c.steps or 0) > task.steps:
        yield f"--steps {c.steps}: the {task.steps} steps of {c.task} do not make so many bins"
    if task.world is None and bool(task.steps) != (c.encoder == "frames"):
        known = "frames" if task.steps else ", ".join(name for name in ENCODERS if name != "frames")
        yield f"--encoder {c.encoder}: {c.task} takes {known}"
    if NEURONS[c.neuron].decays and not 0 < c.beta < 1:
        yield f"--beta {c.beta:g}: {c.neuron} needs a share between 0 and 1"
    if c.firing == "threshold" and c.firing_noise != Config().firing_noise:
        yield f"--firing-noise {c.firing_noise:g}: a hard threshold has none"
    nodes = METHODS[c.rule].perturbs == "nodes"
    if c.noise_over == "trial" and not c.own_noise and (c.sigma is None or not nodes):
        yield "--noise-over trial: there is no noise at the nodes"
    if c.noise_during != "both" and (c.membrane_noise or c.firing != "threshold"):
        yield f"--noise-during {c.noise_during}: neurons have their noise in both"
    if c.credit_over == "steps" and c.noise_over == "trial":
        yield "--noise-over trial: gives no credit to single steps: use --credit-over trial"


def _without_effect(c: Config) -> Iterator[str]:
    """Name settings that were changed from their defaults, but have no effect here."""
    named = {"system": c.system, "rule": c.rule, "task": c.task, "optimiser": c.optimiser}
    filled = {
        "decor_lr": 0.0,
        "decor_schedule": c.schedule,
        "weight_decay": OPTIMISERS[c.optimiser].decay,
    }
    for name, option in options(Config).items():
        given = value(c, name)
        if given in (None, option.default, filled.get(name)):
            continue
        for refusal in refusals(option, named):
            yield f"{option.spelled(given)}: {refusal}"
            break


def unused(rule: str) -> dict[str, str]:
    """Name settings that a rule does not use, and why.

    >>> sorted(unused("bp"))[:3]
    ['correction', 'credit_over', 'decor_lr']
    >>> sorted(unused("danp"))
    ['correction', 'loss_gradient', 'pairs_every', 'physical', 'position_discount']
    """
    found = {n: list(refusals(option, {"rule": rule})) for n, option in options(Config).items()}
    return {name: why[0] for name, why in found.items() if why}
