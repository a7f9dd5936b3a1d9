"""NeuroBench's complexity metrics of a trained network, by NeuroBench itself (extra [neurobench]).

Footprint: bytes of parameters and buffers. Connection sparsity: fraction of weights that are 0.
Activation sparsity: fraction of neuron outputs that are 0. Synaptic operations per sample:
accumulates if a layer's inputs are −1, 0 or 1, otherwise multiply-accumulates; the 'dense' number
includes operations with zeros.

Source: Yik et al., *The neurobench framework for benchmarking neuromorphic computing algorithms
and systems* (Nature Communications 16, 2025).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from noisynets.core.extras import extra
from noisynets.systems.spiking import Neuron


def complexity(system: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Measure a network in evaluation mode.

    Args:
        system: any module; activations are counted at the outputs of neurons, ReLU and sigmoid.
        batches: inputs and targets.

    Returns:
        Values by the name of the metric.

    Raises:
        InputError: if NeuroBench is not installed.
    """
    with extra("neurobench", "neurobench"):
        from neurobench.metrics.static import ConnectionSparsity, Footprint
        from neurobench.metrics.workload import ActivationSparsity, SynapticOperations
        from neurobench.models.neurobench_model import NeuroBenchModel

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
