"""Speed of NoisyCartPole's vector environment relative to Gymnasium's CartPole.

    python examples/envs_speed.py

Vector environments of 256 rows are stepped alternately in this process with the same random
actions. The ratio of every two timings is taken, so that other load on the machine affects both;
the median and the quartiles are printed.
"""

import sys
import time

import gymnasium
import numpy as np

PLAIN, NOISY = "CartPole-v1", "noisynets_envs:noisynets/NoisyCartPole-v0"


def rate(envs: gymnasium.vector.VectorEnv, actions: np.ndarray) -> float:
    """Return environment steps per second for actions (steps, n)."""
    start = time.perf_counter()
    for row in actions:
        envs.step(row)
    return actions.size / (time.perf_counter() - start)


def main(num_envs: int = 256, steps: int = 200, turns: int = 41) -> float:
    """Print both speeds and return the median ratio, noisy over plain."""
    rng = np.random.default_rng(0)
    pair = [gymnasium.make_vec(name, num_envs=num_envs) for name in (PLAIN, NOISY)]
    for envs in pair:
        envs.reset(seed=0)
    rates = []
    for turn in range(turns + 1):
        actions = rng.integers(2, size=(steps, num_envs))
        order = (0, 1) if turn % 2 else (1, 0)
        found = {i: rate(pair[i], actions) for i in order}
        rates.append((found[0], found[1]))
    plain, noisy = np.array(rates[1:]).T  # the first turn warms up
    low, median, high = np.percentile(noisy / plain, [25, 50, 75])
    print(f"{num_envs} environments, {turns} turns of {steps} steps, environment steps per second:")
    print(f"CartPole-v1       {np.median(plain):12,.0f}")
    print(f"NoisyCartPole-v0  {np.median(noisy):12,.0f}")
    print(f"ratio {median:.2f} (quartiles {low:.2f}, {high:.2f})")
    return float(median)


if __name__ == "__main__":
    sys.exit(main() < 0.5)
