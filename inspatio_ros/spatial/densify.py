# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Make a recorded frame ready for splatting: depth without flying pixels and thin gaps, at the target's pixel density.

A source coarser than the target would leave a lattice of holes, a finer one would be splatted for nothing, so image and
depth are resampled to the density of the target camera. The grid is laid such that, at equal poses, source pixels fall
exactly on target pixels: the identity warp then gives the resampled image itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from inspatio_ros.geometry import PinholeCamera
from inspatio_ros.reference.base import ReferenceFrame
from inspatio_ros.spatial import densify_kernel

#: Angle to its normal beyond which a surface is taken for depth interpolated across an edge.
GRAZING_DEGREES = 88.
#: Widest gap that is closed, as a share of the image's width (3 pixels of 540).
GAP_SHARE = 0.006
#: Relative difference up to which two depths belong to one surface.
AGREEMENT = 0.05


@dataclass(frozen=True)
class DenseFrame:
    """A frame to splat: colour uint8 [h, w, 3], z_depth float32 [h, w] (NaN unknown), its own K [3, 3] and its pose."""

    colour: np.ndarray
    z_depth: np.ndarray
    K: np.ndarray
    T_world_camera: np.ndarray


@dataclass(frozen=True)
class Grid:
    """A pixel grid over a source image: its pixel x lies at source pixel (x - left + 0.5) / scale_x - 0.5."""

    scale_x: float
    scale_y: float
    left: float
    top: float
    width: int
    height: int

    def K(self, source: PinholeCamera) -> np.ndarray:
        """Give the intrinsic matrix [3, 3] of the grid's image."""
        return np.array([[source.fx * self.scale_x, 0., (source.cx + 0.5) * self.scale_x - 0.5 + self.left],
                         [0., source.fy * self.scale_y, (source.cy + 0.5) * self.scale_y - 0.5 + self.top],
                         [0., 0., 1.]])


def grid_of_target(source: PinholeCamera, target: PinholeCamera) -> Grid:
    """Give the grid of the target's own pixels: the source image resized and cropped as `source.fitted` does."""
    sx, sy = target.fx / source.fx, target.fy / source.fy
    return Grid(sx, sy, target.cx + 0.5 - (source.cx + 0.5) * sx, target.cy + 0.5 - (source.cy + 0.5) * sy,
                target.width, target.height)


def grid_of_source(source: PinholeCamera, target: PinholeCamera, density: int = 1) -> Grid:
    """Give the grid over the whole source image with `density` times as many pixels a line as the target has."""
    grid = grid_of_target(source, target.scaled(target.width * density, target.height * density))
    # Shift by whole pixels to where the source image begins. A centre of the first row or column may lie up to half a
    # pixel outside of it, and shows what is at its edge.
    left, top = np.ceil(-grid.left - 1e-6), np.ceil(-grid.top - 1e-6)
    width = int(np.floor(source.width * grid.scale_x + grid.left + left + 1e-6))
    height = int(np.floor(source.height * grid.scale_y + grid.top + top + 1e-6))
    return Grid(grid.scale_x, grid.scale_y, grid.left + left, grid.top + top, width, height)


def resample_colour(image: np.ndarray, grid: Grid) -> np.ndarray:
    """Resample uint8 [h, w, 3] to a grid: bilinear where it is finer, the mean of each pixel's area where coarser."""
    if grid == Grid(1., 1., 0., 0., image.shape[1], image.shape[0]):
        return image
    if min(grid.scale_x, grid.scale_y) < 1:
        return densify_kernel.area_mean(np.ascontiguousarray(image), grid.scale_x, grid.scale_y, grid.left, grid.top,
                                        grid.width, grid.height)
    to_source = np.array([[1 / grid.scale_x, 0., (0.5 - grid.left) / grid.scale_x - 0.5],
                          [0., 1 / grid.scale_y, (0.5 - grid.top) / grid.scale_y - 0.5]])
    return cv2.warpAffine(image, to_source, (grid.width, grid.height), borderMode=cv2.BORDER_REPLICATE,
                          flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def nearest_depth(z_depth: np.ndarray, source: PinholeCamera, target: PinholeCamera) -> np.ndarray:
    """Give float32 [H, W] in the target's pixels: of each the nearest one of z_depth [h, w], NaN where unknown."""
    grid = grid_of_target(source, target)
    x = np.rint((np.arange(target.width) - grid.left + 0.5) / grid.scale_x - 0.5).astype(int)
    y = np.rint((np.arange(target.height) - grid.top + 0.5) / grid.scale_y - 0.5).astype(int)
    found = z_depth[np.ix_(y.clip(0, source.height - 1), x.clip(0, source.width - 1))]
    return np.where(found > 0, found, np.float32(np.nan))


def clean_depth(z_depth: np.ndarray, camera: PinholeCamera) -> np.ndarray:
    """Drop flying pixels and close thin gaps of z_depth [h, w]; unknown (0, NaN, infinite) comes out NaN.

    A flying pixel lies between two surfaces: depth changes on both of its sides, in the same sense, faster than on
    any surface seen under less than GRAZING_DEGREES from its normal. A gap is thin up to GAP_SHARE of the image's width
    and is closed, linearly in inverse depth (a plane stays a plane), only between depths that agree.
    """
    per_pixel = np.tan(np.radians(GRAZING_DEGREES)) / min(camera.fx, camera.fy)
    cleaned = densify_kernel.drop_flying(np.ascontiguousarray(z_depth, dtype=np.float32), per_pixel)
    return densify_kernel.close_gaps(cleaned, max(1, round(GAP_SHARE * camera.width)), AGREEMENT)


def densify(frame: ReferenceFrame, source: PinholeCamera, target: PinholeCamera, density: int = 1) -> DenseFrame:
    """Clean a frame's depth and resample it, with its image, to the pixel density of `target` times `density`."""
    grid = grid_of_source(source, target, density)
    z_depth = densify_kernel.resample_depth(clean_depth(frame.z_depth, source), grid.scale_x, grid.scale_y, grid.left,
                                            grid.top, grid.width, grid.height, AGREEMENT)
    return DenseFrame(resample_colour(frame.image, grid), z_depth, grid.K(source), frame.T_world_camera)
