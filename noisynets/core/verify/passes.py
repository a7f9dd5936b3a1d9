"""The passes of a verification: all from the same state, and without noise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from noisynets.core.batch import called, stacked
from noisynets.core.errors import SystemRefused
from noisynets.core.losses import losses
from noisynets.core.nodes import other_dtype
from noisynets.core.paired import Paired, Where
from noisynets.core.trial import trial
from noisynets.core.types import Loss, Node
from noisynets.core.verify.quiet import Other, Quiet
from noisynets.core.verify.snapshot import Snapshot
from noisynets.core.verify.trace import Recorder, Trace, epsilon

NOISE = 1.0
"""Standard deviation of what is added to activities, relative to them."""

Hooks = Callable[[Callable[[], Any]], list[RemovableHandle]]
"""(a maker of contexts in which operations are carried out as they are) → registered hooks."""


@dataclass
class Passes:
    """Makes passes of a system, and records them.

    Args:
        system: any module.
        nodes: its nodes.
        loss: one value per row.
        inputs: (B, ...), or a tree.
        targets: (B, ...), or a tree.
        batch: B.
        injects: noise is injected; see `Paired`.

    Attributes:
        draws: what drew random numbers without declaring it, and was not paired, in the last pass.
        paired: what was paired, in all passes.
        centred: all declared noise of the last pass was replaced by its centre.
        rowless: nodes whose outputs have no rows, as far as the passes so far tell, with what is
            wrong if they should have.
    """

    system: nn.Module
    nodes: Sequence[Node]
    loss: Loss
    inputs: Any
    targets: Any
    batch: int
    injects: bool = True
    draws: dict[Where, None] = field(init=False)
    paired: dict[Where, None] = field(init=False, default_factory=dict)
    centred: bool = field(init=False)
    rowless: dict[Node, str] = field(init=False, default_factory=dict)
    _shapes: dict[tuple[Node, int], torch.Size] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._snapshot = Snapshot(self.system)
        self._layers = [("", self.system), *((n.name, n.layer) for n in self.nodes)]
        inside = {m for n in self.nodes for m in n.layer.modules() if m is not n.layer}
        self._recorded = [(n, m) for n, m in self.system.named_modules() if m not in inside]

    def restore(self) -> None:
        """Put the system back into the state in which it was given."""
        self._snapshot.restore()

    def __call__(
        self,
        *hooks: Hooks,
        passes: int = 1,
        everything: bool = False,
        streams: bool = True,
        other: Other = "seeded",
    ) -> Trace:
        """Make a pass, from the state in which the system was given.

        Args:
            *hooks: change activities.
            passes: stacked copies of the batch.
            everything: record all modules, instead of the layers and the system.
            streams: random streams start from that state, too.
            other: what stands for random numbers that are not declared; see `Quiet`.

        Raises:
            SystemRefused: if a node returns another number of rows.
        """
        self._snapshot.restore(streams)
        rows = passes * self.batch
        modules = self._recorded if everything else self._layers
        recorder = Recorder(modules, rows)
        paired = Paired(self.system, self.batch, passes, self.injects)
        mode = Quiet(self.system, paired, other)
        handles = [self._checking(node, rows, passes) for node in self.nodes]
        for register in hooks:
            handles += register(lambda: paused(mode, paired))
        handles += recorder.register()
        try:
            with trial(self.system), mode:
                rows_of_all = stacked(self.inputs, passes)
                with paired:
                    outputs = called(self.system, rows_of_all)
                values = losses(self.loss, outputs, stacked(self.targets, passes), rows)
        except Exception as error:
            if not isinstance(error, SystemRefused):
                error.add_note("in a pass that checks the first batch; verify=False leaves it out")
            raise
        finally:
            for handle in handles:
                handle.remove()
        recorder.loss(outputs, values)
        self.draws, self.centred = mode.found, mode.centred
        self.paired |= paired.found
        return recorder.trace

    def _checking(self, node: Node, rows: int, passes: int) -> RemovableHandle:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if not isinstance(output, Tensor) or output.dim() == 0:
                raise SystemRefused(
                    f"node {node.name!r}: its output is no tensor with one row per sample, but "
                    f"{type(output).__name__}"
                )
            if problem := other_dtype(node, output.dtype):
                raise SystemRefused(problem)
            shape, known = output.shape, self._shapes.setdefault((node, passes), output.shape)
            problem = _without_rows(node, shape, self.batch)
            if passes == 1 and len(output) != rows:
                self.rowless.setdefault(node, problem)
            elif passes > 1 and known == self._shapes.get((node, 1)):
                self.rowless.setdefault(node, problem)  # it does not grow with the passes
            elif passes > 1 and (node in self.rowless or len(output) != rows):
                raise SystemRefused(self.rowless.get(node, problem))

        return node.outlet.register_forward_hook(hook)

    def noise(self, rows: Tensor) -> Hooks:
        """Return hooks that add noise to some rows of the activities of all nodes.

        Args:
            rows: True where noise enters, (R,).
        """

        def added(output: Tensor, generator: torch.Generator) -> Tensor:
            size = output.detach().float().square().mean().sqrt()
            z = torch.randn(output.shape, generator=generator).to(output)
            mask = rows.to(output.device).view(-1, *[1] * (output.dim() - 1))
            noisy = output + NOISE * (size + (size == 0)).to(output) * z
            return torch.where(mask, noisy, output)

        return self._changing(added, seed=1)

    def rounding(self) -> Hooks:
        """Return hooks that change all activities by a few rounding errors."""

        def rounded(output: Tensor, generator: torch.Generator) -> Tensor:
            z = torch.randn(output.shape, generator=generator).to(output)
            return output * (1 + 4 * epsilon(output) * z)

        return self._changing(rounded, seed=2)

    def _changing(self, change: Callable[[Tensor, torch.Generator], Tensor], seed: int) -> Hooks:
        def register(pausing: Callable[[], Any]) -> list[RemovableHandle]:
            generator = torch.Generator().manual_seed(seed)

            def changes(node: Node) -> RemovableHandle:
                def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
                    with pausing():
                        return output if node in self.rowless else change(output, generator)

                return node.outlet.register_forward_hook(hook)

            return list(map(changes, self.nodes))

        return register


def _without_rows(node: Node, shape: torch.Size, batch: int) -> str:
    return (
        f"node {node.name!r}: its output has {shape[0]} rows where a batch of {batch} has {batch}: "
        f"keep the batch as the first dimension (found shape {tuple(shape)})"
    )


@contextmanager
def paused(quiet: Quiet, paired: Paired) -> Iterator[None]:
    """Let random numbers be drawn as they are."""
    quiet.paused = paired.paused = True
    try:
        yield
    finally:
        quiet.paused = paired.paused = False


def names(found: Iterable[str]) -> str:
    """Return names in quotes, in order, each once."""
    return ", ".join(map(repr, dict.fromkeys(found)))
