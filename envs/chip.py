"""A simulated noisy chip in a control loop, with inputs driven so that outputs track targets.

    y = g (t/t₀)^−ν u + o ± A + σ z,    clipped to ±bound

Gain g, offset o and drift exponent ν differ between outputs and are drawn anew for every episode,
which thus has a new chip. The sign of the telegraph noise ±A flips with probability p per step.
The agent observes only the last output and the next target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Space

from .checks import not_negative, positive, probability
from .physics import Physics
from .render import Stroke, picture
from .types import Array, Parameter

OUTPUTS = 4


@dataclass(frozen=True)
class Chip(Physics):
    """Chip with four outputs, each driven by one input; the reward is minus the mean squared error.

    The state has 7 components for each output, (7, 4, n): g, o, ν, the sign of the telegraph
    noise, the phase of the target, the time since the start, and the last output. An episode ends
    by its time limit only.

    Args:
        gain: standard deviation of ln g. 0.3 is aihwkit's usual relative spread between devices.
        offset: standard deviation of o, in units of the output. No agreed value; chosen here.
        drift: mean of ν. 0.05 is usual for phase-change memory (aihwkit, `noise/pcm.py`).
        drift_spread: standard deviation of ν before its absolute value is taken.
        t0: t₀, time at which an episode starts, s; 20 s in aihwkit.
        dt: time step, s.
        telegraph: A, half the distance between the two levels. Chosen here.
        flips: p, probability of a flip per step. 0.0809 in artcogsys/MTJ-Node-Perturbation.
        noise: σ, standard deviation of the white noise. 0.06 is aihwkit's usual output noise.
        bound: output at which the chip saturates.
        target: amplitude of the targets, which are sine waves of random phase.
        period: period of the targets, s.
    """

    gain: Parameter = 0.3
    offset: Parameter = 0.1
    drift: Parameter = 0.05
    drift_spread: Parameter = 0.01
    t0: Parameter = 20.0
    dt: Parameter = 1.0
    telegraph: Parameter = 0.05
    flips: Parameter = 0.0809
    noise: Parameter = 0.06
    bound: Parameter = 2.0
    target: Parameter = 0.5
    period: Parameter = 50.0

    def __post_init__(self) -> None:
        not_negative(self, gain=self.gain, offset=self.offset, drift=self.drift, noise=self.noise)
        not_negative(self, drift_spread=self.drift_spread, telegraph=self.telegraph)
        not_negative(self, target=self.target)
        positive(self, t0=self.t0, dt=self.dt, bound=self.bound, period=self.period)
        probability(self, flips=self.flips)

    @property
    def action_space(self) -> Space[Any]:
        """Space of the inputs u."""
        return Box(-1.0, 1.0, (OUTPUTS,), np.float32)

    @property
    def observation_space(self) -> Space[Any]:
        """Space of the last value and the next target of every output."""
        high = [np.max(self.bound)] * OUTPUTS + [max(np.max(self.target), 1e-6)] * OUTPUTS
        return Box(-np.array(high, np.float32), np.array(high, np.float32))

    def start(self, n: int, rng: np.random.Generator) -> Array:
        """Draw n new chips and targets, (7, 4, n); the last output is 0."""
        z = rng.standard_normal((3, OUTPUTS, n))
        sign = 1.0 - 2.0 * (rng.random((OUTPUTS, n)) < 0.5)
        phase = rng.uniform(0, 2 * np.pi, size=(OUTPUTS, n))
        zero = np.zeros_like(phase)
        nu = np.abs(self.drift + self.drift_spread * z[2])
        return np.stack([np.exp(self.gain * z[0]), self.offset * z[1], nu, sign, phase, zero, zero])

    def step(
        self, state: Array, actions: Array, rng: np.random.Generator
    ) -> tuple[Array, Array, Array]:
        """Apply the inputs for one time step and read the outputs."""
        gain, offset, nu, sign, phase, time, _ = state
        u = np.clip(actions, -1.0, 1.0).T.astype(np.float64)
        sign = np.where(rng.random(u.shape) < self.flips, -sign, sign)
        white = self.noise * rng.standard_normal(u.shape)
        y = gain * (1 + time / self.t0) ** -nu * u + offset + self.telegraph * sign + white
        report = np.clip(y, -self.bound, self.bound)
        reward = -np.square(report - self.wave(phase, time)).mean(axis=0)
        state = np.stack([gain, offset, nu, sign, phase, time + self.dt, report])
        return state, reward, np.zeros(len(reward), np.bool_)

    def wave(self, phase: Array, time: Array) -> Array:
        """Return the targets at a time since the start, in s."""
        target: Array = self.target * np.sin(2 * np.pi * time / self.period + phase)
        return target

    def observe(self, state: Array) -> Array:
        """Return the last outputs and the next targets, (n, 8)."""
        *_, phase, time, report = state
        return np.concatenate([report, self.wave(phase, time)]).T.astype(np.float32)

    def draw(self, state: Array) -> Array:
        """Draw the last value of every output as a bar, and its next target as a dot."""
        reports, targets = np.split(self.observe(state)[0].astype(np.float64), 2)
        places = np.linspace(-0.6, 0.6, OUTPUTS)
        bars = [
            Stroke(np.array([x, 0.0]), np.array([x, y]), 0.06, (65, 131, 196))
            for x, y in zip(places, reports, strict=True)
        ]
        dots = [
            Stroke(np.array([x, y]), np.array([x, y]), 0.05, (214, 69, 65))
            for x, y in zip(places, targets, strict=True)
        ]
        return picture([*bars, *dots], extent=1.0)
