"""Vectorised versions of Gymnasium's MountainCar, Pendulum and Acrobot.

Equations, constants, parameter names and the order of random draws are those of
`gymnasium.envs.classic_control` (Farama Foundation, Gymnasium 1.4); results equal those of the
single environments up to float64 rounding. For CartPole, Gymnasium has a vector environment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete, Space

from .physics import Physics, rk4
from .types import Array, Parameter

PI = np.pi


@dataclass(frozen=True)
class MountainCar(Physics):
    """v ← v + (a − 1) force − gravity cos 3x, x ← x + v; reward −1 per step until x ≥ 0.5.

    Args:
        force: acceleration by the engine, per step².
        gravity: acceleration by gravity, per step².

    Source: Moore 1990, as in Gymnasium.
    """

    force: Parameter = 0.001
    gravity: Parameter = 0.0025

    @property
    def action_space(self) -> Space[Any]:
        """Space of the actions left, coast and right."""
        return Discrete(3)

    @property
    def observation_space(self) -> Space[Any]:
        """Space of position and velocity."""
        high = np.array([0.6, 0.07], dtype=np.float32)
        return Box(np.array([-1.2, -0.07], dtype=np.float32), high)

    def start(self, n: int, rng: np.random.Generator) -> Array:
        """Draw positions in the valley, at rest: x, v, (2, n)."""
        return np.stack([rng.uniform(-0.6, -0.4, size=n), np.zeros(n)])

    def step(
        self, state: Array, actions: Array, rng: np.random.Generator
    ) -> tuple[Array, Array, Array]:
        """Advance by one step; a car that hits the wall on the left is stopped."""
        x, v = state
        v = v + ((actions - 1) * self.force + np.cos(3 * x) * -self.gravity)
        v = np.clip(v, -0.07, 0.07)
        x = np.clip(x + v, -1.2, 0.6)
        v = np.where((x == -1.2) & (v < 0), 0.0, v)
        return np.stack([x, v]), np.full(len(x), -1.0), (x >= 0.5) & (v >= 0)

    def observe(self, state: Array) -> Array:
        """Return x, v, (n, 2)."""
        return state.T.astype(np.float32)


@dataclass(frozen=True)
class Pendulum(Physics):
    """θ̈ = 3g/(2l) sin θ + 3u/(m l²); reward −(θ² + 0.1 θ̇² + 0.001 u²); θ = 0 is upright.

    Args:
        g: gravity, m/s².
        m: mass, kg.
        l: length, m.
        dt: time step, s.
    """

    g: Parameter = 10.0
    m: Parameter = 1.0
    l: Parameter = 1.0  # noqa: E741 - Gymnasium's name
    dt: Parameter = 0.05

    @property
    def action_space(self) -> Space[Any]:
        """Space of the torque u, N m."""
        return Box(-2.0, 2.0, (1,), np.float32)

    @property
    def observation_space(self) -> Space[Any]:
        """Space of cos θ, sin θ and θ̇."""
        high = np.array([1.0, 1.0, 8.0], dtype=np.float32)
        return Box(-high, high)

    def start(self, n: int, rng: np.random.Generator) -> Array:
        """Draw angles from −π to π and speeds from −1 to 1 rad/s: θ, θ̇, (2, n)."""
        high = np.array([PI, 1.0])
        return rng.uniform(-high, high, size=(n, 2)).T.copy()

    def step(
        self, state: Array, actions: Array, rng: np.random.Generator
    ) -> tuple[Array, Array, Array]:
        """Advance by one time step; the speed is limited to 8 rad/s."""
        angle, speed = state
        u = np.clip(actions, -2.0, 2.0)[:, 0]
        upright = ((angle + PI) % (2 * PI)) - PI
        cost = upright**2 + 0.1 * speed**2 + 0.001 * (u**2)
        pull = 3 * self.g / (2 * self.l) * np.sin(angle) + 3.0 / (self.m * self.l**2) * u
        speed = np.clip(speed + pull * self.dt, -8.0, 8.0)
        return np.stack([angle + speed * self.dt, speed]), -cost, np.zeros(len(u), np.bool_)

    def observe(self, state: Array) -> Array:
        """Return cos θ, sin θ, θ̇, (n, 3)."""
        angle, speed = state
        return np.stack([np.cos(angle), np.sin(angle), speed], axis=1).astype(np.float32)


@dataclass(frozen=True)
class Acrobot(Physics):
    """Two links with a torque at the elbow; reward −1 per step until the tip is above the line.

    Args:
        LINK_LENGTH_1: l₁, length of the first link, m.
        LINK_MASS_1: m₁, mass of the first link, kg.
        LINK_MASS_2: m₂, mass of the second link, kg.
        LINK_COM_POS_1: distance of the first link's centre of mass from its joint, m.
        LINK_COM_POS_2: distance of the second link's centre of mass from its joint, m.
        LINK_MOI: moment of inertia of each link, kg m².
        dt: time step, s.

    Source: Sutton and Barto, *Reinforcement Learning*, first edition, section 11.3, as in
    Gymnasium.
    """

    LINK_LENGTH_1: Parameter = 1.0
    LINK_MASS_1: Parameter = 1.0
    LINK_MASS_2: Parameter = 1.0
    LINK_COM_POS_1: Parameter = 0.5
    LINK_COM_POS_2: Parameter = 0.5
    LINK_MOI: Parameter = 1.0
    dt: Parameter = 0.2

    @property
    def action_space(self) -> Space[Any]:
        """Space of the torques −1, 0 and 1 N m."""
        return Discrete(3)

    @property
    def observation_space(self) -> Space[Any]:
        """Space of cosine and sine of both angles, and both speeds."""
        high = np.array([1.0, 1.0, 1.0, 1.0, 4 * PI, 9 * PI], dtype=np.float32)
        return Box(-high, high)

    def start(self, n: int, rng: np.random.Generator) -> Array:
        """Draw states near the rest position: θ₁, θ₂, θ̇₁, θ̇₂, (4, n)."""
        return rng.uniform(-0.1, 0.1, size=(n, 4)).astype(np.float32).T.astype(np.float64)

    def step(
        self, state: Array, actions: Array, rng: np.random.Generator
    ) -> tuple[Array, Array, Array]:
        """Advance by one time step; speeds are limited to 4π and 9π rad/s."""
        torque = actions - 1.0
        state = rk4(lambda s: self.derivative(s, torque), state, self.dt)
        state[:2] = wrapped(state[:2])
        state[2] = np.clip(state[2], -4 * PI, 4 * PI)
        state[3] = np.clip(state[3], -9 * PI, 9 * PI)
        above = -np.cos(state[0]) - np.cos(state[1] + state[0]) > 1.0
        return state, np.where(above, 0.0, -1.0), above

    def derivative(self, state: Array, torque: Array) -> Array:
        """Return θ̇₁, θ̇₂, θ̈₁, θ̈₂ for θ₁, θ₂, θ̇₁, θ̇₂ and a torque in N m, (4, n)."""
        angle1, angle2, speed1, speed2 = state
        m1, m2, inertia = self.LINK_MASS_1, self.LINK_MASS_2, self.LINK_MOI
        l1, c1, c2, g = self.LINK_LENGTH_1, self.LINK_COM_POS_1, self.LINK_COM_POS_2, 9.8
        cos2, sin2 = np.cos(angle2), np.sin(angle2)
        d1 = m1 * c1**2 + m2 * (l1**2 + c2**2 + 2 * l1 * c2 * cos2) + inertia + inertia
        d2 = m2 * (c2**2 + l1 * c2 * cos2) + inertia
        phi2 = m2 * c2 * g * np.cos(angle1 + angle2 - PI / 2.0)
        phi1 = (
            -m2 * l1 * c2 * speed2**2 * sin2
            - 2 * m2 * l1 * c2 * speed2 * speed1 * sin2
            + (m1 * c1 + m2 * l1) * g * np.cos(angle1 - PI / 2)
            + phi2
        )
        turn2 = (torque + d2 / d1 * phi1 - m2 * l1 * c2 * speed1**2 * sin2 - phi2) / (
            m2 * c2**2 + inertia - d2**2 / d1
        )
        return np.stack([speed1, speed2, -(d2 * turn2 + phi1) / d1, turn2])

    def observe(self, state: Array) -> Array:
        """Return cos θ₁, sin θ₁, cos θ₂, sin θ₂, θ̇₁, θ̇₂, (n, 6)."""
        angles, speeds = state[:2], state[2:]
        cos, sin = np.cos(angles), np.sin(angles)
        return np.stack([cos[0], sin[0], cos[1], sin[1], *speeds], axis=1).astype(np.float32)


def wrapped(angle: Array) -> Array:
    """Return angles in −π to π that differ from the given ones by full turns.

    >>> wrapped(np.array([0.5, 3 * PI - 0.5])).round(3)
    array([0.5  , 2.642])
    """
    while (np.abs(angle) > PI).any():
        angle = np.where(angle > PI, angle - 2 * PI, angle)
        angle = np.where(angle < -PI, angle + 2 * PI, angle)
    return angle
