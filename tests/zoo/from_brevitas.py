"""brevitas: quantised weights. Its straight-through derivatives are what autograd has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brevitas.nn as qnn
import torch
from architecture import Architecture, images
from brevitas.quant import (
    Int8WeightPerChannelFloat,
    Int8WeightPerTensorFixedPoint,
    Int8WeightPerTensorFloat,
    SignedBinaryWeightPerTensorConst,
    SignedTernaryWeightPerTensorConst,
)
from torch import Tensor, nn

from noisynets.core.outer import outer


def _perceptron(quant: Any, act: Callable[[], nn.Module] = nn.Tanh) -> Callable[[], nn.Module]:
    """Quantised layers with a smooth unit between them."""

    def build() -> nn.Module:
        return nn.Sequential(
            qnn.QuantLinear(4, 6, weight_quant=quant),
            act(),
            qnn.QuantLinear(6, 3, weight_quant=quant),
        )

    return build


def _convolutional(last: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """A LeNet, as in the package's tutorial, with its activations as they are."""

    def build() -> nn.Module:
        return nn.Sequential(
            qnn.QuantConv2d(1, 2, 3, weight_bit_width=4),
            nn.Tanh(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            last(),
        )

    return build


class Mixed(nn.Module):
    """A frozen quantised body between layers of PyTorch."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.body = qnn.QuantLinear(6, 6).requires_grad_(False)
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.body(self.first(x).tanh()).tanh())


class Attention(nn.Module):
    """brevitas' multi-head attention over (B, T, 8), with a head."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = qnn.QuantMultiheadAttention(
            8,
            2,
            batch_first=True,
            in_proj_input_quant=None,
            in_proj_bias_quant=None,
            out_proj_bias_quant=None,
            q_scaled_quant=None,
            k_transposed_quant=None,
            v_quant=None,
            attn_output_weights_quant=None,
            out_proj_input_quant=None,
        )
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attention(x, x, x)[0])


class Recurrent(nn.Module):
    """brevitas' LSTM or RNN over (B, T, 4), with a head."""

    def __init__(self, kind: Any) -> None:
        super().__init__()
        none = {"io_quant": None, "gate_acc_quant": None, "bias_quant": None}
        if kind is qnn.QuantLSTM:
            none |= {"sigmoid_quant": None, "tanh_quant": None, "cell_state_quant": None}
        self.rnn = kind(4, 5, batch_first=True, **none)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0])


class Tensors(nn.Module):
    """Layers that return quantised tensors, and a quantised sum of two branches."""

    def __init__(self) -> None:
        super().__init__()
        self.inlet = qnn.QuantIdentity(return_quant_tensor=True)
        self.one = qnn.QuantLinear(4, 6, return_quant_tensor=True)
        self.two = qnn.QuantLinear(4, 6, return_quant_tensor=True)
        self.sum = qnn.QuantEltwiseAdd(return_quant_tensor=False)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inlet(x)
        return self.head(self.sum(self.one(x), self.two(x)))


def _fully() -> nn.Module:
    """Weights and activations quantised."""
    return nn.Sequential(
        qnn.QuantIdentity(),
        qnn.QuantLinear(4, 6),
        qnn.QuantReLU(),
        qnn.QuantLinear(6, 3),
    )


def _embedded() -> nn.Module:
    return nn.Sequential(qnn.QuantEmbedding(8, 4), nn.Linear(4, 3))


def _scaled() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 2, 2),
        qnn.QuantScaleBias(2, bias=True),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(18, 3),
    )


def _transposed() -> nn.Module:
    return nn.Sequential(
        qnn.QuantConvTranspose2d(1, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(50, 3)
    )


def _registered(quant: Any) -> Callable[[], nn.Module]:
    """Quantised layers, with the product of their parent as a refusal advises."""

    def build() -> nn.Module:
        outer.register(qnn.QuantLinear, outer.dispatch(nn.Linear))
        return _perceptron(quant)()

    return build


def _net(name: str, build: Callable[[], nn.Module], *shape: int) -> Architecture:
    return Architecture(name, build, images(*shape))


ARCHITECTURES = [
    _net("QuantLinear, 8 bits", _perceptron(Int8WeightPerTensorFloat), 4),
    _net("QuantLinear, per channel", _perceptron(Int8WeightPerChannelFloat), 4),
    _net("QuantLinear, fixed point", _perceptron(Int8WeightPerTensorFixedPoint), 4),
    _net("QuantLinear, binary", _perceptron(SignedBinaryWeightPerTensorConst), 4),
    _net("QuantLinear, ternary", _perceptron(SignedTernaryWeightPerTensorConst), 4),
    _net("QuantLinear, weights as they are", _perceptron(None), 4),
    _net("QuantLinear, 8 bits, registered", _registered(Int8WeightPerTensorFloat), 4),
    _net("QuantLinear, binary, registered", _registered(SignedBinaryWeightPerTensorConst), 4),
    _net("QuantLinear, weights as they are, registered", _registered(None), 4),
    _net(
        "LeNet, 4 bits", _convolutional(lambda: qnn.QuantLinear(8, 3, weight_bit_width=4)), 1, 6, 6
    ),
    _net("LeNet, plain head", _convolutional(lambda: nn.Linear(8, 3)), 1, 6, 6),
    _net("Frozen body", Mixed, 4),
    _net("QuantMultiheadAttention", Attention, 3, 8),
    _net("QuantLSTM", lambda: Recurrent(qnn.QuantLSTM), 3, 4),
    _net("QuantRNN", lambda: Recurrent(qnn.QuantRNN), 3, 4),
    _net("Quantised tensors", Tensors, 4),
    _net("Activations quantised", _fully, 4),
    Architecture("QuantEmbedding", _embedded, lambda: torch.randint(8, (2, 3))),
    _net("QuantScaleBias", _scaled, 1, 4, 4),
    _net("QuantConvTranspose2d", _transposed, 1, 4, 4),
]
