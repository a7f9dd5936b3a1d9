"""Obstacles: measurements, in some steps, of what would keep an estimator from learning.

Each look synchronises the device, and changes no result. The first looks are at the steps `LOOKS`,
the others at every multiple of `EVERY`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from noisynets.core.batch import check_finite, stacked
from noisynets.core.dependence import of_components, of_nodes, of_rows
from noisynets.core.errors import InputError
from noisynets.core.notes import Note, Notes
from noisynets.core.record import Record
from noisynets.core.types import Sealed
from noisynets.estimators.replay import ROWS, batch_first, left_over, own_noise
from noisynets.rules import Rule

LOOKS = frozenset({1, 3, 9, 27, 81})
"""Steps, from 1, in which the loss is looked at."""
EVERY = 200
"""A learnt map is looked at in every so manieth step."""
ENOUGH = 128
"""Pairs of losses from which it is decided that the loss does not move."""
STILL = 0.99
"""Share of pairs without a difference above rounding, from which on a loss does not move."""
SHARED_ROWS, SHARED = 0.5, 0.1
"""Shares of common noise that are reported: between rows, and between components or nodes. Slow
noise of the components themselves is shared by neighbouring rows in a small batch and does little
harm."""
DEPENDENT_ROWS = 5.0
"""z of dependent rows above which nodes cannot be compared row by row."""


@dataclass(frozen=True)
class Batch:
    """What an estimator measured in one step.

    Attributes:
        inputs: (B, ...), or a tree; None: no further pass is made.
        size: B.
        outputs: of all passes; None: of episodes, which may end alike.
        loss: of all passes, (1 + P, B).
        sigma: of the injected noise; None: the noise is the system's own.
        reads_dloss: credit comes from, or is taught by, differences of the loss.
    """

    inputs: Any
    size: int
    outputs: Any
    loss: Tensor
    sigma: float | None
    reads_dloss: bool


class Obstacles:
    """Warns of what keeps an estimator from learning; every kind once.

    Args:
        system: that is trained.
        passes: make more passes in the first step.

    Attributes:
        notes: the warnings so far.
        steps: that were made so far; the estimator counts them.
    """

    def __init__(self, system: nn.Module, passes: bool = True) -> None:
        self.notes = Notes()
        self._system, self._passes = system, passes
        self.steps = 0
        self._pairs, self._still = 0, 0

    def look(self, batch: Batch, rule: Rule | None = None, record: Record | None = None) -> None:
        """Look at the present step.

        Args:
            batch: what was measured.
            rule: that gives credit to nodes, if there is one; before it learns from the record.
            record: for the rule.
        """
        step = self.steps
        if batch.inputs is not None:
            check_finite("inputs", batch.inputs)
        if step in LOOKS or step % EVERY == 0:
            self._say(self._of_loss(batch))
        if step == 1:
            if self._passes:
                self._say(in_more_passes(self._system, batch))
            if record is not None:
                self._say(flat(batch, record))
        if rule is not None and record is not None and step % EVERY == 0 and len(batch.loss) > 1:
            self._say(unexplained(rule.unexplained(record), step))

    def _of_loss(self, batch: Batch) -> Iterator[Note]:
        """Yield a note if the loss does not differ between rows and passes."""
        if not batch.reads_dloss or len(batch.loss) < 2:
            return
        loss = batch.loss
        moved = (loss[1:] - loss[0]).abs() > torch.finfo(loss.dtype).eps * loss[0].abs()
        self._pairs += moved.numel()
        self._still += int((~moved & loss[1:].isfinite()).sum())
        alike = batch.size > 1 and batch.outputs is not None
        alike = alike and bool(((loss == loss[0, 0]) & (loss != 0)).all())
        if alike and _differ(batch.outputs):
            yield Note(
                "equal losses",
                "the loss is the same number in every row and pass, so that its differences teach "
                "nothing: it must return one value per row, computed from this row alone",
            )
        elif alike:
            yield Note(
                "equal outputs",
                "the output is the same in every row and pass, so that nothing can be learnt: "
                "check the weights and the scale of the inputs, or raise sigma",
            )
        elif self._pairs >= ENOUGH and self._still > STILL * self._pairs:
            share = self._still / self._pairs
            what = "the system's own noise" if batch.sigma is None else f"sigma {batch.sigma:g}"
            yield Note(
                "loss does not move",
                f"{what} moves the loss by no more than its rounding error in {share:.0%} of the "
                "rows, so that its differences teach next to nothing: raise sigma, use a wider "
                "dtype, or take a loss that changes with small changes of the output",
            )

    def state(self) -> Tensor:
        """Return what must be saved to look at the same steps."""
        return torch.tensor([self.steps, self._pairs, self._still])

    def restore(self, state: Tensor | None) -> None:
        """Continue from a `state`; None: from the start."""
        found = (0, 0, 0) if state is None else state.tolist()
        self.steps, self._pairs, self._still = found

    def _say(self, found: Iterator[Note]) -> None:
        for note in found:
            self.notes.warn(note.kind, note.message)


def flat(batch: Batch, record: Record) -> Iterator[Note]:
    """Yield a note if the derivative of a loss is 0 in every row, although the loss is not."""
    error = record.error
    if error is None or not record.exact or not bool(batch.loss[0].any()):
        return
    if any(e is not None and bool(e.any()) for e in error):
        return
    yield Note(
        "flat loss",
        "the derivative of the loss is exactly 0 in every row, so that no layer gets credit: it is "
        "flat for autograd (a rounding, a threshold or detach() inside): use error=MeasuredError() "
        "(--loss-gradient measured), or a rule that uses its differences, such as 'anp'",
    )


def in_more_passes(system: nn.Module, batch: Batch) -> Iterator[Note]:
    """Yield notes on left-over state and shared noise, from at most four more passes.

    Nothing is yielded of a system that is computed elsewhere, or whose passes fail.

    Raises:
        InputError: if the batch is not the first dimension of the outputs.
    """
    if batch.inputs is None or any(isinstance(module, Sealed) for module in system.modules()):
        return
    rows = stacked(batch.inputs, len(batch.loss))
    try:
        ordered = batch_first(system, rows, batch.loss.numel(), batch.outputs)
        names = left_over(system, rows)
        noise = own_noise(system, batch.inputs) if batch.sigma is None else {}
    except Exception:  # of the user's modules, which need not allow it
        return
    if not ordered:
        raise InputError(
            f"outputs {tuple(batch.outputs.shape)} do not have the batch as their first dimension: "
            "return them as (rows, ...), as by movedim(1, 0) where time comes first"
        )
    if names:
        yield Note(
            "left-over state",
            f"{_listed(names)}: kept from one batch to the next, whose outputs it changes: reset "
            "it at the start of forward(), or make the system Spiking(network, steps, readout)",
        )
    looked_at = min(batch.size, ROWS)  # not at the nodes without rows
    rows_alone = {name: d for name, d in noise.items() if len(d) == looked_at > 1}
    yield from shared({name: d for name, d in rows_alone.items() if bool(d.any())})


def shared(noise: dict[str, Tensor]) -> Iterator[Note]:
    """Yield a note if the noise is shared between rows, components or nodes.

    Args:
        noise: differences at equal inputs by name of the node, (B, *out).
    """
    found = list(noise.values())
    if not found or not all(bool(d.isfinite().all()) for d in found):
        return
    rows, components = of_rows(found), of_components(found)
    fewer = 1 + max(rows.share, 0) * (len(found[0]) - 1)  # rows per independent one
    message = ""
    if rows.found(SHARED_ROWS):
        message = f"the rows of a batch have {rows.share:.0%} of their noise in common"
    elif components.found(SHARED, 12 * fewer**0.5):
        message = f"the activities of a row have {components.share:.0%} of their noise in common"
    elif rows.z < DEPENDENT_ROWS:
        names = list(noise)
        for i, one in enumerate(names):
            for other in names[:i]:
                both = of_nodes(noise[one], noise[other])
                if both.found(SHARED) and not message:
                    message = f"the noise of {one!r} and {other!r} is correlated"
    if message:
        yield Note(
            "shared noise",
            f"{message}: a change of the loss cannot be attributed to a node then: make the noise "
            "independent (seeds, supplies, baselines), inject a sigma in addition (rule 'np' or "
            "'innovation'), or use mirrored credit, which suffers least",
        )


def unexplained(names: list[str], step: int) -> Iterator[Note]:
    """Yield a note on nodes at which what was learnt explains nothing."""
    if names:
        yield Note(
            "unexplained map",
            f"{_listed(names)}: after {step} steps what was learnt there explains nothing of what "
            "is measured, so that credit sent with it is noise: raise the batch size or sigma, or "
            "use rule 'innovation'",
        )


def _differ(outputs: Any) -> bool:
    """Return True if rows of an output tensor differ; also if it is no single tensor."""
    if not isinstance(outputs, Tensor) or outputs.dim() == 0:
        return True
    return bool((outputs != outputs[:1]).any())


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names))
