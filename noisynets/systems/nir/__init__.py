"""NIR, the exchange format of spiking networks: graphs into systems, and systems into graphs.

A NIR graph states differential equations. Both directions use the same discretisation, in steps of
Δt: forward Euler, in which the potential of a step uses the synaptic current of the same step. It
is that of snnTorch's exporter and importer. With the input x, and spikes s:

========== ==================================== ================================================
node       its equations                        one step
========== ==================================== ================================================
LI         τ dv/dt = v_leak − v + R x           w ← β w + g x; y = w + v_leak
LIF        as LI; s = 1 if v > θ, then          w ← β w + g x; s = 1 if w > θ − v_leak, then
           v = v_reset                          w = 0
I, IF      dv/dt = R x                          the same with β = 1, g = R Δt, v_leak = 0
CubaLI(F)  τ_syn dI/dt = −I + w_in x,           I ← α I + h x; w ← β w + g I
           then as LI(F) with the input I
Threshold                                       s = 1 if x > θ
Delay      y(t) = x(t − d)                      y ← x of d/Δt steps before; 0 until then
========== ==================================== ================================================

β = 1 − Δt/τ, g = R Δt/τ, α = 1 − Δt/τ_syn, h = w_in Δt/τ_syn and w = v − v_leak. A trial begins at
rest, w = 0 and I = 0. A neuron that spikes is reset in the same step, and v_reset must be v_leak.
An edge that closes a loop carries the value of the step before; all others that of the same step.

NIR has no reset by subtraction, u ← β u + a − θ r with the spikes r of the step before. It is
written as LI → Threshold, with a Scale of −θ/g from the spikes back to the LI, which is the same,
and read back as one neuron.

Source: Pedersen et al., *Neuromorphic intermediate representation: a unified instruction set for
interoperable brain-inspired computing* (Nature Communications 15, 2024). Needs the extra [nir].
"""

from noisynets.systems.nir.package import DT
from noisynets.systems.nir.parts import Above, Branches, Delay, Integrator
from noisynets.systems.nir.reading import from_nir
from noisynets.systems.nir.writing import to_nir

__all__ = ["DT", "Above", "Branches", "Delay", "Integrator", "from_nir", "to_nir"]
