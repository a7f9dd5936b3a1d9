"""`measure`: all measurements of a diagnosis, after which the session's state is restored."""

from __future__ import annotations

import math

import torch
from torch import nn

from noisynets.core.nodes import find_nodes
from noisynets.diagnose.credit import Credit, credit
from noisynets.diagnose.gradients import is_surrogate
from noisynets.diagnose.ladder import RUNGS, ladder
from noisynets.diagnose.measures import Measures, NodeMeasures
from noisynets.diagnose.nodes import (
    RESAMPLES,
    NodeResponse,
    fit,
    learnt_maps,
    responses,
)
from noisynets.diagnose.pairs import Batches, PairSource, unchanged
from noisynets.diagnose.rates import trials
from noisynets.estimators.methods import METHODS
from noisynets.estimators.node_perturbation import NodePerturbation
from noisynets.rules.credit.mirror import has_mirror
from noisynets.rules.credit.products import as_map, has_product
from noisynets.run.session import Session, build
from noisynets.run.settings import DTYPES, Config
from noisynets.tasks.data import Examples

MIRROR_ROWS = 128
"""Largest number of rows from which a mirror learns in one update."""


def warmed(config: Config, examples: Examples, steps: int) -> tuple[Session, int]:
    """Build a session and train it for some steps, so that feedback has learnt something.

    Args:
        config: resolved settings.
        examples: training examples.
        steps: number of steps, at the full learning rate.

    Returns:
        The session, and the number of steps that it was trained for: 0, with a new session, if
        the steps led to weights that are not finite.
    """
    session = build(config)
    batches = Batches(session, examples, seed=2)
    for _ in range(steps):
        session.step_(*batches.draw(config.batch_size), 0.0)
    if all(bool(p.isfinite().all()) for p in session.system.parameters()):
        return session, steps
    return build(config), 0


def measure(
    session: Session,
    examples: Examples,
    *,
    steps: int = 0,
    trial_steps: int = 100,
    diverged: bool = False,
) -> Measures:
    """Measure a system under its rule on training batches; the session's state is restored.

    The cost is about 50 batches of the run's size, 7 batches of 200 samples with 5 passes, 13
    rungs of 400 samples with 3 passes if noise is injected, and the short runs.

    Args:
        session: session of a run, before, during or after training.
        examples: training examples.
        steps: number of training steps that the session has made.
        trial_steps: length of each of three short runs from the start; 0: no short runs.
        diverged: True if the run has diverged.
    """
    c = session.config
    noisy = bool(c.intrinsic_noise or c.device_preset != "none") and c.noise_during != "evaluation"
    noisy |= bool(c.membrane_noise) or c.firing != "threshold"
    with unchanged(session):
        batches = Batches(session, examples)
        source = PairSource(session, RESAMPLES)
        maps = fit(source, batches)
        # a first estimate puts the learnt state of a restored feedback into place
        if isinstance(session.estimator, NodePerturbation):
            x, y = batches.draw(c.batch_size)
            session.estimator.credit(session.encode(x, session.encoding), y)
        found = responses(session, source, batches, maps)
        made = credit(session, batches, maps, sends(session), noisy)
    nodes = _node_measures(session, found, made, steps)
    sigma = c.injected if METHODS[c.rule].perturbs != "nothing" else None
    eps = torch.finfo(DTYPES[c.dtype]).eps
    return Measures(
        config=c,
        steps=steps,
        nodes=tuple(nodes),
        loss=made.loss,
        dloss=made.dloss,
        rounding=eps * abs(made.loss) / made.dloss if made.dloss else None,
        explained=made.explained,
        explained_error=made.explained_error,
        surrogate=is_surrogate(session.system) and any(n.cosine is not None for n in nodes),
        reads_dloss=not sends(session) or METHODS[c.rule].taught_by_dloss,
        rungs=() if sigma is None else tuple(ladder(session, examples, sorted({*RUNGS, sigma}))),
        trials=tuple(trials(c, examples, trial_steps)),
        diverged=diverged,
        notes=tuple(session.notes()),
    )


def _node_measures(
    session: Session, found: dict[str, NodeResponse], made: Credit, steps: int
) -> list[NodeMeasures]:
    """Combine the measures of every node."""
    learns = learnt_maps(session) is not None
    nodes = []
    for node in find_nodes(session.system):
        response = found.get(node.name, NodeResponse())
        layer = node.product
        pairs = _pairs(session, layer, steps) if learns and has_mirror(layer) else None
        nodes.append(
            NodeMeasures(node.name, **made.nodes[node.name], **vars(response), pairs=pairs)
        )
    return nodes


def sends(session: Session) -> bool:
    """Return True if credit is computed from the error at the output, not from loss differences."""
    c = session.config
    method = METHODS[c.rule]
    plain = method.feedback and not method.from_dloss and not c.correction
    gives = isinstance(session.estimator, NodePerturbation)
    return gives and plain and c.loss_gradient == "known"


def _pairs(session: Session, layer: nn.Module, steps: int) -> float:
    """Return the number of rows from which a node's map has learnt, per input of the layer."""
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    c = session.config
    many = math.inf if weight.dim() > 2 else c.batch_size * c.resamples
    inputs = as_map(layer, weight).shape[-1] if has_product(layer) else 1
    return steps * min(many, MIRROR_ROWS) / inputs
