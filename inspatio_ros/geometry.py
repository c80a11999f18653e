# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rigid transforms and the pinhole camera.

`T_a_b` takes points of frame b to frame a (float64, 4x4). Camera frames are OpenCV optical frames (x right, y down,
z forward); body frames are REP 103 (x forward, y left, z up). Pixel centres lie at integer coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from transforms3d import quaternions

#: Takes points of an optical frame (x right, y down, z forward) to a body frame (x forward, y left, z up).
T_BODY_OPTICAL = np.array([[0., 0., 1., 0.], [-1., 0., 0., 0.], [0., -1., 0., 0.], [0., 0., 0., 1.]])


@dataclass(frozen=True)
class PinholeCamera:
    """Intrinsics in pixels, without distortion."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    @property
    def K(self) -> np.ndarray:
        """The 3x3 intrinsic matrix."""
        return np.array([[self.fx, 0., self.cx], [0., self.fy, self.cy], [0., 0., 1.]])

    def scaled(self, width: int, height: int) -> PinholeCamera:
        """Give the camera whose image is this one's, resized to width x height (pixel areas keep their place)."""
        sx, sy = width / self.width, height / self.height
        return PinholeCamera(self.fx * sx, self.fy * sy, (self.cx + 0.5) * sx - 0.5, (self.cy + 0.5) * sy - 0.5,
                             width, height)

    def fitted(self, width: int, height: int) -> PinholeCamera:
        """Give the camera of this one's image, resized to cover width x height and cropped about its middle."""
        scale = max(width / self.width, height / self.height)
        left = (self.width * scale - width) / 2
        top = (self.height * scale - height) / 2
        return PinholeCamera(self.fx * scale, self.fy * scale, (self.cx + 0.5) * scale - 0.5 - left,
                             (self.cy + 0.5) * scale - 0.5 - top, width, height)

    def rays(self) -> np.ndarray:
        """Give K^-1 (x, y, 1) of every pixel: float64 [H, W, 3], z = 1."""
        x, y = np.meshgrid(np.arange(self.width), np.arange(self.height))
        return np.stack([(x - self.cx) / self.fx, (y - self.cy) / self.fy, np.ones(x.shape)], axis=-1)


def make_pose(rotation: np.ndarray | None = None, translation: np.ndarray | None = None) -> np.ndarray:
    """Build a 4x4 transform from a 3x3 rotation and a translation [3]."""
    T = np.eye(4)
    if rotation is not None:
        T[:3, :3] = rotation
    if translation is not None:
        T[:3, 3] = translation
    return T


def invert(T: np.ndarray) -> np.ndarray:
    """Invert rigid transforms [..., 4, 4]."""
    T = np.asarray(T, dtype=np.float64)
    R_t = np.swapaxes(T[..., :3, :3], -1, -2)
    out = np.zeros_like(T)
    out[..., :3, :3] = R_t
    out[..., :3, 3] = -(R_t @ T[..., :3, 3:])[..., 0]
    out[..., 3, 3] = 1.
    return out


def is_rigid(T: np.ndarray, tolerance: float = 1e-3) -> bool:
    """Say whether a 4x4 matrix is finite and a rotation with a translation."""
    T = np.asarray(T, dtype=np.float64)
    if T.shape != (4, 4) or not np.isfinite(T).all():
        return False
    R = T[:3, :3]
    return bool(np.allclose(R @ R.T, np.eye(3), atol=tolerance) and np.linalg.det(R) > 0
                and np.allclose(T[3], (0, 0, 0, 1), atol=tolerance))


def pose_from_quaternion(translation: np.ndarray, quaternion_xyzw: np.ndarray) -> np.ndarray:
    """Build a 4x4 transform from a translation [3] and a quaternion in ROS and TUM order (x, y, z, w)."""
    x, y, z, w = quaternion_xyzw
    return make_pose(quaternions.quat2mat((w, x, y, z)), np.asarray(translation, dtype=np.float64))


def quaternion_xyzw(T: np.ndarray) -> np.ndarray:
    """Give the rotation of a transform as a unit quaternion (x, y, z, w), w >= 0."""
    w, x, y, z = quaternions.mat2quat(np.asarray(T)[:3, :3])
    return np.array([x, y, z, w]) if w >= 0 else -np.array([x, y, z, w])


def _skew(v: np.ndarray) -> np.ndarray:
    return np.array([[0., -v[2], v[1]], [v[2], 0., -v[0]], [-v[1], v[0], 0.]])


def se3_exp(twist: np.ndarray) -> np.ndarray:
    """Exponential of a twist [6] = (linear 3, angular 3) on SE(3): the motion of a body moving so for unit time."""
    v, omega = np.asarray(twist[:3], dtype=np.float64), np.asarray(twist[3:], dtype=np.float64)
    angle = float(np.linalg.norm(omega))
    W = _skew(omega)
    if angle < 1e-6:
        # Series to second order: the closed form divides by the angle.
        a, b, c = 1. - angle**2 / 6, 0.5 - angle**2 / 24, 1. / 6 - angle**2 / 120
    else:
        a, b = np.sin(angle) / angle, (1. - np.cos(angle)) / angle**2
        c = (angle - np.sin(angle)) / angle**3
    rotation = np.eye(3) + a * W + b * W @ W
    return make_pose(rotation, (np.eye(3) + b * W + c * W @ W) @ v)


def se3_log(T: np.ndarray) -> np.ndarray:
    """Inverse of se3_exp: the twist [6] = (linear 3, angular 3) with rotation angle in [0, pi]."""
    T = np.asarray(T, dtype=np.float64)
    q = quaternion_xyzw(T)
    sine, cosine = float(np.linalg.norm(q[:3])), float(q[3])
    angle = 2. * np.arctan2(sine, cosine)
    omega = q[:3] * (angle / sine if sine > 1e-9 else 2.)
    W = _skew(omega)
    if angle < 1e-6:
        d = 1. / 12
    else:
        half = angle / 2
        d = (1. - half / np.tan(half)) / angle**2
    return np.concatenate([(np.eye(3) - 0.5 * W + d * W @ W) @ T[:3, 3], omega])


def interpolate(T0: np.ndarray, T1: np.ndarray, fraction: float) -> np.ndarray:
    """Point at `fraction` of the way from T0 to T1 along the screw motion between them (geodesic on SE(3))."""
    return T0 @ se3_exp(fraction * se3_log(invert(T0) @ T1))


def lift(z_depth: np.ndarray, camera: PinholeCamera, T_world_camera: np.ndarray) -> np.ndarray:
    """Lift every pixel to 3D: z_depth [H, W] metres (NaN stays NaN) -> points in the world, float64 [H, W, 3]."""
    points = camera.rays() * np.asarray(z_depth, dtype=np.float64)[..., None]
    return points @ T_world_camera[:3, :3].T + T_world_camera[:3, 3]


def project(points: np.ndarray, camera: PinholeCamera, T_world_camera: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project world points [..., 3] -> pixel (x, y) [..., 2] and z_depth [...]; behind the camera gives NaN pixels."""
    T_camera_world = invert(T_world_camera)
    in_camera = points @ T_camera_world[:3, :3].T + T_camera_world[:3, 3]
    z = in_camera[..., 2]
    with np.errstate(divide='ignore', invalid='ignore'):
        safe = np.where(z > 0, z, np.nan)
        x = camera.fx * in_camera[..., 0] / safe + camera.cx
        y = camera.fy * in_camera[..., 1] / safe + camera.cy
    return np.stack([x, y], axis=-1), z
