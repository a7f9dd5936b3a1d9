"""The probe: records node activities through hooks, and removes the hooks on exit.

Everything is copied when it is recorded: an in-place unit may overwrite an activity, and a
recurrent system its state. One reference pass and P noisy passes run as one stacked batch, pass
after pass: rows [0, B) are the reference, rows [(1+p)B, (2+p)B) the noisy pass p. A system whose
noise is correlated in time therefore runs the reference batch first and the noisy batches after it.

A system that runs through a trial calls its nodes once per step. The record then holds every call,
or the mean over the calls of each node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from noisynets.core.batch import called, check_finite, of_trees, plain, reference, stacked
from noisynets.core.errors import InputError, SystemRefused
from noisynets.core.graph import Adjoint, Graph, Rerun, Tracer, Traces
from noisynets.core.nodes import Survey
from noisynets.core.noise import Injection
from noisynets.core.own_values import OwnValues
from noisynets.core.paired import Paired
from noisynets.core.record import Needs, NodeRecord, PopulationRecord, Record, Trajectory
from noisynets.core.recorders import NodeMean, PopulationMean, Step, trajectory
from noisynets.core.trial import Stepped
from noisynets.core.types import Node

NOTHING = Needs()


@dataclass(frozen=True)
class Site:
    """A node in the stacked batch.

    Attributes:
        index: of the node.
        node: with its modules.
        own: the noisy passes, among P, in which noise enters at this node.
        noisy: the same among all 1 + P passes.
        splits: the passes split here, at the first call.
        builtin: its output is fresh, and may be changed in place.
        normalises: its layer is a normalisation.
    """

    index: int
    node: Node
    own: slice
    noisy: slice
    splits: bool
    builtin: bool
    normalises: bool


class Insertion:
    """Adds injected noise to the activities of one pass, and returns it in units of σ.

    Args:
        injection: distribution, σ and random numbers.
        passes: P.
        batch: B.
    """

    def __init__(self, injection: Injection, passes: int, batch: int) -> None:
        self.injection, self.passes, self.batch = injection, passes, batch
        self._held: dict[int, Tensor] = {}

    def split(self, site: Site, output: Tensor) -> tuple[Tensor, Tensor]:
        """Make the rows of all passes from those of one, with noise in the node's own passes."""
        a = output.new_empty(1 + self.passes, *output.shape)
        first, last = site.noisy.start, site.noisy.stop
        a[:first], a[last:] = output, output
        noisy = a[first:last]
        z = self._draw(site.index, noisy)
        if torch.is_grad_enabled():  # there is no derivative of what is written with `out`
            noisy.copy_(output).add_(z, alpha=self.injection.sigma)
        else:
            torch.add(output, z, alpha=self.injection.sigma, out=noisy)
        return a.flatten(0, 1), z

    def add(self, site: Site, output: Tensor) -> tuple[Tensor, Tensor]:
        """Add noise in the node's own passes: in place, if no other module holds the tensor."""
        if not site.builtin:
            output = output.clone()
        noisy = output.unflatten(0, (1 + self.passes, self.batch))[site.noisy]
        z = self._draw(site.index, noisy)
        noisy.add_(z, alpha=self.injection.sigma)
        return output, z

    def _draw(self, index: int, like: Tensor) -> Tensor:
        """Draw noise for a node, in units of σ; once per trial, if the injection says so."""
        z = self._held.get(index)
        if z is None or z.shape != like.shape:
            z = self.injection.draw(like.shape, like)
            if z.shape != like.shape:
                raise InputError(
                    f"the noise drawn has shape {tuple(z.shape)}, not the shape asked for"
                )
        if self.injection.per_trial:
            self._held[index] = z
        return z


class NodeHooks:
    """Forward hooks that record the calls of all nodes in one pass.

    Args:
        sites: the nodes.
        passes: P.
        batch: B.
        insertion: adds the injected noise; None where nothing is injected.
        sigma: of the injected noise.
        needs: what is recorded.

    Attributes:
        calls: one record per node and call, in the order of the calls.
        means: by node, if means are needed instead.
        steps: by node, if trajectories are needed instead.
    """

    def __init__(
        self,
        sites: Sequence[Site],
        passes: int,
        batch: int,
        insertion: Insertion | None,
        sigma: float | None,
        needs: Needs,
    ) -> None:
        self.calls: list[NodeRecord] = []
        self.means: dict[int, NodeMean] = {}
        self.steps: dict[int, list[Step]] = {}
        self._sites, self._insertion, self._needs = sites, insertion, needs
        self._passes, self._batch, self._sigma = passes, batch, sigma
        self._held = insertion is not None and insertion.injection.per_trial
        self._entered: dict[tuple[int, str], tuple[Tensor, Tensor | None]] = {}
        self._copies: dict[int, dict[str, tuple[Tensor, int, Tensor]]] = {}

    def register(self) -> list[RemovableHandle]:
        """Register the hooks of all nodes; the caller removes them."""
        handles = []
        for site in self._sites:
            node = site.node
            for module, what in {node.product: "x", node.inlet: "raw"}.items():
                if module is not node.outlet:
                    enters = self._enters(site, what)
                    handles.append(module.register_forward_pre_hook(enters, with_kwargs=True))
            leaves = self._leaves(site)
            handles.append(node.outlet.register_forward_hook(leaves, with_kwargs=True))
        return handles

    def close(self) -> set[str]:
        """Free memory; return the names of nodes that were entered and never left."""
        self._copies.clear()
        self._insertion = None
        unfinished = {self._sites[index].node.name for index, _ in self._entered}
        self._entered.clear()
        return unfinished

    def _enters(self, site: Site, what: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            entering = first(args, kwargs).detach()
            shift = self._shift(entering) if what == "raw" else None
            self._entered[site.index, what] = self._copy(site.index, what, entering), shift

        return hook

    def _leaves(self, site: Site) -> Callable[..., Tensor]:
        index, inside = site.index, site.node.inlet is not site.node.outlet

        def hook(module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> Tensor:
            splits = site.splits and not (self.calls or self.means or self.steps)
            if inside:
                raw, shift = self._entered.pop((index, "raw"))
            elif splits and site.builtin:  # in a chain no other module changes it: no copy
                raw, shift = first(args, kwargs).detach(), None
            else:
                entering = first(args, kwargs).detach()
                raw, shift = self._copy(index, "raw", entering), self._shift(entering)
            x, _ = self._entered.pop((index, "x"), (raw, None))
            _check_rows(site, output, 1 if splits else 1 + self._passes, self._batch)
            z = None
            if self._insertion is not None:
                add = self._insertion.split if splits else self._insertion.add
                output, z = add(site, output)
            self._keep(site, x, raw, shift, output, z)
            return output

        return hook

    def _keep(
        self,
        site: Site,
        x: Tensor,
        raw: Tensor,
        shift: Tensor | None,
        output: Tensor,
        z: Tensor | None,
    ) -> None:
        """Record a call: its inputs, the activities (rows of all passes), and ξ/σ."""
        needs, sigma = self._needs, self._sigma
        wanted = needs.noise or needs.trajectories
        xi = z * sigma if z is not None and sigma is not None and wanted else None
        if needs.trajectories:
            step = (x, raw[: self._batch], output.detach().clone(), xi)
            self.steps.setdefault(site.index, []).append(step)
            return
        a = output.unflatten(0, (1 + self._passes, self._batch))
        record = NodeRecord(
            site.node,
            x=x,
            raw=raw,
            delta=(a[site.noisy] - a[0]).detach(),
            own=site.own,
            xi=xi,
            sigma=sigma,
            a=a[0].detach().clone() if needs.states else None,
            shift=shift,
        )
        if not needs.averages:
            self.calls.append(record)
        elif site.index in self.means:
            self.means[site.index].add_(record)
        else:
            self.means[site.index] = NodeMean(record, self._held, needs.steps, site.normalises)

    def _copy(self, index: int, what: str, entering: Tensor) -> Tensor:
        """Copy the reference rows of an input, once for as long as it is the same tensor."""
        rows = len(entering) if self._needs.trajectories else self._batch
        if entering.is_inference():  # such a tensor does not count its changes
            return entering[:rows].clone()
        copies = self._copies.setdefault(index, {})
        for source, version, copy in copies.values():
            same = source.data_ptr() == entering.data_ptr() and source.stride() == entering.stride()
            if same and source.shape == entering.shape and version == entering._version:
                return copy
        copy = entering[:rows].clone()
        copies[what] = entering, entering._version, copy
        return copy

    def _shift(self, whole: Tensor) -> Tensor | None:
        """Return the differences of a raw input, if they are needed and its passes are separate.

        Numbers of rows in a table, as an embedding takes, have no differences.
        """
        if not self._needs.states or len(whole) == self._batch or not whole.is_floating_point():
            return None
        passes = whole.unflatten(0, (1 + self._passes, self._batch))
        return passes[1:] - passes[0]


class Probe:
    """Context manager: while it is open, the calls of the system's nodes are recorded.

    States are reset when it opens and when it closes.

    Args:
        survey: of the system.
        batch: B.
        resamples: K; 0 records x alone.
        injection: noise to add at the nodes; None where the noise is the system's own.
        needs: what is recorded; with `graph`, the operations of the pass are traced.
        shifts: of parameters by path: by how much they differ in each noisy pass, (P, *parameter).
        pairs: batch statistics and undeclared random numbers are those of the reference in all
            passes; see `Paired`.
        traces: of earlier passes of the system; None: there are none.

    Attributes:
        passes: P, the noisy passes.
        calls: once the probe is closed: one record per node and call, in the order of the calls;
            of means, one per node.
        trajectories: one per node, if they are needed, once the probe is closed.
        rerun: watches a pass that is not traced, as its forward has a program; None: there is none.

    >>> import torch
    >>> from noisynets.core.nodes import survey
    >>> net = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> probe = Probe(survey(net), batch=4, resamples=2, injection=Injection(0.1))
    >>> with torch.no_grad(), probe:
    ...     output = net(probe.stack(torch.ones(4, 3)))
    >>> output.shape, [tuple(call.delta.shape) for call in probe.calls]
    (torch.Size([12, 1]), [(2, 4, 2), (2, 4, 1)])
    """

    def __init__(
        self,
        survey: Survey,
        *,
        batch: int,
        resamples: int,
        injection: Injection | None = None,
        needs: Needs = NOTHING,
        shifts: Mapping[str, Tensor] = MappingProxyType({}),
        pairs: bool = False,
        traces: Traces | None = None,
    ) -> None:
        self.calls: list[NodeRecord] = []
        self.trajectories: list[Trajectory] = []
        self.batch = batch
        self.passes = resamples * len(survey.nodes) if needs.per_node else resamples
        self.sigma = None if injection is None else injection.sigma
        insertion = Insertion(injection, self.passes, batch) if injection and self.passes else None
        self._split = None if insertion is None or shifts else survey.split
        self._own = _own_values(survey, shifts, batch) if shifts else None
        self._sites = _sites(survey, resamples, needs.per_node, self._split)
        self._survey, self._needs = survey, needs
        self._hooks = NodeHooks(self._sites, self.passes, batch, insertion, self.sigma, needs)
        measured = survey.populations if needs.averages and needs.states else {}
        rows = (1 + self.passes, batch)
        self._populations = [
            PopulationMean(name, population, *rows, needs.steps)
            for name, population in measured.items()
        ]
        alone = self._own is None and not pairs
        self._tracer = _tracer(survey, needs, rows, traces, alone) if needs.graph else None
        self.rerun = self._tracer if isinstance(self._tracer, Rerun) else None
        paired = Paired(survey.system, batch, rows[0], injection is not None) if pairs else None
        modes = (self._own, self._tracer, paired)  # what is shared is traced
        self._modes: list[Any] = list(filter(None, modes))
        self._handles: list[RemovableHandle] = []

    def stack(self, inputs: Any) -> Any:
        """Return the rows to feed in: the batch, once for every pass that is separate there."""
        rows = inputs if self._split is not None else self.repeat(inputs)
        if self._own is not None:
            self._own.mark(rows)
        if self._tracer is not None:
            self._tracer.begin(rows if isinstance(rows, Tensor) else plain(rows))
        return rows

    def repeat(self, tree: Any) -> Any:
        """Return a tensor (B, ...) or a tree with the rows of all passes."""
        passes = 1 + self.passes
        return torch.cat([tree] * passes) if isinstance(tree, Tensor) else stacked(tree, passes)

    def call(self, inputs: Any) -> Any:
        """Return the outputs of the system for inputs (B, ...), or a tree, in all passes."""
        system, rows = self._survey.system, self.stack(inputs)
        return system(rows) if isinstance(rows, Tensor) else called(system, rows)

    def record(
        self,
        outputs: Any,
        dloss: Tensor,
        graph: Graph | None = None,
        error: tuple[Tensor | None, ...] | None = None,
        exact: bool = True,
    ) -> Record:
        """Return the record of the passes, once the probe is closed.

        Args:
            outputs: of the system, in all passes.
            dloss: δL, divided by the batch size, (P, B).
            graph: of an earlier pass, if this one was not traced.
            error: at every output tensor, divided by the batch size, (B, ...).
            exact: the error is the loss's derivative.
        """
        populations: dict[str, PopulationRecord] = {}
        while self._populations:  # here, too
            mean = self._populations.pop(0)
            if (found := mean.record()) is not None:
                populations[mean.name] = found
        values, applied = dict[int, Tensor](), dict[int, Adjoint]()
        if self._tracer is not None:
            graph, kept = self._tracer.graph(outputs, error), self._tracer.kept
            values, applied = kept.stored, kept.applied
        shifts = {} if self._own is None else _used(self._survey, self._own)
        return Record(self.calls, dloss, populations, graph, values, applied, shifts, error, exact)

    def __enter__(self) -> Probe:
        for module in self._survey.stateful:
            module.forget()
        first = [] if self._tracer is None else self._tracer.first_hooks()
        self._handles = first + self._hooks.register()
        for mean in self._populations:
            handle = mean.population.register_forward_hook(mean.hook(), with_kwargs=True)
            self._handles.append(handle)
        for mode in self._modes:
            self._handles += mode.hooks()
            mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)
        while self._handles:
            self._handles.pop().remove()
        for module in self._survey.stateful:
            module.forget()
        unfinished = self._hooks.close()
        if unfinished and error[0] is None:
            raise _unreached(unfinished)
        self.calls = self._hooks.calls
        if self._needs.averages:  # the sums of each are freed when its record is made
            means = self._hooks.means
            self.calls = [means.pop(node).record() for node in list(means)]
        rows = (1 + self.passes, self.batch)
        for i, steps in self._hooks.steps.items():
            site = self._sites[i]
            self.trajectories.append(trajectory(site.node, steps, *rows, site.own, self.sigma))


def reference_rows(outputs: Any, batch: int, passes: int) -> Any:
    """Return the rows of the reference pass, of every tensor with the rows of all passes."""
    if isinstance(outputs, Tensor) and outputs.dim() and len(outputs) == passes * batch:
        return outputs[:batch].detach()
    return reference(outputs, batch, passes)


def _own_values(survey: Survey, shifts: Mapping[str, Tensor], batch: int) -> OwnValues:
    by_parameter = {survey.parameters[name]: xi for name, xi in shifts.items()}
    return OwnValues(by_parameter, batch, survey.nodes)


def _used(survey: Survey, own: OwnValues) -> dict[str, Tensor]:
    return {n: own.used[p] for n, p in survey.parameters.items() if p in own.used}


def _tracer(
    survey: Survey, needs: Needs, rows: tuple[int, int], traces: Traces | None, alone: bool
) -> Tracer | Rerun:
    """Return what traces a pass; if no other mode changes its operations, they may be run again."""
    inside = survey.populations if needs.averages else None
    trials = [m for m in survey.system.modules() if inside and isinstance(m, Stepped)]
    repeats = alone and inside is None and _repeats(survey)
    program = traces.program(rows[0] * rows[1]) if repeats and traces is not None else None
    if program is not None:
        return Rerun(survey.nodes, program)
    return Tracer(survey, rows[0] * rows[1], inside, trials, traces, repeats)


def _repeats(survey: Survey) -> bool:
    """Return True if a pass shows all of which the operations between its nodes depend."""
    inlets = [node.inlet for node in survey.nodes]
    hooked = any(inlet._forward_hooks or inlet._forward_pre_hooks for inlet in inlets)
    apart = any(node.inlet is not node.outlet for node in survey.nodes)
    return not (survey.stateful or hooked or apart)


def _unreached(unfinished: set[str]) -> SystemRefused:
    return SystemRefused(
        f"{', '.join(map(repr, sorted(unfinished)))}: an effect that its layer did not reach: wrap "
        "the layer instead: Noisy(layer, effect)"
    )


def _sites(survey: Survey, resamples: int, per_node: bool, split: Node | None) -> list[Site]:
    """Return where each node is in the stacked batch; pass l·K + k perturbs node l alone."""
    found = []
    kinds = zip(survey.nodes, survey.builtin, survey.normalises, strict=True)
    for i, (node, builtin, normalises) in enumerate(kinds):
        start = i * resamples if per_node else 0
        own = slice(start, start + resamples)
        noisy = slice(own.start + 1, own.stop + 1)
        found.append(Site(i, node, own, noisy, node is split, builtin, normalises))
    return found


def _check_rows(site: Site, output: Tensor, passes: int, batch: int) -> None:
    if output.shape[0] != passes * batch:
        raise SystemRefused(
            f"node {site.node.name!r}: its output has {output.shape[0]} rows where {passes} passes "
            f"of a batch of {batch} make {passes * batch}: keep the batch as the first dimension "
            f"(found shape {tuple(output.shape)})"
        )


def first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Return the input of a call, whether it was given by position or by name."""
    value: Tensor = args[0] if args else next(iter(kwargs.values()))
    return value


class Rows:
    """Finds the batch in inputs and targets, and remembers which inputs all rows share.

    On the CPU every number is checked. On other devices this would make the host wait: estimators
    call `check_finite` there in some steps.

    Args:
        autocast: calls inside `torch.autocast` are allowed; it rounds differences of passes away.

    >>> rows = Rows()
    >>> inputs = {"x": torch.ones(2, 3), "mask": torch.ones(3, 3)}
    >>> found, _, size = rows(inputs, torch.zeros(2))
    >>> size, type(found["x"]).__name__, type(found["mask"]).__name__
    (2, 'Tensor', 'Shared')
    >>> rows(torch.tensor([[1.0], [torch.nan]]), torch.zeros(2))
    Traceback (most recent call last):
    ...
    noisynets.core.errors.InputError: inputs of row 1 contain NaN or infinity: clean the data first
    """

    def __init__(self, autocast: bool = False) -> None:
        self._shared: dict[str, bool] = {}
        self._autocast = autocast

    def __call__(self, inputs: Any, targets: Any) -> tuple[Any, Any, int]:
        """Return inputs and targets, with all that has no rows inside `Shared`, and B.

        Args:
            inputs: one tensor (B, ...); a tuple or list of positional arguments; or a mapping of
                keyword arguments. A tensor in a tree whose length is not B is shared, and stays so
                when another batch has its length.
            targets: any tree; a tensor in it has one row per sample.

        Raises:
            InputError: if lengths differ, or if rows contain NaN or infinity. An infinity in a
                tree may belong to a mask.
            SystemRefused: inside `torch.autocast`, where it is not allowed.
        """
        if not self._autocast and any(map(torch.is_autocast_enabled, ("cpu", "cuda"))):
            raise SystemRefused(
                "the estimator was called inside torch.autocast, whose rounding hides differences "
                "of passes: leave autocast around the call"
            )
        if not (isinstance(inputs, Tensor) and isinstance(targets, Tensor)):
            inputs, targets, batch = of_trees(inputs, targets, self._shared)
        elif len(inputs) != len(targets) or len(inputs) == 0:
            raise InputError(f"{len(inputs)} inputs and {len(targets)} targets make no batch")
        else:
            batch = len(inputs)
        for name, values in (("inputs", inputs), ("targets", targets)):
            if not isinstance(values, Tensor):
                check_finite(name, values, on_host=True)
            elif values.device.type == "cpu" and values.is_floating_point():
                try:  # a sum takes a tenth of the time of `isfinite` on every number
                    torch._assert_async(values.sum().isfinite())
                except RuntimeError:
                    check_finite(name, values)
        return inputs, targets, batch
