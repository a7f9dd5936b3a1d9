"""Two simulated chips in NumPy, a perceptron and a spiking network, with hidden distortions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from noisynets.systems.blackbox.contract import Array, Layer, Measured, Reading, Weights
from noisynets.systems.blackbox.tiles import Distortions, Tiles, trial_noise


def _leaky(a: Array, slope: float) -> Array:
    return np.where(a > 0, a, slope * a).astype(np.float32)


def _sign(a: Array, slope: float) -> Array:
    return np.where(a >= 0, 1, -1).astype(np.float32)


UNITS: dict[str, Callable[[Array, float], Array]] = {"leaky": _leaky, "sign": _sign}


class NumpyChip:
    """A perceptron on a simulated chip.

    Args:
        widths: numbers of inputs and of the outputs of every layer.
        distortions: of the chip; None: the defaults of `Distortions`.
        unit: behind every hidden layer, a key of `UNITS`.
        slope: of leaky units for negative activities.
        chip: number of the chip, the seed of its fixed distortions.
        seed: of the noise in every run.

    >>> chip = NumpyChip((3, 2))
    >>> weights = [Weights(np.ones((2, 3), np.float32), np.zeros(2, np.float32))]
    >>> [layer], output = chip.run(weights, np.ones((5, 3), np.float32), trial=0)
    >>> layer.activities.shape, output, bool((layer.activities[0] == 3).all())
    ((5, 2), None, False)
    """

    def __init__(
        self,
        widths: Sequence[int],
        distortions: Distortions | None = None,
        *,
        unit: str = "leaky",
        slope: float = 0.2,
        chip: int = 0,
        seed: int = 0,
    ) -> None:
        self.layers = layers_of(widths)
        self._tiles = Tiles(self.layers, distortions or Distortions(), chip)
        self._unit, self._slope, self._seed = UNITS[unit], slope, seed

    def run(self, weights: Sequence[Weights], x: Array, trial: int) -> Reading:
        """Run one trial; see `Box`."""
        noise = trial_noise(self._seed, trial)
        measured: list[Measured] = []
        for i, actual in enumerate(self._tiles.actual_weights(weights, trial)):
            x = x if i == 0 else self._unit(measured[-1].activities, self._slope)
            a = self._tiles.activity(i, self._tiles.product(actual, x), noise)
            measured.append(Measured(x, a))
        return Reading(measured)


class SpikingChip:
    """A network of leaky integrate-and-fire neurons on a simulated chip.

    In every step u ← β u + a − θ s, with the spikes s of the previous step; s = 1 if u > θ. The
    inputs are constant currents, and the output is the mean potential of neurons that do not fire.
    Noise and converters act in every step. The measurements are means over the trial: of the spikes
    that enter a layer, and of its currents a.

    Args:
        widths: numbers of inputs and of the outputs of every layer.
        distortions: of the chip; None: the defaults of `Distortions`.
        steps: T of a trial.
        beta: β, decay factor of the potential per step.
        threshold: θ.
        chip: number of the chip, the seed of its fixed distortions.
        seed: of the noise in every run.

    >>> chip = SpikingChip((3, 4, 2))
    >>> weights = [Weights(np.ones((m, n), np.float32), np.zeros(m, np.float32))
    ...            for n, m in chip.layers]
    >>> (_, last), output = chip.run(weights, np.ones((5, 3), np.float32), trial=0)
    >>> last.inputs.shape, float(last.inputs.max()) <= 1, output.shape
    ((5, 4), True, (5, 2))
    """

    def __init__(
        self,
        widths: Sequence[int],
        distortions: Distortions | None = None,
        *,
        steps: int = 10,
        beta: float = 0.9,
        threshold: float = 1.0,
        chip: int = 0,
        seed: int = 0,
    ) -> None:
        self.layers = layers_of(widths)
        self._tiles = Tiles(self.layers, distortions or Distortions(), chip)
        self._steps, self._beta, self._threshold = steps, np.float32(beta), np.float32(threshold)
        self._seed = seed

    def run(self, weights: Sequence[Weights], x: Array, trial: int) -> Reading:
        """Run one trial; see `Box`."""
        noise = trial_noise(self._seed, trial)
        actual = self._tiles.actual_weights(weights, trial)
        first, last = self._tiles.product(actual[0], x), len(actual) - 1
        potentials = [np.zeros((len(x), m), np.float32) for _, m in self.layers]
        spikes = [np.zeros_like(u) for u in potentials]
        entered = [x * self._steps, *(np.zeros_like(s) for s in spikes[:-1])]
        currents = [np.zeros_like(u) for u in potentials]
        output = np.zeros_like(potentials[-1])
        for _ in range(self._steps):
            for i, u in enumerate(potentials):
                product = first if i == 0 else self._tiles.product(actual[i], spikes[i - 1])
                a = self._tiles.activity(i, product, noise)
                if i:
                    entered[i] += spikes[i - 1]
                currents[i] += a
                u *= self._beta
                u += a
                if i < last:
                    u -= self._threshold * spikes[i]
                    np.greater(u, self._threshold, out=spikes[i])
            output += potentials[-1]
        n = np.float32(self._steps)
        layers = [Measured(x / n, a / n) for x, a in zip(entered, currents, strict=True)]
        return Reading(layers, output / n)


def layers_of(widths: Sequence[int]) -> list[Layer]:
    """Return the layers of a chain with the given widths.

    >>> layers_of((784, 256, 10))
    [Layer(inputs=784, outputs=256), Layer(inputs=256, outputs=10)]
    """
    return [Layer(n, m) for n, m in zip(widths, widths[1:], strict=False)]
