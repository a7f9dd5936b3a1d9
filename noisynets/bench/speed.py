"""Cost of training steps: ratios of times measured in one process, and memory of long trials.

Two steps are timed alternately and the ratio of every two timings is taken, so that other load on
the machine affects both. A ratio is reported as median and quartiles. As a lower bound a step is
also compared with the bare matrix products of its shapes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import quantiles

import torch

from noisynets.bench.steps import (
    ROUND,
    Step,
    autocast,
    by_snntorch,
    estimate_alone,
    memory,
    products,
    repeated,
    resampled,
    spiking,
    training,
)
from noisynets.bench.tracing import Traced, memories, networks
from noisynets.run.settings import Config


@dataclass(frozen=True)
class Size:
    """Sizes of what is timed.

    Attributes:
        wide: width of the hidden layers of the large perceptron.
        batch: its batch size.
        narrow: width of the hidden layers of the small perceptron.
        channels: channels of the convolutional network.
        spiking: neurons in the hidden layer of the spiking network.
        steps: T of its trials.
        long: T of the trials whose memory is measured.
        turns: timings of every step.
        taught: training steps before the timings, for rules that learn their feedback.
        batches: how many batches of 32 make one, where tracing is timed.
        gpt: width and T of the large network of which tracing is timed.
        blocks: width and T of the transformer whose steps are timed.
    """

    wide: int = 1024
    batch: int = 1000
    narrow: int = 256
    channels: tuple[int, ...] = (32, 64, 128)
    spiking: int = 1000
    steps: int = 25
    long: int = 100
    turns: int = 15
    taught: int = 208
    batches: tuple[int, ...] = (1, 4)
    gpt: tuple[int, int] = (256, 32)
    blocks: tuple[int, int] = (128, 64)


QUICK = Size(
    wide=32,
    batch=20,
    narrow=16,
    channels=(4,),
    spiking=20,
    steps=4,
    long=8,
    turns=2,
    taught=5,
    batches=(1,),
    gpt=(32, 8),
    blocks=(16, 8),
)
"""Small sizes, for a check that everything runs."""

CREDIT_OVER_TRIALS = (("anp", False), ("mirrored", True))
"""Rules that are timed on spiking networks; True: trained beforehand, as they learn feedback."""


DUST_DRAWS, DUST_TURNS = 16, 3
"""Of node perturbation by positions, whose steps are long: K, and timings at most."""


@dataclass(frozen=True)
class Ratio:
    """Cost of a step relative to another.

    Attributes:
        work: the step.
        against: the step with which it is compared.
        must: upper limit of the ratio that the project aims at; None: none.
        median: median of the ratios.
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
    """Time two steps alternately and return the quartiles of the ratios of their times.

    Args:
        one: step whose time is the numerator.
        other: step whose time is the denominator.
        turns: timings of each.
        warm: untimed calls of each beforehand.

    Returns:
        First quartile, median and third quartile.
    """
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


def speed(size: Size | None = None) -> Iterator[Ratio]:
    """Measure all ratios, one after another.

    Args:
        size: sizes of what is timed; None: the default ones.

    >>> next(speed(QUICK)).median > 0
    True
    """
    s = size or Size()
    yield from _of_networks(s)
    yield from _of_products(s)
    yield from _of_resamples(s)
    yield from _of_feedback(s)
    yield from of_transformers(s)
    yield from _of_trials(s)
    yield from _of_memory(s)
    yield from of_tracing(s)


def _timed(
    size: Size, work: str, against: str, must: float | None, one: Step, other: Step
) -> Ratio:
    """Return the ratio of two steps."""
    low, median, high = paired(one, other, size.turns)
    return Ratio(work, against, must, median, low, high)


def _wide(s: Size) -> Config:
    """Return the settings of the large perceptron."""
    hidden = (s.wide,) * 3
    return Config(task="cifar10", system="mlp", hidden=hidden, batch_size=s.batch, device="cpu")


def _small(s: Size) -> Config:
    """Return the settings of the small perceptron."""
    return Config(system="mlp", hidden=(s.narrow, s.narrow), device="cpu")


def _of_networks(s: Size) -> Iterator[Ratio]:
    """Compare steps of ANP with those of backpropagation, and the default of `noisynets train`."""
    batch = min(128, s.batch)
    conv = Config(task="cifar10", system="conv", hidden=s.channels, batch_size=batch, device="cpu")
    for name, config, must in (
        (f"perceptron 3072-{s.wide}³-10, batch {s.batch}", _wide(s), 1.10),
        (f"perceptron 784-{s.narrow}-{s.narrow}-10, batch 100", _small(s), 1.15),
        (f"4-layer convolutional net, batch {batch}", conv, 1.15),
    ):
        bp, anp = replace(config, rule="bp"), replace(config, rule="anp")
        other = training(bp)
        yield _timed(s, f"ANP step, {name}", "backpropagation", must, training(anp), other)
        for option, changed in (
            ("--noise rademacher", replace(anp, noise="rademacher")),
            ("--product-dtype bfloat16", replace(anp, product_dtype="bfloat16")),
        ):
            work = f"ANP step, {option}, {name}"
            yield _timed(s, work, "backpropagation", None, training(changed), other)
        work = f"backpropagation, bfloat16 by autocast, {name}"
        yield _timed(s, work, "backpropagation", None, autocast(training(bp)), other)
    default = Config(device="cpu")
    steps = training(default, s.taught), training(replace(default, rule="bp"))
    yield _timed(s, "`noisynets train` without arguments", "backpropagation", 1.0, *steps)


def _of_products(s: Size) -> Iterator[Ratio]:
    """Compare steps with their bare matrix products."""
    widths = (3072, *(s.wide,) * 3, 10)
    yield _timed(
        s,
        f"ANP on 3072-{s.wide}³-10 without optimiser and random numbers",
        "its bare matrix products",
        1.15,
        estimate_alone(widths, s.batch),
        products(widths, s.batch),
    )
    yield _timed(
        s,
        f"DANP step, perceptron 3072-{s.wide}³-10, batch {s.batch}",
        "its bare matrix products",
        1.25,
        training(replace(_wide(s), rule="danp")),
        repeated(products(widths, s.batch, rows=32), ROUND),
    )


def _of_resamples(s: Size) -> Iterator[Ratio]:
    """Compare one step with eight resamples with eight steps."""
    eight = resampled(s.narrow, 100, 8), repeated(resampled(s.narrow, 100, 1), 8)
    yield _timed(s, "K = 8 resamples", "8 steps", 0.7, *eight)


def _of_feedback(s: Size) -> Iterator[Ratio]:
    """Compare steps of rules with feedback with those of ANP."""
    for name, config in (
        (f"784-{s.narrow}-{s.narrow}-10, batch 100", _small(s)),
        (f"3072-{s.wide}³-10, batch {s.batch}", _wide(s)),
    ):
        anp = training(replace(config, rule="anp"))
        for rule, must in (("learned", 1.15), ("mirrored", 1.6)):
            own = training(replace(config, rule=rule), s.taught)
            yield _timed(s, f"{rule} credit, {name}", "ANP step", must, own, anp)


def of_transformers(size: Size | None = None) -> Iterator[Ratio]:
    """Compare steps on a GPT of two blocks, 512 tokens each, with those of backpropagation.

    Args:
        size: sizes of what is timed; None: the default ones.
    """
    s = size or Size()
    width, length = s.blocks
    config = Config(
        task="text",
        system="gpt",
        layers=2,
        width=width,
        heads=4,
        context=length,
        batch_size=8,
        optimiser="adamw",
        device="cpu",
    )
    other = training(replace(config, rule="bp"))
    most = memory(other)
    few = replace(s, turns=min(s.turns, DUST_TURNS))
    for rule, draws, taught, size in (
        ("mirrored", 1, s.taught, s),
        ("kolen-pollack", 1, s.taught, s),
        ("anp", 1, 0, s),
        ("dust", DUST_DRAWS, 0, few),
    ):
        own = training(replace(config, rule=rule, resamples=draws), taught)
        name = f"{rule}, K = {draws}, GPT of width {width}, 8 × {length} tokens"
        yield _timed(size, name, "backpropagation", None, own, other)
        yield Ratio(f"memory of {name}", "backpropagation", None, *(memory(own) / most,) * 3)


def _of_trials(s: Size) -> Iterator[Ratio]:
    """Compare steps on a spiking network with backpropagation through time by snnTorch."""
    for inputs, once in ((1, False), (1, True), (s.steps, False)):
        bptt = repeated(by_snntorch(s.spiking, s.steps, 128, inputs, once), ROUND)
        against = "BPTT through snnTorch" + (", first product computed once" if once else "")
        for rule, learns in CREDIT_OVER_TRIALS:
            taught = s.taught if learns else 0
            own = repeated(spiking(rule, s.spiking, s.steps, 128, inputs, taught), ROUND)
            name = f"{rule}, LIF 784-{s.spiking}-10, T = {s.steps}, batch 128"
            name += ", a new input in every step" if inputs > 1 else ""
            yield _timed(s, name, against, None if once or inputs > 1 else 0.5, own, bptt)


def _of_memory(s: Size) -> Iterator[Ratio]:
    """Compare the memory of long trials with that of snnTorch and of shorter trials."""
    most = memory(by_snntorch(s.spiking, s.long, 128))
    for rule, _ in CREDIT_OVER_TRIALS:
        long = memory(spiking(rule, s.spiking, s.long, 128))
        short = memory(spiking(rule, s.spiking, s.long // 4, 128))
        name = f"memory of {rule} at T = {s.long}"
        yield Ratio(name, "BPTT through snnTorch", 0.33, *(long / most,) * 3)
        yield Ratio(name, f"the same at T = {s.long // 4}", 1.05, *(long / short,) * 3)


def of_tracing(size: Size | None = None) -> Iterator[Ratio]:
    """Compare what tracing adds to the passes with the whole steps, and what it keeps.

    Args:
        size: sizes of what is timed; None: the default ones.
    """
    s = size or Size()
    *small, large = networks(*s.gpt)
    for network, times in [*((n, t) for n in small for t in s.batches), (large, s.batches[0])]:
        traced = Traced(network, times)
        repeated(traced.steps, s.taught // ROUND)()
        name = f"{network.name}, batch {len(traced.x)}"
        shares = sorted(_share(traced) for _ in range(s.turns))
        low, median, high = quantiles(shares, n=4, method="inclusive")
        yield Ratio(f"tracing, {name}", "mirrored step", 0.15, median, low, high)
        if times == s.batches[0]:
            for what, ratio in memories(traced):
                work = f"operands kept in {what}, {name}"
                yield Ratio(work, "saved by autograd, same rows", 1.0, ratio, ratio, ratio)


def _share(traced: Traced) -> float:
    """Return the share of tracing in `ROUND` steps: traced minus untraced passes."""
    spent = []
    for work in (traced.passes, traced.untraced, traced.steps):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    with_trace, without, steps = spent
    return (with_trace - without) / steps


def markdown(ratios: Sequence[Ratio], threads: int) -> str:
    """Return a Markdown table of ratios.

    Args:
        ratios: rows of the table.
        threads: number of CPU threads that were used, for the heading.
    """
    lines = [
        f"Medians of paired ratios, first and third quartile in brackets; {threads} thread(s), "
        f"torch {torch.__version__}.",
        "",
        "| step | compared with | ratio | limit |",
        "|---|---|---|---|",
    ]
    for r in ratios:
        spread = f" ({r.low:.2f}..{r.high:.2f})" if r.low != r.high else ""
        must = "–" if r.must is None else f"≤ {r.must:g}"
        lines.append(f"| {r.work} | {r.against} | {r.median:.2f}{spread} | {must} |")
    return "\n".join([*lines, ""])
