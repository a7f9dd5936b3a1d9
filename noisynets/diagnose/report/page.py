"""The page of a run, from its folder and its checkpoint."""

from __future__ import annotations

from typing import Any

from noisynets.diagnose.report.behaviour import behaviour
from noisynets.diagnose.report.layers import layers
from noisynets.diagnose.report.overview import command_of, results, settings, state
from noisynets.diagnose.report.training import training
from noisynets.run.folder import RunFolder
from noisynets.run.page import Block, Notes, Page, Section
from noisynets.run.settings import Config, task_of
from noisynets.run.trust import resuming


def run_page(folder: RunFolder, device: str | None = None) -> Page:
    """Return the page of a run, which may be unfinished.

    Args:
        folder: of the run.
        device: on which its checkpoint is run; None: the run's own.

    Raises:
        InputError: for files that are damaged, data that are missing, or code without permission.
    """
    config = folder.config(device)
    summary = folder.summary()
    measure = task_of(config).measure
    rows = folder.metrics(measure.name) if (folder.path / "metrics.csv").is_file() else []
    begun: tuple[Section, ...] = ()
    if folder.checkpoint.is_file():
        begun = behaviour(folder, device)
    return Page(
        title=f"{config.system} on {config.task}, rule {config.rule}",
        lead=_lead(config, summary, len(rows)),
        sections=(
            Section("Notes and warnings", _notes(folder, config, summary, len(rows))),
            Section("Results", (*results(config, summary, rows), command_of(config))),
            Section("Training", training(config, rows)),
            *begun,
            Section("Layers", layers(folder)),
            Section("Settings", settings(config)),
        ),
    )


def _lead(config: Config, summary: dict[str, Any] | None, epochs: int) -> str:
    """Say in a line what was reached."""
    measure = task_of(config).measure
    reached = (summary or {}).get(f"test_{measure.name}")
    what = "not tested" if reached is None else f"test {state(measure, reached)}"
    return f"Run of seed {config.seed}, {epochs} of {config.epochs} epochs: {what}."


def _notes(
    folder: RunFolder, config: Config, summary: dict[str, Any] | None, epochs: int
) -> tuple[Block, ...]:
    """Return what the estimator has warned of, and what is unusual about the run."""
    found = list((summary or {}).get("notes") or [])
    if summary is None:
        again = resuming(folder.path, config)
        found.append(f"The run is not finished ({epochs} of {config.epochs} epochs): {again}")
    elif summary["diverged"]:
        found.append(
            "The run has diverged: its loss was not finite, or ten times that at the start."
        )
    if not folder.checkpoint.is_file():
        found.append("There is no checkpoint: nothing that needs the trained system is shown.")
    return (Notes(tuple(found), warn=True),) if found else ()
