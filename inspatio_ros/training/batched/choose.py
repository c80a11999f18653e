# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Choose what casts scenes: compiled kernels on a CPU, torch on a GPU."""

from __future__ import annotations

import numpy as np

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.geometry import PinholeCamera
from inspatio_ros.scenes.clips import Cast
from inspatio_ros.scenes.raycast import Image, raycast_path
from inspatio_ros.scenes.scene import Scene

KERNELS = ('auto', 'numba', 'torch')


def choose_cast(device: str = 'cpu', kernel: str = 'auto') -> Cast:
    """Give the ray caster for a device. `kernel` is 'torch' or 'numba' (CPU only); 'auto' takes numba on the CPU."""
    if kernel not in KERNELS:
        raise ConfigurationError(f'kernel {kernel!r} is unknown; choose one of {", ".join(KERNELS)}')
    if kernel == 'numba' or (kernel == 'auto' and device == 'cpu'):
        return raycast_path

    def cast_in_torch(scene: Scene, camera: PinholeCamera, T_world_camera: np.ndarray, times: np.ndarray,
                      samples: int) -> Image:
        from inspatio_ros.training.batched.caster import cast
        seen = cast(scene, camera, T_world_camera, times, samples, device)
        return Image(*(part.cpu().numpy() for part in (seen.image, seen.z_depth, seen.moving)))

    return cast_in_torch
