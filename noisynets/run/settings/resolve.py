"""Resolving settings: fill in what is unset, and refuse what is impossible."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from noisynets.core.errors import InputError
from noisynets.core.values import check_names
from noisynets.estimators.methods import BEST, BEST_ACTING, METHODS
from noisynets.run.settings.optimisers import OPTIMISERS
from noisynets.run.settings.problems import check_config
from noisynets.run.settings.settings import UPDATE, Config
from noisynets.systems.catalogue import SYSTEMS
from noisynets.systems.pulses import UPDATES
from noisynets.systems.settings import NO_DEVICE
from noisynets.tasks.data import Task, find_task, located
from noisynets.tasks.environments import (
    ENVIRONMENTS,
    LR,
    SIGMA,
    WEIGHT_SIGMA,
    environment_task,
    is_environment,
)


def resolve(config: Config) -> Config:
    """Fill in what is unset, and refuse what is impossible.

    Raises:
        InputError: one line that names every setting that is wrong.

    >>> resolve(Config(system="mlp", rule="danp")).decor_lr
    0.0001
    >>> resolve(Config(rule="amp"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    noisynets.core.errors.InputError: unknown rule 'amp': did you mean 'anp'? Known: anp, ...
    """
    _check_paths(config)
    acting = is_environment(config.task)
    best = BEST_ACTING if acting else BEST
    config = replace(config, rule=best if config.rule == "best" else config.rule)
    check_names(config)
    task = task_of(config)
    system, method = SYSTEMS[config.system], METHODS[config.rule]
    own = system.intrinsic_noise if config.intrinsic_noise is None else config.intrinsic_noise
    preset = system.device_preset if config.device_preset is None else config.preset
    sigma = _sigma(config)
    given = sigma if config.sigma is None else config.sigma
    device = _device(config.device)
    filled = replace(
        config,
        task=located(config.task),
        hidden=system.hidden if config.hidden is None else tuple(config.hidden),
        intrinsic_noise=own,
        device_preset=preset or NO_DEVICE,
        lr=_lr(config, acting) if config.lr is None else config.lr,
        update=(config.update or UPDATE) if config.writes else config.update,
        sigma=given,
        decor_lr=method.decor_lr if config.decor_lr is None else config.decor_lr,
        adam_beta2=_beta2(config),
        weight_decay=OPTIMISERS[config.optimiser].decay
        if config.weight_decay is None
        else config.weight_decay,
        noise=_sampler(config, device) if given is not None else config.noise,
        decor_schedule=config.decor_schedule or config.schedule,
        **_time(config, task),
        device=device,
        env=tuple(config.env),
        data_dir=_absolute(config.data_dir),
        init_from=_absolute(config.init_from),
    )
    check_config(filled, task)
    return filled


def _sigma(config: Config) -> float | None:
    """Return the tuned σ of what is injected; None: nothing is.

    Raises:
        InputError: if it is to be measured, where nothing is injected.
    """
    system, method = SYSTEMS[config.system], METHODS[config.rule]
    own = system.intrinsic_noise if config.intrinsic_noise is None else config.intrinsic_noise
    preset = system.device_preset if config.device_preset is None else config.preset
    noisy = (own > 0 or preset is not None) and config.noise_during != "evaluation"
    sigma = method.sigma_in_noise if noisy else method.sigma
    if sigma and system.sigma and not noisy and method.perturbs == "nodes":
        sigma = system.sigma
    if is_environment(config.task) and sigma:
        sigma = SIGMA if method.perturbs == "nodes" else WEIGHT_SIGMA
    if config.sigma == "auto" and sigma is None and not method.injects:
        beside = f" beside the noise that {config.system} has of its own"
        where = "" if method.perturbs == "nothing" else beside
        raise InputError(f"--sigma auto: {config.rule!r} injects nothing{where}: leave it out")
    return sigma


def _check_paths(config: Config) -> None:
    for flag, path in (("--data-dir", config.data_dir), ("--init-from", config.init_from)):
        if path == "":
            raise InputError(f"{flag}: the path is empty")


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).absolute())


TABLE = "gaussian-table"
"""Sampler of noise injected at nodes on a CPU, where it is quicker than exact Gaussian noise.

docs/notes/speed.md compares estimates and trained networks with both.
"""


def _sampler(config: Config, device: str) -> str:
    """Return the distribution of the injected noise."""
    method = METHODS[config.rule]
    nodes = method.perturbs == "nodes" and not is_environment(config.task)
    quicker = nodes and (device, config.dtype) == ("cpu", "float32")
    return config.noise or (TABLE if quicker and method.noise == "gaussian" else method.noise)


def _lr(config: Config, acting: bool) -> float:
    """Return the learning rate where none is given."""
    if config.writes is not None:
        return UPDATES[config.update or UPDATE].lr
    return LR if acting else METHODS[config.rule].lr


def _beta2(config: Config) -> float | None:
    moments = OPTIMISERS[config.optimiser].moments and config.writes is None
    own = METHODS[config.rule].adam_beta2 if moments else None
    return own if config.adam_beta2 is None else config.adam_beta2


def task_of(config: Config) -> Task:
    """Return the task that settings name."""
    if is_environment(config.task):
        return environment_task(config.task, config.env, config.random_numbers)
    folder = None if config.data_dir is None else Path(config.data_dir)
    task = find_task(config.task, folder, ENVIRONMENTS, config.size)
    return task if task.with_context is None else task.with_context(config.context)


def _time(config: Config, task: Task) -> dict[str, Any]:
    """Fill in the settings of trials, of spiking systems."""
    if not SYSTEMS[config.system].spiking:
        return {}
    if task.world is not None:
        return {"steps": (task.steps or 5) if config.steps is None else config.steps}
    most = min(task.steps, 100)
    bins = next((n for n in range(most, most // 4, -1) if task.steps % n == 0), most)
    nodes = METHODS[config.rule].perturbs == "nodes"
    credit_over = ("steps" if task.steps else "trial") if nodes else None
    return {
        "steps": (bins or 10) if config.steps is None else config.steps,
        "encoder": config.encoder or ("frames" if task.steps else "current"),
        "credit_over": config.credit_over or credit_over,
    }


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: PyTorch sees no CUDA device; use cpu or auto")
    return name
