"""Float64 for what transformers computes in float32 whatever the dtype of the weights."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

PACKAGES = ("transformers", "peft")


class Doubled:
    """The module torch with float64 in the place of float32."""

    float32 = float = torch.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


@contextmanager
def doubled() -> Iterator[None]:
    """Replace float32 in the modules of transformers and peft, and `Tensor.float` everywhere."""
    single = torch.Tensor.float
    modules = [m for name, m in list(sys.modules.items()) if name.split(".")[0] in PACKAGES]
    changed = [m for m in modules if vars(m).get("torch") is torch]
    torch.Tensor.float = torch.Tensor.double
    for module in changed:
        module.torch = Doubled()
    try:
        yield
    finally:
        torch.Tensor.float = single
        for module in changed:
            module.torch = torch
