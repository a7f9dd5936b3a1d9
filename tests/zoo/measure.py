"""One architecture under `np`, as it is and with parts of it frozen: agreed, refused, wrong, ..."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from architecture import Architecture
from doubled import doubled
from exact_np import (
    STEP,
    Agreement,
    agreements,
    autograd_gradients,
    components,
    nodes_alone,
    np_gradients,
)
from torch import Tensor, nn

from noisynets import NodePerturbation
from noisynets.core.errors import InputError
from noisynets.core.types import Loss
from noisynets.estimators.node_perturbation import pairs

LAYERS = (
    *(nn.Linear, nn.Embedding, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm),
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
)
"""Layers that are trained, by their exact type."""
LARGE = 1e6
"""The ratio of norms is cut here: where the gradient is 0, an estimate has no ratio to it."""
SPREAD = 0.1
"""Standard deviation of what is added to every weight, so that none of them is 0."""
MOST = 8_000
"""Components that are perturbed one by one; an architecture with more is declared too large."""


@dataclass
class Attempt:
    """What one variant of an architecture gave.

    Attributes:
        variant: what was changed: a key of `VARIANTS`.
        outcome: 'agrees', 'refused', 'wrong', 'crashed', 'too large' or 'broken' (the architecture
            itself does not run).
        message: of the refusal or error.
        named: the message names a module of the system.
        trained: parameters that are trained, as numbers.
        components: of the activities of all nodes.
        compared: parameters whose gradients are not negligible, and of these the wrong ones.
        cosine: the lowest of these.
        ratio: of the norms, furthest from 1.
        single: of what agrees, in float32: 'accepted', or the refusal; empty where it does not
            run in float32.
        worst: path of the parameter with the lowest cosine.
    """

    variant: str
    outcome: str = ""
    message: str = ""
    named: bool = True
    trained: int = 0
    components: int = 0
    compared: tuple[int, int] = (0, 0)
    cosine: float | None = None
    ratio: float | None = None
    worst: str = ""
    single: str = ""
    seconds: float = 0.0


def as_it_is(system: nn.Module) -> None:
    system.train()


def evaluating(system: nn.Module) -> None:
    system.eval()


def norms_frozen(system: nn.Module) -> None:
    system.eval()
    for module in system.modules():
        if "norm" in type(module).__name__.lower():
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)


def layers_alone(system: nn.Module) -> None:
    """Train what is owned by a layer of PyTorch alone."""
    system.eval().requires_grad_(False)
    for module in system.modules():
        if type(module) in LAYERS:
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(True)
    for module in system.modules():
        if type(module) not in LAYERS:
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)  # tied to a layer's


AS_IS = "as it is"
VARIANTS: dict[str, Callable[[nn.Module], None]] = {
    AS_IS: as_it_is,
    "eval": evaluating,
    "eval, norms frozen": norms_frozen,
    "eval, layers of PyTorch alone": layers_alone,
}
"""In this order, until one is accepted."""


SHARED = "accepted"
"""Batch statistics or random masks are shared by the passes: compared in evaluation mode."""
AS_TOLD = "eval, as refusals say"
"""The last variant: what the refusals name is frozen, until nothing is refused."""
ROUNDS = 8


def attempts(architecture: Architecture) -> Iterator[Attempt]:
    """Try the variants in turn; ends after the first that is not refused."""
    before = None
    for variant, change in VARIANTS.items():
        system = _changed(architecture, change)
        now = [p.requires_grad for p in system.parameters()], [m.training for m in system.modules()]
        if now == before:
            continue
        before = now
        attempt = _attempt(architecture, system, variant)
        yield attempt
        if attempt.outcome not in ("refused", SHARED):
            return
    yield from _as_told(architecture, attempt)


def _as_told(architecture: Architecture, refused: Attempt) -> Iterator[Attempt]:
    """Freeze what each refusal names, and try again."""
    frozen: set[str] = set()
    for _ in range(ROUNDS):
        system = _changed(architecture, layers_alone)
        named = set(_named(refused.message, system)) - frozen
        if not named:
            return
        frozen |= named
        for name in frozen:
            system.get_submodule(name).requires_grad_(False)
        refused = _attempt(architecture, system, AS_TOLD)
        if refused.outcome != "refused":
            yield refused
            return


def _changed(architecture: Architecture, change: Callable[[nn.Module], None]) -> nn.Module:
    """Build a system and change it; what the package froze stays frozen."""
    torch.manual_seed(0)
    system = _randomised(architecture.build().double())
    trained = [p.requires_grad for p in system.parameters()]
    change(system)
    for parameter, was in zip(system.parameters(), trained, strict=True):
        parameter.requires_grad_(parameter.requires_grad and was)
    return system


def _randomised(system: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in system.parameters():
            if parameter.is_floating_point():
                parameter.add_(SPREAD * torch.randn_like(parameter))
    return system


def _attempt(architecture: Architecture, system: nn.Module, variant: str) -> Attempt:
    trained = sum(p.numel() for p in system.parameters() if p.requires_grad)
    attempt = Attempt(variant, trained=trained)
    if not attempt.trained:
        attempt.outcome, attempt.message = "refused", "nothing is left to train"
        return attempt
    torch.manual_seed(1)
    inputs = architecture.inputs()
    inputs = inputs.double() if inputs.is_floating_point() else inputs
    start = time.perf_counter()
    loss = partial(_loss, architecture)
    with doubled():
        targets = _judge(attempt, architecture, system, loss, inputs)
    if attempt.outcome == "agrees":
        attempt.single = _in_single(system, loss, inputs, targets)
    attempt.seconds = round(time.perf_counter() - start, 2)
    return attempt


def _judge(
    attempt: Attempt, architecture: Architecture, system: nn.Module, loss: Loss, inputs: Tensor
) -> Tensor:
    """Fill in the outcome; returns the targets."""
    try:
        targets = _targets(architecture, system, inputs)
        truth = _truth(architecture, system, loss, inputs, targets)
    except Exception:
        attempt.outcome, attempt.message = "broken", _last(traceback.format_exc())
        return inputs
    try:
        _compare(attempt, system, loss, inputs, targets, truth, architecture.rows)
    except InputError as error:
        attempt.outcome, attempt.message = "refused", str(error)
        attempt.named = _names_module(str(error), system)
    except Exception:
        attempt.outcome, attempt.message = "crashed", _last(traceback.format_exc())
    return targets


def _truth(
    architecture: Architecture, system: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor
) -> dict[str, Tensor]:
    """The gradient of the mean loss, by parameter."""
    if architecture.differences:
        return difference_gradients(system, loss, inputs, targets)
    if not loss(system(inputs), targets).requires_grad:
        return {n: torch.zeros_like(p) for n, p in system.named_parameters() if p.requires_grad}
    return autograd_gradients(system, loss, inputs, targets)


@torch.no_grad()
def difference_gradients(
    system: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor
) -> dict[str, Tensor]:
    """The gradient of the mean loss by central differences, weight by weight."""
    found = {}
    for name, parameter in system.named_parameters():
        if not parameter.requires_grad:
            continue
        flat, gradient = parameter.data.view(-1), torch.zeros(parameter.numel()).to(parameter)
        for i in range(len(flat)):
            before = flat[i].clone()
            ends = []
            for step in (STEP, -STEP):
                flat[i] = before + step
                ends.append(loss(system(inputs), targets).mean())
            flat[i] = before
            gradient[i] = (ends[0] - ends[1]) / (2 * STEP)
        found[name] = gradient.view_as(parameter)
    return found


def _loss(architecture: Architecture, outputs: Any, targets: Tensor) -> Tensor:
    """Half the squared distance from the targets, (R,)."""
    found = architecture.tensor(outputs)
    return (found.flatten(1) - targets).square().sum(1) / 2


@torch.no_grad()
def _targets(architecture: Architecture, system: nn.Module, inputs: Tensor) -> Tensor:
    """Random targets for the outputs, (B, n)."""
    like = architecture.tensor(system(inputs)).flatten(1)
    assert len(like) == len(inputs), like.shape
    return torch.randn_like(like, dtype=torch.float64)


def _in_single(system: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor) -> str:
    """What the estimator says to the same system in float32."""
    torch.set_default_dtype(torch.float32)
    inputs = inputs.to(torch.float32) if inputs.is_floating_point() else inputs
    system, targets = system.to(torch.float32), targets.to(torch.float32)
    try:
        loss(system(inputs), targets)
    except RuntimeError:
        return ""  # it does not run
    try:
        components(system, loss, inputs, targets)
    except InputError as error:
        return str(error)
    except Exception:
        return f"crashed: {_last(traceback.format_exc())}"
    finally:
        torch.set_default_dtype(torch.float64)
    return "accepted"


def _compare(
    attempt: Attempt,
    system: nn.Module,
    loss: Loss,
    inputs: Tensor,
    targets: Tensor,
    truth: dict[str, Tensor],
    rows: int,
) -> None:
    if attempt.variant == AS_IS and _shares(system, loss, inputs, targets):
        attempt.outcome = SHARED
        return
    attempt.components = components(system, loss, inputs, targets)
    if attempt.components > MOST:
        attempt.outcome = "too large"
        return
    with nodes_alone(system, inputs):
        gradients = np_gradients(system, loss, inputs, targets, rows=rows)
    found = agreements(gradients, {name: truth[name] for name in gradients})
    counted = [a for a in found if not (a.equal and not alike(a))]
    wrong = [a for a in counted if not a.equal]
    attempt.compared = len(counted), len(wrong)
    attempt.outcome = "wrong" if wrong else "agrees"
    if counted:
        worst = min(counted, key=lambda a: a.cosine)
        attempt.cosine, attempt.worst = worst.cosine, worst.name
        ratio = max((a.ratio for a in counted), key=lambda r: abs(r - 1))
        attempt.ratio = min(ratio, LARGE)


def _shares(system: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor) -> bool:
    """Return True if all passes share batch statistics or random masks."""
    with nodes_alone(system, inputs):
        estimator = NodePerturbation(system, loss, "np", sigma=STEP)
        estimator(inputs, targets)
    system.zero_grad()
    return pairs(estimator)


def alike(a: Agreement) -> bool:
    """Cosine and norm agree; if they do not, an equal gradient is a negligible one."""
    return a.cosine >= 0.999 and 0.99 <= a.ratio <= 1.01


def _named(message: str, system: nn.Module) -> list[str]:
    """The paths of the modules that a message names."""
    return [name for name, _ in system.named_modules() if name and f"{name!r}" in message]


def _names_module(message: str, system: nn.Module) -> bool:
    return "the system itself" in message or bool(_named(message, system))


def _last(trace: str) -> str:
    lines = [line.strip() for line in trace.strip().splitlines()]
    places = [line for line in lines if line.startswith("File")]
    return f"{lines[-1]} ({places[-1] if places else ''})"
