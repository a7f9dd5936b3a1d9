"""Node perturbation of a network that acts: pairs of roll-outs, each with inputs of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from noisynets.core import decorrelation
from noisynets.core.check import check, check_called, check_dtype, check_noisy
from noisynets.core.errors import InputError, SystemRefused, unknown
from noisynets.core.losses import losses
from noisynets.core.noise import Injection, check_sigma
from noisynets.core.outer import accumulate_
from noisynets.core.probe import Probe
from noisynets.core.trial import trial, wide
from noisynets.core.types import Course, Estimate, Loss, Report, RollOut, Sampler, Track
from noisynets.rules import RULES, SCALINGS, Rule
from noisynets.rules.rule import Scaling

RIDGE = 1e-6
"""Of the regression of activities on inputs, relative to the mean square of an input."""


@dataclass(frozen=True)
class Passes:
    """Which passes of roll-outs teach, and what each is compared with.

    Attributes:
        to_go: losses still to come, (1 + P, B, T).
        alive: whether an episode was still running, (1 + P, B, T).
        injected: the reference pass has no noise of ours, and the others do; else each pass has
            its own, and all teach.
    """

    to_go: Tensor
    alive: Tensor
    injected: bool

    def teaching(self, values: Tensor) -> Tensor:
        """Leave out the reference pass, if it has no noise: (1 + P, ...) → (Q, ...)."""
        return values[1:] if self.injected else values

    def apart(self, values: Tensor) -> Tensor:
        """Difference from the reference pass, or from the mean of the others: (1 + P, ...).

        >>> two = torch.tensor([[1.0], [4.0]])
        >>> [Passes(two, two > 0, injected).apart(two).tolist() for injected in (True, False)]
        [[[0.0], [3.0]], [[-3.0], [3.0]]]
        """
        if self.injected:
            return values - values[0]
        n = len(values)
        return (values - values.mean(0)) * (n / (n - 1))


def differences(track: Track, passes: Passes) -> Tensor:
    """δa, between passes that may be in different states by now: (1 + P, B, T, *out)."""
    other = passes.alive[0] if passes.injected else passes.alive.all(0)
    return _masked(passes.apart(track.a), passes.alive & other)


def innovations(track: Track, passes: Passes) -> Tensor:
    """ε = a − M x − c, what entered at the node, in each pass by itself: (1 + P, B, T, *out).

    M and c are the least-squares fit over all steps of all passes, so that neither weights nor
    noise are read. Where the noise is ours and M fits, ε is ξ up to its own share in the fit.
    """
    return residuals(track.x, track.a, passes.alive)


def residuals(inputs: Tensor, values: Tensor, alive: Tensor) -> Tensor:
    """Return what the best affine fit to inputs leaves of values, (1 + P, B, T, *out).

    Args:
        inputs: (1 + P, B, T, *in).
        values: (1 + P, B, T, *out).
        alive: which steps count, (1 + P, B, T); 0 in the others.
    """
    x, a = wide(inputs).flatten(3), wide(values).flatten(3)
    weight = alive.flatten().to(x)[:, None]
    rows = torch.cat([x, torch.ones_like(x[..., :1])], 3).flatten(0, 2).double()
    moment = rows.T @ (rows * weight)
    ridge = RIDGE * moment.diagonal().mean() + torch.finfo(moment.dtype).tiny
    moment.diagonal().add_(ridge)
    fitted, _ = torch.linalg.solve_ex(moment, rows.T @ (a.flatten(0, 2) * weight).double())
    left = a - (rows @ fitted).to(a).view_as(a)
    return _masked(left.to(values).view_as(values), alive)


def injections(track: Track, passes: Passes) -> Tensor:
    """ξ, as it was injected: (1 + P, B, T, *out); 0 in passes without."""
    assert track.xi is not None, "refused with the settings of the estimator"
    xi = torch.zeros_like(track.a)
    xi[1:][track.own] = track.xi
    return _masked(xi, passes.alive)


def _masked(values: Tensor, alive: Tensor) -> Tensor:
    """Forget what a node did when the episode was over."""
    shape = alive.shape + (1,) * (values.dim() - alive.dim())
    return values * alive.view(shape).to(values)


def judged(
    loss: Loss,
    course: Course,
    targets: Tensor,
    batch: int,
    calls: set[int],
    discount: float,
    injected: bool,
) -> Passes:
    """Put what became of the episodes beside the calls of the nodes.

    Args:
        loss: of returns, also of those still to come.
        course: of all passes, pass after pass.
        targets: of all passes, (R, ...).
        batch: B.
        calls: how often nodes were called.
        discount: γ.
        injected: the noise is ours, and the reference pass has none.

    Raises:
        SystemRefused: where the nodes were not called equally often in every step.
    """
    steps = course.rewards.shape[1]
    if len(calls) > 1 or any(n % steps for n in calls):
        found = " or ".join(map(str, sorted(calls)))
        raise SystemRefused(
            f"layers were called {found} times in {steps} steps: call each equally often in "
            "every step"
        )
    each = targets.repeat_interleave(steps, 0)
    to_go = losses(loss, course.to_go(discount).reshape(-1, 1), each).view(-1, batch, steps)
    repeats = max(calls, default=steps) // steps
    return Passes(
        to_go.repeat_interleave(repeats, 2),
        course.alive.view(-1, batch, steps).repeat_interleave(repeats, 2),
        injected,
    )


ENTERED: dict[str, tuple[Rule, Callable[[Track, Passes], Tensor]]] = {
    "np": (RULES["np"], injections),
    "inp": (RULES["inp"], differences),
    "anp": (RULES["anp"], differences),
    "innovation": (RULES["anp"], innovations),
}
"""Rules for roll-outs, and what each correlates with the loss."""


class RollOutPerturbation:
    """Estimates gradients of the expected loss of episodes, from pairs of roll-outs.

    Perturbed passes of a network that acts part for good: soon they are in different states. So
    credit of a pass goes with the inputs of that pass, and noise gets credit only for what came
    after it: with what entered at node l in step t of pass p, ε_plt, and the losses G_pt still to
    come then,

        ∂loss/∂W_l ≈ mean_p Σ_t (G_pt − G_0t) ε_plt/σ² ⊗ x_plt,

    which is REINFORCE (Williams, Machine Learning 8 (1992) 229) with noise at every node, and the
    other roll-out as the baseline. Unbiased for the expected loss in the noise, at any σ; with the
    inputs of the reference pass it would be so only as long as both are in the same state.

    Args:
        system: what lets the network act.
        loss: (returns (R, 1), targets (R, ...)) → (R,), also of returns still to come.
        rule: 'np' takes ε = ξ, injected; 'innovation' measures it, as what a fit of activities
            to inputs leaves; 'anp' and 'inp' take the differences δa between the passes, which
            also hold those of the states.
        sigma: standard deviation of the injected noise, in units of the activities; None: every
            pass carries the system's own, is compared with the mean of the others, and teaches.
        resamples: K.
        noise: distribution of the injected noise: a name in `SAMPLERS`, or a sampler.
        scaling: a name in `SCALINGS`.
        seed: of the injected noise.
        discount: γ, weight in a credit of a reward that comes one step later. Less than 1 lowers
            the variance, and makes the credit blind to what comes after about 1/(1 − γ) steps.

    Raises:
        InputError: for an unknown name or an impossible setting.
        SystemRefused: where the estimates would be wrong or parameters left untrained.

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
    ) -> None:
        if rule not in ENTERED:
            raise unknown("rule for a network that acts", rule, ENTERED)
        if scaling not in SCALINGS:
            raise unknown("scaling", scaling, SCALINGS)
        if resamples < 1:
            raise InputError(f"resamples {resamples} must be at least 1")
        if not 0 <= discount <= 1:
            raise InputError(f"discount {discount:g} must be within 0..1")
        self.discount = discount
        self.rule, self.entered = ENTERED[rule]
        if sigma is None and (self.rule.injects or scaling == "variance"):
            raise InputError(
                f"rule {rule!r}, scaling {scaling!r}: nothing is injected in intrinsic mode: use "
                "'innovation', or give a sigma"
            )
        self.system = system
        self.loss = loss
        self.scaling = SCALINGS[scaling]
        self.resamples = resamples
        self.injection = None if sigma is None else Injection(sigma, noise, seed)
        self.nodes = check(system)
        if self.injection is not None:
            check_sigma(self.injection.sigma, next(self.nodes[0].layer.parameters()).dtype)
        self._looked = False

    @torch.no_grad()
    def __call__(self, inputs: Tensor, targets: Tensor) -> Estimate:
        """Accumulate the estimate in `.grad`; inputs (B, 1): episodes, targets (B, ...)."""
        batch = len(inputs)
        probe = Probe(
            self.system,
            self.nodes,
            batch=batch,
            resamples=self.resamples,
            injection=self.injection,
            in_turn=self.rule.in_turn,
            apart=True,
        )
        n = 1 + probe.passes
        with trial(self.system), probe:
            returns = self.system(probe.stack(inputs))
            course = self.system.course
        assert course is not None, "a roll-out leaves its course"
        stacked = targets.repeat(n, *[1] * (targets.dim() - 1))
        loss = losses(self.loss, returns, stacked).view(n, batch)
        calls = {track.a.shape[2] for track in probe.tracks}
        passes = judged(
            self.loss, course, stacked, batch, calls, self.discount, self.injection is not None
        )
        reports = [self._report(track, passes) for track in probe.tracks]
        if not self._looked:
            self._look(reports)
        for track, x, credit in credits(self.rule, probe.tracks, reports, passes, self.scaling):
            accumulate_(track.node.layer, x.flatten(0, 1), credit.flatten(0, 1) / batch)
        decorrelation.learn_(reports)
        return Estimate(loss[0], returns[:batch], n * batch)

    def state(self) -> dict[str, Tensor]:
        """Return the state of the stream of injected noise."""
        return {} if self.injection is None else {"stream": self.injection.stream.state()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        if self.injection is not None:
            self.injection.stream.restore(state["stream"])

    def _report(self, track: Track, passes: Passes) -> Report:
        """Return what a rule may know of a node, of the passes whose noise entered there."""
        entered = self.entered(track, passes)
        own = track.own if passes.injected else slice(0, len(entered))
        delta = passes.teaching(entered)[own]
        raw = track.raw.flatten(0, 1)
        sigma = track.sigma
        return Report(track.node, x=raw, raw=raw, delta=delta, own=own, xi=delta, sigma=sigma)

    def _look(self, reports: Sequence[Report]) -> None:
        """Look, at the first batch, at what only a pass can tell."""
        check_called(self.nodes, reports)
        check_dtype(reports)
        if self.injection is None:
            check_noisy(reports)
        self._looked = True


def credits(
    rule: Rule,
    tracks: Sequence[Track],
    reports: Sequence[Report],
    passes: Passes,
    scaling: Scaling,
) -> Iterator[tuple[Track, Tensor, Tensor]]:
    """Ask a rule about one pass after the other, and weigh each step by the losses to come.

    Yields:
        Tracks, and for one pass each: inputs (B, T, *in) and credit (B, T, *out), so that the sum
        of credit ⊗ x is the mean over the passes.
    """
    dloss, alive = passes.teaching(passes.apart(passes.to_go)), passes.teaching(passes.alive)
    ones = torch.ones_like(dloss[..., 0])
    for k in range(len(reports[0].delta)):
        single = [
            replace(
                r,
                delta=r.delta[k : k + 1],
                xi=None if r.xi is None else r.xi[k : k + 1],
                own=slice(r.own.start + k, r.own.start + k + 1),
            )
            for r in reports
        ]
        for track, r, credit in zip(
            tracks, single, rule.credit(single, ones, scaling), strict=True
        ):
            p = r.own.start
            weight = dloss[p] / len(reports[0].delta)
            if rule.scaled:  # N counts steps, and those of an episode that is over do not
                share = alive[p].to(dloss).mean(1, keepdim=True)
                weight = weight * scaling(share, torch.ones_like(share), 1.0)
            shape = weight.shape + (1,) * (credit.dim() - weight.dim())
            yield track, passes.teaching(track.x)[p], credit * weight.view(shape).to(credit)
