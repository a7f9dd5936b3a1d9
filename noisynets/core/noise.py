"""Samplers of noise, and random streams whose state can be saved and restored."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from noisynets.core.errors import InputError
from noisynets.core.pages import Page
from noisynets.core.registry import Registry
from noisynets.core.seeds import salted, whole
from noisynets.core.tables import gaussian_pairs, looked_up, signs
from noisynets.core.types import Effect, Sampler, Sealed, Wrapper


def gaussian(shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from N(0, 1), exactly: the same law at every size and on every device.

    Args:
        shape: of the result.
        like: sets dtype and device of the result.
        generator: on the same device.
    """
    return torch.randn(shape, dtype=like.dtype, device=like.device, generator=generator)


MANY = 2**16
"""Smallest float32 tensor, in elements, that `gaussian_table` takes from the table."""


def gaussian_table(shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw large float32 tensors on a CPU from a table, close to N(0, 1), and others exactly.

    The table has 65,536 pairs. Their mean and covariance are exact, the fourth moment is 2.994, and
    no number is above 3.62. For the arguments see `gaussian`.
    """
    if like.device.type == "cpu" and like.dtype == torch.float32 and math.prod(shape) >= MANY:
        return looked_up(gaussian_pairs(), torch.uint16, shape, generator)
    return gaussian(shape, like, generator)


def rademacher(shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw −1 or +1, each with probability 1/2; for the arguments see `gaussian`."""
    if like.device.type == "cpu":
        return looked_up(signs(like.dtype), torch.uint8, shape, generator)
    z = torch.empty(shape, dtype=like.dtype, device=like.device)
    return z.bernoulli_(0.5, generator=generator).mul_(2).sub_(1)


def uniform(shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from U(−√3, √3), whose variance is 1; for the arguments see `gaussian`."""
    z = torch.empty(shape, dtype=like.dtype, device=like.device)
    return z.uniform_(-math.sqrt(3), math.sqrt(3), generator=generator)


SAMPLERS: Registry[Sampler] = Registry(
    "noise",
    {
        "gaussian": gaussian,
        "gaussian-table": gaussian_table,
        "rademacher": rademacher,
        "uniform": uniform,
    },
)


_NOTHING = torch.empty(0, dtype=torch.uint8)


def generator(seed: int, purpose: str) -> torch.Generator:
    """Return a new random generator on the CPU, seeded with `salted(seed, purpose)`."""
    return torch.Generator().manual_seed(salted(seed, purpose))


class Stream:
    """Random numbers from one seed and for one purpose, on any device.

    The state is one tensor, so that a resumed run continues with the same bits.

    Args:
        seed: a whole number.
        purpose: streams of equal seeds are independent if their purposes differ; see `salted`.

    >>> stream, cpu = Stream(seed=1, purpose="an example"), torch.device("cpu")
    >>> state = stream.state()
    >>> first = torch.rand(3, generator=stream.on(cpu))
    >>> stream.restore(state)
    >>> bool((first == torch.rand(3, generator=stream.on(cpu))).all())
    True
    """

    def __init__(self, seed: int, purpose: str) -> None:
        self._seed, self._purpose = whole(seed), purpose
        self._salted = salted(seed, purpose)  # not when first used, in a graph of torch.compile
        self._generators: dict[torch.device, torch.Generator] = {}
        self._latest: torch.Generator | None = None
        self._saved = _NOTHING

    def on(self, device: torch.device) -> torch.Generator:
        """Return the generator on `device`; every device has one, derived from the same seed."""
        if device not in self._generators:
            made = torch.Generator(device).manual_seed(self._salted + (device.index or 0))
            if self._saved.shape == made.get_state().shape:
                made.set_state(self._saved)
            self._generators[device] = made
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
        copy = Stream(self._seed, self._purpose)
        copy.restore(self.state())
        return copy


class Source(nn.Module):
    """The random numbers of a system's own noise, hidden from training rules.

    The stream is stored in a closure, so that no attribute gives access to it. It is saved, copied
    and moved with the module that owns the source.

    Args:
        seed: of the stream; None: drawn from PyTorch's global generator, so that every source
            differs.
        purpose: sources of equal seeds are independent if their purposes differ. Those of equal
            seed and purpose draw the same numbers; `check` refuses two of them in one system.

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

    def __init__(self, seed: int | None = None, purpose: str = "noise of the system") -> None:
        super().__init__()
        self._shut(int(torch.randint(2**48, ())) if seed is None else seed, purpose)

    def _shut(self, seed: int, purpose: str, state: Tensor = _NOTHING) -> None:
        stream = Stream(seed, purpose)
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

        def state_() -> tuple[int, str, Tensor]:
            return seed, purpose, stream.state()

        self.normal, self.uniform, self.bernoulli, self.poisson = (
            normal,
            uniform,
            bernoulli,
            poisson,
        )
        self._state: Callable[[], tuple[int, str, Tensor]] = state_

    def begin(self, seed: int) -> None:
        """Begin the stream of another seed."""
        self._shut(seed, self._state()[1])

    @property
    def origin(self) -> int:
        """A number that is equal for sources that draw the same numbers, and tells no more."""
        seed, purpose, _ = self._state()
        return salted(seed, f"origin of {purpose}")

    def get_extra_state(self) -> Tensor:
        """Return the seed and the state of the stream as bytes, for `state_dict()`."""
        seed, _, state = self._state()
        return torch.cat([torch.tensor([seed]).view(torch.uint8), state])

    def set_extra_state(self, state: Tensor) -> None:
        """Restore seed and stream, for `load_state_dict()`."""
        state, (_, purpose, _) = state.cpu(), self._state()
        self._shut(int(state[:8].clone().view(torch.int64)), purpose, state[8:])

    def __getstate__(self) -> Any:
        return self._state()

    def __setstate__(self, state: Any) -> None:
        nn.Module.__init__(self)
        self._shut(*state)

    def forward(self) -> None:
        """Do nothing: call `normal`, `uniform`, `bernoulli` or `poisson` instead."""


def copied_sources(system: nn.Module) -> list[list[str]]:
    """Return the names of modules whose sources draw the same numbers, one list per origin.

    >>> net = nn.ModuleDict({"a": Source(1), "b": Source(2), "c": Source(1)})
    >>> copied_sources(net)
    [['a', 'c']]
    """
    names: dict[int, list[str]] = {}
    for name, module in system.named_modules():
        if isinstance(module, Source):
            names.setdefault(module.origin, []).append(name.removesuffix(".source"))
    return [found for found in names.values() if len(found) > 1]


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
0.0625, or a wider dtype (see docs/how-to/rules.md#scalings-and-distributions)
    """
    if not (math.isfinite(sigma) and sigma > 0):
        raise InputError(f"sigma {sigma:g} must be positive and finite")
    least = 8 * torch.finfo(dtype).eps
    if sigma < least:
        name = str(dtype).removeprefix("torch.")
        raise InputError(
            f"sigma {sigma:g} is below the precision of {name}: "
            f"use at least {least:.3g}, or a wider dtype",
            page=Page.SIGMA,
        )


class Injection:
    """The noise that is injected at nodes: ξ = σ z, with z from a sampler.

    Args:
        sigma: σ, in units of the activity.
        sampler: a key of `SAMPLERS`, or a sampler.
        seed: of the stream.
        per_trial: draw once per trial and node, instead of anew in every call.
        purpose: of the stream; see `Stream`.

    Raises:
        InputError: for an unknown sampler, or a σ that is not positive and finite.
    """

    def __init__(
        self,
        sigma: float,
        sampler: str | Sampler = "gaussian",
        seed: int = 0,
        per_trial: bool = False,
        purpose: str = "injected noise",
    ) -> None:
        if isinstance(sampler, str):
            sampler = SAMPLERS[sampler]
        if not (math.isfinite(sigma) and sigma > 0):
            raise InputError(f"sigma {sigma:g} must be positive and finite")
        self.sigma = sigma
        self.sampler = sampler
        self.per_trial = per_trial
        self.stream = Stream(seed, purpose)

    def draw(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Draw z of `shape`, with dtype and device of `like`."""
        return self.sampler(shape, like, self.stream.on(like.device))

    def __call__(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Draw ξ of `shape`, with dtype and device of `like`."""
        return self.draw(shape, like).mul_(self.sigma)
