"""norse: cells in its `SequentialState`, lifted over time, with smooth spikes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import norse.torch as norse
import torch
from architecture import Architecture, With, smooth, spikes
from norse.torch.functional import threshold as thresholds
from torch import Tensor, nn

for _module in [m for name, m in sys.modules.items() if name.startswith("norse")]:
    if getattr(_module, "threshold", None) is thresholds.threshold:
        _module.threshold = lambda x, method, alpha: smooth(x)

STEPS = 3


def _time_first(module: nn.Module, x: Tensor) -> Tensor:
    """(B, T, n) → (B, T, m) through a module that takes (T, B, n) and returns (out, state)."""
    return module(x.transpose(0, 1))[0].transpose(0, 1)


def _lifted(*layers: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """Layers called step by step."""

    def build() -> nn.Module:
        network = norse.SequentialState(*[layer() for layer in layers])
        return With(norse.Lift(network), _time_first)

    return build


def _in_time(*layers: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """Layers that each take all steps, time first."""

    def build() -> nn.Module:
        return With(norse.SequentialState(*[layer() for layer in layers]), _time_first)

    return build


def _linear(inputs: int, outputs: int) -> Callable[[], nn.Module]:
    return lambda: nn.Linear(inputs, outputs)


def _between(cell: Any, **settings: Any) -> Callable[[], nn.Module]:
    """A cell between linear layers, before a leaky integrator."""
    return _lifted(_linear(4, 6), lambda: cell(**settings), _linear(6, 3), norse.LICell)


def _recurrent(cell: Any, **settings: Any) -> Callable[[], nn.Module]:
    """A cell with input weights and recurrent weights of its own."""
    return _lifted(lambda: cell(4, 6, **settings), _linear(6, 3), norse.LICell)


def _net(
    name: str, build: Callable[[], nn.Module], shape: Any = (STEPS, 4), rows: int = 1024
) -> Architecture:
    return Architecture(name, build, spikes(*shape), differences=True, rows=rows)


def _conv(build: Any) -> Callable[[], nn.Module]:
    """A model that takes (T, B, ...) and returns one tensor, (T, B, m)."""
    return lambda: With(build(), lambda module, x: module(x.transpose(0, 1)).transpose(0, 1))


class Memory(nn.Module):
    """norse's example of a memory task: recurrent cells and a linear read-out, in a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = norse.LSNNRecurrentCell(4, 6)
        self.dense = nn.Linear(6, 3)
        self.readout = norse.LILinearCell(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        state, held, found = None, None, []
        for t in range(x.shape[1]):
            out, state = self.layer(x[:, t], state)
            value, held = self.readout(self.dense(out), held)
            found.append(value)
        return torch.stack(found, 1)


ARCHITECTURES = [
    _net("LIFCell", _between(norse.LIFCell)),
    _net("LIFBoxCell", _between(norse.LIFBoxCell)),
    _net("LIFAdExCell", _between(norse.LIFAdExCell)),
    _net("LIFExCell", _between(norse.LIFExCell)),
    _net("LIFRefracCell", _between(norse.LIFRefracCell)),
    _net("LSNNCell", _between(norse.LSNNCell)),
    _net("IAFCell", _between(norse.IAFCell)),
    _net("LIF over time", _in_time(_linear(4, 6), norse.LIF, _linear(6, 3), norse.LI)),
    _net(
        "LIF over as many steps as rows",
        _in_time(_linear(4, 6), norse.LIF, _linear(6, 3), norse.LI),
        (4, 4),
        rows=2,
    ),
    _net("LSNN over time", _in_time(_linear(4, 6), norse.LSNN, _linear(6, 3), norse.LI)),
    _net("LIFRecurrentCell", _recurrent(norse.LIFRecurrentCell)),
    _net("LSNNRecurrentCell", _recurrent(norse.LSNNRecurrentCell)),
    _net("LIFMCRecurrentCell", _recurrent(norse.LIFMCRecurrentCell)),
    _net("LIFRefracRecurrentCell", _recurrent(norse.LIFRefracRecurrentCell)),
    _net(
        "LIFRecurrent over time",
        _in_time(lambda: norse.LIFRecurrent(4, 6), _linear(6, 3), norse.LI),
    ),
    _net("LSNN and LILinearCell", Memory),
    _net(
        "LIFCell behind a convolution",
        _lifted(
            lambda: nn.Conv2d(1, 2, 3), norse.LIFCell, nn.Flatten, _linear(32, 3), norse.LICell
        ),
        (STEPS, 1, 6, 6),
    ),
]
