"""What training steps cost: paired timings in one process, and the memory of long trials.

Two steps are timed in turns; of every turn the ratio is taken, so that whatever else the machine
does hits both. A ratio stands with its quartiles. Products are counted as what a step cannot do
without: the bare matrix products of its shapes, written into memory that is there already.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from operator import sub
from statistics import quantiles
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from noisynets.core.losses import cross_entropy
from noisynets.core.noise import Injection
from noisynets.estimators.node_perturbation import NodePerturbation
from noisynets.rules import RULES, OverTrial
from noisynets.run.session import build
from noisynets.run.settings import Config, resolve
from noisynets.systems.spiking import Spiking, adapt

Step = Callable[[], object]


@dataclass(frozen=True)
class Size:
    """Sizes of the works; smaller ones only show that everything runs."""

    wide: int = 1024
    batch: int = 1000
    narrow: int = 256
    channels: tuple[int, ...] = (32, 64, 128)
    spiking: int = 1000
    steps: int = 25
    long: int = 100
    turns: int = 15
    taught: int = 208


QUICK = Size(
    wide=32, batch=20, narrow=16, channels=(4,), spiking=20, steps=4, long=8, turns=2, taught=5
)


@dataclass(frozen=True)
class Ratio:
    """What was measured.

    Attributes:
        work: what was done.
        against: what it is compared with.
        must: the ratio that is promised; None: nothing is.
        median: of the ratios.
        low: their first quartile.
        high: their third quartile.
    """

    work: str
    against: str
    must: float | None
    median: float
    low: float
    high: float


def paired(one: Step, other: Step, turns: int, warm: int = 2) -> tuple[float, float, float]:
    """Time two steps in turns; return the quartiles of their ratios (first, median, third)."""
    for _ in range(warm):
        one(), other()
    ratios = []
    for turn in range(turns):
        spent = {}
        for step in (one, other) if turn % 2 else (other, one):
            start = time.perf_counter()
            step()
            spent[step] = time.perf_counter() - start
        ratios.append(spent[one] / spent[other])
    low, median, high = quantiles(ratios, n=4, method="inclusive")
    return low, median, high


ROUND = 4
"""Steps that are timed at once: later on feedback learns in one of four."""


def training(config: Config, taught: int = 0) -> Step:
    """Return four training steps of what `noisynets train` would run, on random inputs.

    Args:
        config: settings.
        taught: steps that are done before: feedback learns at every step at first, later in turns.
    """
    session = build(resolve(config))
    generator = torch.Generator().manual_seed(0)
    shape = (config.batch_size, *session.task.input_shape)
    x = torch.rand(shape, generator=generator)
    y = torch.randint(session.task.classes, (config.batch_size,), generator=generator)
    for _ in range(taught):
        session.step_(x, y, 0.5)
    return repeated(lambda: session.step_(x, y, 0.5), ROUND)


def repeated(step: Step, times: int) -> Step:
    """Return several steps as one."""

    def steps() -> None:
        for _ in range(times):
            step()

    return steps


def autocast(step: Step) -> Step:
    """Return a step whose products are made in bfloat16 wherever PyTorch thinks that it is safe."""

    def in_bfloat16() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            step()

    return in_bfloat16


def products(widths: Sequence[int], batch: int, *, rows: int | None = None) -> Step:
    """Return the bare products of a step of ANP on a perceptron: passes, and gradients.

    The first layer is the same in both passes, where its input is not decorrelated: one product.

    Args:
        widths: of the inputs and of every layer.
        batch: B.
        rows: from which every layer's decorrelation learns; None: nothing is decorrelated.
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
    """Return an estimate of ANP on a perceptron, without optimiser and random numbers."""
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
    """Return a step of ANP with K resamples."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(784, width),
        nn.LeakyReLU(0.2),
        nn.Linear(width, width),
        nn.LeakyReLU(0.2),
        nn.Linear(width, 10),
    )
    estimator = NodePerturbation(net, cross_entropy, "anp", resamples=resamples)
    x, y = torch.rand(batch, 784), torch.randint(10, (batch,))
    return lambda: estimator(x, y)


def by_snntorch(width: int, steps: int, batch: int, inputs: int = 1, once: bool = False) -> Step:
    """Return a step of surrogate backpropagation through time, as snnTorch's tutorials do it.

    Args:
        width: of the hidden layer.
        steps: T.
        batch: B.
        inputs: that follow one another in a trial: 1, or T.
        once: a product of inputs that stay the same is not made again in every step.
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
    """Return a step of a rule on the same network, with credit over the trial.

    Args:
        rule: as `--rule` names it.
        width: of the hidden layer.
        steps: T.
        batch: B.
        inputs: that follow one another in a trial: 1, or T.
        taught: steps that are done before.
    """
    import snntorch

    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Linear(784, width), snntorch.Leaky(beta=0.9, init_hidden=True), nn.Linear(width, 10)
    )
    net = Spiking(adapt(layers), steps)
    injection = Injection(0.3, per_trial=True)
    estimator = NodePerturbation(
        net, cross_entropy, OverTrial(RULES[rule].make(0)), sigma=injection
    )
    optimiser = torch.optim.Adam(net.parameters(), fused=True)
    x, y = torch.rand(batch, inputs, 784), torch.randint(10, (batch,))

    def step() -> None:
        optimiser.zero_grad()
        estimator(x, y)
        optimiser.step()

    repeated(step, taught)()
    return step


def memory(step: Step) -> float:
    """MiB by which tensors grow within a step, at most; it begins by freeing old gradients."""
    step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = profiler.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    levels = list(accumulate((change for _, change in changes), initial=0))
    return max(map(sub, levels, accumulate(levels, min))) / 2**20


def speed(size: Size | None = None) -> Iterator[Ratio]:
    """Measure every work, one after the other.

    Args:
        size: of the works.

    >>> ratios = list(speed(QUICK))
    >>> all(ratio.median > 0 for ratio in ratios)
    True
    """
    s = size or Size()
    mlp = Config(
        task="cifar10", system="mlp", hidden=(s.wide,) * 3, batch_size=s.batch, device="cpu"
    )
    small = Config(system="mlp", hidden=(s.narrow, s.narrow), device="cpu")
    conv = Config(
        task="cifar10", system="conv", hidden=s.channels, batch_size=min(128, s.batch), device="cpu"
    )
    widths = (3072, *(s.wide,) * 3, 10)

    def of(config: Config, rule: str, **settings: Any) -> Config:
        return replace(config, rule=rule, **settings)

    def timed(work: str, against: str, must: float | None, one: Step, other: Step) -> Ratio:
        low, median, high = paired(one, other, s.turns)
        return Ratio(work, against, must, median, low, high)

    for name, config, must in (
        (f"perceptron 3072-{s.wide}³-10, batch {s.batch}", mlp, 1.10),
        (f"perceptron 784-{s.narrow}-{s.narrow}-10, batch 100", small, 1.15),
        (f"4-layer convolutional net, batch {conv.batch_size}", conv, 1.15),
    ):
        bp = training(of(config, "bp"))
        yield timed(f"ANP step, {name}", "backpropagation", must, training(of(config, "anp")), bp)
        for setting, value in (("noise", "rademacher"), ("product_dtype", "bfloat16")):
            work = f"ANP step, --{setting.replace('_', '-')} {value}, {name}"
            step = training(of(config, "anp", **{setting: value}))
            yield timed(work, "backpropagation", None, step, bp)
        work = f"backpropagation, bfloat16 by autocast, {name}"
        yield timed(work, "backpropagation", None, autocast(training(of(config, "bp"))), bp)
    default = Config(device="cpu")
    steps = training(default, s.taught), training(of(default, "bp"))
    yield timed("`noisynets train` without arguments", "backpropagation", 1.0, *steps)
    bare = products(widths, s.batch)
    yield timed(
        f"ANP on 3072-{s.wide}³-10 without optimiser and random numbers",
        "its bare matrix products",
        1.15,
        estimate_alone(widths, s.batch),
        bare,
    )
    yield timed(
        f"DANP step, perceptron 3072-{s.wide}³-10, batch {s.batch}",
        "its bare matrix products",
        1.25,
        training(of(mlp, "danp")),
        repeated(products(widths, s.batch, rows=32), ROUND),
    )
    eight = resampled(s.narrow, 100, 8), repeated(resampled(s.narrow, 100, 1), 8)
    yield timed("K = 8 resamples", "8 steps", 0.7, *eight)
    for name, config in (
        (f"784-{s.narrow}-{s.narrow}-10, batch 100", small),
        (f"3072-{s.wide}³-10, batch {s.batch}", mlp),
    ):
        anp = training(of(config, "anp"))
        for rule, must in (("learned", 1.15), ("mirrored", 1.6)):
            own = training(of(config, rule), s.taught)
            yield timed(f"{rule} credit, {name}", "ANP step", must, own, anp)
    for inputs, once in ((1, False), (1, True), (s.steps, False)):
        bptt = repeated(by_snntorch(s.spiking, s.steps, 128, inputs, once), ROUND)
        against = "BPTT through snnTorch" + (", inputs' product made once" if once else "")
        for rule in ("anp", "mirrored"):
            taught = s.taught if rule == "mirrored" else 0
            own = repeated(spiking(rule, s.spiking, s.steps, 128, inputs, taught), ROUND)
            name = f"{rule}, LIF 784-{s.spiking}-10, T = {s.steps}, batch 128"
            name += ", other inputs in every step" if inputs > 1 else ""
            yield timed(name, against, None if once or inputs > 1 else 0.5, own, bptt)
    most = memory(by_snntorch(s.spiking, s.long, 128))
    for rule in ("anp", "mirrored"):
        long = memory(spiking(rule, s.spiking, s.long, 128))
        short = memory(spiking(rule, s.spiking, s.long // 4, 128))
        name = f"memory of {rule} at T = {s.long}"
        yield Ratio(name, "BPTT through snnTorch", 0.33, *(long / most,) * 3)
        yield Ratio(name, f"the same at T = {s.long // 4}", 1.05, *(long / short,) * 3)


def markdown(ratios: Sequence[Ratio], threads: int) -> str:
    """Return a table of ratios."""
    lines = [
        f"Medians of paired ratios, first and third quartile in brackets; {threads} thread(s), "
        f"torch {torch.__version__}.",
        "",
        "| work | against | ratio | must |",
        "|---|---|---|---|",
    ]
    for r in ratios:
        spread = f" ({r.low:.2f}..{r.high:.2f})" if r.low != r.high else ""
        must = "–" if r.must is None else f"≤ {r.must:g}"
        lines.append(f"| {r.work} | {r.against} | {r.median:.2f}{spread} | {must} |")
    return "\n".join([*lines, ""])
