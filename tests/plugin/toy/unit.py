"""A unit, as a family of systems: three levels."""

from noisynets import register
from noisynets.systems.catalogue import Family
from noisynets.systems.units import Ternary


def unit(settings, seed):
    return Ternary(0.2)


def plug_in():
    register("family", Family("toy-ternary", "three levels", unit=unit, intrinsic_noise=0.2))
