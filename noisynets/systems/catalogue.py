"""The systems on the command line: any family of units and noise on any architecture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import nn

from noisynets.systems.models import Build, boxed, conv, lenet, mlp, resnet, spiking, vgg


@dataclass(frozen=True)
class Architecture:
    """How layers are arranged.

    Attributes:
        name: as on the command line.
        summary: one line.
        build: (input_shape, outputs, settings, unit=…) → the module.
        hidden: widths where none are given.
        spiking: widths of spiking systems.
        of_spikes: the same for spikes, where it differs; None: `build`.
        intrinsic_noise: σ, in place of the families' own, where these have noise; None: theirs.
        acts: for environments alone.
    """

    name: str
    summary: str
    build: Callable[..., nn.Sequential]
    hidden: tuple[int, ...]
    spiking: tuple[int, ...]
    of_spikes: Callable[..., nn.Sequential] | None = None
    intrinsic_noise: float | None = None
    acts: bool = False


@dataclass(frozen=True)
class Family:
    """What the layers of an architecture are followed by, and which noise they have.

    Attributes:
        name: before that of the architecture; '' for plain ones.
        summary: one line.
        unit: a key of `UNITS`.
        intrinsic_noise: σ of its own noise where none is given.
        device_preset: device where none is given; None: none.
        heeds: settings of its units, as `Build` names them.
        hidden: widths of perceptrons, where they differ from the architecture's.
        recurrent: units lead back to their layers.
    """

    name: str
    summary: str
    unit: str = "leaky"
    intrinsic_noise: float = 0.0
    device_preset: str | None = None
    heeds: tuple[str, ...] = ()
    hidden: tuple[int, ...] | None = None
    recurrent: bool = False


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
        boxed: a black box: it reports, and torch sees nothing else of it.
        acts: for environments alone.
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
    boxed: bool = False
    acts: bool = False


_LIF = ("neuron", "beta", "threshold", "firing", "firing_noise", "membrane_noise", "readout")
_WIDE = (256, 256)

ARCHITECTURES = {
    architecture.name: architecture
    for architecture in (
        Architecture("mlp", "perceptron", mlp, hidden=(64, 64), spiking=(256,)),
        Architecture(
            "conv",
            "3×3 stride-2 convolutions, then a linear layer",
            conv,
            hidden=(32, 64, 128),
            spiking=(16, 32),
        ),
        Architecture(
            "lenet",
            "LeNet-5: two 5×5 convolutions with average pooling, then linear layers",
            lenet,
            hidden=(6, 16, 120, 84),
            spiking=(6, 16, 120, 84),
        ),
        Architecture(
            "vgg",
            "3×3 convolutions with 2×2 pooling (maximum; average of spikes), then a linear layer",
            vgg,
            hidden=(32, 64, 128, 128),
            spiking=(16, 32, 64),
            of_spikes=partial(vgg, pool=nn.AvgPool2d),
        ),
        Architecture(
            "resnet",
            "residual blocks of two 3×3 convolutions, without normalisation, then a linear layer",
            resnet,
            hidden=(16, 32, 64),
            spiking=(8, 16),
        ),
        Architecture(
            "policy",
            "small perceptron that acts in an environment (plain: mlp-policy)",
            mlp,
            hidden=(32,),
            spiking=(32,),
            intrinsic_noise=0.5,  # less would leave most actions as they are: nothing is explored
            acts=True,
        ),
    )
}
FAMILIES = {
    family.name: family
    for family in (
        Family("", "LeakyReLU, without noise of its own", heeds=("slope",)),
        Family(
            "noisy",
            "LeakyReLU, with Gaussian noise of its own at every node (noisy-mlp: the default)",
            intrinsic_noise=0.1,
            heeds=("slope",),
        ),
        Family(
            "sign",
            "hard signs, ±1, with Gaussian noise of their own at every node",
            unit="sign",
            intrinsic_noise=0.3,
            hidden=_WIDE,
        ),
        Family(
            "step",
            "hard steps, 0 or 1, with Gaussian noise of their own at every node",
            unit="step",
            intrinsic_noise=0.3,
            hidden=_WIDE,
        ),
        Family(
            "bernoulli",
            "stochastic binary units, with Gaussian noise of their own at every node",
            unit="bernoulli",
            intrinsic_noise=0.3,
            heeds=("temperature",),
            hidden=_WIDE,
        ),
        Family(
            "quantised",
            "units with 2^bits levels, with Gaussian noise of their own at every node",
            unit="quantised",
            intrinsic_noise=0.3,
            heeds=("bits",),
            hidden=_WIDE,
        ),
        Family(
            "analog",
            "LeakyReLU on a simulated chip, whose noise is the device's (pcm)",
            device_preset="pcm",
            heeds=("slope",),
            hidden=_WIDE,
        ),
        Family("lif", "spiking neurons, without noise of their own", unit="spiking", heeds=_LIF),
        Family(
            "noisy-lif",
            "spiking neurons, with Gaussian noise of their own at every node and step",
            unit="spiking",
            intrinsic_noise=0.3,
            heeds=_LIF,
        ),
        Family(
            "rlif",
            "recurrent spiking neurons, without noise of their own (a perceptron)",
            unit="spiking",
            heeds=_LIF,
            hidden=(128,),
            recurrent=True,
        ),
    )
}


def system(family: Family, architecture: Architecture) -> System:
    """Return an architecture with a family's units and noise.

    >>> system(FAMILIES["sign"], ARCHITECTURES["lenet"]).name
    'sign-lenet'
    >>> system(FAMILIES["lif"], ARCHITECTURES["mlp"]).name
    'lif'
    >>> system(FAMILIES[""], ARCHITECTURES["policy"]).name
    'mlp-policy'
    """
    spikes = family.unit == "spiking"
    plain = architecture.name == "mlp"
    build: Callable[..., nn.Module] = partial(architecture.build, unit=family.unit)
    if spikes:
        network = architecture.of_spikes or architecture.build
        build = partial(spiking, partial(network, recurrent=True) if family.recurrent else network)
    hidden = architecture.spiking if spikes else architecture.hidden
    noise = family.intrinsic_noise and (architecture.intrinsic_noise or family.intrinsic_noise)
    first = family.name or ("mlp" if architecture.acts else "")
    parts = [first, "" if spikes and plain else architecture.name]
    return System(
        name="-".join(part for part in parts if part),
        summary=f"{architecture.summary}; {family.summary}",
        build=build,
        hidden=family.hidden if plain and family.hidden else hidden,
        intrinsic_noise=noise,
        device_preset=family.device_preset,
        heeds=family.heeds,
        spiking=spikes,
        sigma=0.3 if spikes else None,
        acts=architecture.acts,
    )


def box(unit: str, units: str, process: bool) -> System:
    """Return a perceptron on a chip that torch does not see.

    >>> box("sign", "hard signs", process=True).name
    'sign-process-box'
    """
    where = "in a process of its own" if process else "in NumPy"
    heeds = ("spread", "box") if process else ("spread",)
    return System(
        name=("" if unit == "leaky" else f"{unit}-") + ("process-box" if process else "numpy-box"),
        summary=f"{units} on a simulated chip {where}, whose distortions nobody knows",
        build=partial(boxed, unit=unit, where="process" if process else "numpy"),
        hidden=_WIDE,
        intrinsic_noise=0.1,
        heeds=(*heeds, "slope") if unit == "leaky" else heeds,
        boxed=True,
    )


NENGO = System(
    "nengo-box",
    "spiking neurons in the Nengo simulator, with its own noise and no model",
    build=partial(boxed, where="nengo"),
    hidden=(64, 64),
    intrinsic_noise=0.3,
    boxed=True,
)

BOXES: dict[str, System] = {
    found.name: found
    for found in (
        *(
            box(unit, units, process)
            for process in (False, True)
            for unit, units in (
                ("leaky", "LeakyReLU"),
                ("sign", "hard signs"),
                ("lif", "spiking neurons"),
            )
        ),
        NENGO,
    )
}

SYSTEMS: dict[str, System] = {
    found.name: found
    for found in (
        system(family, architecture)
        for architecture in ARCHITECTURES.values()
        for family in FAMILIES.values()
        if not family.recurrent or architecture.name == "mlp"
    )
} | BOXES
