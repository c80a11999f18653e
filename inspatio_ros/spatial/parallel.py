# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Run numba kernels that release the GIL on all cores that torch may use.

This is a pool of our own since numba's parallel loops abort the process when two Python threads (a node's worker and a
publisher, say) enter them at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import torch


def bands(frames: int, rows: int) -> list[tuple[int, int]]:
    """Split rows into bands (start, end), so many that the bands of all frames keep every thread busy."""
    count = max(1, min(-(-torch.get_num_threads() // max(frames, 1)), rows))
    edges = np.linspace(0, rows, count + 1).round().astype(int).tolist()
    return list(zip(edges[:-1], edges[1:], strict=True))


def run_parallel(function: Callable[..., object], jobs: Sequence[tuple]) -> None:
    """Call `function(*job)` for each job, on as many threads as torch may use; the first error is raised."""
    threads = torch.get_num_threads()
    if threads == 1 or len(jobs) == 1:
        for job in jobs:
            function(*job)
    else:
        list(_pool(threads).map(lambda job: function(*job), jobs))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix='splat')
