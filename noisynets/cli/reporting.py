"""Reports of runs and benchmarks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from noisynets.bench.page import bench_page, is_bench
from noisynets.cli.diagnosis import DiagnoseArguments
from noisynets.cli.diagnosis import diagnose as diagnose_
from noisynets.cli.runs import RunArguments
from noisynets.core.errors import InputError
from noisynets.core.settings import REQUIRED, setting
from noisynets.diagnose.report import run_page
from noisynets.run.checkpoint import write_atomically
from noisynets.run.page import needs_plotly, rendered
from noisynets.run.settings import Config


@dataclass(frozen=True, kw_only=True)
class ReportArguments(RunArguments):
    """Arguments of `noisynets report`."""

    run: Path = setting(
        REQUIRED, "Folder of a run, or of a benchmark.", metavar="RUN|BENCH", positional=True
    )
    out: Path | None = setting(None, "The page, an .html. Unset: report.html in the folder.")
    diagnose: bool = setting(False, "Diagnose the run first, as `noisynets diagnose` does.")
    device: str | None = setting(None, "Of a run: auto, cpu or cuda. Unset: the run's own.")


def report(arguments: ReportArguments) -> None:
    """Write one HTML page about a run or a benchmark, which needs nothing else to be read.

    Of a run, it shows the command to make it again, settings, results, curves, what its checkpoint
    does with the validation set, and the layers of a diagnosis; of a benchmark, the table of
    results, the curves of the rules and the candidates of the search.
    """
    needs_plotly()
    a, folder = arguments, arguments.folder
    if not folder.is_run and not is_bench(a.run):
        raise InputError(
            f"{a.run}: no folder of a run (config.json is missing) or of a benchmark "
            "(results.csv is missing)"
        )
    if not folder.is_run and (a.diagnose or a.device is not None):
        raise InputError(f"--diagnose, --device: only of a run, which {a.run} is not")
    path = a.run / "report.html" if a.out is None else a.out
    if path.suffix != ".html" or not path.parent.is_dir():
        raise InputError(f"--out {path}: must be an .html in a folder that is there")
    if a.diagnose:
        given = DiagnoseArguments(target=str(a.run), trust=a.trust)
        diagnose_(given, Config(device=a.device or "auto", box=a.box, box_timeout=a.box_timeout))
    page = (
        run_page(folder, a.device)
        if folder.is_run
        else bench_page(a.run, path.parent, folder.trust)
    )
    write_atomically(path, rendered(page).encode())
    print(path)
