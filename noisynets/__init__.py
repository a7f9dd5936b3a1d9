"""noisynets: training by forward passes for systems that gradients cannot train.

How a batch flows: `estimators.node_perturbation` stacks a reference pass and K noisy passes; the
`probe` records what happens at the nodes; a file in `rules` turns the record into a credit per
call; `outer` turns credit into `.grad`, and any optimiser of `torch.optim` updates the weights.
"""

from noisynets.core.check import check
from noisynets.core.decorrelation import Decorrelated, decorrelate
from noisynets.core.errors import Diverged, InputError, NoisynetsError, SystemRefused
from noisynets.core.losses import (
    KnownError,
    MeasuredError,
    cross_entropy,
    negative_return,
    squared_error,
)
from noisynets.core.nodes import find_nodes, survey
from noisynets.core.noise import Injection
from noisynets.core.outer import outer
from noisynets.core.probe import Probe
from noisynets.core.record import Needs, NodeRecord, Record
from noisynets.core.types import Effect, Estimate, Node, Weights, Wrapper
from noisynets.estimators.backpropagation import Backpropagation
from noisynets.estimators.node_perturbation import NodePerturbation
from noisynets.estimators.roll_out import RollOutPerturbation
from noisynets.estimators.roll_out_feedback import RollOutFeedback
from noisynets.estimators.weight_space import SPSA, WeightPerturbation
from noisynets.rules import ANP, INP, NP, RULES, Corrected, InTime, OverTrial, Rule, RuleEntry
from noisynets.systems.devices import AdditiveGaussian, Chip, Noisy

__version__ = "0.2.0"

__all__ = [
    "ANP",
    "INP",
    "NP",
    "RULES",
    "SPSA",
    "AdditiveGaussian",
    "Backpropagation",
    "Chip",
    "Corrected",
    "Decorrelated",
    "Diverged",
    "Effect",
    "Estimate",
    "InTime",
    "Injection",
    "InputError",
    "KnownError",
    "MeasuredError",
    "Needs",
    "Node",
    "NodePerturbation",
    "NodeRecord",
    "Noisy",
    "NoisynetsError",
    "OverTrial",
    "Probe",
    "Record",
    "RollOutFeedback",
    "RollOutPerturbation",
    "Rule",
    "RuleEntry",
    "SystemRefused",
    "WeightPerturbation",
    "Weights",
    "Wrapper",
    "check",
    "cross_entropy",
    "decorrelate",
    "find_nodes",
    "negative_return",
    "outer",
    "squared_error",
    "survey",
]
