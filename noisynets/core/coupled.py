"""Draws of random numbers for the reference rows, repeated in the other passes.

Where a distribution depends on the activities, as in a Bernoulli variable of probability p(x), the
uniform or normal numbers from which it is made are shared: equal activities give equal results.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

FILLS = ("uniform_", "normal_", "exponential_", "geometric_", "cauchy_", "log_normal_", "random_")
"""Operations that overwrite a tensor; its former values do not matter."""


@dataclass(frozen=True)
class Draw:
    """One call of an operation that draws.

    Attributes:
        func: the operation.
        args: its positional arguments.
        kwargs: its other arguments.
        given: all of them by name.
        shape: of what is drawn.
        dim: dimension with the rows of all passes.
        passes: 1 + P.
    """

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    given: dict[str, Any]
    shape: tuple[int, ...]
    dim: int
    passes: int

    def reference(self, like: Tensor) -> Tensor:
        """Return an empty tensor for the reference rows of one of the shape of the draw."""
        return torch.empty_like(like.narrow(self.dim, 0, like.shape[self.dim] // self.passes))

    def repeated(self, drawn: Tensor) -> Tensor:
        """Repeat what was drawn for the reference rows, pass after pass."""
        return drawn.repeat([self.passes if d == self.dim else 1 for d in range(drawn.dim())])

    def uniform(self, like: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Draw uniform numbers of the shape of `like`, equal in all passes."""
        generator = self.given.get("generator")
        return self.repeated(self.reference(like).uniform_(low, high, generator=generator))


Coupled = Callable[[Draw], Any]
"""Carries out a draw, for all passes alike."""


def find(func: Any, given: dict[str, Any]) -> Coupled | None:
    """Return how an operation is carried out for all passes alike; None: nobody knows."""
    name = func.overloadpacket.__name__
    if name == "bernoulli_" and not isinstance(given["p"], Tensor):
        return _fill
    if name in FILLS:
        return _fill
    if "size" in given and "out" not in given:
        return _made
    if "dropout_p" in given and "query" in given:
        return _attention
    return SPECIAL.get(name)


def shape_of(given: dict[str, Any]) -> tuple[int, ...]:
    """Return the shape of what an operation draws, as far as its arguments tell."""
    if "size" in given:
        return tuple(given["size"])
    if "n" in given:
        return (int(given["n"]),)
    tensors: list[Tensor] = [value for value in given.values() if isinstance(value, Tensor)]
    return tuple(max(tensors, key=Tensor.dim).shape) if tensors else ()


def _fill(draw: Draw) -> Tensor:
    whole: Tensor = draw.given["self"]
    drawn = draw.func(draw.reference(whole), *draw.args[1:], **draw.kwargs)
    return whole.copy_(draw.repeated(drawn))


def _made(draw: Draw) -> Tensor:
    """Draw a new tensor of a given size."""
    size = list(draw.shape)
    size[draw.dim] //= draw.passes
    place = [a.name for a in draw.func._schema.arguments].index("size")
    if place < len(draw.args):
        args, kwargs = (*draw.args[:place], size, *draw.args[place + 1 :]), draw.kwargs
    else:
        args, kwargs = draw.args, {**draw.kwargs, "size": size}
    return draw.repeated(draw.func(*args, **kwargs))


def _alike(draw: Draw) -> Tensor:
    """Draw a new tensor like another."""
    drawn = draw.func(draw.reference(draw.args[0]), *draw.args[1:], **draw.kwargs)
    return draw.repeated(drawn)


def _bernoulli(draw: Draw) -> Tensor:
    whole, p = draw.given["self"], draw.given.get("p")
    p = whole if p is None else p
    like = whole if whole.is_floating_point() else whole.to(torch.get_default_dtype())
    value = (draw.uniform(like) < p).to(whole.dtype)
    return whole.copy_(value) if draw.func._schema.is_mutable else value


def _normal(draw: Draw) -> Tensor:
    mean, std = draw.given.get("mean", 0.0), draw.given.get("std", 1.0)
    both = [t for t in (mean, std) if isinstance(t, Tensor)]
    like = torch.broadcast_tensors(*both)[0]
    z = draw.reference(like).normal_(generator=draw.given.get("generator"))
    return draw.repeated(z) * std + mean


def _dropout(draw: Draw) -> tuple[Tensor, Tensor]:
    x, p = draw.given["input"], draw.given["p"]
    mask = draw.repeated(draw.reference(x).bernoulli_(1 - p))
    return x * mask * (0.0 if p == 1 else 1 / (1 - p)), mask.bool()


def _rrelu(draw: Draw) -> Tensor:
    x, noise, low, high = (draw.given[name] for name in ("self", "noise", "lower", "upper"))
    slopes = draw.uniform(x, float(low), float(high))
    noise.copy_(torch.where(x <= 0, slopes, torch.ones_like(x)))
    return x.mul_(noise) if draw.func._schema.arguments[0].is_write else x * noise


def _attention(draw: Draw) -> tuple[Any, ...]:
    """Replace dropout inside a fused kernel by a mask."""
    q, k, v = (draw.given[name] for name in ("query", "key", "value"))
    scale = draw.given.get("scale")
    scores = (q @ k.transpose(-2, -1)) * (q.shape[-1] ** -0.5 if scale is None else scale)
    bias = draw.given.get("attn_bias", draw.given.get("attn_mask"))
    if bias is not None:
        scores = scores + bias
    if draw.given.get("is_causal"):
        kept = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
        scores = scores.masked_fill(~kept, float("-inf"))
    p = draw.given["dropout_p"]
    mask = draw.repeated(draw.reference(scores).bernoulli_(1 - p)) / (1 - p)
    names = [a.name for a in draw.func._schema.arguments]
    kwargs = {**dict(zip(names, draw.args, strict=False)), **draw.kwargs, "dropout_p": 0.0}
    _, *rest = draw.func(**kwargs)
    return ((scores.softmax(-1) * mask) @ v, *rest)


SPECIAL: dict[str, Coupled] = {
    "rand_like": _alike,
    "randn_like": _alike,
    "randint_like": _alike,
    "bernoulli": _bernoulli,
    "bernoulli_": _bernoulli,
    "normal": _normal,
    "native_dropout": _dropout,
    "rrelu_with_noise": _rrelu,
    "rrelu_with_noise_": _rrelu,
}
"""How operations are coupled, by name."""
