"""sinabs: spiking layers over time, and networks converted from artificial ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sinabs
import sinabs.layers as sl
from architecture import Architecture, With, images, smooth, spikes
from sinabs.from_torch import from_model
from torch import Tensor, nn

STEPS = 3


class Smooth:
    """A spike function with derivatives, as sinabs calls one."""

    required_states = ["v_mem"]

    @staticmethod
    def apply(v_mem: Tensor, spike_threshold: Any, surrogate_grad_fn: Any) -> Tensor:
        return smooth(v_mem - spike_threshold)


def _rested(module: nn.Module, x: Tensor) -> Tensor:
    sinabs.reset_states(module)
    return module(x)


def _layers(kind: Any, head: Any = None, **settings: Any) -> Callable[[], nn.Module]:
    """Spiking layers behind linear ones, over (B, T, n)."""

    def build() -> nn.Module:
        last = sl.ExpLeak(tau_mem=5.0) if head is None else head()
        network = nn.Sequential(
            nn.Linear(4, 6), kind(spike_fn=Smooth, **settings), nn.Linear(6, 3), last
        )
        return With(network, _rested)

    return build


def _recurrent() -> nn.Module:
    layer = sl.LIFRecurrent(tau_mem=5.0, rec_connect=nn.Linear(6, 6), spike_fn=Smooth)
    return With(nn.Sequential(nn.Linear(4, 6), layer, nn.Linear(6, 3)), _rested)


def _ann(last: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 3), last
    )


def _folded(module: nn.Module, x: Tensor) -> Tensor:
    """(B, T, ...) → (B, T, m) through layers that take (B·T, ...)."""
    sinabs.reset_states(module)
    return module(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def _converted(**settings: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        network = from_model(_ann(nn.Identity()), spike_fn=Smooth, min_v_mem=-5.0, **settings)
        return With(network.spiking_model, _folded)

    return build


def _fixed_batch() -> nn.Module:
    """The batch size is fixed at 1, as sinabs' tutorials have it: rows are steps in time."""
    network = from_model(_ann(nn.Identity()), spike_fn=Smooth, min_v_mem=-5.0, batch_size=1)
    return With(network.spiking_model, _rested)


def _net(name: str, build: Callable[[], nn.Module], shape: Any = (STEPS, 4), note: str = "") -> Any:
    return Architecture(name, build, spikes(*shape), note=note, differences=True)


ARCHITECTURES = [
    _net("LIF", _layers(sl.LIF, tau_mem=5.0)),
    _net("LIF with synapses", _layers(sl.LIF, tau_mem=5.0, tau_syn=3.0)),
    _net("LIF, learnt decay", _layers(sl.LIF, tau_mem=5.0, train_alphas=True)),
    _net("LIF, not normalised", _layers(sl.LIF, tau_mem=5.0, norm_input=False, min_v_mem=-2.0)),
    _net("IAF", _layers(sl.IAF)),
    _net("ALIF", _layers(sl.ALIF, tau_mem=5.0, tau_adapt=5.0)),
    _net("LIFRecurrent", _recurrent),
    _net(
        "Converted, steps given",
        _converted(num_timesteps=STEPS),
        (STEPS, 1, 6, 6),
        note="batch and time folded",
    ),
    _net(
        "Converted, batch of 2 given",
        _converted(batch_size=2),
        (STEPS, 1, 6, 6),
        note="batch and time folded",
    ),
    Architecture(
        "Converted, batch of 1",
        _fixed_batch,
        images(1, 6, 6),
        differences=True,
        note="rows are steps",
    ),
]
