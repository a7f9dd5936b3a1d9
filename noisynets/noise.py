"""Noise with a memory of its own: samplers, and streams of random numbers that can be saved."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from noisynets.errors import InputError, unknown
from noisynets.types import Sampler


def gaussian(shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from N(0, 1)."""
    return torch.randn(shape, dtype=like.dtype, device=like.device, generator=generator)


def rademacher(shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw −1 or +1, each with probability one half."""
    z = torch.empty(shape, dtype=like.dtype, device=like.device)
    return z.bernoulli_(0.5, generator=generator).mul_(2).sub_(1)


def uniform(shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from U(−√3, √3), whose variance is 1."""
    z = torch.empty(shape, dtype=like.dtype, device=like.device)
    return z.uniform_(-math.sqrt(3), math.sqrt(3), generator=generator)


SAMPLERS: dict[str, Sampler] = {
    "gaussian": gaussian,
    "rademacher": rademacher,
    "uniform": uniform,
}


_NOTHING = torch.empty(0, dtype=torch.uint8)


class Stream:
    """Random numbers from one seed, on whichever device they are asked for.

    Its state is one tensor, so that a run can be stopped and continued with the same bits.

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
        """Return the generator on `device`; every device has its own, from the one seed."""
        if device not in self._generators:
            seed = self._seed + (device.index or 0)
            generator = torch.Generator(device).manual_seed(seed)
            if self._saved.shape == generator.get_state().shape:
                generator.set_state(self._saved)
            self._generators[device] = generator
        self._latest = self._generators[device]
        return self._latest

    def state(self) -> Tensor:
        """Return the state on the device used last, as bytes; empty if none was used."""
        return self._saved if self._latest is None else self._latest.get_state()

    def restore(self, state: Tensor) -> None:
        """Continue from a `state`; on another kind of device, start from the seed."""
        self._generators.clear()
        self._latest = None
        self._saved = state.cpu().clone()

    def __deepcopy__(self, memo: dict[int, object]) -> Stream:
        copy = Stream(self._seed)
        copy.restore(self.state())
        return copy


class Source(nn.Module):
    """A system's own random numbers, which nobody else can read, seed or stop.

    The stream is shut in a closure: no attribute leads to it. It is saved, copied and moved with
    the module that draws from it.

    Args:
        seed: of the stream; None draws one from PyTorch's global stream, so that every source is
            another one. Equal seeds give equal noise, and a rule could not tell two nodes apart.

    Attributes:
        normal: (like, std=1) → N(0, std²), with shape, dtype and device of `like`.
        uniform: (like) → U(0, 1).
        bernoulli: (p) → 1 with probability p, else 0, element by element.
        poisson: (rate) → counts, element by element. Where a rate, or p, is NaN, so is the draw.

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
        """Continue the stream, for `load_state_dict()`."""
        state = state.cpu()
        self._shut(int(state[:8].clone().view(torch.int64)), state[8:])

    def __getstate__(self) -> Any:
        return self._state()

    def __setstate__(self, state: Any) -> None:
        nn.Module.__init__(self)
        self._shut(*state)

    def forward(self) -> None:
        """Do nothing: a source is drawn from, not called."""


def check_sigma(sigma: float, dtype: torch.dtype) -> None:
    """Refuse a σ whose effect on the loss would drown in the rounding of `dtype`.

    The limit is 8 machine epsilons. On a small MLP the loss differences in float32 still
    correlated to 0.99 with those in float64 at that σ, 1e-6; in bfloat16 to 0.80 at 0.01, a
    sixth of its limit.

    Raises:
        InputError: if σ is not positive and finite, or too small for `dtype`.

    >>> check_sigma(0.01, torch.bfloat16)
    Traceback (most recent call last):
    ...
    noisynets.errors.InputError: sigma 0.01 is below the precision of bfloat16: use at least \
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
    """The noise that we add at nodes: ξ = σ z, with z from a sampler.

    Args:
        sigma: standard deviation, in units of the activity.
        sampler: name of the distribution, a key of `SAMPLERS`, or a sampler of one's own.
        seed: of the stream.
    """

    def __init__(self, sigma: float, sampler: str | Sampler = "gaussian", seed: int = 0) -> None:
        if isinstance(sampler, str):
            if sampler not in SAMPLERS:
                raise unknown("noise", sampler, SAMPLERS)
            sampler = SAMPLERS[sampler]
        if not (math.isfinite(sigma) and sigma > 0):
            raise InputError(f"sigma {sigma:g} must be positive and finite")
        self.sigma = sigma
        self.sampler = sampler
        self.stream = Stream(seed)

    def __call__(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Draw ξ of `shape`, with the dtype and on the device of `like`."""
        return self.sampler(shape, like, self.stream.on(like.device)).mul_(self.sigma)
