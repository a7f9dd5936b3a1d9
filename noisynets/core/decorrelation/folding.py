"""The weights of a plain layer that computes what a decorrelated one does."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from noisynets.core.decorrelation.layers import Decorrelated
from noisynets.core.errors import InputError


def folded(name: str, module: Decorrelated, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return W R, and b − W R m, which a plain layer needs to compute the same.

    Args:
        name: of the layer, for error messages.
        module: the decorrelated layer.
        own: weight W, (out, *in), and bias b, (out,), on the CPU.

    Raises:
        InputError: for a layer without bias whose inputs are centred.
    """
    kernel = own["weight"].flatten(1) @ module.matrix.cpu()
    found = {"weight": kernel.view_as(own["weight"])}
    if not module.demean:
        return found
    if "bias" not in own:
        raise InputError(f"layer {name!r} has no bias, which centred inputs need: train it anew")
    return found | {"bias": own["bias"] - kernel @ module.mean.cpu()}
