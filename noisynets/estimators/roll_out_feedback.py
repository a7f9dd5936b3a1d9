"""RollOutFeedback: feedback for networks that act; roll-outs give the error at the outputs."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from noisynets.core.check import check_acting, not_acting
from noisynets.core.errors import InputError, SystemRefused
from noisynets.core.losses import losses
from noisynets.core.nodes import find_nodes, survey
from noisynets.core.noise import Injection
from noisynets.core.notes import Note
from noisynets.core.pages import Page
from noisynets.core.probe import Probe
from noisynets.core.record import Needs
from noisynets.core.seeds import salted
from noisynets.core.trial import RollOut, trial
from noisynets.core.types import Estimate, Loss, Sampler
from noisynets.estimators.named import no_rule
from noisynets.estimators.node_perturbation import NodePerturbation, shared
from noisynets.estimators.roll_out import judged_passes
from noisynets.rules import RULES, Rule
from noisynets.rules.roll_outs import RollOutPasses, residuals


class RollOutFeedback:
    """Estimates gradients of the expected loss of episodes, by roll-outs and feedback.

    An episode first gives an estimate for the outputs: with the noise ε of the outputs o in step t
    of pass p, and the losses G still to come,

        e_pt = (G_pt − G_0t) ε_pt/σ²

    is an estimate of ∂loss/∂o_pt (Williams, Machine Learning 8 (1992) 229). Hidden nodes are not
    estimated from the episodes, where the noise of all other nodes would be added to theirs.
    Instead the network runs on the recorded inputs once more, in pairs of passes with the loss
    e·o, and a feedback rule sends the error down, as in supervised training.

    Args:
        system: runs the episodes of the network.
        loss: (returns (R, 1), targets (R, ...)) → (R,), also of returns still to come.
        rule: a name in `RULES` of a rule that starts from the error, or such a rule.
        sigma: standard deviation of the injected noise: at the outputs while the network acts,
            at the nodes while feedback learns. None: the outputs' own noise is measured, as the
            residual of a fit to the inputs of the last layer.
        resamples: K, of the roll-outs.
        noise: distribution of the injected noise: a name in `SAMPLERS`, or a sampler.
        seed: of the injected noise, and of what the rule draws.
        discount: γ, weight in a credit of a reward that comes one step later.
        verify: check the network on its first inputs; see `NodePerturbation`.

    Raises:
        InputError: for an unknown name or an impossible setting.
        SystemRefused: if the estimates would be wrong or parameters not trained.

    Cost: (1 + K) B roll-outs, and two passes of the network over all recorded steps that are used.
    """

    def __init__(
        self,
        system: RollOut,
        loss: Loss,
        rule: str | Rule = "mirrored",
        *,
        sigma: float | None = 0.5,
        resamples: int = 1,
        noise: str | Sampler = "gaussian",
        seed: int = 0,
        discount: float = 1.0,
        verify: bool = True,
    ) -> None:
        if isinstance(rule, str):
            known = {name: entry for name, entry in RULES.items() if entry.sends_error}
            if rule not in known:
                raise no_rule(rule, "feedback for a network that acts", known)
        if resamples < 1:
            raise InputError(f"resamples {resamples} must be at least 1")
        if not 0 <= discount <= 1:
            raise InputError(f"discount {discount:g} must be within 0..1")
        check_acting(system)
        self.system, self.loss = system, loss
        self.resamples, self.discount = resamples, discount
        self.injection = (
            None if sigma is None else Injection(sigma, noise, seed, purpose="noise of actions")
        )
        self.down = NodePerturbation(
            system.network,
            product,
            rule,
            sigma=sigma,
            noise=noise,
            seed=salted(seed, "pairs of passes"),
            verify=verify,
        )
        if not self.down.rule.needs(system.network).error:
            raise InputError(
                f"{type(self.down.rule).__name__} does not start from the error at the output: use "
                "RollOutPerturbation"
            )

    @property
    def notes(self) -> tuple[Note, ...]:
        """What the estimator has warned of, each kind once."""
        return self.down.notes

    @property
    def fallbacks(self) -> tuple[str, ...]:
        """Paths of nodes with learned credit, because no credit passes what lies behind them."""
        return self.down.fallbacks

    @torch.no_grad()
    def __call__(self, inputs: Tensor, targets: Tensor) -> Estimate:
        """Accumulate the estimate in `.grad`; inputs (B, 1): episodes, targets (B, ...)."""
        batch, n = len(inputs), 1 + self.resamples
        rows = inputs.repeat(n, *[1] * (inputs.dim() - 1))
        stacked = targets.repeat(n, *[1] * (targets.dim() - 1))
        own = self.injection is None
        probe = Probe(
            survey(self.system, find_nodes(self.system)),
            batch=batch,
            resamples=self.resamples,
            needs=Needs(trajectories=True),
        )
        acting = OutputRecorder(self.system.network, batch, self.injection)
        with trial(self.system), acting, probe if own else nullcontext():
            returns = self.system(rows)
            log = self.system.log
        assert log is not None, "a roll-out leaves its log"
        seen, out = (torch.stack(steps, 1).unflatten(0, (n, batch)) for steps in acting.steps)
        calls = out.shape[2]
        passes = judged_passes(
            self.loss, log, stacked, batch, {calls}, self.discount, injected=not own
        )
        if self.injection is None:
            entered = probe.trajectories[-1].x.unflatten(2, (calls, -1)).mean(3)
            noise = residuals(entered, out, passes.alive)
        else:
            noise = torch.stack(acting.noise, 1).unflatten(0, (n, batch))
        self._send(passes, *(passes.used(part) for part in (seen, noise)))
        loss = losses(self.loss, returns, stacked).view(n, batch)
        return Estimate(loss[0], returns[:batch], n * batch)

    def _send(self, passes: RollOutPasses, seen: Tensor, noise: Tensor) -> None:
        """Send the error at the outputs down, over all steps in which an episode was running.

        Args:
            passes: gives the losses still to come.
            seen: inputs of the network, (Q, B, T, *in).
            noise: of its outputs, (Q, B, T, *out).
        """
        alive = passes.used(passes.alive)
        further = passes.used(passes.compared(passes.to_go))[alive]
        noise, seen = noise[alive], seen[alive]
        square = noise.square().mean(0)
        error = further.view(-1, *[1] * (noise.dim() - 1)) * noise
        error = torch.where(square > 0, error / square, 0)
        order = scattered(len(seen), seen.device)  # mirrors use the first rows
        episodes = alive.shape[0] * alive.shape[1]
        self.down(seen[order], error[order] * (len(seen) / episodes))
        if shared(self.down):
            raise SystemRefused(not_acting(shared(self.down)), page=Page.POLICIES)

    def state(self) -> dict[str, Tensor]:
        """Return the state of the stream of injected noise, and what the rule has learnt."""
        stream = {} if self.injection is None else {"stream": self.injection.stream.state()}
        return stream | {f"down|{name}": value for name, value in self.down.state().items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        if self.injection is not None:
            self.injection.stream.restore(state["stream"])
        prefix = "down|"
        self.down.restore(
            {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        )


class OutputRecorder:
    """Context manager: while it is open, inputs and outputs of a network are recorded.

    Args:
        network: that acts.
        batch: B; the rows after the first B belong to passes with noise.
        injection: noise that is added to the outputs of these; None: none.

    Attributes:
        steps: inputs (R, *in) and outputs (R, *out) of every step.
        noise: that was added, (R, *out) in every step.
    """

    def __init__(self, network: nn.Module, batch: int, injection: Injection | None) -> None:
        self.steps: tuple[list[Tensor], list[Tensor]] = ([], [])
        self.noise: list[Tensor] = []
        self._network, self._batch, self._injection = network, batch, injection

    def __enter__(self) -> OutputRecorder:
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            xi = torch.zeros_like(output)
            if self._injection is not None:
                xi[self._batch :] = self._injection(output[self._batch :].shape, like=output)
                self.noise.append(xi)
            seen, done = self.steps
            seen.append(args[0].clone())
            done.append(output + xi)
            return done[-1].clone()

        self._handle = self._network.register_forward_hook(hook)
        return self

    def __exit__(self, *raised: object) -> None:
        self._handle.remove()


def product(outputs: Tensor, error: Tensor) -> Tensor:
    """Loss e·o of outputs (R, *out), whose derivative is the error e: (R,)."""
    return (outputs * error).flatten(1).sum(1)


def scattered(n: int, device: torch.device) -> Tensor:
    """Return the numbers below n in an order in which neighbours are far apart.

    >>> scattered(5, torch.device("cpu")).tolist()
    [0, 2, 4, 1, 3]
    """
    golden = (5**0.5 - 1) / 2
    return (torch.arange(n, dtype=torch.float64, device=device) * golden).frac().argsort()
