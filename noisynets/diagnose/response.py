"""Response of pulsed devices: what they hold after pulses up, and then as many down."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from noisynets.run.checkpoint import write_atomically
from noisynets.systems.pulses import Device, array_of

POINTS = 100
"""Points of a curve up, and of one down."""


@dataclass(frozen=True)
class Response:
    """Measured response curves.

    Attributes:
        pulses: pulses so far, (n,); the first half of them up.
        read: weights as read, in units of the device, (n, devices).
    """

    pulses: Tensor
    read: Tensor


def response(device: Device, devices: int = 500, seed: int = 0) -> Response:
    """Pulse devices that hold 0: as many pulses up as there are steps in the range, and down.

    Args:
        device: what the devices are.
        devices: number of devices.
        seed: of what differs between them, and of their noise.

    >>> from noisynets.systems.pulses import PULSED
    >>> found = response(PULSED["ideal"], devices=2)
    >>> found.pulses[-1], round(float(found.read.max()), 3), round(float(found.read.min()), 3)
    (tensor(20000), 1.0, -1.0)
    """
    array = array_of(device, seed, seed)
    array.make_(torch.zeros(devices))
    burst = max(1, round(device.states / POINTS))
    number = -(-round(device.states) // burst)
    read = [array.read]
    for sign in (1, -1):
        for _ in range(number):
            array.pulse_(torch.full((devices,), sign * burst))
            read.append(array.read)
    return Response(burst * torch.arange(len(read)), torch.stack(read))


def draw_response(path: Path, title: str, found: Response) -> None:
    """Draw response curves as a PNG: mean, standard deviation, and five devices.

    Args:
        path: path of the picture.
        title: title of the picture.
        found: the curves.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    n, mean, spread = found.pulses.numpy(), found.read.mean(1).numpy(), found.read.std(1).numpy()
    axes.fill_between(
        n, mean - spread, mean + spread, alpha=0.2, lw=0, color="C0", label="standard deviation"
    )
    axes.plot(n, found.read[:, :5].numpy(), color="C1", lw=0.7, alpha=0.8)
    axes.plot([], [], color="C1", lw=0.7, label="single devices")
    axes.plot(n, mean, color="C0", label="mean")
    axes.axvline(n[len(n) // 2], color="0.6", lw=0.8, ls=":")
    axes.set_title(title, fontsize=9)
    axes.set(xlabel="pulses: up, then down", ylabel="weight as read (device units)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=130)
    write_atomically(path, image.getvalue())
