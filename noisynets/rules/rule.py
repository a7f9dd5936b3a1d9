"""What a rule is: it states its needs, and turns a record into one credit per call."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from noisynets.core.errors import InputError
from noisynets.core.notes import Note
from noisynets.core.record import Needs, Record, Trajectory


@dataclass(frozen=True)
class StepCredit:
    """Credit for every step of a trial, with the traces of the inputs that belong to it.

    Attributes:
        credit: (B, T, *out).
        x: traces of the node's inputs, (B, T, *in).
    """

    credit: Tensor
    x: Tensor


Credit = Tensor | StepCredit | None
"""Credit of one call: (B, *out), or one for every step. None: the node is not trained."""


@dataclass
class Assigned:
    """The credit of one record.

    Attributes:
        calls: one credit per call of the record.
        parameters: gradients of trained parameters that belong to no node, by path, as far as the
            rule reaches them.
    """

    calls: Iterable[Credit]
    parameters: Mapping[str, Tensor] = field(default_factory=dict)


class Rule(ABC):
    """Turns what the passes of a batch measured into the credit of every call.

    A rule that learns from pairs keeps what it has learnt, and returns it in `state()`.

    Attributes:
        uses_dloss: its credit is made of this batch's loss differences.
        due: the rule needs noisy passes in the next step; if not, one pass is enough.
    """

    uses_dloss: bool = True
    due: bool = True

    @property
    def fallbacks(self) -> Sequence[str]:
        """Paths of nodes with learned credit, because no credit passes what lies behind them."""
        return ()

    @property
    def notes(self) -> Sequence[Note]:
        """What the rule has warned of."""
        return ()

    @property
    def reads_dloss(self) -> bool:
        """True if loss differences make the credit, or teach what makes it."""
        return self.uses_dloss or bool(self.fallbacks)

    @abstractmethod
    def needs(self, system: nn.Module) -> Needs:
        """Return what the rule needs of the passes of a system."""

    @abstractmethod
    def __call__(self, record: Record) -> Iterable[Credit]:
        """Return one credit per call of the record; linear in δL where δL is used."""

    def assign(self, record: Record) -> Assigned:
        """Return the credit of every call, and of parameters between the nodes."""
        return Assigned(self(record))

    def unexplained(self, record: Record) -> list[str]:
        """Return the paths of nodes at which what was learnt explains nothing of a record."""
        return []

    def state(self) -> dict[str, Tensor]:
        """Return what must be saved to continue with the same bits."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        if state:
            raise InputError(f"{type(self).__name__} keeps no state, and got {', '.join(state)}")


class Combinator(Rule):
    """A rule made of another one, `inner`."""

    inner: Rule

    @property
    def fallbacks(self) -> Sequence[str]:
        """Those of the inner rule."""
        return self.inner.fallbacks

    @property
    def notes(self) -> Sequence[Note]:
        """Those of the inner rule."""
        return self.inner.notes

    @property
    def reads_dloss(self) -> bool:
        """True if the inner rule reads loss differences."""
        return self.inner.reads_dloss

    def unexplained(self, record: Record) -> list[str]:
        """Return those of the inner rule."""
        return self.inner.unexplained(record)


@dataclass(frozen=True)
class Traits:
    """What distinguishes rules from one another, for everything that has to treat them differently.

    Attributes:
        taught_by_dloss: it learns from loss differences, though its credit is not made of them.
        unbiased: its mean over the noise is the gradient, for small noise.
        reads_weight_changes: it reads by how much training changed the weights.
        random_feedback: it draws random maps from its seed.
        mirrors: it learns a mirror of every node.
        uses_noise: its credit depends on the noise at the nodes.
        control: it is a control that no pair teaches.
    """

    taught_by_dloss: bool = False
    unbiased: bool = False
    reads_weight_changes: bool = False
    random_feedback: bool = False
    mirrors: bool = False
    uses_noise: bool = True
    control: bool = False


@dataclass(frozen=True)
class RollOutForm:
    """The form of a rule for roll-outs, whose passes are in different states.

    Attributes:
        make: (seed, **options) → the rule that gives the credit of one pass at a time.
        entered: (trajectory, passes) → what it correlates with the loss, (1 + P, B, T, *out).
        options: settings that `make` takes.
    """

    make: Callable[..., Rule]
    entered: Callable[[Trajectory, Any], Tensor]
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class RuleEntry:
    """A rule in the registry, with the settings that were tuned for it.

    The settings were chosen on the validation set; docs/results/tuning.md has the table.

    Attributes:
        name: as on the command line.
        summary: one line.
        make: (seed, **options) → a new rule; the seed is that of what the rule draws.
        traits: what distinguishes it.
        options: settings that `make` takes.
        roll_out: its form for roll-outs; None: a rule that sends errors is given the error at
            the outputs instead, and any other cannot train a network that acts.
        lr: tuned learning rate of Adam.
        sigma: tuned standard deviation of the injected noise.
        adam_beta2: tuned decay of Adam's second moments.
        decorrelated_lr: tuned learning rate on decorrelated inputs; None: not offered so.
    """

    name: str
    summary: str
    make: Callable[..., Rule]
    traits: Traits
    options: tuple[str, ...] = ()
    roll_out: RollOutForm | None = None
    lr: float = 3e-3
    sigma: float = 1e-2
    adam_beta2: float = 0.999
    decorrelated_lr: float | None = None

    @property
    def injects(self) -> bool:
        """True if the rule works only with noise that the estimator injects."""
        return self._needs.injection

    @property
    def sends_error(self) -> bool:
        """True if the rule starts from the error at the output, and sends credit down from it."""
        return self._needs.error

    @property
    def uses_dloss(self) -> bool:
        """True if the credit is made of the batch's loss differences."""
        return self.make(0).uses_dloss

    @property
    def _needs(self) -> Needs:
        return self.make(0).needs(nn.Identity())
