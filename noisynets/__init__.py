"""noisynets: training by forward passes for systems that gradients cannot train.

The way of a batch: `estimate` stacks a reference pass and K noisy passes; the `probe` listens
to the nodes; a file in `rules` turns what they measured into a credit per node; `outer` turns
credit into `.grad`; any optimiser of `torch.optim` does the rest.
"""

from noisynets.check import check
from noisynets.decorrelation import Decorrelated, decorrelate
from noisynets.devices import AdditiveGaussian, Chip, Noisy
from noisynets.errors import Diverged, InputError, NoisynetsError, SystemRefused
from noisynets.estimate import Backpropagation, NodePerturbation
from noisynets.losses import cross_entropy, negative_return, squared_error
from noisynets.outer import outer
from noisynets.probe import Probe, find_nodes
from noisynets.roll_out import RollOutPerturbation
from noisynets.roll_out_feedback import RollOutFeedback
from noisynets.rules import RULES, Rule
from noisynets.types import Effect, Estimate, Node, Report, Weights, Wrapper
from noisynets.weight_space import SPSA, WeightPerturbation

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
