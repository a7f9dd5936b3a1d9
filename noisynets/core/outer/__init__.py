"""credit ⊗ x: the local product that turns a node's credit into the gradient of its weights.

One function per layer type, chosen by `functools.singledispatch`. To make a layer type trainable,
register a function for it. A subclass has the function of its parent if it overrides nothing that
computes; if it does, and the product is the same nevertheless, say so:
`outer.register(MyLinear, outer.dispatch(nn.Linear))`.
"""

from noisynets.core.outer.convolutions import padded
from noisynets.core.outer.embedding import unsupported
from noisynets.core.outer.foreign import TRANSPOSED
from noisynets.core.outer.norms import gain_shape, is_norm, normalised
from noisynets.core.outer.parametrised import kind_of
from noisynets.core.outer.registry import (
    accumulate_,
    full_name,
    has_outer,
    outer,
    overridden,
    own_names,
    registered_parent,
)

__all__ = [
    "TRANSPOSED",
    "accumulate_",
    "full_name",
    "gain_shape",
    "has_outer",
    "is_norm",
    "kind_of",
    "normalised",
    "outer",
    "overridden",
    "own_names",
    "padded",
    "registered_parent",
    "unsupported",
]
