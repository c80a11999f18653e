# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A recording fused into one cloud."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.geometry import PinholeCamera, make_pose
from inspatio_ros.reference.base import Reference, ReferenceFrame
from inspatio_ros.spatial import fusion


class Wall(Reference):
    """A wall two metres ahead, seen from places a step apart; one pixel of each frame is a flying one."""

    def __init__(self, frames: int = 5) -> None:
        self.name, self.camera = 'wall', PinholeCamera(40., 40., 19.5, 14.5, 40, 30)
        self.times = np.arange(frames) / 10.
        self.T_world_camera = np.stack([make_pose(translation=np.array([0.01 * i, 0., 0.])) for i in range(frames)])
        self.up = np.array([0., -1., 0.])
        self.asked = []

    def frame(self, index: int) -> ReferenceFrame:
        self.asked.append(index)
        z_depth = np.full((30, 40), 2., dtype=np.float32)
        z_depth[0], z_depth[1] = np.nan, 50.
        z_depth[15, 20] = 0.7 + 0.1 * index
        image = np.full((30, 40, 3), (200, 100, 50), dtype=np.uint8)
        return ReferenceFrame(index, float(self.times[index]), image, z_depth, self.T_world_camera[index])


def test_frames_are_spread_and_bounded():
    wall = Wall(100)
    assert [frame.index for frame in fusion.spread_frames(wall, 4)] == [0, 33, 66, 99]
    assert len(list(fusion.spread_frames(Wall(3), 24))) == 3


@pytest.mark.parametrize('out_of_process', [False, True])
def test_wall_is_fused_without_flying_pixels(tmp_path, out_of_process):
    pytest.importorskip('open3d', exc_type=ImportError)
    wall, T_out_world = Wall(), make_pose(translation=np.array([0., 0., 1.]))
    if out_of_process:
        fusion.save_frames(wall, tmp_path, 5)
        subprocess.run([sys.executable, '-m', 'inspatio_ros.spatial.fusion', str(tmp_path), '--voxel-size', '0.1',
                        '--pose', json.dumps(T_out_world.tolist())], check=True, timeout=120)
        assert sorted(path.name for path in tmp_path.iterdir()) == ['camera.json', fusion.ARRAYS, fusion.PLY]
        with np.load(tmp_path / fusion.ARRAYS) as arrays:
            xyz, rgb = arrays['xyz'], arrays['rgb']
        assert (tmp_path / fusion.PLY).read_bytes().startswith(b'ply')
    else:
        cloud = fusion.fuse(fusion.spread_frames(wall, 5), wall.camera, 0.1, T_out_world=T_out_world)
        xyz, rgb = np.asarray(cloud.points), np.rint(np.asarray(cloud.colors) * 255)
    # Two metres by 1.4 of wall in cells of 0.1: some 300 points, all of them on the wall.
    assert 250 < len(xyz) < 400
    np.testing.assert_allclose(xyz[:, 2], 3., atol=0.02)
    np.testing.assert_allclose(rgb, np.tile([200, 100, 50], (len(rgb), 1)), atol=1)


def test_nothing_known_gives_an_empty_cloud():
    pytest.importorskip('open3d', exc_type=ImportError)
    wall = Wall(2)
    assert len(fusion.fuse(fusion.spread_frames(wall, 2), wall.camera, 0.1, max_depth=0.1).points) == 0


def test_a_map_of_nothing_says_that_there_is_no_depth(tmp_path):
    open3d = pytest.importorskip('open3d', exc_type=ImportError)
    with pytest.raises(ConfigurationError, match='no depth up to 10 m'):
        fusion._write(open3d.geometry.PointCloud(), tmp_path)
    assert not list(tmp_path.iterdir())
