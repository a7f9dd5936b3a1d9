"""Mirrors: what a layer makes of a difference of its inputs, learnt from measured differences."""

from __future__ import annotations

import zlib
from functools import singledispatch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv1d_input, conv2d_input

from noisynets.core.outer import padded

RIDGE = 0.01
FIRST = 0.02
"""Step size before anything is known about it."""
MEMORY = 0.9
"""Share of what is known about the best step that is kept from one update to the next."""


class Mirror:
    """M with δa ≈ M δx, by affine projections whose step size is measured.

    M ← M + μ D, with D = Eᵀ (δX δXᵀ + λ)⁻¹ δX the smallest change that explains the rows δX
    (N, n_in), whose error was E = δA − δX Mᵀ. How much of D was signal the *next* rows tell: of
    their error before that step, μ = ⟨E, δX Dᵀ⟩/‖δX Dᵀ‖² is the share of D that would have
    explained most. So the steps are whole while M is far off or the measurements are clean, and
    small once what is left is noise. For 0 ≤ μ ≤ 1 the error on the rows shown never grows,
    whatever the spectrum of the inputs; a plain LMS is stable only for small steps, and slow along
    weak directions. Ozeki and Umeda (1984); kin to the weight mirrors of Akrout et al., *Deep
    learning without weight transport* (2019).

    Args:
        layer: gives the geometry: no weight is read.
        rows: shown in one update, at most.
    """

    def __init__(self, layer: nn.Module, rows: int = 128) -> None:
        self.layer, self.rows = layer, rows
        self._map: Tensor | None = None
        self._step: Tensor | None = None  # D of the last update
        self._known: Tensor | None = None  # running ⟨E, δX Dᵀ⟩, ‖δX Dᵀ‖², ‖δx‖²; the last μ
        self._updates = 0

    @torch.no_grad()
    def update_(self, inputs: Tensor, outputs: Tensor) -> None:
        """Learn from differences: of the inputs (N, *in) and the activities (N, *out)."""
        x, a = shown(self.layer, inputs, outputs, self.rows, self._updates)
        wide = torch.promote_types(x.dtype, torch.float32)  # there is no Cholesky for less
        x, a = x.to(wide), a.to(wide)
        if self._map is None or self._step is None or self._known is None:
            self._map = x.new_zeros(a.shape[1], x.shape[1])
            self._step, self._known = torch.zeros_like(self._map), x.new_zeros(4)
            self._known[3] = FIRST
        error = a - x @ self._map.T
        gram = x @ x.T
        known = self._measured(error, x @ self._step.T, gram.diagonal().mean())
        _, _, size, share = known
        gram.diagonal().add_(RIDGE * (1 - MEMORY) * size + torch.finfo(x.dtype).tiny)
        step = torch.cholesky_solve(error, torch.linalg.cholesky_ex(gram).L).T @ x
        sound = step.isfinite().all() & known.isfinite().all()
        self._step = torch.where(sound, step, 0)
        self._map = torch.where(sound, self._map + share * self._step, self._map)
        self._known = torch.where(sound, known, self._known)
        self._updates += 1

    def _measured(self, error: Tensor, predicted: Tensor, square: Tensor) -> Tensor:
        """Return what is known once fresh rows have shown what the last step is worth."""
        assert self._known is not None
        top, bottom, size, share = self._known
        before = error + share * predicted  # their error without the last step
        top = MEMORY * top + (before * predicted).sum()
        bottom = MEMORY * bottom + predicted.square().sum()
        share = torch.where(bottom > 0, top / bottom, share).clamp(0, 1)
        return torch.stack([top, bottom, MEMORY * size + square, share])

    def __call__(self, credit: Tensor, shape: torch.Size) -> Tensor:
        """Mᵀ credit: of the activities (B, *out) → of the inputs, of `shape` (B, *in)."""
        if self._map is None:
            return credit.new_zeros(shape)
        return adjoint(self.layer, self._map.to(credit.dtype), credit, shape)

    def predict(self, inputs: Tensor) -> Tensor:
        """M δx, (N, *in) → (N, *out), after the first update."""
        assert self._map is not None, "maps learn before they are asked"
        return forward(self.layer, self._map.to(inputs.dtype), inputs)

    @property
    def map(self) -> Tensor | None:
        """M, (out, in of one product); None before the first update."""
        return self._map

    def state(self) -> dict[str, Tensor]:
        """Return what must be kept to continue with the same bits."""
        if self._map is None or self._step is None or self._known is None:
            return {}
        n = torch.tensor(self._updates)
        return {"map": self._map, "step": self._step, "known": self._known, "n": n}

    def restore(self, state: dict[str, Tensor], device: torch.device) -> None:
        """Continue from a `state`."""
        self._map, self._step, self._known = (
            state[name].to(device) if state else None for name in ("map", "step", "known")
        )
        self._updates = int(state["n"]) if state else 0


class KolenPollack(Mirror):
    """A mirror that also takes over every change of its layer's weights: M ← M + ΔW.

    So it does not lag behind training, and has to learn from pairs only where the layer began and
    what a device makes of its weights. ΔW is what training itself has written; of W nothing else
    is read. Kolen and Pollack, *Backpropagation without weight transport* (1994), where both start
    anywhere and decay alike; used for deep networks by Akrout et al. (2019).

    Args:
        layer: gives the geometry, and the changes of its `weight`.
        rows: shown in one update, at most.
    """

    def __init__(self, layer: nn.Module, rows: int = 128) -> None:
        super().__init__(layer, rows)
        self._seen: Tensor | None = None

    def update_(self, inputs: Tensor, outputs: Tensor) -> None:
        """Follow the weights, then learn from differences, as a mirror does."""
        self._follow()
        super().update_(inputs, outputs)

    def __call__(self, credit: Tensor, shape: torch.Size) -> Tensor:
        """Follow the weights; then Mᵀ credit, as a mirror does."""
        self._follow()
        return super().__call__(credit, shape)

    @torch.no_grad()
    def _follow(self) -> None:
        weight = self.layer.weight
        assert isinstance(weight, Tensor), "layers with mirrors have one weight"
        now = weight.detach().flatten(1)
        seen = torch.zeros_like(now) if self._seen is None else self._seen
        sound = now.isfinite().all()  # a diverged step teaches nothing
        if self._map is not None and self._seen is not None:
            self._map = torch.where(sound, self._map + (now - seen), self._map)
        self._seen = torch.where(sound, now, seen)

    def state(self) -> dict[str, Tensor]:
        """Return what must be kept to continue with the same bits."""
        kept = super().state()
        return kept if self._seen is None else kept | {"seen": self._seen}

    def restore(self, state: dict[str, Tensor], device: torch.device) -> None:
        """Continue from a `state`."""
        super().restore({k: v for k, v in state.items() if k != "seen"}, device)
        self._seen = state["seen"].to(device) if "seen" in state else None


class Transport:
    """A fixed random map in place of a mirror: feedback alignment, Lillicrap et al. (2016).

    Args:
        layer: gives the geometry.
        name: of the node; decides the map together with `seed`.
        seed: of the map.
    """

    def __init__(self, layer: nn.Module, name: str, seed: int = 0) -> None:
        self.layer = layer
        self._seed = zlib.crc32(f"{seed}:{name}".encode())
        self._map: Tensor | None = None

    def update_(self, inputs: Tensor, outputs: Tensor) -> None:
        """Learn nothing; draw the map at the first call, as He et al. (2015) draw weights."""
        if self._map is None:
            x, a = shown(self.layer, inputs, outputs, 1, 0)
            generator = torch.Generator().manual_seed(self._seed)
            drawn = torch.randn(a.shape[1], x.shape[1], generator=generator)
            self._map = (drawn * (2 / x.shape[1]) ** 0.5).to(x)

    def __call__(self, credit: Tensor, shape: torch.Size) -> Tensor:
        """Bᵀ credit: of the activities (B, *out) → of the inputs (B, *in)."""
        assert self._map is not None, "drawn at the first update"
        return adjoint(self.layer, self._map, credit, shape)

    def predict(self, inputs: Tensor) -> Tensor:
        """Predict nothing: (N, *in) → zeros (N, *out)."""
        assert self._map is not None, "drawn at the first update"
        return torch.zeros_like(forward(self.layer, self._map, inputs))

    def state(self) -> dict[str, Tensor]:
        """Return what must be kept to continue with the same bits."""
        return {} if self._map is None else {"map": self._map}

    def restore(self, state: dict[str, Tensor], device: torch.device) -> None:
        """Continue from a `state`."""
        self._map = state["map"].to(device) if state else None


@singledispatch
def shown(
    layer: nn.Module, inputs: Tensor, outputs: Tensor, rows: int, update: int
) -> tuple[Tensor, Tensor]:
    """Return single products to learn from: inputs (rows, n_in) and outputs (rows, n_out)."""
    raise NotImplementedError(f"no mirror is known for {type(layer).__name__}")


@singledispatch
def adjoint(layer: nn.Module, m: Tensor, credit: Tensor, shape: torch.Size) -> Tensor:
    """Mᵀ credit for the geometry of `layer`."""
    raise NotImplementedError


@singledispatch
def forward(layer: nn.Module, m: Tensor, x: Tensor) -> Tensor:
    """M x for the geometry of `layer`."""
    raise NotImplementedError


def has_mirror(layer: nn.Module) -> bool:
    """Whether a layer's map can be mirrored."""
    known = shown.dispatch(type(layer)) is not shown.dispatch(object)
    plain = getattr(layer, "groups", 1) == 1 and getattr(layer, "padding_mode", "zeros") == "zeros"
    return known and plain and not isinstance(getattr(layer, "padding", 0), str)


@shown.register
def _shown_linear(
    layer: nn.Linear, inputs: Tensor, outputs: Tensor, rows: int, update: int
) -> tuple[Tensor, Tensor]:
    x, a = inputs.flatten(0, -2), outputs.flatten(0, -2)
    if inputs.dim() == 2:
        return x[:rows], a[:rows]
    index = _spread(len(x), rows, update, x.device)
    return x[index], a[index]


def _spread(n: int, rows: int, update: int, device: torch.device) -> Tensor:
    """`rows` indices below n, spread evenly, and others at every update."""
    golden = (5**0.5 - 1) / 2
    steps = torch.arange(rows, dtype=torch.float64, device=device) + update * rows
    return ((steps * golden).frac() * n).long().clamp_max(n - 1)


@adjoint.register
def _adjoint_linear(layer: nn.Linear, m: Tensor, credit: Tensor, shape: torch.Size) -> Tensor:
    return credit @ m


@forward.register
def _forward_linear(layer: nn.Linear, m: Tensor, x: Tensor) -> Tensor:
    return x @ m.T


@shown.register
def _shown_conv2d(
    layer: nn.Conv2d, inputs: Tensor, outputs: Tensor, rows: int, update: int
) -> tuple[Tensor, Tensor]:
    """Patches spread over pictures and positions, others at every update."""
    x, padding = padded(layer, inputs[:rows])
    patches = F.unfold(x, layer.kernel_size, layer.dilation, padding, layer.stride)
    patches = patches.transpose(1, 2).flatten(0, 1)
    a = outputs[:rows].flatten(2).transpose(1, 2).flatten(0, 1)
    index = _spread(len(a), rows, update, x.device)
    return patches[index], a[index]


@adjoint.register
def _adjoint_conv2d(layer: nn.Conv2d, m: Tensor, credit: Tensor, shape: torch.Size) -> Tensor:
    kernel = m.view(layer.out_channels, layer.in_channels, *layer.kernel_size)
    return conv2d_input(shape, kernel, credit, layer.stride, layer.padding, layer.dilation)


@forward.register
def _forward_conv2d(layer: nn.Conv2d, m: Tensor, x: Tensor) -> Tensor:
    kernel = m.view(layer.out_channels, layer.in_channels, *layer.kernel_size)
    return F.conv2d(x, kernel, None, layer.stride, layer.padding, layer.dilation)


@shown.register
def _shown_conv1d(
    layer: nn.Conv1d, inputs: Tensor, outputs: Tensor, rows: int, update: int
) -> tuple[Tensor, Tensor]:
    two = nn.Conv2d(
        1,
        1,
        (1, layer.kernel_size[0]),
        (1, layer.stride[0]),
        (0, int(layer.padding[0])),
        (1, layer.dilation[0]),
        device="meta",
    )
    return _shown_conv2d(two, inputs.unsqueeze(2), outputs.unsqueeze(2), rows, update)


@adjoint.register
def _adjoint_conv1d(layer: nn.Conv1d, m: Tensor, credit: Tensor, shape: torch.Size) -> Tensor:
    kernel = m.view(layer.out_channels, layer.in_channels, *layer.kernel_size)
    return conv1d_input(shape, kernel, credit, layer.stride, layer.padding, layer.dilation)


@forward.register
def _forward_conv1d(layer: nn.Conv1d, m: Tensor, x: Tensor) -> Tensor:
    kernel = m.view(layer.out_channels, layer.in_channels, *layer.kernel_size)
    return F.conv1d(x, kernel, None, layer.stride, layer.padding, layer.dilation)
