"""Pictures of a trained classifier, transfer curves of systems, responses of pulsed devices."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from noisynets.cli.runs import RunArguments
from noisynets.core.errors import InputError, unknown
from noisynets.core.settings import REQUIRED, setting
from noisynets.core.values import declared, part
from noisynets.diagnose.images import first_filters, has_pictures
from noisynets.diagnose.predictions import classifies, judged_part, predictions
from noisynets.diagnose.response import draw_response, response
from noisynets.diagnose.transfer import panels
from noisynets.diagnose.transfer_picture import draw_transfer
from noisynets.diagnose.vision_picture import draw_confusion, draw_filters, draw_mistakes
from noisynets.run.evaluate import threads
from noisynets.run.folder import RunFolder
from noisynets.run.settings import Config, resolve
from noisynets.run.train import open_trained
from noisynets.systems.catalogue import SYSTEMS
from noisynets.systems.pulses import PULSED
from noisynets.systems.settings import NetworkSettings

OF_SYSTEMS = ("device_preset", "intrinsic_noise", "bits")
"""Arguments that only a system takes; those of a run are in its folder."""
OF_RUNS = ("device", "trust", "box", "box_timeout")
"""Arguments that only a run takes."""


def _setting(name: str) -> Any:
    """Declare an argument that is a setting of systems."""
    found = declared(NetworkSettings)[name]
    return field(default=found.default, metadata={"setting": found.setting})


@dataclass(frozen=True, kw_only=True)
class ShowArguments(RunArguments):
    """Arguments of `noisynets show`."""

    run: Path = setting(
        REQUIRED,
        "Folder of a run that has learned classes; or a system, or a pulsed device, as for train.",
        metavar="RUN|SYSTEM|DEVICE",
        positional=True,
    )
    device_preset: str | None = _setting("device_preset")
    intrinsic_noise: float | None = _setting("intrinsic_noise")
    bits: int = _setting("bits")
    device: str | None = setting(None, "Of a run: auto, cpu or cuda. Unset: the run's own.")
    out: Path | None = setting(
        None,
        "Of a run: folder of the pictures. Unset: that of the run. Of a system or device: picture, "
        "a PNG. Unset: SYSTEM.png, SYSTEM-PRESET.png or DEVICE.png, here.",
    )


def show(arguments: ShowArguments) -> None:
    """Draw a run's confusion matrix, worst mistakes and filters; or a transfer curve.

    Of a system, it is that of its first layer and unit; of a pulsed device, what it holds after
    pulses up and down. Of a run, confusion.png has the accuracy of each class; mistakes.png and
    filters.png are drawn where the inputs are pictures. The examples are those of the validation
    set.
    """
    a, folder, name = arguments, arguments.folder, str(arguments.run)
    if not folder.is_run and name in PULSED:
        _refuse(a, OF_SYSTEMS + OF_RUNS, "system or run")
        _show_device(name, a.out)
        return
    if not folder.is_run and name not in SYSTEMS:
        raise unknown("run folder or system", name, [*SYSTEMS, *PULSED])
    _refuse(a, OF_SYSTEMS if folder.is_run else OF_RUNS, "system" if folder.is_run else "run")
    if folder.is_run:
        _show_run(folder, folder.path if a.out is None else a.out, a.device)
    else:
        _show_system(name, a)


def _refuse(arguments: ShowArguments, names: tuple[str, ...], of: str) -> None:
    """Refuse arguments that mean nothing for what is shown."""
    known = declared(ShowArguments)
    given = [known[n].flag for n in names if getattr(arguments, n) != known[n].default]
    if given:
        raise InputError(f"{', '.join(given)}: only of a {of}, which {arguments.run} is not")


def _show_run(folder: RunFolder, out: Path, device: str | None) -> None:
    """Draw the pictures of a run, and print their paths."""
    config = folder.config(device)
    if not out.is_dir():
        raise InputError(f"--out {out}: is no folder")
    session = open_trained(folder, device)
    if not classifies(session.task):
        raise InputError(
            f"{folder.path}: has learned {config.task}, which has no classes: "
            f"noisynets report {folder.path} shows it"
        )
    name, examples = judged_part(session.config)
    with threads(session):
        found = predictions(session, name, examples)
    title = f"{config.task}, {config.system}, rule {config.rule}, seed {config.seed}"
    draw_confusion(out / "confusion.png", title, found)
    print(f"{name} accuracy {found.accuracy:.4f} ({len(examples)} examples)")
    print(out / "confusion.png")
    if has_pictures(session.task.input_shape) and examples.x.dim() == 4:
        draw_mistakes(out / "mistakes.png", title, found, examples)
        print(out / "mistakes.png")
    filters = first_filters(session.system, session.task.input_shape)
    if filters is not None:
        draw_filters(out / "filters.png", title, filters)
        print(out / "filters.png")


def _show_device(name: str, out: Path | None) -> None:
    """Draw what a pulsed device holds after pulses up and down."""
    path = _picture(name, out)
    draw_response(path, f"{name}: {PULSED[name].summary}", response(PULSED[name]))
    print(path)


def _picture(name: str, out: Path | None) -> Path:
    path = Path(f"{name}.png") if out is None else out
    if not path.parent.is_dir():
        raise InputError(f"--out {path}: there is no folder {path.parent}")
    return path


def _show_system(system: str, arguments: ShowArguments) -> None:
    """Draw the transfer curve of a system's first layer and unit, with the band of their noise."""
    given = Config(
        task="cartpole" if SYSTEMS[system].acts else "mnist",
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
    path = _picture(name, arguments.out)
    noise = f", own noise {config.intrinsic_noise:g}" if config.intrinsic_noise else ""
    device = "" if config.device_preset == "none" else f" on {config.device_preset}"
    draw_transfer(path, f"{system}{device}{noise}", panels(build_with))
    print(path)
