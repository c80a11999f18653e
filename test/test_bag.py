# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recordings that are imported from real bags, written here as a robot's recorder writes them."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from inspatio_ros import cli
from inspatio_ros.errors import RecordingError
from inspatio_ros.geometry import invert, make_pose, quaternion_xyzw, se3_exp
from inspatio_ros.reference import open_reference
from inspatio_ros.reference.bag import BagSource, import_bag
from inspatio_ros.reference.sample import SampleRoom
from inspatio_ros.reference.transforms import Transforms
from inspatio_ros.spatial.motion import T_BODY_OPTICAL

WIDTH, HEIGHT, FRAMES, START = 96, 64, 6, 1_700_000_000_000_000_000
SECOND = 10**9
#: Where the camera sits on the robot, and how the map lies to odometry that has drifted.
T_BASE_LINK = make_pose(translation=np.array([0.1, 0.02, 0.9]))
T_MAP_ODOM = se3_exp(np.array([0.4, -0.3, 0., 0., 0., 0.5]))
IMAGE, DEPTH = '/camera/color/image_raw', '/camera/depth/image_rect'


class Bag:
    """Writes messages of any bag format."""

    def __init__(self, path: Path, ros1: bool = False) -> None:
        self.path = path
        self._store = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_JAZZY)
        if ros1:
            # It is no part of what rosbags knows of ROS 1; bags hold the definitions of their messages.
            self._store.register(get_types_from_msg('geometry_msgs/TransformStamped[] transforms',
                                                    'tf2_msgs/msg/TFMessage'))
        self._ros1, self._connections, self._sequence = ros1, {}, itertools.count()
        self._writer = Writer1(path) if ros1 else Writer2(path, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()

    def kind(self, name: str, **fields: object) -> object:
        return self._store.types[name](**fields)

    def header(self, stamp: int, frame: str) -> object:
        more = {'seq': next(self._sequence)} if self._ros1 else {}
        time = self.kind('builtin_interfaces/msg/Time', sec=stamp // SECOND, nanosec=stamp % SECOND)
        return self.kind('std_msgs/msg/Header', stamp=time, frame_id=frame, **more)

    def write(self, topic: str, message: object, stamp: int) -> None:
        kind = message.__msgtype__
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(topic, kind, typestore=self._store)
        data = (self._store.serialize_ros1 if self._ros1 else self._store.serialize_cdr)(message, kind)
        self._writer.write(self._connections[topic], stamp, data)

    def transform(self, topic: str, parent: str, child: str, stamp: int, T: np.ndarray) -> None:
        x, y, z, w = quaternion_xyzw(T)
        moved = self.kind('geometry_msgs/msg/Transform', translation=self.kind(
            'geometry_msgs/msg/Vector3', **dict(zip('xyz', map(float, T[:3, 3]), strict=True))),
            rotation=self.kind('geometry_msgs/msg/Quaternion', x=x, y=y, z=z, w=w))
        one = self.kind('geometry_msgs/msg/TransformStamped', header=self.header(stamp, parent), child_frame_id=child,
                        transform=moved)
        self.write(topic, self.kind('tf2_msgs/msg/TFMessage', transforms=[one]), stamp)

    def image(self, topic: str, pixels: np.ndarray, encoding: str, stamp: int, frame: str) -> None:
        self.write(topic, self.kind(
            'sensor_msgs/msg/Image', header=self.header(stamp, frame), height=pixels.shape[0], width=pixels.shape[1],
            encoding=encoding, is_bigendian=0, step=pixels.strides[0], data=pixels.view(np.uint8).ravel()), stamp)

    def compressed(self, topic: str, data: bytes, kind: str, stamp: int, frame: str) -> None:
        self.write(topic, self.kind('sensor_msgs/msg/CompressedImage', header=self.header(stamp, frame), format=kind,
                                    data=np.frombuffer(data, np.uint8)), stamp)

    def info(self, topic: str, camera: object, stamp: int, distortion: float = 0.) -> None:
        K, P = np.eye(3), np.zeros((3, 4))
        P[:, :3] = camera.K
        K[:2] = 2 * camera.K[:2]
        values = {'d': np.array([distortion, 0., 0., 0., 0.]), 'k': K.ravel(), 'r': np.eye(3).ravel(), 'p': P.ravel()}
        region = self.kind('sensor_msgs/msg/RegionOfInterest', x_offset=0, y_offset=0, height=0, width=0,
                           do_rectify=False)
        self.write(topic, self.kind(
            'sensor_msgs/msg/CameraInfo', header=self.header(stamp, ''), height=camera.height, width=camera.width,
            distortion_model='plumb_bob', binning_x=0, binning_y=0, roi=region,
            **{name.upper() if self._ros1 else name: value for name, value in values.items()}), stamp)

    def close(self) -> Path:
        self._writer.close()
        return self.path


@pytest.fixture(scope='module')
def room() -> SampleRoom:
    return SampleRoom(WIDTH, HEIGHT, frames=FRAMES, ahead=0)


def write_bag(path: Path, room: SampleRoom, *, ros1: bool = False, packed: bool = False, metres: bool = False,
              distortion: float = 0., late_depth: int = 0, still: bool = False, image: str = IMAGE,
              depth_frame: str = 'optical', damaged: int | None = None, diverged: int | None = None) -> Path:
    """Write the sample's frames, one a second, with odometry at 10 Hz between them."""
    bag = Bag(path, ros1)
    T_link_optical = T_BODY_OPTICAL
    T_map_base = room.T_world_camera @ invert(T_BASE_LINK @ T_link_optical)
    if still:
        T_map_base = np.repeat(T_map_base[:1], FRAMES, axis=0)
    T_odom_base = invert(T_MAP_ODOM) @ T_map_base
    bag.transform('/tf_static', 'base_link', '/camera_link', START, T_BASE_LINK)
    bag.transform('/tf_static', 'camera_link', 'optical', START, T_link_optical)
    bag.info('/camera/color/camera_info', room.camera, START, distortion)
    for i in range(FRAMES):
        stamp, frame = START + i * SECOND, room.frame(0 if still else i)
        # Before and behind each frame, and never at its stamp: a third and two thirds of a centimetre away.
        step = np.array([0.01, 0., 0., 0., 0., 0.02])
        for part, share in ((-0.1, -1 / 3), (0.2, 2 / 3)):
            at = stamp + round(part * SECOND)
            lost = make_pose(translation=np.full(3, np.nan if i == diverged else 0.))
            bag.transform('/tf', 'odom', 'base_link', at, T_odom_base[i] @ se3_exp(share * step) @ lost)
            bag.transform('/tf', 'map', 'odom', at, T_MAP_ODOM)
        millimetres = np.round(np.nan_to_num(frame.z_depth) * 1000.).astype(np.uint16)
        if packed:
            png = b'' if i == damaged else cv2.imencode('.png', frame.image[..., ::-1])[1].tobytes()
            bag.compressed(f'{IMAGE}/compressed', png, 'rgb8; png compressed bgr8', stamp, 'optical')
            bag.compressed(f'{DEPTH}/compressedDepth', bytes(12) + cv2.imencode('.png', millimetres)[1].tobytes(),
                           '16UC1; compressedDepth png', stamp, 'optical')
            continue
        bag.image(image, np.ascontiguousarray(frame.image[..., ::-1]), 'bgr8', stamp, 'optical')
        depth = np.where(millimetres > 0, frame.z_depth, np.nan).astype(np.float32) if metres else millimetres
        bag.image(DEPTH, depth, '32FC1' if metres else '16UC1', stamp + late_depth, depth_frame)
    # What comes when nobody knew any more where the robot was.
    bag.image(image, room.frame(0).image, 'rgb8', START + 60 * SECOND, 'optical')
    bag.image(DEPTH, millimetres, '16UC1', START + 60 * SECOND, depth_frame)
    return bag.close()


@pytest.mark.parametrize('options', [{}, {'metres': True}, {'packed': True}, {'ros1': True}], ids=str)
def test_a_bag_becomes_the_recording_that_it_is_of(tmp_path: Path, room: SampleRoom, options: dict, capsys) -> None:
    bag = write_bag(tmp_path / ('robot.bag' if 'ros1' in options else 'robot'), room, **options)
    topics = (f'{IMAGE}/compressed', f'{DEPTH}/compressedDepth') if 'packed' in options else (IMAGE, DEPTH)
    assert cli.main(['import', str(bag), '--image', topics[0], '--depth', topics[1], '--metres',
                     '0.01', '--output', str(tmp_path / 'office')]) == 0
    left_out = 0 if 'packed' in options else 1
    assert f'{FRAMES} frames of {FRAMES + left_out} images (0 without depth' in capsys.readouterr().out
    got = open_reference(tmp_path / 'office')
    assert (len(got), got.name, got.is_static, got.camera) == (FRAMES, 'office', True, room.camera)
    np.testing.assert_array_equal(got.up, (0., 0., 1.))
    np.testing.assert_array_equal(got.times, np.arange(FRAMES))
    np.testing.assert_allclose(got.T_world_camera, room.T_world_camera, atol=1e-6)
    for i in range(FRAMES):
        frame, truth = got.frame(i), room.frame(i)
        np.testing.assert_allclose(frame.z_depth, truth.z_depth, atol=6e-4)
        assert np.abs(frame.image.astype(int) - truth.image).mean() < 4.
    # What is there is not written over.
    assert cli.main(['import', str(bag), '--image', topics[0], '--depth', topics[1], '--output',
                     str(tmp_path / 'office')]) == 1
    assert 'is not empty' in capsys.readouterr().err


def test_what_does_not_move_is_kept_once_unless_things_move(tmp_path: Path, room: SampleRoom) -> None:
    bag = write_bag(tmp_path / 'robot', room, still=True)
    with pytest.raises(RecordingError, match=f'no two frames can be used: 1 frames of {FRAMES + 1} images .*'
                                             f'1 without a pose, {FRAMES - 1} hardly moved'):
        import_bag([bag], BagSource(IMAGE, DEPTH), tmp_path, 'still')
    (tmp_path / 'moving').mkdir()
    report = import_bag([next(bag.glob('*.mcap'))], BagSource(IMAGE, DEPTH, moving=True), tmp_path / 'moving', 'moving')
    assert report.written == FRAMES and not open_reference(tmp_path / 'moving').is_static


def test_what_is_damaged_is_left_out_and_counted(tmp_path: Path, room: SampleRoom) -> None:
    bag = write_bag(tmp_path / 'robot', room, packed=True, damaged=2)
    topics = f'{IMAGE}/compressed', f'{DEPTH}/compressedDepth'
    (tmp_path / 'out').mkdir()
    report = import_bag([bag], BagSource(*topics, metres=0.), tmp_path / 'out', 'out')
    assert (report.written, report.unreadable) == (FRAMES - 1, 1)
    got = open_reference(tmp_path / 'out')
    np.testing.assert_allclose(got.T_world_camera, np.delete(room.T_world_camera, 2, axis=0), atol=1e-6)
    # And what tf2 would throw away is not taken: then nobody knows where this one was.
    bag = write_bag(tmp_path / 'diverged', room, diverged=3)
    (tmp_path / 'rest').mkdir()
    report = import_bag([bag], BagSource(IMAGE, DEPTH, metres=0.), tmp_path / 'rest', 'rest')
    assert (report.written, report.without_pose) == (FRAMES - 1, 2)


def test_depth_of_another_frame_is_refused_unless_it_is_registered(tmp_path: Path, room: SampleRoom) -> None:
    bag = write_bag(tmp_path / 'robot', room, depth_frame='depth_optical')
    with pytest.raises(RecordingError, match=f"{DEPTH} is in frame 'depth_optical', {IMAGE} in 'optical'"):
        import_bag([bag], BagSource(IMAGE, DEPTH, metres=0.), tmp_path, 'out')
    (tmp_path / 'out').mkdir()
    source = BagSource(IMAGE, DEPTH, metres=0., map_frame='/map', registered=True)
    assert import_bag([bag], source, tmp_path / 'out', 'out').written == FRAMES


@pytest.mark.parametrize(('image', 'refused'), [
    ('/omnidirectional/image_raw', True), ('/camera/image_rect_color', False), ('/camera/rect/image', False)])
def test_what_is_rectified_is_known_by_a_part_of_the_name(tmp_path: Path, room: SampleRoom, image: str,
                                                         refused: bool) -> None:
    bag = write_bag(tmp_path / 'robot', room, image=image, distortion=0.1)
    source = BagSource(image, DEPTH, '/camera/color/camera_info', metres=0.)
    (tmp_path / 'out').mkdir()
    if refused:
        with pytest.raises(RecordingError, match='are distorted'):
            import_bag([bag], source, tmp_path / 'out', 'out')
    else:
        assert import_bag([bag], source, tmp_path / 'out', 'out').written == FRAMES


def test_depth_may_be_late_and_distorted_images_may_be_rectified(tmp_path: Path, room: SampleRoom) -> None:
    bag = write_bag(tmp_path / 'robot', room, late_depth=15_000_000, distortion=0.1)
    for name, more in (('a', {'slop': 0.01}), ('b', {})):
        (tmp_path / name).mkdir()
        with pytest.raises(RecordingError, match='0 frames of 7 images .6 without depth' if more else 'are distorted'):
            import_bag([bag], BagSource(IMAGE, DEPTH, rectified=bool(more), **more), tmp_path / name, name)
    assert import_bag([bag], BagSource(IMAGE, DEPTH, rectified=True, metres=0.), tmp_path / 'b', 'b').written == FRAMES


@pytest.mark.parametrize(('given', 'sentence'), [
    ({'--image': '/rgb'}, f'the bag has no topic /rgb of .*; it has {IMAGE}, {DEPTH}'),
    ({'--depth': '/tf'}, 'the bag has no topic /tf of sensor_msgs/msg/Image'),
    ({'--camera-info': '/info'}, 'no topic /info of sensor_msgs/msg/CameraInfo; it has /camera/color/camera_info'),
    ({'--map-frame': 'world'}, "no transforms lead from 'world' to 'optical'; the bag has base_link -> camera"),
    ({'--depth': IMAGE}, f'image and depth are both {IMAGE}; name the topic of each')])
def test_what_a_bag_lacks_is_one_sentence_and_leaves_nothing(tmp_path: Path, room: SampleRoom, given: dict,
                                                             sentence: str, capsys) -> None:
    bag = write_bag(tmp_path / 'robot', room)
    options = {'--image': IMAGE, '--depth': DEPTH, '--output': str(tmp_path / 'out')} | given
    assert cli.main(['import', str(bag), *itertools.chain(*options.items())]) == 1
    said = capsys.readouterr().err
    assert said.count('\n') == 1 and re.search(sentence, said), said
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ['robot']


def test_what_is_no_bag_is_one_sentence(tmp_path: Path, capsys) -> None:
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'other.bag').write_bytes(b'no bag')
    for path in ('nowhere', 'empty', 'other.bag'):
        assert cli.main(['import', str(tmp_path / path), '--image', IMAGE, '--depth', DEPTH, '--output',
                         str(tmp_path / 'out')]) == 1
        said = capsys.readouterr().err
        assert said.count('\n') == 1 and str(tmp_path / path) in said


def test_transforms_are_interpolated_and_never_guessed() -> None:
    transforms = Transforms()
    for parent, child, static in (('odom', 'base', False), ('base', 'eye', True), ('eye', 'tag', False),
                                  ('base', 'tag', False)):
        transforms.link(parent, child, static)
    chain, tenth, step = transforms.chain('odom', 'eye'), SECOND // 10, np.array([.2, 0., 0., 0., 0., .1])
    assert chain == ('eye', 'base')
    transforms.add('base', 2 * tenth, se3_exp(step))
    transforms.add('base', tenth, np.eye(4))
    assert transforms.at(chain, 2 * tenth) is None, 'nothing is known of the lens'
    transforms.add('eye', 0, T_BASE_LINK)
    assert transforms.at(chain, tenth - 1) is None and transforms.at(chain, 2 * tenth + 1) is None
    np.testing.assert_allclose(transforms.at(chain, tenth), T_BASE_LINK)
    np.testing.assert_allclose(transforms.at(chain, tenth + tenth // 4), se3_exp(step / 4) @ T_BASE_LINK, atol=1e-12)
    # Silence while it stood tells where it was; while it went, or where it jumped, nothing does.
    transforms.add('base', 20 * SECOND, se3_exp(step))
    np.testing.assert_allclose(transforms.at(chain, 9 * SECOND), se3_exp(step) @ T_BASE_LINK, atol=1e-12)
    transforms.add('base', 22 * SECOND, se3_exp(2 * step))
    transforms.add('base', 22 * SECOND + tenth, se3_exp(2 * step) @ make_pose(translation=np.array([1., 0., 0.])))
    assert transforms.at(chain, 21 * SECOND) is None and transforms.at(chain, 22 * SECOND + tenth // 2) is None
    with pytest.raises(RecordingError, match="'tag' has several parents in the bag, base and eye"):
        transforms.chain('odom', 'tag')
    transforms.link('odom', 'base', True)
    with pytest.raises(RecordingError, match="'base' is told by static transforms and by others"):
        transforms.chain('odom', 'eye')
