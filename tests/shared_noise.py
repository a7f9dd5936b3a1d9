"""What noise that is shared by all nodes costs: the table of docs/how-to/warnings.md.

    python tests/shared_noise.py

A perceptron 8-20-20-3 with noise of standard deviation 0.1 at every activity, of which a share is
one number per row and pass for all nodes. Cosines, in the first layer, of the sum of 300 estimates
on one batch of 100 with the mean of 100 gradients by autograd; feedback learns for 100 steps
before. Takes about half a minute.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from noisynets import NodePerturbation, Noisy, cross_entropy

CASES = (("anp", None), ("innovation", None), ("np", 0.1), ("mirrored", None), ("mirrored", 0.3))
SHARES = (0.0, 0.5, 1.0)


class Supply(nn.Module):
    """Adds noise of which a share is the same for all nodes in a row."""

    def __init__(self, share: float, drawn: dict[str, Tensor]) -> None:
        super().__init__()
        self.share, self.drawn = share, drawn

    def forward(self, a: Tensor) -> Tensor:
        if "common" not in self.drawn:
            self.drawn["common"] = torch.randn(len(a), 1)
        common, own = self.share**0.5, (1 - self.share) ** 0.5
        return a + 0.1 * (common * self.drawn["common"] + own * torch.randn_like(a))


class Supplied(nn.Module):
    """A perceptron whose nodes have one supply."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.drawn: dict[str, Tensor] = {}
        sizes = zip((8, 20, 20), (20, 20, 3), strict=True)
        self.layers = nn.ModuleList(
            Noisy(nn.Linear(n, m), Supply(share, self.drawn)) for n, m in sizes
        )

    def forward(self, x: Tensor) -> Tensor:
        self.drawn.clear()
        for layer in self.layers[:-1]:
            x = torch.tanh(layer(x))
        return self.layers[-1](x)


def cosine(rule: str, sigma: float | None, share: float) -> float:
    """Cosine of a rule's estimate with the gradient, in the first layer."""
    torch.manual_seed(0)
    net = Supplied(share)
    x, y = torch.randn(100, 8), torch.randint(0, 3, (100,))
    estimator = NodePerturbation(net, cross_entropy, rule, sigma=sigma)
    for step in range(400):
        if step == 100:
            net.zero_grad()
        estimator(x, y)
    weight = next(net.parameters())
    found = weight.grad.clone()
    net.zero_grad()
    for _ in range(100):
        cross_entropy(net(x), y).mean().backward()
    return float(nn.functional.cosine_similarity(found.flatten(), weight.grad.flatten(), dim=0))


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # the shared noise is noted, of course
    torch.set_num_threads(1)
    for rule, sigma in CASES:
        row = [f"{cosine(rule, sigma, share):.2f}" for share in SHARES]
        print(f"| `{rule}`, {'none' if sigma is None else sigma} | {' | '.join(row)} |", flush=True)
