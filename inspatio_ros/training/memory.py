# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Keep freed memory in the process, so that training on a CPU does not spend its time on page faults."""

from __future__ import annotations

import ctypes
import ctypes.util

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_KEEP_BYTES = 2**31 - 1
_GROW_BYTES = 2**28


def keep_freed_memory() -> bool:
    """Tell glibc to keep what is freed and to take memory in large pieces; False where there is no glibc.

    By default every large tensor is mapped anew and its pages are faulted in one by one; where that is dear (virtual
    machines and sandboxes) a training step took ten times as long.
    """
    name = ctypes.util.find_library('c')
    if name is None:
        return False
    libc = ctypes.CDLL(name)
    if not hasattr(libc, 'mallopt'):
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _KEEP_BYTES), (_M_TOP_PAD, _GROW_BYTES))
    return all(libc.mallopt(key, value) == 1 for key, value in settings)
