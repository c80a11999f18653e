# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Make Fast DDS and malloc fit for large images, unless the user has said otherwise.

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
#: By these users choose transports; Fast DDS does not look at the last one where a profile says which.
_CHOSEN = (*_PROFILE_VARIABLES, 'FASTDDS_BUILTIN_TRANSPORTS')
#: mallopt's name for it, from malloc.h.
_M_ARENA_MAX = -8


def prepare() -> str | None:
    """Set the environment of this process up, before rclpy.init; say what was left undone, None if nothing was."""
    _bound_arenas()
    os.environ.setdefault('RMW_FASTRTPS_PUBLICATION_MODE', 'ASYNCHRONOUS')
    if any(os.environ.get(name) for name in _CHOSEN):
        return None
    free = shutil.disk_usage(_SHARED_MEMORY).free if _SHARED_MEMORY.is_dir() else 0
    if free < NEEDED:
        return (f'{_SHARED_MEMORY} has {free // 2**20} MiB free, {NEEDED // 2**20} are needed for large images; they '
                'go through the network stack instead (in a container: --shm-size=256m)')
    for name in _PROFILE_VARIABLES:
        os.environ[name] = str(PROFILE)
    return None


def _bound_arenas() -> None:
    """Have all threads share two of malloc's arenas.

    Images come and go in threads of several libraries; with an arena for each, resident memory creeps up for minutes as
    each is fragmented on its own (measured at 832x480: +4 % from two minutes to six; with two arenas it is flat).
    """
    try:
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)
    except (OSError, AttributeError):
        # Not glibc: nothing to tune.
        pass
