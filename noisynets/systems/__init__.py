"""Systems to train: device models, units, spiking networks, black boxes, reference networks.

May import from `noisynets.core` only. Importing this package imports nothing; import the parts:

========== =====================================================================================
part       contents
========== =====================================================================================
devices    noise and other device effects on layers, and the presets of `Chip`
units      activation functions without a useful derivative
spiking    spiking neurons, encoders, read-outs, conversion of snnTorch networks
nir        NIR graphs into systems, and systems into NIR graphs
blackbox   hardware and external simulators behind a contract of inputs and measurements
unfused    recurrent networks, attention and transformers of PyTorch as single layers
models     reference networks built from settings
catalogue  the systems of the command line, by name
checks     range checks of settings
========== =====================================================================================
"""
