# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Fuse a recording into one coloured cloud: voxels, outliers removed (Open3D).

Open3D holds Python's lock for seconds at a time, so whoever publishes images meanwhile runs this as a process:
`python -m inspatio_ros.spatial.fusion --reference DIR --output DIR`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from inspatio_ros.errors import ConfigurationError, InspatioError
from inspatio_ros.geometry import lift

if TYPE_CHECKING:
    import open3d

    from inspatio_ros.reference.base import Reference

#: What the process writes into its output folder: arrays `xyz` float32 [N, 3] and `rgb` uint8 [N, 3], and a mesh file.
ARRAYS, PLY = 'map.npz', 'map.ply'

#: Depth beyond this many metres is too noisy to fuse.
MAX_DEPTH = 10.

#: A point is an outlier if its mean distance to this many neighbours is this many deviations above the cloud's.
_NEIGHBOURS, _DEVIATIONS = 16, 2.5


def fuse(reference: Reference, voxel_size: float, max_frames: int = 60, max_depth: float = MAX_DEPTH,
         T_out_world: np.ndarray | None = None) -> open3d.geometry.PointCloud:
    """Fuse at most `max_frames` frames, spread over the recording.

    `voxel_size` and `max_depth` in metres; `T_out_world` [4, 4] takes the cloud to another frame (the world's own by
    default). Memory is that of the result and one frame.

    Raises:
        ConfigurationError: Open3D cannot be imported.

    """
    o3d = _open3d()
    fused = o3d.geometry.PointCloud()
    count = min(max_frames, len(reference))
    for index in np.unique(np.linspace(0, len(reference) - 1, count).round().astype(int)):
        frame = reference.frame(int(index))
        with np.errstate(invalid='ignore'):
            known = (frame.z_depth > 0) & (frame.z_depth <= max_depth)
        cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(
            lift(frame.z_depth, reference.camera, frame.T_world_camera)[known]))
        cloud.colors = o3d.utility.Vector3dVector(frame.image[known] / 255.)
        fused = (fused + cloud.voxel_down_sample(voxel_size)).voxel_down_sample(voxel_size)
    if len(fused.points) > _NEIGHBOURS:
        fused, _ = fused.remove_statistical_outlier(_NEIGHBOURS, _DEVIATIONS)
    return fused if T_out_world is None else fused.transform(T_out_world)


def _open3d() -> object:
    try:
        import open3d
    except (ImportError, OSError) as error:
        raise ConfigurationError(f'the map is fused by Open3D, which cannot be imported ({error}); install open3d, and '
                                 'on Debian and Ubuntu libusb-1.0-0') from error
    return open3d


def write(cloud: open3d.geometry.PointCloud, folder: Path) -> None:
    """Write a cloud into a folder as arrays and as a PLY file."""
    np.savez(folder / ARRAYS, xyz=np.asarray(cloud.points, dtype=np.float32),
             rgb=np.rint(np.asarray(cloud.colors) * 255.).astype(np.uint8))
    if not _open3d().io.write_point_cloud(str(folder / PLY), cloud):
        raise ConfigurationError(f'cannot write {folder / PLY}')


def main(argv: list[str] | None = None) -> int:
    """Fuse a recording in a process of its own, at low priority."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--reference', required=True, help="an RGB-D recording's folder, or 'sample'")
    parser.add_argument('--output', required=True, type=Path, help=f'existing folder that gets {ARRAYS} and {PLY}')
    parser.add_argument('--voxel-size', type=float, default=0.03, help='metres')
    parser.add_argument('--max-frames', type=int, default=60, help='frames that are fused at most')
    parser.add_argument('--pose', type=json.loads, help='4x4 matrix as JSON that takes the world to another frame')
    args = parser.parse_args(argv)
    os.nice(10)
    pose = None if args.pose is None else np.array(args.pose)
    try:
        from inspatio_ros.reference import open_reference
        write(fuse(open_reference(args.reference), args.voxel_size, args.max_frames, T_out_world=pose), args.output)
    except InspatioError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == '__main__':
    sys.exit(main())
