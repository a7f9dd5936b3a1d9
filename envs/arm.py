"""A planar two-link arm with noisy, slow muscles that reaches for a target in a horizontal plane.

    M(θ) θ̈ + C(θ, θ̇) + B θ̇ = T a,    τ ȧ = u (1 + k z) − a,    z ~ N(0, 1) in every step

The activation a of a muscle is its command u, passed through a first-order low-pass filter. The
noise of a muscle is proportional to its command.

Source: arm and constants, Li and Todorov, *Iterative linear quadratic regulator design for
nonlinear biological movement systems* (ICINCO 2004); noise, Harris and Wolpert, *Signal-dependent
noise determines motor planning* (Nature 394, 1998, 780).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Space

from .checks import not_negative, positive
from .physics import Physics, rk4
from .render import Stroke, picture
from .types import Array, Parameter

FASTEST = 20.0
"""Speed at which the observed speed saturates, rad/s."""

LENGTHS = (0.30, 0.33)
"""Default lengths of the links, m; an arm of these lengths can reach every target."""


@dataclass(frozen=True)
class Arm(Physics):
    """Arm with joint angles θ₁ (shoulder) and θ₂ (elbow); the reward is minus the hand's distance.

    The state has 8 components: θ₁, θ₂, θ̇₁, θ̇₂, the activations a₁, a₂, and the target's x, y.
    An arm of the default lengths can reach every target. The elbow's angle is not limited. An
    episode ends by its time limit only.

    Args:
        l1: length of the upper arm, m.
        l2: length of forearm and hand, m.
        m2: mass of forearm and hand, kg.
        s2: distance of the centre of mass of forearm and hand from the elbow, m.
        i1: moment of inertia of the upper arm about the shoulder, kg m².
        i2: moment of inertia of forearm and hand about the elbow, kg m².
        friction: viscous friction of each joint, N m s; half of it couples the joints.
        torque: T, torque at full activation, N m. Chosen here: a reach takes about half a second.
        tau: τ, time constant of the muscles, s. Chosen here, near the usual 30 to 60 ms.
        noise: k, standard deviation of the command's noise relative to the command. Chosen here.
        dt: time step, s.
    """

    l1: Parameter = LENGTHS[0]
    l2: Parameter = LENGTHS[1]
    m2: Parameter = 1.0
    s2: Parameter = 0.16
    i1: Parameter = 0.025
    i2: Parameter = 0.045
    friction: Parameter = 0.05
    torque: Parameter = 2.0
    tau: Parameter = 0.04
    noise: Parameter = 0.2
    dt: Parameter = 0.01

    def __post_init__(self) -> None:
        positive(self, l1=self.l1, l2=self.l2, m2=self.m2, s2=self.s2, i1=self.i1, i2=self.i2)
        positive(self, tau=self.tau, dt=self.dt)
        not_negative(self, friction=self.friction, torque=self.torque, noise=self.noise)
        if np.any(self.i2 < self.m2 * self.s2**2):
            raise ValueError(
                f"Arm: i2 {self.i2} is less than m2 s2² = {self.m2 * self.s2**2}, the lower limit "
                "of a moment of inertia about the elbow: raise i2"
            )

    @property
    def action_space(self) -> Space[Any]:
        """Space of the commands to both muscles."""
        return Box(-1.0, 1.0, (2,), np.float32)

    @property
    def observation_space(self) -> Space[Any]:
        """Space of cos θ and sin θ of both joints, both speeds, and the target's x, y."""
        reach = sum(LENGTHS)
        high = np.array([1, 1, 1, 1, FASTEST, FASTEST, reach, reach], dtype=np.float32)
        return Box(-high, high)

    def start(self, n: int, rng: np.random.Generator) -> Array:
        """Draw states at rest near θ = (45°, 90°) and targets in front of the shoulder, (8, n)."""
        low, high = [-0.1, -0.1, 0.0, np.pi / 6], [0.1, 0.1, np.pi * 3 / 4, np.pi * 5 / 6]
        drawn = rng.uniform(low, high, size=(n, 4)).T
        posture = drawn[:2] + np.array([[np.pi / 4], [np.pi / 2]])
        return np.concatenate([posture, np.zeros((4, n)), hand(drawn[2:], *LENGTHS)])

    def step(
        self, state: Array, actions: Array, rng: np.random.Generator
    ) -> tuple[Array, Array, Array]:
        """Advance by one time step, in which the commands are constant."""
        motion, activation, target = state[:4], state[4:6], state[6:]
        u = np.clip(actions, -1.0, 1.0).T.astype(np.float64)
        command = u * (1 + self.noise * rng.standard_normal(u.shape))
        activation = activation + (1 - np.exp(-self.dt / self.tau)) * (command - activation)
        torque = self.torque * activation
        motion = rk4(lambda s: self.derivative(s, torque), motion, self.dt)
        distance = np.hypot(*(hand(motion[:2], self.l1, self.l2) - target))
        state = np.concatenate([motion, activation, target])
        return state, -distance, np.zeros(len(distance), np.bool_)

    def derivative(self, motion: Array, torque: Array) -> Array:
        """Return θ̇₁, θ̇₂, θ̈₁, θ̈₂ for θ₁, θ₂, θ̇₁, θ̇₂ and two torques in N m."""
        _, angle2, speed1, speed2 = motion
        a2 = self.m2 * self.l1 * self.s2
        m11, m12, m22 = self.inertia(angle2)
        swing, b = a2 * np.sin(angle2), self.friction
        f1 = torque[0] + speed2 * (2 * speed1 + speed2) * swing - b * (speed1 + speed2 / 2)
        f2 = torque[1] - speed1**2 * swing - b * (speed1 / 2 + speed2)
        det = m11 * m22 - m12**2
        return np.stack([speed1, speed2, (m22 * f1 - m12 * f2) / det, (m11 * f2 - m12 * f1) / det])

    def inertia(self, angle2: Array) -> tuple[Array, Array, Any]:
        """Return M₁₁, M₁₂ = M₂₁, M₂₂ in kg m²."""
        a1 = self.i1 + self.i2 + self.m2 * self.l1**2
        a2 = self.m2 * self.l1 * self.s2 * np.cos(angle2)
        return a1 + 2 * a2, self.i2 + a2, self.i2

    def observe(self, state: Array) -> Array:
        """Return cos θ and sin θ of both joints, both speeds, and the target's x, y, (n, 8)."""
        angles, speeds, target = state[:2], state[2:4].clip(-FASTEST, FASTEST), state[6:]
        cos, sin = np.cos(angles), np.sin(angles)
        seen = np.stack([cos[0], sin[0], cos[1], sin[1], *speeds, *target], axis=1)
        return seen.astype(np.float32)

    def draw(self, state: Array) -> Array:
        """Draw both links, and the target as a dot."""
        first, second = float(np.ravel(self.l1)[0]), float(np.ravel(self.l2)[0])
        angles, target = state[:2, :1], state[6:, 0]
        elbow = hand(angles, first, 0.0)[:, 0]
        tip = hand(angles, first, second)[:, 0]
        strokes = [
            Stroke(target, target, 0.025, (214, 69, 65)),
            Stroke(np.zeros(2), elbow, 0.018, (52, 73, 94)),
            Stroke(elbow, tip, 0.014, (65, 131, 196)),
        ]
        return picture(strokes, extent=0.7)


def hand(angles: Array, l1: Any, l2: Any) -> Array:
    """Return the hand's x and y in metres, (2, n), for joint angles (2, n)."""
    shoulder, both = angles[0], angles[0] + angles[1]
    x = l1 * np.cos(shoulder) + l2 * np.cos(both)
    return np.stack([x, l1 * np.sin(shoulder) + l2 * np.sin(both)])
