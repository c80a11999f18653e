# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Bring tensors to the host while the device goes on: pinned memory, a stream of its own, one wait at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from inspatio_ros.spatial.pixels import mask_to_uint8, to_bytes, to_uint8


@dataclass(frozen=True)
class OnTheWay:
    """An array that is being copied."""

    _host: Tensor
    _arrived: object | None

    def is_here(self) -> bool:
        """Say whether it has arrived, without waiting."""
        return self._arrived is None or self._arrived.query()

    def wait(self) -> None:
        """Wait for the copy, and so for every one that was started before it."""
        if self._arrived is not None:
            self._arrived.synchronize()

    def array(self) -> np.ndarray:
        """Wait for the copy and give it."""
        self.wait()
        return self._host.numpy()

    def place(self) -> np.ndarray:
        """Give the array without waiting; what it holds is there after `wait`."""
        return self._host.numpy()


class HostCopies:
    """Copies from one device, which arrive in the order in which they are started; on the CPU nothing is copied."""

    def __init__(self, device: torch.device | str) -> None:
        self._stream = torch.cuda.Stream(device) if torch.device(device).type == 'cuda' else None

    def start(self, tensor: Tensor, into: Tensor | None = None) -> OnTheWay:
        """Start copying a tensor as it will be when the work queued so far is done; `into` what `room` gave, say."""
        if self._stream is None:
            return OnTheWay(tensor if into is None else into.copy_(tensor), None)
        host = self.room(tensor.shape, tensor.dtype) if into is None else into
        self._stream.wait_stream(torch.cuda.current_stream(tensor.device))
        with torch.cuda.stream(self._stream):
            host.copy_(tensor, non_blocking=True)
            # Its memory must not be given to others before the copy is done.
            tensor.record_stream(self._stream)
            arrived = torch.cuda.Event()
            arrived.record()
        return OnTheWay(host, arrived)

    def start_images(self, images: Tensor, into: Tensor | None = None) -> OnTheWay:
        """Start turning images float32 [F, 3, H, W] in [-1, 1] into uint8 RGB [F, H, W, 3] on the host."""
        if self._stream is None:
            return OnTheWay(torch.from_numpy(to_uint8(images, None if into is None else into.numpy())), None)
        return self.start(to_bytes(images), into)

    def start_masks(self, masks: Tensor) -> OnTheWay:
        """Start turning masks float32 [F, 1, H, W], 1 known and 0 hole, into uint8 [F, H, W], 255 and 0."""
        if self._stream is None:
            return OnTheWay(torch.from_numpy(mask_to_uint8(masks)), None)
        return self.start((masks[:, 0] > 0.5).to(torch.uint8).mul_(255))

    def room(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Give memory of the host that copies are made into: pinned, or they would wait."""
        return torch.empty(tuple(shape), dtype=dtype, pin_memory=self._stream is not None)
