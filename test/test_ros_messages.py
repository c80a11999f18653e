# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Messages from numpy and back, bit by bit."""

from __future__ import annotations

import array
import sys

import numpy as np
import pytest

pytest.importorskip('rclpy')

from geometry_msgs.msg import Pose, Twist  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from rclpy.serialization import deserialize_message, serialize_message  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image, PointCloud2, PointField  # noqa: E402

from inspatio_ros.errors import RecordingError  # noqa: E402
from inspatio_ros.geometry import PinholeCamera, is_rigid, se3_exp  # noqa: E402
from inspatio_ros.ros import messages, readers  # noqa: E402

CAMERA = PinholeCamera(60., 62., 31.2, 23.9, 64, 48)


def over_the_wire(message):
    """Give what a subscriber gets."""
    return deserialize_message(serialize_message(message), type(message))


def picture(seed: int = 0, height: int = CAMERA.height, width: int = CAMERA.width) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def depth_with_gaps(seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    z_depth = random.uniform(0.5, 4., (CAMERA.height, CAMERA.width)).astype(np.float32)
    z_depth[random.random(z_depth.shape) < 0.3] = np.nan
    return z_depth


@pytest.mark.parametrize(('image', 'encoding'), [
    (picture(), 'rgb8'), (picture()[..., 0].copy(), 'mono8'), (depth_with_gaps(), '32FC1')])
def test_image_survives_the_wire(image, encoding):
    got = over_the_wire(messages.fill_image(Image(), image))
    assert (got.encoding, got.height, got.width) == (encoding, *image.shape[:2])
    assert got.step == image.strides[0]
    assert bytes(got.data) == image.tobytes()
    np.testing.assert_array_equal(readers.read_image(got), image)


def test_message_keeps_its_buffer_and_fits_a_new_size():
    message = messages.fill_image(Image(), picture(0))
    buffer = message.data
    assert isinstance(buffer, array.array)
    messages.fill_image(message, picture(1))
    assert message.data is buffer
    np.testing.assert_array_equal(readers.read_image(message), picture(1))
    for size in ((16, 32), (64, 96)):
        messages.fill_image(message, picture(2, *size))
        np.testing.assert_array_equal(readers.read_image(over_the_wire(message)), picture(2, *size))


def test_image_of_another_kind_is_refused():
    with pytest.raises(ValueError, match=r'float64 \[2, 2\]'):
        messages.fill_image(Image(), np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r'uint8 \[2, 2, 4\]'):
        messages.fill_image(Image(), np.zeros((2, 2, 4), dtype=np.uint8))


def test_jpeg_is_close_and_in_the_right_order():
    image = np.zeros((48, 64, 3), dtype=np.uint8)
    image[..., 0], image[:24, :, 2] = 200, 90
    message = over_the_wire(messages.fill_jpeg(CompressedImage(), image, 95))
    assert 'jpeg' in message.format
    assert np.abs(readers.read_compressed(message).astype(int) - image).mean() < 3


def test_camera_info_describes_the_published_size():
    info = over_the_wire(messages.camera_info(CAMERA))
    assert (info.width, info.height, info.distortion_model) == (64, 48, 'plumb_bob')
    np.testing.assert_array_equal(np.reshape(info.k, (3, 3)), CAMERA.K)
    np.testing.assert_array_equal(np.reshape(info.p, (3, 4))[:, :3], CAMERA.K)
    np.testing.assert_array_equal(np.reshape(info.p, (3, 4))[:, 3], 0)
    assert list(info.d) == [0.] * 5
    np.testing.assert_array_equal(np.reshape(info.r, (3, 3)), np.eye(3))


@pytest.mark.parametrize('stride', [1, 2, 3])
def test_points_project_to_their_pixel_and_carry_its_colour(stride):
    image, z_depth = picture(3), depth_with_gaps(3)
    cloud = over_the_wire(messages.fill_points(PointCloud2(), z_depth, image, CAMERA, stride))
    xyz, rgb = readers.read_points(cloud)
    taken = np.zeros(z_depth.shape, dtype=bool)
    taken[::stride, ::stride] = np.isfinite(z_depth[::stride, ::stride])
    rows, columns = np.nonzero(taken)
    assert (cloud.height, cloud.width, len(xyz)) == (1, len(rows), len(rows))
    pixels = xyz @ CAMERA.K.T
    np.testing.assert_allclose(pixels[:, :2] / pixels[:, 2:], np.stack([columns, rows], axis=1), atol=1e-3)
    np.testing.assert_array_equal(xyz[:, 2], z_depth[rows, columns])
    np.testing.assert_array_equal(rgb, image[rows, columns])


def test_cloud_shrinks_and_grows_in_one_message():
    message = PointCloud2()
    for seed in range(3):
        z_depth = depth_with_gaps(seed)
        z_depth[:seed * 15] = np.nan
        messages.fill_points(message, z_depth, picture(seed), CAMERA)
        assert len(readers.read_points(over_the_wire(message))[0]) == np.isfinite(z_depth).sum()
    messages.fill_points(message, np.full_like(z_depth, np.nan), picture(), CAMERA)
    assert message.width == 0 and len(message.data) == 0 and len(message.fields) == 4


def test_coloured_points_come_back():
    random = np.random.default_rng(1)
    xyz = random.normal(size=(50, 3)).astype(np.float32)
    rgb = random.integers(0, 256, (50, 3), dtype=np.uint8)
    got_xyz, got_rgb = readers.read_points(over_the_wire(messages.fill_coloured_points(PointCloud2(), xyz, rgb)))
    np.testing.assert_array_equal(got_xyz, xyz)
    np.testing.assert_array_equal(got_rgb, rgb)


@given(st.lists(st.floats(-3, 3), min_size=6, max_size=6))
@settings(max_examples=50, deadline=None)
def test_pose_and_transform_round_trip(twist):
    T = se3_exp(np.array(twist))
    np.testing.assert_allclose(messages.from_pose(over_the_wire(messages.to_pose(T))), T, atol=1e-9)
    moved = messages.to_transform(T, 'map', 'odom', messages.to_stamp(5)).transform
    pose = Pose()
    pose.position.x, pose.position.y, pose.position.z = moved.translation.x, moved.translation.y, moved.translation.z
    pose.orientation = moved.rotation
    np.testing.assert_allclose(messages.from_pose(pose), T, atol=1e-9)


def test_pose_without_rotation_is_not_a_pose():
    pose = Pose()
    pose.orientation.w = 0.
    assert not is_rigid(messages.from_pose(pose))


def test_unnormalised_quaternion_is_normalised():
    pose = Pose()
    pose.orientation.w, pose.orientation.z = 2., 2.
    T = messages.from_pose(pose)
    assert is_rigid(T)
    np.testing.assert_allclose(T[:2, :2], [[0, -1], [1, 0]], atol=1e-9)


def test_twist_round_trip():
    values = np.arange(6.) / 7
    np.testing.assert_array_equal(messages.from_twist(over_the_wire(messages.to_twist(values))), values)
    assert messages.from_twist(Twist()).tolist() == [0.] * 6


@given(st.integers(0, 2**31 * 10**9 - 1))
def test_stamp_round_trip(nanoseconds):
    assert messages.to_nanoseconds(messages.to_stamp(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(('encoding', 'channels', 'order'), [
    ('bgr8', 3, [2, 1, 0]), ('rgba8', 4, [0, 1, 2]), ('bgra8', 4, [2, 1, 0])])
def test_colour_is_read_as_rgb(encoding, channels, order):
    image = np.random.default_rng(4).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    message = Image(height=5, width=7, encoding=encoding, step=7 * channels)
    message.data.frombytes(image.tobytes())
    np.testing.assert_array_equal(readers.read_common_image(message), image[..., order])
    np.testing.assert_array_equal(readers.read_image(message), image[..., order])


@pytest.mark.parametrize('big', [False, True])
@pytest.mark.parametrize(('encoding', 'kind'), [('16UC1', 'u2'), ('mono16', 'u2'), ('32FC1', 'f4')])
def test_byte_order_and_padded_rows_are_read(encoding, kind, big):
    values = np.arange(12).reshape(3, 4) * 257
    rows = values.astype(('>' if big else '<') + kind).view(np.uint8)
    padded = np.zeros((3, rows.shape[1] + 6), dtype=np.uint8)
    padded[:, :rows.shape[1]] = rows
    message = Image(height=3, width=4, encoding=encoding, step=padded.shape[1], is_bigendian=int(big))
    message.data.frombytes(padded.tobytes())
    got = readers.read_common_image(message)
    np.testing.assert_array_equal(got, values)
    assert got.dtype.isnative


def test_unknown_encoding_is_refused_by_name():
    with pytest.raises(RecordingError, match=r"'yuv422_yuy2'.*cv_bridge.*rgb8, bgr8"):
        readers.read_common_image(Image(height=1, width=2, encoding='yuv422_yuy2', step=4))


def test_short_messages_are_refused():
    message = messages.fill_image(Image(), picture())
    message.height += 1
    with pytest.raises(RecordingError, match='64x49 rgb8 needs rows of 192 bytes'):
        readers.read_common_image(message)
    cloud = messages.fill_points(PointCloud2(), depth_with_gaps(), picture(), CAMERA)
    cloud.width += 1
    with pytest.raises(RecordingError, match='row_step'):
        readers.read_point_records(cloud)
    with pytest.raises(RecordingError, match="without field 'x'"):
        readers.read_points(PointCloud2())
    with pytest.raises(RecordingError, match='cannot be decoded'):
        readers.read_compressed(CompressedImage(format='jpeg', data=array.array('B', b'nothing')))


@pytest.mark.parametrize('big', [False, True])
def test_clouds_of_other_layouts_are_read(big):
    """Positions as float64 out of order, colour as uint32, a field with several values, padding, two rows."""
    order = '>' if big else '<'
    layout = np.dtype({'names': ['rgba', 'z', 'normal', 'x', 'y'],
                       'formats': [order + 'u4', order + 'f8', (order + 'f4', (3,)), order + 'f8', order + 'f8'],
                       'offsets': [4, 8, 16, 32, 40], 'itemsize': 52})
    records = np.zeros(6, dtype=layout)
    for i, name in enumerate('xyz'):
        records[name] = np.arange(6) + i / 4
    records['rgba'] = 0xFF102030
    cloud = PointCloud2(height=2, width=3, point_step=52, row_step=160, is_bigendian=big)
    cloud.fields = [PointField(name=name, offset=layout.fields[name][1], count=3 if name == 'normal' else 1,
                               datatype={'rgba': PointField.UINT32, 'normal': PointField.FLOAT32}.get(
                                   name, PointField.FLOAT64)) for name in layout.names]
    rows = np.zeros((2, 160), dtype=np.uint8)
    rows[:, :156] = records.view(np.uint8).reshape(2, 156)
    cloud.data.frombytes(rows.tobytes())
    xyz, rgb = readers.read_points(cloud)
    np.testing.assert_array_equal(xyz, np.arange(6)[:, None] + np.array([0, 0.25, 0.5]))
    np.testing.assert_array_equal(rgb, np.tile([0x10, 0x20, 0x30], (6, 1)))


def test_image_bytes_equal_those_of_cv_bridge():
    cv_bridge = pytest.importorskip('cv_bridge', reason='cv_bridge comes with an installed ROS 2')
    bridge = cv_bridge.CvBridge()
    try:
        bridge.cv2_to_imgmsg(picture(), 'rgb8')
    except Exception as error:
        pytest.skip(f'cv_bridge is of another numpy: {error}')
    for image, encoding in ((picture(), 'rgb8'), (picture()[..., 0].copy(), 'mono8'), (depth_with_gaps(), '32FC1')):
        ours, theirs = messages.fill_image(Image(), image), bridge.cv2_to_imgmsg(image, encoding)
        theirs.is_bigendian = int(sys.byteorder == 'big')
        assert ours == theirs
        assert bytes(ours.data) == bytes(theirs.data)
        np.testing.assert_array_equal(readers.read_image(theirs), image)


def test_cloud_equals_that_of_sensor_msgs_py():
    point_cloud2 = pytest.importorskip('sensor_msgs_py.point_cloud2', reason='it comes with an installed ROS 2')
    ours = messages.fill_points(PointCloud2(), depth_with_gaps(), picture(), CAMERA)
    records = readers.read_point_records(ours)
    theirs = point_cloud2.create_cloud(ours.header, ours.fields, records, point_step=messages.POINT_STEP)
    assert bytes(theirs.data) == bytes(ours.data)
    assert (theirs.width, theirs.height, theirs.row_step) == (ours.width, ours.height, ours.row_step)
    read = point_cloud2.read_points(ours)
    for name in ('x', 'y', 'z', 'rgb'):
        assert read[name].tobytes() == records[name].tobytes()
