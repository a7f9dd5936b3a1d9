"""Spiking neurons: snnTorch's equations, step by step, with noise and without global state.

Every step of a neuron integrates the input current, fires, and stores what the next step has to
reset. A module keeps its state from the first step of a trial until `forget()`; the state is
neither copied nor saved. `noisynets.systems.spiking.adapt` converts snnTorch's modules to these.

=========  ==================================================================================
symbol     meaning
=========  ==================================================================================
a          input current of the step, (B, *out)
u          membrane potential, (B, *out)
s          spikes of the step, 0 or 1, (B, *out)
r          spikes of the previous step, whose reset is pending, (B, *out)
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
from noisynets.core.trial import Population, Stateful
from noisynets.systems.checks import not_negative
from noisynets.systems.spiking.firing import Threshold

RESETS = ("subtract", "zero", "none")
Constant = float | Tensor
"""One value for all neurons, or one per neuron, (*out)."""


class Neuron(Population):
    """A population of neurons; a subclass defines `integrate`, which returns the new potential.

    Args:
        threshold: θ, in units of the potential.
        reset: after a spike 'subtract' θ from the potential, set it to 'zero', or 'none'.
        firing: module from u − θ to spikes; None: `Threshold()`.
        membrane_noise: standard deviation of noise added to the potential in every step, in units
            of the potential.
        reset_delay: if True, reset in the step after the spike, as snnTorch does by default; if
            False, in the same step.
        readable: True if an experimenter can measure the potential.
        seed: of the membrane noise; None: drawn from PyTorch's global generator.

    Attributes:
        step_state: what `integrate` returned in the last step, with noise and reset applied: any
            synaptic currents, then the potential; () at the start of a trial. It belongs to the
            simulation: training rules read only `signals`.

    Raises:
        InputError: for an unknown reset, or a threshold or noise out of range.
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
        self.source = Source(seed, "membrane noise") if membrane_noise else None
        self.__membrane_noise = membrane_noise
        if readable:
            self.signals = (*self.signals, "membrane")

    threshold: Constant
    fresh = MappingProxyType({"step_state": (), "_reset_spikes": None})
    step_state: tuple[Tensor, ...]
    _reset_spikes: Tensor | None

    def integrate(self, a: Tensor, past: tuple[Tensor, ...], r: Tensor) -> tuple[Tensor, ...]:
        """Compute one step of currents and potential, before firing.

        Args:
            a: input currents, (B, *out).
            past: return value of the previous step; () in the first step of a trial.
            r: pending resets, (B, *out).

        Returns:
            Any synaptic currents, then the potential, each (B, *out).
        """
        raise NotImplementedError

    def forward(self, a: Tensor) -> Tensor:
        """Run one step: input currents (B, *out) → spikes (B, *out).

        Raises:
            InputError: if the shape changes within a trial, or does not match the constants.
        """
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
        """Potential after the last step, (B, *out); None if it cannot be measured."""
        return self.step_state[-1] if "membrane" in self.signals and self.step_state else None

    def set_constant(self, name: str, value: Constant) -> None:
        """Store a constant: as a number, or as a buffer if it has one value per neuron."""
        if isinstance(value, Tensor) and value.numel() > 1:
            self.register_buffer(name, value.detach().clone())
        else:
            setattr(self, name, float(value))

    def subtract(self, u: Tensor, r: Tensor) -> Tensor:
        """Return u − θ r, the reset by subtraction."""
        if isinstance(self.threshold, Tensor):
            return torch.addcmul(u, r, self.threshold, value=-1)
        return torch.sub(u, r, alpha=self.threshold)

    def late_reset(self, u: Tensor, r: Tensor) -> Tensor:
        """Apply the reset after the input of the step: by subtraction, to zero, or none."""
        if self.reset == "subtract":
            return self.subtract(u, r)
        return u * (1 - r) if self.reset == "zero" else u

    def extra_repr(self) -> str:
        """Show the settings in `print(module)`."""
        return f"reset={self.reset}, signals={'+'.join(self.signals)}"


class Leaky(Neuron):
    """u ← β u + a − θ r: the leaky integrate-and-fire neuron, snnTorch's `Leaky`.

    A reset to zero clears the potential before the input of the step is added.

    Args:
        beta: β = exp(−Δt/τ), decay factor of the potential per step.
        settings: keyword arguments of `Neuron`.

    >>> neuron = Leaky(beta=0.5)
    >>> [float(neuron(torch.tensor([[0.8]]))) for _ in range(4)]
    [0.0, 1.0, 0.0, 0.0]
    """

    beta: Constant

    def __init__(self, beta: Constant, **settings: Any) -> None:
        super().__init__(**settings)
        self.set_constant("beta", decay_factor("beta", beta))

    def integrate(self, a: Tensor, past: tuple[Tensor, ...], r: Tensor) -> tuple[Tensor, ...]:
        """Compute one step of u."""
        if not past:
            return (a,)
        (u,) = past
        if self.reset == "zero":
            u = u * (1 - r)
        u = decay(u, self.beta, a)
        return (self.subtract(u, r) if self.reset == "subtract" else u,)


class Lapicque(Neuron):
    """u ← (1 − λ) u + R λ a − θ r, λ = Δt/(RC): the RC circuit, snnTorch's `Lapicque`.

    Args:
        beta: exp(−Δt/(RC)); if given with R or C alone, it determines the other.
        resistance: R; 1 if only β is given.
        capacitance: C.
        time_step: Δt, in the units of RC.
        settings: keyword arguments of `Neuron`.

    Raises:
        InputError: if neither β nor both R and C are given, or Δt/(RC) is not in (0, 1].

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
        """Compute one step of u."""
        a = self.gain * a
        u = decay(past[0], self.decay, a) if past else a
        return (self.late_reset(u, r),)


class Synaptic(Neuron):
    """i ← α i + a; u ← β u + i − θ r: a neuron with a synaptic current, snnTorch's `Synaptic`.

    A reset to zero clears the potential, not the synaptic current i.

    Args:
        alpha: α, decay factor of the synaptic current per step.
        beta: β, decay factor of the potential per step.
        settings: keyword arguments of `Neuron`.

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
        """Compute one step of i and u."""
        if not past:
            return a, a
        i = decay(past[0], self.alpha, a)
        return i, self.late_reset(decay(past[1], self.beta, i), r)


class Alpha(Neuron):
    """The potential is the difference of two decaying currents: snnTorch's `Alpha`.

    i⁺ ← α i⁺ + a; i⁻ ← β i⁻ − a; u ← c (i⁺ + i⁻), c = 1 + ln α/(ln β − ln α). A reset by
    subtraction takes θ from i⁺, sets i⁻ to 0 and adds the previous i⁻ to u, as in snnTorch; a
    reset to zero, the default here, clears all three.

    Args:
        alpha: α, decay factor of the excitatory current per step.
        beta: β, decay factor of the inhibitory current per step.
        settings: keyword arguments of `Neuron`; the default of `reset` is 'zero'.

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
        """Compute one step of i⁺, i⁻ and u."""
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
    """s ← neuron(a + V s): the spikes of the previous step return through a layer.

    The layer is a node like any other. With `Leaky` or `Synaptic` this is snnTorch's `RLeaky` or
    `RSynaptic`; `RLeaky` with reset to zero corresponds to `LateResetLeaky`.

    Args:
        neuron: the population.
        layer: V, from spikes to currents: a Linear, a convolution, or `OneToOne`.

    Attributes:
        last_spikes: spikes of the previous step, (B, *out); None at the start of a trial.

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
        """Run one step: input currents (B, *out) → spikes (B, *out)."""
        spikes = self.last_spikes
        if spikes is None:
            spikes = torch.zeros_like(a, requires_grad=False)
        self.last_spikes = self.neuron(a + self.layer(spikes))
        return self.last_spikes


class LateResetLeaky(Leaky):
    """`Leaky` whose reset to zero also clears the input of the step, as in snnTorch's `RLeaky`."""

    def integrate(self, a: Tensor, past: tuple[Tensor, ...], r: Tensor) -> tuple[Tensor, ...]:
        """Compute one step of u."""
        return (self.late_reset(decay(past[0], self.beta, a), r) if past else a,)


class OneToOne(nn.Module):
    """V s, element by element: every neuron is connected only to itself.

    Args:
        weight: V, one value for all neurons or one per neuron.
    """

    def __init__(self, weight: Constant = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.as_tensor(weight, dtype=torch.get_default_dtype()).clone())

    def forward(self, x: Tensor) -> Tensor:
        """Multiply by V: (B, *out) → (B, *out)."""
        return x * self.weight


@outer.register
def _one_to_one(layer: OneToOne, x: Tensor, credit: Tensor) -> dict[str, Tensor]:
    return {"weight": (credit * x).sum_to_size(layer.weight.shape)}


def decay(state: Tensor, factor: Constant, a: Tensor) -> Tensor:
    """Return factor · state + a, in one operation."""
    if isinstance(factor, Tensor):
        return torch.addcmul(a, state, factor)
    return torch.add(a, state, alpha=factor)


def decay_factor(name: str, value: Constant) -> Constant:
    """Return a decay factor, clipped to [0, 1] as in snnTorch.

    Raises:
        InputError: if it is not finite.
    """
    if not bool(torch.as_tensor(value).isfinite().all()):
        raise InputError(f"{name} {value} must be finite")
    return value.clamp(0, 1) if isinstance(value, Tensor) else min(max(value, 0.0), 1.0)
