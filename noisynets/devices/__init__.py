"""Systems with noise and other effects of their own, which the trainer can neither read nor stop."""

from noisynets.devices.gaussian import AdditiveGaussian
from noisynets.devices.noisy import Noisy

__all__ = ["AdditiveGaussian", "Noisy"]
