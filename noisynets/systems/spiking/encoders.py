"""Encoders: the inputs of every step of a trial, from the inputs of an example.

Each encoder converts inputs (B, *in) to (B, T, *in), or to (B, 1, *in) if every step is the same.
Spikes are drawn once per batch, so that all passes of a pair have the same inputs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from noisynets.core.errors import InputError
from noisynets.core.registry import Registry

Encoder = Callable[[Tensor, int, torch.Generator | None], Tensor]
"""(inputs, T, generator) → inputs of every step."""


def current(x: Tensor, steps: int, generator: torch.Generator | None = None) -> Tensor:
    """Direct current: the input itself, in every step.

    Args:
        x: inputs (B, *in).
        steps: T.
        generator: unused, because nothing is random.

    Returns:
        Inputs (B, 1, *in), the same in every step.

    Raises:
        InputError: for less than one step.

    >>> current(torch.zeros(2, 3), steps=5).shape
    torch.Size([2, 1, 3])
    """
    _check(x, steps, signed=True)
    return x.unsqueeze(1)


def rate(
    x: Tensor,
    steps: int,
    generator: torch.Generator | None = None,
    *,
    gain: float = 1.0,
    offset: float = 0.0,
) -> Tensor:
    """A spike in every step with probability clip(gain · x + offset, 0, 1).

    Args:
        x: inputs (B, *in), not negative.
        steps: T.
        generator: of the spikes; None: PyTorch's global generator.
        gain: factor on the inputs.
        offset: added to gain · x.

    Returns:
        Spikes (B, T, *in), 0 or 1.

    Raises:
        InputError: for a negative input, or less than one step.

    >>> rate(torch.tensor([[0.0, 1.0]]), steps=2).tolist()
    [[[0.0, 1.0], [0.0, 1.0]]]
    """
    _check(x, steps)
    p = (gain * x + offset).clamp_(0, 1).unsqueeze(1)
    p = p.expand(len(x), steps, *x.shape[1:])
    return torch.empty_like(p, memory_format=torch.contiguous_format).bernoulli_(
        p, generator=generator
    )


def latency(
    x: Tensor, steps: int, generator: torch.Generator | None = None, *, threshold: float = 0.01
) -> Tensor:
    """One spike per input, earlier for larger inputs: at step (T − 1)(1 − x), rounded.

    Inputs below the threshold never spike; inputs above 1 spike in the first step.

    Args:
        x: inputs (B, *in), not negative.
        steps: T.
        generator: unused, because nothing is random.
        threshold: smallest input that spikes.

    Returns:
        Spikes (B, T, *in), 0 or 1.

    Raises:
        InputError: for a negative input, or less than one step.

    >>> latency(torch.tensor([[0.0, 0.5, 1.0]]), steps=3)[0].tolist()
    [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    _check(x, steps)
    spike_step = ((steps - 1) * (1 - x.clamp(max=1))).round().long().unsqueeze(1)
    t = torch.arange(steps, device=x.device).view(1, steps, *[1] * (x.dim() - 1))
    return ((spike_step == t) & (x >= threshold).unsqueeze(1)).to(x.dtype)


def delta(
    x: Tensor, steps: int, generator: torch.Generator | None = None, *, threshold: float = 0.1
) -> Tensor:
    """Send on delta: a spike s = ±1 whenever the input differs by θ or more from what was sent.

    The sum b of what was sent starts at 0 and grows by θ s with every spike. A constant input thus
    gives up to |x|/θ spikes and then none, as an event camera does.

    Args:
        x: inputs (B, *in), of any sign.
        steps: T.
        generator: unused, because nothing is random.
        threshold: θ, in units of the input.

    Returns:
        Spikes (B, T, *in), −1, 0 or 1.

    Raises:
        InputError: for less than one step, or a threshold that is not positive.

    >>> delta(torch.tensor([[0.25, -0.1]]), steps=3)[0].tolist()
    [[1.0, -1.0], [1.0, 0.0], [0.0, 0.0]]
    """
    _check(x, steps, signed=True)
    if not threshold > 0:
        raise InputError(f"threshold {threshold:g} of the delta encoder must be positive")
    spikes = (x / threshold * (1 + 1e-6)).trunc().unsqueeze(1)
    t = torch.arange(steps, device=x.device).view(1, steps, *[1] * (x.dim() - 1))
    return torch.where(spikes.abs() > t, spikes.sign(), 0)


def frames(x: Tensor, steps: int, generator: torch.Generator | None = None) -> Tensor:
    """Sum events over time, (B, T₀, *in), into T bins, of equal length if T divides T₀.

    Args:
        x: events per step, (B, T₀, *in).
        steps: T, at most T₀.
        generator: unused, because nothing is random.

    Returns:
        Events per bin, (B, T, *in).

    Raises:
        InputError: if T is not between 1 and T₀.

    >>> frames(torch.ones(1, 5, 1), steps=2).flatten().tolist()
    [3.0, 2.0]
    """
    found = x.shape[1]
    if steps == found:
        return x
    if not 1 <= steps <= found:
        raise InputError(
            f"steps {steps}: inputs of {found} steps can be summed into 1 to {found} bins"
        )
    bins = torch.arange(found, device=x.device) * steps // found
    return x.new_zeros(len(x), steps, *x.shape[2:]).index_add_(1, bins, x)


ENCODERS: Registry[Encoder] = Registry("encoder", (current, rate, latency, delta, frames))


def _check(x: Tensor, steps: int, *, signed: bool = False) -> None:
    if steps < 1:
        raise InputError(f"steps {steps} must be at least 1")
    if not signed and not bool((x >= 0).all()):
        raise InputError(
            f"inputs down to {float(x.min()):g}: the encoders rate and latency need inputs that "
            "are not negative and not NaN; shift the inputs, or use current or delta"
        )
