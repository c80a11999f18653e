# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Make Fast DDS fit for large images, unless the user has said otherwise.

Its shared memory segment holds half a megabyte by default, less than one image, so images go through UDP in thousands
of fragments. The profile beside this file gives it room; publishing asynchronously takes the copy into the segment off
the thread that publishes. Both only have defaults here: what the environment says wins.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path

#: The Fast DDS profile with the larger segment.
PROFILE = Path(__file__).with_name('fastdds.xml')

#: Free bytes of shared memory below which the profile is not used: the segment must fit, with room for others.
NEEDED = 2 * 64 * 2**20

_SHARED_MEMORY = Path('/dev/shm')
_PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def prepare() -> str | None:
    """Set the environment of this process up, before rclpy.init; say what was left undone, None if nothing was."""
    _keep_large_buffers()
    os.environ.setdefault('RMW_FASTRTPS_PUBLICATION_MODE', 'ASYNCHRONOUS')
    if any(os.environ.get(name) for name in _PROFILE_VARIABLES):
        return None
    free = shutil.disk_usage(_SHARED_MEMORY).free if _SHARED_MEMORY.is_dir() else 0
    if free < NEEDED:
        return (f'{_SHARED_MEMORY} has {free // 2**20} MiB free, {NEEDED // 2**20} are needed for large images; they '
                'go through the network stack instead (in a container: --shm-size=256m)')
    for name in _PROFILE_VARIABLES:
        os.environ[name] = str(PROFILE)
    return None


def _keep_large_buffers() -> None:
    """Have malloc keep the buffers of messages: asking the kernel for 6 MB anew for each cloud costs 1 ms of faults."""
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)
        libc.mallopt(_M_TRIM_THRESHOLD, 256 * 2**20)
    except (OSError, AttributeError):
        # Not glibc: nothing to tune.
        pass
