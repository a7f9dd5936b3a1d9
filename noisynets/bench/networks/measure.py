"""Cosines of the gradients of mirrored credit with those of autograd, by layer and parameter.

The weights stay as they were drawn. `steps` calls on fresh batches teach the mirrors; then the
gradient of one further batch is compared with autograd's of the same batch and the same network.

Of a network that is noisy (a chip, or dropout), both are means over `DRAWS` calls on that batch:
autograd goes through the noisy network, through converters as if they did not round. Two such means
of autograd's own differ as well: their lowest cosine is the *ceiling*.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from noisynets.bench.networks.network import Network
from noisynets.core.errors import InputError
from noisynets.core.nodes import find_nodes
from noisynets.core.verify import rowless
from noisynets.estimators.node_perturbation import NodePerturbation
from noisynets.systems.devices import AdditiveGaussian, Chip, Noisy

DRAWS = 32
"""Calls whose mean is compared, of a noisy network."""
NEGLIGIBLE = 1e-4
"""Share of the largest gradient's norm, below which a gradient is rounding errors."""
LONGEST = 200
"""Characters of a message that are kept."""
ON_CHIP = (nn.Linear, nn.Conv1d, nn.Conv2d)
"""Layers that a chip computes, by their exact type; all the rest stays digital."""

Gradients = dict[str, Tensor]
Found = dict[str, Any]


def measure(network: Network, steps: int, noise: str) -> Found:
    """Build a network, teach, and compare; what goes wrong is told and not raised.

    Args:
        network: what is measured.
        steps: calls that teach.
        noise: 'none', for injected noise; or 'intrinsic', for layers on a simulated chip.

    Returns:
        `outcome` and, where it is 'measured', the cosines; otherwise a `message`. Outcomes:
        'skipped' (a package is missing), 'broken' (the network itself does not run), 'refused' (by
        an error of this package), 'crashed' (by any other).

    >>> from noisynets.bench.networks import NETWORKS
    >>> found = measure(NETWORKS["glu"], steps=1, noise="none")
    >>> found["outcome"], found["parameters"]
    ('measured', 9898)
    """
    torch.manual_seed(0)
    stream = torch.Generator().manual_seed(0)
    try:
        system = network.build()
        if noise == "intrinsic":
            x, _ = network.batch(torch.Generator().manual_seed(1))
            system = on_chip(system, Chip(device_seed=0, cycle_seed=0), x)
        size = sum(p.numel() for p in system.parameters() if p.requires_grad)
        noisy = _is_noisy(system, network, stream)
    except ImportError as error:
        return {"outcome": "skipped", "message": first_line(error)}
    except Exception as error:
        return {"outcome": "broken", "message": first_line(error)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # notes are kept below
            sigma = None if noise == "intrinsic" else network.sigma
            found = _taught(system, network, steps, sigma, noisy, stream)
    except InputError as error:
        found = {"outcome": "refused", "message": first_line(error)}
    except Exception as error:
        found = {"outcome": "crashed", "message": f"{type(error).__name__}: {first_line(error)}"}
    return {"parameters": size, **found}


READ = 0.01
"""Standard deviation of the noise of embeddings beside a chip."""


def on_chip(system: nn.Module, chip: Chip, inputs: Tensor) -> nn.Module:
    """Put every Linear and convolution of a system on a chip, in place.

    An embedding of inputs is read with a little noise: without any, nothing would teach the maps of
    the layers that it enters.

    Args:
        system: any module.
        chip: wraps each layer.
        inputs: a batch; an embedding that does not depend on it is left as it is.

    Returns:
        The system; its wrapper if it is a layer itself.

    >>> net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    >>> on_chip(net, Chip(), torch.zeros(1, 2))[0].core[1]
    Linear(in_features=2, out_features=2, bias=True)
    """
    modules = list(system.modules())
    wrapped = {module: chip(module) for module in modules if type(module) in ON_CHIP}
    without = {node.layer for node in rowless(system, find_nodes(system), inputs)}
    tables = [m for m in modules if type(m) is nn.Embedding and m not in without]
    wrapped |= {m: Noisy(m, AdditiveGaussian(READ, seed)) for seed, m in enumerate(tables)}
    for module in modules:
        if module not in wrapped:
            for name, child in list(module._modules.items()):
                if child in wrapped:
                    module._modules[name] = wrapped[child]
    return wrapped.get(system, system)


def _taught(
    system: nn.Module,
    network: Network,
    steps: int,
    sigma: float | None,
    noisy: bool,
    stream: torch.Generator,
) -> Found:
    """Teach and compare."""
    estimator = NodePerturbation(system, network.loss, "mirrored", sigma=sigma)
    pairs = 0
    for _ in range(steps):
        x, y = network.batch(stream)
        pairs += estimator(x, y).sample_forwards // len(x) - 1
        system.zero_grad()
    x, y = network.batch(stream)
    draws = DRAWS if noisy else 1
    truth = autograd(system, network, x, y, draws)
    again = autograd(system, network, x, y, draws) if noisy else truth
    system.zero_grad()
    for _ in range(draws):
        estimator(x, y)
    estimate = {
        name: torch.zeros_like(p) if p.grad is None else p.grad / draws
        for name, p in _trained(system)
    }
    return {
        "outcome": "measured",
        "pairs": pairs,
        **compared(estimate, truth, again),
        "fallbacks": list(estimator.fallbacks),
        "notes": [str(note)[:LONGEST] for note in estimator.notes],
    }


def autograd(system: nn.Module, network: Network, x: Tensor, y: Tensor, draws: int) -> Gradients:
    """Return the gradient of the mean loss, by parameter, as a mean over draws of the noise."""
    names, parameters = zip(*_trained(system), strict=True)
    sums = [torch.zeros_like(p) for p in parameters]
    with torch.enable_grad():
        for _ in range(draws):
            loss = network.loss(system(x), y).mean()
            found = torch.autograd.grad(loss, parameters, allow_unused=True)
            sums = [s if g is None else s + g / draws for s, g in zip(sums, found, strict=True)]
    return dict(zip(names, sums, strict=True))


def compared(estimate: Gradients, truth: Gradients, again: Gradients) -> Found:
    """Return the cosines, and what is made of them.

    Args:
        estimate: gradients, by parameter.
        truth: autograd's.
        again: autograd's, from other draws of the noise; the same where there is none.

    Returns:
        `cosines` and `ratios` of the norms by parameter, without those whose true gradient is
        `negligible`; the `least` cosine, its parameter, the `worst`, the `median`, the `ceiling`;
        and the `least_layer`, of all parameters of a module in one vector, with the `worst_layer`.

    >>> g = {"weight": torch.tensor([1.0, 0.0])}
    >>> found = compared({"weight": torch.tensor([1.0, 1.0])}, g, g)
    >>> round(found["least"], 3), round(found["ratios"]["weight"], 3), found["ceiling"]
    (0.707, 1.414, 1.0)
    """
    most = max(float(g.norm()) for g in truth.values())
    small = [name for name, g in truth.items() if float(g.norm()) <= NEGLIGIBLE * most]
    kept = [name for name in truth if name not in small]
    if not kept:
        return {"cosines": {}, "ratios": {}, "negligible": small}
    cosines = {name: _cosine(estimate[name], truth[name]) for name in kept}
    worst = min(kept, key=lambda name: cosines[name])
    layers: dict[str, list[str]] = {name.rpartition(".")[0]: [] for name in kept}
    for name in kept:
        layers[name.rpartition(".")[0]].append(name)
    by_layer = {
        layer: _cosine(_joined(estimate, names), _joined(truth, names))
        for layer, names in layers.items()
    }
    worst_layer = min(by_layer, key=lambda layer: by_layer[layer])
    return {
        "cosines": cosines,
        "ratios": {name: float(estimate[name].norm() / truth[name].norm()) for name in kept},
        "negligible": small,
        "least": cosines[worst],
        "median": median(cosines.values()),
        "worst": worst,
        "ceiling": min(_cosine(again[name], truth[name]) for name in kept),
        "least_layer": by_layer[worst_layer],
        "worst_layer": worst_layer,
    }


def first_line(error: BaseException) -> str:
    """Return what an error says first, without the further problems of a refusal."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0].split("; ")[0]
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."


def _joined(gradients: Gradients, names: Sequence[str]) -> Tensor:
    """The gradients of some parameters in one vector."""
    return torch.cat([gradients[name].flatten() for name in names])


def _cosine(one: Tensor, other: Tensor) -> float:
    """Cosine of two gradients, in float64; 0 where one is zero, −1 where one is not finite."""
    a, b = one.double().flatten(), other.double().flatten()
    norms = float(a.norm() * b.norm())
    if norms == 0:
        return 0.0
    cosine = float(a @ b) / norms
    return cosine if abs(cosine) <= 2 else -1.0


def _trained(system: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, p) for name, p in system.named_parameters() if p.requires_grad)


def _is_noisy(system: nn.Module, network: Network, stream: torch.Generator) -> bool:
    """Return True if two passes differ; the network must run and have a gradient."""
    x, y = network.batch(stream)
    one, other = (network.loss(system(x), y) for _ in range(2))
    one.mean().backward()
    system.zero_grad()
    return not torch.equal(one, other)
