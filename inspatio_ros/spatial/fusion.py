# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Fuse a recording into one coloured cloud: voxels, outliers removed (Open3D).

Open3D holds Python's lock for seconds at a time, so whoever publishes images meanwhile hands the frames to another
process: `save_frames` into a folder, `python -m inspatio_ros.spatial.fusion FOLDER`, which leaves the cloud there.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from inspatio_ros.errors import ConfigurationError, InspatioError
from inspatio_ros.geometry import PinholeCamera, lift
from inspatio_ros.reference.base import ReferenceFrame

if TYPE_CHECKING:
    import open3d

    from inspatio_ros.reference.base import Reference

#: What the process leaves in its folder: arrays `xyz` float32 [N, 3] and `rgb` uint8 [N, 3], and a mesh file.
ARRAYS, PLY = 'map.npz', 'map.ply'
_CAMERA, _FRAME = 'camera.json', 'frame_{:06d}.npz'

#: Frames of a recording that are enough to see all of most places.
MAX_FRAMES = 24
#: Depth beyond this many metres is too noisy to fuse.
MAX_DEPTH = 10.
VOXEL_SIZE = 0.03

#: A point is an outlier if its mean distance to this many neighbours is this many deviations above the cloud's.
_NEIGHBOURS, _DEVIATIONS = 16, 2.5


def spread_frames(reference: Reference, max_frames: int = MAX_FRAMES) -> Iterator[ReferenceFrame]:
    """Give at most `max_frames` frames, spread over a recording."""
    count = min(max_frames, len(reference))
    for index in np.unique(np.linspace(0, len(reference) - 1, count).round().astype(int)):
        yield reference.frame(int(index))


def fuse(frames: Iterable[ReferenceFrame], camera: PinholeCamera, voxel_size: float = VOXEL_SIZE,
         max_depth: float = MAX_DEPTH, T_out_world: np.ndarray | None = None) -> open3d.geometry.PointCloud:
    """Fuse frames that share a camera; memory is that of the result and one frame.

    `voxel_size` and `max_depth` in metres; `T_out_world` [4, 4] takes the cloud to another frame (the world's own by
    default).

    Raises:
        ConfigurationError: Open3D cannot be imported.

    """
    o3d = _open3d()
    fused = o3d.geometry.PointCloud()
    for frame in frames:
        with np.errstate(invalid='ignore'):
            known = (frame.z_depth > 0) & (frame.z_depth <= max_depth)
        cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(
            lift(frame.z_depth, camera, frame.T_world_camera)[known]))
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


def save_frames(reference: Reference, folder: Path, max_frames: int = MAX_FRAMES,
                stop: Callable[[], bool] = lambda: False) -> None:
    """Put what another process needs to fuse a recording into a folder, until all is there or `stop` says so."""
    (folder / _CAMERA).write_text(json.dumps(asdict(reference.camera)))
    for i, frame in enumerate(spread_frames(reference, max_frames)):
        if stop():
            return
        np.savez(folder / _FRAME.format(i), image=frame.image, z_depth=frame.z_depth, pose=frame.T_world_camera)


def _saved_frames(folder: Path) -> Iterator[ReferenceFrame]:
    for i, path in enumerate(sorted(folder.glob(_FRAME.format(0).replace('000000', '*')))):
        with np.load(path) as arrays:
            yield ReferenceFrame(i, float(i), arrays['image'], arrays['z_depth'], arrays['pose'])
        path.unlink()


def _write(cloud: open3d.geometry.PointCloud, folder: Path) -> None:
    if not len(cloud.points):
        raise ConfigurationError(f'the frames chosen have no depth up to {MAX_DEPTH:g} m, of which maps are made')
    np.savez(folder / ARRAYS, xyz=np.asarray(cloud.points, dtype=np.float32),
             rgb=np.rint(np.asarray(cloud.colors) * 255.).astype(np.uint8))
    if not _open3d().io.write_point_cloud(str(folder / PLY), cloud):
        raise ConfigurationError(f'cannot write {folder / PLY}')


def main(argv: list[str] | None = None) -> int:
    """Fuse the frames that lie in a folder, at low priority, and leave the cloud there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', type=Path, help='what save_frames wrote')
    parser.add_argument('--voxel-size', type=float, default=VOXEL_SIZE, help='metres')
    parser.add_argument('--pose', type=json.loads, help='4x4 matrix as JSON that takes the world to another frame')
    args = parser.parse_args(argv)
    # Whatever moves the robot comes first; the map can wait.
    os.nice(19)
    try:
        camera = PinholeCamera(**json.loads((args.folder / _CAMERA).read_text()))
        pose = None if args.pose is None else np.array(args.pose)
        _write(fuse(_saved_frames(args.folder), camera, args.voxel_size, T_out_world=pose), args.folder)
    except InspatioError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == '__main__':
    sys.exit(main())
