"""Evolution strategies on a black box, with the sample-forwards of five epochs of forward pairs.

    python -m pip install evotorch
    python examples/box_evolution.py

EvoTorch's PGPE (Sehnke et al. 2010, with ClipUp) and SNES (Schaul et al. 2011) search all weights
of `numpy-box`. The loss of a candidate is taken over one batch, which is the same for all
candidates of a generation. Settings are chosen by validation accuracy on the first chip; the test
set is used once for each chip.
"""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass
from statistics import mean, stdev

import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from noisynets import cross_entropy
from noisynets.cli.parser import arguments
from noisynets.run.data import load_data, load_test
from noisynets.run.evaluate import evaluate
from noisynets.run.session import Session, build
from noisynets.run.settings import Config, resolve


@dataclass
class Example:
    """Settings of the comparison.

    Attributes:
        system: numpy-box or sign-numpy-box.
        chips: numbers of the chips.
        budget: sample-forwards of one run; 5 epochs of pairs take 550,000.
        rows: size of the batch of a generation.
        popsizes: numbers of candidates per generation to try.
        stdevs: initial standard deviations of the search distribution to try, in units of the
            weights.
    """

    system: str = "numpy-box"
    chips: tuple[int, ...] = (0, 1, 2)
    budget: int = 550_000
    rows: int = 200
    popsizes: tuple[int, ...] = (20, 50)
    stdevs: tuple[float, ...] = (0.01, 0.03)


def session_on(example: Example, chip: int) -> Session:
    """Build a session with the box, initialised as for all rules."""
    return build(
        resolve(
            Config(system=example.system, seed=chip, device_seed=chip, output_scale=0.1, threads=1)
        )
    )


def evolve(example: Example, name: str, chip: int, popsize: int, stdev_init: float) -> Session:
    """Search until the budget is used, then set the box to the centre of the distribution."""
    from evotorch import Problem
    from evotorch.algorithms import PGPE, SNES

    session = session_on(example, chip)
    train_set, _ = load_data(session.config)
    box, parameters = session.system, list(session.system.parameters())
    generator = torch.Generator().manual_seed(chip)
    drawn = {"index": torch.zeros(0, dtype=torch.long)}

    def loss(candidate: torch.Tensor) -> torch.Tensor:
        vector_to_parameters(candidate, parameters)
        x, y = train_set.batch(drawn["index"], torch.float32)
        return cross_entropy(box(x), y).mean()

    start = parameters_to_vector(parameters).detach().clone()
    problem = Problem("min", loss, solution_length=len(start), initial_bounds=None, seed=chip)
    if name == "pgpe":
        search = PGPE(
            problem,
            popsize=popsize,
            center_learning_rate=stdev_init / 2,
            stdev_learning_rate=0.1,
            stdev_init=stdev_init,
            center_init=start,
            optimizer="clipup",
            optimizer_config={"max_speed": stdev_init * 15},
        )
    else:
        search = SNES(problem, stdev_init=stdev_init, popsize=popsize, center_init=start)
    with torch.no_grad():
        for _ in range(example.budget // (popsize * example.rows)):
            drawn["index"] = torch.randint(len(train_set), (example.rows,), generator=generator)
            search.step()
        vector_to_parameters(search.status["center"], parameters)
    return session


def main(example: Example) -> dict[str, list[float]]:
    """Choose settings, compare the strategies and print a table."""
    found = {}
    print("| strategy | candidates | σ | test accuracy on the chip |\n|---|---|---|---|")
    for name in ("pgpe", "snes"):
        scores = {}
        for popsize, spread in itertools.product(example.popsizes, example.stdevs):
            session = evolve(example, name, example.chips[0], popsize, spread)
            _, validation = load_data(session.config)
            assert validation is not None
            scores[popsize, spread] = evaluate(session, validation)[1]
        popsize, spread = max(scores, key=scores.__getitem__)
        found[name] = []
        for chip in example.chips:
            session = evolve(example, name, chip, popsize, spread)
            found[name].append(100 * evaluate(session, load_test(session.config))[1])
        around = f" ± {stdev(found[name]):.2f}" if len(found[name]) > 1 else ""
        print(f"| {name} | {popsize} | {spread:g} | {mean(found[name]):.2f}{around} |", flush=True)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    logging.disable(logging.INFO)
    main(arguments(Example))
