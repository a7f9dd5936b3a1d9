"""Modes that count what would make the host wait for a device."""

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode


class Synchronisations(TorchDispatchMode):
    """Counts what would make the host wait for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        copies = name == "_to_copy" and "device" in (kwargs or {})
        if name in ("_local_scalar_dense", "nonzero", "is_nonzero", "equal") or copies:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


class HostReads(TorchFunctionMode):
    """Counts calls that would copy to the host, also where the CPU makes them free."""

    NAMES = ("item", "cpu", "numpy", "tolist", "__bool__", "__float__", "__int__", "cuda", "to")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        if name == "to" and isinstance(args[1], torch.device | torch.Tensor):
            self.found.append("to a device")
        elif name in self.NAMES and not (name == "to" and isinstance(args[1], torch.dtype)):
            self.found.append(name)
        return func(*args, **(kwargs or {}))
