"""Evaluation of a trained system, in its own noise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from noisynets.core.noise import Stream
from noisynets.run.session import Meter, Session
from noisynets.run.settings import DTYPES, seeds
from noisynets.systems.catalogue import SYSTEMS
from noisynets.systems.spiking import Recording, record
from noisynets.tasks.data import Examples, Task

EVALUATION_BATCH = 1000
TOKENS = 16_384
"""Characters of a text in a batch of an evaluation, at most."""
SMALL_SYSTEM = 1_000_000
RECORDED = 50
EVALUATION = "encoding in evaluation"
"""Purpose of the stream from which inputs are encoded for an evaluation."""


@contextmanager
def threads(session: Session) -> Iterator[None]:
    """Compute with the session's number of CPU threads, and with the former one afterwards."""
    before = torch.get_num_threads()
    small = sum(p.numel() for p in session.system.parameters()) < SMALL_SYSTEM
    torch.set_num_threads(session.config.threads or (1 if small else before))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def evaluate(session: Session, examples: Examples) -> tuple[float, float]:
    """Mean loss and score, in the system's own noise, as `system.eval()` has it."""
    loss, score, _ = evaluate_outputs(session, examples)
    return loss, score


def evaluate_outputs(
    session: Session, examples: Examples
) -> tuple[float, float, list[float] | None]:
    """The same, and the mean score of every single output; None where these have none."""
    measure = session.task.measure
    each = measure.each if session.task.classes > 1 else None
    meter = Meter.zero(examples.y.device, measure)
    total = torch.zeros(session.task.classes, dtype=torch.float64, device=examples.y.device)
    stream = Stream(seeds(session.config)["encoding"], EVALUATION)
    dtype = DTYPES[session.config.dtype]
    with torch.no_grad(), evaluating(session.system):
        for x, y in examples.batches(evaluation_batch(session.task), dtype):
            output = session.system(session.encode(x, stream))
            meter.add(measure.loss(output, y), output, y)
            if each is not None:
                total += each(output, y).sum(0)
    by_output = None if each is None else (total / len(examples)).tolist()
    return *meter.read(), by_output


def evaluation_batch(task: Task) -> int:
    """Return the number of examples of a batch: of windows of a text, fewer if they are long."""
    return max(1, TOKENS // task.input_shape[0]) if task.vocabulary else EVALUATION_BATCH


def close(session: Session, parts: tuple[str, ...]) -> dict[str, float]:
    """Return the scores of the task's closing evaluation; most tasks have none."""
    closing = session.task.closing
    if closing is None:
        return {}
    stream = Stream(seeds(session.config)["encoding"], "encoding of closing scores")
    device, dtype = torch.device(session.config.device), DTYPES[session.config.dtype]

    def predict(x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = session.system(session.encode(x.to(device, dtype), stream))
        return output.cpu()

    with torch.no_grad(), evaluating(session.system):
        known = (part for part in parts if part in ("val", "test"))
        return {f"{part}_{closing.name}": closing.judge(predict, part) for part in known}


def recorded(session: Session, examples: Examples) -> list[Recording]:
    """Record the neurons of a trained system on some examples; systems without neurons: nothing."""
    if not SYSTEMS[session.config.system].spiking:
        return []
    x, _ = examples.first(RECORDED).batch(slice(None), DTYPES[session.config.dtype])
    stream = Stream(seeds(session.config)["encoding"], "encoding of recordings")
    with evaluating(session.system):
        return record(session.system, session.encode(x, stream))


@contextmanager
def evaluating(system: nn.Module) -> Iterator[None]:
    """Put a system in evaluation mode, and every module in its former mode afterwards."""
    before = {module: module.training for module in system.modules()}
    system.eval()
    try:
        yield
    finally:
        for module, mode in before.items():
            module.training = mode
