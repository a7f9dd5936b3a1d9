"""`nn.MultiheadAttention` whose products with weights are layers.

softmax(q kᵀ/√d + mask) v per head, with q, k, v = W_q x, W_k y, W_v z; then W_o of all heads.
Symbols: B rows, L queries, S keys, E features, H heads of d = E/H.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noisynets.core.errors import InputError
from noisynets.systems.unfused.parts import RowsFirst, holds, linear, swapped

NAMES = (
    *("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight", "in_proj_bias"),
    *("bias_k", "bias_v"),
)
"""Parameters of `nn.MultiheadAttention`, without those of its out_proj."""


class UnfusedAttention(nn.Module, RowsFirst):
    """Multi-head attention made of layers.

    The weights of q, k and v are usually one Parameter, (3E, E), and so they stay: `in_proj` is one
    layer with 3E outputs. It is called once for every *different* input, and the part of its
    outputs that is needed is taken: once in self-attention, twice in cross-attention (query, and
    key = value), three times if all three differ. The products that are not needed cost time; their
    credit is zero, so that the gradient of the one Parameter is that of the fused module.

    With keys or values of other sizes (`kdim`, `vdim`), `q_proj`, `k_proj` and `v_proj` are layers
    without a bias: the three biases are one Parameter, `qkv_bias` (3E,), and are added behind them.

    Args:
        fused: an `nn.MultiheadAttention`, whose Parameters are shared.

    >>> fused = nn.MultiheadAttention(4, 2, batch_first=True)
    >>> attention = UnfusedAttention(fused)
    >>> attention.in_proj.weight is fused.in_proj_weight
    True
    >>> x = torch.ones(3, 5, 4)
    >>> bool(torch.allclose(attention(x, x, x)[0], fused(x, x, x)[0], atol=1e-6))
    True
    """

    in_proj_bias = None
    """A layer of transformers that is left as it is reads this, and then calls no fused kernel."""

    def __init__(self, fused: nn.MultiheadAttention) -> None:
        super().__init__()
        self.embed_dim, self.num_heads = fused.embed_dim, fused.num_heads
        self.kdim, self.vdim, self.head_dim = fused.kdim, fused.vdim, fused.head_dim
        self.batch_first, self.add_zero_attn = fused.batch_first, fused.add_zero_attn
        self.dropout = fused.dropout
        weight: Any = fused.in_proj_weight  # None with sizes of keys or values of their own
        self.packed = weight is not None
        if self.packed:
            self.in_proj = linear(weight, fused.in_proj_bias)
            self.qkv_bias = None
        else:
            self.q_proj = linear(fused.q_proj_weight, None)
            self.k_proj = linear(fused.k_proj_weight, None)
            self.v_proj = linear(fused.v_proj_weight, None)
            self.qkv_bias = fused.in_proj_bias
        self.bias_k, self.bias_v = fused.bias_k, fused.bias_v
        self.drop = nn.Dropout(fused.dropout)
        out: Any = fused.out_proj
        self.out_proj = linear(out.weight, out.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
        *,
        rows_first: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return outputs and weights, as `nn.MultiheadAttention` does.

        Args:
            query: (L, B, E), or (B, L, E) if `batch_first`; (L, E) without a batch.
            key: (S, B, kdim), or in the same layouts.
            value: (S, B, vdim), or in the same layouts.
            key_padding_mask: (B, S), True for keys to leave out, or numbers to add.
            need_weights: return the weights of the keys.
            attn_mask: (L, S) or (B·H, L, S), True for pairs to leave out, or numbers to add.
            average_attn_weights: return the mean weights of the heads.
            is_causal: says that `attn_mask` is causal, which is not used: the mask is.
            rows_first: the sequences are (B, …, E), whatever `batch_first` is; also the outputs.

        Returns:
            Outputs in the layout of the queries; weights (B, L, S), or (B, H, L, S) if they are not
            averaged, or None.

        Raises:
            InputError: for a mask of another shape, or `is_causal` without a mask.
        """
        if is_causal and attn_mask is None:
            raise InputError("is_causal without attn_mask: give the causal mask as attn_mask")
        batched = query.dim() == 3
        swaps = batched and not (self.batch_first or rows_first)
        known: dict[int, Tensor] = {}
        for x in (query, key, value):  # one tensor given three times stays one
            if id(x) not in known:
                known[id(x)] = swapped(x) if swaps else x if batched else x[None]
        q, k, v = self._projected(*(known[id(x)] for x in (query, key, value)))
        padding = key_padding_mask
        if padding is not None and not batched:
            padding = padding[None]
        keys = known[id(key)].shape[1]
        mask = merged(attn_mask, padding, q, keys, k.shape[2] - keys)
        heads, weights = self._attended(q, k, v, mask, need_weights)
        output = self.out_proj(heads)
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        if not batched:
            return output[0], None if weights is None else weights[0]
        return swapped(output) if swaps else output, weights

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        """Return q (B, H, L, d), k and v (B, H, S, d)."""
        if self.packed:
            products: dict[int, tuple[Tensor, ...]] = {}
            for x in (query, key, value):
                if id(x) not in products:
                    products[id(x)] = self.in_proj(x).chunk(3, -1)
            q, k, v = (products[id(x)][i] for i, x in enumerate((query, key, value)))
        else:
            q, k, v = self.q_proj(query), self.k_proj(key), self.v_proj(value)
            if self.qkv_bias is not None:
                b_q, b_k, b_v = self.qkv_bias.chunk(3)
                q, k, v = q + b_q, k + b_k, v + b_v
        if self.bias_k is not None and self.bias_v is not None:
            k = torch.cat([k, self.bias_k.expand(len(k), 1, -1)], 1)
            v = torch.cat([v, self.bias_v.expand(len(v), 1, -1)], 1)
        q, k, v = (x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in (q, k, v))
        if self.add_zero_attn:
            k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
        return q, k, v

    def _attended(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return the outputs of the heads, (B, L, E), and their weights (B, H, L, S) or None."""
        weights = None
        if need_weights or (self.drop.training and self.drop.p > 0):
            scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
            weights = self.drop((scores if mask is None else scores + mask).softmax(-1))
            heads = weights @ v
        else:
            heads = F.scaled_dot_product_attention(q, k, v, mask)
        return heads.transpose(1, 2).flatten(2), weights if need_weights else None

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"{self.embed_dim}, num_heads={self.num_heads}, batch_first={self.batch_first}"


def merged(
    attn_mask: Tensor | None, padding: Tensor | None, q: Tensor, keys: int, added: int
) -> Tensor | None:
    """Return what is added to q kᵀ/√d, broadcast to (B, H, L, S + added); None: nothing.

    Args:
        attn_mask: (L, S) or (B·H, L, S), or None.
        padding: (B, S), or None.
        q: (B, H, L, d).
        keys: S.
        added: keys behind these, which no mask names.

    Raises:
        InputError: for a mask of another shape.
    """
    batch, heads, queries, _ = q.shape
    found = None
    if attn_mask is not None:
        _check_shape("attn_mask", attn_mask, (queries, keys), (batch * heads, queries, keys))
        found = _numbers(attn_mask, q)
        found = found if found.dim() == 2 else found.unflatten(0, (batch, heads))
    if padding is not None:
        _check_shape("key_padding_mask", padding, (batch, keys))
        numbers = _numbers(padding, q)[:, None, None]
        found = numbers if found is None else found + numbers
    return F.pad(found, (0, added)) if found is not None and added else found


def _numbers(mask: Tensor, like: Tensor) -> Tensor:
    """Return a mask as numbers to be added: −∞ where it is True."""
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill_(mask, float("-inf"))


def _check_shape(name: str, mask: Tensor, *shapes: tuple[int, ...]) -> None:
    if tuple(mask.shape) not in shapes:
        wanted = " or ".join(map(str, shapes))
        raise InputError(f"{name} has shape {tuple(mask.shape)}: give it shape {wanted}")


def unfused_attention(fused: nn.MultiheadAttention) -> UnfusedAttention | None:
    """Return attention of layers in place of a fused module; None if it holds other Parameters."""
    out = fused.out_proj
    plain = type(out).__module__.startswith("torch.nn.modules.") and holds(out, ("weight", "bias"))
    return UnfusedAttention(fused) if plain and holds(fused, NAMES) else None
