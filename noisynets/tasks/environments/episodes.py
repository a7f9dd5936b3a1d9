"""Episodes: a network and its environment as one system, from seeds to returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import SyncVectorEnv, VectorEnv
from torch import Tensor, nn

from noisynets.core.errors import InputError, unknown
from noisynets.core.trial import RollOut, Stepped
from noisynets.core.types import EpisodeLog
from noisynets.tasks.environments.spaces import Array, muscles, senses

Envs = VectorEnv[Any, Any, Any]


class Episodes(RollOut):
    """Runs one episode for every seed: the network sees, and acts, until it is over.

    Each pass of a stacked batch has a vector environment of its own. With common random numbers
    all are reset with the same seed, so that the passes of a pair start in the same state and
    draw the same numbers in the same order: until episodes end, after which environments that
    draw anew when they reset, in a fast vector, part; a `SyncVectorEnv` has a stream per episode.

    Args:
        network: what acts: (R, *shape) → (R, outputs); a `Stepped` one lives through a trial in
            each step, and sees (R, 1, *shape), or (R, T, *shape) of spike trains.
        environment: id.
        settings: of the environment.
        random_numbers: 'common' or 'independent', of the passes of a pair.
        vectorization_mode: as of `gymnasium.make_vec`; None: the fast one where there is one.

    Attributes:
        steps: of the environment, in all passes of training so far; saved with the system.

    Raises:
        InputError: for an unknown id, or spaces that a network cannot deal with.

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
        self._senses = senses(one.single_observation_space, environment)
        self._muscles = muscles(one.single_action_space, environment)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def forward(self, seeds: Tensor) -> Tensor:
        """Seeds of episodes, (R, 1), whole numbers → returns, (R, 1)."""
        rows = [int(seed) for seed in seeds.flatten().tolist()]
        batch = period(rows)
        envs = [self._envs(batch, i) for i in range(len(rows) // batch)]
        observations = [self._reset(env, rows[:batch], i) for i, env in enumerate(envs)]
        like = next(self.network.parameters())
        alive = np.ones(len(rows), dtype=np.bool_)
        rewards: list[Array] = []
        lives: list[Array] = []
        for _ in range(self.limit):
            actions = self.act(np.concatenate(observations))
            rewards.append(np.zeros(len(rows)))
            lives.append(alive)
            over = np.zeros_like(alive)
            for i, env in enumerate(envs):
                own = slice(i * batch, (i + 1) * batch)
                observations[i], reward, ended, cut, _ = env.step(actions[own])
                rewards[-1][own] = reward
                over[own] = ended | cut
            alive = alive & ~over
            if not alive.any():
                break
        lived = torch.from_numpy(np.stack(lives, 1))
        gained = torch.from_numpy(np.stack(rewards, 1)).to(like.device) * lived.to(like.device)
        self.log = EpisodeLog(gained.to(like.dtype), lived.to(like.device))
        if self.training:
            self.steps += int(lived.sum())
        return gained.sum(1, keepdim=True).to(like.dtype)

    @torch.no_grad()
    def act(self, observations: Array) -> Array:
        """Observations (R, ...) → actions (R, ...), by one call of the network."""
        seen = torch.from_numpy(self._senses.see(observations))
        if isinstance(self.network, Stepped) and not self._senses.steps:
            seen = seen[:, None]
        output: Tensor = self.network(seen.to(next(self.network.parameters())))
        return self._muscles.act(output.to("cpu", torch.float64).numpy())

    def _envs(self, n: int, which: int) -> Envs:
        """Make vector environment number `which` of n rows, or find it: it is kept."""
        kept: dict[tuple[int, int], Envs] = self.__dict__.setdefault("_kept", {})
        if (n, which) not in kept:
            kept[n, which] = vector(self.environment, n, self.settings, self.vectorization_mode)
        return kept[n, which]

    def _reset(self, envs: Envs, rows: Sequence[int], which: int) -> Any:
        """Begin an episode for each seed."""
        more = [] if self.random_numbers == "common" else [which]
        if isinstance(envs.unwrapped, SyncVectorEnv):
            each = [mixed([row, *more]) for row in rows]
            return envs.reset(seed=each)[0]  # type: ignore[arg-type]
        return envs.reset(seed=mixed([*rows, *more]))[0]

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in super().__getstate__().items() if k != "_kept"}

    @property
    def sizes(self) -> tuple[tuple[int, ...], int]:
        """Shape of what the network sees in one step, and the number of outputs it needs."""
        return self._senses.shape, self._muscles.outputs

    def extra_repr(self) -> str:
        """Show the settings in `print(module)`."""
        return ", ".join([self.environment, *(f"{k}={v}" for k, v in self.settings.items())])


def period(rows: Sequence[int]) -> int:
    """Return how many rows a pass has: stacked passes repeat the seeds of the first.

    >>> period([5, 7, 9, 5, 7, 9]), period([5, 7, 9])
    (3, 3)
    """
    n = next((i for i in range(1, len(rows)) if rows[i] == rows[0]), len(rows))
    whole = len(rows) % n == 0 and all(row == rows[i % n] for i, row in enumerate(rows))
    return n if whole else len(rows)


def mixed(numbers: Sequence[int]) -> int:
    """Return one seed that depends on all of the numbers."""
    return int(np.random.SeedSequence(list(numbers)).generate_state(1)[0])


def vector(environment: str, n: int, settings: Mapping[str, Any], mode: str | None = None) -> Envs:
    """Make a vector environment of n rows.

    Raises:
        InputError: one line that says what is wrong with the id or its settings.
    """
    try:
        return gymnasium.make_vec(environment, n, vectorization_mode=mode, **settings)
    except (gymnasium.error.Error, ImportError, TypeError, ValueError, AssertionError) as error:
        raise InputError(f"{environment}: {_line(error)}") from error


def limit(envs: Envs, environment: str) -> int:
    """Return the number of steps after which an episode is cut.

    Raises:
        InputError: for an environment without such a limit.
    """
    spec = envs.unwrapped.spec
    given = None if spec is None else spec.kwargs.get("max_episode_steps", spec.max_episode_steps)
    if not isinstance(given, int) or given < 1:
        raise InputError(
            f"{environment}: episodes need a limit, of whole steps: give the environment's "
            f"max_episode_steps (now {given})"
        )
    return given


def _line(error: Exception) -> str:
    """Return what an error says, on one line."""
    words = str(error).split()
    return " ".join(words) or type(error).__name__
