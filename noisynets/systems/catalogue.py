"""The systems on the command line: any family of units and noise on any architecture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from functools import cache, partial
from typing import Any

from torch import nn

from noisynets.core.errors import unknown
from noisynets.core.pages import Page
from noisynets.core.registry import Registry
from noisynets.systems.models import (
    boxed,
    conv,
    gpt,
    group_norm,
    lenet,
    mixer,
    mlp,
    resnet,
    spiking,
    vgg,
    vit,
)
from noisynets.systems.parts import Architecture, Family, System

_LIF = (
    *("neuron", "beta", "threshold", "reset", "firing", "firing_noise", "membrane_noise"),
    "readout",
)
_WIDE = (256, 256)
_BLOCKS = ("layers", "width", "heads")

ARCHITECTURES: Registry[Architecture] = Registry(
    "architecture",
    (
        Architecture("mlp", "perceptron", mlp, hidden=(64, 64), spiking=(256,), basic=True),
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
            "mixer",
            "MLP-mixer of 4×4 patches, with LayerNorm",
            mixer,
            hidden=(64, 128),
            spiking=None,
        ),
        Architecture(
            "vit",
            "vision transformer of 4×4 patches; GELU for LeakyReLU",
            vit,
            hidden=(),
            spiking=None,
            unit="gelu",
            unit_settings=(),
            settings=_BLOCKS,
        ),
        Architecture(
            "gpt",
            "transformer that predicts the next character of a text; GELU for LeakyReLU",
            gpt,
            hidden=(),
            spiking=None,
            unit="gelu",
            unit_settings=(),
            settings=_BLOCKS,
            text=True,
        ),
        Architecture(
            "policy",
            "small perceptron that acts in an environment (plain: mlp-policy)",
            mlp,
            hidden=(32,),
            spiking=(32,),
            intrinsic_noise=0.5,  # less would leave most actions as they are: nothing is explored
            acts=True,
            counterpart="mlp",
        ),
    ),
)
FAMILIES: Registry[Family] = Registry(
    "family",
    (
        Family("", "LeakyReLU, without noise of its own"),
        Family(
            "noisy",
            "LeakyReLU, with Gaussian noise of its own at every node (noisy-mlp: the default)",
            intrinsic_noise=0.1,
            noiseless="",
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
            settings=("temperature",),
            hidden=_WIDE,
        ),
        Family(
            "quantised",
            "units with 2^bits levels, with Gaussian noise of their own at every node",
            unit="quantised",
            intrinsic_noise=0.3,
            settings=("bits",),
            hidden=_WIDE,
        ),
        Family(
            "analog",
            "LeakyReLU on a simulated chip, whose noise is the device's (pcm)",
            device_preset="pcm",
            hidden=_WIDE,
        ),
        Family(
            "lif",
            "spiking neurons, without noise of their own",
            unit="spiking",
            settings=_LIF,
            spiking=True,
        ),
        Family(
            "noisy-lif",
            "spiking neurons, with Gaussian noise of their own at every node and step",
            unit="spiking",
            intrinsic_noise=0.3,
            settings=_LIF,
            spiking=True,
            noiseless="lif",
        ),
        Family(
            "rlif",
            "recurrent spiking neurons, without noise of their own (a perceptron)",
            unit="spiking",
            settings=_LIF,
            hidden=(128,),
            recurrent=True,
            spiking=True,
        ),
    ),
)


@cache
def system(family: Family, architecture: Architecture) -> System:
    """Return an architecture with a family's units and noise.

    >>> system(FAMILIES["sign"], ARCHITECTURES["lenet"]).name
    'sign-lenet'
    >>> system(FAMILIES["lif"], ARCHITECTURES["mlp"]).name
    'lif'
    >>> system(FAMILIES[""], ARCHITECTURES["policy"]).name
    'mlp-policy'
    """
    spikes, plain = family.spiking, architecture.basic
    own = family.unit is None
    unit = architecture.unit if family.unit is None else family.unit
    build: Callable[..., nn.Module] = partial(architecture.build, unit=unit)
    if spikes:
        network = architecture.of_spikes or architecture.build
        network = partial(network, recurrent=True) if family.recurrent else network
        build = partial(spiking, network, unit=unit)
    hidden = (architecture.spiking or ()) if spikes else architecture.hidden
    noise = family.intrinsic_noise and (architecture.intrinsic_noise or family.intrinsic_noise)
    noiseless, counterpart = family.noiseless, architecture.counterpart
    return System(
        name=_name(family, architecture),
        summary=f"{architecture.summary}; {family.summary}",
        build=build,
        hidden=family.hidden if plain and family.hidden else hidden,
        intrinsic_noise=noise,
        device_preset=family.device_preset,
        settings=(
            *architecture.settings,
            *family.settings,
            *(architecture.unit_settings if own else ()),
        ),
        spiking=spikes,
        sigma=0.3 if spikes else None,
        acts=architecture.acts,
        noiseless=None if noiseless is None else _name(FAMILIES[noiseless], architecture),
        counterpart=counterpart and _name(family, ARCHITECTURES[counterpart]),
        text=architecture.text,
    )


def _name(family: Family, architecture: Architecture) -> str:
    """FAMILY-ARCHITECTURE; of neurons in a perceptron the family alone."""
    first = family.name or (architecture.counterpart or "")
    last = "" if family.spiking and architecture.basic else architecture.name
    return "-".join(part for part in (first, last) if part)


def box(unit: str, units: str, process: bool) -> System:
    """Return a perceptron on a chip that torch does not see.

    >>> box("sign", "hard signs", process=True).name
    'sign-process-box'
    """
    where = "in a process of its own" if process else "in NumPy"
    settings = ("spread", "box", "box_timeout") if process else ("spread",)
    return System(
        name=("" if unit == "leaky" else f"{unit}-") + ("process-box" if process else "numpy-box"),
        summary=f"{units} on a simulated chip {where}, whose distortions are unknown",
        build=partial(boxed, unit=unit, where="process" if process else "numpy"),
        hidden=_WIDE,
        intrinsic_noise=0.1,
        settings=(*settings, "slope") if unit == "leaky" else settings,
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

BOXES: Registry[System] = Registry(
    "box",
    (
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
    ),
)


_CHANNELS = (16, 32, 64)
NORMALISED: Registry[System] = Registry(
    "system",
    (
        System(
            "resnet8-gn",
            "resnet with GroupNorm before its units; LeakyReLU",
            build=partial(resnet, norm=group_norm),
            hidden=_CHANNELS,
            settings=("slope",),
        ),
        System(
            "resnet8-bn",
            "resnet with BatchNorm before its units; LeakyReLU",
            build=partial(resnet, norm=nn.BatchNorm2d),
            hidden=_CHANNELS,
            settings=("slope",),
        ),
        System(
            "lif-conv-gn",
            "conv with GroupNorm before its units; spiking neurons",
            build=partial(spiking, partial(conv, norm=group_norm)),
            hidden=(16, 32),
            settings=_LIF,
            spiking=True,
            sigma=0.3,
        ),
    ),
)


class Systems(MutableMapping[str, System]):
    """All systems: every family on every architecture, the boxes, and those registered whole.

    They are made again when the registries have changed, so that later parts are found.

    Attributes:
        whole: systems that are registered as they are.

    >>> "sign-conv" in SYSTEMS
    True
    """

    def __init__(self) -> None:
        self.whole: Registry[System] = Registry("system", NORMALISED)
        self._parts: list[object] = []
        self._systems: dict[str, System] = {}

    def __setitem__(self, name: str, system: System) -> None:
        self.whole[name] = system

    def __delitem__(self, name: str) -> None:
        del self.whole[name]

    def __getitem__(self, name: str) -> System:
        found = self._made()
        if name not in found:
            raise unknown("system", name, found, page=Page.SYSTEMS)
        return found[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Return a system, or `default` where there is none of that name."""
        return self._made().get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self._made()

    def __iter__(self) -> Iterator[str]:
        return iter(self._made())

    def __len__(self) -> int:
        return len(self._made())

    def _made(self) -> dict[str, System]:
        parts: list[object] = [ARCHITECTURES, FAMILIES, BOXES, self.whole]
        if parts != self._parts:
            self._parts = [dict(registry) for registry in (ARCHITECTURES, FAMILIES, BOXES)]
            self._parts.append(dict(self.whole))
            self._systems = self._products()
        return self._systems

    def _products(self) -> dict[str, System]:
        made = (
            system(family, architecture)
            for architecture in ARCHITECTURES.values()
            for family in FAMILIES.values()
            if (architecture.basic or not family.recurrent)
            and (architecture.spiking is not None or not family.spiking)
        )
        return {found.name: found for found in made} | BOXES | self.whole


SYSTEMS = Systems()
