# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Render what the next block is given while this one is generated: one block ahead, in one thread.

On a GPU everything is rendered on one stream of its own, whether ahead or not. So what the render keeps from block to
block never changes streams; only what is handed over does, and waits there for no more than its own render.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

#: Makes what a block is given from its poses [F, 4, 4] and times [F] in seconds.
Render = Callable[[np.ndarray, np.ndarray], Any]


@dataclass(frozen=True)
class _Ahead:
    """What is being rendered for poses [F, 4, 4] at times [F]."""

    poses: np.ndarray
    times: np.ndarray
    rendered: Future

    def is_for(self, poses: np.ndarray, times: np.ndarray) -> bool:
        return np.array_equal(self.poses, poses) and np.array_equal(self.times, times)


class LookAhead:
    """Renders for one caller, at most one block ahead; never two renders at once."""

    def __init__(self, device: torch.device | str) -> None:
        self._stream = torch.cuda.Stream(device) if torch.device(device).type == 'cuda' else None
        self._thread: ThreadPoolExecutor | None = None
        self._ahead: _Ahead | None = None

    def start(self, render: Render, poses: np.ndarray, times: np.ndarray) -> None:
        """Begin to render for the coming block in the background; what was begun before and not taken is dropped."""
        if self._ahead is not None and self._ahead.is_for(poses, times):
            return
        self.drop()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix='inspatio_look_ahead')
        self._ahead = _Ahead(poses, times, self._thread.submit(self._run, render, poses, times))

    def take(self, render: Render, poses: np.ndarray, times: np.ndarray) -> Any:
        """Give what was rendered for these poses and times, now if it was not ahead; raises what the render raised."""
        ahead = self._ahead
        if ahead is not None and ahead.is_for(poses, times):
            self._ahead = None
            rendered, done = ahead.rendered.result()
        else:
            self.drop()
            rendered, done = self._run(render, poses, times)
        if done is not None:
            _hand_over(rendered, done)
        return rendered

    def drop(self) -> None:
        """Forget what was begun, and its error; waits for a render in the works, which must not meet another."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and not ahead.rendered.cancel():
            wait([ahead.rendered])

    def close(self) -> None:
        """End the thread."""
        self.drop()
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None

    def _run(self, render: Render, poses: np.ndarray, times: np.ndarray) -> tuple[Any, torch.cuda.Event | None]:
        with torch.cuda.stream(self._stream) if self._stream is not None else nullcontext():
            rendered = render(poses, times)
            return rendered, None if self._stream is None else self._stream.record_event()


def _hand_over(rendered: Any, done: torch.cuda.Event) -> None:
    """Let the current stream use what another one rendered, once that is done."""
    for tensor in tensors_in(rendered):
        current = torch.cuda.current_stream(tensor.device)
        current.wait_event(done)
        # Its memory must not be given to others while this stream may still read it.
        tensor.record_stream(current)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """List the tensors in tuples, lists and dataclasses within each other."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors_in(item)
    elif is_dataclass(value):
        for field in fields(value):
            yield from tensors_in(getattr(value, field.name))
