"""Pictures of runs are rendered; most other tests only compose them, see conftest.py."""

import io
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image
from tiny import run


@pytest.mark.pictures
def test_a_spiking_run_leaves_its_curves_and_its_spikes(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", system="lif", steps=3, epochs=1, batch_size=50)
    for path in (folder.curves, folder.spikes):
        with Image.open(path) as picture:
            low, high = picture.convert("L").getextrema()
            assert picture.width > 300 and low < 100 < 250 < high, "something is drawn on white"


def test_without_the_marker_nothing_is_rendered() -> None:
    file = io.BytesIO()
    Figure().savefig(file, format="png")
    assert b"PNG" not in file.getvalue()
