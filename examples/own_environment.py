"""An environment of your own, and a network that learns to act in it.

    python examples/own_environment.py

Nothing is asked of an environment but Gymnasium's interface and a limit of steps; observations
and actions lie in a Box, MultiBinary or Discrete space. Here a thermostat keeps a room at 20 °C
through a heater that answers late and a thermometer that is noisy. Noise comes from `np_random`,
so that both roll-outs of a pair can meet the same.
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
    """A room of 15 minutes' time constant; the heater is off or on, and slow.

    Args:
        noise: standard deviation of the thermometer, in kelvin.
    """

    metadata: dict[str, Any] = {"render_modes": []}

    def __init__(self, noise: float = 0.2) -> None:
        self.noise = noise
        # what is seen: distance from 20 °C in kelvin, and the heater's present power, 0 to 1
        self.observation_space = Box(np.array([-30, 0], "f4"), np.array([30, 1], "f4"))
        self.action_space = Discrete(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin in a room that is cold or warm, on a day that is too."""
        super().reset(seed=seed)
        self.room, self.outside = self.np_random.uniform([10, -5], [25, 10])
        self.power = 0.0
        return self._seen(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One minute; what is paid is the distance from 20 °C, and 0.2 for full power."""
        self.power += 0.3 * (float(action) - self.power)
        self.room += (self.outside - self.room) / 15 + 3 * self.power
        cost = abs(self.room - 20) + 0.2 * self.power
        return self._seen(), -cost, False, False, {}

    def _seen(self) -> np.ndarray:
        shown = self.room - 20 + self.noise * self.np_random.normal()
        return np.clip([shown, self.power], [-30, 0], [30, 1]).astype(np.float32)


def main(updates: int = 60, pairs: int = 10) -> tuple[float, float]:
    """Train; return mean returns of fresh episodes before and after."""
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
    print(f"mean return of 50 fresh episodes: {before:.0f} at first, {after:.0f} after training")
    return before, after


if __name__ == "__main__":
    torch.set_num_threads(1)  # tensors this small gain nothing from more
    main()
