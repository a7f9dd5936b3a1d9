"""Noise on observations, actions and rewards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, Discrete, Space

from .channel import Channel, floats
from .checks import not_negative, positive, probability
from .types import Array, Values

REACH = 6.0
"""Number of σ by which a noisy channel widens a space. Signals beyond it are clipped, which happens
once in 5e8 draws."""


@dataclass(frozen=True)
class Gaussian(Channel):
    """y = x + σ z with z ~ N(0, 1), independent for every component and step.

    Args:
        sigma: σ, standard deviation in units of the signal, one number or one for each component.
            0.1, 0.2 and 0.3 are popgym's three levels for CartPole's observations.

    >>> Gaussian(0.5).space(Box(-1, 1, (2,)))
    Box(-4.0, 4.0, (2,), float32)
    """

    sigma: Values = 0.1
    overshoots: ClassVar[bool] = True

    def __post_init__(self) -> None:
        not_negative(self, sigma=self.sigma)

    def space(self, space: Space[Any]) -> Space[Any]:
        """Widen a box of floats by 6 σ."""
        return _widened(floats(self, space, sigma=self.sigma), self.sigma)

    def step(
        self, x: Array, state: Array, space: Space[Any], rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Add noise to the signal."""
        return x + _scale(self.sigma, x) * _normal(rng, x), state


@dataclass(frozen=True)
class OrnsteinUhlenbeck(Channel):
    """y = x + ξ, where ξ is an Ornstein-Uhlenbeck process: Gaussian noise correlated in time.

    ξ ← ρ ξ + σ √(1 − ρ²) z with ρ = exp(−1/τ), the exact solution over one step. Episodes start in
    the stationary state, with variance σ² and autocorrelation exp(−k/τ) over k steps.

    Args:
        sigma: σ, stationary standard deviation in units of the signal, one number or one for each
            component.
        tau: τ, correlation time in steps.

    Source: Gillespie, Physical Review E 54 (1996) 2084.
    """

    sigma: Values = 0.1
    tau: float = 10.0
    overshoots: ClassVar[bool] = True

    def __post_init__(self) -> None:
        not_negative(self, sigma=self.sigma)
        positive(self, tau=self.tau)

    def space(self, space: Space[Any]) -> Space[Any]:
        """Widen a box of floats by 6 σ."""
        return _widened(floats(self, space, sigma=self.sigma), self.sigma)

    def start(self, x: Array, space: Space[Any], rng: np.random.Generator) -> Array:
        """Draw ξ from its stationary distribution."""
        return _scale(self.sigma, x) * _normal(rng, x)

    def step(
        self, x: Array, state: Array, space: Space[Any], rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Add ξ to the signal, then advance ξ by one step."""
        rho = np.exp(-1 / self.tau)
        kick = _scale(self.sigma, x) * _normal(rng, x)
        return x + state, (rho * state + np.sqrt(1 - rho**2) * kick).astype(x.dtype)


@dataclass(frozen=True)
class RandomAction(Channel):
    """Replaces a discrete action with probability p by one drawn uniformly from all actions.

    Args:
        p: probability of replacement in each step.
    """

    p: float = 0.1

    def __post_init__(self) -> None:
        probability(self, p=self.p)

    def space(self, space: Space[Any]) -> Space[Any]:
        """Return the space unchanged; it must be Discrete."""
        if not isinstance(space, Discrete):
            raise ValueError(f"RandomAction needs a Discrete space, not {space}: use Gaussian")
        return space

    def step(
        self, x: Array, state: Array, space: Space[Any], rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Replace some of the actions."""
        assert isinstance(space, Discrete)
        replaced = rng.random(len(x)) < self.p
        drawn = space.start + rng.integers(space.n, size=len(x), dtype=space.dtype)
        return np.where(replaced, drawn, x), state


def _normal(rng: np.random.Generator, x: Array) -> Array:
    return rng.standard_normal(x.shape, dtype=x.dtype)


def _scale(sigma: Values, x: Array) -> Array:
    return np.asarray(sigma, dtype=x.dtype)


def _widened(space: Box, sigma: Values) -> Box:
    reach = REACH * np.broadcast_to(np.asarray(sigma, dtype=np.float64), space.shape)
    low, high = (np.asarray(v, dtype=space.dtype) for v in (space.low - reach, space.high + reach))
    return Box(low, high, space.shape, dtype=space.dtype)
