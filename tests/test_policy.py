"""Episodes against single environments in a plain loop; adapters; tasks and the command line."""

import json
import re
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import own_environment
import own_instrument
import pytest
import spiking_policy
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from tiny import final, metrics, same
from torch import Tensor, nn

from noisynets import cli
from noisynets.core.errors import Diverged, InputError
from noisynets.core.losses import negative_return
from noisynets.core.types import EpisodeLog
from noisynets.estimators.node_perturbation import NodePerturbation
from noisynets.estimators.roll_out import RollOutPerturbation
from noisynets.estimators.roll_out_feedback import RollOutFeedback
from noisynets.run.checkpoint import save_state
from noisynets.run.folder import RunFolder, create
from noisynets.run.settings import Config, resolve
from noisynets.run.train import train
from noisynets.systems.catalogue import SYSTEMS
from noisynets.systems.spiking import Leaky, Spiking
from noisynets.tasks.environments import ENVIRONMENTS, Episodes, environment_task, is_environment
from noisynets.tasks.environments.episodes import mixed, period
from noisynets.tasks.environments.pictures import draw_episode
from noisynets.tasks.environments.spaces import action_adapter, observation_adapter

SHORT = ("max_episode_steps=12",)


class Counter(gymnasium.Env):
    """Reward: a random number plus the action. Episodes end at random."""

    observation_space = spaces.Box(-2.0, 2.0, (3,), np.float32)
    action_space = spaces.Discrete(2, start=3)

    def __init__(self, p: float = 0.2) -> None:
        self.p = p

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), {}

    def step(self, action):
        assert self.action_space.contains(int(action))
        seen = self.np_random.uniform(-1, 1, 3).astype(np.float32)
        over = bool(self.np_random.uniform() < self.p)
        return seen, float(seen[0] + action), over, False, {}


class Pairs(gymnasium.Env):
    """Observations in a space that is not supported."""

    observation_space = spaces.Tuple([spaces.Discrete(2), spaces.Discrete(3)])
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return (0, 0), {}

    def step(self, action):
        return (0, 0), 0.0, True, False, {}


@pytest.fixture(scope="module", autouse=True)
def _registered():
    gymnasium.register("tests/Counter-v0", Counter, max_episode_steps=30)
    gymnasium.register("tests/Pairs-v0", Pairs, max_episode_steps=30)
    gymnasium.register("tests/Endless-v0", Counter)
    yield
    for name in ("Counter", "Pairs", "Endless"):
        del gymnasium.registry[f"tests/{name}-v0"]


def linear(n: int, m: int, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(n, m)).double()


def seeds(*numbers: int) -> Tensor:
    return torch.tensor(numbers)[:, None]


def alone(net: nn.Sequential, env: gymnasium.Env, seed: int, steps: int) -> list[float]:
    """Run one episode with a linear network in NumPy and return its rewards."""
    weight, bias = (p.detach().numpy() for p in net[0].parameters())
    see = observation_adapter(env.observation_space, "here").convert
    act = action_adapter(env.action_space, "here").convert
    seen, _ = env.reset(seed=mixed([seed]))
    rewards = []
    for _ in range(steps):
        y = weight @ see(seen[None])[0].astype(np.float64) + bias
        seen, reward, ended, cut, _ = env.step(act(y[None])[0])
        rewards.append(float(reward))
        if ended or cut:
            break
    return rewards


@pytest.mark.parametrize(
    ("name", "n", "m"), [("tests/Counter-v0", 3, 2), ("CartPole-v1", 4, 2), ("Pendulum-v1", 3, 1)]
)
def test_episodes_equal_those_of_single_environments(name: str, n: int, m: int) -> None:
    net = linear(n, m)
    system = Episodes(net, name, vectorization_mode="sync")
    rows = [5, 8, 13, 21, 5, 8, 13, 21]
    found = system(seeds(*rows))[:, 0]
    log = system.log
    for i, seed in enumerate(rows):
        rewards = alone(net, gymnasium.make(name), seed, 500)
        assert float(found[i]) == pytest.approx(sum(rewards), rel=1e-9)
        lived = len(rewards)
        assert log.alive[i].tolist() == [t < lived for t in range(log.alive.shape[1])]
        assert log.rewards[i, :lived].tolist() == pytest.approx(rewards, rel=1e-6)
        assert not log.rewards[i, lived:].any()
    assert int(system.steps) == int(log.alive.sum())


def test_episodes_in_a_vector_environment_equal_a_plain_loop() -> None:
    net = linear(4, 2)
    system = Episodes(net, "CartPole-v1")
    found = system(seeds(1, 2, 3))[:, 0]
    envs = gymnasium.make_vec("CartPole-v1", 3)
    see = observation_adapter(envs.single_observation_space, "CartPole-v1").convert
    seen, _ = envs.reset(seed=mixed([1, 2, 3]))
    total, over = np.zeros(3), np.zeros(3, dtype=bool)
    while not over.all():
        x = see(seen).astype(np.float64)
        seen, reward, ended, cut, _ = envs.step(net(torch.from_numpy(x)).argmax(1).numpy())
        total += np.where(over, 0, reward)
        over |= ended | cut
    assert found.tolist() == total.tolist()


@pytest.mark.parametrize("mode", [None, "sync"])
def test_common_random_numbers_make_passes_of_equal_networks_equal(mode) -> None:
    """Passes with the same network start in the same state and have the same noise."""
    ours = ENVIRONMENTS["noisy-cartpole"]
    rows = seeds(*[3, 4, 5] * 2)
    kinds = {}
    for kind in ("common", "independent"):
        system = Episodes(linear(4, 2), ours, {}, kind, vectorization_mode=mode)
        both = system(rows).view(2, 3)
        assert torch.equal(system(rows).view(2, 3), both), "same seeds, same episodes"
        kinds[kind] = torch.equal(*both)
    assert kinds == {"common": True, "independent": False}


@given(st.lists(st.integers(0, 99), min_size=1, max_size=9, unique=True), st.integers(1, 4))
def test_the_number_of_rows_of_a_pass_is_found(rows: list[int], passes: int) -> None:
    assert period(rows * passes) == len(rows)


@given(st.data())
def test_any_network_output_is_mapped_to_a_valid_action(data) -> None:
    kinds = (
        spaces.Discrete(5, start=-2),
        spaces.MultiBinary(4),
        spaces.Box(np.float32([-1, -np.inf, 0]), np.float32([2, np.inf, np.inf])),
        spaces.Box(-3.0, 7.0, (2, 2)),
    )
    space = data.draw(st.sampled_from(kinds))
    made = action_adapter(space, "here")
    y = data.draw(hnp.arrays(np.float64, (3, made.outputs), elements=st.floats(-1e9, 1e9)))
    for action in made.convert(y):
        assert space.contains(np.int64(action) if isinstance(space, spaces.Discrete) else action)


def test_observations_are_scaled_and_encoded() -> None:
    box = spaces.Box(np.float32([-1, 0, -np.inf, 3]), np.float32([3, 10, np.inf, 3]))
    made = observation_adapter(box, "here")
    assert made.convert(np.array([[3, 5, 7, 3]])).tolist() == [[1, 0, 7, 3]]
    one_hot = observation_adapter(spaces.Discrete(3, start=1), "here")
    assert one_hot.convert(np.array([3])).tolist() == [[0, 0, 1]]
    spikes = observation_adapter(spaces.MultiBinary((8, 4)), "here")
    assert (spikes.shape, spikes.steps) == ((4,), 8)
    huge = spaces.Box(np.float32([-3e38]), np.float32([3e38]))
    assert np.isfinite(observation_adapter(huge, "here").convert(np.array([[3e38]]))).all()


def test_a_spiking_network_acts() -> None:
    net = nn.Sequential(nn.Linear(4, 6), Leaky(0.9), nn.Linear(6, 2))
    for name, steps in (("CartPole-v1", 3), ("noisynets_envs:noisynets/SpikeCartPole-v0", 8)):
        system = Episodes(Spiking(net, steps), name, {"max_episode_steps": 9})
        estimator = RollOutPerturbation(system, negative_return, "np", sigma=0.5)
        found = estimator(seeds(1, 2, 3), torch.zeros(3, dtype=torch.int64))
        assert found.loss.shape == (3,) and found.sample_forwards == 6
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
        net.zero_grad()


def test_node_perturbation_refuses_episodes() -> None:
    with pytest.raises(InputError, match="RollOutPerturbation"):
        NodePerturbation(Episodes(linear(4, 2), "CartPole-v1"), negative_return)


def test_names_of_environments() -> None:
    for name in ENVIRONMENTS:
        task = environment_task(name)
        assert task.name == name and task.world is not None
        (train_set, val_set), test_set = task.training(), task.test()
        every = [int(s) for part in (train_set, val_set, test_set) for s in part.x]
        assert len(set(every)) == len(every) and len(test_set) == 100
    assert not is_environment("tonic:NMNIST")


def command(out: Path, *more: str) -> list[str]:
    words = ["train", "cartpole", "--system", "mlp-policy", "--batch-size", "400", "--epochs", "2"]
    return [*words, "--env", *SHORT, "--out", str(out), *more]


@pytest.mark.pictures
def test_training_on_the_command_line(tmp_path, capsys) -> None:
    cli.main(command(tmp_path / "run"))
    assert "test return " in capsys.readouterr().out
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert 8 <= summary["test_return"] <= 12 and summary["sample_forwards"] == 2 * 2 * 1000
    assert summary["environment_steps"] > 8 * summary["sample_forwards"]
    rows = metrics(RunFolder(tmp_path / "run"))
    assert [float(row["val_return"]) > 8 for row in rows] == [True, True]
    for name in ("curves.png", "episode.png"):
        with Image.open(tmp_path / "run" / name) as picture:
            assert picture.width > 300
    with pytest.raises(SystemExit) as end:
        cli.main(["neurobench", str(tmp_path / "run")])
    assert end.value.code == 2 and "not of episodes" in capsys.readouterr().err
    cli.main(["eval", str(tmp_path / "run"), "--split", "validation"])
    assert f"validation return {float(rows[-1]['val_return']):.4f}" in capsys.readouterr().out


def test_weights_that_are_not_finite_end_a_run(tmp_path, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(command(tmp_path / "run", "--lr", "1e38"))
    assert end.value.code == 3 and "lower --lr" in capsys.readouterr().err


@pytest.mark.filterwarnings("default:the (system's own noise|output)")  # so short is the run
@pytest.mark.parametrize(
    ("name", "system", "more"),
    [
        ("noisy-cartpole", "noisy-policy", {}),
        ("noisynets/SpikeCartPole-v0", "lif-policy", {}),
        ("cartpole", "bernoulli-policy", {"rule": "anp", "resamples": 2}),
        ("cartpole", "noisy-lif-policy", {"steps": 2, "random_numbers": "independent"}),
        ("cartpole", "analog-policy", {}),
        ("cartpole", "mlp-policy", {"rule": "dnp", "demean": True}),
        ("cartpole", "mlp-policy", {"rule": "inp"}),
        ("cartpole", "mlp-policy", {"rule": "spsa"}),
        ("cartpole", "mlp-policy", {"rule": "wp", "final_fit": True}),
        ("cartpole", "lif-policy", {"rule": "mirrored"}),
    ],
)
def test_stopped_and_continued_with_the_same_bits(
    name, system, more, tmp_path, monkeypatch
) -> None:
    config = resolve(
        Config(task=name, system=system, epochs=2, batch_size=500, env=SHORT, device="cpu", **more)
    )
    whole = create(tmp_path / "whole", config)
    train(whole, progress_bar=False)
    saved, parts = [], create(tmp_path / "parts", config)

    def stop(path, state) -> None:
        save_state(path, state)
        saved.append(state["progress"]["epoch"])
        if len(saved) == 2:  # after the first epoch
            raise KeyboardInterrupt

    monkeypatch.setattr("noisynets.run.train.save_state", stop)
    with pytest.raises(KeyboardInterrupt):
        train(parts, progress_bar=False)
    monkeypatch.setattr("noisynets.run.train.save_state", save_state)
    train(parts, progress_bar=False)
    assert same(final(whole), final(parts))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["NoCart-v3"], "Environment `NoCart` doesn't exist"),
        (["noisynets/NoisyCartPol-v0"], "Did you mean: `NoisyCartPole`?"),
        (["noisy-cartpole", "--env", "sgma=2"], "unknown setting 'sgma'; known: sigma"),
        (["noisynets/DelayedCartPole-v0", "--env", "steps=-1"], "steps -1 must be a whole number"),
        (["cartpole", "--env", "steps"], "--env steps: write NAME=VALUE"),
        (["cartpole", "--env", "max_episode_steps=0"], "episodes need a time limit"),
        (["tests/Endless-v0"], "tests/Endless-v0: episodes need a time limit"),
        (["tests/Pairs-v0"], "observations in Tuple(Discrete(2), Discrete(3)) are not supported"),
        (["cartpole", "--rule", "bp"], "an environment has no derivative"),
        (["cartpole", "--system", "noisy-policy", "--rule", "np"], "nothing is injected in intri"),
        (["cartpole", "--system", "conv"], "a convolutional system needs pictures"),
        (["cartpole", "--random-numbers", "comon"], "did you mean 'common'?"),
        (["cartpole", "--discount", "1.5"], "--discount 1.5 must be within 0..1"),
        (["cartpole", "--discount", "0.9", "--rule", "spsa"], "'spsa' gives no credit to nodes"),
        (["mnist", "--discount", "0.9"], "--discount 0.9: mnist is no environment"),
        (["cartpole", "--standardise"], "--standardise: cartpole is an environment"),
        (
            ["cartpole", "--system", "lif-policy", "--noise-over", "trial"],
            "--noise-over trial: cart",
        ),
        (
            ["cartpole", "--system", "lif-policy", "--encoder", "rate"],
            "--encoder rate: cartpole is",
        ),
        (["mnist", "--system", "bernoulli-policy"], "for mnist use bernoulli-mlp"),
        (["mnist", "--system", "lif-policy"], "for mnist use lif"),
        (["mnist", "--env", "sigma=1"], "--env sigma=1: mnist is no environment"),
        (["cartpol"], "unknown task 'cartpol': did you mean 'cartpole'?"),
    ],
)
def test_bad_input_gives_one_line_and_exit_code_2(args, words, tmp_path, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["train", *args, "--out", str(tmp_path / "run")])
    (line,) = capsys.readouterr().err.splitlines()
    assert end.value.code == 2 and words in line, line
    assert not (tmp_path / "run").exists()


def test_every_policy_acts() -> None:
    names = [name for name, system in SYSTEMS.items() if system.acts]
    assert {"mlp-policy", "lif-policy", "bernoulli-policy", "noisy-policy"} <= set(names)
    for name in names:
        assert resolve(Config(task="cartpole", system=name)).rule == "innovation"


@pytest.mark.pictures
def test_an_episode_is_drawn(monkeypatch) -> None:
    found = draw_episode(Episodes(linear(8, 2), "noisynets_envs:noisynets/NoisyArm-v0").float())
    assert set(found) == {"episode.png", "episode.gif"}
    found = draw_episode(Episodes(linear(3, 2), "tests/Counter-v0"))
    assert set(found) == {"episode.png"}


def test_gymnasium_is_imported_by_environments_alone() -> None:
    code = "import sys, noisynets.cli; assert 'gymnasium' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_programs_in_the_docs_run() -> None:
    page = (Path(__file__).parent.parent / "docs" / "how-to" / "policies.md").read_text()
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.S):
        exec(compile(block, "block", "exec"), names)
    assert names["estimate"].loss.shape == (20,)
    assert isinstance(names["estimator"], RollOutFeedback)


def test_the_examples_learn() -> None:
    before, after = own_environment.main(updates=30)
    assert after > before / 2
    assert spiking_policy.main(updates=25, pairs=10) > 30  # 9 by doing nothing
    assert own_instrument.main(steps=200) > 0.6


@settings(max_examples=30)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=6))
def test_discounted_rewards_to_go(rewards: list[float]) -> None:
    made = EpisodeLog(torch.tensor([rewards]), torch.ones(1, len(rewards), dtype=torch.bool))
    for t in range(len(rewards)):
        assert float(made.to_go()[0, t]) == pytest.approx(sum(rewards[t:]), abs=1e-4)
        discounted = sum(0.7**i * reward for i, reward in enumerate(rewards[t:]))
        assert float(made.to_go(0.7)[0, t]) == pytest.approx(discounted, abs=1e-4)


# --- what does not fit together ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "environment", "words"),
    [
        (nn.Linear(3, 2), "Pendulum-v1", r"gives outputs \(2, 2\).*last layer 1 output$"),
        (nn.Linear(4, 1), "CartPole-v1", r"gives outputs \(2, 1\).*last layer 2 outputs$"),
        (nn.Linear(4, 3), "CartPole-v1", r"gives outputs \(2, 3\).*last layer 2 outputs$"),
        (nn.Sequential(nn.Linear(4, 2), nn.Flatten(0)), "CartPole-v1", r"gives outputs \(4,\)"),
    ],
)
def test_a_network_with_other_outputs_than_the_actions_is_refused(network, environment, words):
    system = Episodes(network, environment, {"max_episode_steps": 5})
    with pytest.raises(InputError, match=words) as error:
        system(torch.tensor([[1], [2]]))
    assert "\n" not in str(error.value)


class Broken(Counter):
    """Returns something that is no number in its third step."""

    def __init__(self, what: str) -> None:
        super().__init__(p=0.0)
        self.what = what

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return super().reset(seed=seed)

    def step(self, action):
        seen, reward, *rest = super().step(action)
        self.steps += 1
        if self.steps == 3:
            return (seen * np.nan, reward, *rest) if self.what == "observation" else (
                seen, np.inf, *rest
            )  # fmt: skip
        return seen, reward, *rest


@pytest.mark.parametrize("what", ["reward", "observation"])
def test_an_environment_that_returns_no_numbers_is_named(what: str) -> None:
    name = "Broken-v0"
    gymnasium.register(name, Broken, max_episode_steps=6)
    try:
        system = Episodes(nn.Linear(3, 2), name, {"what": what})
        words = rf"Broken-v0: its {what} is not finite in step 3 of episode 7: mend the environment"
        with pytest.raises(InputError, match=words):
            RollOutPerturbation(system, negative_return)(torch.tensor([[7], [8]]), torch.zeros(2))
    finally:
        gymnasium.registry.pop(name)


def test_a_network_whose_outputs_are_not_finite_has_diverged() -> None:
    network = nn.Linear(4, 2)
    nn.init.constant_(network.weight, torch.inf)
    with pytest.raises(Diverged, match="outputs of the network are not finite: lower --lr"):
        Episodes(network, "CartPole-v1", {"max_episode_steps": 5})(torch.tensor([[1]]))
