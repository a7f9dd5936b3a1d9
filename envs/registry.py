"""Registration of the ids, as in `gymnasium.make("noisynets_envs:noisynets/NoisyCartPole-v0")`.

Gymnasium imports the package named before the colon, which registers the ids. After
`import noisynets_envs` this prefix can be omitted.
"""

from __future__ import annotations

from typing import Any

import gymnasium

from .variants import ARM, TASKS, VARIANTS

HERE = "noisynets_envs.variants"


def specs() -> dict[str, dict[str, Any]]:
    """Return the keyword arguments of `gymnasium.register` for each id.

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
        for task, settings in made.defaults.items()
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
    """Register every id that is not registered yet."""
    for name, spec in specs().items():
        if name not in gymnasium.registry:
            gymnasium.register(name, **spec)
