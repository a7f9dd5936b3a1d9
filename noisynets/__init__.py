"""noisynets: training by forward passes for systems that gradients cannot train.

How a batch flows: `estimators.node_perturbation` stacks a reference pass and K noisy passes; the
`probe` records what happens at the nodes; a file in `rules` turns the record into a credit per
call; `outer` turns credit into `.grad`, and any optimiser of `torch.optim` updates the weights.

Public names are imported when they are first used: `import noisynets` alone imports nothing heavy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noisynets.core.batch import Shared
    from noisynets.core.check import check
    from noisynets.core.decorrelation import Decorrelated, decorrelate
    from noisynets.core.errors import Diverged, InputError, NoisynetsError, SystemRefused
    from noisynets.core.freezing import freeze, unfreeze
    from noisynets.core.losses import (
        KnownError,
        MeasuredError,
        cross_entropy,
        negative_return,
        per_row,
        squared_error,
    )
    from noisynets.core.nodes import find_nodes, survey
    from noisynets.core.noise import Injection
    from noisynets.core.outer import outer
    from noisynets.core.probe import Probe
    from noisynets.core.record import Needs, NodeRecord, Record
    from noisynets.core.types import Effect, Estimate, Node, Weights, Wrapper, physical
    from noisynets.estimators.backpropagation import Backpropagation
    from noisynets.estimators.node_perturbation import NodePerturbation
    from noisynets.estimators.position_perturbation import PositionPerturbation
    from noisynets.estimators.roll_out import RollOutPerturbation
    from noisynets.estimators.roll_out_feedback import RollOutFeedback
    from noisynets.estimators.weight_space import SPSA, WeightPerturbation
    from noisynets.rules import (
        ANP,
        INP,
        NP,
        RULES,
        Corrected,
        InTime,
        OverTrial,
        Rule,
        RuleEntry,
        Traits,
    )
    from noisynets.run.fit import Callback, Fitted, fit
    from noisynets.run.plugins import load_plugins, register
    from noisynets.systems.devices import AdditiveGaussian, Chip, Noisy
    from noisynets.systems.unfused import unfused

__version__ = "0.5.0"

_HOMES = {
    "noisynets.core.batch": ("Shared",),
    "noisynets.core.check": ("check",),
    "noisynets.core.decorrelation": ("Decorrelated", "decorrelate"),
    "noisynets.core.errors": ("Diverged", "InputError", "NoisynetsError", "SystemRefused"),
    "noisynets.core.freezing": ("freeze", "unfreeze"),
    "noisynets.core.losses": (
        "KnownError",
        "MeasuredError",
        "cross_entropy",
        "negative_return",
        "per_row",
        "squared_error",
    ),
    "noisynets.core.nodes": ("find_nodes", "survey"),
    "noisynets.core.noise": ("Injection",),
    "noisynets.core.outer": ("outer",),
    "noisynets.core.probe": ("Probe",),
    "noisynets.core.record": ("Needs", "NodeRecord", "Record"),
    "noisynets.core.types": ("Effect", "Estimate", "Node", "Weights", "Wrapper", "physical"),
    "noisynets.estimators.backpropagation": ("Backpropagation",),
    "noisynets.estimators.node_perturbation": ("NodePerturbation",),
    "noisynets.estimators.position_perturbation": ("PositionPerturbation",),
    "noisynets.estimators.roll_out": ("RollOutPerturbation",),
    "noisynets.estimators.roll_out_feedback": ("RollOutFeedback",),
    "noisynets.estimators.weight_space": ("SPSA", "WeightPerturbation"),
    "noisynets.rules": (
        "ANP",
        "INP",
        "NP",
        "RULES",
        "Corrected",
        "InTime",
        "OverTrial",
        "Rule",
        "RuleEntry",
        "Traits",
    ),
    "noisynets.run.fit": ("Callback", "Fitted", "fit"),
    "noisynets.run.plugins": ("load_plugins", "register"),
    "noisynets.systems.devices": ("AdditiveGaussian", "Chip", "Noisy"),
    "noisynets.systems.unfused": ("unfused",),
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
    "ANP",
    "AdditiveGaussian",
    "Backpropagation",
    "Callback",
    "Chip",
    "Corrected",
    "Decorrelated",
    "Diverged",
    "Effect",
    "Estimate",
    "Fitted",
    "INP",
    "InTime",
    "Injection",
    "InputError",
    "KnownError",
    "MeasuredError",
    "NP",
    "Needs",
    "Node",
    "NodePerturbation",
    "NodeRecord",
    "Noisy",
    "NoisynetsError",
    "OverTrial",
    "PositionPerturbation",
    "Probe",
    "RULES",
    "Record",
    "RollOutFeedback",
    "RollOutPerturbation",
    "Rule",
    "RuleEntry",
    "SPSA",
    "Shared",
    "SystemRefused",
    "Traits",
    "WeightPerturbation",
    "Weights",
    "Wrapper",
    "check",
    "cross_entropy",
    "decorrelate",
    "find_nodes",
    "fit",
    "freeze",
    "load_plugins",
    "negative_return",
    "outer",
    "per_row",
    "physical",
    "register",
    "squared_error",
    "survey",
    "unfused",
    "unfreeze",
]
