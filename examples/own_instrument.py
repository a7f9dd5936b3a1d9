"""A black box outside of PyTorch: an instrument that can only be programmed, driven and read.

    python examples/own_instrument.py

The instrument is simulated with NumPy, and could be the driver of real hardware. It multiplies
voltages by conductances, has unknown gains and offsets, saturates, and is noisy. It is trained from
two readings of every input, without a model of it, derivatives, or knowledge of its noise. The
layer's weights in PyTorch are the values to which the instrument is set.
"""

import numpy as np
import torch
from torch import Tensor, nn

from noisynets import NodePerturbation, Wrapper, cross_entropy
from noisynets.tasks import TASKS


class Instrument:
    """A crossbar with outputs 3 g tanh((W x + b + o)/3) + noise, in arbitrary units."""

    def __init__(self, outputs: int, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._gain = self._rng.normal(1, 0.3, outputs)
        self._offset = self._rng.normal(0, 0.3, outputs)

    def set(self, weights: np.ndarray, bias: np.ndarray) -> None:
        """Set conductances W (outputs, inputs) and bias currents b (outputs,)."""
        self._weights, self._bias = weights.copy(), bias.copy()

    def read(self, voltages: np.ndarray) -> np.ndarray:
        """Apply voltages x (n, inputs) and return noisy readings (n, outputs)."""
        currents = voltages @ self._weights.T + self._bias + self._offset
        clean = self._gain * 3 * np.tanh(currents / 3)
        return clean + self._rng.normal(0, 0.1, clean.shape)


class OnInstrument(Wrapper):
    """A layer whose output is read from an instrument that is set to the layer's parameters."""

    def __init__(self, layer: nn.Linear, seed: int) -> None:
        super().__init__()
        self.layer = layer
        self.instrument = Instrument(layer.out_features, seed)

    def forward(self, x: Tensor) -> Tensor:
        """Set, drive and read the instrument: (R, inputs) → (R, outputs)."""
        weight, bias = (p.detach().numpy() for p in self.layer.parameters())
        self.instrument.set(weight, bias)
        return torch.from_numpy(self.instrument.read(x.numpy())).to(x)


def main(steps: int = 1100) -> float:
    """Train on MNIST and return the instrument's accuracy on the validation set."""
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
    torch.set_num_threads(1)  # more threads do not help with tensors as small as these
    main()
