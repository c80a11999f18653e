# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Choose the frames of a static recording from which a target view is rendered.

Every frame is known by a sparse set of points (GRID of its pixels, lifted by its depth). Projecting all of them into
the target takes a fraction of a millisecond, and tells how much of each cell of the target a frame covers: a point
stands for the area of its piece of the source image, magnified by the change of distance. Frames are then taken
greedily, each for what it adds, until a frame would add less than LEAST_GAIN of the view. What is blown up counts less,
in proportion to the loss of resolution, so the frame from close by is preferred to the one from afar.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from inspatio_ros.geometry import PinholeCamera, invert
from inspatio_ros.reference.base import Reference

#: Points (columns, rows) by which a source frame is known, and cells by which a target view is.
GRID = (32, 20)
#: The most frames that are candidates; a longer recording is represented by this many, evenly spaced.
MOST_CANDIDATES = 1000
#: The share of the view that another frame must add to be worth its time.
LEAST_GAIN = 0.005
#: A frame that lies behind what another sees in the same cell, beyond this ratio of depths, is probably hidden.
HIDDEN_RATIO = 1.3
#: The share of a cell that a frame must cover to count as evidence that something is there.
ENOUGH = 0.25
#: The largest magnification that is told apart.
MOST_MAGNIFIED = 8.


@dataclass(frozen=True)
class Choice:
    """Frames for a target view, best first: those recorded from nearest to it show it with the least distortion.

    `frames` indices; `magnification` per frame, the median of how many times larger it recorded things from afar
    than the target sees them; `coverage` the share of the view that they cover together.
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
        width, height = camera.width / GRID[0], camera.height / GRID[1]
        # Everything in cells of the target; a point's piece of its source image is `piece` cells wide and high
        # when seen from the distance that it was recorded at.
        cells = np.array([camera.fx / width, camera.fy / height, (camera.cx + 0.5) / width, (camera.cy + 0.5) / height])
        piece = np.array([camera.fx / self._camera.fx * self._camera.width / camera.width,
                          camera.fy / self._camera.fy * self._camera.height / camera.height])
        return _cover_cells(self._points, self._source_z, T[:3, :3], T[:3, 3], cells, piece)


def _sparse_points(reference: Reference, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give for each frame GRID points in the world, float32 [N, points, 3] (NaN unknown), and their depth in it."""
    camera, (columns, rows) = reference.camera, GRID
    x = ((np.arange(columns) + 0.5) * camera.width / columns).astype(int)
    y = ((np.arange(rows) + 0.5) * camera.height / rows).astype(int)
    rays = camera.rays()[np.ix_(y, x)].reshape(-1, 3)
    points = np.empty((len(indices), len(rays), 3), np.float32)
    depths = np.empty((len(indices), len(rays)), np.float32)
    for row, index in enumerate(indices):
        frame = reference.frame(int(index))
        z = frame.z_depth[np.ix_(y, x)].reshape(-1).astype(np.float64)
        z[~(z > 0)] = np.nan
        points[row] = (rays * z[:, None]) @ frame.T_world_camera[:3, :3].T + frame.T_world_camera[:3, 3]
        depths[row] = z
    return points, depths


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


@njit(nogil=True, cache=True, error_model='numpy')
def _cover_cells(points, source_z, R, t, cells, piece):
    """Lay the pieces of each frame over the GRID cells of the target: cover [N, cells] in 0..1, magnification [N]."""
    frames, count = source_z.shape
    columns, rows = GRID
    fx, fy, cx, cy = cells
    cover = np.zeros((frames, rows, columns), np.float32)
    depth = np.zeros((frames, rows, columns), np.float32)
    magnification = np.ones(frames)
    ratios = np.empty(count)
    for f in range(frames):
        seen = 0
        for i in range(count):
            px, py, pz = points[f, i]
            z = R[2, 0] * px + R[2, 1] * py + R[2, 2] * pz + t[2]
            if not z > 0:
                continue
            x = fx * (R[0, 0] * px + R[0, 1] * py + R[0, 2] * pz + t[0]) / z + cx
            y = fy * (R[1, 0] * px + R[1, 1] * py + R[1, 2] * pz + t[1]) / z + cy
            if x < 0 or x >= columns or y < 0 or y >= rows:
                continue
            ratio = source_z[f, i] / z
            ratios[seen] = ratio
            seen += 1
            _lay(cover[f], depth[f], x, y, z, min(ratio, MOST_MAGNIFIED), piece)
        if seen:
            magnification[f] = np.median(ratios[:seen])
    _discount_hidden(cover, depth)
    return cover.reshape(frames, -1), magnification


@njit(nogil=True, cache=True, error_model='numpy')
def _lay(cover, depth, x, y, z, ratio, piece):
    """Add one piece, `ratio` times as large as recorded, about (x, y) to the cells that it overlaps."""
    rows, columns = cover.shape
    half_x, half_y = 0.5 * ratio * piece[0], 0.5 * ratio * piece[1]
    quality = min(1., 1. / ratio)
    for r in range(max(int(y - half_y), 0), min(int(y + half_y), rows - 1) + 1):
        height = min(y + half_y, r + 1.) - max(y - half_y, r * 1.)
        for c in range(max(int(x - half_x), 0), min(int(x + half_x), columns - 1) + 1):
            share = quality * height * (min(x + half_x, c + 1.) - max(x - half_x, c * 1.))
            cover[r, c] += share
            depth[r, c] += share * z


@njit(nogil=True, cache=True, error_model='numpy')
def _discount_hidden(cover, depth):
    """Turn summed depths to means, limit cover to 1, and discount what lies behind what another frame sees."""
    frames, rows, columns = cover.shape
    for r in range(rows):
        for c in range(columns):
            nearest = np.float32(np.inf)
            for f in range(frames):
                if cover[f, r, c] > ENOUGH:
                    nearest = min(nearest, depth[f, r, c] / cover[f, r, c])
            for f in range(frames):
                if cover[f, r, c] > 0:
                    mean = depth[f, r, c] / cover[f, r, c]
                    cover[f, r, c] = min(cover[f, r, c], 1.) * min(1., HIDDEN_RATIO * nearest / mean) ** 4
