# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Choose the frames of a static recording from which a target view is rendered.

Every frame is known by a sparse set of points (GRID of its pixels, lifted by its depth). Projecting all of them into
the target takes a fraction of a millisecond, and tells how much of each cell of the target a frame covers: a point
stands for the area of its piece of the source image, magnified by the change of distance. Frames are then taken
greedily, each for what it adds, until a frame would add less than LEAST_GAIN of the view. What is blown up counts less,
in proportion to the loss of resolution, and so does what was recorded from elsewhere (kernel.PARALLAX_WEIGHT).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from inspatio_ros.geometry import PinholeCamera, invert
from inspatio_ros.reference.base import Reference
from inspatio_ros.spatial import views_kernel as kernel
from inspatio_ros.spatial.parallel import bands, run_parallel

#: Points (columns, rows) by which a source frame is known, and cells by which a target view is.
GRID = (24, 15)
#: The most frames that are candidates; a longer recording is represented by this many, evenly spaced.
MOST_CANDIDATES = 1000
#: The share of the view that another frame must add to be worth its time.
LEAST_GAIN = 0.005
#: The magnification of a frame is that which this share of its points stays below.
_NEAREST = 0.9


@dataclass(frozen=True)
class Choice:
    """Frames for a target view, best first: those recorded from nearest to it show it with the least distortion.

    `frames` indices; `magnification` per frame, the median of how many times larger it recorded things from afar
    than the target sees them; `coverage` the share of the view that they cover together (less what is discounted).
    """

    frames: list[int]
    magnification: list[float]
    coverage: float


class ViewChooser:
    """The sparse points of all frames of a static recording, and the choice among them."""

    def __init__(self, reference: Reference) -> None:
        count = min(len(reference), MOST_CANDIDATES)
        self._frames = np.unique(np.linspace(0, len(reference) - 1, count).round().astype(int))
        self._centres = reference.T_world_camera[self._frames, :3, 3]
        self._camera = reference.camera
        self._points, self._source_z = _sparse_points(reference, self._frames)
        self._middles, self._radii = _bounding_spheres(self._points)

    def choose(self, camera: PinholeCamera, T_world_camera: np.ndarray, most: int) -> Choice:
        """Choose up to `most` frames that together cover the views of the poses [F, 4, 4] of a block.

        Nothing is covered where the recording never looked: the nearest frame is chosen nevertheless.
        """
        views = [self._cover(camera, T) for T in T_world_camera]
        cover = np.concatenate([cover for cover, _ in views], axis=1)
        distance = np.linalg.norm(self._centres - T_world_camera[:, :3, 3].mean(axis=0), axis=1)
        chosen = _greedy(cover, most) or [int(distance.argmin())]
        chosen.sort(key=lambda row: distance[row])
        magnification = np.max([magnification for _, magnification in views], axis=0)
        return Choice([int(self._frames[row]) for row in chosen], [float(magnification[row]) for row in chosen],
                      float(cover[chosen].max(axis=0).mean()))

    def _cover(self, camera: PinholeCamera, T_world_camera: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give the covered share of each cell [N, cells] by each frame, and the frame's median magnification [N]."""
        T = invert(T_world_camera)
        columns, rows = GRID
        width, height = camera.width / columns, camera.height / rows
        # Everything in cells of the target; a point's piece of its source image is `piece` cells wide and high
        # when seen from the distance that it was recorded at.
        cells = np.array([camera.fx / width, camera.fy / height, (camera.cx + 0.5) / width, (camera.cy + 0.5) / height])
        piece = np.array([camera.fx / self._camera.fx * self._camera.width / camera.width,
                          camera.fy / self._camera.fy * self._camera.height / camera.height])
        distance = np.linalg.norm(self._centres - T_world_camera[:3, 3], axis=1)
        visible = self._in_frustum(cells, T)
        cover = np.zeros((len(self._frames), rows, columns), np.float32)
        depth = np.zeros_like(cover)
        magnification = np.ones(len(self._frames))
        run_parallel(kernel.cover_cells, [
            (visible[start:end], self._points, self._source_z, distance, T[:3, :3], T[:3, 3], cells, piece,
             cover, depth, magnification) for start, end in bands(1, len(visible))])
        kernel.discount_hidden(visible, cover, depth)
        return cover.reshape(len(cover), -1), magnification

    def _in_frustum(self, cells: np.ndarray, T_camera_world: np.ndarray) -> np.ndarray:
        """Give the frames (rows of the point sets) whose bounding sphere reaches into the view."""
        fx, fy, cx, cy = cells
        planes = np.array([[fx, 0, cx], [-fx, 0, GRID[0] - cx], [0, fy, cy], [0, -fy, GRID[1] - cy], [0, 0, 1]])
        planes /= np.linalg.norm(planes, axis=1, keepdims=True)
        middles = self._middles @ T_camera_world[:3, :3].T + T_camera_world[:3, 3]
        return np.flatnonzero((middles @ planes.T > -self._radii[:, None]).all(axis=1))


class Magnification:
    """How many times larger a target sees what a frame of a recording recorded; the frames asked for last are kept."""

    def __init__(self, reference: Reference) -> None:
        self._points = lru_cache(maxsize=MOST_CANDIDATES)(lambda index: _sparse_points(reference, np.array([index])))

    def __call__(self, index: int, camera: PinholeCamera, T_world_camera: np.ndarray) -> float:
        """Give what a tenth of the points of frame `index` in the view from a pose [4, 4] exceed; 1 if none is in it.

        What is near is blown up first: a floor, where the wall behind it is not.
        """
        points, source_z = self._points(index)
        T = invert(T_world_camera)
        seen = points[0] @ T[:3, :3].T + T[:3, 3]
        z = seen[:, 2]
        with np.errstate(invalid='ignore', divide='ignore'):
            x, y = (camera.K[:2] @ seen.T) / z
            inside = (z > 0) & (x > -0.5) & (x < camera.width - 0.5) & (y > -0.5) & (y < camera.height - 0.5)
        return float(np.quantile(source_z[0][inside] / z[inside], _NEAREST)) if inside.any() else 1.


def _sparse_points(reference: Reference, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give for each frame GRID points in the world, float64 [N, points, 3] (NaN unknown), and their depth in it."""
    camera, (columns, rows) = reference.camera, GRID
    x = ((np.arange(columns) + 0.5) * camera.width / columns).astype(int)
    y = ((np.arange(rows) + 0.5) * camera.height / rows).astype(int)
    rays = camera.rays()[np.ix_(y, x)].reshape(-1, 3)
    # As exact as the poses: a world's origin may be thousands of kilometres away.
    points = np.empty((len(indices), len(rays), 3))
    depths = np.empty((len(indices), len(rays)), np.float32)
    for row, index in enumerate(indices):
        frame = reference.frame(int(index))
        z = frame.z_depth[np.ix_(y, x)].reshape(-1).astype(np.float64)
        z[~(z > 0)] = np.nan
        points[row] = (rays * z[:, None]) @ frame.T_world_camera[:3, :3].T + frame.T_world_camera[:3, 3]
        depths[row] = z
    return points, depths


def _bounding_spheres(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give a sphere about each frame's known points: middles [N, 3], radii [N]; -inf where nothing is known."""
    known = np.isfinite(points).all(axis=2, keepdims=True)
    any_known = known.any(axis=1)
    low = np.where(any_known, np.where(known, points, np.inf).min(axis=1), 0.)
    high = np.where(any_known, np.where(known, points, -np.inf).max(axis=1), 0.)
    middles = (low + high) / 2
    radii = np.where(known, np.linalg.norm(points - middles[:, None], axis=2, keepdims=True), -np.inf).max(axis=(1, 2))
    return middles, radii


def _greedy(cover: np.ndarray, most: int) -> list[int]:
    """Take rows of cover [N, cells] one by one, each for what it adds to the best cover of the cells so far."""
    chosen: list[int] = []
    best = np.zeros(cover.shape[1], cover.dtype)
    while len(chosen) < min(most, len(cover)):
        gain = np.maximum(cover - best, 0.).mean(axis=1)
        row = int(gain.argmax())
        if gain[row] < LEAST_GAIN:
            break
        chosen.append(row)
        best = np.maximum(best, cover[row])
    return chosen
