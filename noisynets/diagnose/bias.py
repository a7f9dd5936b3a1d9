"""Bias of a rule: the cosine of the mean of N estimates with the gradient, against N.

The weights and what the rule has learnt stay as they are, and so does the batch; only the noise of
each estimate is another one. Noise falls with N, and the cosine of an unbiased rule rises to 1.
Bias stays: the curve of a biased rule levels off below 1. Momentum and Adam average estimates over
steps, and so do not undo a bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from noisynets.core.errors import InputError
from noisynets.core.nodes import find_nodes
from noisynets.core.types import Estimator
from noisynets.diagnose.gradients import of_weights, true_gradients
from noisynets.diagnose.pairs import Batches, unchanged
from noisynets.diagnose.statistics import cosine
from noisynets.estimators.methods import METHODS
from noisynets.run.session import Session
from noisynets.run.settings import Config, resolve
from noisynets.tasks.data import Examples

COUNTS = tuple(2**i for i in range(9))
"""N: 1 to 256."""
TEACHING = 300
"""Estimates on other batches from which the feedback of another rule than the run's own learns."""
TUNED = ("lr", "sigma", "decor_lr", "noise", "correction")
"""Settings of a run that belong to its rule."""
DRAWS = 64
"""Draws of the system's own noise, of which the gradient is a mean."""


@dataclass(frozen=True)
class Bias:
    """Cosines of one rule.

    Attributes:
        rule: its name.
        whole: of all layers in one vector, for every number in `COUNTS`.
        layers: of each layer, by its path.
    """

    rule: str
    whole: tuple[float, ...]
    layers: dict[str, tuple[float, ...]]


def bias(
    session: Session, examples: Examples, rules: Sequence[str], teaching: int = TEACHING
) -> list[Bias]:
    """Measure rules on the weights of a session, whose state is restored afterwards.

    The run's own rule is measured as it is. Any other first learns its feedback, with the settings
    that are tuned for it and the weights as they are.

    Args:
        session: of a run.
        examples: training examples.
        rules: names, as of `--rule`.
        teaching: estimates from which other rules learn.

    Raises:
        InputError: for a rule that is unknown or does not fit the system, or if no layer has a
            gradient to compare with.
    """
    return [_of_rule(session, examples, rule, teaching) for rule in dict.fromkeys(rules)]


def _of_rule(session: Session, examples: Examples, rule: str, teaching: int) -> Bias:
    with unchanged(session):
        own = rule == session.config.rule
        estimator = session.estimator if own else _other(session, rule)
        batches = Batches(session, examples, seed=4)
        size = session.config.batch_size
        for _ in range(0 if own else teaching):
            x, y = batches.draw(size)
            estimator(session.encode(x, session.encoding), y)
        x, y = Batches(session, examples, seed=5).draw(size)
        x = session.encode(x, session.encoding)
        loss = session.task.measure.loss
        nodes = find_nodes(session.system)
        found = true_gradients(session.system, nodes, loss, x, y, DRAWS)
        true = {name: g for name, g in found.items() if g is not None}
        if not true:
            raise InputError(f"--bias {rule}: no layer has a gradient to compare with")
        return Bias(rule, *_curves(session, estimator, x, y, true))


def _other(session: Session, rule: str) -> Estimator:
    """Return the estimator of another rule, with the settings that are tuned for it."""
    method, plain = METHODS[rule], Config()
    if method.reads_weight_changes or method.decor_lr:
        raise InputError(f"--bias {rule}: it learns while weights change, which stay here")
    unset = {name: getattr(plain, name) for name in TUNED}
    config = resolve(replace(session.config, rule=rule, **unset))
    return method.make(session.system, session.task.measure.loss, config)


def _curves(
    session: Session, estimator: Estimator, x: Tensor, y: Tensor, true: dict[str, Tensor]
) -> tuple[tuple[float, ...], dict[str, tuple[float, ...]]]:
    """Return the cosines for every number of estimates: of all layers, and of each."""
    nodes = [node for node in find_nodes(session.system) if node.name in true]
    sums = {name: torch.zeros_like(g, dtype=torch.float64) for name, g in true.items()}
    learnt = estimator.state()
    whole: list[float] = []
    layers: dict[str, list[float]] = {name: [] for name in true}
    for n in range(1, COUNTS[-1] + 1):
        session.system.zero_grad()
        if "stream" in learnt:  # other noise, and the same feedback
            learnt = learnt | {"stream": estimator.state()["stream"]}
        estimator.restore(learnt)
        estimator(x, y)
        for node in nodes:
            g = of_weights(node)
            if g is not None:
                sums[node.name] += g
        if n in COUNTS:
            for name, g in true.items():
                layers[name].append(cosine(sums[name][None], g) or 0.0)
            joined = torch.cat([sums[name] for name in true])
            whole.append(cosine(joined[None], torch.cat(list(true.values()))) or 0.0)
    return tuple(whole), {name: tuple(found) for name, found in layers.items()}
