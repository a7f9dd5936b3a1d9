"""Paired passes: one set of batch statistics, and one set of random masks, for all passes.

The passes of a pair are rows of one stacked batch, the reference first. A difference between them
should come from noise that is injected or declared, and from nothing else. While `Paired` is
active,

- batch normalisation in training takes mean and variance from the reference rows, normalises all
  rows with them, and updates its running statistics once. What is injected into the other rows
  does not move the statistics;
- random numbers that no module declares as noise are drawn for the reference rows, and repeated in
  the other passes: the masks of dropout and of stochastic depth, the slopes of RReLU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.weak import WeakTensorKeyDictionary

from noisynets.core import coupled, statistics
from noisynets.core.drawing import arguments, draws, is_noise, is_random, running
from noisynets.core.modes import Mode
from noisynets.core.types import Effect

Where = tuple[str, str, str]
"""Path of a module, its type, and an operation."""


class Paired(Mode):
    """While it is active, stacked passes share batch statistics and undeclared random numbers.

    A result has a row per sample where its first dimension is a multiple of the rows, or where
    another one equals them. What has none (a mask of a weight, one number per batch) is the same
    for all passes anyway.

    Args:
        system: whose modules run.
        batch: B.
        passes: 1 + P, stacked pass after pass.
        injects: noise is injected. If not, noise that is not declared is the system's own, and only
            what PyTorch's layers and functions draw is shared.

    Attributes:
        found: what was paired.
        sharing: what is drawn now will be the same in all passes.
        paused: operations are carried out as they are.

    >>> import torch
    >>> with Paired(nn.Identity(), batch=2, passes=3):
    ...     mask = torch.rand(6, 4)
    >>> bool((mask[:2] == mask[2:4]).all() and (mask[:2] == mask[4:]).all())
    True
    """

    def __init__(self, system: nn.Module, batch: int, passes: int, injects: bool = True) -> None:
        super().__init__()
        self.passes, self.rows, self.injects = passes, batch * passes, injects
        self.found: dict[Where, None] = {}
        self.sharing = self.paused = False
        self._names = {module: name for name, module in system.named_modules()}
        self._random: dict[Any, bool] = {}
        self._of_weights = WeakTensorKeyDictionary()

    def carry_out(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Carry out one operation; a draw or a batch normalisation for all passes alike."""
        if self.paused:
            return func(*args, **kwargs)
        name = func.overloadpacket.__name__
        if name in statistics.OPERATIONS:
            return self._normalised(func, args, kwargs)
        random = self._random.get(func)
        if random is None:
            random = self._random[func] = is_random(func)
        if random:
            return self._drawn(func, args, kwargs)
        out = func(*args, **kwargs)
        if name in ("empty_like", "new_empty") and isinstance(args[0], nn.Parameter):
            self._of_weights[out] = True
        return out

    def _normalised(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = arguments(func, args, kwargs)
        x: Tensor = given["input"]
        if not given.get("training", True):
            return func(*args, **kwargs)
        if len(x) == 1 < self.rows:  # one row of all channels: an instance normalisation
            out = func(*args, **kwargs)
            if statistics.same_of_instances(given, self.passes, self.rows):
                self._note(func)
            return out
        if len(x) % self.rows:
            return func(*args, **kwargs)
        self._note(func)
        return statistics.normalised(given, len(x) // self.passes, len(func._schema.returns))

    def _drawn(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = arguments(func, args, kwargs)
        if not draws(given) or is_noise(given, self._names, self.injects):
            return func(*args, **kwargs)
        draw = coupled.find(func, given)
        shape = coupled.shape_of(given)
        dim = None if self._is_of_weight(given) else self.dim(shape)
        if draw is None and dim is not None:
            return func(*args, **kwargs)  # nothing pairs it; the verification refuses it
        with self._shares():
            if dim is None or draw is None:
                return func(*args, **kwargs)
            self._note(func)
            return draw(coupled.Draw(func, args, kwargs, given, shape, dim, self.passes))

    def dim(self, shape: tuple[int, ...]) -> int | None:
        """Return the dimension of a shape that holds the rows of all passes; None: none does."""
        if shape and shape[0] and shape[0] % self.rows == 0:
            return 0
        return next((d for d, n in enumerate(shape) if n == self.rows), None)

    def _is_of_weight(self, given: dict[str, Any]) -> bool:
        whole = given.get("self")
        return isinstance(whole, nn.Parameter) or (
            isinstance(whole, Tensor) and whole in self._of_weights
        )

    def _note(self, func: Any) -> None:
        inner = next(iter(running(self._names)), None)
        kind = "" if inner is None else type(inner).__name__
        path = "" if inner is None else self._names[inner]
        self.found[path, kind, func.overloadpacket.__name__] = None

    @contextmanager
    def _shares(self) -> Iterator[None]:
        self.sharing = True
        try:
            yield
        finally:
            self.sharing = False


def needs_pairing(system: nn.Module, strangers: bool) -> bool:
    """Return True if a system may use batch statistics, or draw random numbers, in its passes.

    Args:
        system: any module.
        strangers: what the answer is for modules of other packages, which may do anything.

    >>> net = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1))
    >>> needs_pairing(net, strangers=True), needs_pairing(net.eval(), strangers=True)
    (True, False)
    """
    return any(
        is_stochastic(module) or (strangers and not is_known(module)) for module in system.modules()
    )


def is_stochastic(module: nn.Module) -> bool:
    """Return True for a layer of PyTorch that uses batch statistics or draws random numbers."""
    if isinstance(module, _BatchNorm) and module.running_mean is None:
        return True
    if not module.training:
        return False
    if isinstance(module, _DropoutNd):
        return module.p > 0
    if isinstance(module, nn.RNNBase | nn.MultiheadAttention):
        return module.dropout > 0
    norm = isinstance(module, _NormBase) and (
        isinstance(module, _BatchNorm) or module.track_running_stats
    )
    return norm or isinstance(module, nn.RReLU)


def is_known(module: nn.Module) -> bool:
    """Return True for a module of PyTorch or of this package, and for a declared effect."""
    if isinstance(module, Effect):  # what it draws is declared
        return True
    return type(module).__module__.startswith(("torch.nn.modules.", "noisynets."))
