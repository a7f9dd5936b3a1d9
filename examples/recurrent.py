"""A recurrent network that reads pictures row by row, trained through time without derivatives.

    python examples/recurrent.py

One layer is called 28 times in a pass. Mirrored credit finds by itself what lies between the calls
and sends credit back through all of them, by what pairs of passes taught about each layer. Beside
it: backpropagation through time, the same cut at every step (what credit misses that knows of no
time), a raw rule, and the read-out alone.
"""

import torch
from torch import Tensor, nn

from noisynets import Backpropagation, NodePerturbation, cross_entropy
from noisynets.tasks.data import TASKS


class RowReader(nn.Module):
    """h ← tanh(W x_t + V h) over the rows x_t of a picture; then a linear read-out of h."""

    def __init__(self, hidden: int = 64, cut: bool = False) -> None:
        super().__init__()
        self.cut = cut
        self.row = nn.Linear(28, hidden)
        self.state = nn.Linear(hidden, hidden, bias=False)
        self.out = nn.Linear(hidden, 10)
        nn.init.orthogonal_(self.state.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, 28, 28) → (B, 10)."""
        h = x.new_zeros(len(x), self.out.in_features)
        for row in x.squeeze(1).unbind(1):
            h = torch.tanh(self.row(row) + self.state(h.detach() if self.cut else h))
        return self.out(h)


def main(rule: str = "mirrored", steps: int = 1100, test: int = 2000) -> float:
    """Train for some steps of 100 pictures; return the accuracy on validation pictures.

    Args:
        rule: as `--rule` names it; 'bp', or 'bp, cut at every step'.
        steps: of training.
        test: pictures of the validation set.
    """
    torch.manual_seed(0)
    train_set, validation = TASKS["mnist"].training()
    assert validation is not None
    model = RowReader(cut="cut" in rule)
    if rule.startswith("bp"):
        estimator = Backpropagation(model, cross_entropy)
    else:
        estimator = NodePerturbation(model, cross_entropy, rule=rule, sigma=0.01)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        estimator(*train_set.batch(torch.randint(len(train_set), (100,)), torch.float32))
        optimizer.step()
    x, y = validation.batch(slice(test), torch.float32)
    with torch.no_grad():
        accuracy = float((model(x).argmax(1) == y).float().mean())
    print(f"{rule}: validation accuracy {accuracy:.3f} after {steps} steps")
    return accuracy


if __name__ == "__main__":
    torch.set_num_threads(1)  # tensors this small gain nothing from more
    for rule in ("mirrored", "bp", "bp, cut at every step", "anp", "frozen"):
        main(rule)
