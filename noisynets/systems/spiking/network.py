"""Spiking(network): a network of layers and neurons that is run step by step through a trial."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from noisynets.core.errors import InputError, SystemRefused
from noisynets.core.nodes import first_link, is_builtin
from noisynets.core.pages import Page
from noisynets.core.trial import Stepped, trial
from noisynets.core.types import Wrapper
from noisynets.systems.spiking.adapt import is_snntorch
from noisynets.systems.spiking.readouts import MeanMembrane, Readout


class Spiking(Stepped):
    """Runs a network through a trial of T steps, from rest, and reads out the result.

    All state is discarded after a trial, and networks never share state.

    Args:
        network: one step, (B, *in) → (B, *out): layers and neurons.
        steps: T for inputs that are the same in every step; None: T of the inputs.
        readout: of the network's outputs in each step; None: `MeanMembrane()`.

    Raises:
        InputError: for T < 1; in a call, for inputs with another number of steps.
        SystemRefused: for snnTorch's own neurons; see `adapt`.

    >>> from noisynets.systems.spiking import Leaky
    >>> net = Spiking(nn.Sequential(nn.Linear(4, 8), Leaky(0.9), nn.Linear(8, 3)), steps=10)
    >>> net(torch.rand(5, 1, 4)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self, network: nn.Module, steps: int | None = None, readout: Readout | None = None
    ) -> None:
        super().__init__()
        if steps is not None and steps < 1:
            raise InputError(f"steps {steps} must be at least 1")
        unsupported = [name for name, m in network.named_modules() if is_snntorch(m)]
        if unsupported:
            raise SystemRefused(
                f"{', '.join(map(repr, unsupported))}: snnTorch's neurons keep their state between "
                "trials: use Spiking(adapt(network))",
                page=Page.NEURONS,
            )
        self.network = network
        self.steps = steps
        self.readout = MeanMembrane() if readout is None else readout

    def forward(self, x: Tensor) -> Tensor:
        """Run a trial: (B, T, *in), or (B, 1, *in) for constant inputs → output (B, *out)."""
        length = x.shape[1] if x.dim() > 1 else 0
        steps = length if self.steps is None else self.steps
        if length < 1 or length not in (1, steps):
            raise InputError(
                f"inputs of shape {tuple(x.shape)} for {steps} steps: give (B, {steps}, ...), or "
                "(B, 1, ...) for inputs that are the same in every step"
            )
        dtype = next((p.dtype for p in self.network.parameters()), torch.get_default_dtype())
        first = first_link(self.network)
        while isinstance(first, Wrapper):
            first = first.layer
        counts = not isinstance(first, nn.Embedding)  # which takes numbers of rows
        inputs = [x[:, t].to(dtype) if counts else x[:, t] for t in range(length)]
        constant_input = length < steps and is_builtin(first)
        with trial(self), computed_once(first) if constant_input else nullcontext():
            for t in range(steps):
                output: Tensor = self.readout(self.network(inputs[t % length]))
        return output

    def extra_repr(self) -> str:
        """Show the settings in `print(module)`."""
        return f"steps={self.steps}"


@contextmanager
def computed_once(layer: nn.Module) -> Iterator[None]:
    """Recompute a layer only if its input or weights changed since its last call.

    Args:
        layer: deterministic and without state.

    >>> layer, x = nn.Linear(2, 3), torch.ones(1, 2)
    >>> with computed_once(layer):
    ...     one, other = layer(x), layer(x)
    >>> torch.equal(one, other), one is other, "forward" in vars(layer)
    (True, False, False)
    """
    compute = layer.forward
    last_arguments: list[Tensor] = []
    last_versions: list[int] = []
    result: Tensor | None = None

    def forward(x: Tensor) -> Tensor:
        nonlocal last_arguments, last_versions, result
        arguments = [x, *layer.parameters(recurse=False)]
        versions = [-1 if t.is_inference() else t._version for t in arguments]
        same = len(last_arguments) == len(arguments) and all(
            map(_same_storage, last_arguments, arguments)
        )
        if result is None or not same or last_versions != versions or min(versions) < 0:
            last_arguments, last_versions, result = arguments, versions, compute(x)
        return result.clone()  # a following module may change it in place

    layer.forward = forward
    try:
        yield
    finally:
        del layer.forward


def _same_storage(one: Tensor, other: Tensor) -> bool:
    """True if two tensors share memory, shape, strides and dtype."""
    return (
        one.data_ptr() == other.data_ptr()
        and one.shape == other.shape
        and one.stride() == other.stride()
        and one.dtype == other.dtype
    )
