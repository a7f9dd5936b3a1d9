"""What all tests share: one thread, a tiny task beside the real ones, and undrawn pictures.

Small tensors gain nothing from more threads, and busy machines lose a lot. Drawing the curves of a
tiny run takes ten times as long as the run: figures are composed but not rendered, except in tests
with the marker `pictures`.
"""

import io
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start, too

import pytest
import snntorch
import tiny
import torch

from noisynets.tasks.data import TASKS

torch.set_num_threads(1)

collect_ignore = ["zoo"]  # third-party packages: tests/zoo/run.py runs them


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One process per core for the whole suite, and none beside this one for files by name."""
    named = config.args_source is config.ArgsSource.ARGS
    return 0 if named else min(os.cpu_count() or 1, 8)


@pytest.fixture(autouse=True)
def _tiny_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "tiny", tiny.TASK)


@pytest.fixture(autouse=True)
def _own_neurons(monkeypatch: pytest.MonkeyPatch) -> None:
    """snnTorch resets all neurons of the process together: those of other tests, too."""
    monkeypatch.setattr(snntorch.SpikingNeuron, "instances", [])


@pytest.fixture(autouse=True)
def _undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def savefig(figure: object, file: str | Path | io.BytesIO, **settings: object) -> None:
        content = b"not drawn: see tests/conftest.py"
        if isinstance(file, str | Path):
            Path(file).write_bytes(content)
        else:
            file.write(content)

    if request.node.get_closest_marker("pictures") is None:
        monkeypatch.setattr("matplotlib.figure.Figure.savefig", savefig)
