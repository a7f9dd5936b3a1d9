"""Plug-ins: parts from outside the package, found through installed entry points.

A plug-in is a function without arguments that registers parts. Its package names it in the
entry-point group `noisynets.plugins`; the command line calls it when it starts.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Any, TypeVar

from noisynets.core.noise import SAMPLERS
from noisynets.core.registry import Registry
from noisynets.core.settings import SETTINGS
from noisynets.estimators.methods import OTHERS
from noisynets.rules import RULES
from noisynets.run.settings import OPTIMISERS, SCHEDULES
from noisynets.run.settings.consumers import CONSUMERS
from noisynets.systems.catalogue import ARCHITECTURES, BOXES, FAMILIES, SYSTEMS
from noisynets.systems.devices import PRESETS
from noisynets.systems.initialisation import INITIALISATIONS
from noisynets.systems.models import UNITS
from noisynets.systems.pulses import PULSED, UPDATES
from noisynets.systems.spiking import ENCODERS, FIRINGS, NEURONS, READOUTS
from noisynets.tasks.data import AUGMENTATIONS, TASKS
from noisynets.tasks.environments import ENVIRONMENTS

GROUP = "noisynets.plugins"

T = TypeVar("T")

_ALL: tuple[Registry[Any], ...] = (
    RULES,
    OTHERS,
    ARCHITECTURES,
    FAMILIES,
    BOXES,
    SYSTEMS.whole,
    UNITS,
    NEURONS,
    FIRINGS,
    ENCODERS,
    READOUTS,
    PRESETS,
    PULSED,
    UPDATES,
    INITIALISATIONS,
    SAMPLERS,
    TASKS,
    ENVIRONMENTS,
    AUGMENTATIONS,
    OPTIMISERS,
    SCHEDULES,
    SETTINGS,
    CONSUMERS,
)

REGISTRIES: Registry[Registry[Any]] = Registry("kind of part", {r.kind: r for r in _ALL})
"""The registries to which parts can be added, by the kind of part."""


def register(kind: str, entry: T, *, name: str | None = None) -> T:
    """Add a part from outside the package, and return it.

    Args:
        kind: a key of `REGISTRIES`, as 'family', 'unit', 'task' or 'setting'.
        entry: the part.
        name: on the command line; None: the entry's own.

    Raises:
        InputError: for an unknown kind, or a name that is taken.

    >>> from noisynets.systems.catalogue import Family
    >>> register("famly", Family("mine", "for this example"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    noisynets.core.errors.InputError: unknown kind of part 'famly': did you mean 'family'? ...
    """
    REGISTRIES[kind].register(entry, name=name)
    return entry


@cache
def load_plugins() -> tuple[str, ...]:
    """Call the plug-ins that are installed, once; return a line for each one that failed."""
    failures = []
    for entry in entry_points(group=GROUP):
        try:
            entry.load()()
        except Exception as error:  # of whatever kind: the rest must work
            reason = " ".join(str(error).split())
            failures.append(
                f"plug-in {entry.name!r} ({entry.value}) cannot be loaded: "
                f"{type(error).__name__}: {reason}"
            )
    return tuple(failures)
