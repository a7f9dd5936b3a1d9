"""A neuron: an integrator without a leak."""

from noisynets import register
from noisynets.systems.spiking import Neuron, NeuronModel


class Perfect(Neuron):
    def __init__(self, beta, **settings):
        super().__init__(**settings)

    def integrate(self, a, past, r):
        return (self.subtract(past[-1] + a, r) if past else a,)


def plug_in():
    register("neuron", NeuronModel("toy-neuron", Perfect))
