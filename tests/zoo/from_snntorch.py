"""snntorch: its neurons in its tutorials' loop over time, with smooth spikes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import snntorch as snn
import torch
from architecture import Architecture, smooth, spikes
from snntorch import utils
from torch import Tensor, nn

STEPS = 3


class Loop(nn.Module):
    """A network of `init_hidden` neurons over the steps of (B, T, n); returns (B, T, m).

    Args:
        network: called once per step.
        reset: states start from rest.
        last: of what the network returns, what is kept.
    """

    def __init__(self, network: nn.Module, reset: bool = True, last: bool = True) -> None:
        super().__init__()
        self.network, self.reset, self.last = network, reset, last

    def forward(self, x: Tensor) -> Tensor:
        if self.reset:
            utils.reset(self.network)
        steps = [self.network(x[:, t]) for t in range(x.shape[1])]
        if isinstance(steps[0], tuple):
            steps = [step[-1 if self.last else 0] for step in steps]
        return torch.stack(steps, 1)


class Explicit(nn.Module):
    """The tutorials' network with states passed by hand; potentials stacked over time first."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.fc1 = nn.Linear(4, 6)
        self.lif1 = snn.Leaky(beta=0.8, spike_grad=smooth, **settings)
        self.fc2 = nn.Linear(6, 3)
        self.lif2 = snn.Leaky(beta=0.8, spike_grad=smooth, **settings)

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        recorded = []
        for t in range(x.shape[1]):
            spk1, mem1 = self.lif1(self.fc1(x[:, t]), mem1)
            _, mem2 = self.lif2(self.fc2(spk1), mem2)
            recorded.append(mem2)
        return torch.stack(recorded)


def _two(kind: str, **settings: Any) -> Callable[[], nn.Module]:
    """Two layers of neurons behind linear ones."""

    def build() -> nn.Module:
        made = getattr(snn, kind)
        fixed = {"spike_grad": smooth, "init_hidden": True} | settings
        return Loop(
            nn.Sequential(
                nn.Linear(4, 6), made(**fixed), nn.Linear(6, 3), made(**fixed, output=True)
            )
        )

    return build


def _recurrent(kind: str, **settings: Any) -> Callable[[], nn.Module]:
    """Neurons with recurrent weights of their own, between linear layers."""

    def build() -> nn.Module:
        fixed = {"spike_grad": smooth, "init_hidden": True} | settings
        made = getattr(snn, kind)(**fixed)
        out = snn.Leaky(beta=0.8, spike_grad=smooth, init_hidden=True, output=True)
        return Loop(nn.Sequential(nn.Linear(4, 6), made, nn.Linear(6, 3), out))

    return build


def _lstm() -> nn.Module:
    first = snn.SLSTM(4, 6, spike_grad=smooth, init_hidden=True)
    out = snn.Leaky(beta=0.8, spike_grad=smooth, init_hidden=True, output=True)
    return Loop(nn.Sequential(first, nn.Linear(6, 3), out))


def _conv_lstm() -> nn.Module:
    first = snn.SConv2dLSTM(1, 2, 3, spike_grad=smooth, init_hidden=True)
    out = snn.Leaky(beta=0.8, spike_grad=smooth, init_hidden=True, output=True)
    return Loop(nn.Sequential(first, nn.Flatten(), nn.Linear(32, 3), out))


def _convolutional() -> nn.Module:
    """The tutorial's convolutional network."""

    def leaky(**settings: Any) -> nn.Module:
        return snn.Leaky(beta=0.8, spike_grad=smooth, init_hidden=True, **settings)

    return Loop(
        nn.Sequential(
            nn.Conv2d(1, 2, 3),
            nn.MaxPool2d(2),
            leaky(),
            nn.Flatten(),
            nn.Linear(8, 3),
            leaky(output=True),
        )
    )


class Parallel(nn.Module):
    """All steps at once, time first: (B, T, n) → (T, B, m)."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.first = snn.LeakyParallel(4, 6, spike_grad=smooth, **settings)
        self.second = snn.LeakyParallel(6, 3, spike_grad=smooth, **settings)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x.transpose(0, 1)))


def _norm() -> nn.Module:
    first = snn.Leaky(beta=0.8, spike_grad=smooth, init_hidden=True)
    out = snn.Leaky(beta=0.8, spike_grad=smooth, init_hidden=True, output=True)
    return Loop(
        nn.Sequential(
            nn.Linear(4, 6), nn.BatchNorm1d(6), first, nn.Dropout(0.2), nn.Linear(6, 3), out
        )
    )


def _carried() -> nn.Module:
    """States are left over from batch to batch."""
    return Loop(_two("Leaky", beta=0.8)().network, reset=False)


def _net(
    name: str, build: Callable[[], nn.Module], note: str = "", shape: Any = (STEPS, 4), **more: Any
) -> Architecture:
    return Architecture(name, build, spikes(*shape), note=note, differences=True, **more)


def _rows_first(output: Tensor) -> Tensor:
    return output.transpose(0, 1)


ARCHITECTURES = [
    _net("Leaky", _two("Leaky", beta=0.8)),
    _net("Leaky, reset to zero", _two("Leaky", beta=0.8, reset_mechanism="zero")),
    _net("Leaky, learnt decay", _two("Leaky", beta=0.8, learn_beta=True)),
    _net("Leaky, learnt threshold", _two("Leaky", beta=0.8, learn_threshold=True)),
    _net("Leaky, inhibition", _two("Leaky", beta=0.8, inhibition=True)),
    _net("Leaky, states by hand, time first", Explicit, tensor=_rows_first),
    _net("Leaky, states left over", _carried, "no reset between batches"),
    _net("Leaky, BatchNorm and Dropout", _norm),
    _net("Leaky, convolutional", _convolutional, shape=(STEPS, 1, 6, 6)),
    _net("Synaptic", _two("Synaptic", alpha=0.7, beta=0.8)),
    _net("Alpha", _two("Alpha", alpha=0.9, beta=0.8)),
    _net("Lapicque", _two("Lapicque", beta=0.8)),
    _net("RLeaky", _recurrent("RLeaky", beta=0.8, linear_features=6)),
    _net("RLeaky, one to one", _recurrent("RLeaky", beta=0.8, V=0.5, all_to_all=False)),
    _net("RSynaptic", _recurrent("RSynaptic", alpha=0.7, beta=0.8, linear_features=6)),
    _net("SLSTM", _lstm),
    _net("SConv2dLSTM", _conv_lstm, shape=(STEPS, 1, 4, 4)),
    _net("LeakyParallel", Parallel, tensor=_rows_first),
]
