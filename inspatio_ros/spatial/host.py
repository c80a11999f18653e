# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Bring tensors to the host while the device goes on: pinned memory, a stream of its own, one wait at the end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class OnTheWay:
    """An array that is being copied."""

    _host: Tensor
    _arrived: object | None

    def is_here(self) -> bool:
        """Say whether it has arrived, without waiting."""
        return self._arrived is None or self._arrived.query()

    def array(self) -> np.ndarray:
        """Wait for the copy and give it."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._host.numpy()


class HostCopies:
    """Copies from one device; on the CPU nothing is copied."""

    def __init__(self, device: torch.device | str) -> None:
        self._stream = torch.cuda.Stream(device) if torch.device(device).type == 'cuda' else None

    def start(self, tensor: Tensor) -> OnTheWay:
        """Start copying a tensor as it will be when the work queued so far is done."""
        if self._stream is None:
            return OnTheWay(tensor, None)
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._stream.wait_stream(torch.cuda.current_stream(tensor.device))
        with torch.cuda.stream(self._stream):
            host.copy_(tensor, non_blocking=True)
            # Its memory must not be given to others before the copy is done.
            tensor.record_stream(self._stream)
            arrived = torch.cuda.Event()
            arrived.record()
        return OnTheWay(host, arrived)


def to_bytes(image: Tensor) -> Tensor:
    """Turn images float32 [F, 3, H, W] in [-1, 1] into uint8 RGB [F, H, W, 3] on their device, rounded to nearest."""
    scaled = (image + 1.).mul_(127.5).round_().clamp_(0., 255.).to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).contiguous()
