"""How fast noise is: NoisyCartPole's vector environment beside plain CartPole's, in turns.

    python examples/envs_speed.py

Both step 256 environments in this process with the same random actions, one after the other, over
and over; the ratio of each pair is printed as the median with its quartiles, so that other jobs on
the machine, which slow both, hardly matter.
"""

import sys
import time

import gymnasium
import numpy as np

PLAIN, NOISY = "CartPole-v1", "noisynets_envs:noisynets/NoisyCartPole-v0"


def rate(envs: gymnasium.vector.VectorEnv, actions: np.ndarray) -> float:
    """Environment steps per second over rows of actions (steps, n)."""
    start = time.perf_counter()
    for row in actions:
        envs.step(row)
    return actions.size / (time.perf_counter() - start)


def main(num_envs: int = 256, steps: int = 200, turns: int = 41) -> float:
    """Measure; print both rates and return the median ratio, noisy over plain."""
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
