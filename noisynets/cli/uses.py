"""Uses of trained runs: weights for other programs, predictions, and comparisons."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from noisynets.cli.runs import RunArguments
from noisynets.core.arrays import npz
from noisynets.core.errors import InputError
from noisynets.core.settings import REQUIRED, setting
from noisynets.run.checkpoint import write_atomically
from noisynets.run.compare import draw, markdown, read_runs
from noisynets.run.evaluate import threads
from noisynets.run.exports import FORMATS, NirSettings, nir_file
from noisynets.run.folder import RunFolder
from noisynets.run.predict import predict as predicted
from noisynets.run.predict import read_inputs, written
from noisynets.run.scaling import scaling
from noisynets.run.train import open_trained
from noisynets.run.trust import Trust, TrustSettings


@dataclass(frozen=True, kw_only=True)
class ExportArguments(RunArguments):
    """Arguments of `noisynets export`."""

    file: Path = setting(
        REQUIRED,
        "File to write: .safetensors, or .pt with tensors alone; or .nir.",
        metavar="FILE",
        positional=True,
    )
    to: str = setting(
        "torch",
        "torch: the state dict of the plain network, without noise, device and decorrelation; nir: "
        "its graph of layers and spiking neurons.",
        kind="format",
        choices=FORMATS,
    )
    dt: float | None = setting(
        None, "With --to nir, time of a step. Unset: 0.0001.", unit="seconds", above=0
    )
    approximate: bool = setting(
        False,
        "With --to nir, write neurons that subtract the threshold as one node each, which most "
        "other programs read, though it is reset to zero. Unset: as several, which are exact.",
    )
    epoch: int | None = setting(None, "As for eval.", at_least=1)


def export(arguments: ExportArguments) -> None:
    """Write the network of a run for other programs, and how its examples are standardised."""
    nir = NirSettings(arguments.dt, arguments.approximate)
    if nir != NirSettings() and FORMATS[arguments.to] is not nir_file:
        raise InputError("--dt and --approximate: belong to --to nir")
    session = open_trained(arguments.folder, "cpu", arguments.epoch)
    file, found = FORMATS[arguments.to](session, arguments.file, nir), scaling(session)
    beside = arguments.file.with_suffix(".scaling.npz")
    if not found and beside.exists():
        what = "is of an earlier export, and this run standardises nothing: remove it"
        raise InputError(f"{beside}: {what}")
    write_atomically(arguments.file, file.data)
    print(f"{arguments.file}: {file.summary}")
    if found:
        write_atomically(beside, npz(found))
        print(f"{beside}: {', '.join(found)}, by which examples were standardised")


@dataclass(frozen=True, kw_only=True)
class PredictArguments(RunArguments):
    """Arguments of `noisynets predict`."""

    inputs: Path = setting(
        REQUIRED,
        "Inputs: an .npz file with x; of a run of arrays:, also a .csv file; of a run of folder:, "
        "a picture, or a folder of pictures.",
        metavar="INPUTS",
        positional=True,
    )
    out: Path = setting(
        Path("predictions.csv"),
        "File to write: .csv (class and probabilities, or values) or .npz (the outputs too).",
        metavar="FILE",
    )
    epoch: int | None = setting(None, "As for eval.", at_least=1)
    device: str | None = setting(None, "auto, cpu or cuda. Unset: the run's own.")


def predict(arguments: PredictArguments) -> None:
    """Write the predictions of a run for inputs of your own."""
    session = open_trained(arguments.folder, arguments.device, arguments.epoch)
    with threads(session):
        found = predicted(session, read_inputs(session.task, arguments.inputs))
    write_atomically(arguments.out, written(found, arguments.out))
    print(f"{arguments.out}: predictions for {len(found.names)} inputs")


@dataclass(frozen=True, kw_only=True)
class CompareArguments(TrustSettings):
    """Arguments of `noisynets compare`."""

    runs: tuple[Path, ...] = setting((), "Folders of runs.", metavar="RUN", positional=True)
    out: Path = setting(
        Path("compare.png"), "Picture of all curves, a PNG, to write.", metavar="FILE"
    )


def compare(arguments: CompareArguments) -> None:
    """Print in which settings runs differ, and their results; draw their curves over each other."""
    trust = Trust(everything=arguments.trust)
    runs = read_runs([RunFolder(path, trust) for path in arguments.runs])
    print(markdown(runs))
    draw(arguments.out, runs)
    print(f"\n{arguments.out}")
