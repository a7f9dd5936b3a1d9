"""The scaling of inputs and targets that a run has learnt, for use of its weights elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from noisynets.run.data import load_data
from noisynets.run.session import Session

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray


def scaling(session: Session) -> dict[str, NDArray[float64]]:
    """Return means and standard deviations by which the examples of a run are standardised.

    Args:
        session: of the run.

    Returns:
        `mean` and `std` of the inputs, (features,) of rows of numbers, and (C, 1, 1) of pictures
        with `--standardise`, after the division of bytes by 255; `target_mean` and `target_std`
        of values to predict, (outputs,). Without those that there are not.

    >>> from noisynets.run.session import build
    >>> from noisynets.run.settings import Config, resolve
    >>> scaling(build(resolve(Config("yinyang", system="mlp"))))
    {}
    """
    own = session.task.own
    inputs = None if own is None else own.scale
    if session.config.standardise:
        inputs = load_data(session.config)[0].scale
    pairs = {"": inputs, "target_": None if own is None else own.target}
    return {
        f"{prefix}{name}": tensor.double().cpu().numpy()
        for prefix, pair in pairs.items()
        if pair is not None
        for name, tensor in zip(("mean", "std"), pair, strict=True)
    }
