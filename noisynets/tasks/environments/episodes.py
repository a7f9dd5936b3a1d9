"""`Episodes`: a network and an environment as one system that maps seeds to returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import SyncVectorEnv, VectorEnv
from torch import Tensor, nn

from noisynets.core.errors import Diverged, InputError, unknown
from noisynets.core.trial import RollOut, Stepped
from noisynets.core.types import EpisodeLog
from noisynets.tasks.environments.spaces import Array, action_adapter, observation_adapter

Envs = VectorEnv[Any, Any, Any]


class Episodes(RollOut):
    """Runs one episode for every seed, with the network choosing the actions.

    Each pass of a stacked batch has its own vector environment. With common random numbers all of
    these are reset with the same seed, so that the passes of a pair start in the same state and
    draw the same random numbers in the same order. In a vector environment with one random
    generator for all rows this holds until an episode ends, because its reset draws further
    numbers; a `SyncVectorEnv` has one generator for each episode, and it holds throughout.

    Args:
        network: the policy, (R, *shape) → (R, outputs). A `Stepped` network runs a whole trial in
            each step of the environment, with inputs (R, 1, *shape), or (R, T, *shape) for
            observations that are spike trains.
        environment: id of the environment.
        settings: keyword arguments of the environment.
        random_numbers: 'common' or 'independent': the environment's random numbers in the passes
            of a pair.
        vectorization_mode: as in `gymnasium.make_vec`; None: the environment's own vectorised
            implementation if it has one.

    Attributes:
        steps: number of environment steps in all training passes so far; saved with the system.

    Raises:
        InputError: if the id is unknown or a space is not supported.

    >>> net = nn.Sequential(nn.Linear(4, 2))
    >>> Episodes(net, "CartPole-v1")(torch.tensor([[1], [2], [3]])).shape
    torch.Size([3, 1])
    """

    steps: Tensor

    def __init__(
        self,
        network: nn.Module,
        environment: str,
        settings: Mapping[str, Any] | None = None,
        random_numbers: str = "common",
        vectorization_mode: str | None = None,
    ) -> None:
        super().__init__()
        if random_numbers not in ("common", "independent"):
            raise unknown("kind of random numbers", random_numbers, ("common", "independent"))
        self.network = network
        self.environment = environment
        self.settings = dict(settings or {})
        self.random_numbers = random_numbers
        self.vectorization_mode = vectorization_mode
        one = self._envs(1, 0)
        self.limit = limit(one, environment)
        self._observations = observation_adapter(one.single_observation_space, environment)
        self._actions = action_adapter(one.single_action_space, environment)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def forward(self, seeds: Tensor) -> Tensor:
        """Map episode seeds (R, 1), integers, to returns (R, 1)."""
        rows = [int(seed) for seed in seeds.flatten().tolist()]
        batch = period(rows)
        envs = [self._envs(batch, i) for i in range(len(rows) // batch)]
        observations = [self._reset(env, rows[:batch], i) for i, env in enumerate(envs)]
        like = next(self.network.parameters())
        running = np.ones(len(rows), dtype=np.bool_)  # rows whose episode has not ended yet
        rewards: list[Array] = []
        masks: list[Array] = []
        for _ in range(self.limit):
            actions = self.act(np.concatenate(observations))
            rewards.append(np.zeros(len(rows)))
            masks.append(running)
            ended = np.zeros_like(running)
            for i, env in enumerate(envs):
                own = slice(i * batch, (i + 1) * batch)
                with named(self.environment):
                    observations[i], reward, terminated, truncated, _ = env.step(actions[own])
                self._check_finite(reward, observations[i], rows[:batch], len(rewards))
                rewards[-1][own] = reward
                ended[own] = terminated | truncated
            running = running & ~ended
            if not running.any():
                break
        mask = torch.from_numpy(np.stack(masks, 1))
        counted = torch.from_numpy(np.stack(rewards, 1)).to(like.device) * mask.to(like.device)
        self.log = EpisodeLog(counted.to(like.dtype), mask.to(like.device))
        if self.training:
            self.steps += int(mask.sum())
        return counted.sum(1, keepdim=True).to(like.dtype)

    @torch.no_grad()
    def act(self, observations: Array) -> Array:
        """Map observations (R, ...) to actions (R, ...) by one call of the network."""
        x = torch.from_numpy(self._observations.convert(observations))
        if isinstance(self.network, Stepped) and not self._observations.steps:
            x = x[:, None]
        output: Tensor = self.network(x.to(next(self.network.parameters())))
        needed = self._actions.outputs
        if output.dim() < 2 or len(output) != len(x) or output[0].numel() != needed:
            raise InputError(
                f"{self.environment}: the network gives outputs {tuple(output.shape)} for {len(x)} "
                f"observations, where its actions need ({len(x)}, {needed}): give the last layer "
                f"{needed} output{'s' * (needed > 1)}"
            )
        numbers = output.flatten(1).to("cpu", torch.float64).numpy()
        if not np.isfinite(numbers).all():
            raise Diverged(f"{self.environment}: outputs of the network are not finite: lower --lr")
        return self._actions.convert(numbers)

    def _check_finite(
        self, reward: Array, observation: Array, rows: Sequence[int], step: int
    ) -> None:
        """Refuse rewards and observations that are not finite."""
        for what, values in (("reward", reward), ("observation", observation)):
            numbers = np.asarray(values).reshape(len(rows), -1)
            wrong = ~np.isfinite(numbers).all(1)
            if wrong.any():
                raise InputError(
                    f"{self.environment}: its {what} is not finite in step {step} of episode "
                    f"{rows[int(wrong.argmax())]}: mend the environment"
                )

    def _envs(self, n: int, number: int) -> Envs:
        """Return the vector environment of n rows with this number; make it at its first use."""
        kept: dict[tuple[int, int], Envs] = self.__dict__.setdefault("_kept", {})
        if (n, number) not in kept:
            kept[n, number] = vector(self.environment, n, self.settings, self.vectorization_mode)
        return kept[n, number]

    def _reset(self, envs: Envs, rows: Sequence[int], number: int) -> Any:
        """Begin an episode for each seed in the vector environment with this number."""
        more = [] if self.random_numbers == "common" else [number]
        with named(self.environment):
            if isinstance(envs.unwrapped, SyncVectorEnv):
                each = [mixed([row, *more]) for row in rows]
                return envs.reset(seed=each)[0]  # type: ignore[arg-type]
            return envs.reset(seed=mixed([*rows, *more]))[0]

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in super().__getstate__().items() if k != "_kept"}

    @property
    def sizes(self) -> tuple[tuple[int, ...], int]:
        """Shape of the network's input in one step, and its number of outputs."""
        return self._observations.shape, self._actions.outputs

    def extra_repr(self) -> str:
        """Show the settings in `print(module)`."""
        return ", ".join([self.environment, *(f"{k}={v}" for k, v in self.settings.items())])


def period(rows: Sequence[int]) -> int:
    """Return the number of rows of one pass; stacked passes repeat the seeds of the first.

    >>> period([5, 7, 9, 5, 7, 9]), period([5, 7, 9])
    (3, 3)
    """
    n = next((i for i in range(1, len(rows)) if rows[i] == rows[0]), len(rows))
    whole = len(rows) % n == 0 and all(row == rows[i % n] for i, row in enumerate(rows))
    return n if whole else len(rows)


def mixed(numbers: Sequence[int]) -> int:
    """Combine several numbers into one seed."""
    return int(np.random.SeedSequence(list(numbers)).generate_state(1)[0])


def vector(environment: str, n: int, settings: Mapping[str, Any], mode: str | None = None) -> Envs:
    """Make a vector environment.

    Args:
        environment: id.
        n: number of rows.
        settings: keyword arguments of the environment.
        mode: as in `gymnasium.make_vec`.

    Raises:
        InputError: if the id is unknown or a setting is wrong.
    """
    with named(environment):
        return gymnasium.make_vec(environment, n, vectorization_mode=mode, **settings)


@contextmanager
def named(environment: str) -> Iterator[None]:
    """Turn any exception of an environment into an InputError that names it."""
    try:
        yield
    except Exception as error:  # whatever the environment's author did not foresee
        raise InputError(f"{environment}: {_line(error)}") from error


def limit(envs: Envs, environment: str) -> int:
    """Return the number of steps after which episodes are truncated.

    Args:
        envs: vector environment.
        environment: its id, for the error message.

    Raises:
        InputError: if the environment has no such limit.
    """
    spec = envs.unwrapped.spec
    given = None if spec is None else spec.kwargs.get("max_episode_steps", spec.max_episode_steps)
    if not isinstance(given, int) or given < 1:
        raise InputError(
            f"{environment}: episodes need a time limit, a whole number of steps: set the "
            f"environment's max_episode_steps (now {given})"
        )
    return given


def _line(error: Exception) -> str:
    """Return an error's message on one line."""
    words = " ".join(str(error).split())
    kinds = gymnasium.error.Error | ImportError | TypeError | ValueError | AssertionError
    known = isinstance(error, kinds)
    return words if known and words else f"{type(error).__name__}: {words}"
