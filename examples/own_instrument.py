"""A black box outside PyTorch: an instrument that is set, driven and read, and nothing else.

    python examples/own_instrument.py

The instrument below is NumPy, and could be a driver of hardware: it multiplies voltages with
conductances, distorts them by gains and offsets of its own, saturates, and is noisy in every
reading. Two readings of every input train it: no model of it, no derivative, no knowledge of its
noise. What PyTorch holds is what the instrument is set to.
"""

import numpy as np
import torch
from torch import Tensor, nn

from noisynets import NodePerturbation, Wrapper, cross_entropy
from noisynets.tasks.data import TASKS


class Instrument:
    """Outputs of a crossbar, in arbitrary units: g tanh(W x + b + o) + noise."""

    def __init__(self, outputs: int, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._gain = self._rng.normal(1, 0.3, outputs)
        self._offset = self._rng.normal(0, 0.3, outputs)

    def set(self, weights: np.ndarray, bias: np.ndarray) -> None:
        """Program conductances (outputs, inputs) and bias currents (outputs,)."""
        self._weights, self._bias = weights.copy(), bias.copy()

    def read(self, voltages: np.ndarray) -> np.ndarray:
        """Drive with voltages (n, inputs); return noisy readings (n, outputs)."""
        currents = voltages @ self._weights.T + self._bias + self._offset
        clean = self._gain * 3 * np.tanh(currents / 3)
        return clean + self._rng.normal(0, 0.1, clean.shape)


class OnInstrument(Wrapper):
    """A layer whose product an instrument carries out; the layer holds what that is set to."""

    def __init__(self, layer: nn.Linear, seed: int) -> None:
        super().__init__()
        self.layer = layer
        self.instrument = Instrument(layer.out_features, seed)

    def forward(self, x: Tensor) -> Tensor:
        """Set, drive, read: (R, inputs) → (R, outputs)."""
        weight, bias = (p.detach().numpy() for p in self.layer.parameters())
        self.instrument.set(weight, bias)
        return torch.from_numpy(self.instrument.read(x.numpy())).to(x)


def main(steps: int = 1100) -> float:
    """Train on MNIST; return the accuracy of the instrument on the validation set."""
    torch.manual_seed(0)
    train_set, validation = TASKS["mnist"].training()
    assert validation is not None
    model = nn.Sequential(
        nn.Flatten(),
        OnInstrument(nn.Linear(784, 64), seed=1),
        nn.ReLU(),
        OnInstrument(nn.Linear(64, 10), seed=2),
    )
    estimator = NodePerturbation(model, cross_entropy, rule="mirrored", sigma=None)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, betas=(0.9, 0.99))
    for index in torch.randint(len(train_set), (steps, 100)):
        optimizer.zero_grad()
        estimator(*train_set.batch(index, torch.float32))
        optimizer.step()
    x, y = validation.batch(slice(None), torch.float32)
    with torch.no_grad():
        accuracy = float((model(x).argmax(1) == y).float().mean())
    print(f"after {steps} steps: validation accuracy {accuracy:.3f}")
    return accuracy


if __name__ == "__main__":
    torch.set_num_threads(1)  # tensors this small gain nothing from more
    main()
