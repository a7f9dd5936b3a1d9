"""Fused modules of PyTorch taken apart: every product with weights is an `nn.Linear` of its own.

`nn.GRU`, `nn.MultiheadAttention` and their like multiply with several weights in one call, so that
no activity can be measured or perturbed between the products. `unfused(model)` returns a copy of a
model in which such modules are replaced. The new `nn.Linear` layers hold the Parameters of the
model itself, and every product has the batch as its first dimension, as node perturbation needs it.

=========== ====================================================================================
file        replaces
=========== ====================================================================================
cells       `nn.RNNCell`, `nn.GRUCell`, `nn.LSTMCell`
recurrent   `nn.RNN`, `nn.GRU`, `nn.LSTM`
attention   `nn.MultiheadAttention`
transformer `nn.TransformerEncoderLayer`, `nn.TransformerDecoderLayer`, `nn.TransformerEncoder`,
            `nn.TransformerDecoder`, `nn.Transformer`
parts       what the others share
system      `unfused`, which copies a model
=========== ====================================================================================
"""

from noisynets.systems.unfused.attention import UnfusedAttention
from noisynets.systems.unfused.cells import UnfusedGRUCell, UnfusedLSTMCell, UnfusedRNNCell
from noisynets.systems.unfused.recurrent import UnfusedRecurrent
from noisynets.systems.unfused.system import unfused
from noisynets.systems.unfused.transformer import (
    UnfusedDecoder,
    UnfusedDecoderLayer,
    UnfusedEncoder,
    UnfusedEncoderLayer,
    UnfusedTransformer,
)

__all__ = [
    "UnfusedAttention",
    "UnfusedDecoder",
    "UnfusedDecoderLayer",
    "UnfusedEncoder",
    "UnfusedEncoderLayer",
    "UnfusedGRUCell",
    "UnfusedLSTMCell",
    "UnfusedRNNCell",
    "UnfusedRecurrent",
    "UnfusedTransformer",
    "unfused",
]
