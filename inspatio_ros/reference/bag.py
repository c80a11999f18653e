# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From a rosbag to a folder of RGB-D frames with poses (rgbd.py): what a robot's camera saw, where SLAM says it was.

Each colour image is taken with the depth image of its stamp and with the transform from the map to its frame at that
stamp; what has no depth, no transform or hardly moved is left out and counted. Nothing of ROS is needed.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inspatio_ros.errors import RecordingError
from inspatio_ros.geometry import interpolate, invert, pose_from_quaternion
from inspatio_ros.image_messages import read_common_image, read_compressed
from inspatio_ros.reference.rgbd import MILLIMETRES, in_millimetres
from inspatio_ros.tum import write_tum

if TYPE_CHECKING:
    from rosbags.highlevel import AnyReader

NANOSECONDS = 1_000_000_000
#: What importing writes into its folder.
FILES = ('rgb', 'depth', 'intrinsics.json', 'trajectory.txt', 'metadata.json')
_JPEG_QUALITY = 95
#: Bytes that compressed_depth_image_transport puts before the PNG.
_COMPRESSED_DEPTH_HEADER = 12
_IMAGE, _COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
_TRANSFORMS = {'/tf': False, '/tf_static': True}


@dataclass(frozen=True)
class BagSource:
    """What to take from a bag.

    `image` and `depth` are topics, `camera_info` is the image's own unless it is named. `map_frame` is the frame of the
    poses, z up. Depth belongs to an image within `slop` seconds of it. A frame is kept `metres` or `degrees` away from
    the one before it; 0 keeps all. `moving`: things move in the recording, so it is rendered from the frame aligned in
    time. `rectified`: images have no distortion, whatever camera_info says.
    """

    image: str
    depth: str
    camera_info: str | None = None
    map_frame: str = 'map'
    slop: float = 0.02
    metres: float = 0.05
    degrees: float = 3.
    moving: bool = False
    rectified: bool = False

    @property
    def info_topic(self) -> str:
        """The topic of the camera's intrinsics: beside the image's, where none is named."""
        parts = self.image.removesuffix('/compressed').rsplit('/', 1)
        return self.camera_info or f'{parts[0]}/camera_info'


@dataclass
class ImportReport:
    """How many images there were, and what became of them."""

    images: int = 0
    written: int = 0
    without_depth: int = 0
    without_pose: int = 0
    hardly_moved: int = 0

    def __str__(self) -> str:
        return (f'{self.written} frames of {self.images} images ({self.without_depth} without depth of their stamp, '
                f'{self.without_pose} without a pose, {self.hardly_moved} hardly moved)')


class Transforms:
    """The tree of frames in a bag's /tf and /tf_static; asked at stamps, it interpolates and never guesses."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}
        self._known: dict[str, list[tuple[int, np.ndarray]]] = {}
        self._static: dict[str, np.ndarray] = {}

    def add(self, parent: str, child: str, stamp: int, T_parent_child: np.ndarray, static: bool = False) -> None:
        """Take a transform [4, 4] at `stamp` nanoseconds; RecordingError where a frame gets a second parent."""
        parent, child = parent.lstrip('/'), child.lstrip('/')
        if self._parents.setdefault(child, parent) != parent:
            raise RecordingError(f'frame {child!r} has two parents in the bag, {self._parents[child]!r} and '
                                 f'{parent!r}; leave out what publishes one of them')
        if static:
            self._static[child] = T_parent_child
        else:
            self._known.setdefault(child, []).append((stamp, T_parent_child))

    def sort(self) -> None:
        """Put what was added into the order of its stamps; call it once, before the first question."""
        for known in self._known.values():
            known.sort(key=lambda pair: pair[0])

    def chain(self, target: str, source: str) -> list[str]:
        """Give the frames from `source` up to below `target`; RecordingError where none leads there."""
        chain = [source.lstrip('/')]
        while chain[-1] != target and chain[-1] in self._parents and len(chain) <= len(self._parents):
            chain.append(self._parents[chain[-1]])
        if chain[-1] != target:
            links = ', '.join(sorted(f'{parent} -> {child}' for child, parent in self._parents.items())) or 'none'
            raise RecordingError(f'no transforms lead from {target!r} to {source!r}; the bag has {links}')
        return chain[:-1]

    def at(self, chain: Sequence[str], stamp: int) -> np.ndarray | None:
        """Give T_target_source [4, 4] along a chain at a stamp; None where a transform is not known there."""
        T = np.eye(4)
        for child in chain:
            step = self._static.get(child)
            if step is None:
                step = _between(self._known[child], stamp)
            if step is None:
                return None
            T = step @ T
        return T


def _between(known: list[tuple[int, np.ndarray]], stamp: int) -> np.ndarray | None:
    after = bisect_left(known, stamp, key=lambda pair: pair[0])
    if after < len(known) and known[after][0] == stamp:
        return known[after][1]
    if after in (0, len(known)):
        return None
    (stamp0, T0), (stamp1, T1) = known[after - 1], known[after]
    return interpolate(T0, T1, (stamp - stamp0) / (stamp1 - stamp0))


def import_bag(paths: Sequence[str | Path], source: BagSource, folder: Path, name: str) -> ImportReport:
    """Write the frames of a bag into a folder that is there and empty.

    Args:
        paths: one rosbag2 (folder, or mcap or db3 file in one), or the parts of a ROS 1 bag.
        source: what to take of it.
        folder: where to write.
        name: what the recording is called.

    Raises:
        RecordingError: the bag cannot be read, lacks what was named, or holds no two frames that are usable.

    """
    if source.image == source.depth:
        raise RecordingError(f'image and depth are both {source.image}; name the topic of each')
    with _open(paths) as reader:
        for topic, kinds in ((source.image, (_IMAGE, _COMPRESSED)), (source.depth, (_IMAGE, _COMPRESSED)),
                             (source.info_topic, ('sensor_msgs/msg/CameraInfo',))):
            _check_topic(reader, topic, kinds)
        intrinsics = _intrinsics(reader, source)
        chosen, report = _choose(reader, source, _transforms(reader))
        if len(chosen.stamps) < 2:
            raise RecordingError(f'{paths[0]}: no two frames can be used: {report}; is {source.map_frame!r} the frame '
                                 'that the robot was localised in, and does depth have the stamps of images?')
        _write_pixels(reader, source, chosen, folder, intrinsics)
    first = chosen.stamps[0]
    write_tum(folder / 'trajectory.txt', [(stamp - first) / NANOSECONDS for stamp in chosen.stamps], chosen.poses)
    (folder / 'intrinsics.json').write_text(json.dumps(intrinsics, indent=2) + '\n')
    # A map's z is up (REP 103).
    (folder / 'metadata.json').write_text(json.dumps(
        {'name': name, 'static': not source.moving, 'up': [0, 0, 1]}, indent=2) + '\n')
    return report


@dataclass
class _Chosen:
    """The frames to write: stamps of images, of their depth, and poses T_map_camera."""

    stamps: list[int] = field(default_factory=list)
    depth_stamps: list[int] = field(default_factory=list)
    poses: list[np.ndarray] = field(default_factory=list)


@contextmanager
def _open(paths: Sequence[str | Path]) -> Iterator[AnyReader]:
    from rosbags.highlevel import AnyReader, AnyReaderError
    from rosbags.typesys import Stores, get_typestore
    missing = next((path for path in map(Path, paths) if not path.exists()), None)
    if missing is not None:
        raise RecordingError(f'there is no bag {missing}; name a rosbag2 folder or .bag files')
    # A file of a rosbag2 goes for its folder, where what describes it lies.
    bags = [path.parent if path.suffix in ('.mcap', '.db3') and (path.parent / 'metadata.yaml').exists() else path
            for path in map(Path, paths)]
    try:
        reader = AnyReader(bags, default_typestore=get_typestore(Stores.ROS2_JAZZY))
        reader.open()
    except (AnyReaderError, OSError, ValueError) as error:
        raise RecordingError(f'{paths[0]} cannot be read as a bag: {error}') from error
    try:
        yield reader
    finally:
        reader.close()


def _check_topic(reader: AnyReader, topic: str, kinds: tuple[str, ...]) -> None:
    found = sorted({connection.topic for connection in reader.connections if connection.msgtype in kinds})
    if topic not in found:
        raise RecordingError(f'the bag has no topic {topic} of {" or ".join(kinds)}; it has '
                             f'{", ".join(found) or "none of that type"}')


def _messages(reader: AnyReader, *topics: str) -> Iterator[tuple[str, Any]]:
    connections = [connection for connection in reader.connections if connection.topic in topics]
    if not connections:
        # rosbags would give the messages of all topics.
        return
    for connection, _, data in reader.messages(connections=connections):
        yield connection.topic, reader.deserialize(data, connection.msgtype)


def _stamp(message: Any) -> int:
    stamp = message.header.stamp
    return stamp.sec * NANOSECONDS + stamp.nanosec


def _intrinsics(reader: AnyReader, source: BagSource) -> dict[str, float]:
    info = next((message for _, message in _messages(reader, source.info_topic)), None)
    if info is None:
        raise RecordingError(f'the bag has no message of {source.info_topic}; name another with --camera-info')
    P, K, D = (np.asarray(getattr(info, name if hasattr(info, name) else name.upper()))
               for name in ('p', 'k', 'd'))
    rectified = source.rectified or 'rect' in source.image
    if D.any() and not rectified:
        raise RecordingError(f'{source.info_topic} says that the images of {source.image} are distorted; name the '
                             'topic of the rectified ones, or say --rectified if they are')
    fx, fy, cx, cy = (P[0], P[5], P[2], P[6]) if P[0] > 0 else (K[0], K[4], K[2], K[5])
    if not fx > 0:
        raise RecordingError(f'{source.info_topic} has no focal length; calibrate the camera')
    return {'fx': float(fx), 'fy': float(fy), 'cx': float(cx), 'cy': float(cy), 'width': int(info.width),
            'height': int(info.height), 'depth_scale': MILLIMETRES}


def _transforms(reader: AnyReader) -> Transforms:
    transforms = Transforms()
    for topic, message in _messages(reader, *_TRANSFORMS):
        for each in message.transforms:
            shift, turn = each.transform.translation, each.transform.rotation
            transforms.add(each.header.frame_id, each.child_frame_id, _stamp(each), pose_from_quaternion(
                np.array([shift.x, shift.y, shift.z]), np.array([turn.x, turn.y, turn.z, turn.w])), _TRANSFORMS[topic])
    transforms.sort()
    return transforms


def _choose(reader: AnyReader, source: BagSource, transforms: Transforms) -> tuple[_Chosen, ImportReport]:
    """Find each image's depth and pose, and keep those that moved."""
    images: dict[int, str] = {}
    depth_stamps = set()
    for topic, message in _messages(reader, source.image, source.depth):
        if topic == source.image:
            images[_stamp(message)] = message.header.frame_id
        else:
            depth_stamps.add(_stamp(message))
    chosen, report, chains = _Chosen(), ImportReport(images=len(images)), {}
    known = sorted(depth_stamps)
    for stamp in sorted(images):
        frame = images[stamp]
        if frame not in chains:
            chains[frame] = transforms.chain(source.map_frame, frame)
        depth_stamp, T = _nearest(known, stamp), transforms.at(chains[frame], stamp)
        if depth_stamp is None or abs(depth_stamp - stamp) > source.slop * NANOSECONDS:
            report.without_depth += 1
        elif T is None:
            report.without_pose += 1
        elif chosen.poses and not source.moving and _is_near(chosen.poses[-1], T, source):
            report.hardly_moved += 1
        else:
            chosen.stamps.append(stamp)
            chosen.depth_stamps.append(depth_stamp)
            chosen.poses.append(T)
    report.written = len(chosen.stamps)
    return chosen, report


def _nearest(known: list[int], stamp: int) -> int | None:
    at = bisect_left(known, stamp)
    return min(known[max(0, at - 1):at + 1], key=lambda other: abs(other - stamp), default=None)


def _is_near(T0: np.ndarray, T1: np.ndarray, source: BagSource) -> bool:
    step = invert(T0) @ T1
    turn = np.degrees(np.arccos(np.clip((np.trace(step[:3, :3]) - 1.) / 2., -1., 1.)))
    return bool(np.linalg.norm(step[:3, 3]) < source.metres and turn < source.degrees)


def _write_pixels(reader: AnyReader, source: BagSource, chosen: _Chosen, folder: Path,
                  intrinsics: dict[str, float]) -> None:
    from PIL import Image
    size = int(intrinsics['height']), int(intrinsics['width'])
    numbers = {source.image: {stamp: [i] for i, stamp in enumerate(chosen.stamps)}, source.depth: {}}
    for i, stamp in enumerate(chosen.depth_stamps):
        numbers[source.depth].setdefault(stamp, []).append(i)
    for name in ('rgb', 'depth'):
        (folder / name).mkdir()
    for topic, message in _messages(reader, source.image, source.depth):
        wanted = numbers[topic].pop(_stamp(message), ())
        if not wanted:
            continue
        pixels = _colour(topic, message) if topic == source.image else _millimetres(topic, message)
        if pixels.shape[:2] != size:
            raise RecordingError(f'{topic} has images of {pixels.shape[1]}x{pixels.shape[0]}, {source.info_topic} is '
                                 f'of {size[1]}x{size[0]}; name the depth that is registered to the colour image')
        for number in wanted:
            if topic == source.image:
                Image.fromarray(pixels).save(folder / 'rgb' / f'{number:06d}.jpg', quality=_JPEG_QUALITY, subsampling=0)
            else:
                Image.fromarray(pixels).save(folder / 'depth' / f'{number:06d}.png')


def _colour(topic: str, message: Any) -> np.ndarray:
    pixels = read_common_image(message) if hasattr(message, 'encoding') else read_compressed(message)
    if pixels.dtype != np.uint8:
        raise RecordingError(f'{topic} holds {message.encoding}, which is no 8-bit image')
    return pixels


def _millimetres(topic: str, message: Any) -> np.ndarray:
    """Read depth as uint16 [H, W], 0 where it is unknown or farther than 16 bits reach."""
    raw = read_common_image(message) if hasattr(message, 'encoding') else _compressed_depth(topic, message)
    if raw.dtype == np.uint16:
        return raw
    if raw.dtype != np.float32:
        raise RecordingError(f'{topic} holds {message.encoding}; depth must be 16UC1 (millimetres) or 32FC1 (metres)')
    return in_millimetres(raw)


def _compressed_depth(topic: str, message: Any) -> np.ndarray:
    import cv2
    if not message.format.startswith('16UC1'):
        raise RecordingError(f'{topic} is compressed as {message.format!r}; only 16UC1 can be read: decompress it '
                             'first (ros2 run image_transport republish compressedDepth raw)')
    raw = cv2.imdecode(np.frombuffer(message.data, dtype=np.uint8)[_COMPRESSED_DEPTH_HEADER:], cv2.IMREAD_UNCHANGED)
    if raw is None or raw.dtype != np.uint16:
        raise RecordingError(f'{topic} holds a compressed depth image that cannot be decoded')
    return raw
