"""Node perturbation and evolution strategies with equal numbers of environment steps.

    python -m pip install evotorch
    python examples/act_evolution.py CartPole-v1 --budget 2e5 --seeds 0 1 2

A perceptron with 32 hidden units is trained from pairs of roll-outs, and by EvoTorch's PGPE and
SNES. At several fractions of the budget it is evaluated without noise in 100 new episodes, which
do not count as training steps. The table shows mean returns against training steps.
"""

import argparse
import logging
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from noisynets import RollOutPerturbation, negative_return
from noisynets.tasks.environments import Episodes

HIDDEN, MARKS = 32, (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
FRESH = torch.arange(1_000_000, 1_000_100)[:, None]
SETTINGS = {
    "np": [{"n": n, "sigma": 0.5, "lr": 0.02, "discount": 0.97} for n in (5, 10)],
    "pgpe": [{"n": n, "sigma": s, "lr": 0.5} for n, s in ((50, 0.1), (50, 0.3))],
    "snes": [{"n": n, "sigma": s} for n, s in ((50, 0.1), (50, 0.3))],
}
"""Settings of each algorithm; n is the number of pairs per update, or the population size."""


def perceptron(env: str, seed: int) -> nn.Sequential:
    """Build the network that all algorithms train, for the spaces of an environment."""
    (inputs,), outputs = Episodes(nn.Identity(), env).sizes
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(inputs, HIDDEN), nn.LeakyReLU(0.2), nn.Linear(HIDDEN, outputs))


class Population(nn.Module):
    """R perceptrons with different weights, one for each row: (R, n) → (R, m)."""

    def __init__(self, like: nn.Sequential) -> None:
        super().__init__()
        self.like = like
        self.weights = torch.empty(0)  # (R, number of weights)

    def forward(self, x: Tensor) -> Tensor:
        """Apply every row's perceptron to that row."""
        shapes = [p.shape for p in self.like.parameters()]
        flat = self.weights.split([shape.numel() for shape in shapes], 1)
        w1, b1, w2, b2 = (part.view(-1, *shape) for part, shape in zip(flat, shapes, strict=True))
        a = torch.baddbmm(b1[..., None], w1, x[..., None])
        return torch.baddbmm(b2[..., None], w2, self.like[1](a))[..., 0]


Run = Iterator[int]
"""Trains a model in place; yields the number of training steps so far after every update."""


def perturbed(model: nn.Sequential, env: str, seed: int, budget: float, **s: float) -> Run:
    """Train from pairs of roll-outs."""
    system, fresh = Episodes(model, env), torch.Generator().manual_seed(seed)
    estimator = RollOutPerturbation(
        system,
        negative_return,
        "innovation",
        sigma=s["sigma"],
        seed=seed,
        discount=s["discount"],
    )
    optimiser = torch.optim.Adam(model.parameters(), lr=s["lr"])
    while (steps := int(system.steps)) < budget:
        optimiser.param_groups[0]["lr"] = s["lr"] * (1 - steps / budget)
        optimiser.zero_grad()
        estimator(episodes(int(s["n"]), fresh), torch.zeros(int(s["n"])))
        optimiser.step()
        yield int(system.steps)


def evolved(model: nn.Sequential, env: str, seed: int, budget: float, **s: float) -> Run:
    """Evolve a population, one episode each per generation, by PGPE if `lr` is given, or SNES."""
    from evotorch import Problem
    from evotorch.algorithms import PGPE, SNES

    population, fresh = Population(model), torch.Generator().manual_seed(seed)
    system = Episodes(population, env)

    def returns(weights: Tensor) -> Tensor:
        population.weights = weights.float().clone()
        return system(episodes(len(weights), fresh))[:, 0]

    start = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    problem = Problem(
        "max", returns, solution_length=len(start), initial_bounds=(-1, 1), vectorized=True
    )
    shared = {"popsize": int(s["n"]), "stdev_init": s["sigma"], "center_init": start}
    if "lr" in s:
        rates = {"center_learning_rate": s["lr"], "stdev_learning_rate": 0.1}
        search = PGPE(problem, **shared, **rates)
    else:
        search = SNES(problem, **shared)
    torch.manual_seed(seed)
    while int(system.steps) < budget:
        search.step()
        centre = search.status["center"].float().clone()
        nn.utils.vector_to_parameters(centre, model.parameters())
        yield int(system.steps)


def episodes(n: int, fresh: torch.Generator) -> Tensor:
    """Draw seeds of n episodes, (n, 1), different from those of the evaluation."""
    return torch.randint(2 * 10**6, 2**31, (n, 1), generator=fresh)


def curve(kind: str, env: str, seed: int, budget: float, **s: float) -> list[float]:
    """Train, and return the mean return of 100 new episodes at each mark of the budget."""
    model = perceptron(env, seed)
    evaluated, found = Episodes(model, env).eval(), list[float]()
    run = perturbed if kind == "np" else evolved
    for steps in run(model, env, seed, budget, **s):
        while len(found) < len(MARKS) and steps >= MARKS[len(found)] * budget:
            found.append(float(evaluated(FRESH).mean()))
    return found


def main() -> None:
    """Compare the algorithms and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("env", nargs="?", default="CartPole-v1")
    parser.add_argument("--budget", type=float, default=2e5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", default=list(SETTINGS))
    given = parser.parse_args()
    print(f"| {given.env} | " + " | ".join(f"{m * given.budget:,.0f}" for m in MARKS) + " |")
    print("|---" * (1 + len(MARKS)) + "|")
    for kind in given.only:
        for s in SETTINGS[kind]:
            found = [curve(kind, given.env, seed, given.budget, **s) for seed in given.seeds]
            runs = torch.tensor(found)
            name = f"{kind} " + ", ".join(f"{key} {value:g}" for key, value in s.items())
            spread = runs.std(0) if len(runs) > 1 else torch.zeros(len(MARKS))
            both = zip(runs.mean(0), spread, strict=True)
            cells = [f"{mean:.0f} ± {std:.0f}" for mean, std in both]
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    logging.disable(logging.INFO)
    main()
