"""Channels and parameter randomisation against their equations."""

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import noisynets_envs as ne
from noisynets_envs.path import Path

LINE = Box(-1.0, 1.0, (3,), np.float64)
ROWS = 4000


def passed(channels, x: np.ndarray, space=LINE, **settings) -> np.ndarray:
    """Pass x of every step, (T, n, *shape), through new channels."""
    path, rng = Path(channels, space, **settings), np.random.default_rng(0)
    n = x.shape[1]
    return np.stack([path(step, np.full(n, t == 0), rng) for t, step in enumerate(x)])


def test_gaussian_noise_has_its_standard_deviation_on_every_component() -> None:
    y = passed((ne.Gaussian([0.0, 0.1, 0.5]),), np.zeros((1, ROWS, 3)))
    assert y.std(axis=(0, 1)) == pytest.approx([0.0, 0.1, 0.5], rel=0.05)
    assert abs(y.mean()) < 0.02


def test_ornstein_uhlenbeck_is_stationary_from_the_first_step() -> None:
    sigma, tau = 0.3, 5.0
    xi = passed((ne.OrnsteinUhlenbeck(sigma, tau),), np.zeros((21, ROWS, 3)))
    for t in (0, 1, 20):
        assert xi[t].var() == pytest.approx(sigma**2, rel=0.05)
    for lag in (1, 5, 20):
        correlation = (xi[0] * xi[lag]).mean() / sigma**2
        assert correlation == pytest.approx(np.exp(-lag / tau), abs=0.03)


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_delay_shifts_by_exactly_k_steps(steps: int) -> None:
    x = np.random.default_rng(1).uniform(-1, 1, (12, 2, 3))
    y = passed((ne.Delay(steps),), x)
    assert np.array_equal(y[steps:], x[: 12 - steps])
    assert (y[:steps] == x[0]).all()


def test_dropout_has_its_rate_and_gives_zero_or_the_last_value() -> None:
    x = np.random.default_rng(1).uniform(0.1, 1, (30, 500, 3))
    zeros = passed((ne.Dropout(0.2),), x)
    assert (zeros == 0).mean() == pytest.approx(0.2, abs=0.01)
    assert ((zeros == 0) | (zeros == x)).all()
    held = passed((ne.Dropout(0.2, hold=True),), x)
    assert np.array_equal(held[0], x[0])
    assert ((held[1:] == x[1:]) | (held[1:] == held[:-1])).all()
    assert (held[1:] != x[1:]).mean() == pytest.approx(0.2, abs=0.01)


def test_dropout_keeps_zero_in_the_space() -> None:
    assert ne.Dropout().space(Box(1.0, 2.0, (), np.float32)) == Box(0.0, 2.0, (), np.float32)


def test_a_quantiser_has_two_to_the_bits_levels_and_takes_the_nearest() -> None:
    x = np.linspace(-1.2, 1.2, 3000).reshape(1, 1000, 3)
    y = passed((ne.Quantiser(bits=3),), x)
    levels = np.linspace(-1, 1, 8)
    assert np.allclose(np.unique(y.round(12)), levels)
    inside = np.abs(x) <= 1
    assert np.abs(y - x)[inside].max() <= 1 / 7 + 1e-12
    assert set(np.unique(y[x > 1])) == {1.0}


def test_a_rate_code_fires_in_proportion_and_a_latency_code_once_and_in_order() -> None:
    x = np.broadcast_to([-1.0, 0.5, 1.0], (1, ROWS, 3))
    spikes = passed((ne.RateCode(steps=10),), x)[0]
    assert spikes.shape == (ROWS, 10, 3) and set(np.unique(spikes)) == {0, 1}
    assert spikes.mean(axis=(0, 1)) == pytest.approx([0.0, 0.75, 1.0], abs=0.01)
    when = passed((ne.LatencyCode(steps=9),), x[:, :1])[0, 0]
    assert (when.sum(axis=0) == 1).all() and when.argmax(axis=0).tolist() == [8, 2, 0]


def test_random_actions_come_at_their_rate_from_all_actions() -> None:
    space = Discrete(3, start=2)
    y = passed((ne.RandomAction(0.3),), np.full((1, 30_000), 3), space, keep=True)
    assert y.dtype == np.int64
    share = [(y == action).mean() for action in (2, 3, 4)]
    assert share == pytest.approx([0.1, 0.8, 0.1], abs=0.01)


def test_actions_are_clipped_and_observations_are_not() -> None:
    x = np.zeros((1, ROWS, 3))
    assert np.abs(passed((ne.Gaussian(1.0),), x, keep=True)).max() == 1.0
    assert np.abs(passed((ne.Gaussian(1.0),), x)).max() > 3


def test_the_first_channel_acts_first() -> None:
    x = np.zeros((1, 100, 3))
    both = (ne.Gaussian(0.5), ne.Quantiser(bits=1, low=-1, high=1))
    assert set(np.unique(passed(both, x))) == {-1.0, 1.0}
    assert len(np.unique(passed(both[::-1], x))) == 300


def test_rows_restart_alone_when_their_episode_ends() -> None:
    """Delayed observations of 6 CartPoles against a delay written row by row."""
    plain = gymnasium.make_vec("CartPole-v1", num_envs=6, max_episode_steps=13)
    delayed = ne.VectorObserve(
        gymnasium.make_vec("CartPole-v1", num_envs=6, max_episode_steps=13), ne.Delay(2)
    )
    x, y = plain.reset(seed=0)[0], delayed.reset(seed=0)[0]
    past = [[row] * 3 for row in x]
    rng, ends = np.random.default_rng(0), np.zeros(6, bool)
    for _ in range(60):
        assert np.array_equal(y, [row[0] for row in past])
        actions = rng.integers(2, size=6)
        x, _, terminated, truncated, _ = plain.step(actions)
        y = delayed.step(actions)[0]
        for i, row in enumerate(x):
            past[i] = [row] * 3 if ends[i] else [*past[i][1:], row]
        ends = terminated | truncated


def test_noise_on_rewards_does_not_change_reset_steps() -> None:
    envs = gymnasium.make_vec("CartPole-v1", num_envs=8)
    envs = ne.VectorReward(envs, ne.Gaussian(0.5))
    envs.reset(seed=0)
    done = np.zeros(8, bool)
    for _ in range(60):
        _, rewards, terminated, truncated, _ = envs.step(np.ones(8, int))
        assert ((rewards == 0) == done).all()
        done = terminated | truncated


def test_cartpole_is_randomised_with_its_derived_parameters() -> None:
    env = ne.RandomParameters(
        gymnasium.make("CartPole-v1"), {"masspole": (0.05, 0.2), "length": (0.3, 0.7)}
    )
    drawn = []
    env.reset(seed=0)
    for _ in range(50):
        env.reset()
        bare = env.unwrapped
        drawn.append((bare.masspole, bare.length))
        assert bare.total_mass == bare.masspole + bare.masscart
        assert bare.polemass_length == bare.masspole * bare.length
    low, high = np.min(drawn, axis=0), np.max(drawn, axis=0)
    assert (low > [0.05, 0.3]).all() and (high < [0.2, 0.7]).all()
    assert (high - low > [0.1, 0.3]).all()


def test_rows_have_different_parameters_until_their_episode_ends() -> None:
    envs = gymnasium.make_vec("noisynets/Chip-v0", num_envs=4, max_episode_steps=3)
    envs = ne.VectorRandomParameters(envs, {"noise": (0.0, 1.0)})
    envs.reset(seed=0)
    noise = [envs.unwrapped.physics.noise]
    for _ in range(8):
        envs.step(envs.action_space.sample())
        noise.append(envs.unwrapped.physics.noise)
    assert len(np.unique(noise[0])) == 4
    changed = [not np.array_equal(a, b) for a, b in zip(noise, noise[1:], strict=False)]
    assert changed == [False, False, False, True, False, False, False, True]
