"""Samplers of noise, and random streams whose state can be saved and restored."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from noisynets.core.errors import InputError
from noisynets.core.registry import Registry
from noisynets.core.types import Effect, Sampler, Sealed, Wrapper


def gaussian(shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from N(0, 1).

    On the CPU, large float32 tensors are filled by looking up pairs of numbers in a table, at a
    quarter of the cost of `torch.randn`: mean and covariance are exact, the tails end at 3.6.

    Args:
        shape: of the result.
        like: sets dtype and device of the result.
        generator: on the same device.
    """
    if like.device.type == "cpu" and like.dtype == torch.float32 and math.prod(shape) >= MANY:
        return _looked_up(gaussian_pairs(), torch.uint16, shape, generator)
    return torch.randn(shape, dtype=like.dtype, device=like.device, generator=generator)


def rademacher(shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw −1 or +1, each with probability 1/2; for the arguments see `gaussian`."""
    if like.device.type == "cpu":
        return _looked_up(_signs(like.dtype), torch.uint8, shape, generator)
    z = torch.empty(shape, dtype=like.dtype, device=like.device)
    return z.bernoulli_(0.5, generator=generator).mul_(2).sub_(1)


MANY = 2**16
"""Smallest tensor, in elements, for which the table is faster than `torch.randn`."""


@cache
def gaussian_pairs() -> Tensor:
    """Table of pairs of Gaussian numbers, as (2¹⁶,) complex numbers: 256 radii times 256 angles.

    All entries are equally likely. Half the squared radius is exponentially distributed; each of
    256 intervals between its quantiles is represented by its mean.

    Source: Box and Muller, A note on the generation of random normal deviates (1958), doi
    10.1214/aoms/1177706645.
    """
    beyond = torch.linspace(1, 0, 257, dtype=torch.float64, device="cpu")
    integral = beyond - torch.special.xlogy(beyond, beyond)
    radius = (2 * 256 * (integral[:-1] - integral[1:])).sqrt()
    angle = 2 * math.pi * (torch.arange(256, device="cpu").double() + 0.5) / 256
    points = torch.polar(*(v.contiguous() for v in torch.broadcast_tensors(radius[:, None], angle)))
    return points.to(torch.complex64).flatten()


@cache
def _signs(dtype: torch.dtype) -> Tensor:
    """The bits of every byte as −1 and +1, (2⁸, 8)."""
    byte = torch.arange(2**8, device="cpu")
    bits = byte[:, None] >> byte[:8] & 1
    return (2 * bits - 1).to(dtype)


def _looked_up(
    table: Tensor, index: torch.dtype, shape: Sequence[int], generator: torch.Generator
) -> Tensor:
    """Fill a tensor with table entries at random indices, in pieces that fit the cache."""
    numbers, each = math.prod(shape), 2 if table.is_complex() else math.prod(table.shape[1:])
    found = table.new_empty(-(-numbers // each), *table.shape[1:])
    for piece in found.split(2**16):
        words = table.new_empty(-(-len(piece) * index.itemsize // 8), dtype=torch.int64)
        words.random_(-(2**63), None, generator=generator)  # all 64 bits
        entries = words.view(index)[: len(piece)].to(torch.int32)
        torch.index_select(table, 0, entries, out=piece)
    found = torch.view_as_real(found) if found.is_complex() else found
    return found.view(-1)[:numbers].view(tuple(shape))


def uniform(shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from U(−√3, √3), whose variance is 1; for the arguments see `gaussian`."""
    z = torch.empty(shape, dtype=like.dtype, device=like.device)
    return z.uniform_(-math.sqrt(3), math.sqrt(3), generator=generator)


SAMPLERS: Registry[Sampler] = Registry("noise", (gaussian, rademacher, uniform))


_NOTHING = torch.empty(0, dtype=torch.uint8)


class Stream:
    """Random numbers from one seed, on any device.

    The state is one tensor, so that a resumed run continues with the same bits.

    >>> stream = Stream(seed=1)
    >>> state = stream.state()
    >>> first = gaussian((3,), torch.zeros(()), stream.on(torch.device("cpu")))
    >>> stream.restore(state)
    >>> bool((first == gaussian((3,), torch.zeros(()), stream.on(torch.device("cpu")))).all())
    True
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}
        self._latest: torch.Generator | None = None
        self._saved = _NOTHING

    def on(self, device: torch.device) -> torch.Generator:
        """Return the generator on `device`; every device has one, derived from the same seed."""
        if device not in self._generators:
            seed = self._seed + (device.index or 0)
            generator = torch.Generator(device).manual_seed(seed)
            if self._saved.shape == generator.get_state().shape:
                generator.set_state(self._saved)
            self._generators[device] = generator
        self._latest = self._generators[device]
        return self._latest

    def state(self) -> Tensor:
        """Return the state on the most recently used device, as bytes; empty if none was used."""
        return self._saved if self._latest is None else self._latest.get_state()

    def restore(self, state: Tensor) -> None:
        """Continue from a `state`; on another type of device, restart from the seed."""
        self._generators.clear()
        self._latest = None
        self._saved = state.cpu().clone()

    def __deepcopy__(self, memo: dict[int, object]) -> Stream:
        copy = Stream(self._seed)
        copy.restore(self.state())
        return copy


class Source(nn.Module):
    """The random numbers of a system's own noise, hidden from training rules.

    The stream is stored in a closure, so that no attribute gives access to it. It is saved, copied
    and moved with the module that owns the source.

    Args:
        seed: of the stream; None: drawn from PyTorch's global generator, so that every source
            differs. Equal seeds give equal noise, which makes the noise of two nodes dependent.

    Attributes:
        normal: (like, std=1) → N(0, std²), with shape, dtype and device of `like`.
        uniform: (like) → U(0, 1).
        bernoulli: (p) → 1 with probability p, else 0, element by element; NaN where p is NaN.
        poisson: (rate) → counts, element by element; the rate itself where it is not finite.

    >>> source = Source(seed=1)
    >>> source.normal(torch.zeros(3)).shape
    torch.Size([3])
    """

    normal: Callable[..., Tensor]
    uniform: Callable[[Tensor], Tensor]
    bernoulli: Callable[[Tensor], Tensor]
    poisson: Callable[[Tensor], Tensor]

    def __init__(self, seed: int | None = None) -> None:
        super().__init__()
        self._shut(int(torch.randint(2**48, ())) if seed is None else seed)

    def _shut(self, seed: int, state: Tensor = _NOTHING) -> None:
        stream = Stream(seed)
        stream.restore(state)

        def normal(like: Tensor, std: float = 1.0) -> Tensor:
            return torch.empty_like(like).normal_(0, std, generator=stream.on(like.device))

        def uniform(like: Tensor) -> Tensor:
            return torch.empty_like(like).uniform_(generator=stream.on(like.device))

        def bernoulli(p: Tensor) -> Tensor:
            drawn = torch.empty_like(p).bernoulli_(p.nan_to_num(0), generator=stream.on(p.device))
            return torch.where(p.isnan(), p, drawn)

        def poisson(rate: Tensor) -> Tensor:
            sound = rate.nan_to_num(0, posinf=0)
            drawn = torch.poisson(sound, generator=stream.on(rate.device))
            return torch.where(rate.isfinite(), drawn, rate)

        def state_() -> tuple[int, Tensor]:
            return seed, stream.state()

        self.normal, self.uniform, self.bernoulli, self.poisson = (
            normal,
            uniform,
            bernoulli,
            poisson,
        )
        self._state: Callable[[], tuple[int, Tensor]] = state_

    def get_extra_state(self) -> Tensor:
        """Return the seed and the state of the stream as bytes, for `state_dict()`."""
        seed, state = self._state()
        return torch.cat([torch.tensor([seed]).view(torch.uint8), state])

    def set_extra_state(self, state: Tensor) -> None:
        """Restore seed and stream, for `load_state_dict()`."""
        state = state.cpu()
        self._shut(int(state[:8].clone().view(torch.int64)), state[8:])

    def __getstate__(self) -> Any:
        return self._state()

    def __setstate__(self, state: Any) -> None:
        nn.Module.__init__(self)
        self._shut(*state)

    def forward(self) -> None:
        """Do nothing: call `normal`, `uniform`, `bernoulli` or `poisson` instead."""


def declares_noise(module: nn.Module) -> bool:
    """Return True for a module that may be noisy: an effect, a device, an owner of a `Source`."""
    if isinstance(module, Effect | Source | Sealed):
        return True
    if isinstance(module, Wrapper) and not module.deterministic:
        return True
    return any(isinstance(child, Source) for child in module.children())


def check_sigma(sigma: float, dtype: torch.dtype) -> None:
    """Check that the effect of σ on the loss is larger than the rounding errors of `dtype`.

    The limit is 8 machine epsilons. On a small MLP the loss differences in float32 at that σ, 1e-6,
    had a correlation of 0.99 with those in float64; in bfloat16 it was 0.80 at 0.01, a sixth of its
    limit.

    Raises:
        InputError: if σ is not positive and finite, or too small for `dtype`.

    >>> check_sigma(0.01, torch.bfloat16)
    Traceback (most recent call last):
    ...
    noisynets.core.errors.InputError: sigma 0.01 is below the precision of bfloat16: use at least \
0.0625, or a wider dtype
    """
    if not (math.isfinite(sigma) and sigma > 0):
        raise InputError(f"sigma {sigma:g} must be positive and finite")
    least = 8 * torch.finfo(dtype).eps
    if sigma < least:
        name = str(dtype).removeprefix("torch.")
        raise InputError(
            f"sigma {sigma:g} is below the precision of {name}: "
            f"use at least {least:.3g}, or a wider dtype"
        )


class Injection:
    """The noise that is injected at nodes: ξ = σ z, with z from a sampler.

    Args:
        sigma: σ, in units of the activity.
        sampler: a key of `SAMPLERS`, or a sampler.
        seed: of the stream.
        per_trial: draw once per trial and node, instead of anew in every call.

    Raises:
        InputError: for an unknown sampler, or a σ that is not positive and finite.
    """

    def __init__(
        self,
        sigma: float,
        sampler: str | Sampler = "gaussian",
        seed: int = 0,
        per_trial: bool = False,
    ) -> None:
        if isinstance(sampler, str):
            sampler = SAMPLERS[sampler]
        if not (math.isfinite(sigma) and sigma > 0):
            raise InputError(f"sigma {sigma:g} must be positive and finite")
        self.sigma = sigma
        self.sampler = sampler
        self.per_trial = per_trial
        self.stream = Stream(seed)

    def draw(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Draw z of `shape`, with dtype and device of `like`."""
        return self.sampler(shape, like, self.stream.on(like.device))

    def __call__(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Draw ξ of `shape`, with dtype and device of `like`."""
        return self.draw(shape, like).mul_(self.sigma)
