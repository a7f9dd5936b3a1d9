"""A recurrent network that reads images row by row, trained without derivatives.

    python examples/recurrent.py

Each layer of the recurrence is called 28 times in a pass. Mirrored credit traces the operations
between the calls and propagates credit back through all of them, with linear maps learnt from pairs
of passes. It is compared with backpropagation through time, with backpropagation cut at every step,
with ANP, and with training of the read-out alone (`frozen`).
"""

import torch
from torch import Tensor, nn

from noisynets import Backpropagation, NodePerturbation, cross_entropy
from noisynets.tasks import TASKS


class RowReader(nn.Module):
    """h ← tanh(W x_t + V h) over the rows x_t of an image, then a linear read-out of h.

    Args:
        hidden: size of h.
        cut: stop gradients between time steps.
    """

    def __init__(self, hidden: int = 64, cut: bool = False) -> None:
        super().__init__()
        self.cut = cut
        self.row = nn.Linear(28, hidden)
        self.state = nn.Linear(hidden, hidden, bias=False)
        self.out = nn.Linear(hidden, 10)
        nn.init.orthogonal_(self.state.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 1, 28, 28) to outputs (B, 10)."""
        h = x.new_zeros(len(x), self.out.in_features)
        for row in x.squeeze(1).unbind(1):
            h = torch.tanh(self.row(row) + self.state(h.detach() if self.cut else h))
        return self.out(h)


def main(
    rule: str | None = "mirrored", cut: bool = False, steps: int = 1100, test: int = 2000
) -> float:
    """Train on batches of 100 images and return the accuracy on validation images.

    Args:
        rule: name of a rule; None: backpropagation.
        cut: stop backpropagation between time steps.
        steps: number of training steps.
        test: number of validation images.
    """
    torch.manual_seed(0)
    train_set, validation = TASKS["mnist"].training()
    assert validation is not None
    model = RowReader(cut=cut)
    if rule is None:
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
    name = (rule or "backpropagation") + (", cut at every step" if cut else "")
    print(f"{name}: validation accuracy {accuracy:.3f} after {steps} steps")
    return accuracy


if __name__ == "__main__":
    torch.set_num_threads(1)  # more threads do not help with tensors as small as these
    for rule, cut in (
        ("mirrored", False),
        (None, False),
        (None, True),
        ("anp", False),
        ("frozen", False),
    ):
        main(rule, cut)
