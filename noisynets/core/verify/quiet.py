"""A pass without noise: declared noise gives its centre, and other random numbers repeat."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from noisynets.core.drawing import Repeatable, arguments, draws, is_random, running
from noisynets.core.modes import Mode
from noisynets.core.noise import declares_noise
from noisynets.core.paired import Paired

Other = Literal["seeded", "lowest", "highest"]


class Quiet(Mode):
    """While it is active, declared noise is replaced by its centre, and any other repeats.

    A normal number becomes its mean, a uniform one the middle, a Bernoulli variable the likelier
    value. Random numbers that are drawn elsewhere come from a generator of this object, so that
    they are the same in every pass.

    Args:
        system: whose modules draw.
        paired: makes random numbers equal in all passes; it is entered after this one.
        other: what stands for random numbers that are neither declared nor paired: those of one
            seed, or, about, the lowest or the highest that there are.

    Attributes:
        found: what drew without declaring it, and was not paired: path of the module, its type, and
            the operation.
        paused: operations are carried out as they are.
        centred: every draw of declared noise was replaced by its centre.
    """

    def __init__(self, system: nn.Module, paired: Paired, other: Other = "seeded") -> None:
        super().__init__()
        self._other, self._paired = other, paired
        self.found: dict[tuple[str, str, str], None] = {}
        self.paused, self.centred = False, True
        self._names = {id(module): name for name, module in system.named_modules()}
        self._own = {module: declares_noise(module) for module in system.modules()}
        self._repeatable = Repeatable(0)

    def carry_out(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Carry out one operation; one that draws random numbers, without noise or with its own."""
        if self.paused or not is_random(func):
            return func(*args, **kwargs)
        name = func.overloadpacket.__name__
        given = arguments(func, args, kwargs)
        if not draws(given):
            return func(*args, **kwargs)
        if self._paired.sharing:
            return self._repeatable(func, args, kwargs)
        drawing = running(self._own)
        if not any(self._own[module] for module in drawing):
            inner = drawing[0] if drawing else None
            path = self._names[id(inner)] if inner is not None else ""
            self.found[path, type(inner).__name__ if inner is not None else "", name] = None
            ends = ENDS.get(name.removesuffix("_"))
            if ends is not None and self._other != "seeded":
                return _filled(func, args, kwargs, given, ends[self._other == "highest"])
            return self._repeatable(func, args, kwargs)
        centre = CENTRES.get(name.removesuffix("_"))
        if centre is None:
            self.centred = False
            return self._repeatable(func, args, kwargs)
        return _filled(func, args, kwargs, given, centre)


Centre = Callable[[dict[str, Any]], Any]
"""What replaces the numbers of a draw, from its arguments by name: a value or a tensor."""


def _normal(given: dict[str, Any]) -> Any:
    return given.get("mean", 0.0)


def _uniform(given: dict[str, Any]) -> Any:
    return (given.get("from", 0.0) + given.get("to", 1.0)) / 2


def _likelier(given: dict[str, Any]) -> Any:
    p = given.get("p", given["self"])
    return (p >= 0.5) if isinstance(p, Tensor) else float(p >= 0.5)


CENTRES: dict[str, Centre] = {
    "normal": _normal,
    "randn": lambda given: 0.0,
    "randn_like": lambda given: 0.0,
    "uniform": _uniform,
    "rand": lambda given: 0.5,
    "rand_like": lambda given: 0.5,
    "bernoulli": _likelier,
    "poisson": lambda given: given["self"],
    "binomial": lambda given: given["count"] * given["prob"],
    "exponential": lambda given: 1 / given.get("lambd", 1.0),
    "geometric": lambda given: 1.0,
    "cauchy": lambda given: given.get("median", 0.0),
    "log_normal": lambda given: math.exp(given.get("mean", 1.0)),
    "random": lambda given: given.get("from", 0),
    "randint": lambda given: given.get("low", 0),
    "randint_like": lambda given: given.get("low", 0),
    "_standard_gamma": lambda given: given["self"],
}
"""The centre of each distribution, by the name of its operation."""


def _end(sign: int) -> Centre:
    return lambda given: _normal(given) + 3.0 * sign * given.get("std", 1.0)


ENDS: dict[str, tuple[Centre, Centre]] = {
    "normal": (_end(-1), _end(1)),
    "randn": (_end(-1), _end(1)),
    "randn_like": (_end(-1), _end(1)),
    "uniform": (
        lambda given: given.get("from", 0.0),
        lambda given: given.get("to", 1.0) - 1e-3 * (given.get("to", 1.0) - given.get("from", 0.0)),
    ),
    "rand": (lambda given: 0.0, lambda given: 0.999),
    "rand_like": (lambda given: 0.0, lambda given: 0.999),
    "bernoulli": (lambda given: 0.0, lambda given: 1.0),
    "randint": (
        lambda given: given.get("low", 0),
        lambda given: max(given["high"] - 1, given.get("low", 0)),
    ),
}
"""About the lowest and the highest number of a distribution, by the name of its operation."""


def has_ends(operations: Iterable[str]) -> bool:
    """Return True if all draw from distributions with known ends.

    Without these, what rarely changes anything, as a dropout of 0.01 in one operation, cannot be
    told from what never does.
    """
    return all(name.removesuffix("_") in ENDS for name in operations)


def _filled(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], given: dict[str, Any], centre: Centre
) -> Tensor:
    """Return what an operation would, or change in place what it would, with the centre."""
    value = centre(given)
    if isinstance(value, Tensor):
        value = value.clone()  # it may be what is overwritten
    if func._schema.is_mutable:
        out: Tensor = given["out"] if "out" in given else given["self"]
    elif "size" in given:
        whole = torch.int64 if func.overloadpacket.__name__.startswith("randint") else None
        dtype = kwargs.get("dtype") or whole
        out = torch.empty(given["size"], dtype=dtype, device=kwargs.get("device"))
    else:
        like = next(a for a in args if isinstance(a, Tensor))
        out = torch.empty_like(like, dtype=kwargs.get("dtype"))
    return out.copy_(value) if isinstance(value, Tensor) else out.fill_(value)
