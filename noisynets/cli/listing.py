"""Lists of what is registered."""

from __future__ import annotations

from dataclasses import dataclass

from noisynets.bench import summaries
from noisynets.core.settings import Settings
from noisynets.estimators.methods import METHODS
from noisynets.systems.catalogue import ARCHITECTURES, FAMILIES, SYSTEMS
from noisynets.systems.devices import PRESETS
from noisynets.systems.pulses import PULSED, UPDATES
from noisynets.tasks.data import FROM_FILES, TASKS
from noisynets.tasks.environments import ENVIRONMENTS


@dataclass(frozen=True, kw_only=True)
class ListArguments(Settings):
    """`noisynets list` has no arguments."""


def list_(arguments: ListArguments) -> None:
    """List the tasks, systems, devices and rules, with the rules' tuned settings."""
    print("tasks:")
    for task in TASKS.values():
        print(f"  {task.name:16s} {task.summary}")
        if task.reference:
            print(f"  {'':16s} reference: {task.reference}")
    for name, summary in FROM_FILES.items():
        print(f"  {name:16s} {summary}")
    print("environments (or the id of any that Gymnasium has registered):")
    for name, environment in ENVIRONMENTS.items():
        print(f"  {name:13s} {environment}")
    print("systems (FAMILY-ARCHITECTURE, as in sign-conv; lif, noisy-lif, rlif: of an mlp):")
    for kind in (ARCHITECTURES, FAMILIES):
        for name, known in kind.items():
            print(f"  {name or '(none)':13s} {known.summary}")
    print("systems with a name of their own:")
    for name, whole in SYSTEMS.whole.items():
        print(f"  {name:13s} {whole.summary}")
    print("suites:")
    for name, summary in summaries().items():
        print(f"  {name:13s} {summary}")
    print("device presets:")
    for preset in PRESETS.values():
        print(f"  {preset.name:13s} {preset.summary}")
    print("pulsed devices (--writes):")
    for device in PULSED.values():
        print(f"  {device.name:15s} {device.summary}")
    print("updates of pulsed devices (--update):")
    for update in UPDATES.values():
        print(f"  {update.name:15s} {update.summary}; lr {update.lr:g}")
    width = max(len(method.summary) for method in METHODS.values())
    columns = ("lr   ", "sigma ", "sigma_in_noise", "decor_lr")
    print(f"{'rules:':13s}{'':{width}s}  {'  '.join(columns)}")
    for name, method in METHODS.items():
        cells = [f"{getattr(method, c.strip()) or '-':<{len(c)}}" for c in columns]
        print(f"  {name:10s} {method.summary:{width}s}  {'  '.join(cells)}".rstrip())
