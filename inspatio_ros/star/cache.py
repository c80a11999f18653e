# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The implicit spatiotemporal cache: keys and values of the reference and of the last block, nothing older.

The context pass writes all of it anew for every block, from position 0. Denoising passes read it, followed by their
own keys and values, and leave what is remembered as it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from inspatio_ros.config import TransformerConfig


class Cache:
    """Keys and values by reference: what training uses, because gradients flow through everything it holds.

    Keys (after norm and rotary) and values are [B, tokens, heads, head_dim], one pair a layer.
    """

    def __init__(self, num_layers: int) -> None:
        self.num_layers = num_layers
        self.length = 0
        self._keys: list[Tensor | None] = [None] * num_layers
        self._values: list[Tensor | None] = [None] * num_layers
        self._stays = False

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Replace what a layer remembers by the context pass's keys and values; gives back what to attend to."""
        if not self._stays:
            self.length = keys.shape[1]
            self._keys[layer], self._values[layer] = keys, values
        return keys, values

    @contextlib.contextmanager
    def staying(self) -> Iterator[None]:
        """Leave everything as it is meanwhile: a layer that is computed again for its gradient would else be kept."""
        self._stays = True
        try:
            yield
        finally:
            self._stays = False

    def read(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Give what a layer remembers, followed by the block's own [B, block tokens, heads, head_dim]."""
        if self.length == 0:
            return keys, values
        return torch.cat([self._keys[layer], keys], dim=1), torch.cat([self._values[layer], values], dim=1)

    def remembered(self, layer: int) -> tuple[Tensor, Tensor]:
        """Give the keys and values [B, length, heads, head_dim] that a layer remembers."""
        if self.length == 0 or self._keys[layer] is None:
            raise IndexError(f'layer {layer} remembers nothing yet; run the context pass first')
        return self._keys[layer], self._values[layer]

    def reset(self) -> None:
        """Forget everything."""
        self.length = 0
        self._keys = [None] * self.num_layers
        self._values = [None] * self.num_layers


class StaticCache(Cache):
    """The same in buffers that are allocated once and written in place: what inference uses; no gradients.

    Each layer has room for the reference, the last block and the current block, in this order, so that a denoising
    pass puts its own keys and values behind the remembered ones and attends to one view of the buffer.
    """

    def __init__(self, config: TransformerConfig, batch: int, block_tokens: int, device: torch.device | str = 'cpu',
                 dtype: torch.dtype = torch.float32) -> None:
        super().__init__(config.num_layers)
        shape = (batch, 3 * block_tokens, config.num_heads, config.head_dim)
        self._keys = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.num_layers)]
        self._values = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.num_layers)]

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write the context pass's keys and values from position 0; gives back the views to attend to."""
        self.length = keys.shape[1]
        return self._put(layer, 0, keys, values)

    def read(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put the block's keys and values behind the remembered ones; gives back one view over both."""
        return self._put(layer, self.length, keys, values)

    def remembered(self, layer: int) -> tuple[Tensor, Tensor]:
        """Give views [B, length, heads, head_dim] of what a layer remembers."""
        if self.length == 0:
            raise IndexError(f'layer {layer} remembers nothing yet; run the context pass first')
        return self._keys[layer][:, :self.length], self._values[layer][:, :self.length]

    def reset(self) -> None:
        """Forget everything; the buffers stay."""
        self.length = 0
        for buffer in (*self._keys, *self._values):
            buffer.zero_()

    def _put(self, layer: int, start: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        end = start + keys.shape[1]
        self._keys[layer][:, start:end].copy_(keys)
        self._values[layer][:, start:end].copy_(values)
        return self._keys[layer][:, :end], self._values[layer][:, :end]
