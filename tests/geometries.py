"""Strategies: layers of any geometry, with inputs of a size that fits."""

from __future__ import annotations

from hypothesis import strategies as st
from torch import nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)

Found = tuple[nn.Module, tuple[int, ...]]
"""A layer in float64, and the shape of one input."""


def _each(draw: st.DrawFn, dims: int, least: int, most: int) -> tuple[int, ...]:
    return tuple(draw(st.integers(least, most)) for _ in range(dims))


@st.composite
def convolutions(draw: st.DrawFn) -> Found:
    """Any convolution: groups, 'same' padding, and padding modes other than zeros."""
    dims = draw(st.integers(1, 3))
    groups = draw(st.sampled_from([1, 2, 4]))
    kernel, dilation = _each(draw, dims, 1, 3 if dims < 3 else 2), _each(draw, dims, 1, 2)
    size = _each(draw, dims, 5, 6 if dims < 3 else 5)
    padding = draw(st.sampled_from(["same", _each(draw, dims, 0, 2)]))
    stride = (1,) * dims if padding == "same" else _each(draw, dims, 1, 3)
    modes = ["zeros", "reflect", "replicate", "circular"]
    layer = CONVOLUTIONS[dims - 1](
        *(4, 4, kernel, stride, padding, dilation, groups),
        padding_mode=draw(st.sampled_from(modes)),
    )
    return layer.double(), (4, *size)


@st.composite
def transposed(draw: st.DrawFn) -> Found:
    """Any transposed convolution."""
    dims = draw(st.integers(1, 3))
    kernel, dilation = _each(draw, dims, 1, 3 if dims < 3 else 2), _each(draw, dims, 1, 3)
    stride, size = _each(draw, dims, 1, 3), _each(draw, dims, 3, 4)
    padding = _each(draw, dims, 0, 1)
    room = [max(s, d) - 1 for s, d in zip(stride, dilation, strict=True)]
    more = tuple(draw(st.integers(0, most)) for most in room)
    groups = draw(st.sampled_from([1, 2]))
    layer = TRANSPOSED[dims - 1](
        4, 6, kernel, stride, padding, more, groups, dilation=dilation, bias=draw(st.booleans())
    )
    return layer.double(), (4, *size)


@st.composite
def norms(draw: st.DrawFn) -> Found:
    """Any normalisation with a gain, in training or in evaluation mode."""
    dims = draw(st.integers(1, 3))
    size = _each(draw, dims, 2, 3)
    affine = {"affine": True, "track_running_stats": draw(st.booleans())}
    layer = draw(
        st.sampled_from(
            [
                nn.LayerNorm(size[-1], bias=draw(st.booleans())),
                nn.LayerNorm(size),
                nn.RMSNorm(size[-1]),
                nn.RMSNorm(size, eps=0.1),
                nn.GroupNorm(draw(st.sampled_from([1, 2, 4])), 4),
                INSTANCE_NORMS[dims - 1](4, eps=1e-2, **affine),
                BATCH_NORMS[dims - 1](4, **affine),
            ]
        )
    ).double()
    if getattr(layer, "running_mean", None) is not None:
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 2)
    for p in layer.parameters():
        nn.init.normal_(p)
    return layer.train(draw(st.booleans())), (4, *size)
