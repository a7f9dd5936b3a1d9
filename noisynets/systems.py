"""The systems on the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import nn

from noisynets.models import Build, conv, lif, lif_conv, mlp, rlif


@dataclass(frozen=True)
class System:
    """A system on the command line.

    Attributes:
        name: as on the command line.
        summary: one line.
        build: (input_shape, outputs, settings) → the module.
        hidden: widths where none are given.
        intrinsic_noise: σ of its own noise where none is given.
        device_preset: device where none is given; None: none.
        heeds: settings of its units, as `Build` names them.
        spiking: takes its inputs step by step, (B, T, *in).
        sigma: of what is injected into it where it has no noise of its own; None: the rule's.
    """

    name: str
    summary: str
    build: Callable[[Sequence[int], int, Build], nn.Module]
    hidden: tuple[int, ...]
    intrinsic_noise: float = 0.0
    device_preset: str | None = None
    heeds: tuple[str, ...] = ()
    spiking: bool = False
    sigma: float | None = None


_LIF = ("neuron", "beta", "threshold", "firing", "firing_noise", "membrane_noise", "readout")

SYSTEMS: dict[str, System] = {
    system.name: system
    for system in (
        System(
            "noisy-mlp",
            "LeakyReLU perceptron with Gaussian noise of its own at every node (default)",
            mlp,
            (64, 64),
            intrinsic_noise=0.1,
            heeds=("slope",),
        ),
        System(
            "mlp",
            "LeakyReLU perceptron without noise of its own",
            mlp,
            (64, 64),
            heeds=("slope",),
        ),
        System(
            "sign-mlp",
            "perceptron of hard signs, ±1, with Gaussian noise of its own at every node",
            partial(mlp, unit="sign"),
            (256, 256),
            intrinsic_noise=0.3,
        ),
        System(
            "step-mlp",
            "perceptron of hard steps, 0 or 1, with Gaussian noise of its own at every node",
            partial(mlp, unit="step"),
            (256, 256),
            intrinsic_noise=0.3,
        ),
        System(
            "bernoulli-mlp",
            "perceptron of stochastic binary units, with Gaussian noise of its own at every node",
            partial(mlp, unit="bernoulli"),
            (256, 256),
            intrinsic_noise=0.3,
            heeds=("temperature",),
        ),
        System(
            "quantised-mlp",
            "perceptron of units with 2^bits levels, with Gaussian noise of its own at every node",
            partial(mlp, unit="quantised"),
            (256, 256),
            intrinsic_noise=0.3,
            heeds=("bits",),
        ),
        System(
            "analog-mlp",
            "LeakyReLU perceptron on a simulated chip, whose noise is the device's (pcm)",
            mlp,
            (256, 256),
            device_preset="pcm",
            heeds=("slope",),
        ),
        System(
            "conv",
            "3×3 stride-2 convolutions with LeakyReLU, then a linear layer",
            conv,
            (32, 64, 128),
            heeds=("slope",),
        ),
        System(
            "lif",
            "perceptron of spiking neurons without noise of its own",
            lif,
            (256,),
            heeds=_LIF,
            spiking=True,
            sigma=0.3,
        ),
        System(
            "noisy-lif",
            "perceptron of spiking neurons with Gaussian noise of its own at every node and step",
            lif,
            (256,),
            intrinsic_noise=0.3,
            heeds=_LIF,
            spiking=True,
            sigma=0.3,
        ),
        System(
            "rlif",
            "recurrent perceptron of spiking neurons without noise of its own",
            rlif,
            (128,),
            heeds=_LIF,
            spiking=True,
            sigma=0.3,
        ),
        System(
            "lif-conv",
            "3×3 stride-2 convolutions with spiking neurons, then a linear layer",
            lif_conv,
            (16, 32),
            heeds=_LIF,
            spiking=True,
            sigma=0.3,
        ),
    )
}
