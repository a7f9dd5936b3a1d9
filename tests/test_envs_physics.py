"""The arm, the chip and the vectorised tasks against their equations."""

import gymnasium
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import noisynets_envs as ne
from noisynets_envs.arm import hand
from noisynets_envs.classic import Acrobot
from noisynets_envs.physics import rk4

RNG = np.random.default_rng(0)
MOTION = np.array([0.4, 1.1, 2.0, -3.0])


def energy(arm: ne.Arm, motion: np.ndarray) -> np.ndarray:
    """Kinetic energy in joules: the arm moves in the horizontal plane."""
    _, angle2, w1, w2 = motion
    m11, m12, m22 = arm.inertia(angle2)
    return 0.5 * (m11 * w1**2 + 2 * m12 * w1 * w2 + m22 * w2**2)


def test_without_torque_and_friction_the_arm_keeps_its_energy() -> None:
    arm, motion = ne.Arm(friction=0.0), MOTION[:, None]
    start = energy(arm, motion)
    for _ in range(200):
        motion = rk4(lambda s: arm.derivative(s, np.zeros((2, 1))), motion, arm.dt)
    assert energy(arm, motion) == pytest.approx(start, rel=1e-6)


def test_kinetic_energy_is_that_of_the_moving_masses() -> None:
    """M(θ) from the velocities of the links, differentiated numerically."""
    arm = ne.Arm(i2=0.045)
    angles, speeds, h = MOTION[:2, None], MOTION[2:, None], 1e-6
    ends = [hand(angles + s * h * speeds, arm.l1, arm.s2) for s in (-1, 1)]
    centre = np.linalg.norm((ends[1] - ends[0]) / (2 * h))  # of the forearm's mass
    spin = MOTION[2] + MOTION[3]
    about_centre = arm.i2 - arm.m2 * arm.s2**2
    expected = 0.5 * (arm.i1 * MOTION[2] ** 2 + arm.m2 * centre**2 + about_centre * spin**2)
    assert energy(arm, MOTION[:, None]) == pytest.approx(expected, rel=1e-6)


def test_the_arm_follows_an_independent_integration_in_matrix_form() -> None:
    arm = ne.Arm(noise=0.0)
    u, state = np.array([0.7, -0.4]), arm.start(1, RNG)
    state[:4, 0] = MOTION
    a, motion = np.zeros(2), MOTION
    for _ in range(50):
        state, _, _ = arm.step(state, u[None], RNG)
        a = u + (a - u) * np.exp(-arm.dt / arm.tau)
        a2 = arm.m2 * arm.l1 * arm.s2
        b = arm.friction * np.array([[1, 0.5], [0.5, 1]])

        def f(t, s, a=a, a2=a2, b=b):
            c2 = np.cos(s[1])
            m = np.array(
                [
                    [arm.i1 + arm.i2 + arm.m2 * arm.l1**2 + 2 * a2 * c2, arm.i2 + a2 * c2],
                    [arm.i2 + a2 * c2, arm.i2],
                ]
            )
            c = a2 * np.sin(s[1]) * np.array([-s[3] * (2 * s[2] + s[3]), s[2] ** 2])
            return [*s[2:], *np.linalg.solve(m, arm.torque * a - c - b @ s[2:])]

        motion = solve_ivp(f, (0, arm.dt), motion, method="DOP853", rtol=1e-11, atol=1e-12).y[:, -1]
    assert state[:4, 0] == pytest.approx(motion, abs=1e-4)
    assert state[4:6, 0] == pytest.approx(a)


def test_the_noise_of_a_muscle_grows_with_its_command() -> None:
    arm, n = ne.Arm(noise=0.2), 20_000
    for u in (0.0, 0.25, 1.0):
        state = arm.start(n, np.random.default_rng(1))
        state, _, _ = arm.step(state, np.full((n, 2), u), np.random.default_rng(2))
        filtered = 1 - np.exp(-arm.dt / arm.tau)
        assert state[4:6].mean() == pytest.approx(filtered * u, abs=1e-3)
        assert state[4:6].std() == pytest.approx(filtered * 0.2 * u, rel=0.02)


def test_the_arms_reward_is_minus_the_distance_from_hand_to_target() -> None:
    env = gymnasium.make("noisynets/NoisyArm-v0", sigma=0.0, delay=0)
    env.reset(seed=0)
    seen, reward, *_ = env.step(np.array([0.5, 0.5], np.float32))
    first, second = np.arctan2(seen[1], seen[0]), np.arctan2(seen[3], seen[2])
    tip = hand(np.array([[first], [second]]), 0.30, 0.33)[:, 0]
    assert -reward == pytest.approx(np.linalg.norm(tip - seen[6:]), abs=1e-5)


def quiet(**settings) -> ne.Chip:
    none = dict.fromkeys(("gain", "offset", "drift", "drift_spread", "telegraph", "noise"), 0.0)
    return ne.Chip(**{**none, **settings})


def reports(chip: ne.Chip, drive: float, steps: int, n: int = 1) -> np.ndarray:
    rng = np.random.default_rng(0)
    state, found = chip.start(n, rng), []
    for _ in range(steps):
        state, _, _ = chip.step(state, np.full((n, 4), drive), rng)
        found.append(state[-1])
    return np.stack(found)


def test_a_chip_drifts_by_a_power_of_time() -> None:
    chip = quiet(drift=0.06)
    t = chip.t0 + np.arange(100) * chip.dt
    expected = 0.5 * (t / chip.t0) ** -0.06
    assert np.allclose(reports(chip, 0.5, 100), expected[:, None, None], rtol=1e-12)


def test_chips_differ_in_gain_and_offset_and_keep_them() -> None:
    chip = quiet(gain=0.3, offset=0.1)
    on, off = (reports(chip, drive, 3, n=5000) for drive in (0.25, 0.0))
    assert (off[0] == off[2]).all() and off[0].std() == pytest.approx(0.1, rel=0.03)
    gain = (on[0] - off[0]) / 0.25
    assert np.log(gain).std() == pytest.approx(0.3, rel=0.03)


def test_telegraph_noise_has_two_levels_and_its_correlation() -> None:
    y = reports(quiet(telegraph=0.1, flips=0.2), 0.0, 12, n=2000)
    assert np.allclose(np.abs(y), 0.1)
    for lag in (1, 3):
        assert (y[0] * y[lag]).mean() / 0.01 == pytest.approx((1 - 0.4) ** lag, abs=0.03)


def test_outputs_saturate_and_the_reward_is_minus_their_squared_error() -> None:
    chip = quiet(noise=5.0)
    state = chip.start(50, RNG)
    target = chip.wave(state[4], state[5])
    state, reward, _ = chip.step(state, np.zeros((50, 4)), RNG)
    assert np.abs(state[-1]).max() == chip.bound
    assert reward == pytest.approx(-((state[-1] - target) ** 2).mean(axis=0))
    assert np.allclose(chip.observe(state)[:, 4:], chip.wave(state[4], state[5]).T)


@pytest.mark.parametrize("task", ["Acrobot", "MountainCar", "Pendulum"])
def test_vectorised_tasks_equal_gymnasiums(task: str) -> None:
    """200 steps of 8 random episodes from the same states, without channels."""
    version = "-v0" if task == "MountainCar" else "-v1"
    physics = {"Acrobot": Acrobot, "MountainCar": ne.classic.MountainCar}.get(
        task, ne.classic.Pendulum
    )()
    envs = [gymnasium.make(task + version).unwrapped for _ in range(8)]
    for i, env in enumerate(envs):
        env.reset(seed=i)
    state = np.stack([np.asarray(env.state, np.float64) for env in envs], axis=1)
    space = envs[0].action_space
    for _ in range(200):
        actions = np.array([space.sample() for _ in envs])
        state, reward, ended = physics.step(state, actions, RNG)
        rows = [env.step(action) for env, action in zip(envs, actions, strict=True)]
        assert physics.observe(state) == pytest.approx(np.stack([r[0] for r in rows]), abs=1e-5)
        assert reward == pytest.approx([r[1] for r in rows], abs=1e-9)
        assert ended.tolist() == [r[2] for r in rows]


@pytest.mark.parametrize("name", ["noisynets/NoisyArm-v0", "noisynets/Chip-v0"])
def test_our_own_physics_can_be_drawn(name: str) -> None:
    env = gymnasium.make(name, render_mode="rgb_array")
    env.reset(seed=0)
    env.step(env.action_space.sample())
    picture = env.render()
    assert picture.shape == (240, 240, 3) and picture.dtype == np.uint8
    colours = {tuple(pixel) for pixel in picture.reshape(-1, 3)}
    assert (214, 69, 65) in colours and (65, 131, 196) in colours
