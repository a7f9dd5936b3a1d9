"""`nn.RNN`, `nn.GRU` and `nn.LSTM` as loops over time, made of cells.

In every layer and direction, the product with the input is one call for all time steps,
(B, T, F) → (B, T, G·H); that with the state is one call per step, (B, H) → (B, G·H).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from noisynets.core.errors import InputError
from noisynets.systems.unfused.cells import (
    State,
    UnfusedCell,
    UnfusedGRUCell,
    UnfusedLSTMCell,
    UnfusedRNNCell,
    check_shapes,
)
from noisynets.systems.unfused.parts import holds

SETTINGS = (
    *("mode", "input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout"),
    *("bidirectional", "proj_size"),
)
"""Attributes of `nn.RNNBase` that say what it is."""


class UnfusedRecurrent(nn.Module):
    """Layers of recurrent cells, in one or two directions.

    Sequences of different lengths (`PackedSequence`) are padded; a state is kept from a row's last
    step on, and is therefore the one that the fused module returns.

    Args:
        fused: an `nn.RNN`, `nn.GRU` or `nn.LSTM`, whose Parameters are shared.

    Attributes:
        cells: one per layer and direction, in the order l0, l0_reverse, l1, …
        drop: dropout between the layers.

    >>> fused = nn.GRU(3, 2, num_layers=2, batch_first=True)
    >>> gru = UnfusedRecurrent(fused)
    >>> gru.cells[1].hh.weight is fused.weight_hh_l1
    True
    >>> output, h = gru(torch.ones(4, 5, 3))
    >>> output.shape, bool(torch.allclose(output, fused(torch.ones(4, 5, 3))[0], atol=1e-6))
    (torch.Size([4, 5, 2]), True)
    """

    def __init__(self, fused: nn.RNNBase) -> None:
        super().__init__()
        for name in SETTINGS:
            setattr(self, name, getattr(fused, name))
        self.directions = 2 if fused.bidirectional else 1
        self.cells = nn.ModuleList(_cell(fused, names) for names in fused._all_weights)
        self.drop = nn.Dropout(fused.dropout)

    def flatten_parameters(self) -> None:
        """Do nothing: Parameters are used where they are."""

    def forward(
        self, input: Tensor | PackedSequence, hx: Tensor | State | None = None
    ) -> tuple[Tensor | PackedSequence, Tensor | State]:
        """Return outputs and final state, as the module of PyTorch does.

        Args:
            input: (T, B, F), or (B, T, F) if `batch_first`; (T, F) without a batch; or packed.
            hx: state at the start, of the shape that is returned; None: zeros.

        Returns:
            Outputs of the last layer, in the layout of the input, (…, D·H) with D directions; and
            the final state h (L·D, B, H) of L layers, of an LSTM (h, c); without a batch (L·D, H).

        Raises:
            InputError: for an input that is no sequence, or a state of another shape.
        """
        if isinstance(input, PackedSequence):
            x, lengths = pad_packed_sequence(input, batch_first=True)
            alive = torch.arange(x.shape[1]) < lengths[:, None]
            output, state = self._run(x, hx, alive.to(x.device))
            return _packed(output, lengths, input), state
        if input.dim() not in (2, 3):
            raise InputError(f"a sequence of {input.dim()} dimensions: give it 3, or 2 for one row")
        if input.dim() == 2:
            given = hx[:, None] if isinstance(hx, Tensor) else hx and tuple(h[:, None] for h in hx)
            output, state = self._run(input[None], given, None)
            first = state[:, 0] if isinstance(state, Tensor) else tuple(s[:, 0] for s in state)
            return output[0], first
        x = input if self.batch_first else input.transpose(0, 1)
        output, state = self._run(x, hx, None)
        return output if self.batch_first else output.transpose(0, 1), state

    def _run(
        self, x: Tensor, hx: Tensor | State | None, alive: Tensor | None
    ) -> tuple[Tensor, Tensor | State]:
        """Return outputs (B, T, D·H), and the final state.

        Args:
            x: (B, T, F).
            hx: state at the start, (L·D, B, H) each, or None.
            alive: (B, T), True where a row still has a step; None: everywhere.
        """
        cells: list[Any] = list(self.cells)
        starts, finals = _starts(cells, x, hx), []
        for i in range(0, len(cells), self.directions):
            outputs = []
            for j in range(self.directions):
                output, state = _loop(cells[i + j], x, starts[i + j], alive, reverse=j == 1)
                outputs.append(output)
                finals.append(state)
            x = outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)
            if i + self.directions < len(cells):
                x = self.drop(x)
        parts = tuple(torch.stack(part) for part in zip(*finals, strict=True))
        return x, parts if len(parts) > 1 else parts[0]

    def extra_repr(self) -> str:
        """Show the settings, as the module of PyTorch does."""
        return ", ".join(f"{name}={getattr(self, name)}" for name in SETTINGS)


NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
"""Parameters of a layer in one direction, in the order in which the cells take them."""


def _cell(fused: nn.RNNBase, names: list[str]) -> UnfusedCell:
    """Return the cell that holds the Parameters of these names, such as 'weight_ih_l0_reverse'."""
    given = {name.partition("_l")[0]: getattr(fused, name) for name in names}
    parameters: list[Any] = [given.get(name) for name in NAMES]
    if fused.mode == "LSTM":
        return UnfusedLSTMCell(*parameters)
    parameters.pop()  # W_hr, of an LSTM alone
    if fused.mode == "GRU":
        return UnfusedGRUCell(*parameters)
    cell = UnfusedRNNCell(*parameters)
    cell.nonlinearity = fused.mode.removeprefix("RNN_").lower()
    return cell


def _starts(cells: Sequence[UnfusedCell], x: Tensor, hx: Tensor | State | None) -> list[State]:
    """Return the state at the start, of every cell."""
    sizes, count, batch = cells[0].sizes, len(cells), len(x)
    if hx is None:
        return [tuple(x.new_zeros(batch, size) for size in sizes)] * count
    given = (hx,) if isinstance(hx, Tensor) else tuple(hx)
    check_shapes(given, [(count, batch, size) for size in sizes])
    return list(zip(*(part.unbind(0) for part in given), strict=True))


def _loop(
    cell: UnfusedCell, x: Tensor, state: State, alive: Tensor | None, reverse: bool
) -> tuple[Tensor, State]:
    """Return the states h of all steps, (B, T, H), and the final state.

    Args:
        cell: of one layer and direction.
        x: its inputs, (B, T, F).
        state: at the start, (B, H) each.
        alive: (B, T), True where a row has a step; elsewhere its state is kept. None: everywhere.
        reverse: from the last step to the first.
    """
    a = cell.ih(x)
    steps = range(x.shape[1])
    outputs: list[Tensor] = []
    for t in reversed(steps) if reverse else steps:
        found = cell.step(a[:, t], state)
        if alive is not None:
            here = alive[:, t, None]
            found = tuple(
                torch.where(here, new, old) for new, old in zip(found, state, strict=True)
            )
        state = found
        outputs.append(state[0])
    return torch.stack(outputs[::-1] if reverse else outputs, 1), state


def _packed(output: Tensor, lengths: Tensor, like: PackedSequence) -> PackedSequence:
    """Return outputs (B, T, F), packed as the input was."""
    if like.sorted_indices is not None:
        output = output.index_select(0, like.sorted_indices)
        lengths = lengths[like.sorted_indices.cpu()]
    data = pack_padded_sequence(output, lengths, batch_first=True).data
    return PackedSequence(data, like.batch_sizes, like.sorted_indices, like.unsorted_indices)


def unfused_recurrent(fused: nn.RNNBase) -> UnfusedRecurrent | None:
    """Return the layers of cells in place of a fused module; None if it holds other Parameters."""
    return UnfusedRecurrent(fused) if holds(fused, fused._flat_weights_names) else None
