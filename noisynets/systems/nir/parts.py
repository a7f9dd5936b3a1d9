"""Modules for nodes of NIR graphs that no other part of this package is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor, nn

from noisynets.core.errors import InputError
from noisynets.core.trial import Population
from noisynets.systems.spiking.neurons import Constant, decay

INPUT = ""
"""Name of what enters a network of branches."""


class Integrator(Population):
    """w ← β w + g a; y = w + v_leak: leaky integrators, which do not fire.

    Args:
        beta: β, decay factor per step; 1: no leak.
        gain: g, factor on the inputs.
        rest: v_leak, the output without input.

    >>> unit = Integrator(beta=0.5, gain=2.0)
    >>> [float(unit(torch.ones(1, 1))) for _ in range(2)]
    [2.0, 3.0]
    """

    signals = ("current", "output")
    fresh = MappingProxyType({"_state": None})
    _state: Tensor | None
    beta: Constant
    gain: Constant
    rest: Constant

    def __init__(self, beta: Constant, gain: Constant = 1.0, rest: Constant = 0.0) -> None:
        super().__init__()
        for name, value in {"beta": beta, "gain": gain, "rest": rest}.items():
            if isinstance(value, Tensor):
                self.register_buffer(name, value.detach().clone())
            else:
                setattr(self, name, value)

    def forward(self, a: Tensor) -> Tensor:
        """Run one step: inputs (B, *out) → outputs (B, *out)."""
        a = self.gain * a
        self._state = a if self._state is None else decay(self._state, self.beta, a)
        return self._state + self.rest


class Delay(Population):
    """y_t = x_{t − n}, and 0 in the first n steps of a trial.

    Args:
        steps: n, the same for all inputs, or one per input, (*in).

    Raises:
        InputError: for a negative number of steps.

    >>> delay = Delay(1)
    >>> [float(delay(torch.tensor([[x]]))) for x in (1.0, 2.0, 3.0)]
    [0.0, 1.0, 2.0]
    """

    signals = ("current", "output")
    fresh = MappingProxyType({"_past": ()})
    _past: tuple[Tensor, ...]
    steps: Tensor

    def __init__(self, steps: int | Tensor) -> None:
        super().__init__()
        found = torch.as_tensor(steps, dtype=torch.long)
        if bool((found < 0).any()):
            raise InputError(f"a delay of {int(found.min())} steps must not be negative")
        self.register_buffer("steps", found.clone())
        self._lengths: list[int] = found.unique().tolist()

    def forward(self, x: Tensor) -> Tensor:
        """Run one step: (B, *in) → (B, *in)."""
        past = (*self._past, x)
        self._past = past[-self._lengths[-1] :] if self._lengths[-1] else ()
        known = [n for n in self._lengths if n < len(past)]
        if self.steps.dim() == 0:
            return past[-1 - known[0]].clone() if known else torch.zeros_like(x)
        y = torch.zeros_like(x)
        for n in known:
            y = torch.where(self.steps == n, past[-1 - n], y)
        return y


class Above(nn.Module):
    """y = 1 if x > θ, else 0: NIR's Threshold.

    Args:
        threshold: θ, the same for all inputs, or one per input, (*in).

    >>> Above(0.5)(torch.tensor([0.4, 0.5, 0.6]))
    tensor([0., 0., 1.])
    """

    threshold: Constant

    def __init__(self, threshold: Constant) -> None:
        super().__init__()
        if isinstance(threshold, Tensor):
            self.register_buffer("threshold", threshold.detach().clone())
        else:
            self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        """Apply to a tensor (B, *in)."""
        return (x > self.threshold).to(x)


class AboveOverTrial(Population):
    """`Above` as a population, so that its inputs and outputs are measured over a trial.

    Args:
        above: the units.

    >>> AboveOverTrial(Above(0.5))(torch.tensor([0.4, 0.6]))
    tensor([0., 1.])
    """

    def __init__(self, above: Above) -> None:
        super().__init__()
        self.above = above

    def forward(self, x: Tensor) -> Tensor:
        """Apply to a tensor (B, *in)."""
        y: Tensor = self.above(x)
        return y


class Branches(nn.Module):
    """A network of modules, each of which receives the sum of what leads to it.

    Args:
        modules: by name, in the order in which they run.
        sources: names of the modules that lead to each; '' is what enters the network.
        ends: names of the modules whose outputs are added to the output of the network.

    >>> net = Branches({"a": nn.Identity(), "b": nn.Tanh()}, {"a": [""], "b": ["a"]}, ["a", "b"])
    >>> net(torch.zeros(1, 2))
    tensor([[0., 0.]])
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        sources: Mapping[str, Sequence[str]],
        ends: Sequence[str],
    ) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        self.sources = {name: tuple(sources[name]) for name in modules}
        self.ends = tuple(ends)

    def forward(self, x: Tensor) -> Tensor:
        """Run the modules: (B, *in) → (B, *out)."""
        values = {INPUT: x}
        for name, sources in self.sources.items():
            values[name] = self.get_submodule(name)(total(values, sources))
        return total(values, self.ends)


def total(values: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
    """Return the sum of some values, in the order of their names."""
    found = values[names[0]]
    for name in names[1:]:
        found = found + values[name]
    return found
