"""The ids: `gymnasium.make("noisynets_envs:noisynets/NoisyCartPole-v0")`.

The part before the colon lets Gymnasium import this package, which registers them; after
`import noisynets_envs` it can be left out.
"""

from __future__ import annotations

from typing import Any

import gymnasium

from .variants import ARM, TASKS, VARIANTS

HERE = "noisynets_envs.variants"


def specs() -> dict[str, dict[str, Any]]:
    """Return what `gymnasium.register` gets for each id.

    >>> len(specs())
    19
    """
    found: dict[str, dict[str, Any]] = {
        f"noisynets/{variant}{task}-v0": {
            "entry_point": f"{HERE}:single",
            "vector_entry_point": f"{HERE}:vector",
            "max_episode_steps": TASKS[task].max_episode_steps,
            "kwargs": {"task": task, "variant": variant, **settings},
        }
        for variant, made in VARIANTS.items()
        for task, settings in made.usual.items()
    }
    found["noisynets/NoisyArm-v0"] = {
        "entry_point": f"{HERE}:noisy_arm",
        "vector_entry_point": f"{HERE}:noisy_arms",
        "max_episode_steps": 200,
        "kwargs": dict(ARM),
    }
    found["noisynets/Chip-v0"] = {
        "entry_point": f"{HERE}:chip",
        "vector_entry_point": f"{HERE}:chips",
        "max_episode_steps": 200,
    }
    return found


def register() -> None:
    """Tell Gymnasium of every id that it does not know yet."""
    for name, spec in specs().items():
        if name not in gymnasium.registry:
            gymnasium.register(name, **spec)
