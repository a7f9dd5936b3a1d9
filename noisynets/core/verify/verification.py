"""The verification of a system on its first batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from noisynets.core.errors import SystemRefused
from noisynets.core.noise import declares_noise
from noisynets.core.paired import Where
from noisynets.core.types import Loss, Node, Sealed, Wrapper
from noisynets.core.verify.passes import Passes, names
from noisynets.core.verify.quiet import Other, has_ends
from noisynets.core.verify.snapshot import global_streams
from noisynets.core.verify.trace import Call, Comparison, Trace
from noisynets.core.verify.weights import Moves

ENDS: tuple[Other, Other] = ("lowest", "highest")
ANYWAY = "(verify=False goes on without this check)"


@dataclass(frozen=True)
class Verified:
    """What the verification of a system found.

    Attributes:
        shared: batch statistics and random numbers that are the same for all passes; see `Paired`.
        rowless: layers whose outputs have no rows, as an embedding of positions: no nodes.
    """

    shared: dict[Where, None] = field(default_factory=dict)
    rowless: Sequence[nn.Module] = ()


def verify(
    system: nn.Module,
    nodes: Sequence[Node],
    loss: Loss,
    inputs: Any,
    targets: Any,
    batch: int,
    injects: bool,
) -> Verified:
    """Check on one batch what node perturbation takes for granted.

    - Without injected noise, two passes are equal; noise that the system declares is left out, and
      random numbers that can be paired are the same in both.
    - The rows of a stack of passes do not depend on one another: noise in some rows changes no
      other row, whether of the same pass or of the reference pass.
    - Weights that are moved along D change every activity, the output and the loss as activities
      that are shifted by what the adjoint of `outer` makes of D.

    The system, its random streams and all global ones are left as they were. A system that is
    computed elsewhere is not checked: every pass may be an experiment.

    Args:
        system: any module.
        nodes: its nodes.
        loss: one value per row.
        inputs: (B, ...), or a tree as `Rows` returns it.
        targets: (B, ...), or a tree.
        batch: B.
        injects: noise is injected; if not, noise that is not declared is as good as any.

    Returns:
        What the passes share, and the layers without rows.

    Raises:
        SystemRefused: naming the module, what was found and what to do.

    Cost: at most 6 forward passes of the batch of a system that is accepted; more to name what is
    wrong.
    """
    if any(isinstance(module, Sealed) for module in system.modules()):
        return Verified()
    restore = global_streams()
    passes = Passes(system, nodes, loss, inputs, targets, batch, injects)
    try:
        _Verification(passes, injects).run()
        return Verified(passes.paired, [node.layer for node in passes.rowless])
    finally:
        passes.restore()
        restore()


class _Verification:
    def __init__(self, passes: Passes, injects: bool) -> None:
        self.passes, self.injects = passes, injects
        self.moves = Moves(passes.nodes)
        self.declared = any(declares_noise(m) for m in passes.system.modules())

    def run(self) -> None:
        plain = self.passes(self.moves.measuring)
        centred, self.draws = self.passes.centred, self.passes.draws
        if self.injects and not has_ends(operation for _, _, operation in self.draws):
            raise SystemRefused(_noise(self.draws))
        again = self.passes(streams=False, other=self._other("lowest"))
        if _unequal(again, plain):
            if not self._draws_are_idle(plain):
                return
            if self.injects and not self.declared:
                raise SystemRefused(self._unsteady())
            if _unequal(self.passes(), plain):
                return  # no two passes are alike: nothing can be compared
        elif centred:
            self._rows(plain)
        elif self.passes.rowless:
            self.passes(passes=2)  # shows whether they grow with the passes
        for node in self.passes.rowless:
            self.moves.without(node.layer)
        self._weights(plain)
        if not self.moves.directions and _unequal(self.passes(other=self._other("highest")), plain):
            self._draws_are_idle(plain)

    def _other(self, end: Other) -> Other:
        """Return what stands for undeclared random numbers where they should change nothing."""
        return end if self.draws and self.injects else "seeded"

    def _draws_are_idle(self, plain: Trace) -> bool:
        """Return True if undeclared random numbers change nothing; called after a difference.

        Raises:
            SystemRefused: if they do, and noise is injected.
        """
        idle = not self.draws or not any(_unequal(self.passes(other=end), plain) for end in ENDS)
        if self.injects and not idle:
            raise SystemRefused(_noise(self.draws))
        return idle

    def _unsteady(self) -> str:
        whole = partial(self.passes, everything=True)
        plain, again = whole(), whole(streams=False)
        found = next(Comparison(again, plain, plain, _zero(plain)).culprits(), None)
        return (
            f"{_named(found)}: two passes of the same batch differ, though no noise was "
            "injected: remove what is random in it, or declare it as an Effect or by a Source; a "
            f"module may keep no state from batch to batch {ANYWAY}"
        )

    def _rows(self, plain: Trace) -> None:
        """Refuse a system in which noise in some rows changes others."""
        batch = self.passes.batch
        noisy = torch.zeros(2 * batch, dtype=torch.bool)
        noisy[batch:] = _half(batch)
        reference = torch.arange(2 * batch) < batch
        groups = [group for group in (reference, ~reference & ~noisy) if group.any()]
        stack = self.passes(self.passes.noise(noisy), passes=2)
        if not any(_mix(plain, stack, noisy, group).differs() for group in groups):
            return
        if not self._draws_are_idle(plain):
            return  # a stack draws other numbers than the batch alone
        whole = partial(self.passes, everything=True)
        plain, stack = whole(), whole(self.passes.noise(noisy), passes=2)
        control = whole(self.passes.noise(noisy), self.passes.rounding(), passes=2)
        for group in groups:
            found = next(_mix(plain, stack, noisy, group, control).culprits(), None)
            if found is not None:
                if not _declared(found):  # noise that is correlated in time joins rows
                    raise SystemRefused(_mixing(found))
                return

    def _weights(self, plain: Trace) -> None:
        """Refuse a system whose weights act otherwise than through their layers' products."""
        while self.moves.directions:
            if not self._moved(plain, None).differs():
                return
            if not self._draws_are_idle(plain):
                return
            everything = self.passes(everything=True)
            found = next(self._moved(everything, None, everything=True).culprits(), None)
            if found is None or _declared(found):
                return
            layers = [node.layer for node in self.moves.nodes]
            if found.module not in layers:
                raise SystemRefused(self._outside(everything, found))
            wrong = [node for node in self.moves.nodes if not self._is_linear(node)]
            if wrong:
                raise SystemRefused("; ".join(map(_product, wrong)))
            assert found.module is not None
            self.moves.without(found.module)

    def _is_linear(self, node: Node) -> bool:
        self.passes.restore()
        return node.layer not in self.moves.inputs or self.moves.is_linear(node.layer)

    def _moved(
        self, plain: Trace, chosen: Sequence[nn.Parameter] | None, everything: bool = False
    ) -> Comparison:
        """Compare a pass with moved weights with one with shifted activities."""
        whole = partial(self.passes, everything=everything)
        with self.moves.moved(chosen):
            moved = whole()
        shifting = partial(self.moves.shifting, chosen)
        shifted = whole(shifting, other="seeded" if everything else self._other("highest"))
        control = whole(shifting, self.passes.rounding()) if everything else None
        return Comparison(moved, shifted, moved, plain, control)

    def _outside(self, plain: Trace, found: Call) -> str:
        """Return what is wrong with a weight that acts outside its layer; halves the suspects."""
        suspects = list(self.moves.directions)
        while len(suspects) > 1:
            half = suspects[: len(suspects) // 2]
            wrong = self._moved(plain, half, everything=True).differs()
            suspects = half if wrong else suspects[len(half) :]
        paths = {id(p): name for name, p in self.passes.system.named_parameters()}
        weight = paths[id(suspects[0])]
        where = _named(found)
        advice = (
            "leave penalties to the optimiser's weight_decay"
            if found.module is None
            else "call the layer itself, use a parameter of its own there, or freeze it with "
            "requires_grad_(False)"
        )
        return (
            f"{where}: depends on {weight!r} outside of the call of its layer, and a rule credits "
            f"a weight for the activity of its layer alone: {advice} {ANYWAY}"
        )


def _mix(
    plain: Trace, stack: Trace, noisy: Tensor, group: Tensor, control: Trace | None = None
) -> Comparison:
    """Compare a group of rows of a stack, without noise, with the same rows of the plain pass.

    Args:
        plain: trace of the batch alone, (B, ...).
        stack: trace of two passes, (2 B, ...).
        noisy: True where noise was added, (2 B,).
        group: True for the rows to compare, (2 B,).
        control: of a stack with rounding errors.
    """

    def of(trace: Trace, rows: Tensor) -> Trace:
        return [call.picked(lambda t: t[rows.to(t.device)]) for call in trace]

    twice = [call.picked(lambda t: torch.cat([t, t])) for call in plain]
    return Comparison(
        of(twice, group),
        of(stack, group),
        of(stack, noisy),
        of(twice, noisy),
        None if control is None else of(control, group),
    )


def _declared(call: Call) -> bool:
    if call.module is None:
        return False
    inside = call.module.modules() if isinstance(call.module, Wrapper) else [call.module]
    return any(map(declares_noise, inside))


def _named(call: Call | None) -> str:
    if call is None:
        return "the system"
    if call.module is None:
        return "the loss"
    return f"{call.name or 'the system itself'!r} ({type(call.module).__name__})"


def _mixing(found: Call) -> str:
    return (
        f"{_named(found)}: mixes the rows of a batch: noise in some rows changed others, and every "
        "row's loss would be taken for an effect of its own noise: compute each row by itself "
        "(GroupNorm or LayerNorm for a normalisation), reset states that are kept from batch to "
        f"batch, and keep nodes of a graph, time and heads out of the first dimension {ANYWAY}"
    )


def _unequal(one: Trace, other: Trace) -> bool:
    return Comparison(one, other, other, _zero(other)).differs()


def _zero(trace: Trace) -> Trace:
    return [call.picked(torch.zeros_like) for call in trace]


def _half(batch: int) -> Tensor:
    """Return a mask that is True for half of the rows, at least one, chosen at random."""
    order = torch.randperm(batch, generator=torch.Generator().manual_seed(0))
    return order < max(batch // 2, 1)


def _noise(draws: dict[Where, None]) -> str:
    where = [
        f"{path or 'the system itself'!r} ({kind})" if kind else "the loss"
        for path, kind, _ in draws
    ]
    operations = names(operation for _, _, operation in draws)
    return (
        f"{', '.join(dict.fromkeys(where))}: draws random numbers ({operations}), so that the "
        "passes of a pair differ by more than the injected noise: remove it or switch it off "
        "(eval()); noise of a device or a unit belongs in an Effect, or in a module that draws it "
        f"from a Source {ANYWAY}"
    )


def _product(node: Node) -> str:
    kind = type(node.layer).__name__
    return (
        f"{node.name!r} ({kind}): its output does not follow its weights as the product that is "
        f"registered for {kind} says, because of a hook, a forward() or a parametrization of its "
        "own: put what it adds into a module before or behind the layer, or give it a type of its "
        f"own with a product registered by outer.register {ANYWAY}"
    )
