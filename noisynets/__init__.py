"""noisynets: training by forward passes for systems that gradients cannot train.

The way of a batch: `estimate` stacks a reference pass and K noisy passes; the `probe` listens
to the nodes; a file in `rules` turns what they measured into a credit per node; `outer` turns
credit into `.grad`; any optimiser of `torch.optim` does the rest.
"""

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
from noisynets.systems.devices import AdditiveGaussian, Chip, Noisy

__version__ = "0.1.0"

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
    "negative_return",
    "outer",
    "squared_error",
]
