"""Links of a chain: what lies before a node gives the same activities in every pass of that node.

A chain of deterministic modules, x_{i+1} = link_i(x_i), needs only one pass up to the link that
holds a perturbed node; the noisy passes begin with that link.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from noisynets.core.nodes import Survey, is_chain
from noisynets.core.paired import is_known, is_stochastic
from noisynets.core.types import Effect, Node, Wrapper


def links(survey: Survey) -> list[nn.Module]:
    """Return the links of a system, in order; the system itself where it cannot be divided.

    It is divided into the children of its `nn.Sequential`s, if all its modules are known to be
    deterministic and without a state, and nobody watches them by hooks.

    >>> from noisynets.core.nodes import survey
    >>> inner = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    >>> len(links(survey(nn.Sequential(inner, nn.Linear(3, 1)))))
    3
    >>> len(links(survey(nn.Sequential(inner, nn.Dropout(0.1), nn.Linear(3, 1)))))
    1
    """
    whole = survey.stateful or not all(map(_is_quiet, survey.system.modules()))
    return [survey.system] if whole else list(_children(survey.system))


def holders(chain: Sequence[nn.Module], nodes: Sequence[Node]) -> list[int]:
    """Return the position of the link that holds each node.

    >>> from noisynets.core.nodes import find_nodes
    >>> net = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> holders(list(net), find_nodes(net))
    [0, 2]
    """
    held = {module: i for i, link in reversed(list(enumerate(chain))) for module in link.modules()}
    return [held[node.inlet] for node in nodes]


@torch.no_grad()
def entering(chain: Sequence[nn.Module], inputs: Tensor) -> list[Tensor]:
    """Return what enters each link in one pass.

    >>> [x.item() for x in entering([nn.ReLU(), nn.Tanh()], torch.tensor([-1.0]))]
    [-1.0, 0.0]
    """
    found = [inputs]
    for link in chain[:-1]:
        found.append(link(found[-1]))
    return found


def _children(module: nn.Module) -> Iterator[nn.Module]:
    if not is_chain(module) or not len(module):
        yield module
        return
    for child in module:
        yield from _children(child)


def _is_quiet(module: nn.Module) -> bool:
    """Return True if a module, its children left aside, certainly repeats what it did."""
    hooked = module._forward_hooks or module._forward_pre_hooks
    return not (
        hooked
        or isinstance(module, Effect | Wrapper)
        or is_stochastic(module)
        or not is_known(module)
        or "forward" in vars(module)
    )
