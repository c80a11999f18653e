# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How far the camera that a generated image shows is from the camera it was asked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inspatio_ros.geometry import PinholeCamera

#: Features are looked for in images at least this wide; a small image is enlarged first, for SIFT's finest scale
#: is about two pixels.
_WORKING_WIDTH = 768
#: Lowe's ratio between the best and the second-best match.
_RATIO = 0.8
#: A pose from fewer inliers than this is luck.
_LEAST_INLIERS = 12
_REPROJECTION_PIXELS = 4.
#: A feature on a depth edge has no one depth: its neighbours must agree to this share.
_DEPTH_AGREEMENT = 0.05


@dataclass(frozen=True)
class CameraError:
    """Rotation in degrees, translation in metres and as a share of the median depth, and the features they rest on."""

    rotation_degrees: float
    translation_metres: float
    translation_share: float
    inliers: int


def camera_error(generated: np.ndarray, true: np.ndarray, z_depth: np.ndarray,
                 camera: PinholeCamera) -> CameraError | None:
    """Measure the pose of a generated image against the true one from the same asked pose.

    SIFT features of the true image are lifted by its true depth, matched to the generated image, and give that
    image's pose by PnP (RANSAC, then refined on the inliers). A perfect generator gives the identity.

    Args:
        generated, true: uint8 RGB [H, W, 3].
        z_depth: float32 [H, W] metres of the true image, NaN unknown.
        camera: intrinsics of both.

    Returns:
        The error, or None where too few features match: a failure, which the caller counts.

    """
    import cv2
    scale = max(1., _WORKING_WIDTH / camera.width)
    true_xy, true_descriptors = _features(true, scale)
    made_xy, made_descriptors = _features(generated, scale)
    if true_descriptors is None or made_descriptors is None or len(made_xy) < 2:
        return None
    pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(true_descriptors, made_descriptors, k=2)
    good = [p[0] for p in pairs if len(p) == 2 and p[0].distance < _RATIO * p[1].distance]
    if len(good) < _LEAST_INLIERS:
        return None
    points, usable = _lift(true_xy[[m.queryIdx for m in good]], z_depth, camera)
    pixels = made_xy[[m.trainIdx for m in good]][usable]
    points = points[usable]
    if len(points) < _LEAST_INLIERS:
        return None
    return _solve(points, pixels, camera, float(np.nanmedian(z_depth)))


def _features(image: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray | None]:
    import cv2
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if scale > 1.:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    keypoints, descriptors = cv2.SIFT_create(nfeatures=2000, contrastThreshold=0.02).detectAndCompute(grey, None)
    xy = np.array([k.pt for k in keypoints], dtype=np.float64).reshape(-1, 2)
    # Enlarging keeps pixel areas, so centres move by half a pixel on either side.
    return (xy + 0.5) / scale - 0.5, descriptors


def _lift(xy: np.ndarray, z_depth: np.ndarray, camera: PinholeCamera) -> tuple[np.ndarray, np.ndarray]:
    """Lift pixels [N, 2] by the depth around them -> points [N, 3] in the camera, and which of them are usable."""
    height, width = z_depth.shape
    column, row = np.rint(xy[:, 0]).astype(int), np.rint(xy[:, 1]).astype(int)
    inside = (column >= 1) & (column < width - 1) & (row >= 1) & (row < height - 1)
    column, row = column.clip(1, width - 2), row.clip(1, height - 2)
    around = np.stack([z_depth[row + dy, column + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1)])
    z = z_depth[row, column].astype(np.float64)
    with np.errstate(invalid='ignore'):
        flat = around.max(axis=0) - around.min(axis=0) < _DEPTH_AGREEMENT * z
    rays = np.stack([(xy[:, 0] - camera.cx) / camera.fx, (xy[:, 1] - camera.cy) / camera.fy, np.ones(len(xy))], 1)
    return rays * z[:, None], inside & flat & np.isfinite(z)


def _solve(points: np.ndarray, pixels: np.ndarray, camera: PinholeCamera, scene_depth: float) -> CameraError | None:
    import cv2
    # RANSAC draws from OpenCV's own generator: the same pictures must give the same figure.
    cv2.setRNGSeed(0)
    found, rotation, translation, inliers = cv2.solvePnPRansac(
        points, pixels, camera.K, None, iterationsCount=500, reprojectionError=_REPROJECTION_PIXELS, confidence=0.999)
    if not found or inliers is None or len(inliers) < _LEAST_INLIERS:
        return None
    chosen = inliers[:, 0]
    rotation, translation = cv2.solvePnPRefineLM(points[chosen], pixels[chosen], camera.K, None, rotation, translation)
    moved = float(np.linalg.norm(translation))
    return CameraError(float(np.degrees(np.linalg.norm(rotation))), moved, moved / scene_depth, len(chosen))
