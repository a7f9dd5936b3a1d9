"""A user's own environment, and a network that learns to act in it.

    python examples/own_environment.py

An environment needs Gymnasium's interface, a time limit, and observations and actions in a Box,
MultiBinary or Discrete space. Here a thermostat keeps a room at 20 °C, with a slow heater and a
noisy thermometer. The noise is drawn from `np_random`, so that both roll-outs of a pair can have
the same noise.
"""

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import nn

from noisynets import RollOutPerturbation, negative_return
from noisynets.tasks.environments import Episodes


class Thermostat(gymnasium.Env[np.ndarray, int]):
    """A room with a time constant of 15 minutes, and a slow heater that is switched on or off.

    Args:
        noise: standard deviation of the thermometer, in kelvin.
    """

    metadata: dict[str, Any] = {"render_modes": []}

    def __init__(self, noise: float = 0.2) -> None:
        self.noise = noise
        # observations: temperature minus 20 °C in kelvin, and the heater's power from 0 to 1
        self.observation_space = Box(np.array([-30, 0], "f4"), np.array([30, 1], "f4"))
        self.action_space = Discrete(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Draw the temperatures of the room (10 to 25 °C) and outside (−5 to 10 °C)."""
        super().reset(seed=seed)
        self.room, self.outside = self.np_random.uniform([10, -5], [25, 10])
        self.power = 0.0
        return self._observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Advance by one minute; the cost is |temperature − 20 °C| + 0.2 × power."""
        self.power += 0.3 * (float(action) - self.power)
        self.room += (self.outside - self.room) / 15 + 3 * self.power
        cost = abs(self.room - 20) + 0.2 * self.power
        return self._observe(), -cost, False, False, {}

    def _observe(self) -> np.ndarray:
        reading = self.room - 20 + self.noise * self.np_random.normal()
        return np.clip([reading, self.power], [-30, 0], [30, 1]).astype(np.float32)


def main(updates: int = 60, pairs: int = 10) -> tuple[float, float]:
    """Train, and return the mean returns of 50 new episodes before and after training."""
    if "mine/Thermostat-v0" not in gymnasium.registry:
        gymnasium.register("mine/Thermostat-v0", Thermostat, max_episode_steps=60)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 2))
    system = Episodes(network, "mine/Thermostat-v0", {"noise": 0.3})
    estimator = RollOutPerturbation(
        system, negative_return, rule="innovation", sigma=0.5, discount=0.9
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    fresh = torch.arange(10**6, 10**6 + 50)[:, None]
    before = float(system.eval()(fresh).mean())
    for update in range(updates):
        seeds = torch.arange(update * pairs, (update + 1) * pairs)[:, None]
        optimizer.zero_grad()
        estimator(seeds, torch.zeros(pairs))
        optimizer.step()
    after = float(system(fresh).mean())
    print(f"mean return of 50 new episodes: {before:.0f} before training, {after:.0f} after it")
    return before, after


if __name__ == "__main__":
    torch.set_num_threads(1)  # more threads do not help with tensors as small as these
    main()
