"""noisynets: training by forward passes for systems that gradients cannot train.

The way of a batch: `estimate` stacks a reference pass and K noisy passes; the `probe` listens
to the nodes; a file in `rules` turns what they measured into a credit per node; `outer` turns
credit into `.grad`; any optimiser of `torch.optim` does the rest.

Names are imported when they are first used: `import noisynets` alone imports nothing heavy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noisynets.core.check import check
    from noisynets.core.decorrelation import Decorrelated, decorrelate
    from noisynets.core.errors import Diverged, InputError, NoisynetsError, SystemRefused
    from noisynets.core.losses import cross_entropy, negative_return, squared_error
    from noisynets.core.outer import outer
    from noisynets.core.probe import Probe, find_nodes
    from noisynets.core.types import Effect, Estimate, Node, Report, Weights, Wrapper
    from noisynets.estimators.node_perturbation import Backpropagation, NodePerturbation
    from noisynets.estimators.roll_out import RollOutPerturbation
    from noisynets.estimators.roll_out_credit import RollOutFeedback
    from noisynets.estimators.weight_space import SPSA, WeightPerturbation
    from noisynets.rules import RULES, Rule
    from noisynets.run.plugins import load_plugins, register
    from noisynets.systems.devices import AdditiveGaussian, Chip, Noisy

__version__ = "0.1.0"

_HOMES = {
    "noisynets.core.check": ("check",),
    "noisynets.core.decorrelation": ("Decorrelated", "decorrelate"),
    "noisynets.core.errors": ("Diverged", "InputError", "NoisynetsError", "SystemRefused"),
    "noisynets.core.losses": ("cross_entropy", "negative_return", "squared_error"),
    "noisynets.core.outer": ("outer",),
    "noisynets.core.probe": ("Probe", "find_nodes"),
    "noisynets.core.types": ("Effect", "Estimate", "Node", "Report", "Weights", "Wrapper"),
    "noisynets.estimators.node_perturbation": ("Backpropagation", "NodePerturbation"),
    "noisynets.estimators.roll_out": ("RollOutPerturbation",),
    "noisynets.estimators.roll_out_credit": ("RollOutFeedback",),
    "noisynets.estimators.weight_space": ("SPSA", "WeightPerturbation"),
    "noisynets.rules": ("RULES", "Rule"),
    "noisynets.run.plugins": ("load_plugins", "register"),
    "noisynets.systems.devices": ("AdditiveGaussian", "Chip", "Noisy"),
}
"""Where the public names are defined."""


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


__all__ = [
    "RULES",
    "SPSA",
    "AdditiveGaussian",
    "Backpropagation",
    "Chip",
    "Decorrelated",
    "Diverged",
    "Effect",
    "Estimate",
    "InputError",
    "Node",
    "NodePerturbation",
    "Noisy",
    "NoisynetsError",
    "Probe",
    "Report",
    "RollOutFeedback",
    "RollOutPerturbation",
    "Rule",
    "SystemRefused",
    "WeightPerturbation",
    "Weights",
    "Wrapper",
    "check",
    "cross_entropy",
    "decorrelate",
    "find_nodes",
    "load_plugins",
    "negative_return",
    "outer",
    "register",
    "squared_error",
]
