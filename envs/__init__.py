"""Gymnasium environments for noisy control; importing this registers them.

An observation's way: `physics` or Gymnasium's own task, then `channel`s one after another
(`noise`, `delay`, `sensor`, `encoding`) along a `path` inside `wrappers` or `vector`.
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
