"""Cost of tracing: its share of a training step, and the memory of what it keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from noisynets.bench.networks import NETWORKS
from noisynets.bench.networks.network import Network, Text, per_position
from noisynets.bench.networks.sequence import small_gpt
from noisynets.bench.steps import ROUND
from noisynets.core.graph.applied import Applied
from noisynets.core.noise import generator
from noisynets.core.record import Needs, Record
from noisynets.core.trees import leaves
from noisynets.estimators.node_perturbation import NodePerturbation, passes, surveyed_of

SMALL = ("resnet8-groupnorm", "squeeze-excite", "gpt", "mixer", "vit-tiny", "gru-cells")
"""Networks of `noisynets bench networks` whose steps are dominated by overhead."""


def wide(width: int, length: int) -> Network:
    """Return a GPT whose step is dominated by products.

    Args:
        width: of its layers.
        length: T of its texts.
    """
    build = partial(small_gpt, width, heads=max(1, width // 32), length=length)
    return Network(f"gpt of width {width}, T = {length}", build, Text(32, length), per_position)


def networks(width: int, length: int) -> list[Network]:
    """Return the networks that are measured: small ones, and a wide one."""
    return [*(NETWORKS[name] for name in SMALL), wide(width, length)]


class Traced:
    """Training steps of mirrored credit on a network, and their passes alone.

    Args:
        network: with its batches.
        times: how many of its batches make one.

    Attributes:
        x: inputs of the first step of a round.
    """

    def __init__(self, network: Network, times: int) -> None:
        torch.manual_seed(0)
        self.network, self.system = network, network.build()
        stream = generator(0, "batches of a network that is timed")
        self._batches = [_joined(network, times, stream) for _ in range(ROUND)]
        self.x = self._batches[0][0]
        self._estimator = NodePerturbation(self.system, network.loss, sigma=network.sigma)
        self._needs = self._estimator.rule.needs(self.system)

    def steps(self) -> None:
        """Make `ROUND` steps without an optimiser: one with a pair, after the first 200."""
        for x, y in self._batches:
            self._estimator(x, y)

    def passes(self) -> None:
        """Make the passes of `ROUND` steps, traced or run again, and read the graph off."""
        self._round(self._needs)

    def untraced(self) -> None:
        """Make the passes of `ROUND` steps with the same records, but no graph."""
        self._round(replace(self._needs, graph=False))

    def record(self, resamples: int) -> Record:
        """Return the record of one reference pass, and of as many noisy ones."""
        return self._record(self.x, self._needs, resamples)

    def _round(self, needs: Needs) -> None:
        for turn, (x, _) in enumerate(self._batches):
            self._record(x, needs, int(turn == 0))

    @torch.no_grad()
    def _record(self, x: Tensor, needs: Needs, resamples: int) -> Record:
        probe, outputs = passes(surveyed_of(self._estimator), x, len(x), resamples, needs)
        return probe.record(outputs, torch.zeros(resamples, len(x)))


def _joined(network: Network, times: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw a batch of several of a network's batches."""
    x, y = zip(*(network.batch(stream) for _ in range(times)), strict=True)
    return torch.cat(x), torch.cat(y)


def kept(record: Record, system: nn.Module) -> int:
    """Return the bytes of the operands that a trace keeps: storages, without parameters."""
    adjoints = [a for a in record.applied.values() if isinstance(a, Applied)]
    operands = [leaves((adjoint.args, adjoint.kwargs)) for adjoint in adjoints]
    return size([*record.values.values(), *(t for found in operands for t in found)], system)


def saved(forward: Callable[[], Any], system: nn.Module) -> int:
    """Return the bytes that autograd saves in a forward: storages, without parameters.

    >>> layer = nn.Linear(3, 2)
    >>> saved(lambda: layer(torch.ones(4, 3)), layer)
    48
    """
    found: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = forward()
    del out
    return size(found, system)


def size(tensors: Iterable[Tensor], system: nn.Module) -> int:
    """Return the bytes of the storages of tensors, each once, without those of a system."""
    own = {_storage(t) for t in (*system.parameters(), *system.buffers())}
    sizes = {_storage(t): t.untyped_storage().nbytes() for t in tensors}
    return sum(n for storage, n in sizes.items() if storage not in own)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def memories(traced: Traced) -> Iterator[tuple[str, float]]:
    """Yield what is kept against what autograd saves: of a single pass, and of a pair.

    Both are of a forward of the same rows: those of a pair are twice as many.
    """
    for what, resamples in (("a pass", 0), ("a pair", 1)):
        rows = torch.cat([traced.x] * (1 + resamples))
        most = saved(partial(traced.system, rows), traced.system)
        yield what, kept(traced.record(resamples), traced.system) / most
