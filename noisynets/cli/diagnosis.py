"""Diagnosis of a run or a system."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from noisynets.cli.runs import loaded
from noisynets.core.errors import InputError, unknown
from noisynets.core.pages import Page
from noisynets.core.settings import REQUIRED, setting
from noisynets.core.values import options, value
from noisynets.diagnose import (
    advise,
    as_json,
    bias,
    bias_as_json,
    bias_table,
    draw,
    draw_bias,
    measure,
    settled,
    summary,
    table,
    title,
    warmed,
)
from noisynets.estimators.methods import METHODS
from noisynets.run.evaluate import threads
from noisynets.run.folder import RunFolder
from noisynets.run.lock import locked
from noisynets.run.session import steps_per_epoch
from noisynets.run.settings import Config, resolve
from noisynets.run.train import open_session
from noisynets.run.trust import Trust, TrustSettings
from noisynets.systems.catalogue import SYSTEMS

DIAGNOSING = ".diagnose.lock"
"""Name of the lock: a run can be diagnosed while it goes on."""
MINE = ("device", "data_dir", "box", "box_timeout")
"""Settings that may differ from a run's own."""


@dataclass(frozen=True, kw_only=True)
class DiagnoseArguments(TrustSettings):
    """Arguments of `noisynets diagnose`, beside settings of train.

    Of a run, --device, --data-dir, --box and --box-timeout are the only settings that may be given.
    """

    target: str = setting(
        REQUIRED,
        "Folder of a run, which is measured at its checkpoint; or a system, followed by other "
        "options of train.",
        metavar="RUN|SYSTEM",
        positional=True,
    )
    out: Path | None = setting(
        None,
        "Picture, a PNG; the numbers go beside it, as JSON. Unset: diagnose.png in the folder of "
        "the run, or SYSTEM-diagnose.png here.",
    )
    warm_up: int = setting(100, "Steps of training of a system before it is measured.", at_least=0)
    trial_steps: int = setting(
        100,
        "Steps of three short runs from the start, at lr/3, lr and 3 lr; 0: none.",
        at_least=0,
    )
    bias: tuple[str, ...] = setting(
        (),
        "Rules of which the cosine of the mean of 1 to 256 estimates is drawn too (…-bias.png). "
        "Others than the run's own learn their feedback first.",
    )


def diagnose(arguments: DiagnoseArguments, config: Config) -> None:
    """Measure a run or a system layer by layer, and name the setting to change."""
    target, out = arguments.target, arguments.out
    warm_up, trial_steps = arguments.warm_up, arguments.trial_steps
    folder = RunFolder(Path(target), _trust(arguments, config), config.box_timeout)
    is_run = folder.is_run
    for rule in arguments.bias:
        if rule not in METHODS:
            raise unknown("rule", rule, METHODS, page=Page.WHICH_RULE)
    if not is_run and target not in SYSTEMS:
        raise unknown("run folder or system", target, SYSTEMS)
    path = out or (folder.path / "diagnose.png" if is_run else Path(f"{target}-diagnose.png"))
    if path.suffix != ".png" or not path.parent.is_dir():
        raise InputError(f"--out {path}: must be a .png in a folder that is there")
    diverged = False
    if is_run:
        _refuse_settings(config, target)
        if not folder.checkpoint.is_file():
            raise InputError(f"{target}: no checkpoint yet; continue with: noisynets resume RUN")
        session = open_session(folder, config.device if config.device != "auto" else None)
        if config.data_dir is not None:
            session.config = replace(session.config, data_dir=str(Path(config.data_dir).absolute()))
        train_set, _ = loaded(session.config)
        batches = steps_per_epoch(session.config, len(train_set))
        steps = session.progress.epoch * batches + session.progress.step
        diverged = bool((folder.summary() or {}).get("diverged"))
    else:
        if config.system not in (Config().system, target):
            raise InputError(f"--system {config.system}: it is {target!r} that is diagnosed")
        config = resolve(replace(config, system=target))
        train_set, _ = loaded(config)
        config = settled(config, train_set)
        session, steps = warmed(config, train_set, warm_up)
        diverged = steps < warm_up
    with threads(session):
        found = measure(session, train_set, steps=steps, trial_steps=trial_steps, diverged=diverged)
        curves = bias(session, train_set, arguments.bias)
    findings = advise(found)
    print(table(found))
    print(f"\n{summary(findings)}\n\n{path}")
    with locked(path.parent, DIAGNOSING):
        draw(path, found, findings)
        RunFolder(path.parent).write(path.with_suffix(".json").name, as_json(found, findings))
        if curves:
            picture = path.with_name(f"{path.stem}-bias.png")
            print(f"\n{bias_table(curves)}\n\n{picture}")
            draw_bias(picture, title(found), curves)
            RunFolder(path.parent).write(picture.with_suffix(".json").name, bias_as_json(curves))


def _trust(arguments: DiagnoseArguments, config: Config) -> Trust:
    """Return permission to run what this command line names."""
    folder = None if config.data_dir is None else str(Path(config.data_dir).absolute())
    named = frozenset(name for name in (config.box, folder) if name is not None)
    return Trust(named, arguments.trust)


def _refuse_settings(config: Config, target: str) -> None:
    """Refuse settings beside those of a run."""
    given = [
        option.flag
        for name, option in options(Config).items()
        if name not in MINE and value(config, name) != option.default
    ]
    if given:
        names = ", ".join(given)
        raise InputError(f"{names}: the settings of {target} are in its folder")
