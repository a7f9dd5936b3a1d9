"""Random feedback of BioTorch and of this package, and mirrored credit, on the same networks.

    pip install --no-deps biotorch && python examples/beside_biotorch.py

The same initial weights, batches, optimiser and learning rate: MNIST, 784-64-64-10, 1000 steps of
100 examples, seeds 0, 1 and 2. Printed are the accuracy on 5,000 validation examples at the end,
and the angle between estimate and gradient in the first layer, on one more batch, before training
and after 100, 300 and 1,000 steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import mean, stdev

import torch
from torch import Tensor, nn

from noisynets import NodePerturbation, cross_entropy
from noisynets.tasks import TASKS

Step = Callable[[Tensor, Tensor], object]
STEPS = (0, 100, 300, 1000)
"""After which the angle is measured; the last ends training."""


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


def angle(model: nn.Module, step: Step, x: Tensor, y: Tensor) -> float:
    """Return the angle between estimate and gradient in the first layer, in degrees."""
    plain = network(0)
    with torch.no_grad():
        for mine, theirs in zip(plain.parameters(), weights(model), strict=True):
            mine.copy_(theirs)
    true = first_gradient(plain, lambda x, y: cross_entropy(plain(x), y).mean().backward(), x, y)
    cosine = torch.cosine_similarity(first_gradient(model, step, x, y), true, dim=0)
    return math.degrees(math.acos(float(cosine.clamp(-1, 1))))


def result(
    model: nn.Module, step: Step, seed: int, moments: tuple[int, ...]
) -> tuple[float, list[float]]:
    """Train, and return accuracy and the angles after these numbers of steps."""
    train_set, validation = TASKS["mnist"].training()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(seed)

    def draw() -> tuple[Tensor, Tensor]:
        index = torch.randint(len(train_set), (100,), generator=generator)
        return train_set.batch(index, torch.float32)

    angles, judged = [], draw()
    for done in range(moments[-1] + 1):
        if done in moments:
            angles.append(angle(model, step, *judged))
        if done < moments[-1]:
            optimizer.zero_grad()
            step(*draw())
            optimizer.step()
    x, y = validation.batch(slice(5000), torch.float32)
    with torch.no_grad():
        accuracy = float((model(x).argmax(1) == y).float().mean())
    return accuracy, angles


def main(
    moments: tuple[int, ...] = STEPS, seeds: tuple[int, ...] = (0, 1, 2)
) -> dict[str, list[float]]:
    """Print the table, and return accuracies by method."""
    methods: dict[str, Callable[[int], tuple[nn.Module, Step]]] = {
        "BioTorch, fa": biotorch,
        "noisynets, fa": lambda seed: ours("fa", seed),
        "noisynets, dfa": lambda seed: ours("dfa", seed),
        "noisynets, mirrored": lambda seed: ours("mirrored", seed),
    }
    found = {}
    for name, make in methods.items():
        results = [result(*make(seed), seed, moments) for seed in seeds]
        accuracies, angles = zip(*results, strict=True)
        spread = f" ± {100 * stdev(accuracies):.2f}" if len(seeds) > 1 else ""
        turned = "".join(f"{mean(at):6.0f}°" for at in zip(*angles, strict=True))
        print(f"{name:20s} {100 * mean(accuracies):6.2f}{spread}   {turned}")
        found[name] = list(accuracies)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
