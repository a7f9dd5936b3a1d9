"""RollOutPerturbation: node perturbation of a network that acts, from pairs of roll-outs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn

from noisynets.core.check import (
    check,
    check_acting,
    check_between,
    check_called,
    check_dtype,
    check_noisy,
    not_acting,
)
from noisynets.core.decorrelation import learn_
from noisynets.core.errors import InputError, SystemRefused
from noisynets.core.losses import losses
from noisynets.core.nodes import survey
from noisynets.core.noise import Injection, check_sigma
from noisynets.core.notes import Note
from noisynets.core.outer import accumulate_
from noisynets.core.pages import Page
from noisynets.core.probe import Probe
from noisynets.core.record import Needs, NodeRecord, Record, Trajectory
from noisynets.core.trial import RollOut
from noisynets.core.types import EpisodeLog, Estimate, Loss, Node, Sampler
from noisynets.core.verify import verify
from noisynets.estimators.named import no_rule
from noisynets.estimators.obstacles import LOOKS, Batch, Obstacles
from noisynets.rules import RULES, Rule
from noisynets.rules.roll_outs import RollOutPasses
from noisynets.rules.rule import RollOutForm
from noisynets.rules.scaling import Scaling, find_scaling


def judged_passes(
    loss: Loss,
    log: EpisodeLog,
    targets: Tensor,
    batch: int,
    calls: set[int],
    discount: float,
    injected: bool,
) -> RollOutPasses:
    """Return the losses still to come in every call of the nodes.

    Args:
        loss: of returns, also of those still to come.
        log: of the episodes of all passes, pass after pass.
        targets: of all passes, (R, ...).
        batch: B.
        calls: numbers of calls of the nodes.
        discount: γ.
        injected: noise is injected into all passes but the reference.

    Raises:
        SystemRefused: if the nodes were not called equally often in every step.
    """
    steps = log.rewards.shape[1]
    if len(calls) > 1 or any(n % steps for n in calls):
        found = " or ".join(map(str, sorted(calls)))
        raise SystemRefused(
            f"layers were called {found} times in {steps} steps: call each equally often in "
            "every step"
        )
    each = targets.repeat_interleave(steps, 0)
    to_go = losses(loss, log.to_go(discount).reshape(-1, 1), each).view(-1, batch, steps)
    repeats = max(calls, default=steps) // steps
    return RollOutPasses(
        to_go.repeat_interleave(repeats, 2),
        log.alive.view(-1, batch, steps).repeat_interleave(repeats, 2),
        injected,
    )


class RollOutPerturbation:
    """Estimates gradients of the expected loss of episodes, from pairs of roll-outs.

    The perturbed passes of a network that acts are soon in different states. The credit of a pass
    therefore belongs to the inputs of that pass, and noise gets credit only for what follows it:
    with ε_plt, what entered at node l in step t of pass p, and G_pt, the losses still to come,

        ∂loss/∂W_l ≈ mean_p Σ_t (G_pt − G_0t) ε_plt/σ² ⊗ x_plt,

    which is REINFORCE (Williams, Machine Learning 8 (1992) 229) with noise at every node, and the
    other roll-out as the baseline. Unbiased for the expected loss in the noise, at any σ. With the
    inputs of the reference pass it would be unbiased only while both are in the same state.

    Args:
        system: runs the episodes of the network.
        loss: (returns (R, 1), targets (R, ...)) → (R,), also of returns still to come.
        rule: a name in `RULES` with a form for roll-outs: 'np' takes ε = ξ, the injected noise;
            'innovation' measures it, as the residual of a fit of activities to inputs; 'anp' and
            'inp' take the differences δa between the passes, which contain those of the states.
        sigma: standard deviation of the injected noise, in units of the activities. None: every
            pass has the system's own noise, is compared with the mean of the others, and is used.
        resamples: K.
        noise: distribution of the injected noise: a name in `SAMPLERS`, or a sampler.
        scaling: a name in `SCALINGS`.
        seed: of the injected noise.
        discount: γ, weight in a credit of a reward that comes one step later. Less than 1 lowers
            the variance, and makes the credit blind to what comes after about 1/(1 − γ) steps.
        verify: check the network on its first inputs; see `NodePerturbation`.

    Raises:
        InputError: for an unknown name or an impossible setting.
        SystemRefused: if the estimates would be wrong or parameters not trained.

    Cost: (1 + K) B roll-outs (INP: 1 + K·layers); memory grows with their length.
    """

    def __init__(
        self,
        system: RollOut,
        loss: Loss,
        rule: str = "np",
        *,
        sigma: float | None = 0.5,
        resamples: int = 1,
        noise: str | Sampler = "gaussian",
        scaling: str = "count",
        seed: int = 0,
        discount: float = 1.0,
        verify: bool = True,
    ) -> None:
        form = _form(rule)
        _check_ranges(resamples, discount)
        self.discount = discount
        scaled, factor = "scaling" in form.options, find_scaling(scaling)
        self.scaling = factor if scaled else None
        options = {"scaling": scaling} if scaled else {}
        self.rule, self.entered = form.make(seed, **options), form.entered
        self.needs = self.rule.needs(system)
        if sigma is None and self.needs.injection:
            raise _needs_injection(rule, scaling)
        self.system, self.loss = system, loss
        self.resamples = resamples
        self.injection = None if sigma is None else Injection(sigma, noise, seed)
        check_acting(system)
        self.nodes = check(system)
        if self.injection is not None:
            check_sigma(self.injection.sigma, next(self.nodes[0].layer.parameters()).dtype)
        self._survey = survey(system, self.nodes)
        check_between(self._survey.parameters)
        self._checked, self._verifies = False, verify
        self._obstacles = Obstacles(system.network)

    @property
    def notes(self) -> tuple[Note, ...]:
        """What the estimator has warned of, each kind once."""
        return tuple(self._obstacles.notes)

    @torch.no_grad()
    def __call__(self, inputs: Tensor, targets: Tensor) -> Estimate:
        """Accumulate the estimate in `.grad`; inputs (B, 1): episodes, targets (B, ...)."""
        batch = len(inputs)
        probe = Probe(
            self._survey,
            batch=batch,
            resamples=self.resamples,
            injection=self.injection,
            needs=Needs(trajectories=True, per_node=self.needs.per_node),
        )
        n = 1 + probe.passes
        verifies = self._verifies and not self._checked
        with probe, FirstCall(self.system.network) if verifies else nullcontext() as first:
            returns = self.system(probe.stack(inputs))
            log = self.system.log
        assert log is not None, "a roll-out leaves its log"
        stacked = targets.repeat(n, *[1] * (targets.dim() - 1))
        loss = losses(self.loss, returns, stacked).view(n, batch)
        self._obstacles.steps += 1
        if self._obstacles.steps in LOOKS:
            seen = Batch(None, batch, None, loss, probe.sigma, reads_dloss=True)
            self._obstacles.look(seen)
        calls = {trajectory.a.shape[2] for trajectory in probe.trajectories}
        passes = judged_passes(
            self.loss, log, stacked, batch, calls, self.discount, self.injection is not None
        )
        records = [self._record(trajectory, passes) for trajectory in probe.trajectories]
        if not self._checked:
            self._check_first(records)
        if first is not None:
            verify_network(self.system.network, self.nodes, first, self.injection is not None)
        for found, x, credit in credits(
            self.rule, probe.trajectories, records, passes, self.scaling
        ):
            accumulate_(found.node.layer, x.flatten(0, 1), credit.flatten(0, 1) / batch)
        learn_(records)
        return Estimate(loss[0], returns[:batch], n * batch)

    def state(self) -> dict[str, Tensor]:
        """Return the state of the stream of injected noise, and the number of steps."""
        stream = {} if self.injection is None else {"stream": self.injection.stream.state()}
        return stream | {"looks": self._obstacles.state()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        if self.injection is not None:
            self.injection.stream.restore(state["stream"])
        self._obstacles.restore(state.get("looks"))

    def _record(self, trajectory: Trajectory, passes: RollOutPasses) -> NodeRecord:
        """Return the record of a node, of the passes whose noise entered there."""
        entered = self.entered(trajectory, passes)
        own = trajectory.own if passes.injected else slice(0, len(entered))
        delta = passes.used(entered)[own]
        raw = trajectory.raw.flatten(0, 1)
        return NodeRecord(
            trajectory.node,
            x=raw,
            raw=raw,
            delta=delta,
            own=own,
            xi=delta,
            sigma=trajectory.sigma,
        )

    def _check_first(self, records: Sequence[NodeRecord]) -> None:
        """Check the first batch for what only a pass can show."""
        check_called(self.nodes, records)
        check_dtype(records)
        if self.injection is None:
            check_noisy(records)
        self._checked = True


class FirstCall:
    """Context manager: while it is open, the first call of a network is recorded.

    Args:
        network: that acts.

    Attributes:
        inputs: (R, *in).
        output: (R, *out).
    """

    inputs: Tensor
    output: Tensor

    def __init__(self, network: nn.Module) -> None:
        self._network = network

    def __enter__(self) -> FirstCall:
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            self.inputs, self.output = args[0].clone(), output.clone()
            self._handle.remove()

        self._handle = self._network.register_forward_hook(hook)
        return self

    def __exit__(self, *raised: object) -> None:
        self._handle.remove()


def verify_network(
    network: nn.Module, nodes: Sequence[Node], first: FirstCall, injects: bool
) -> None:
    """Verify a network on its first inputs; see `noisynets.core.verify`.

    Raises:
        SystemRefused: also for what passes that receive different inputs cannot share.
    """
    weights = torch.linspace(1, 2, first.output[0].numel()).to(first.output)
    targets = weights.view(first.output.shape[1:]).expand(first.output.shape)
    found = verify(network, nodes, weighted, first.inputs, targets, len(targets), injects)
    if found.shared:
        raise SystemRefused(not_acting(found.shared), page=Page.POLICIES)
    check_between([node.name for node in nodes if node.layer in found.rowless])


def weighted(outputs: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of outputs (R, *out) → (R,)."""
    return (outputs * weights).flatten(1).sum(1)


def _check_ranges(resamples: int, discount: float) -> None:
    if resamples < 1:
        raise InputError(f"resamples {resamples} must be at least 1")
    if not 0 <= discount <= 1:
        raise InputError(f"discount {discount:g} must be within 0..1")


def _needs_injection(rule: str, scaling: str) -> InputError:
    return InputError(
        f"rule {rule!r}, scaling {scaling!r}: nothing is injected in intrinsic mode: use "
        "'innovation', or give a sigma"
    )


def _form(rule: str) -> RollOutForm:
    """Return the form of a rule for roll-outs."""
    forms = {name: entry.roll_out for name, entry in RULES.items() if entry.roll_out is not None}
    if rule not in forms:
        raise no_rule(rule, "rule for a network that acts", forms)
    return forms[rule]


def credits(
    rule: Rule,
    trajectories: Sequence[Trajectory],
    records: Sequence[NodeRecord],
    passes: RollOutPasses,
    scaling: Scaling | None,
) -> Iterator[tuple[Trajectory, Tensor, Tensor]]:
    """Apply a rule to one pass after the other, and weigh each step by the losses to come.

    Yields:
        Trajectories, and for one pass each: inputs (B, T, *in) and credit (B, T, *out), so that
        the sum of credit ⊗ x is the mean over the passes.
    """
    dloss, alive = passes.used(passes.compared(passes.to_go)), passes.used(passes.alive)
    ones = torch.ones_like(dloss[..., 0])
    for k in range(len(records[0].delta)):
        single = [
            replace(
                r,
                delta=r.delta[k : k + 1],
                xi=None if r.xi is None else r.xi[k : k + 1],
                own=slice(r.own.start + k, r.own.start + k + 1),
            )
            for r in records
        ]
        for trajectory, r, credit in zip(
            trajectories, single, rule(Record(single, ones)), strict=True
        ):
            assert isinstance(credit, Tensor), "rules for roll-outs give one credit per call"
            p = r.own.start
            weight = dloss[p] / len(records[0].delta)
            if scaling is not None:  # N counts steps, and those after the end of an episode do not
                share = alive[p].to(dloss).mean(1, keepdim=True)
                weight = weight * scaling(share, torch.ones_like(share), 1.0)
            shape = weight.shape + (1,) * (credit.dim() - weight.dim())
            yield trajectory, passes.used(trajectory.x)[p], credit * weight.view(shape).to(credit)
