"""An effect, noise in proportion to the activity, as a device under every layer."""

from noisynets import Effect, Noisy, register
from noisynets.core.noise import Source
from noisynets.systems.devices import Preset


class Proportional(Effect):
    def __init__(self, seed):
        super().__init__()
        self.source = Source(seed, "proportional noise")

    def forward(self, a):
        return a + 0.05 * a.abs() * self.source.normal(a)


def wrap(layer, device_seed, cycle_seed):
    return Noisy(layer, Proportional(cycle_seed))


def plug_in():
    register("device preset", Preset("toy-device", "noise in proportion to the activity", wrap))
