"""Everything that a diagnosis measures, and a session left as it was."""

from __future__ import annotations

import math

import torch
from torch import nn

from noisynets.core.nodes import find_nodes
from noisynets.diagnose.credit import credit
from noisynets.diagnose.gradients import is_surrogate
from noisynets.diagnose.ladder import RUNGS, ladder
from noisynets.diagnose.listen import Batches, Listener, unchanged
from noisynets.diagnose.measures import Measures, NodeMeasures
from noisynets.diagnose.nodes import (
    RESAMPLES,
    Response,
    fit,
    learnt_maps,
    responses,
)
from noisynets.diagnose.rates import trials
from noisynets.estimators.methods import METHODS
from noisynets.estimators.node_perturbation import NodePerturbation
from noisynets.rules.credit.products import has_mirror
from noisynets.run.session import Session, build
from noisynets.run.settings import DTYPES, Config
from noisynets.tasks.data import Examples

MIRROR_ROWS = 128
"""That a mirror learns from in one update, at most."""


def warmed(config: Config, examples: Examples, steps: int) -> tuple[Session, int]:
    """Build a session and train it a little, so that feedback has something to say.

    Args:
        config: resolved.
        examples: to train on.
        steps: at the full learning rate.

    Returns:
        The session, and how many steps it has behind it: none if these left no finite weights.
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
    """Measure a system under its rule, on training batches; the session is left as it was.

    Args:
        session: of a run, at any moment.
        examples: to train on.
        steps: of training that the session has behind it.
        trial_steps: of each of three short runs from the start; 0: make none.
        diverged: whether the run has diverged.

    Cost: some 50 batches and 7 of 200 samples at 5 passes, 13 rungs of 400 samples at 3 passes
    where noise is injected, and the trials.
    """
    c = session.config
    noisy = bool(c.intrinsic_noise or c.device_preset != "none") and c.noise_during != "evaluation"
    noisy |= bool(c.membrane_noise) or c.firing != "threshold"
    with unchanged(session):
        batches = Batches(session, examples)
        listener = Listener(session, RESAMPLES)
        maps = fit(listener, batches)
        # what feedback has learnt is met, and so restored, in a first pass
        if isinstance(session.estimator, NodePerturbation):
            x, y = batches.draw(c.batch_size)
            session.estimator.credit(session.encode(x, session.encoding), y)
        heard = responses(session, listener, batches, maps)
        made = credit(session, batches, maps, sends(session), noisy)
    learns = learnt_maps(session) is not None
    nodes = []
    for node in find_nodes(session.system):
        response = heard.get(node.name, Response())
        layer = node.product
        pairs = _pairs(session, layer, steps) if learns and has_mirror(layer) else None
        nodes.append(
            NodeMeasures(
                node.name,
                **made.nodes[node.name],
                **vars(response),
                pairs=pairs,
            )
        )
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
    )


def sends(session: Session) -> bool:
    """Whether credit is made of the error at the output, and not of the loss differences."""
    c = session.config
    method = METHODS[c.rule]
    plain = method.feedback and not method.from_dloss and not c.correction
    gives = isinstance(session.estimator, NodePerturbation)
    return gives and plain and c.loss_gradient == "known"


def _pairs(session: Session, layer: nn.Module, steps: int) -> float:
    """Rows shown so far to a node's map, for each of its inputs."""
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    c = session.config
    many = math.inf if weight.dim() > 2 else c.batch_size * c.resamples
    return steps * min(many, MIRROR_ROWS) / weight[0].numel()
