"""Noise and other effects of a system's own, which the trainer can neither read nor stop."""

from noisynets.devices.gaussian import AdditiveGaussian
from noisynets.devices.noisy import Noisy

__all__ = ["AdditiveGaussian", "Noisy"]
