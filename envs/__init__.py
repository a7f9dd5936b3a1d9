"""Gymnasium environments for noisy control, registered by importing this package.

The package needs only Gymnasium and NumPy and never imports `noisynets`. An observation comes from
`physics` or one of Gymnasium's own tasks and passes through one or more `channel`s (`noise`,
`delay`, `sensor`, `encoding`), which a `path` inside `wrappers` or `vector` applies in order.
"""

from .arm import Arm
from .channel import Channel
from .chip import Chip
from .delay import Delay
from .encoding import LatencyCode, RateCode
from .noise import Gaussian, OrnsteinUhlenbeck, RandomAction
from .parameters import RandomParameters, VectorRandomParameters
from .physics import Physics, PhysicsEnv, PhysicsVectorEnv
from .registry import register
from .sensor import Dropout, Quantiser
from .vector import VectorAct, VectorObserve, VectorReward
from .wrappers import Act, Observe, Reward

__all__ = [
    "Act",
    "Arm",
    "Channel",
    "Chip",
    "Delay",
    "Dropout",
    "Gaussian",
    "LatencyCode",
    "Observe",
    "OrnsteinUhlenbeck",
    "Physics",
    "PhysicsEnv",
    "PhysicsVectorEnv",
    "Quantiser",
    "RandomAction",
    "RandomParameters",
    "RateCode",
    "Reward",
    "VectorAct",
    "VectorObserve",
    "VectorRandomParameters",
    "VectorReward",
    "register",
]

register()
