"""A spiking network in the Nengo simulator."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from noisynets.core.extras import extra
from noisynets.core.seeds import salted
from noisynets.systems.blackbox.contract import Array, Measured, Reading, Weights
from noisynets.systems.blackbox.numpy_chip import layers_of

GAIN = 2.0
"""Input gain of every neuron, high enough that some fire with the initial weights."""


class NengoBox:
    """A box with Nengo's leaky integrate-and-fire neurons behind every hidden layer.

    Nengo integrates the membranes exactly between spikes, with a refractory period; its noise
    process adds currents to the input of every neuron and to the read-out. Every row has neurons of
    its own, and all rows run in one simulation. Activities are mean input currents of the neurons,
    from Nengo's probes; inputs of the next layer are spikes per step, times two; the output is the
    mean of the read-out. Requires `pip install noisynets[nengo]`.

    Bekolay et al., *Nengo: a Python tool for building large-scale functional brain models*
    (Frontiers in Neuroinformatics 7, 2014).

    Args:
        widths: numbers of inputs and of the outputs of every layer.
        steps: of a trial, 1 ms each.
        noise: standard deviation of the noise current, drawn in every step.
        seed: of the noise.

    Raises:
        InputError: if Nengo is not installed.
    """

    def __init__(
        self, widths: Sequence[int], *, steps: int = 20, noise: float = 0.3, seed: int = 0
    ) -> None:
        _nengo()
        self.layers = layers_of(widths)
        self._steps, self._noise, self._seed = steps, noise, seed
        self._networks: dict[int, _Network] = {}

    def run(self, weights: Sequence[Weights], x: Array, trial: int) -> Reading:
        """Run one trial; see `Box`."""
        rows = len(x)
        if rows not in self._networks:  # training and evaluation use different batch sizes
            self._networks = {rows: _Network(self.layers, rows, self._noise)}
        seed = salted(self._seed, f"noise in trial {trial}") % 2**31
        return self._networks[rows].run(weights, x, self._steps, seed)


class _Network:
    """A Nengo network for a fixed number of rows."""

    def __init__(self, layers: Sequence[Any], rows: int, noise: float) -> None:
        nengo = _nengo()
        self._rows, self._layers = rows, layers
        blank = (Weights(np.zeros((m, n), np.float32), np.zeros(m, np.float32)) for n, m in layers)
        self._weights: Sequence[Weights] = [*blank]
        self._x = np.zeros((rows, layers[0].inputs), np.float32)
        self._currents, self._spikes = [], []
        white = None
        if noise:
            white = nengo.processes.WhiteNoise(nengo.dists.Gaussian(0, noise), scale=False)
        with nengo.Network() as model:
            below = None
            for i, (_, outputs) in enumerate(layers):
                size_in = 0 if below is None else below.size_out
                product = nengo.Node(self._product(i), size_in=size_in)
                if below is not None:
                    nengo.Connection(below, product, synapse=None)
                n = rows * outputs
                if i == len(layers) - 1:
                    out = nengo.Node(size_in=n)
                    nengo.Connection(product, out, synapse=None)
                    if white is not None:
                        nengo.Connection(nengo.Node(white, size_out=n), out, synapse=None)
                    self._currents.append(nengo.Probe(out))
                    continue
                neurons = nengo.Ensemble(
                    n,
                    dimensions=1,
                    neuron_type=nengo.LIF(tau_rc=0.005, tau_ref=0.001, amplitude=0.002),
                    gain=np.full(n, GAIN),
                    bias=np.zeros(n),
                    encoders=np.ones((n, 1)),
                    noise=white,
                ).neurons
                nengo.Connection(product, neurons, synapse=None)
                self._currents.append(nengo.Probe(neurons, "input"))
                self._spikes.append(nengo.Probe(neurons, "output"))
                below = neurons
        self._simulator = nengo.Simulator(model, progress_bar=False, optimize=False)
        weakref.finalize(self, self._simulator.close)

    def _product(self, i: int) -> Any:
        """Return the function of a Nengo node that computes layer i, for all rows."""

        def constant(t: float) -> Any:
            weight, bias = self._weights[0]
            return (self._x @ weight.T + bias).ravel()

        def product(t: float, spikes: Any) -> Any:
            weight, bias = self._weights[i]
            return (spikes.reshape(self._rows, -1) @ weight.T + bias).ravel()

        return product if i else constant

    def run(self, weights: Sequence[Weights], x: Array, steps: int, seed: int) -> Reading:
        self._weights, self._x = weights, x
        self._simulator.reset(seed=seed)
        self._simulator.run_steps(steps, progress_bar=False)
        data = self._simulator.data
        currents = [self._mean(data[probe]) for probe in self._currents]
        inputs = [x, *(self._mean(data[probe]) for probe in self._spikes)]
        return Reading([Measured(*pair) for pair in zip(inputs, currents, strict=True)])

    def _mean(self, series: Any) -> Array:
        """Mean over the steps: (T, rows · n) → (rows, n)."""
        mean: Array = series.mean(0).reshape(self._rows, -1).astype(np.float32)
        return mean


def _nengo() -> Any:
    with extra("nengo", "nengo-box"), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from its imports of NumPy
        import nengo
    return nengo
