"""Neurons and integrators: from the constants of NIR's equations to those of a step, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from noisynets.systems.nir.package import Array, array, close, constant
from noisynets.systems.nir.parts import Integrator
from noisynets.systems.spiking.neurons import Lapicque, Leaky, Neuron, Synaptic


@dataclass(frozen=True)
class Membrane:
    """w ← β w + g x: a leaky integrator in steps of Δt, w = v − v_leak.

    Attributes:
        beta: β, per neuron.
        gain: g, per neuron.
        rest: v_leak, per neuron.
    """

    beta: Array
    gain: Array
    rest: Array

    @classmethod
    def of(cls, node: Any, dt: float) -> Membrane:
        """Return that of a node with r, and with tau and v_leak if it leaks.

        Raises:
            ValueError: for constants that no step of Δt can have.
        """
        r = array(node.r)
        if not hasattr(node, "tau"):
            return cls(np.ones_like(r), r * dt, np.zeros_like(r))
        rate = rate_of("tau", node.tau, dt)
        return cls(1 - rate, r * rate, array(node.v_leak))

    def threshold(self, value: Any, node: Any = None) -> Array:
        """Return a threshold θ of v in terms of w.

        Args:
            value: θ.
            node: with v_reset; None: it is not reset, or by subtraction.

        Raises:
            ValueError: for a reset to another potential than that of rest.
        """
        if node is not None and not close(array(node.v_reset), self.rest):
            raise ValueError(
                "v_reset differs from the potential at rest (v_leak, or 0), to which neurons are "
                "reset here: make them equal"
            )
        return array(value) - self.rest


def rate_of(name: str, tau: Any, dt: float) -> Array:
    """Return Δt/τ.

    Raises:
        ValueError: unless it is above 0 and at most 1.
    """
    found = array(tau)
    if not (found > 0).all():
        raise ValueError(f"{name} must be positive")
    rate: Array = dt / found
    if (rate > 1 + 1e-9).any():
        raise ValueError(
            f"{name} down to {found.min():g} s is below dt = {dt:g} s, which no step can follow: "
            "give a smaller dt"
        )
    return np.minimum(rate, 1)


def integrator(node: Any, dt: float, dtype: torch.dtype) -> nn.Module:
    """Return the module of an LI or I."""
    m = Membrane.of(node, dt)
    return Integrator(*(constant(v, dtype) for v in (m.beta, m.gain, m.rest)))


def cuba_li(node: Any, dt: float, dtype: torch.dtype) -> nn.Module:
    """Return the modules of a CubaLI: of its current, then of its potential."""
    synapse, membrane = _cuba(node, dt)
    return nn.Sequential(
        Integrator(constant(synapse.beta, dtype), constant(synapse.gain, dtype)),
        Integrator(*(constant(v, dtype) for v in (membrane.beta, membrane.gain, membrane.rest))),
    )


def _cuba(node: Any, dt: float) -> tuple[Membrane, Membrane]:
    synapse, membrane = rate_of("tau_syn", node.tau_syn, dt), rate_of("tau_mem", node.tau_mem, dt)
    rest = array(node.v_leak)
    return (
        Membrane(1 - synapse, array(node.w_in) * synapse, np.zeros_like(rest)),
        Membrane(1 - membrane, array(node.r) * membrane, rest),
    )


def lif(node: Any, dt: float, dtype: torch.dtype) -> Neuron:
    """Return the neurons of an LIF or IF."""
    membrane = Membrane.of(node, dt)
    theta = membrane.threshold(node.v_threshold, node)
    return leaky(membrane, theta, dtype, reset="zero", reset_delay=False)


def cuba_lif(node: Any, dt: float, dtype: torch.dtype) -> Neuron:
    """Return the neurons of a CubaLIF."""
    synapse, membrane = _cuba(node, dt)
    theta = membrane.threshold(node.v_threshold, node)
    return synaptic(synapse, membrane, theta, dtype, reset="zero", reset_delay=False)


def leaky(membrane: Membrane, theta: Array, dtype: torch.dtype, **settings: Any) -> Neuron:
    """Return neurons with one state.

    They are `Leaky` if the gain is 1, and `Lapicque` with another gain. Without leak they are
    `Leaky` with the potential w/g and the threshold θ/g, which spikes at the same steps.
    """
    one, beta, gain = np.ones_like(membrane.gain), membrane.beta, membrane.gain
    settings["threshold"] = constant(theta, dtype)
    if close(gain, one):
        return Leaky(constant(beta, dtype), **settings)
    if (beta == 1).any():
        settings["threshold"] = constant(_units(theta, gain, "r"), dtype)
        return Leaky(constant(beta, dtype), **settings)
    if (gain == 0).any():
        raise ValueError("r is 0, so that no input arrives")
    r, c = gain / (1 - beta), 1 / gain  # Δt = 1
    return Lapicque(
        resistance=constant(r, dtype), capacitance=constant(c, dtype), time_step=1.0, **settings
    )


def synaptic(
    synapse: Membrane, membrane: Membrane, theta: Array, dtype: torch.dtype, **settings: Any
) -> Neuron:
    """Return neurons with a current: `Synaptic` with the potential w/(g h), and θ/(g h)."""
    theta = _units(theta, synapse.gain * membrane.gain, "the product of r and w_in")
    alpha, beta = (constant(m.beta, dtype) for m in (synapse, membrane))
    return Synaptic(alpha, beta, threshold=constant(theta, dtype), **settings)


def _units(theta: Array, gain: Array, name: str) -> Array:
    if not (gain > 0).all():
        raise ValueError(f"{name} must be positive")
    gain = np.where(close(gain, np.ones_like(gain)), 1.0, gain)
    found: Array = theta / gain
    return found


def step_of(module: nn.Module) -> Membrane:
    """Return β and g of neurons with one state, or of integrators; v_leak is 0 but in the latter.

    >>> step_of(Leaky(0.5)).gain
    array(1.)
    """
    if isinstance(module, Lapicque):
        beta, gain, rest = array(module.decay), array(module.gain), np.zeros(())
    elif isinstance(module, Integrator):
        beta, gain, rest = array(module.beta), array(module.gain), array(module.rest)
    else:
        beta, gain, rest = array(getattr(module, "beta")), np.ones(()), np.zeros(())  # noqa: B009
    return Membrane(beta, gain, rest)


def time_constant(name: str, beta: Array, dt: float) -> Array:
    """Return τ = Δt/(1 − β).

    Raises:
        ValueError: for β = 1, which has none.
    """
    if (beta >= 1).any():
        raise ValueError(f"{name} is 1, which no time constant gives: use a value below 1")
    found: Array = dt / (1 - beta)
    return found


def li_node(nir: Any, m: Membrane, shape: tuple[int, ...], dt: float, **more: Any) -> Any:
    """Return an LI, or an I without leak; with v_threshold an LIF or IF, whose v_reset is v_leak.

    Args:
        nir: the package.
        m: constants of a step.
        shape: of the neurons, without the batch.
        dt: Δt in seconds.
        more: v_threshold.
    """
    more = {k: np.broadcast_to(v, shape).copy() for k, v in more.items()}
    beta, gain, rest = (np.broadcast_to(v, shape).copy() for v in (m.beta, m.gain, m.rest))
    if more:
        more["v_reset"] = rest
    if (beta == 1).all() and not rest.any():
        return (nir.IF if more else nir.I)(r=gain / dt, **more)
    tau = time_constant("beta", beta, dt)
    return (nir.LIF if more else nir.LI)(tau=tau, r=gain * tau / dt, v_leak=rest, **more)


def cuba_node(nir: Any, neuron: Synaptic, shape: tuple[int, ...], dt: float) -> Any:
    """Return the CubaLIF of neurons that are reset to zero in the step of the spike."""
    alpha, beta, theta = (
        np.broadcast_to(array(v), shape).copy()
        for v in (neuron.alpha, neuron.beta, neuron.threshold)
    )
    tau_syn, tau_mem = time_constant("alpha", alpha, dt), time_constant("beta", beta, dt)
    zero = np.zeros(shape)
    return nir.CubaLIF(
        tau_syn=tau_syn,
        tau_mem=tau_mem,
        r=tau_mem / dt,
        v_leak=zero,
        v_threshold=theta,
        v_reset=zero.copy(),
        w_in=tau_syn / dt,
    )
