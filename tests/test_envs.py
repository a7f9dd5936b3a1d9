"""Every registered environment, alone and as a vector, and random stacks of wrappers."""

import re
import warnings
from pathlib import Path

import envs_speed
import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

import noisynets_envs as ne
from noisynets_envs.registry import specs

PAGE = (Path(__file__).parent.parent / "docs" / "how-to" / "envs.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.S)
IDS = sorted(specs())
EACH = pytest.mark.parametrize("name", IDS)
OURS = [name for name in IDS if "Arm" in name or "Chip" in name]
GYMNASIUMS_OWN = {  # what check_env says of Gymnasium's own tasks
    "CartPole": ["infinity"],
    "Pendulum": ["symmetric and normalized"],
}


def rollout(env, steps: int, seed: int = 0) -> list:
    """Observations, rewards and ends of random actions, episode after episode."""
    actions = np.random.default_rng(seed)
    seen = [(env.reset(seed=seed)[0], 0.0, False, False)]
    for _ in range(steps):
        if seen[-1][2] or seen[-1][3]:
            seen.append((env.reset()[0], 0.0, False, False))
        else:
            seen.append(env.step(draw(env.action_space, actions))[:4])
    return seen


def vector_rollout(envs, steps: int, seed: int = 0) -> list:
    """The same for a vector of one."""
    actions, space = np.random.default_rng(seed), envs.single_action_space
    seen = [(envs.reset(seed=seed)[0][0], 0.0, False, False)]
    for _ in range(steps):
        ended = seen[-1][2] or seen[-1][3]
        action = np.zeros(space.shape, space.dtype) if ended else draw(space, actions)
        row = envs.step(np.asarray(action)[None])[:4]
        seen.append(tuple(part[0] for part in row))
    return seen


def draw(space, rng: np.random.Generator):
    if isinstance(space, gymnasium.spaces.Discrete):
        return rng.integers(space.n)
    return rng.uniform(space.low, space.high).astype(space.dtype)


def assert_same(one: list, other: list, tolerance: float = 0.0) -> None:
    for (x, *rest), (y, *others) in zip(one, other, strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(rest, others, rtol=tolerance, atol=tolerance)


@EACH
def test_check_env_finds_nothing_of_ours(name: str) -> None:
    env = gymnasium.make(name, disable_env_checker=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(env, skip_render_check=name not in OURS)  # Gymnasium's tasks draw with pygame
    expected = ["different from the unwrapped version"]  # its wrappers are what is checked here
    expected += [w for task, words in GYMNASIUMS_OWN.items() if task in name for w in words]
    said = [str(w.message) for w in caught]
    assert [m for m in said if not any(word in m for word in expected)] == []


@pytest.mark.parametrize("name", OURS)
def test_check_env_is_silent_on_our_own_physics(name: str) -> None:
    check_env(gymnasium.make(name).unwrapped)  # a warning is an error here


@EACH
def test_same_seed_same_episode_and_another_seed_another(name: str) -> None:
    env = gymnasium.make(name)
    first = rollout(env, 30)
    assert_same(first, rollout(env, 30))
    other = rollout(env, 30, seed=1)
    assert any((a[0] != b[0]).any() for a, b in zip(first, other, strict=True))


@EACH
def test_specs_make_the_same_environment_again(name: str) -> None:
    env = ne.Reward(gymnasium.make(name), [ne.Gaussian(0.1), ne.Delay(1)])
    again = gymnasium.make(env.spec)
    parsed = gymnasium.make(EnvSpec.from_json(env.spec.to_json()))
    first = rollout(env, 20)
    assert_same(first, rollout(again, 20))
    assert_same(first, rollout(parsed, 20))
    envs = gymnasium.make_vec(name, num_envs=2)
    twin = gymnasium.make_vec(EnvSpec.from_json(envs.spec.to_json()))
    assert np.array_equal(envs.reset(seed=3)[0], twin.reset(seed=3)[0])


@EACH
def test_a_vector_of_one_is_the_single_environment(name: str) -> None:
    """Over several episodes; bit for bit where Gymnasium's own physics is not written anew."""
    env = gymnasium.make(name, max_episode_steps=25)
    envs = gymnasium.make_vec(name, num_envs=1, max_episode_steps=25)
    assert envs.single_observation_space == env.observation_space
    assert envs.single_action_space == env.action_space
    exact = "CartPole" in name or name in OURS
    assert_same(rollout(env, 90), vector_rollout(envs, 90), 0.0 if exact else 1e-5)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_the_programs_in_the_docs_run(block: str, monkeypatch) -> None:
    monkeypatch.setattr("gymnasium.envs.registration.registry", dict(gymnasium.registry))
    exec(compile(block, "block", "exec"), {"__name__": __name__})


def test_the_speed_of_noise_is_measured(capsys) -> None:
    assert envs_speed.main(num_envs=8, steps=5, turns=3) > 0
    assert "ratio" in capsys.readouterr().out


class RowDraws:
    """A generator for n rows, each drawing from a generator of its own."""

    def __init__(self, n: int) -> None:
        self.rows = [np.random.default_rng(i) for i in range(n)]

    def __getattr__(self, method: str):
        def drawn(*args, **kwargs):
            if method in ("standard_normal", "random"):
                args, kwargs = args[1:], {**kwargs, "size": args[0]}
            shape = list(np.atleast_1d(kwargs.pop("size")))
            if len(self.rows) not in shape:
                return np.empty(shape)  # for the rows that reset: none
            axis = shape.index(len(self.rows))
            kwargs["size"] = shape[:axis] + shape[axis + 1 :]
            return np.stack([getattr(r, method)(*args, **kwargs) for r in self.rows], axis=axis)

        return drawn


@EACH
def test_each_row_of_a_vector_is_a_single_environment_given_its_draws(name: str) -> None:
    n, steps = 5, 7  # no task ends so early; no space has 5 components
    envs = gymnasium.make_vec(name, num_envs=n)
    envs.np_random = RowDraws(n)
    rng = np.random.default_rng(1)
    plan = [[draw(envs.single_action_space, rng) for _ in range(n)] for _ in range(steps)]
    batch = [envs.reset()[0]] + [envs.step(np.array(row))[0] for row in plan]
    for i in range(n):
        env = gymnasium.make(name)
        env.unwrapped.np_random = np.random.default_rng(i)
        row = [env.reset()[0]] + [env.step(actions[i])[0] for actions in plan]
        np.testing.assert_allclose([b[i] for b in batch], row, rtol=1e-5, atol=1e-5)


@EACH
def test_wide_vectors_stay_in_their_spaces_through_many_episodes(name: str) -> None:
    envs = gymnasium.make_vec(name, num_envs=64, max_episode_steps=20)
    observations, _ = envs.reset(seed=0)
    envs.action_space.seed(0)
    ends = 0
    for _ in range(100):
        assert observations in envs.observation_space
        observations, rewards, terminated, truncated, _ = envs.step(envs.action_space.sample())
        assert rewards.shape == (64,) and np.isfinite(rewards).all()
        ends += int((terminated | truncated).sum())
    assert ends >= 64 * 4


FLOATS = st.one_of(
    st.builds(ne.Gaussian, st.floats(0, 2)),
    st.builds(ne.OrnsteinUhlenbeck, st.floats(0, 2), st.floats(0.1, 50)),
    st.builds(ne.Delay, st.integers(0, 4)),
    st.builds(ne.Dropout, st.floats(0, 1), st.booleans()),
    st.builds(ne.Quantiser, st.integers(1, 8), st.just(-1.5), st.just(2.5)),
)
CODES = st.one_of(
    st.builds(ne.RateCode, st.integers(1, 5), st.just(-2.0), st.just(2.0)),
    st.builds(ne.LatencyCode, st.integers(1, 5), st.just(-2.0), st.just(2.0)),
)
BITS = st.one_of(st.builds(ne.Delay, st.integers(0, 3)), st.builds(ne.Dropout, st.floats(0, 1)))
SEEN = st.tuples(st.lists(FLOATS, max_size=3), st.lists(CODES, max_size=1)).flatmap(
    lambda parts: st.lists(BITS, max_size=2 if parts[1] else 0).map(
        lambda bits: [*parts[0], *parts[1], *bits]
    )
)
CHOICES = st.one_of(
    st.builds(ne.RandomAction, st.floats(0, 1)), st.builds(ne.Delay, st.integers(0, 3))
)
TASKS = {
    "CartPole-v1": ({"length": (0.3, 0.7), "masspole": (0.05, 0.2)}, st.lists(CHOICES, max_size=2)),
    "noisynets/Chip-v0": ({"noise": (0.0, 0.3), "gain": (0.0, 0.5)}, st.lists(FLOATS, max_size=2)),
}


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from(sorted(TASKS)), SEEN, st.lists(FLOATS, max_size=2))
def test_random_stacks_stay_in_their_spaces_and_agree_with_their_vector(
    data, task: str, seen: list, paid: list
) -> None:
    """40 stacks of 250 steps, on one environment and on a vector of one."""
    ranges, actions = TASKS[task]
    acted = data.draw(actions)
    env = ne.RandomParameters(gymnasium.make(task, max_episode_steps=30), ranges)
    env = ne.Observe(ne.Reward(ne.Act(env, acted), paid), seen)
    single = rollout(env, 250)
    assert all(observation in env.observation_space for observation, *_ in single)
    envs = gymnasium.make_vec(task, num_envs=1, max_episode_steps=30)
    envs = ne.VectorReward(ne.VectorAct(ne.VectorRandomParameters(envs, ranges), acted), paid)
    envs = ne.VectorObserve(envs, seen)
    assert envs.single_observation_space == env.observation_space
    assert_same(single, vector_rollout(envs, 250))
    again = gymnasium.make(EnvSpec.from_json(env.spec.to_json()))
    assert_same(single[:40], rollout(again, 39))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ne.Delay(-1), "Delay: steps -1 must be a whole number, at least 0"),
        (lambda: ne.Gaussian(-0.1), "Gaussian: sigma -0.1 must be finite and at least 0"),
        (lambda: ne.Gaussian(float("nan")), "Gaussian: sigma nan must"),
        (lambda: ne.Gaussian("loud"), "Gaussian: sigma loud must"),
        (lambda: ne.OrnsteinUhlenbeck(tau=0), "OrnsteinUhlenbeck: tau 0 must be finite and above"),
        (lambda: ne.RandomAction(1.2), "RandomAction: p 1.2 must be a probability"),
        (lambda: ne.Dropout(-0.5), "Dropout: p -0.5 must be a probability"),
        (lambda: ne.Quantiser(0), "Quantiser: bits 0 must be a whole number, at least 1"),
        (lambda: ne.Quantiser(True), "Quantiser: bits True must be a whole number"),
        (lambda: ne.Arm(m2=-1), "Arm: m2 -1 must be finite and above 0"),
        (lambda: ne.Arm(m2=2.0), "Arm: i2 0.045 is less than m2 s2²"),
        (lambda: on("CartPole-v1", ne.Gaussian([0.1, 0.2])), "give one number, or one for each"),
        (lambda: on("CartPole-v1", ne.Quantiser(3)), "not finite: give low and high"),
        (lambda: on("CartPole-v1", ne.RateCode(low=1, high=1)), "must lie below high"),
        (lambda: on("CartPole-v1", ne.RandomAction()), "needs a Discrete space"),
        (lambda: on("FrozenLake-v1", ne.Gaussian()), "Gaussian needs a Box of float32 or float64"),
        (lambda: on("FrozenLake-v1", ne.Dropout()), "set hold=True"),
        (lambda: on("Blackjack-v1", ne.Delay()), "flatten it first"),
        (lambda: on("CartPole-v1", "Gaussian"), "'Gaussian' is no channel"),
        (lambda: on("CartPole-v1", {"entry_point": "noisynets_envs:Nois"}), "unknown channel"),
        (lambda: ne.Act(gymnasium.make("Pendulum-v1"), ne.LatencyCode()), "only observations may"),
        (lambda: ne.Reward(gymnasium.make("CartPole-v1"), ne.Quantiser()), "give low and high"),
        (lambda: gymnasium.make("noisynets/NoisyCartPole-v0", sgima=1), "unknown setting 'sgima'"),
        (lambda: gymnasium.make("noisynets/Chip-v0", nois=1), "Chip: unknown setting 'nois'"),
        (lambda: gymnasium.make("noisynets/Chip-v0", render_mode="human"), "render_mode 'human'"),
        (lambda: gymnasium.make_vec("noisynets/NoisyArm-v0", m1=1), "unknown setting 'm1'"),
        (lambda: gymnasium.make_vec("noisynets/Chip-v0", num_envs=0), "num_envs 0 must be"),
        (
            lambda: randomised(mass=(1, 2)),
            "unknown parameter 'mass' of CartPoleEnv; known: gravity",
        ),
        (lambda: randomised(length=(2, 1)), "give its lowest and highest value"),
        (
            lambda: ne.RandomParameters(gymnasium.make("noisynets/Chip-v0"), {"bound": (1, 2)}),
            "bound sets the observation space",
        ),
        (
            lambda: ne.VectorObserve(
                gymnasium.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync"),
                ne.Gaussian(),
            ),
            "wrap each one",
        ),
        (
            lambda: ne.VectorObserve(
                gymnasium.make_vec(
                    "CartPole-v1",
                    vectorization_mode="sync",
                    vector_kwargs={"autoreset_mode": "SameStep"},
                ),
                ne.Gaussian(),
            ),
            "needs autoreset mode NEXT_STEP",
        ),
    ],
)
def test_bad_input_ends_in_one_line(make, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        make()
    assert words in str(caught.value) and "\n" not in str(caught.value)


def on(task: str, channel):
    return ne.Observe(gymnasium.make(task), channel)


def randomised(**ranges):
    return ne.RandomParameters(gymnasium.make("CartPole-v1"), ranges)
