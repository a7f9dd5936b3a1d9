"""The probe: listens to the nodes of any module through hooks, and is gone afterwards.

What it records it copies at once: an in-place unit may overwrite an activity, and a recurrent
system its state. One reference pass and P noisy passes run as one stacked batch, pass after pass:
rows [0, B) are the reference, rows [(1+p)B, (2+p)B) the noisy pass p. So a system whose noise
is correlated in time lives through the reference batch first and the noisy batches after it.

A system that runs through a trial calls its nodes once per step. The probe then reports every
call, or each node once, on average over the trial.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import takewhile
from types import TracebackType
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from noisynets.core.errors import InputError, SystemRefused
from noisynets.core.noise import Injection
from noisynets.core.outer import has_outer
from noisynets.core.trial import Account, Means, populations
from noisynets.core.types import Effect, Node, Report, Response, Track, Wrapper


def find_nodes(system: nn.Module) -> list[Node]:
    """Return the layers with trained weights, in the order in which the system holds them.

    >>> net = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> [node.name for node in find_nodes(net)]
    ['0', '2']
    """
    wrapped = {m.layer for m in system.modules() if isinstance(m, Wrapper)}
    return list(_walk(system, "", seen=wrapped))


def innermost(module: nn.Module) -> nn.Module:
    """Return the layer whose weights are trained: what is left without the wrappers."""
    while isinstance(module, Wrapper) and not has_outer(module):
        module = module.layer
    return module


def _walk(module: nn.Module, name: str, seen: set[nn.Module]) -> Iterator[Node]:
    if module in seen:
        return
    seen.add(module)
    layer = innermost(module)
    if has_outer(layer):
        if any(p.requires_grad for p in layer.parameters()):
            yield Node(name, layer, inlet=module, outlet=module)
        return
    for row in _rows(module, name):
        for i, (path, child) in enumerate(row):
            for node in _walk(child, path, seen):
                behind = _effects(row[i + 1 :]) if node.outlet is child else []
                yield replace(node, name=behind[-1][0], outlet=behind[-1][1]) if behind else node


Row = list[tuple[str, nn.Module]]


def _rows(module: nn.Module, name: str) -> list[Row]:
    """Return the children with their paths, in one row if each surely feeds the next.

    So it is in an `nn.Sequential`, with what is nested in it. A module with a forward() of its
    own may call its children in any order: each is a row of its own.
    """
    children = [
        (f"{name}.{n}".lstrip("."), child)
        for n, child in module._modules.items()
        if child is not None and not (is_chain(child) and not len(child))
    ]
    if not is_chain(module):
        return [[child] for child in children]
    nested = [_rows(m, path)[0] if is_chain(m) else [(path, m)] for path, m in children]
    return [[item for row in nested for item in row]]


def is_chain(module: nn.Module) -> TypeGuard[nn.Sequential]:
    """Whether each child surely feeds the next."""
    return type(module).forward is nn.Sequential.forward


def _effects(following: Row) -> Row:
    """Return the effects that come before anything else."""
    return list(takewhile(lambda item: isinstance(item[1], Effect), following))


def fork(system: nn.Module, nodes: Sequence[Node]) -> Node | None:
    """Return the node at which noisy passes may part from the reference, if that is plain to see.

    Until noise first enters, all passes are equal and one will do. That is certain only where
    a chain of `nn.Sequential` leads straight to a first node without noise of its own; anywhere
    else something (a skip connection around the node, say) might see the rows before it.
    """
    link = first_link(system)
    return nodes[0] if is_quiet(link) and link is nodes[0].outlet else None


def first_link(system: nn.Module) -> nn.Module:
    """Return what a chain's inputs enter first, but for reshapes; the system if it is no chain."""
    link = system
    while is_chain(link):
        reshapes = (nn.Flatten, nn.Unflatten, nn.Identity)
        link = next((m for m in link.children() if not isinstance(m, reshapes)), nn.Identity())
    return link


def is_quiet(module: nn.Module) -> bool:
    """Whether equal inputs surely give equal outputs."""
    if isinstance(module, Wrapper):
        return module.deterministic and is_quiet(module.layer)
    return is_builtin(module)


def is_builtin(module: nn.Module) -> bool:
    """Whether this is a layer as PyTorch made it: anything else may do anything."""
    made = type(module).__module__.startswith("torch.nn.modules.")  # no subclass, parametrization
    return made and has_outer(module) and "forward" not in vars(module)


class Probe:
    """Context manager: while it is open, the system's nodes report.

    Args:
        system: any module.
        nodes: of the system, as `find_nodes` gives them.
        batch: B.
        resamples: K; 0 records x alone.
        injection: what to add at the nodes; None where the noise is the system's own.
        in_turn: pass l·K + k perturbs node l alone, so that P = K · nodes; otherwise every
            noisy pass perturbs all nodes and P = K.
        keep_noise: whether reports carry ξ.
        keep_states: whether reports carry the activity and the differences of the raw input.
        on_average: report each node once, as the mean over its calls, and each population.
        keep_steps: on average, also report the inputs of every step, and what populations did.
        hold_noise: inject the same ξ in all calls of a node.
        apart: the passes go their own ways: keep tracks of all of them instead of reports.

    Attributes:
        reports: one per node and call, in the order of the calls; or one per node, in the order
            of the first calls, once the probe is closed.
        responses: on average, one per population, once the probe is closed.
        tracks: of passes that go their own ways, one per node, once the probe is closed.

    >>> import torch
    >>> net = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> probe = Probe(net, find_nodes(net), batch=4, resamples=2, injection=Injection(0.1))
    >>> with torch.no_grad(), probe:
    ...     output = net(probe.stack(torch.ones(4, 3)))
    >>> output.shape, [tuple(report.delta.shape) for report in probe.reports]
    (torch.Size([12, 1]), [(2, 4, 2), (2, 4, 1)])
    """

    def __init__(
        self,
        system: nn.Module,
        nodes: Sequence[Node],
        *,
        batch: int,
        resamples: int,
        injection: Injection | None = None,
        in_turn: bool = False,
        keep_noise: bool = False,
        keep_states: bool = False,
        on_average: bool = False,
        keep_steps: bool = False,
        hold_noise: bool = False,
        apart: bool = False,
    ) -> None:
        self.reports: list[Report] = []
        self.tracks: list[Track] = []
        self.responses: dict[str, Response] = {}
        self.batch = batch
        self.passes = resamples * len(nodes) if in_turn else resamples
        self._nodes = nodes
        self._injection = injection
        self._keep_noise = keep_noise
        self._keep_states = keep_states
        self._hold_noise = hold_noise
        self._held: dict[int, Tensor] = {}
        self._apart = apart
        self._steps: dict[int, list[tuple[Tensor, Tensor, Tensor, Tensor | None]]] = {}
        self._means: dict[int, Means] | None = {} if on_average else None
        found = populations(system) if on_average and keep_states else {}
        self._keep_steps = keep_steps
        self._accounts = [
            Account(name, population, 1 + self.passes, batch, keep_steps)
            for name, population in found.items()
        ]
        self._own = [
            slice(i * resamples, (i + 1) * resamples) if in_turn else slice(0, resamples)
            for i in range(len(nodes))
        ]
        self._noisy = [slice(own.start + 1, own.stop + 1) for own in self._own]
        self._fork = fork(system, nodes) if injection is not None and self.passes else None
        self._entered: dict[tuple[int, str], tuple[Tensor, Tensor | None]] = {}
        self._copies: dict[int, dict[str, tuple[Tensor, int, Tensor]]] = {}
        self._handles: list[RemovableHandle] = []

    def stack(self, inputs: Tensor) -> Tensor:
        """Return the rows to feed in: the batch, once for every pass that is separate there."""
        if self._fork is not None:
            return inputs
        return torch.cat([inputs] * (1 + self.passes))

    def __enter__(self) -> Probe:
        for index, node in enumerate(self._nodes):
            product = node.layer.core[1] if isinstance(node.layer, Wrapper) else node.layer
            for module, what in {product: "x", node.inlet: "raw"}.items():
                if module is not node.outlet:
                    enter = module.register_forward_pre_hook(
                        self._enters(index, what), with_kwargs=True
                    )
                    self._handles.append(enter)
            leave = node.outlet.register_forward_hook(self._leaves(index), with_kwargs=True)
            self._handles.append(leave)
        for account in self._accounts:
            adds = account.population.register_forward_hook(_adds(account), with_kwargs=True)
            self._handles.append(adds)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._held.clear()
        self._copies.clear()
        self._close_trial()
        unfinished = {self._nodes[index].name for index, _ in self._entered}
        self._entered.clear()
        if unfinished and kind is None:
            raise SystemRefused(
                f"{', '.join(map(repr, sorted(unfinished)))}: an effect that its layer did not "
                "reach: wrap the layer instead: Noisy(layer, effect)"
            )

    def _enters(self, index: int, what: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            entering = _first(args, kwargs).detach()
            shift = self._shift(entering) if what == "raw" else None
            self._entered[index, what] = self._copy(index, what, entering), shift

        return hook

    def _copy(self, index: int, what: str, entering: Tensor) -> Tensor:
        """Copy the reference rows of an input, once for as long as it is the same tensor."""
        rows = len(entering) if self._apart else self.batch
        if entering.is_inference():  # nobody counts the changes of such a tensor
            return entering[:rows].clone()
        copies = self._copies.setdefault(index, {})
        for source, version, copy in copies.values():
            same = source.data_ptr() == entering.data_ptr() and source.stride() == entering.stride()
            if same and source.shape == entering.shape and version == entering._version:
                return copy
        copy = entering[:rows].clone()
        copies[what] = entering, entering._version, copy
        return copy

    def _leaves(self, index: int) -> Callable[..., Tensor | None]:
        node, noisy = self._nodes[index], self._noisy[index]
        sigma = None if self._injection is None else self._injection.sigma
        wanted = self._keep_noise or self._apart

        def hook(module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> Tensor | None:
            parts = node is self._fork and not self.reports and not self._means
            if parts and is_builtin(module):  # in a chain nobody else sees it: no need to copy
                raw, shift = _first(args, kwargs).detach(), None
            elif node.inlet is module:
                entering = _first(args, kwargs).detach()
                raw, shift = self._copy(index, "raw", entering), self._shift(entering)
            else:
                raw, shift = self._entered.pop((index, "raw"))
            x, _ = self._entered.pop((index, "x"), (raw, None))
            if parts:
                output, z = self._part(index, output)
            else:
                output, z = self._add(index, output)
            a = output.unflatten(0, (1 + self.passes, self.batch))
            xi = None if z is None or sigma is None or not wanted else z * sigma
            if self._apart:
                step = (x, raw[: self.batch], output.detach().clone(), xi)
                self._steps.setdefault(index, []).append(step)
                return output
            delta = (a[noisy] - a[0]).detach()
            report = Report(
                node,
                x=x,
                raw=raw,
                delta=delta,
                own=self._own[index],
                xi=xi,
                sigma=sigma,
                a=a[0].detach().clone() if self._keep_states else None,
                shift=shift,
            )
            if self._means is None:
                self.reports.append(report)
            elif index in self._means:
                self._means[index].add_(report)
            else:
                self._means[index] = Means(report, self._hold_noise, self._keep_steps)
            return output

        return hook

    def _part(self, index: int, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """Make the rows of all passes from those of one, with noise in a node's own passes."""
        self._check_rows(index, output, 1)
        a = output.new_empty(1 + self.passes, *output.shape)
        first, last = self._noisy[index].start, self._noisy[index].stop
        assert self._injection is not None, "passes part where noise is injected"
        a[:first], a[last:] = output, output
        noisy, sigma = a[first:last], self._injection.sigma
        z = self._draw(index, noisy)
        if torch.is_grad_enabled():  # there is no derivative of what is written with `out`
            noisy.copy_(output).add_(z, alpha=sigma)
        else:
            torch.add(output, z, alpha=sigma, out=noisy)
        return a.flatten(0, 1), z

    def _add(self, index: int, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """Add noise in a node's own passes, in place."""
        self._check_rows(index, output, 1 + self.passes)
        if self._injection is None or not self.passes:
            return output, None
        if not is_builtin(self._nodes[index].outlet):
            output = output.clone()  # others may hand out a tensor that they keep
        noisy = output.unflatten(0, (1 + self.passes, self.batch))[self._noisy[index]]
        z = self._draw(index, noisy)
        noisy.add_(z, alpha=self._injection.sigma)
        return output, z

    def _draw(self, index: int, like: Tensor) -> Tensor:
        """Draw noise for a node, in units of σ; the same in all of its calls where it is held."""
        assert self._injection is not None
        z = self._held.get(index)
        if z is None or z.shape != like.shape:
            z = self._injection.draw(like.shape, like)
            if z.shape != like.shape:
                raise InputError(
                    f"the noise drawn has shape {tuple(z.shape)}, not the shape asked for"
                )
        if self._hold_noise:
            self._held[index] = z
        return z

    def _close_trial(self) -> None:
        """Report what was added up, or put down, over the trial."""
        self.tracks = [self._track(index, steps) for index, steps in self._steps.items()]
        self._steps = {}
        if self._means is None:
            return
        self.reports = [means.report() for means in self._means.values()]
        found = (account.response() for account in self._accounts)
        self.responses = {response.name: response for response in found if response is not None}
        self._means = {}

    def _track(
        self, index: int, steps: Sequence[tuple[Tensor, Tensor, Tensor, Tensor | None]]
    ) -> Track:
        """Put the steps of a node one behind the other."""
        x, raw, a, xi = zip(*steps, strict=True)
        passes = (1 + self.passes, self.batch)
        injected = [noise for noise in xi if noise is not None]
        return Track(
            self._nodes[index],
            x=torch.stack(x, 1).unflatten(0, passes),
            raw=torch.stack(raw, 1),
            a=torch.stack(a, 1).unflatten(0, passes),
            own=self._own[index],
            xi=torch.stack(injected, 2) if injected else None,
            sigma=None if self._injection is None else self._injection.sigma,
        )

    def _shift(self, whole: Tensor) -> Tensor | None:
        """Differences of a raw input, if they are asked for and it has rows of all passes."""
        if not self._keep_states or len(whole) == self.batch:
            return None
        passes = whole.unflatten(0, (1 + self.passes, self.batch))
        return passes[1:] - passes[0]

    def _check_rows(self, index: int, output: Tensor, passes: int) -> None:
        rows = passes * self.batch
        if output.shape[0] != rows:
            raise SystemRefused(
                f"node {self._nodes[index].name!r}: its output has {output.shape[0]} rows where "
                f"{passes} passes of a batch of {self.batch} make {rows}: keep the "
                f"batch as the first dimension (found shape {tuple(output.shape)})"
            )


def _adds(account: Account) -> Callable[..., None]:
    def hook(module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> None:
        account.add_(_first(args, kwargs), output)

    return hook


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Return the input of a call, whether it was given by position or by name."""
    value: Tensor = args[0] if args else next(iter(kwargs.values()))
    return value
