"""The product of `nn.Embedding`, a table of rows."""

from __future__ import annotations

from torch import Tensor, nn

from noisynets.core.outer.registry import outer


@outer.register
def _embedding(layer: nn.Embedding, x: Tensor, credit: Tensor) -> dict[str, Tensor]:
    """Add the credit of every position to the row that stands there; x holds their numbers."""
    if layer.padding_idx is not None:
        credit = credit * (x != layer.padding_idx).unsqueeze(-1)
    rows = credit.new_zeros(layer.num_embeddings, layer.embedding_dim)
    return {"weight": rows.index_add(0, x.flatten(), credit.flatten(0, -2))}


def unsupported(layer: nn.Module) -> list[str]:
    """Return the settings of a layer that its product knows nothing of.

    >>> unsupported(nn.Embedding(3, 2, max_norm=1.0, sparse=True))
    ['max_norm', 'sparse']
    """
    if not isinstance(layer, nn.Embedding):
        return []
    names = ("max_norm", "scale_grad_by_freq", "sparse")
    return [name for name in names if getattr(layer, name) not in (None, False)]
