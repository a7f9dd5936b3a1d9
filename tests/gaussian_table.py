"""Exact Gaussian noise and `gaussian-table` compared: draws, estimates, trained networks, steps.

    python tests/gaussian_table.py              # all four tables, on one thread; some minutes
    python tests/gaussian_table.py draws steps  # those named

In every comparison only the sampler differs: the weights, batches and order of examples are equal,
and the two take turns. docs/notes/speed.md has the tables.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, median, quantiles, stdev

import torch
from torch import Tensor

from noisynets.bench.speed import Size
from noisynets.bench.steps import Step, training
from noisynets.core.noise import SAMPLERS, generator
from noisynets.run.session import build
from noisynets.run.settings import Config, resolve
from noisynets.run.train import finished, load_data

EXACT, TABLE = "gaussian", "gaussian-table"
PERCEPTRON = Config(system="mlp", hidden=(256, 256), batch_size=300, threads=1, device="cpu")
"""With draws of 76,800 numbers in each hidden layer, which come from the table."""
CONVOLUTIONS = replace(PERCEPTRON, system="conv", hidden=(32, 64, 128), batch_size=128)
SIZES = (1_000, 6_400, 25_600, 2**16, 2**18, 2**20)
BATCHES, SEEDS, TURNS = 200, (0, 1, 2), Size().turns


def draws() -> Iterator[str]:
    """Processor time of a number, in pieces of different sizes."""
    yield "| numbers at once | gaussian, ns each | gaussian-table, ns each |"
    yield "|---|---|---|"
    like, drawn_by = torch.zeros(()), generator(0, "timing")
    for size in SIZES:
        times: dict[str, list[float]] = {EXACT: [], TABLE: []}
        for _ in range(max(30, 2**22 // size)):
            for name, found in times.items():
                start = time.thread_time()
                SAMPLERS[name]((size,), like, drawn_by)
                found.append(1e9 * (time.thread_time() - start) / size)
        yield f"| {size:,} | {median(times[EXACT]):.2f} | {median(times[TABLE]):.2f} |"


def estimates() -> Iterator[str]:
    """Estimates ĝ from equal batches with equal weights, against the gradient g by autograd.

    Differences and ratios are those of gaussian-table to gaussian, ± one standard error. g·ĝ/g·g is
    1 on average for an unbiased estimate; ‖ĝ‖² is almost all variance.
    """
    yield "| network, rule | cosine, gaussian | its difference | that of g·ĝ/g·g | ratio of ‖ĝ‖² |"
    yield "|---|---|---|---|---|"
    for name, config in (("784-256-256-10", PERCEPTRON), ("convolutions", CONVOLUTIONS)):
        for rule in ("np", "anp", "mirrored"):
            n = BATCHES if config is PERCEPTRON else BATCHES // 5
            found = [
                pair
                for seed in SEEDS
                for pair in compared(replace(config, rule=rule, seed=seed), n)
            ]
            exact, table = torch.tensor(found, dtype=torch.float64).unbind(1)
            cells = [f"{float(exact[:, 0].mean()):.4f}"]
            for values in ((table - exact)[:, 0], (table - exact)[:, 1]):
                cells.append(f"{float(values.mean()):+.4f} ± {error(values):.4f}")
            ratios = (table[:, 2] / exact[:, 2]).log()
            cells.append(f"{math.exp(float(ratios.mean())):.4f} ± {error(ratios):.4f}")
            yield f"| {name}, {rule} | {' | '.join(cells)} |"


def compared(config: Config, batches: int) -> Iterator[tuple[list[float], list[float]]]:
    """Yield (cosine, g·ĝ/g·g, ‖ĝ‖²) of an estimate with either sampler, batch by batch."""
    sessions = [build(resolve(replace(config, noise=noise))) for noise in (EXACT, TABLE)]
    examples, _ = load_data(sessions[0].config)
    drawn_by = generator(0, "batches")
    for _ in range(batches):
        index = torch.randint(len(examples), (config.batch_size,), generator=drawn_by)
        x, y = examples.batch(index, torch.float32)
        first = sessions[0]
        first.task.measure.loss(first.system(x), y).mean().backward()
        g = taken(first.system)
        found = []
        for session in sessions:
            session.estimator(x, y)
            estimate = taken(session.system)
            cosine = torch.cosine_similarity(estimate, g, 0)
            values = (cosine, g @ estimate / g.square().sum(), estimate.square().sum())
            found.append([float(value) for value in values])
        yield found[0], found[1]


def taken(system: torch.nn.Module) -> Tensor:
    """Return all gradients in one vector, and clear them."""
    found = torch.cat([p.grad.flatten() for p in system.parameters() if p.grad is not None])
    system.zero_grad()
    return found


def error(values: Tensor) -> float:
    """Standard error of the mean."""
    return float(values.std()) / len(values) ** 0.5


def runs() -> Iterator[str]:
    """Validation accuracy of trained networks, seed by seed."""
    yield "| rule | gaussian | gaussian-table | difference by seed |"
    yield "|---|---|---|---|"
    with tempfile.TemporaryDirectory() as out:
        for rule in ("np", "anp", "mirrored"):
            scores: dict[str, list[float]] = {EXACT: [], TABLE: []}
            for seed in SEEDS:
                for noise, found in scores.items():
                    config = replace(PERCEPTRON, rule=rule, noise=noise, seed=seed)
                    config = resolve(replace(config, epochs=3, test=False))
                    summary = finished(Path(out) / f"{rule}-{noise}-{seed}", config)
                    found.append(100 * summary["val_accuracy"])
            each = [b - a for a, b in zip(*scores.values(), strict=True)]
            cells = [f"{mean(found):.2f} ± {stdev(found):.2f}" for found in scores.values()]
            yield f"| {rule} | {' | '.join(cells)} | {', '.join(f'{d:+.2f}' for d in each)} |"


def steps() -> Iterator[str]:
    """Processor time of training steps relative to backpropagation's, and to each other.

    Medians of paired ratios, first and third quartile in brackets. Unlike the time of `noisynets
    bench speed`, processor time leaves out what other programs on the machine take.
    """
    yield "| step | gaussian / bp | gaussian-table / bp | gaussian-table / gaussian |"
    yield "|---|---|---|---|"
    size = Size()
    wide = replace(PERCEPTRON, task="cifar10", hidden=(size.wide,) * 3, batch_size=size.batch)
    cases = {
        "anp, 784-256-256-10, batch 300": PERCEPTRON,
        "mirrored, 784-256-256-10, batch 300": PERCEPTRON,
        "anp, convolutions, batch 128": replace(CONVOLUTIONS, task="cifar10"),
        "anp, 3072-1024³-10, batch 1000": wide,
    }
    for name, config in cases.items():
        rule, taught = name.split(",")[0], size.taught if name.startswith("mirrored") else 0
        made = {
            noise: training(replace(config, rule=rule, noise=noise), taught)
            for noise in (EXACT, TABLE)
        }
        bp = training(replace(config, rule="bp", noise=None))
        pairs = ((made[EXACT], bp), (made[TABLE], bp), (made[TABLE], made[EXACT]))
        cells = []
        for one, other in pairs:
            low, middle, high = quantiles(ratios(one, other), n=4, method="inclusive")
            cells.append(f"{middle:.2f} ({low:.2f}..{high:.2f})")
        yield f"| {name} | {' | '.join(cells)} |"


def ratios(one: Step, other: Step) -> list[float]:
    """Return ratios of the processor times of two steps, which take turns."""
    found = []
    for turn in range(-2, TURNS):
        spent = {}
        for step in (one, other) if turn % 2 else (other, one):
            start = time.thread_time()
            step()
            spent[step] = time.thread_time() - start
        if turn >= 0:
            found.append(spent[one] / spent[other])
    return found


PARTS: dict[str, Callable[[], Iterator[str]]] = {
    "draws": draws,
    "estimates": estimates,
    "runs": runs,
    "steps": steps,
}


def main(names: Sequence[str]) -> None:
    """Print the tables of the names."""
    torch.set_num_threads(1)
    for name in names or PARTS:
        print(f"\n{PARTS[name].__doc__}\n", flush=True)
        for line in PARTS[name]():
            print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
