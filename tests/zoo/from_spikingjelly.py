"""spikingjelly: its models and layers with smooth spikes, reset before every batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from architecture import Architecture, With, images, spikes
from torch import Tensor, nn

from noisynets.bench.networks import no_torchvision

no_torchvision.install()
from spikingjelly.activation_based import (  # noqa: E402
    functional,
    layer,
    neuron,
    rnn,
    surrogate,
)
from spikingjelly.activation_based.model import (  # noqa: E402
    maxformer,
    ms_resnet,
    qkformer,
    spike_driven_transformer,
    spikformer,
)

STEPS = 3
SMOOTH = surrogate.Sigmoid(alpha=4.0, spiking=False)


def _rested(module: nn.Module, x: Tensor) -> Tensor:
    functional.reset_net(module)
    return module(x)


def _time_first(module: nn.Module, x: Tensor) -> Tensor:
    """(B, T, ...) → (B, T, m) through a multi-step module."""
    functional.reset_net(module)
    out = module(x.transpose(0, 1))
    out = out[0] if isinstance(out, tuple) else out
    return out.transpose(0, 1) if len(out) == x.shape[1] else out


def _steps(module: nn.Module, x: Tensor) -> Tensor:
    """The mean over the steps of a single-step module, as the package's examples have it."""
    functional.reset_net(module)
    return sum(module(x[:, t]) for t in range(x.shape[1])) / x.shape[1]


def _two(kind: Any, multi: bool = False, plain: bool = False, **settings: Any) -> Any:
    """Two layers of neurons; `plain` layers are PyTorch's own."""

    def build() -> nn.Module:
        linear = nn.Linear if plain else layer.Linear
        fixed = {"surrogate_function": SMOOTH, "detach_reset": False} | settings
        network = nn.Sequential(linear(4, 6), kind(**fixed), linear(6, 3), kind(**fixed))
        if multi:
            functional.set_step_mode(network, "m")
        return With(network, _time_first if multi else _steps)

    return build


def _kept() -> nn.Module:
    """No reset: the states of the batch before are left."""
    network = _two(neuron.LIFNode, plain=True)().module
    return With(network, lambda module, x: sum(module(x[:, t]) for t in range(x.shape[1])))


def _formed(kind: Any, call: Any = _rested, **settings: Any) -> Callable[[], nn.Module]:
    """A model that repeats a picture over its steps, or takes (T, B, ...)."""
    return lambda: With(
        kind(
            spiking_neuron=neuron.LIFNode,
            surrogate_function=SMOOTH,
            num_classes=3,
            **settings,
        ),
        call,
    )


def _steps_first(module: nn.Module, x: Tensor) -> Tensor:
    """A picture through a model that returns (T, B, m)."""
    return _rested(module, x).transpose(0, 1)


def _recurrent(kind: Any) -> Callable[[], nn.Module]:
    class Read(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = kind(4, 5, 1, surrogate_function1=SMOOTH)
            self.head = nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            out, _ = self.rnn(x.transpose(0, 1))
            return self.head(out.transpose(0, 1))

    return Read


def _contained() -> nn.Module:
    """PyTorch's layers in a container that folds time into rows."""
    network = nn.Sequential(
        layer.SeqToANNContainer(nn.Linear(4, 6)),
        neuron.LIFNode(surrogate_function=SMOOTH, step_mode="m"),
        layer.SeqToANNContainer(nn.Linear(6, 3)),
    )
    return With(network, _time_first)


def _net(
    name: str,
    build: Callable[[], nn.Module],
    shape: Any = (STEPS, 4),
    note: str = "",
    **settings: Any,
) -> Architecture:
    return Architecture(
        name, build, spikes(*shape), note=note, **({"differences": True} | settings)
    )


def _picture(name: str, build: Callable[[], nn.Module], size: int) -> Architecture:
    return Architecture(name, build, images(3, size, size), differences=False)


ARCHITECTURES = [
    _net("IFNode", _two(neuron.IFNode)),
    _net("LIFNode", _two(neuron.LIFNode)),
    _net("LIFNode, layers of PyTorch", _two(neuron.LIFNode, plain=True)),
    _net("LIFNode, soft reset", _two(neuron.LIFNode, plain=True, v_reset=None)),
    _net("ParametricLIFNode", _two(neuron.ParametricLIFNode, plain=True)),
    _net("QIFNode", _two(neuron.QIFNode, plain=True)),
    _net("EIFNode", _two(neuron.EIFNode, plain=True)),
    _net("KLIFNode", _two(neuron.KLIFNode, plain=True)),
    _net("LIFNode, states left over", _kept, note="no reset between batches"),
    _net("LIFNode, multi-step", _two(neuron.LIFNode, multi=True)),
    _net(
        "LIFNode, multi-step, layers of PyTorch",
        _two(neuron.LIFNode, multi=True, plain=True),
        note="time first",
    ),
    _net(
        "LIFNode, as many steps as rows",
        _two(neuron.LIFNode, multi=True, plain=True),
        (4, 4),
        rows=2,
        note="time first",
    ),
    _net("SeqToANNContainer", _contained, note="time folded into rows"),
    _net("SpikingLSTM", _recurrent(rnn.SpikingLSTM)),
    _net("SpikingGRU", _recurrent(rnn.SpikingGRU)),
    _picture(
        "Spike-driven transformer",
        _formed(
            spike_driven_transformer.SpikeDrivenTransformer,
            T=2,
            embed_dims=8,
            num_heads=2,
            depths=1,
            mlp_ratio=1.0,
        ),
        16,
    ),
    _picture(
        "QKFormer",
        _formed(
            qkformer.QKFormer,
            T=2,
            embed_dims=8,
            num_heads=(1, 1, 1),
            depths=(1, 1, 1),
            mlp_ratio=1.0,
        ),
        16,
    ),
    _picture(
        "MaxFormer",
        _formed(maxformer.MaxFormer, T=2, embed_dims=8, depths=(1, 1, 1), mlp_ratio=1.0),
        16,
    ),
    _picture(
        "MS-ResNet",
        _formed(
            ms_resnet.MSResNet, T=2, layers=(1, 1, 1), base_channels=4, stage_channels=(4, 4, 4)
        ),
        12,
    ),
    _picture(
        "Spikformer",
        _formed(
            spikformer.Spikformer,
            _steps_first,
            T=3,
            img_size_h=16,
            img_size_w=16,
            patch_size=16,
            embed_dims=8,
            num_heads=2,
            mlp_ratio=1.0,
            depths=1,
        ),
        16,
    ),
]
