"""adapt(network): replaces snnTorch's neurons by equivalent ones of this package."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from copy import copy
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from noisynets.core.errors import SystemRefused
from noisynets.core.pages import Page
from noisynets.systems.spiking.firing import Threshold
from noisynets.systems.spiking.neurons import (
    Alpha,
    Lapicque,
    LateResetLeaky,
    Leaky,
    Neuron,
    OneToOne,
    Recurrent,
    Synaptic,
)

SUPPORTED = ("Leaky", "Lapicque", "Synaptic", "Alpha", "RLeaky", "RSynaptic")
WHOLE = "takes all steps of a trial in one call"
LSTM = "is an LSTM with a threshold on its output, and multiplies with several weights at once"
REASONS = MappingProxyType(
    {
        **dict.fromkeys(("LeakyParallel", "StateLeaky", "LinearLeaky", "AssociativeLeaky"), WHOLE),
        **dict.fromkeys(("SLSTM", "SConv2dLSTM"), LSTM),
        "DeltaLeaky": "spikes where its potential changes; the encoder `delta` does so with inputs",
        "GradedSpikes": "multiplies spikes with weights: use OneToOne of this package",
    }
)
"""Why other modules of snnTorch have no counterpart."""


def adapt(network: nn.Module, firing: Callable[[], nn.Module] | None = None) -> nn.Module:
    """Return the network with snnTorch's neurons replaced by those of this package.

    Constants and equations stay the same. The layers are shared with the given network, so that
    training the result trains both; the given network is not changed. snnTorch is not imported (its
    modules are recognised by their class), and no neuron is added to its global list.

    Args:
        network: an snnTorch neuron, or a module that calls its neurons with a current and expects
            spikes in return, as with `init_hidden=True`.
        firing: makes the firing mechanism of every neuron, such as `lambda: EscapeRate(0.1)`; None:
            a hard threshold with the surrogate gradient of the given neuron.

    Returns:
        A module like the given one; the given one itself if it contains no snnTorch neuron.

    Raises:
        SystemRefused: for neurons or settings without a counterpart here, naming each.

    >>> import snntorch
    >>> net = nn.Sequential(nn.Linear(4, 3), snntorch.Leaky(beta=0.9, init_hidden=True))
    >>> ours = adapt(net)
    >>> type(ours[1]).__module__, ours[0] is net[0]
    ('noisynets.systems.spiking.neurons', True)
    """
    found = _unsupported(network)
    if found:
        raise SystemRefused("; ".join(found), page=Page.NEURONS)
    return _replace_neurons(network, firing, {})


def is_snntorch(module: nn.Module) -> bool:
    """True if a module's class is defined in snnTorch."""
    return type(module).__module__.startswith("snntorch.")


def _replace_neurons(
    module: nn.Module, firing: Callable[[], nn.Module] | None, done: dict[nn.Module, nn.Module]
) -> nn.Module:
    """Return a copy of a module with all neurons in it replaced; shared modules stay shared."""
    if module in done:
        return done[module]
    if is_snntorch(module):
        new = _neuron(module, Threshold(_surrogate(module)) if firing is None else firing())
        done[module] = new.train(module.training)
        return new
    children = {n: m and _replace_neurons(m, firing, done) for n, m in module._modules.items()}
    if all(new is module._modules[name] for name, new in children.items()):
        done[module] = module
        return module
    new = module.__class__.__new__(module.__class__)
    own = {name: copy(value) for name, value in module.__dict__.items() if name in _COPIED}
    hooks: dict[str, Any] = {name: OrderedDict() for name in module.__dict__ if "_hooks" in name}
    new.__dict__ = {**module.__dict__, **own, **hooks, "_modules": children}
    done[module] = new
    return new


_COPIED = ("_parameters", "_buffers", "_non_persistent_buffers_set")


def _surrogate(given: Any) -> Callable[[Tensor], Tensor] | None:
    """Return the neuron's surrogate; None for snnTorch's default, which is also ours."""
    function = given.spike_grad
    if getattr(function, "__qualname__", "").startswith("atan."):
        slope = [cell.cell_contents for cell in function.__closure__ or ()]
        if slope == [2.0]:
            return None
    return function


def _neuron(given: Any, firing: nn.Module) -> nn.Module:
    settings = {
        "threshold": _number(given.threshold),
        "reset": given._reset_mechanism,
        "reset_delay": getattr(given, "reset_delay", True),
        "firing": firing,
    }
    kind = type(given).__name__
    beta = _number(given.beta)
    if kind == "Leaky":
        return Leaky(beta, **settings)
    if kind == "Lapicque":
        return Lapicque(
            resistance=_number(given.R),
            capacitance=_number(given.C),
            time_step=float(given.time_step),
            **settings,
        )
    if kind == "Alpha":
        return Alpha(_number(given.alpha), beta, **settings)
    neuron: Neuron
    if kind in ("Synaptic", "RSynaptic"):
        neuron = Synaptic(_number(given.alpha), beta, **settings)
    else:
        neuron = LateResetLeaky(beta, **settings)
    if kind == "Synaptic":
        return neuron
    layer = given.recurrent
    if type(layer).__name__ == "RecurrentOneToOne":
        layer = OneToOne()
        layer.weight = given.V if isinstance(given.V, nn.Parameter) else nn.Parameter(given.V)
        layer.requires_grad_(bool(given.learn_recurrent))
    return Recurrent(neuron, layer)


def _number(value: Any) -> float | Tensor:
    value = torch.as_tensor(value).detach()
    return float(value) if value.numel() == 1 else value


def _unsupported(network: nn.Module) -> list[str]:
    found = [(name, module) for name, module in network.named_modules() if is_snntorch(module)]
    inside = {inner for _, module in found for inner in module.modules() if inner is not module}
    return [
        f"{name or 'the network itself'!r} ({type(module).__name__}): {problem}"
        for name, module in found
        if module not in inside
        for problem in _problems(module)
    ]


def _problems(given: Any) -> list[str]:
    kind = type(given).__name__
    if kind not in SUPPORTED:
        reason = f" ({REASONS[kind]})" if kind in REASONS else ""
        return [f"has no counterpart here{reason}; use one of {', '.join(SUPPORTED)}"]
    problems = []
    if not given.init_hidden:
        problems.append("does not store its state: build it with init_hidden=True")
    if given.output:
        problems.append("also returns its potential: build it with output=False")
    if given.inhibition:
        problems.append("inhibition has no counterpart")
    if given.state_quant:
        problems.append("state_quant has no counterpart")
    if bool((torch.as_tensor(given.graded_spikes_factor) != 1).any()):
        problems.append("graded spikes have no counterpart")
    if kind == "RSynaptic" and not given.reset_delay:
        problems.append("reset_delay=False fails in snnTorch itself: use reset_delay=True")
    trained = [n for n, p in given.named_parameters(recurse=False) if p.requires_grad and n != "V"]
    if trained:
        problems.append(f"learns {', '.join(trained)}, which no rule can train: leave them fixed")
    return problems
