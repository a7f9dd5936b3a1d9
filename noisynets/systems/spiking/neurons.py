"""Spiking neurons: snnTorch's equations, step by step, with noise and without its global state.

A step of every neuron is: integrate the input current, fire, and remember what has to be reset.
State lives in the module from the first step of a trial to `forget()`; it is neither copied nor
saved, and it belongs to this module alone. `noisynets.systems.spiking.adapt` turns snnTorch's own
modules into these.

=========  ==================================================================================
symbol     meaning
=========  ==================================================================================
a          input current of the step, (B, *out)
u          membrane potential, (B, *out)
s          spikes of the step, 0 or 1, (B, *out)
r          what is still to be reset: the spikes of the step before, (B, *out)
θ          threshold
=========  ==================================================================================
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from noisynets.core.errors import InputError
from noisynets.core.noise import Source
from noisynets.core.outer import outer
from noisynets.core.types import Population, Stateful
from noisynets.systems.checks import not_negative
from noisynets.systems.spiking.firing import Threshold

RESETS = ("subtract", "zero", "none")
Constant = float | Tensor
"""One number for all neurons, or one for each, (*out)."""


class Neuron(Population):
    """A population of neurons: `integrate` gives the new potential, and the rest is common.

    A subclass writes `integrate(a, past, r)`, where `past` is what it returned last: a tuple that
    ends with the potential, or () at the first step of a trial.

    Args:
        threshold: θ, in units of the potential.
        reset: after a spike, 'subtract' θ from the potential, set it to 'zero', or 'none'.
        firing: from u − θ to spikes; None: `Threshold()`.
        membrane_noise: standard deviation of what is added to the potential in every step.
        reset_delay: reset in the step after the spike, as snnTorch does; else at once.
        readable: whether an experimenter can measure the potential.
        seed: of the membrane's noise; None draws one.
    """

    def __init__(
        self,
        threshold: Constant = 1.0,
        reset: str = "subtract",
        firing: nn.Module | None = None,
        *,
        membrane_noise: float = 0.0,
        reset_delay: bool = True,
        readable: bool = False,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        if reset not in RESETS:
            raise InputError(f"reset {reset!r} is none of {', '.join(RESETS)}")
        not_negative(membrane_noise=membrane_noise)
        theta = torch.as_tensor(threshold)
        if not bool((theta.isfinite() & (theta > 0)).all()):
            raise InputError(f"threshold {threshold} must be positive and finite")
        self.set_constant("threshold", threshold)
        self.reset = reset
        self.firing = Threshold() if firing is None else firing
        self.reset_delay = reset_delay
        self.source = Source(seed) if membrane_noise else None
        self.__membrane_noise = membrane_noise
        if readable:
            self.signals = (*self.signals, "membrane")

    threshold: Constant
    fresh = MappingProxyType({"step_state": (), "_reset_spikes": None})
    step_state: tuple[Tensor, ...]
    _reset_spikes: Tensor | None

    def integrate(self, a: Tensor, past: tuple[Tensor, ...], r: Tensor) -> tuple[Tensor, ...]:
        """One step of the currents and the potential, which comes last."""
        raise NotImplementedError

    def forward(self, a: Tensor) -> Tensor:
        """Input currents of one step, (B, *out) → spikes, (B, *out)."""
        past, r = self.step_state, self._reset_spikes
        if r is None:
            r = torch.zeros_like(a, requires_grad=False)
        elif r.shape != a.shape:
            raise InputError(
                f"{type(self).__name__}: currents of shape {tuple(a.shape)} after {tuple(r.shape)} "
                "within one trial: call forget() between trials, or run inside `trial(network)`"
            )
        *currents, u = self.integrate(a, past, r)
        if u.shape != a.shape:
            raise InputError(
                f"{type(self).__name__}: currents of shape {tuple(a.shape)} do not match its "
                f"constants, which broadcast them to {tuple(u.shape)}"
            )
        if self.source is not None:
            u = u + self.source.normal(u.detach(), self.__membrane_noise)
        s: Tensor = self.firing(u - self.threshold)
        pending = s.detach()
        if not self.reset_delay and self.reset != "none":
            u = u - (s - r) * (self.threshold if self.reset == "subtract" else u)
            # A potential still above a hard threshold will fire; snnTorch resets it before that.
            pending = (u > self.threshold).to(u.dtype) if self._hard else torch.zeros_like(u)
        self.step_state, self._reset_spikes = (*currents, u), pending
        return s

    @property
    def _hard(self) -> bool:
        return isinstance(self.firing, Threshold)

    @property
    def membrane(self) -> Tensor | None:
        """Potential after the last step, where it can be measured."""
        return self.step_state[-1] if "membrane" in self.signals and self.step_state else None

    def set_constant(self, name: str, value: Constant) -> None:
        """Keep a constant: a plain number, or a buffer with a number for every neuron."""
        if isinstance(value, Tensor) and value.numel() > 1:
            self.register_buffer(name, value.detach().clone())
        else:
            setattr(self, name, float(value))

    def subtract(self, u: Tensor, r: Tensor) -> Tensor:
        """U − θ r: the reset by subtraction."""
        if isinstance(self.threshold, Tensor):
            return torch.addcmul(u, r, self.threshold, value=-1)
        return torch.sub(u, r, alpha=self.threshold)

    def late_reset(self, u: Tensor, r: Tensor) -> Tensor:
        """Reset what a step gave: by subtraction, to zero with its input, or not."""
        if self.reset == "subtract":
            return self.subtract(u, r)
        return u * (1 - r) if self.reset == "zero" else u

    def extra_repr(self) -> str:
        """Show the settings in `print(module)`."""
        return f"reset={self.reset}, signals={'+'.join(self.signals)}"


class Leaky(Neuron):
    """u ← β u + a − θ r: the leaky integrate-and-fire neuron, snnTorch's `Leaky`.

    Reset to zero forgets the potential before the step's input comes in.

    Args:
        beta: β = exp(−Δt/τ), the share of the potential that is left after a step.
        settings: of `Neuron`.

    >>> neuron = Leaky(beta=0.5)
    >>> [float(neuron(torch.tensor([[0.8]]))) for _ in range(4)]
    [0.0, 1.0, 0.0, 0.0]
    """

    beta: Constant

    def __init__(self, beta: Constant, **settings: Any) -> None:
        super().__init__(**settings)
        self.set_constant("beta", decay_factor("beta", beta))

    def integrate(self, a: Tensor, past: tuple[Tensor, ...], r: Tensor) -> tuple[Tensor, ...]:
        """One step of u."""
        if not past:
            return (a,)
        (u,) = past
        if self.reset == "zero":
            u = u * (1 - r)
        u = decay(u, self.beta, a)
        return (self.subtract(u, r) if self.reset == "subtract" else u,)


class Lapicque(Neuron):
    """u ← (1 − λ) u + R λ a, λ = Δt/(RC), less the reset: the RC circuit, snnTorch's `Lapicque`.

    Args:
        beta: exp(−Δt/(RC)); with it, either R or C follows from the other.
        resistance: R; 1 if nothing else says what it is.
        capacitance: C.
        time_step: Δt, in units of RC.
        settings: of `Neuron`.

    Raises:
        InputError: for less than β, or R and C; for a step longer than RC.

    >>> round(float(Lapicque(beta=0.5).integrate(torch.ones(1), (), torch.zeros(1))[0]), 4)
    0.6931
    """

    gain: Constant
    decay: Constant

    def __init__(
        self,
        beta: Constant | None = None,
        resistance: Constant | None = None,
        capacitance: Constant | None = None,
        time_step: float = 1.0,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        if beta is None and (resistance is None or capacitance is None):
            raise InputError("Lapicque needs beta, or both resistance and capacitance")
        given = {"beta": beta, "resistance": resistance, "capacitance": capacitance}
        exact = {
            k: torch.as_tensor(v, dtype=torch.float64) for k, v in given.items() if v is not None
        }
        if "resistance" in exact and "capacitance" in exact:
            rate = time_step / (exact["resistance"] * exact["capacitance"])
        else:
            if not bool(((exact["beta"] > 0) & (exact["beta"] < 1)).all()):
                raise InputError(f"beta {beta} must be between 0 and 1")
            rate = -exact["beta"].log()
        r = exact.get("resistance", torch.ones((), dtype=torch.float64))
        if "capacitance" in exact and "resistance" not in exact:
            r = time_step / (exact["capacitance"] * rate)
        if not bool(((rate > 0) & (rate <= 1) & r.isfinite()).all()):
            raise InputError(
                "time_step / (resistance · capacitance) must be above 0 and at most 1, or the "
                "potential oscillates"
            )
        dtype = next((v.dtype for v in given.values() if isinstance(v, Tensor)), torch.float64)
        self.set_constant("gain", (r * rate).to(dtype))
        self.set_constant("decay", (1 - rate).to(dtype))

    def integrate(self, a: Tensor, past: tuple[Tensor, ...], r: Tensor) -> tuple[Tensor, ...]:
        """One step of u."""
        a = self.gain * a
        u = decay(past[0], self.decay, a) if past else a
        return (self.late_reset(u, r),)


class Synaptic(Neuron):
    """i ← α i + a; u ← β u + i − θ r: a leaky synapse before the neuron, snnTorch's `Synaptic`.

    Reset to zero leaves the synaptic current i.

    Args:
        alpha: share of the synaptic current that is left after a step.
        beta: share of the potential that is left after a step.
        settings: of `Neuron`.

    >>> neuron = Synaptic(alpha=0.5, beta=0.5)
    >>> [float(neuron(torch.tensor([[0.6]]))) for _ in range(3)]
    [0.0, 1.0, 0.0]
    """

    alpha: Constant
    beta: Constant

    def __init__(self, alpha: Constant, beta: Constant, **settings: Any) -> None:
        super().__init__(**settings)
        self.set_constant("alpha", decay_factor("alpha", alpha))
        self.set_constant("beta", decay_factor("beta", beta))

    def integrate(self, a: Tensor, past: tuple[Tensor, ...], r: Tensor) -> tuple[Tensor, ...]:
        """One step of i and u."""
        if not past:
            return a, a
        i = decay(past[0], self.alpha, a)
        return i, self.late_reset(decay(past[1], self.beta, i), r)


class Alpha(Neuron):
    """The potential as a difference of two decaying currents, snnTorch's `Alpha`.

    i⁺ ← α i⁺ + a; i⁻ ← β i⁻ − a; u ← c (i⁺ + i⁻), c = 1 + ln α/(ln β − ln α). By subtraction θ is
    taken from i⁺, i⁻ is dropped and u loses −i⁻ of the step before, as snnTorch has it; reset to
    zero, its default, clears all three.

    Args:
        alpha: share of the excitatory current that is left after a step, above β.
        beta: share of the inhibitory one, below 1 and above 0.
        settings: of `Neuron`; the reset is to zero unless said otherwise.

    Raises:
        InputError: unless 0 < β < α ≤ 1.
    """

    alpha: Constant
    beta: Constant
    factor: Constant

    def __init__(self, alpha: Constant, beta: Constant, **settings: Any) -> None:
        super().__init__(**{"reset": "zero", **settings})
        if not self.reset_delay:
            raise InputError("Alpha resets in the step after the spike: leave reset_delay=True")
        a, b = (torch.as_tensor(v, dtype=torch.float64) for v in (alpha, beta))
        if not bool(((b > 0) & (b < a) & (a <= 1) & (b < 1)).all()):
            raise InputError(f"alpha {alpha} and beta {beta}: 0 < beta < alpha <= 1 is needed")
        self.set_constant("alpha", alpha)
        self.set_constant("beta", beta)
        self.set_constant("factor", 1 + a.log() / (b.log() - a.log()))

    def integrate(self, a: Tensor, past: tuple[Tensor, ...], r: Tensor) -> tuple[Tensor, ...]:
        """One step of i⁺, i⁻ and u."""
        if not past:
            return a, -a, torch.zeros_like(a)
        up = decay(past[0], self.alpha, a)
        down = decay(past[1], self.beta, -a)
        u = self.factor * (up + down)
        if self.reset == "subtract":
            return self.subtract(up, r), down * (1 - r), u + past[1] * r
        if self.reset == "zero":
            return up * (1 - r), down * (1 - r), u * (1 - r)
        return up, down, u


class Recurrent(Stateful):
    """s ← neuron(a + V s): the spikes of the step before come back through a layer.

    The layer is a node like any other. With `Leaky` or `Synaptic` this is snnTorch's `RLeaky` or
    `RSynaptic` (for `RLeaky`'s reset to zero, `LateResetLeaky`).

    Args:
        neuron: the population.
        layer: V, from spikes to currents: a Linear, a convolution, or `OneToOne`.

    >>> neurons = Recurrent(Leaky(beta=0.9), nn.Linear(5, 5))
    >>> neurons(torch.ones(2, 5)).shape
    torch.Size([2, 5])
    """

    def __init__(self, neuron: Neuron, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.neuron = neuron

    fresh = MappingProxyType({"last_spikes": None})
    last_spikes: Tensor | None

    def forward(self, a: Tensor) -> Tensor:
        """Input currents of one step, (B, *out) → spikes, (B, *out)."""
        spikes = self.last_spikes
        if spikes is None:
            spikes = torch.zeros_like(a, requires_grad=False)
        self.last_spikes = self.neuron(a + self.layer(spikes))
        return self.last_spikes


class LateResetLeaky(Leaky):
    """`Leaky`, but reset to zero also loses the step's input, as in snnTorch's `RLeaky`."""

    def integrate(self, a: Tensor, past: tuple[Tensor, ...], r: Tensor) -> tuple[Tensor, ...]:
        """One step of u."""
        return (self.late_reset(decay(past[0], self.beta, a), r) if past else a,)


class OneToOne(nn.Module):
    """V s, element by element: every neuron hears only itself.

    Args:
        weight: V, one number for all neurons or one for each.
    """

    def __init__(self, weight: Constant = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.as_tensor(weight, dtype=torch.get_default_dtype()).clone())

    def forward(self, x: Tensor) -> Tensor:
        """(B, *out) → (B, *out)."""
        return x * self.weight


@outer.register
def _one_to_one(layer: OneToOne, x: Tensor, credit: Tensor) -> dict[str, Tensor]:
    return {"weight": (credit * x).sum_to_size(layer.weight.shape)}


def decay(state: Tensor, factor: Constant, a: Tensor) -> Tensor:
    """Share · state + a, in one operation."""
    if isinstance(factor, Tensor):
        return torch.addcmul(a, state, factor)
    return torch.add(a, state, alpha=factor)


def decay_factor(name: str, value: Constant) -> Constant:
    """Return a share, clipped to [0, 1] as snnTorch does; refuse what is no number."""
    if not bool(torch.as_tensor(value).isfinite().all()):
        raise InputError(f"{name} {value} must be finite")
    return value.clamp(0, 1) if isinstance(value, Tensor) else min(max(value, 0.0), 1.0)
