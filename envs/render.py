"""Images made of thick strokes, without a graphics library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .types import Array


class Stroke(NamedTuple):
    """A line with round ends between two points; a dot if these coincide.

    Attributes:
        start: x, y.
        end: x, y.
        radius: half the width of the line.
        colour: red, green, blue, 0 to 255.
    """

    start: Array
    end: Array
    radius: float
    colour: tuple[int, int, int]


def picture(strokes: Sequence[Stroke], extent: float, size: int = 240) -> Array:
    """Draw strokes on a white image, later ones on top, with edges that are one pixel soft.

    Args:
        strokes: the strokes, with coordinates in the unit of `extent`.
        extent: half the width of the square that is shown; its centre is the origin.
        size: number of pixels along each side.

    Returns:
        Pixels (size, size, 3), uint8; y points upwards.

    >>> dot = Stroke(np.zeros(2), np.zeros(2), 0.5, (255, 0, 0))
    >>> picture([dot], extent=1.0, size=9)[4, 4].tolist()
    [255, 0, 0]
    """
    pixel = 2 * extent / size
    axis = (np.arange(size) + 0.5) * pixel - extent
    points = np.stack(np.meshgrid(axis, -axis), axis=-1)
    image = np.full((size, size, 3), 255.0)
    for start, end, radius, colour in strokes:
        along, away = end - start, points - start
        share = np.clip(away @ along / max(float(along @ along), 1e-12), 0, 1)
        distance = np.linalg.norm(away - share[..., None] * along, axis=-1)
        cover = np.clip((radius - distance) / pixel + 0.5, 0, 1)[..., None]
        image += cover * (np.array(colour) - image)
    return np.rint(image).astype(np.uint8)
