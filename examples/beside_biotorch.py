"""Random feedback of BioTorch and of this package, and mirrored credit, on the same networks.

    pip install --no-deps biotorch && python examples/beside_biotorch.py

The same initial weights, batches, optimiser and learning rate: MNIST, 784-64-64-10, 1000 steps of
100 examples, seeds 0, 1 and 2. Printed are the accuracy on 5,000 validation examples and the angle
between the estimate and the gradient in the first layer on a further batch, at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import mean, stdev

import torch
from torch import Tensor, nn

from noisynets import NodePerturbation, cross_entropy
from noisynets.tasks import TASKS
from noisynets.tasks.data import Examples

Step = Callable[[Tensor, Tensor], object]


def network(seed: int) -> nn.Sequential:
    """Return a perceptron 784-64-64-10."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 64),
        nn.LeakyReLU(0.2),
        nn.Linear(64, 64),
        nn.LeakyReLU(0.2),
        nn.Linear(64, 10),
    )


def ours(rule: str, seed: int) -> tuple[nn.Module, Step]:
    """Return a network and what adds an estimate to `.grad`."""
    model = network(seed)
    return model, NodePerturbation(model, cross_entropy, rule, seed=seed)


def biotorch(seed: int) -> tuple[nn.Module, Step]:
    """Return BioTorch's form of the network, which backpropagates through random weights."""
    from biotorch.module.biomodule import BioModule

    model = BioModule(network(seed), mode="fa")
    return model, lambda x, y: cross_entropy(model(x), y).mean().backward()


def weights(model: nn.Module) -> list[nn.Parameter]:
    """Return weights and biases, layer by layer, without BioTorch's random ones."""
    named = model.named_parameters()
    return [p for name, p in named if name.rpartition(".")[2] in ("weight", "bias")]


def first_gradient(model: nn.Module, step: Step, x: Tensor, y: Tensor) -> Tensor:
    """Return what a step adds to `.grad` of the first layer's weights, as a vector."""
    model.zero_grad()
    step(x, y)
    gradient = weights(model)[0].grad
    assert gradient is not None
    return gradient.flatten()


def result(model: nn.Module, step: Step, seed: int, steps: int) -> tuple[float, float]:
    """Train, and return accuracy and angle in degrees."""
    train_set, validation = TASKS["mnist"].training()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(seed)

    def draw(examples: Examples) -> tuple[Tensor, Tensor]:
        return examples.batch(torch.randint(len(examples), (100,), generator=generator), x.dtype)

    x, y = validation.batch(slice(5000), torch.float32)
    for _ in range(steps):
        optimizer.zero_grad()
        step(*draw(train_set))
        optimizer.step()
    with torch.no_grad():
        accuracy = float((model(x).argmax(1) == y).float().mean())
    plain, batch = network(seed), draw(train_set)
    with torch.no_grad():
        for mine, theirs in zip(plain.parameters(), weights(model), strict=True):
            mine.copy_(theirs)
    true = first_gradient(plain, lambda x, y: cross_entropy(plain(x), y).mean().backward(), *batch)
    cosine = torch.cosine_similarity(first_gradient(model, step, *batch), true, dim=0)
    return accuracy, math.degrees(math.acos(float(cosine.clamp(-1, 1))))


def main(steps: int = 1000, seeds: tuple[int, ...] = (0, 1, 2)) -> dict[str, list[float]]:
    """Print the table, and return accuracies by method."""
    methods: dict[str, Callable[[int], tuple[nn.Module, Step]]] = {
        "BioTorch, fa": biotorch,
        "noisynets, fa": lambda seed: ours("fa", seed),
        "noisynets, dfa": lambda seed: ours("dfa", seed),
        "noisynets, mirrored": lambda seed: ours("mirrored", seed),
    }
    found = {}
    for name, make in methods.items():
        results = [result(*make(seed), seed, steps) for seed in seeds]
        accuracies, angles = zip(*results, strict=True)
        spread = f" ± {100 * stdev(accuracies):.2f}" if len(seeds) > 1 else ""
        print(f"{name:20s} {100 * mean(accuracies):6.2f}{spread}   {mean(angles):3.0f}°")
        found[name] = list(accuracies)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
