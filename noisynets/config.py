"""The settings of a run: what a user may set, what is filled in, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
import tyro

from noisynets.data import TASKS
from noisynets.decorrelation import VARIANTS
from noisynets.errors import InputError, unknown
from noisynets.methods import METHODS
from noisynets.models import INITIALISATIONS, SYSTEMS
from noisynets.noise import SAMPLERS
from noisynets.rules import SCALINGS

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}
OPTIMISERS = ("adam", "sgd")
SCHEDULES = ("cosine", "constant")


@dataclass(frozen=True)
class Config:
    """Train a system on a task, then test it once. `noisynets list` names what there is."""

    task: Annotated[str, tyro.conf.Positional] = "mnist"
    """What to learn."""
    system: str = "noisy-mlp"
    """What is trained."""
    rule: str = "anp"
    """How it is trained; a leading d decorrelates the inputs of every layer."""
    hidden: tuple[int, ...] | None = None
    """Widths of the hidden layers (channels for conv). Unset: the system's own."""
    epochs: int = 20
    """Passes over the training examples."""
    batch_size: int = 100
    """Examples per step."""
    lr: float | None = None
    """Learning rate of the weights. Unset: tuned per rule, see `noisynets list`."""
    sigma: float | None = None
    """Standard deviation of the injected noise, in units of the activities (of the weights for
    wp and spsa). Unset: tuned per rule; for a system with noise of its own, inject nothing."""
    decor_lr: float | None = None
    """Rate of decorrelation, for rules with a leading d. Unset: tuned per rule."""
    resamples: int = 1
    """K, noisy passes per reference pass (per layer for inp)."""
    intrinsic_noise: float | None = None
    """Standard deviation of the system's own noise at every node, in units of the activities;
    it can be neither read nor switched off. Unset: the system's own default."""
    seed: int = 0
    """Of the initial weights, the order of examples, and all noise."""
    noise: str | None = None
    """Distribution of the injected noise: gaussian, rademacher or uniform. Unset: gaussian,
    rademacher for spsa."""
    scaling: str = "count"
    """Of the rules that divide by ‖δa‖²: count (N/‖δa‖²), root (√N/‖δa‖²), variance (1/σ²)."""
    decor_variant: str = "offdiag"
    """Update of the decorrelation: offdiag, kappa, kappa-rows or rescaled."""
    demean: bool = False
    """Subtract the running mean of every layer's input before decorrelating it."""
    decor_rows: int = 256
    """Examples (or patches), at most, from which one update of the decorrelation is computed."""
    slope: float = 0.2
    """Of the LeakyReLU for negative activities."""
    init: str = "he"
    """Initial weights, normal: he, lecun or xavier; biases are zero."""
    output_scale: float = 1.0
    """Factor on the output layer's initial weights."""
    optimiser: str = "adam"
    """adam or sgd."""
    schedule: str = "cosine"
    """Of both rates over the run: cosine (down to 0) or constant."""
    final_fit: bool = False
    """Train on all examples, with none kept back for validation."""
    device: str = "auto"
    """auto, cpu or cuda."""
    dtype: str = "float32"
    """float32, float64 or bfloat16."""
    threads: int = 0
    """CPU threads; bits are reproducible at an equal number. 0: PyTorch's own choice."""
    data_dir: str | None = None
    """Folder with the task's files. Unset: those that come with the package."""


def resolve(config: Config) -> Config:
    """Fill in what was left open, and refuse what cannot be.

    Raises:
        InputError: one line that names every setting that is wrong.

    >>> resolve(Config(system="mlp", rule="danp")).decor_lr
    0.001
    >>> resolve(Config(rule="amp"))
    Traceback (most recent call last):
    ...
    noisynets.errors.InputError: unknown rule 'amp': did you mean 'anp'? Known: anp, bp, danp, \
dbp, dinp, dnp, inp, np, spsa, wp
    """
    _check_names(config)
    system, method = SYSTEMS[config.system], METHODS[config.rule]
    own = system.intrinsic_noise if config.intrinsic_noise is None else config.intrinsic_noise
    intrinsic = own > 0 and method.perturbs == "nodes"
    filled = replace(
        config,
        hidden=system.hidden if config.hidden is None else tuple(config.hidden),
        intrinsic_noise=own,
        lr=method.lr if config.lr is None else config.lr,
        sigma=(None if intrinsic else method.sigma) if config.sigma is None else config.sigma,
        decor_lr=method.decor_lr if config.decor_lr is None else config.decor_lr,
        noise=method.noise if config.noise is None else config.noise,
        device=_device(config.device),
    )
    problems = list(_problems(filled))
    if problems:
        raise InputError("; ".join(problems))
    return filled


def seeds(config: Config) -> dict[str, int]:
    """Independent seeds for the weights, the system's noise, the injected noise and the order."""
    names = ("weights", "system", "injection", "order")
    states = np.random.SeedSequence(config.seed).generate_state(len(names))
    return {name: int(state) for name, state in zip(names, states, strict=True)}


def _check_names(config: Config) -> None:
    for kind, name, known in (
        ("task", config.task, TASKS),
        ("system", config.system, SYSTEMS),
        ("rule", config.rule, METHODS),
        ("noise", config.noise or "gaussian", SAMPLERS),
        ("scaling", config.scaling, SCALINGS),
        ("decorrelation variant", config.decor_variant, VARIANTS),
        ("initialisation", config.init, INITIALISATIONS),
        ("optimiser", config.optimiser, OPTIMISERS),
        ("schedule", config.schedule, SCHEDULES),
        ("device", config.device, ("auto", "cpu", "cuda")),
        ("dtype", config.dtype, DTYPES),
    ):
        if name not in known:
            raise unknown(kind, name, known)


def _problems(c: Config) -> Iterator[str]:
    at_least = {"epochs": 1, "batch_size": 1, "resamples": 1, "decor_rows": 1}
    at_least |= {"seed": 0, "threads": 0}
    for name, least in at_least.items():
        if getattr(c, name) < least:
            yield f"--{name.replace('_', '-')} {getattr(c, name)} must be at least {least}"
    for name in ("lr", "sigma", "output_scale"):
        value = getattr(c, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            yield f"--{name.replace('_', '-')} {value:g} must be positive and finite"
    for name in ("decor_lr", "intrinsic_noise", "slope"):
        value = getattr(c, name)
        if not (math.isfinite(value) and value >= 0):
            yield f"--{name.replace('_', '-')} {value:g} must be finite and not negative"
    if any(width < 1 for width in c.hidden or ()):
        yield f"--hidden {' '.join(map(str, c.hidden or ()))}: every width must be at least 1"
    method = METHODS[c.rule]
    if c.decor_lr and not method.decor_lr:
        yield f"--decor-lr: rule {c.rule!r} does not decorrelate; use 'd{c.rule}'"
    if c.sigma is not None and method.perturbs == "nothing":
        yield f"--sigma: rule {c.rule!r} injects nothing; leave it out"
    if c.system == "noisy-mlp" and c.intrinsic_noise == 0:
        yield "--intrinsic-noise 0: noisy-mlp without noise is 'mlp'"


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: PyTorch sees no CUDA device; use cpu or auto")
    return name
