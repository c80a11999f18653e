# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""CUDA graphs: thousands of kernels started by one call, at fixed addresses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

#: Calls before the capture: libraries choose their kernels and allocate their workspaces in the first ones.
_WARM_UPS = 2


class CapturedCall:
    """A function of tensors, captured once and replayed.

    Whatever else the function reads or writes (weights, the cache) must stay where it is. The result lies in the
    graph's own memory and is overwritten by the next call. An input that is None stays None.
    """

    def __init__(self, function: Callable[..., Tensor], inputs: Sequence[Tensor | None]) -> None:
        self._inputs = [None if given is None else given.clone() for given in inputs]
        self._device = next(given.device for given in inputs if given is not None)
        # Streams are those of the current device, which need not be the one that the tensors are on.
        with torch.cuda.device(self._device):
            self._capture(function)

    def _capture(self, function: Callable[..., Tensor]) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                function(*self._inputs)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may go on with what a capture of theirs would forbid: one renders what the next block is given.
        with torch.cuda.graph(self._graph, stream=side, capture_error_mode='thread_local'):
            self._output = function(*self._inputs)

    def __call__(self, *inputs: Tensor | None) -> Tensor:
        """Replay on new inputs of the same shapes."""
        for own, given in zip(self._inputs, inputs, strict=True):
            if (own is None) != (given is None):
                raise ValueError('a captured call cannot change which of its inputs are None')
            if own is not None:
                own.copy_(given, non_blocking=True)
        with torch.cuda.device(self._device):
            self._graph.replay()
        return self._output
