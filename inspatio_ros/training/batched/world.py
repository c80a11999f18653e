# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A scene at the times of a batch of views, as tensors on the device that casts it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from inspatio_ros.geometry import PinholeCamera
from inspatio_ros.scenes import textures
from inspatio_ros.scenes.grid import bounding_spheres, extent
from inspatio_ros.scenes.raycast import offsets, spread, windows
from inspatio_ros.scenes.scene import Scene
from inspatio_ros.scenes.shapes import PLANE
from inspatio_ros.training.batched.pairs import columns
from inspatio_ros.training.batched.solids import Vector


class World:
    """V views of a scene with N solids and L lights. Positions are taken relative to the eye in double precision.

    `maps` [V, N, 3, 4] take the world to unit shapes; `origin` [V, N, 3] is the eye there, and `rays` [V, N, 3, 3]
    take K^-1 (x, y, 1) there; `turn` [V, 3, 3] takes it to the world. `kinds` is `shape` on the host.
    """

    def __init__(self, scene: Scene, camera: PinholeCamera, T_world_camera: np.ndarray, times: np.ndarray,
                 samples: int, device: torch.device) -> None:
        def tensor(array: np.ndarray, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.as_tensor(np.ascontiguousarray(array)).to(device, dtype)

        poses = _poses(scene, times)
        maps = np.stack([scene.to_unit(T) for T in poses])
        eye, turn = T_world_camera[:, :3, 3], T_world_camera[:, :3, :3]
        self.maps, self.eye, self.turn = tensor(maps), tensor(eye), tensor(turn)
        self.origin = tensor(maps[..., :3] @ eye[:, None, :, None] + maps[..., 3:])[..., 0]
        self.rays = tensor(maps[..., :3] @ turn[:, None])
        self.centre = tensor(poses[:, :, :3, 3])
        self.radius = tensor(bounding_spheres(scene, poses[0])[1])
        seen = [windows(scene, T, camera, pose) for T, pose in zip(poses, T_world_camera, strict=True)]
        self.rectangle = tensor(np.stack([rectangle for rectangle, _, _ in seen]))
        self.order = tensor(np.stack([order for _, _, order in seen]), torch.int64)
        self.rank = self.order.argsort(dim=1)
        self.kinds = torch.from_numpy(scene.shape).long()
        self.shape, self.half_size = self.kinds.to(device), tensor(scene.half_size)
        self.casts, self.moves = (tensor(flags, torch.bool) for flags in (scene.casts, scene.moves))
        self._place_materials(scene, tensor)
        self._place_lights(scene, samples, tensor)
        self.offsets = tensor(offsets(samples))
        self._low, self._high = (tensor(corner) for corner in extent(scene))

    def _place_materials(self, scene: Scene, tensor: Callable[..., Tensor]) -> None:
        self.material, self.pattern = tensor(scene.material, torch.int64), tensor(scene.pattern, torch.int64)
        self.patterns = sorted(set(scene.pattern.tolist()))
        self.colours, self.numbers = tensor(scene.colours), tensor(scene.numbers)
        self.seed = tensor(scene.numbers[:, textures.SEED], torch.int64)
        self.glossy = (self.numbers[:, textures.SPECULAR] > 0)[self.material].any(dim=1)
        self.background, self.photographs = tensor(scene.background), tensor(scene.photographs)

    def _place_lights(self, scene: Scene, samples: int, tensor: Callable[..., Tensor]) -> None:
        lights = scene.lights
        self.spread, self.colour, self.fade = tensor(spread(scene, samples)), tensor(lights.colour), tensor(lights.fade)
        self.ambient, self._light, self._light_radius = (
            tensor(lights.ambient), tensor(lights.position), tensor(lights.radius))

    def to_unit(self, view: Tensor, solid: Tensor, at: Vector, is_direction: bool = False) -> Vector:
        """Take points (or directions) [P, ...] of pairs (view [P], solid [P]) to the unit space of the solids."""
        m = columns(self.maps[view, solid].flatten(1))
        turned = (m[4 * i] * at[0] + m[4 * i + 1] * at[1] + m[4 * i + 2] * at[2] for i in range(3))
        return tuple(turned) if is_direction else tuple(part + m[4 * i + 3] for i, part in enumerate(turned))

    def in_grid(self, at: Vector) -> Tensor:
        """Say which points lie where shadows and closeness are computed."""
        return torch.stack([(part >= self._low[i]) & (part < self._high[i]) for i, part in enumerate(at)]).all(dim=0)

    def may_shade(self, view: Tensor, centre: Tensor, radius: Tensor, light: int) -> Tensor:
        """Say which solids may come between balls (centre [blocks, 3], radius [blocks]) and a light: [blocks, N].

        That is where the line between the two middles meets the solid's box, grown as the balls grow along the line.
        """
        maps = self.maps[view]
        # Not a matrix product, which a GPU may be told to compute with fewer digits than a bound may lose.
        o = (maps[..., :3] * centre[:, None, None]).sum(dim=-1) + maps[..., 3]
        d = (maps[..., :3] * (self._light[light] - centre)[:, None, None]).sum(dim=-1)
        size = 1 + radius[:, None, None] / self.half_size
        growth = (self._light_radius[light] - radius)[:, None, None] / self.half_size
        # Both sides of the three slabs: slope * s <= room, for some s in [0, 1].
        slope, room = torch.cat([d - growth, -d - growth], dim=-1), torch.cat([size - o, size + o], dim=-1)
        at = room / torch.where(slope.abs() > 1e-12, slope, 1e-12)
        enter = torch.where(slope < 0, at, 0.).amax(dim=-1).clamp(min=0)
        leave = torch.where(slope > 0, at, 1.).amin(dim=-1).clamp(max=1)
        possible = (room >= 0) | (slope < 0)
        return ((enter <= leave) & possible.all(dim=-1) & self.casts & (self.shape < PLANE) & (radius >= 0)[:, None])


def _poses(scene: Scene, times: np.ndarray) -> np.ndarray:
    """Give T_world_object [V, N, 4, 4] at times [V]; what is asked for twice is computed once."""
    known = {time: scene.poses(time) for time in set(map(float, times))}
    return np.stack([known[float(time)] for time in times])
