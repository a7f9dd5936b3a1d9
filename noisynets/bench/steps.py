"""Training steps to be timed: those of `noisynets train`, of snnTorch, and bare matrix products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from operator import sub

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from noisynets.core.losses import cross_entropy
from noisynets.core.noise import Injection
from noisynets.estimators.node_perturbation import NodePerturbation
from noisynets.rules import RULES, OverTrial
from noisynets.run.session import Session, build
from noisynets.run.settings import Config, resolve
from noisynets.systems.spiking import Spiking, adapt

Step = Callable[[], object]
"""A call that makes one or more training steps."""

NOISE = "gaussian-table"
"""What `noisynets train` injects on a CPU."""

ROUND = 4
"""Training steps in one timed call: rules with feedback make a pair for it in one step of four."""


def training(config: Config, taught: int = 0) -> Step:
    """Return `ROUND` training steps of `noisynets train` on random inputs.

    Args:
        config: settings, not necessarily resolved.
        taught: training steps made beforehand. Feedback learns at every step at first and in one
            step of four later.
    """
    session = build(resolve(config))
    x, y = _drawn(session, torch.Generator().manual_seed(0))
    for _ in range(taught):
        session.step_(x, y, 0.5)
    return repeated(lambda: session.step_(x, y, 0.5), ROUND)


def _drawn(session: Session, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw a batch: symbols and those to be predicted, or numbers and classes."""
    task, batch = session.task, session.config.batch_size
    if task.vocabulary:
        x, y = torch.randint(task.classes, (2, batch, *task.input_shape), generator=generator)
        return x, y
    x = torch.rand((batch, *task.input_shape), generator=generator)
    return x, torch.randint(task.classes, (batch,), generator=generator)


def repeated(step: Step, times: int) -> Step:
    """Return a step that makes `step` several times."""

    def steps() -> None:
        for _ in range(times):
            step()

    return steps


def autocast(step: Step) -> Step:
    """Return a step that runs under PyTorch's autocast to bfloat16."""

    def in_bfloat16() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            step()

    return in_bfloat16


def products(widths: Sequence[int], batch: int, *, rows: int | None = None) -> Step:
    """Return the bare matrix products of a step of ANP on a perceptron: passes and gradients.

    The products are written into existing memory. The first layer has the same input in both
    passes and needs one product for them, unless its input is decorrelated.

    Args:
        widths: number of inputs, then the width of every layer.
        batch: B.
        rows: rows from which every layer's decorrelation learns; None: no decorrelation.
    """
    jobs: list[tuple[Tensor, Tensor, Tensor]] = []
    for i, (n, m) in enumerate(zip(widths, widths[1:], strict=False)):
        passes = 1 if i == 0 else 2
        x, weight, a = (torch.randn(s) for s in ((passes * batch, n), (n, m), (passes * batch, m)))
        jobs += [(x, weight, a), (a[:batch].T, x[:batch], torch.empty(m, n))]
        if rows is not None:
            R, few = torch.randn(n, n), torch.randn(min(rows, batch), n)
            thin = torch.empty(len(few), n)
            jobs += [(x, R, torch.empty_like(x)), (few, R, thin), (few.T, thin, torch.empty(n, n))]

    def step() -> None:
        for one, other, out in jobs:
            torch.mm(one, other, out=out)

    return step


def estimate_alone(widths: Sequence[int], batch: int) -> Step:
    """Return an estimate of ANP on a perceptron, without optimiser and random numbers.

    Args:
        widths: number of inputs, then the width of every layer.
        batch: B.
    """
    torch.manual_seed(0)
    layers = [nn.Linear(n, m) for n, m in zip(widths, widths[1:], strict=False)]
    modules = [m for layer in layers for m in (layer, nn.LeakyReLU(0.2))][:-1]
    drawn: dict[tuple[int, ...], Tensor] = {}

    def ready(shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
        if tuple(shape) not in drawn:
            drawn[tuple(shape)] = torch.randn(tuple(shape))
        return drawn[tuple(shape)].clone()

    estimator = NodePerturbation(nn.Sequential(*modules), cross_entropy, "anp", noise=ready)
    x, y = torch.rand(batch, widths[0]), torch.randint(widths[-1], (batch,))
    return lambda: estimator(x, y)


def resampled(width: int, batch: int, resamples: int) -> Step:
    """Return an estimate of ANP on 784-width-width-10 with K resamples.

    Args:
        width: width of both hidden layers.
        batch: B.
        resamples: K.
    """
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(784, width),
        nn.LeakyReLU(0.2),
        nn.Linear(width, width),
        nn.LeakyReLU(0.2),
        nn.Linear(width, 10),
    )
    estimator = NodePerturbation(net, cross_entropy, "anp", resamples=resamples, noise=NOISE)
    x, y = torch.rand(batch, 784), torch.randint(10, (batch,))
    return lambda: estimator(x, y)


def by_snntorch(width: int, steps: int, batch: int, inputs: int = 1, once: bool = False) -> Step:
    """Return a step of surrogate backpropagation through time, written as in snnTorch's tutorials.

    Args:
        width: width of the hidden layer.
        steps: T.
        batch: B.
        inputs: number of different inputs in a trial: 1, or T.
        once: compute the first layer's product once for a constant input, not in every step.
    """
    import snntorch

    torch.manual_seed(0)
    first, last = nn.Linear(784, width), nn.Linear(width, 10)
    lif, out = snntorch.Leaky(beta=0.9), snntorch.Leaky(beta=0.9, reset_mechanism="none")
    optimiser = torch.optim.Adam([*first.parameters(), *last.parameters()], fused=True)
    x, y = torch.rand(batch, inputs, 784), torch.randint(10, (batch,))

    def step() -> None:
        u, potential = lif.init_leaky(), out.init_leaky()
        found, current = [], first(x[:, 0])
        for t in range(steps):
            if t and not once:
                current = first(x[:, t % inputs])
            spikes, u = lif(current, u)
            _, potential = out(last(spikes), potential)
            found.append(potential)
        optimiser.zero_grad()
        cross_entropy(torch.stack(found).mean(0), y).mean().backward()
        optimiser.step()

    return step


def spiking(
    rule: str, width: int, steps: int, batch: int, inputs: int = 1, taught: int = 0
) -> Step:
    """Return a step of a rule on the network of `by_snntorch`, with credit over the trial.

    Args:
        rule: name of the rule.
        width: width of the hidden layer.
        steps: T.
        batch: B.
        inputs: number of different inputs in a trial: 1, or T.
        taught: training steps made beforehand.
    """
    import snntorch

    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Linear(784, width), snntorch.Leaky(beta=0.9, init_hidden=True), nn.Linear(width, 10)
    )
    net = Spiking(adapt(layers), steps)
    over_trial = OverTrial(RULES[rule].make(0))
    injection = Injection(0.3, NOISE, per_trial=True)
    estimator = NodePerturbation(net, cross_entropy, over_trial, sigma=injection)
    optimiser = torch.optim.Adam(net.parameters(), fused=True)
    x, y = torch.rand(batch, inputs, 784), torch.randint(10, (batch,))

    def step() -> None:
        optimiser.zero_grad()
        estimator(x, y)
        optimiser.step()

    repeated(step, taught)()
    return step


def memory(step: Step) -> float:
    """Return by how much the memory of tensors grows within a step, at most, in MiB.

    Growth is counted from the lowest level before the peak.

    Args:
        step: a step that begins by freeing the gradients of the previous one.
    """
    step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = profiler.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    levels = list(accumulate((change for _, change in changes), initial=0))
    return max(map(sub, levels, accumulate(levels, min))) / 2**20
