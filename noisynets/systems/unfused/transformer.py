"""Layers of transformers, and their stacks, that call every module inside and no fused kernel.

In `eval()` mode without gradients the originals compute a whole layer in one kernel, and padded
batches as nested tensors. Here, every sequence is (B, T, E) between entrance and exit, whatever
`batch_first` says. The modules inside are those of the original.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from noisynets.systems.unfused.parts import RowsFirst, call_rows_first, swapped


class UnfusedEncoderLayer(nn.TransformerEncoderLayer, RowsFirst):
    """An `nn.TransformerEncoderLayer` without a fused kernel; `unfused` makes it."""

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
        *,
        rows_first: bool = False,
    ) -> Tensor:
        """Return what the original returns.

        Args:
            src: (T, B, E), or (B, T, E) if the attention is `batch_first`.
            src_mask: (T, T) or (B·H, T, T).
            src_key_padding_mask: (B, T).
            is_causal: says that `src_mask` is causal.
            rows_first: `src` is (B, T, E) in any case; also the output.
        """
        swaps = not (rows_first or self.self_attn.batch_first)
        x = swapped(src) if swaps else src
        masks = (src_mask, src_key_padding_mask, is_causal)
        if self.norm_first:
            x = x + self._sa_block(self.norm1(x), *masks)
            x = x + self._ff_block(self.norm2(x))
        else:
            x = self.norm1(x + self._sa_block(x, *masks))
            x = self.norm2(x + self._ff_block(x))
        return swapped(x) if swaps else x

    def _sa_block(
        self,
        x: Tensor,
        attn_mask: Tensor | None,
        key_padding_mask: Tensor | None,
        is_causal: bool = False,
    ) -> Tensor:
        masks = (attn_mask, key_padding_mask, is_causal)
        return self.dropout1(attended(self.self_attn, x, x, *masks))


class UnfusedDecoderLayer(nn.TransformerDecoderLayer, RowsFirst):
    """An `nn.TransformerDecoderLayer` without a fused kernel; `unfused` makes it."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickle; PyTorch's own method puts ReLU in the place of an activation module."""
        nn.Module.__setstate__(self, state)

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
        *,
        rows_first: bool = False,
    ) -> Tensor:
        """Return what the original returns.

        Args:
            tgt: (T, B, E), or (B, T, E) if the attention is `batch_first`.
            memory: (S, B, E), or (B, S, E).
            tgt_mask: (T, T) or (B·H, T, T).
            memory_mask: (T, S) or (B·H, T, S).
            tgt_key_padding_mask: (B, T).
            memory_key_padding_mask: (B, S).
            tgt_is_causal: says that `tgt_mask` is causal.
            memory_is_causal: says that `memory_mask` is causal.
            rows_first: `tgt` and `memory` have the batch first in any case; also the output.
        """
        swaps = not (rows_first or self.self_attn.batch_first)
        x, memory = (swapped(tgt), swapped(memory)) if swaps else (tgt, memory)
        own = (tgt_mask, tgt_key_padding_mask, tgt_is_causal)
        cross = (memory, memory_mask, memory_key_padding_mask, memory_is_causal)
        if self.norm_first:
            x = x + self._sa_block(self.norm1(x), *own)
            x = x + self._mha_block(self.norm2(x), *cross)
            x = x + self._ff_block(self.norm3(x))
        else:
            x = self.norm1(x + self._sa_block(x, *own))
            x = self.norm2(x + self._mha_block(x, *cross))
            x = self.norm3(x + self._ff_block(x))
        return swapped(x) if swaps else x

    def _sa_block(
        self,
        x: Tensor,
        attn_mask: Tensor | None,
        key_padding_mask: Tensor | None,
        is_causal: bool = False,
    ) -> Tensor:
        masks = (attn_mask, key_padding_mask, is_causal)
        return self.dropout1(attended(self.self_attn, x, x, *masks))

    def _mha_block(
        self,
        x: Tensor,
        mem: Tensor,
        attn_mask: Tensor | None,
        key_padding_mask: Tensor | None,
        is_causal: bool = False,
    ) -> Tensor:
        masks = (attn_mask, key_padding_mask, is_causal)
        return self.dropout2(attended(self.multihead_attn, x, mem, *masks))


def attended(
    attention: nn.Module,
    x: Tensor,
    memory: Tensor,
    mask: Tensor | None,
    padding: Tensor | None,
    is_causal: bool,
) -> Tensor:
    """Return the outputs of attention of x (B, T, E) to a memory (B, S, E): (B, T, E)."""
    settings = {"attn_mask": mask, "key_padding_mask": padding, "is_causal": is_causal}
    batch_first = bool(attention.batch_first)
    return call_rows_first(
        attention, x, memory, memory, batch_first=batch_first, need_weights=False, **settings
    )


class UnfusedEncoder(nn.TransformerEncoder, RowsFirst):
    """An `nn.TransformerEncoder` without nested tensors; `unfused` makes it."""

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
        *,
        rows_first: bool = False,
    ) -> Tensor:
        """Return what the original returns.

        Args:
            src: (T, B, E), or (B, T, E) if the attention of its layers is `batch_first`.
            mask: (T, T) or (B·H, T, T).
            src_key_padding_mask: (B, T).
            is_causal: says that `mask` is causal.
            rows_first: `src` is (B, T, E) in any case; also the output.
        """
        batch_first = bool(self.layers[0].self_attn.batch_first)
        swaps = not (rows_first or batch_first)
        x = swapped(src) if swaps else src
        settings = {
            "src_mask": mask,
            "src_key_padding_mask": src_key_padding_mask,
            "is_causal": bool(is_causal),
        }
        for layer in self.layers:
            x = call_rows_first(layer, x, batch_first=batch_first, **settings)
        if self.norm is not None:
            x = self.norm(x)
        return swapped(x) if swaps else x


class UnfusedDecoder(nn.TransformerDecoder, RowsFirst):
    """An `nn.TransformerDecoder`; `unfused` makes it."""

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
        *,
        rows_first: bool = False,
    ) -> Tensor:
        """Return what the original returns; see `UnfusedDecoderLayer` for the arguments."""
        batch_first = bool(self.layers[0].self_attn.batch_first)
        swaps = not (rows_first or batch_first)
        x, memory = (swapped(tgt), swapped(memory)) if swaps else (tgt, memory)
        settings = {
            "tgt_mask": tgt_mask,
            "memory_mask": memory_mask,
            "tgt_key_padding_mask": tgt_key_padding_mask,
            "memory_key_padding_mask": memory_key_padding_mask,
            "tgt_is_causal": bool(tgt_is_causal),
            "memory_is_causal": memory_is_causal,
        }
        for layer in self.layers:
            x = call_rows_first(layer, x, memory, batch_first=batch_first, **settings)
        if self.norm is not None:
            x = self.norm(x)
        return swapped(x) if swaps else x


class UnfusedTransformer(nn.Transformer):
    """An `nn.Transformer` whose sequences have the batch first inside; `unfused` makes it."""

    def forward(
        self,
        src: Tensor,
        tgt: Tensor,
        src_mask: Tensor | None = None,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Return what the original returns.

        Args:
            src: (S, B, E), or (B, S, E) if `batch_first`.
            tgt: (T, B, E), or (B, T, E) if `batch_first`.
            src_mask: (S, S) or (B·H, S, S).
            tgt_mask: (T, T) or (B·H, T, T).
            memory_mask: (T, S) or (B·H, T, S).
            src_key_padding_mask: (B, S).
            tgt_key_padding_mask: (B, T).
            memory_key_padding_mask: (B, S).
            src_is_causal: says that `src_mask` is causal.
            tgt_is_causal: says that `tgt_mask` is causal.
            memory_is_causal: says that `memory_mask` is causal.
        """
        x, y = (src, tgt) if self.batch_first else (swapped(src), swapped(tgt))
        memory = call_rows_first(
            self.encoder,
            x,
            batch_first=self.batch_first,
            mask=src_mask,
            src_key_padding_mask=src_key_padding_mask,
            is_causal=src_is_causal,
        )
        output: Tensor = call_rows_first(
            self.decoder,
            y,
            memory,
            batch_first=self.batch_first,
            tgt_mask=tgt_mask,
            memory_mask=memory_mask,
            tgt_key_padding_mask=tgt_key_padding_mask,
            memory_key_padding_mask=memory_key_padding_mask,
            tgt_is_causal=tgt_is_causal,
            memory_is_causal=memory_is_causal,
        )
        return output if self.batch_first else swapped(output)
