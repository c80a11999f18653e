# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The fused world, made in a process of its own when it is first asked for (see spatial/fusion.py for why)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from inspatio_ros.errors import ConfigurationError, InspatioError
from inspatio_ros.spatial import fusion

if TYPE_CHECKING:
    from inspatio_ros.reference.base import Reference


@dataclass(frozen=True)
class FusedMap:
    """Points float32 [N, 3] metres in the map frame, and their colours uint8 RGB [N, 3]."""

    xyz: np.ndarray
    rgb: np.ndarray


class WorldMap:
    """Fuses a recording once, and keeps the result; nothing here blocks its caller."""

    def __init__(self, reference: Reference, T_map_world: np.ndarray, voxel_size: float, max_frames: int) -> None:
        """`T_map_world` [4, 4] takes the recording's world to the map; `voxel_size` in metres."""
        self._reference, self._max_frames = reference, max_frames
        self._options = ['--voxel-size', str(voxel_size), '--pose', json.dumps(np.asarray(T_map_world).tolist())]
        self._folder: Path | None = None
        self._map: FusedMap | None = None
        self._process: subprocess.Popen | None = None
        self._closing = False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix='inspatio_map')

    def build(self) -> Future:
        """Give the map's future: a FusedMap, or the InspatioError that says why there is none."""
        return self._pool.submit(self._built)

    def save(self, path: Path) -> Future:
        """Write the map as a PLY file; the future holds how many points it has."""
        return self._pool.submit(self._save, path)

    def close(self) -> None:
        """End the process, if it runs, and remove what it wrote."""
        self._closing = True
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _built(self) -> FusedMap:
        if self._map is None:
            self._folder = self._folder or Path(tempfile.mkdtemp(prefix='inspatio_map_'))
            try:
                fusion.save_frames(self._reference, self._folder, self._max_frames, lambda: self._closing)
            except OSError as error:
                raise InspatioError(f'the map could not be fused: its frames cannot be put into {self._folder}: '
                                    f'{error.strerror or error}') from error
            if self._closing:
                raise InspatioError('the map was given up, as the node is cleaned up')
            # A session of its own, so that Ctrl-C reaches the node alone, which ends this process in its time.
            self._process = subprocess.Popen(
                [sys.executable, '-m', fusion.__name__, str(self._folder), *self._options], start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            if self._closing:
                self._process.terminate()
            _, said = self._process.communicate()
            if self._process.returncode:
                last = said.strip().splitlines()[-1:] or [f'its process ended with {self._process.returncode}']
                raise ConfigurationError(f'the map could not be fused: {last[0]}')
            with np.load(self._folder / fusion.ARRAYS) as arrays:
                self._map = FusedMap(arrays['xyz'], arrays['rgb'])
        return self._map

    def _save(self, path: Path) -> int:
        points = len(self._built().xyz)
        partial = path.with_name(f'.{path.name}.{os.getpid()}.partial')
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._folder / fusion.PLY, partial)
            os.replace(partial, path)
        except OSError as error:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise InspatioError(f'cannot write {path}: {error.strerror or error}') from error
        return points


def default_map_file(namespace: str = '/') -> Path:
    """Give the file that the map is saved to where none is named: beside ROS' own files, wherever one works.

    A node in a namespace has a file of its own.
    """
    name = '_'.join(['inspatio_map', *filter(None, namespace.split('/'))])
    return Path(os.environ.get('ROS_HOME') or Path.home() / '.ros') / f'{name}.ply'
