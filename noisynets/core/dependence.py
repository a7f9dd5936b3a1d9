"""Dependence of noise between rows, components and nodes, from differences at equal inputs.

A difference d = ε' − ε of two draws has a symmetric distribution. If its rows are independent,
flipping the sign of any row changes nothing in law: a sum over pairs of rows then has mean 0 and
twice the sum of its squared terms as variance, whatever the distribution of the noise and however
its components depend on each other. The same holds for components, and for pairs of nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Dependence:
    """How much noise is shared.

    Attributes:
        share: fraction of the noise's power that is common; about 0 if it is independent.
        z: sum over pairs, in standard deviations of that of independent noise. The distribution is
            between a Gaussian and (χ² − 1)/√2, so that 12 is exceeded with a probability of at
            most 2e-5.
    """

    share: float
    z: float

    def found(self, share: float, z: float = 12.0) -> bool:
        """Return True if the noise shares more than `share`, significantly."""
        return self.share > share and self.z > z


def of_rows(noise: Sequence[Tensor]) -> Dependence:
    """Return the dependence between the rows of a batch.

    Args:
        noise: differences, per node (B, n).

    >>> torch.manual_seed(0) and None
    >>> own, common = torch.randn(50, 30), torch.randn(1, 30)
    >>> of_rows([own]).found(0.2), of_rows([own + common]).found(0.2)
    (False, True)
    """
    gram = torch.stack([_unit(d) @ _unit(d).T / d[0].numel() for d in noise]).sum(0)
    return _pairs(gram, float(gram.diagonal().sum()) * (len(gram) - 1))


def of_components(noise: Sequence[Tensor]) -> Dependence:
    """Return the dependence between the components of all nodes within a row.

    Args:
        noise: differences, per node (B, n).

    >>> torch.manual_seed(0) and None
    >>> own, common = torch.randn(50, 30), torch.randn(50, 1)
    >>> of_components([own]).found(0.1), of_components([own + common]).found(0.1)
    (False, True)
    """
    d = torch.cat([_unit(d) for d in noise], 1)
    square = d.square()
    power = square.sum(1)
    pairs = float((d.sum(1).square() - power).sum())
    variance = 2 * float((power.square() - square.square().sum(1)).sum())
    whole = float(power.sum()) * (d.shape[1] - 1)
    return _ratio(pairs, variance, whole)


def of_nodes(one: Tensor, other: Tensor) -> Dependence:
    """Return the dependence between two nodes, in any directions of their components.

    The share is here that of their Gram matrices, a squared correlation.

    Args:
        one: differences of a node, (B, n).
        other: differences of the other node, (B, m).

    >>> torch.manual_seed(0) and None
    >>> own, equal = torch.randn(50, 30), torch.randn(50, 30)
    >>> of_nodes(own, equal).found(0.1), of_nodes(own, own.flip(1)).found(0.1)
    (False, True)
    """
    first, second = (_rows_of_one_length(_unit(d)) for d in (one, other))
    first, second = first @ first.T, second @ second.T
    most = (_off(first).square().sum() * _off(second).square().sum()).sqrt()
    return _pairs(first * second, float(most))


def _unit(d: Tensor) -> Tensor:
    """Return differences as (B, n) with a mean square of 1; 0 where there are none."""
    d = d.detach().flatten(1).double()
    return d / d.square().mean().sqrt().clamp_min(torch.finfo(d.dtype).tiny)


def _rows_of_one_length(d: Tensor) -> Tensor:
    return d / d.norm(dim=1, keepdim=True).clamp_min(torch.finfo(d.dtype).tiny)


def _off(gram: Tensor) -> Tensor:
    return gram - gram.diagonal().diag()


def _pairs(gram: Tensor, whole: float) -> Dependence:
    off = _off(gram)
    return _ratio(float(off.sum()), 2 * float(off.square().sum()), whole)


def _ratio(pairs: float, variance: float, whole: float) -> Dependence:
    if not (variance > 0 and whole > 0):
        return Dependence(0.0, 0.0)
    return Dependence(pairs / whole, pairs / variance**0.5)
