"""NeuroBench's metrics of a trained network, by NeuroBench's own library (extra [neurobench]).

Yik et al., *The neurobench framework for benchmarking neuromorphic computing algorithms and
systems* (Nature Communications 16, 2025). Footprint: bytes of parameters and buffers. Connection
sparsity: share of weights that are 0. Activation sparsity: share of neurons' outputs that are 0.
Synaptic operations per sample: accumulates where a layer's inputs are −1, 0 or 1, else
multiply-accumulates; dense counts what a machine does that skips no zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from noisynets.core.errors import InputError
from noisynets.systems.spiking import Neuron


def complexity(system: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Measure a network on some batches, in evaluation mode.

    Args:
        system: any module; activations are counted behind neurons, ReLU and sigmoid.
        batches: what the system takes, and targets.

    Raises:
        InputError: where NeuroBench is not installed.
    """
    try:
        from neurobench.metrics.static import ConnectionSparsity, Footprint
        from neurobench.metrics.workload import ActivationSparsity, SynapticOperations
        from neurobench.models.neurobench_model import NeuroBenchModel
    except ImportError as error:
        raise InputError(
            f"NeuroBench is not installed ({error}): pip install 'noisynets[neurobench]'"
        ) from error

    class Model(NeuroBenchModel):  # type: ignore[misc]  # untyped
        def __call__(self, batch: Tensor) -> Any:
            return system(batch)

        def __net__(self) -> nn.Module:
            return system

    model = Model()
    model.add_activation_module(Neuron)
    operations, sparsity, samples = SynapticOperations(), 0.0, 0
    found: dict[str, float] = {}
    modes = {module: module.training for module in system.modules()}
    system.eval()
    model.register_hooks()
    try:
        with torch.no_grad():
            for x, y in batches:
                output = model(x)
                found |= {k.lower(): v for k, v in operations(model, output, (x, y)).items()}
                sparsity += ActivationSparsity()(model, output, (x, y)) * len(y)
                samples += len(y)
                model.reset_hooks()
    finally:
        model.cleanup_hooks()
        for module, mode in modes.items():
            module.training = mode
    return {
        "footprint_bytes": float(Footprint()(model)),
        "connection_sparsity": float(ConnectionSparsity()(model)),
        "activation_sparsity": sparsity / max(samples, 1),
        **found,
    }
