"""Recurrent cells whose two products, with the input and with the state, are layers.

Symbols: a = W_ih x + b_ih and b = W_hh h + b_hh, (B, G·H) for G gates of H units.
"""

from __future__ import annotations

from torch import Tensor, nn

from noisynets.core.errors import InputError
from noisynets.systems.unfused.parts import holds, linear

State = tuple[Tensor, ...]
"""(h,), or (h, c) of an LSTM; each (B, H)."""


class UnfusedCell(nn.Module):
    """A recurrent cell made of layers; the base class of three.

    Args:
        weight_ih: W_ih, (G·H, F).
        weight_hh: W_hh, (G·H, H).
        bias_ih: b_ih, (G·H,), or None.
        bias_hh: b_hh, (G·H,), or None.

    Attributes:
        ih: the product with the input.
        hh: the product with the state.
        sizes: units of every part of the state.
    """

    gates = 1
    """G, gates per unit."""

    def __init__(
        self,
        weight_ih: nn.Parameter,
        weight_hh: nn.Parameter,
        bias_ih: nn.Parameter | None,
        bias_hh: nn.Parameter | None,
    ) -> None:
        super().__init__()
        self.ih = linear(weight_ih, bias_ih)
        self.hh = linear(weight_hh, bias_hh)
        self.input_size = self.ih.in_features
        self.hidden_size = self.hh.out_features // self.gates
        self.bias = bias_ih is not None
        self.sizes: tuple[int, ...] = (self.hidden_size,)

    def step(self, a: Tensor, state: State) -> State:
        """Return the next state.

        Args:
            a: product with the input, (B, G·H).
            state: of the step before.
        """
        raise NotImplementedError

    def forward(self, input: Tensor, hx: Tensor | State | None = None) -> Tensor | State:
        """Return the next state, as the cell of PyTorch does.

        Args:
            input: (B, F), or (F,) without a batch.
            hx: state of the step before, of the shape that is returned; None: zeros.

        Returns:
            h (B, H), of an LSTM (h, c); without a batch, (H,) each.

        Raises:
            InputError: for a state of another shape.
        """
        x = input if input.dim() > 1 else input[None]
        if hx is None:
            state: State = tuple(x.new_zeros(len(x), size) for size in self.sizes)
        else:
            given = (hx,) if isinstance(hx, Tensor) else tuple(hx)
            state = tuple(part if input.dim() > 1 else part[None] for part in given)
            check_shapes(state, [(len(x), size) for size in self.sizes])
        found = self.step(self.ih(x), state)
        if input.dim() == 1:
            found = tuple(part[0] for part in found)
        return found if len(self.sizes) > 1 else found[0]

    def extra_repr(self) -> str:
        """Show the sizes, as the cell of PyTorch does."""
        return f"{self.input_size}, {self.hidden_size}"


class UnfusedRNNCell(UnfusedCell):
    """h' = φ(a + b) with φ = tanh or ReLU.

    >>> import torch
    >>> cell = nn.RNNCell(3, 2)
    >>> same = UnfusedRNNCell(cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
    >>> bool(torch.allclose(same(torch.ones(4, 3)), cell(torch.ones(4, 3)), atol=1e-6))
    True
    """

    nonlinearity = "tanh"

    def step(self, a: Tensor, state: State) -> State:
        """Return (h',)."""
        total = a + self.hh(state[0])
        return (total.tanh() if self.nonlinearity == "tanh" else total.relu(),)


class UnfusedGRUCell(UnfusedCell):
    """h' = (1 − z) n + z h, with r, z = σ(a + b) and n = tanh(a_n + r b_n)."""

    gates = 3

    def step(self, a: Tensor, state: State) -> State:
        """Return (h',)."""
        (h,) = state
        a_r, a_z, a_n = a.chunk(3, -1)
        b_r, b_z, b_n = self.hh(h).chunk(3, -1)
        r, z = (a_r + b_r).sigmoid(), (a_z + b_z).sigmoid()
        return ((1 - z) * (a_n + r * b_n).tanh() + z * h,)


class UnfusedLSTMCell(UnfusedCell):
    """c' = f c + i g and h' = o tanh(c'), with i, f, o = σ(a + b) and g = tanh(a_g + b_g).

    Args:
        weight_ih: as of `UnfusedCell`.
        weight_hh: as of `UnfusedCell`.
        bias_ih: as of `UnfusedCell`.
        bias_hh: as of `UnfusedCell`.
        weight_hr: W_hr (P, H), with which h' is multiplied; None: h' is left as it is.

    Attributes:
        hr: the product with W_hr; None if there is none.
    """

    gates = 4

    def __init__(
        self,
        weight_ih: nn.Parameter,
        weight_hh: nn.Parameter,
        bias_ih: nn.Parameter | None,
        bias_hh: nn.Parameter | None,
        weight_hr: nn.Parameter | None = None,
    ) -> None:
        super().__init__(weight_ih, weight_hh, bias_ih, bias_hh)
        self.hr = None if weight_hr is None else linear(weight_hr, None)
        self.sizes = (self.hh.in_features, self.hidden_size)

    def step(self, a: Tensor, state: State) -> State:
        """Return (h', c')."""
        h, c = state
        i, f, g, o = (a + self.hh(h)).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        return h if self.hr is None else self.hr(h), c


def check_shapes(state: State, shapes: list[tuple[int, ...]]) -> None:
    """Refuse a state whose parts have other shapes.

    Raises:
        InputError: with the shapes that were found and expected.
    """
    found = [tuple(part.shape) for part in state]
    if found != shapes:
        raise InputError(
            f"the given state has shapes {found} where this input needs {shapes}: give a state of "
            "these shapes, or none for zeros"
        )


NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
"""Parameters of a cell, in the order in which `UnfusedCell` takes them."""


def unfused_cell(cell: nn.Module) -> UnfusedCell | None:
    """Return the cell of layers in place of a fused one; None if it holds other Parameters."""
    if not holds(cell, NAMES):
        return None
    parameters = [getattr(cell, name) for name in NAMES]
    if isinstance(cell, nn.LSTMCell):
        return UnfusedLSTMCell(*parameters)
    if isinstance(cell, nn.GRUCell):
        return UnfusedGRUCell(*parameters)
    made = UnfusedRNNCell(*parameters)
    made.nonlinearity = str(cell.nonlinearity)
    return made
