"""Feedback for a network that acts: roll-outs judge its outputs, pairs of passes send that down."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from noisynets.core.errors import InputError, unknown
from noisynets.core.losses import losses
from noisynets.core.noise import Injection
from noisynets.core.probe import Probe
from noisynets.core.trial import trial
from noisynets.core.types import Estimate, Loss, RollOut, Sampler
from noisynets.estimators.node_perturbation import NodePerturbation
from noisynets.estimators.roll_out import Passes, judged, residuals
from noisynets.rules.credit import FEEDBACKS, Feedback


class RollOutFeedback:
    """Estimates gradients of the expected loss of episodes, by roll-outs and feedback.

    What an episode says of a network, it says first of its outputs: with the noise ε of the
    outputs o in step t of pass p, and the losses G still to come then,

        e_pt = (G_pt − G_0t) ε_pt/σ²

    is an estimate of ∂loss/∂o_pt (Williams, Machine Learning 8 (1992) 229). Nodes below are not
    judged by the episodes again, each drowning in the noise of all the others. The network passes
    over what it saw once more, now as on examples: in pairs of passes, with the error e·o, and
    any feedback sends that down.

    Args:
        system: what lets the network act.
        loss: (returns (R, 1), targets (R, ...)) → (R,), also of returns still to come.
        rule: a name in `FEEDBACKS`, or a feedback.
        sigma: standard deviation of the injected noise: at the outputs while the network acts,
            at the nodes while feedback learns. None: the outputs' own is measured, as what a fit
            to what enters the last layer leaves.
        resamples: K, of the roll-outs.
        noise: distribution of the injected noise: a name in `SAMPLERS`, or a sampler.
        seed: of the injected noise, and of random feedback.
        discount: γ, weight in a credit of a reward that comes one step later.
        credit_over: of the passes over what was seen; see `NodePerturbation`.

    Raises:
        InputError: for an unknown name or an impossible setting.
        SystemRefused: where the estimates would be wrong or parameters left untrained.

    Cost: (1 + K) B roll-outs, and two passes of the network over all the steps in them that teach.
    """

    def __init__(
        self,
        system: RollOut,
        loss: Loss,
        rule: str | Feedback = "mirrored",
        *,
        sigma: float | None = 0.5,
        resamples: int = 1,
        noise: str | Sampler = "gaussian",
        seed: int = 0,
        discount: float = 1.0,
        credit_over: str | None = None,
    ) -> None:
        if isinstance(rule, str) and rule not in FEEDBACKS:
            raise unknown("feedback for a network that acts", rule, FEEDBACKS)
        if resamples < 1:
            raise InputError(f"resamples {resamples} must be at least 1")
        if not 0 <= discount <= 1:
            raise InputError(f"discount {discount:g} must be within 0..1")
        self.system, self.loss = system, loss
        self.resamples, self.discount = resamples, discount
        self.injection = None if sigma is None else Injection(sigma, noise, seed)
        self.down = NodePerturbation(
            system.network,
            product,
            rule,
            sigma=sigma,
            noise=noise,
            seed=seed + 1,
            credit_over=credit_over,
        )

    @torch.no_grad()
    def __call__(self, inputs: Tensor, targets: Tensor) -> Estimate:
        """Accumulate the estimate in `.grad`; inputs (B, 1): episodes, targets (B, ...)."""
        batch, n = len(inputs), 1 + self.resamples
        rows = inputs.repeat(n, *[1] * (inputs.dim() - 1))
        stacked = targets.repeat(n, *[1] * (targets.dim() - 1))
        own = self.injection is None
        probe = Probe(
            self.system, self.down.nodes, batch=batch, resamples=self.resamples, apart=True
        )
        acting = Acting(self.system.network, batch, self.injection)
        with trial(self.system), acting, probe if own else nullcontext():
            returns = self.system(rows)
            course = self.system.course
        assert course is not None, "a roll-out leaves its course"
        seen, out = (torch.stack(steps, 1).unflatten(0, (n, batch)) for steps in acting.steps)
        calls = out.shape[2]
        passes = judged(self.loss, course, stacked, batch, {calls}, self.discount, injected=not own)
        if self.injection is None:
            entered = probe.tracks[-1].x.unflatten(2, (calls, -1)).mean(3)
            noise = residuals(entered, out, passes.alive)
        else:
            noise = torch.stack(acting.noise, 1).unflatten(0, (n, batch))
        self._send(passes, *(passes.teaching(part) for part in (seen, noise)))
        loss = losses(self.loss, returns, stacked).view(n, batch)
        return Estimate(loss[0], returns[:batch], n * batch)

    def _send(self, passes: Passes, seen: Tensor, noise: Tensor) -> None:
        """Send the error at the outputs down, over all steps in which an episode was running.

        Args:
            passes: which teach, and their losses.
            seen: by the network, (Q, B, T, *in).
            noise: of its outputs, (Q, B, T, *out).
        """
        alive = passes.teaching(passes.alive)
        further = passes.teaching(passes.apart(passes.to_go))[alive]
        noise, seen = noise[alive], seen[alive]
        square = noise.square().mean(0)
        error = further.view(-1, *[1] * (noise.dim() - 1)) * noise
        error = torch.where(square > 0, error / square, 0)
        order = mixed(len(seen), seen.device)  # mirrors look at the first rows
        episodes = alive.shape[0] * alive.shape[1]
        self.down(seen[order], error[order] * (len(seen) / episodes))

    def state(self) -> dict[str, Tensor]:
        """Return the state of the stream of injected noise, and what feedback has learnt."""
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


class Acting:
    """Context manager: while it is open, what a network sees and does is put down, step by step.

    Args:
        network: that acts.
        batch: B; rows after these belong to passes with noise.
        injection: what to add to the outputs of these; None: nothing.

    Attributes:
        steps: of what was seen (R, *in), and of outputs (R, *out).
        noise: that was added, (R, *out) in every step.
    """

    def __init__(self, network: nn.Module, batch: int, injection: Injection | None) -> None:
        self.steps: tuple[list[Tensor], list[Tensor]] = ([], [])
        self.noise: list[Tensor] = []
        self._network, self._batch, self._injection = network, batch, injection

    def __enter__(self) -> Acting:
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


def mixed(n: int, device: torch.device) -> Tensor:
    """Return the numbers below n so that those that were neighbours are far apart.

    >>> mixed(5, torch.device("cpu")).tolist()
    [0, 2, 4, 1, 3]
    """
    golden = (5**0.5 - 1) / 2
    return (torch.arange(n, dtype=torch.float64, device=device) * golden).frac().argsort()
