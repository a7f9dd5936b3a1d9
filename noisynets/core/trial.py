"""Trials: systems with a state, which run from rest and leave no state behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from noisynets.core.types import EpisodeLog


class Stateful(nn.Module):
    """A module with a state within a trial, which ends with the trial.

    The state is neither copied nor saved with the module.

    Attributes:
        fresh: the attributes that hold the state, with their values at the start of a trial.
    """

    fresh: Mapping[str, Any] = MappingProxyType({})

    def __init__(self) -> None:
        super().__init__()
        self.forget()

    def forget(self) -> None:
        """Reset the state: the next call is the first of a trial."""
        for name, value in self.fresh.items():
            setattr(self, name, value)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), **self.fresh}


class Population(Stateful):
    """Units that act independently of one another in every step of a trial: neurons, or a read-out.

    Their inputs and outputs can be measured, and `signals` names them. The internal state cannot,
    except for the membrane potential of a population that names it.

    Attributes:
        signals: what can be measured.
        final: the output counts at the last step alone; if not, at every step.
    """

    signals: tuple[str, ...] = ("current", "spikes")
    final: bool = False

    @property
    def membrane(self) -> Tensor | None:
        """Membrane potential after the last step, (B, *out); None if it is no signal."""
        return None


class Stepped(nn.Module):
    """Runs a network step by step through a trial.

    Attributes:
        network: that is called in every step.
    """

    network: nn.Module


class RollOut(Stateful):
    """Runs episodes in which a network acts, so that its inputs depend on its earlier outputs.

    The passes of a pair therefore receive different inputs. A row of the system's input identifies
    an episode, and its output is the return, (R, 1).

    Attributes:
        network: called once in every step, (R, *in) → (R, *out).
        log: of the last episodes, until the state is reset.
        steps: total number of steps of all episodes in training so far; a buffer of one integer.
    """

    network: nn.Module
    steps: Tensor
    fresh = MappingProxyType({"log": None})
    log: EpisodeLog | None


@contextmanager
def trial(system: nn.Module) -> Iterator[None]:
    """Reset every state of a system at the start, and again at the end, also after an error.

    >>> import torch
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
