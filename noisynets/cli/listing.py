"""Transfer curves of systems, and lists of what is registered."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from noisynets.bench import summaries
from noisynets.core.errors import InputError
from noisynets.core.settings import REQUIRED, Settings, setting
from noisynets.core.values import declared, part
from noisynets.diagnose.response import draw_response, response
from noisynets.diagnose.transfer import panels
from noisynets.diagnose.transfer_picture import draw_transfer
from noisynets.estimators.methods import METHODS
from noisynets.run.settings import Config, resolve
from noisynets.systems.catalogue import ARCHITECTURES, FAMILIES, SYSTEMS
from noisynets.systems.devices import PRESETS
from noisynets.systems.pulses import PULSED, UPDATES
from noisynets.systems.settings import NetworkSettings
from noisynets.tasks.data import FROM_FILES, TASKS
from noisynets.tasks.environments import ENVIRONMENTS


def _setting(name: str) -> Any:
    """Declare an argument that is a setting of systems."""
    found = declared(NetworkSettings)[name]
    return field(default=found.default, metadata={"setting": found.setting})


@dataclass(frozen=True, kw_only=True)
class ShowArguments(Settings):
    """Arguments of `noisynets show`."""

    system: str = setting(
        REQUIRED,
        "System, as for train.",
        metavar="SYSTEM",
        positional=True,
        choices=SYSTEMS,
    )
    device_preset: str | None = _setting("device_preset")
    intrinsic_noise: float | None = _setting("intrinsic_noise")
    bits: int = _setting("bits")
    writes: str | None = setting(
        None,
        lambda: f"Draw the response of a pulsed device instead: {', '.join(PULSED)}.",
        kind="pulsed device",
        choices=PULSED,
    )
    out: Path | None = setting(
        None,
        "Picture, a PNG. Unset: SYSTEM.png, SYSTEM-PRESET.png or pulses-DEVICE.png, here.",
    )


def show(arguments: ShowArguments) -> None:
    """Draw the transfer curve of a system's first layer and unit, with the band of their noise.

    With --writes, draw what a pulsed device holds after pulses up and down.
    """
    system, out = arguments.system, arguments.out
    acts = system in SYSTEMS and SYSTEMS[system].acts
    given = Config(
        task="cartpole" if acts else "mnist",
        system=system,
        device_preset=arguments.device_preset,
        intrinsic_noise=arguments.intrinsic_noise,
        bits=arguments.bits,
    )
    config = resolve(given)

    def build_with(points: int, chip: int) -> nn.Module:
        settings = part(
            config, NetworkSettings, hidden=(points,), device_seed=chip, noise_seed=1000 * chip
        )
        return SYSTEMS[config.system].build((1, 1, 1), 1, settings)

    name = system if config.device_preset == "none" else f"{system}-{config.device_preset}"
    name = name if arguments.writes is None else f"pulses-{arguments.writes}"
    path = Path(f"{name}.png") if out is None else out
    if not path.parent.is_dir():
        raise InputError(f"--out {path}: there is no folder {path.parent}")
    if arguments.writes is not None:
        device = PULSED[arguments.writes]
        draw_response(path, f"{device.name}: {device.summary}", response(device))
        print(path)
        return
    noise = f", own noise {config.intrinsic_noise:g}" if config.intrinsic_noise else ""
    preset = "" if config.device_preset == "none" else f" on {config.device_preset}"
    draw_transfer(path, f"{system}{preset}{noise}", panels(build_with))
    print(path)


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
