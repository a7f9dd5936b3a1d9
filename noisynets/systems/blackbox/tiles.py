"""The analog part of a simulated chip: products with distorted weights, and their read-out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from threadpoolctl import ThreadpoolController

from noisynets.core.seeds import salted
from noisynets.systems.blackbox.contract import Array, Layer, Weights


@dataclass(frozen=True)
class Distortions:
    """Sizes of the differences between a chip and its ideal model; drawn once per chip.

    Attributes:
        weight_spread: standard deviation of the relative error of each weight.
        stuck: share of weights that are 0, whatever value is programmed.
        gain_spread: standard deviation of the logarithm of each node's gain.
        offset_spread: standard deviation of each node's offset, in units of the activity.
        bits: of the converters of the activities; 0: no converter.
        bound: largest activity that the converters represent.
        read_noise: standard deviation of the noise added to each activity in each run, in units of
            the activity.
        drift: exponent ν: in trial n the weights are multiplied by (1 + n/1000)^−ν, as PCM drifts
            with time (aihwkit, `PCMLikeNoiseModel`).
    """

    weight_spread: float = 0.3
    stuck: float = 0.05
    gain_spread: float = 0.3
    offset_spread: float = 0.3
    bits: int = 6
    bound: float = 8.0
    read_noise: float = 0.1
    drift: float = 0.05

    @staticmethod
    def of(spread: float, read_noise: float = 0.1) -> Distortions:
        """Return distortions with one spread for weights, gains and offsets."""
        return Distortions(spread, 0.05, spread, spread, read_noise=read_noise)


PERFECT = Distortions(0, 0, 0, 0, bits=0, read_noise=0, drift=0)
"""A chip without any distortion."""


@cache
def _libraries() -> ThreadpoolController:
    """Find the libraries that compute matrix products, once per process."""
    return ThreadpoolController()


def trial_noise(seed: int, trial: int) -> np.random.Generator:
    """Return the random generator of a trial."""
    return np.random.Generator(np.random.SFC64(salted(seed, f"noise in trial {trial}")))


class Tiles:
    """One tile per layer: a = ADC(g ∘ ((W ∘ f) x + b) + o + noise), with f, g, o fixed per chip.

    Args:
        layers: their sizes.
        distortions: of the chip.
        chip: number of the chip, the seed of f, g and o.
    """

    def __init__(self, layers: Sequence[Layer], distortions: Distortions, chip: int) -> None:
        self.distortions = d = distortions
        fixed = np.random.default_rng([chip, 0])  # unsalted: a chip of this number stays the same
        self._factors, self._gains, self._offsets = [], [], []
        for n, m in layers:
            factor = 1 + d.weight_spread * fixed.standard_normal((m, n))
            factor[fixed.random((m, n)) < d.stuck] = 0
            self._factors.append(factor.astype(np.float32))
            gain = np.exp(d.gain_spread * fixed.standard_normal(m))  # gains are positive
            self._gains.append(gain.astype(np.float32))
            self._offsets.append((d.offset_spread * fixed.standard_normal(m)).astype(np.float32))

    def actual_weights(self, weights: Sequence[Weights], trial: int) -> list[Weights]:
        """Return the weights on the tiles in a trial, after weight errors and drift."""
        drift = np.float32((1 + trial / 1000) ** -self.distortions.drift)
        pairs = zip(weights, self._factors, strict=True)
        return [Weights(w.weight * factor * drift, w.bias) for w, factor in pairs]

    def product(self, actual: Weights, x: Array) -> Array:
        """Return W x + b for rows (R, n), on one thread: the bits depend on their number."""
        with _libraries().limit(limits=1, user_api="blas"):
            product: Array = x @ actual.weight.T + actual.bias
        return product

    def activity(self, layer: int, product: Array, noise: np.random.Generator) -> Array:
        """Apply gain, offset, noise and converter of a layer to its products (R, outputs)."""
        d = self.distortions
        a: Array = self._gains[layer] * product
        a += self._offsets[layer]
        if d.read_noise:
            drawn = noise.standard_normal(a.shape, dtype=np.float32)
            drawn *= np.float32(d.read_noise)
            a += drawn
        if d.bits:
            step = np.float32(2 * d.bound / (2**d.bits - 1))
            a /= step
            np.rint(a, out=a)
            a *= step
            np.clip(a, -d.bound, d.bound, out=a)
        return a
