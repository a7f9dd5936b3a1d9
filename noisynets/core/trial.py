"""Trials: systems with a state, which run from rest and leave no state behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from noisynets.core.types import EpisodeLog


class Stateful(nn.Module):
    """Keeps something from step to step of a trial, and nothing from trial to trial.

    What it keeps is neither copied nor saved with it.

    Attributes:
        fresh: names of the attributes that it keeps, and what they are at the start of a trial.
    """

    fresh: Mapping[str, Any] = MappingProxyType({})

    def __init__(self) -> None:
        super().__init__()
        self.forget()

    def forget(self) -> None:
        """Drop the state: the next call begins a trial."""
        for name, value in self.fresh.items():
            setattr(self, name, value)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), **self.fresh}


class Population(Stateful):
    """Nodes that act each for itself through the steps of a trial: neurons, or a read-out.

    What goes in and what comes out can be measured, and `signals` names it; what is inside cannot,
    but for the membrane potential of a population that says so.

    Attributes:
        signals: what an experimenter can measure.
        final: what comes out counts at the last step alone; else at every step.
    """

    signals: tuple[str, ...] = ("current", "spikes")
    final: bool = False

    @property
    def membrane(self) -> Tensor | None:
        """Potential after the last step, (B, *out), where it is among the signals."""
        return None


class Stepped(nn.Module):
    """Runs a network step by step through a trial."""

    network: nn.Module


class RollOut(Stateful):
    """Lets a network act: in each step its inputs depend on what it did in those before.

    So the passes of a pair part for good, each with inputs of its own. A row of the system's
    input names an episode, and its output is the return, (R, 1).

    Attributes:
        network: called once for every step, (R, *in) → (R, *out).
        log: of the episodes run last, until it is forgotten.
        steps: of all episodes in training so far, added up; a buffer of one whole number.
    """

    network: nn.Module
    steps: Tensor
    fresh = MappingProxyType({"log": None})
    log: EpisodeLog | None


@contextmanager
def trial(system: nn.Module) -> Iterator[None]:
    """Reset every state of a system at the start, and again at the end, also after an error.

    >>> from noisynets.systems.spiking import Leaky
    >>> neuron = Leaky(beta=0.9)
    >>> with trial(neuron):
    ...     _ = neuron(torch.ones(1, 1))
    >>> [float(neuron(torch.full((1, 1), 0.6))) for _ in range(2)]
    [0.0, 1.0]
    """
    modules = stateful(system)
    for module in modules:
        module.forget()
    try:
        yield
    finally:
        for module in modules:
            module.forget()


def stateful(system: nn.Module) -> list[Stateful]:
    """Return the modules of a system that keep a state from step to step."""
    return [module for module in system.modules() if isinstance(module, Stateful)]


def has_state(system: nn.Module) -> bool:
    """Return True if anything in a system keeps a state from step to step."""
    return bool(stateful(system))


def populations(system: nn.Module, name: str = "") -> dict[str, Population]:
    """Return the populations by path; one inside another counts as part of it."""
    if isinstance(system, Population):
        return {name: system}
    found: dict[str, Population] = {}
    for child, module in system.named_children():
        found |= populations(module, f"{name}.{child}".lstrip("."))
    return found
