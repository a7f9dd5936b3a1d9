"""Products: the geometry of a layer's linear map, for each type of layer that can be mirrored.

A map M has the shape (n_out, n_in) of one product, such as that of a patch and a kernel; of a
layer with groups (groups, n_out, n_in), one map per group.
"""

from noisynets.rules.credit.products import convolutions, foreign, linear, transposed
from noisynets.rules.credit.products.geometry import adjoint, as_map, forward, has_product, shown

__all__ = [
    "adjoint",
    "as_map",
    "convolutions",
    "foreign",
    "forward",
    "has_product",
    "linear",
    "shown",
    "transposed",
]
