"""Feedback: rules that start from the error at the output, and send credit down from it.

`LayerwiseFeedback` sends it node by node; `direct.DirectFeedback` directly to every node.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from noisynets.core.graph import Graph, Opaque
from noisynets.core.graph.expressions import activities
from noisynets.core.notes import Note, Notes
from noisynets.core.record import Needs, Record
from noisynets.core.trial import has_state
from noisynets.core.types import Node
from noisynets.rules.credit.delivery import Gates, activity, from_output, send_down
from noisynets.rules.credit.direct_maps import DirectMaps, learned_map
from noisynets.rules.credit.explained import unexplained_maps
from noisynets.rules.credit.map import Map
from noisynets.rules.credit.mirror import Maps, has_mirror, sent_through
from noisynets.rules.credit.saturation import SaturationMask
from noisynets.rules.credit.state import nested, unnested
from noisynets.rules.rule import Assigned, Rule

ALWAYS, EVERY = 200, 4
"""First steps in each of which a rule learns; after them it learns in one step of so many."""


class Lagging(Protocol):
    """Maps that may lag behind what they are maps of."""

    @property
    def lag(self) -> Tensor | None:
        """Squared relative error that an update has found; None: not known."""


class UpdateSchedule:
    """When a rule learns from pairs: in each of the first steps, then in one of several.

    Args:
        always: number of first steps in each of which it learns.
        every: after them it learns in one step of so many.
    """

    def __init__(self, always: int = ALWAYS, every: int = EVERY) -> None:
        self.always, self.every = always, every
        self.step = 0

    @property
    def due(self) -> bool:
        """True if the rule learns in this step."""
        return self.step < self.always or self.step % self.every == 0

    def advance(self) -> bool:
        """Go on to the next step; return True if the rule learns in this one."""
        due, self.step = self.due, self.step + 1
        return due

    def observe(self, maps: Lagging) -> None:
        """Take notice of the maps that have just learnt."""

    def state(self) -> dict[str, Tensor]:
        """Return what must be saved to continue with the same bits."""
        return {"step": torch.tensor(self.step)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        self.step = int(state["step"])


@dataclass
class Sent(Assigned):
    """Credit that a feedback rule sends.

    Attributes:
        calls: one credit (B, *out) per call; None: the node is not trained.
        parameters: see `Assigned`.
        populations: credit of the mean spikes of populations, (B, *out), by path, as far as the
            rule sends it.
    """

    calls: list[Tensor | None]
    populations: dict[str, Tensor] = field(default_factory=dict)


class Feedback(Rule):
    """A rule that sends credit down from the error at the output.

    Args:
        schedule: of the steps in which the rule learns, and needs noisy passes. None: every step.
    """

    uses_dloss = False

    def __init__(self, schedule: UpdateSchedule | None = None) -> None:
        self.schedule = UpdateSchedule(every=1) if schedule is None else schedule

    @property
    def due(self) -> bool:  # type: ignore[override]
        """True if the rule needs noisy passes in the next step; if not, one pass is enough."""
        return self.schedule.due

    def needs(self, system: nn.Module) -> Needs:
        """Return what feedback needs; of a system with a state, means over the trial."""
        return Needs(noise=True, states=True, averages=has_state(system), graph=True, error=True)

    def __call__(self, record: Record) -> list[Tensor | None]:
        """Return one credit (B, *out) per call; None: the node is not trained."""
        return self.assign(record).calls

    def assign(self, record: Record) -> Sent:
        """Send the error at the output down, and learn from the record if it is time to."""
        assert record.graph is not None and record.error is not None, "stated in the needs"
        return self.distribute(record, record.graph, self.schedule.advance())

    @abstractmethod
    def distribute(self, record: Record, graph: Graph, learns: bool) -> Sent:
        """Send the error at the output down, and learn from the record if `learns`."""


class LayerwiseFeedback(Feedback):
    """credit_l = gate_l ∘ (M_{l+1}ᵀ credit_{l+1}), from credit_output = e.

    The graph says what lies between two nodes. Activities that enter something opaque, or a node
    that has no map, get learned credit instead, and a warning names them.

    Args:
        new: (node) → its map M.
        saturation: masks the credit of saturated units; for maps that expect nodes to follow their
            inputs. None: nothing is masked.
    """

    def __init__(
        self, new: Callable[[Node], Map], saturation: SaturationMask | None = None
    ) -> None:
        super().__init__(UpdateSchedule())
        self.maps = Maps(new)
        self._saturation = saturation
        self._gates = Gates()
        self._direct = DirectMaps(learned_map, taught=True)
        self._blocked: tuple[Graph, frozenset[int]] | None = None
        self._fallbacks: tuple[str, ...] = ()
        self._notes = Notes()

    @property
    def fallbacks(self) -> Sequence[str]:
        """Paths of nodes with learned credit, because no credit passes what lies behind them."""
        return self._fallbacks

    @property
    def notes(self) -> Sequence[Note]:
        """What the rule has warned of."""
        return tuple(self._notes)

    def unexplained(self, record: Record) -> list[str]:
        """Return the paths of nodes whose map explains nothing of a record."""
        return unexplained_maps(record, self.maps)

    def distribute(self, record: Record, graph: Graph, learns: bool) -> Sent:
        """Send credit node by node through the maps, and learn from the record if `learns`."""
        if learns:
            self._gates.update_(record)
            self.maps.update_(record)
            self.schedule.observe(self.maps)
            if self._saturation is not None:
                self._saturation.update_(record, self.maps)
        blocked, taught = self._blocked_calls(graph, record), dict[int, Tensor]()
        populations: dict[str, Tensor] = {}
        if blocked:
            top, _ = from_output(record, self._gates)
            taught, populations = self._direct.credits(
                record, set(blocked), self.maps, self._gates, learns
            )
            taught = {call: top[call] + credit for call, credit in taught.items()}
        credits = [torch.zeros_like(activity(record, call)) for call in range(len(record.calls))]

        def through(call: int, credit: Tensor) -> Tensor | None:
            """Keep the credit of a call, and return that of its input."""
            credit = taught.get(call, credit)
            if self._saturation is not None:
                credit = self._saturation(call, record, credit)
            credits[call] = credit
            known, measured = self.maps.get(record.calls[call].node), record.calls[call]
            if known is None or graph.inputs[call] is None:
                return None
            return sent_through(known, credit, measured)

        arrived = send_down(record, self._gates, through, taught)
        return Sent(list(credits), arrived.parameters, populations | arrived.populations)

    def _blocked_calls(self, graph: Graph, record: Record) -> frozenset[int]:
        """Return the calls whose activities enter something that no credit passes."""
        if self._blocked is None or self._blocked[0] is not graph:
            without_map = [
                made
                for made, call in zip(graph.inputs, record.calls, strict=True)
                if not has_mirror(call.node.product)
            ]
            opaque = [p for p in graph.parts if isinstance(p, Opaque) or p in graph.unmeasured]
            unused = set(range(len(record.calls))) - activities(*graph.inputs, *graph.outputs)
            blocked = frozenset(activities(*without_map, *opaque) | unused)
            self._blocked = graph, blocked
            self._warn({record.calls[call].node.name for call in blocked})
        return self._blocked[1]

    def _warn(self, names: set[str]) -> None:
        self._fallbacks = tuple(sorted({*self._fallbacks, *names}))
        if names:
            self._notes.warn(
                "learned credit",
                f"{', '.join(map(repr, sorted(names)))}: what lies behind cannot be mirrored, so "
                "learned credit is used there",
            )

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is found in the graph again: adjoints cannot be pickled."""
        return {**vars(self), "_blocked": None}

    def state(self) -> dict[str, Tensor]:
        """Return what must be saved to continue with the same bits."""
        learnt = {
            "maps": self.maps.state(),
            "gates": self._gates.state(),
            "direct": self._direct.state(),
            "schedule": self.schedule.state(),
        }
        if self._saturation is not None:
            learnt["saturation"] = self._saturation.state()
        return nested(learnt)

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        found = unnested(state)
        self.maps.restore(found["maps"])
        self._gates.restore(found["gates"])
        self._direct.restore(found.get("direct", {}))
        self.schedule.restore(found["schedule"])
        if self._saturation is not None:
            self._saturation.restore(found["saturation"])
