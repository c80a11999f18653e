# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Fill ROS messages from numpy arrays and read the small ones back.

Large messages are meant to be kept and filled again: their `data` stays the same array.array as long as its size fits,
and is written through a view. (Assigning an ndarray to `data` makes rclpy look at every byte, 173 ms for an image.)
"""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, Quaternion, Transform, TransformStamped, Twist, Vector3
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField

from inspatio_ros.geometry import PinholeCamera, pose_from_quaternion, quaternion_xyzw

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: What compressed_image_transport writes for a colour JPEG of an rgb8 image.
JPEG_FORMAT = 'rgb8; jpeg compressed bgr8'

#: x, y, z and packed colour, one float32 each: what RViz and PCL call PointXYZRGB without padding.
POINT_STEP = 16

_ENCODINGS = {(3, 'uint8'): 'rgb8', (2, 'uint8'): 'mono8', (2, 'float32'): '32FC1'}


def to_stamp(nanoseconds: int) -> Time:
    """Turn nanoseconds into a stamp."""
    return Time(sec=int(nanoseconds // 10**9), nanosec=int(nanoseconds % 10**9))


def to_nanoseconds(stamp: Time) -> int:
    """Turn a stamp into nanoseconds."""
    return stamp.sec * 10**9 + stamp.nanosec


def fill_image(message: Image, image: np.ndarray) -> Image:
    """Fill an Image: uint8 [H, W, 3] as rgb8, uint8 [H, W] as mono8, float32 [H, W] as 32FC1; the header is left."""
    key = (image.ndim, image.dtype.name)
    if key not in _ENCODINGS or (image.ndim == 3 and image.shape[2] != 3):
        raise ValueError(f'an image is uint8 [H, W, 3], uint8 [H, W] or float32 [H, W], not {image.dtype} '
                         f'{list(image.shape)}')
    message.height, message.width = image.shape[:2]
    message.encoding = _ENCODINGS[key]
    message.is_bigendian = int(sys.byteorder == 'big')
    message.step = image.nbytes // image.shape[0]
    np.copyto(_room(message, image.nbytes, image.dtype).reshape(image.shape), image)
    return message


def fill_jpeg(message: CompressedImage, image: np.ndarray, quality: int) -> CompressedImage:
    """Fill a CompressedImage with the JPEG of an image uint8 RGB [H, W, 3]; the header is left."""
    import cv2
    _, encoded = cv2.imencode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    message.format = JPEG_FORMAT
    np.copyto(_room(message, encoded.size, np.dtype(np.uint8)), encoded.ravel())
    return message


def camera_info(camera: PinholeCamera) -> CameraInfo:
    """Describe a pinhole camera without distortion, unrotated: K, and P = [K 0]."""
    message = CameraInfo(width=camera.width, height=camera.height, distortion_model='plumb_bob', d=[0.] * 5)
    message.k = camera.K.ravel()
    message.r = np.eye(3).ravel()
    message.p = np.hstack([camera.K, np.zeros((3, 1))]).ravel()
    return message


def fill_points(message: PointCloud2, z_depth: np.ndarray, image: np.ndarray, camera: PinholeCamera,
                stride: int = 1) -> PointCloud2:
    """Fill a PointCloud2 with the known pixels, in the optical frame; the header is left.

    Args:
        message: x, y, z in metres and rgb packed into a float32; unorganised.
        z_depth: float32 [H, W] metres, NaN unknown (left out).
        image: uint8 RGB [H, W, 3].
        camera: intrinsics of both.
        stride: every how many rows and columns a pixel is taken.

    """
    z_depth, image = z_depth[::stride, ::stride], image[::stride, ::stride]
    known = int(np.isfinite(z_depth).sum())
    points = _room(message, known * POINT_STEP, np.dtype(np.float32)).reshape(known, 4)
    ray_x = ((np.arange(0, camera.width, stride) - camera.cx) / camera.fx).astype(np.float32)
    ray_y = ((np.arange(0, camera.height, stride) - camera.cy) / camera.fy).astype(np.float32)
    _lift_kernel()(z_depth, image, ray_x, ray_y, points, points.view(np.uint32))
    return _describe_points(message, known)


def fill_coloured_points(message: PointCloud2, xyz: np.ndarray, rgb: np.ndarray) -> PointCloud2:
    """Fill a PointCloud2 from points float [N, 3] and colours uint8 [N, 3]; the header is left."""
    points = _room(message, len(xyz) * POINT_STEP, np.dtype(np.float32)).reshape(len(xyz), 4)
    points[:, :3] = xyz
    red, green, blue = rgb.T.astype(np.uint32)
    points.view(np.uint32)[:, 3] = red << 16 | green << 8 | blue
    return _describe_points(message, len(xyz))


def _describe_points(message: PointCloud2, count: int) -> PointCloud2:
    message.height, message.width = 1, count
    message.point_step, message.row_step = POINT_STEP, POINT_STEP * count
    message.is_bigendian, message.is_dense = sys.byteorder == 'big', True
    if not message.fields:
        message.fields = [PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
                          for i, name in enumerate(('x', 'y', 'z', 'rgb'))]
    return message


def _room(message: Image | CompressedImage | PointCloud2, size: int, dtype: np.dtype) -> np.ndarray:
    """Give a writable view of a message's data, which is made `size` bytes long."""
    data = message.data
    if len(data) > size:
        del data[size:]
    elif len(data) < size:
        data.frombytes(bytes(size - len(data)))
    return np.frombuffer(data, dtype=dtype)


@cache
def _lift_kernel() -> Callable[..., None]:
    """Compile, once for all processes, the loop that lifts pixels: numpy needs five passes over memory for it."""
    from inspatio_ros.compiled import compiled

    @compiled()
    def lift(z_depth, image, ray_x, ray_y, points, packed):  # noqa: ANN001, ANN202 - numba infers the types
        n = 0
        for row in range(z_depth.shape[0]):
            for column in range(z_depth.shape[1]):
                z = z_depth[row, column]
                if np.isfinite(z):
                    points[n, 0] = ray_x[column] * z
                    points[n, 1] = ray_y[row] * z
                    points[n, 2] = z
                    red, green, blue = image[row, column]
                    packed[n, 3] = np.uint32(red) << 16 | np.uint32(green) << 8 | np.uint32(blue)
                    n += 1

    return lift


def make_pose_message(position: Sequence[float], quaternion: Sequence[float]) -> Pose:
    """Make a Pose of a position (x, y, z) and a quaternion (x, y, z, w)."""
    x, y, z = position
    qx, qy, qz, qw = quaternion
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw))


def to_pose(T: np.ndarray) -> Pose:
    """Turn a transform into a Pose."""
    return make_pose_message(T[:3, 3].tolist(), quaternion_xyzw(T).tolist())


def from_pose(pose: Pose) -> np.ndarray:
    """Turn a Pose into a transform float64 [4, 4]; NaN where the quaternion has no length."""
    position, q = pose.position, pose.orientation
    quaternion = np.array([q.x, q.y, q.z, q.w])
    length = float(np.linalg.norm(quaternion))
    if not length > 1e-6:
        return np.full((4, 4), np.nan)
    return pose_from_quaternion(np.array([position.x, position.y, position.z]), quaternion / length)


def make_transform(position: Sequence[float], quaternion: Sequence[float], parent: str, child: str,
                   stamp: Time) -> TransformStamped:
    """Say where the frame `child` is in `parent`: a position (x, y, z) and a quaternion (x, y, z, w)."""
    message = TransformStamped(child_frame_id=child)
    message.header.frame_id, message.header.stamp = parent, stamp
    x, y, z = position
    qx, qy, qz, qw = quaternion
    message.transform = Transform(translation=Vector3(x=x, y=y, z=z), rotation=Quaternion(x=qx, y=qy, z=qz, w=qw))
    return message


def to_transform(T: np.ndarray, parent: str, child: str, stamp: Time) -> TransformStamped:
    """Say where the frame `child` is in the frame `parent`: T = T_parent_child."""
    return make_transform(T[:3, 3].tolist(), quaternion_xyzw(T).tolist(), parent, child, stamp)


def to_twist(twist: np.ndarray) -> Twist:
    """Turn a twist [6] = (linear 3, angular 3) into a Twist."""
    x, y, z, wx, wy, wz = twist.tolist()
    return Twist(linear=Vector3(x=x, y=y, z=z), angular=Vector3(x=wx, y=wy, z=wz))


def from_twist(twist: Twist) -> np.ndarray:
    """Turn a Twist into a twist float64 [6] = (linear 3, angular 3)."""
    linear, angular = twist.linear, twist.angular
    return np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])
