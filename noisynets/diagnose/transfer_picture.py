"""Picture of transfer curves with their noise bands."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from noisynets.diagnose.transfer import Transfer
from noisynets.run.checkpoint import write_atomically


def draw_transfer(path: Path, title: str, panels: Sequence[tuple[str, Transfer]]) -> None:
    """Draw transfer curves with their noise bands, as a PNG.

    The line is the mean, the dark band one standard deviation over the reads of one chip, the light
    band one standard deviation over reads and chips, and the dots are single reads.

    Args:
        path: path of the picture.
        title: title of the picture.
        panels: a title and a curve for each panel.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8 * len(panels), 4), layout="constrained")
    for axes, (name, curve) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        a, mean = curve.a.numpy(), curve.mean.numpy()
        time, chips = curve.in_time.numpy(), curve.between_chips.numpy()
        both = (time**2 + chips**2) ** 0.5
        axes.plot(a, a, color="0.6", lw=0.8, ls=":", label="identity")
        if chips.max() > 0:
            axes.fill_between(
                a, mean - both, mean + both, alpha=0.15, lw=0, color="C0", label="and chip to chip"
            )
        if time.max() > 0:
            axes.fill_between(
                a, mean - time, mean + time, alpha=0.35, lw=0, color="C0", label="read to read"
            )
            reads = curve.samples[0, :3].numpy()
            axes.plot(a, reads.T, ".", ms=1.5, color="C1", alpha=0.7)
        axes.plot(a, mean, color="C0", label="mean")
        axes.set(title=name, xlabel="activity", ylabel="output")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.suptitle(title)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=130)
    write_atomically(path, image.getvalue())
