# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From a rosbag to a folder of RGB-D frames with poses (rgbd.py): what a robot's camera saw, where SLAM says it was.

Each colour image is taken with the depth image of its stamp and with the transform from the map to its frame at that
stamp; what has no depth, no transform or hardly moved is left out and counted. Nothing of ROS is needed.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inspatio_ros.errors import ConfigurationError, RecordingError
from inspatio_ros.geometry import pose_from_quaternion
from inspatio_ros.image_messages import KNOWN_ENCODINGS, read_common_image, read_compressed
from inspatio_ros.reference.rgbd import MILLIMETRES, in_millimetres
from inspatio_ros.reference.transforms import NANOSECONDS, Transforms, apart
from inspatio_ros.tum import is_unit_quaternion, write_tum

if TYPE_CHECKING:
    from rosbags.highlevel import AnyReader

#: What importing writes into its folder.
FILES = ('rgb', 'depth', 'intrinsics.json', 'trajectory.txt', 'metadata.json')
_JPEG_QUALITY = 95
_IMAGE, _COMPRESSED, _INFO = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage', 'sensor_msgs/msg/CameraInfo'
_PNG = b'\x89PNG\r\n\x1a\n'
#: A part of a topic's name that says that its images are rectified.
_RECTIFIED = re.compile(r'(^|[/_])rect(ified)?([/_]|$)')


@dataclass(frozen=True)
class BagSource:
    """What to take from a bag.

    `image` and `depth` are topics, `camera_info` is the image's own unless it is named. `map_frame` is the frame of the
    poses, z up, and `tf` the topic of transforms (with `_static` behind it those that stay). Depth belongs to an image
    within `slop` seconds of it. A frame is kept `metres` or `degrees` away from the one before it; 0 keeps all.
    `moving`: things move in the recording, so it is rendered from the frame aligned in time. `rectified`: images have
    no distortion, whatever camera_info says. `registered`: depth is as the image's camera sees it, whatever its frame.
    """

    image: str
    depth: str
    camera_info: str | None = None
    map_frame: str = 'map'
    tf: str = '/tf'
    slop: float = 0.02
    metres: float = 0.05
    degrees: float = 3.
    moving: bool = False
    rectified: bool = False
    registered: bool = False

    @property
    def info_topic(self) -> str:
        """The topic of the camera's intrinsics: beside the image's, where none is named."""
        parts = self.image.removesuffix('/compressed').rsplit('/', 1)
        return self.camera_info or f'{parts[0]}/camera_info'

    @property
    def static_tf(self) -> str:
        """The topic of transforms that stay."""
        return f'{self.tf}_static'


@dataclass
class ImportReport:
    """How many images there were, and what became of them."""

    images: int = 0
    written: int = 0
    without_depth: int = 0
    without_pose: int = 0
    hardly_moved: int = 0
    unreadable: int = 0

    def __str__(self) -> str:
        return (f'{self.written} frames of {self.images} images ({self.without_depth} without depth of their stamp, '
                f'{self.without_pose} without a pose, {self.hardly_moved} hardly moved, {self.unreadable} unreadable)')


def import_bag(paths: Sequence[str | Path], source: BagSource, folder: Path, name: str) -> ImportReport:
    """Write the frames of a bag into a folder that is there and empty.

    Args:
        paths: one rosbag2 (folder, or mcap or db3 file in one), or the parts of a ROS 1 bag.
        source: what to take of it.
        folder: where to write.
        name: what the recording is called.

    Raises:
        RecordingError: the bag cannot be read, lacks what was named, or holds no two frames that are usable.
        ConfigurationError: the folder cannot be written.

    """
    if source.image == source.depth:
        raise RecordingError(f'image and depth are both {source.image}; name the topic of each')
    with _open(paths) as reader:
        for topic, kinds in ((source.image, (_IMAGE, _COMPRESSED)), (source.depth, (_IMAGE, _COMPRESSED)),
                             (source.info_topic, (_INFO,))):
            _check_topic(reader, topic, kinds)
        intrinsics = _intrinsics(reader, source)
        chosen, report = _choose(reader, source)
        try:
            bad = _write_pixels(reader, source, chosen, folder, intrinsics)
            report.unreadable, report.written = len(bad), len(chosen.stamps) - len(bad)
            if report.written < 2:
                raise RecordingError(f'{paths[0]}: no two frames can be used: {report}; is {source.map_frame!r} the '
                                     'frame that the robot was localised in, and does depth have the stamps of images?')
            _write_rest(chosen, bad, folder, intrinsics, {'name': name, 'static': not source.moving})
        except OSError as error:
            raise ConfigurationError(f'cannot write the recording: {error.strerror or error}') from error
    return report


@dataclass
class _Chosen:
    """The frames to write: stamps of images, of their depth, and poses T_map_camera."""

    stamps: list[int] = field(default_factory=list)
    depth_stamps: list[int] = field(default_factory=list)
    poses: list[np.ndarray] = field(default_factory=list)


# --- reading ----------------------------------------------------------------------------------------------------------


@contextmanager
def _open(paths: Sequence[str | Path]) -> Iterator[AnyReader]:
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore
    missing = next((path for path in map(Path, paths) if not path.exists()), None)
    if missing is not None:
        raise RecordingError(f'there is no bag {missing}; name a rosbag2 folder or .bag files')
    # A file of a rosbag2 goes for its folder, where what describes it lies.
    bags = dict.fromkeys(path.parent if path.suffix in ('.mcap', '.db3') and (path.parent / 'metadata.yaml').exists()
                         else path for path in map(Path, paths))
    try:
        reader = AnyReader(list(bags), default_typestore=get_typestore(Stores.ROS2_JAZZY))
        reader.open()
    except Exception as error:  # noqa: BLE001 - a damaged bag ends in errors of all kinds
        raise _not_a_bag(paths[0], error) from error
    try:
        yield reader
    finally:
        reader.close()


def _not_a_bag(path: str | Path, error: Exception) -> RecordingError:
    said = ' '.join(str(error).split())
    return RecordingError(f'{path} cannot be read as a bag ({type(error).__name__}: {said[:200]}); if ROS can, a copy '
                          'of the topics that are needed alone may do (ros2 bag convert)')


def _check_topic(reader: AnyReader, topic: str, kinds: tuple[str, ...]) -> None:
    found = sorted({connection.topic for connection in reader.connections if connection.msgtype in kinds})
    if topic not in found:
        raise RecordingError(f'the bag has no topic {topic} of {" or ".join(kinds)}; it has '
                             f'{", ".join(found) or "none of that type"}')


def _messages(reader: AnyReader, *topics: str) -> Iterator[tuple[str, Any]]:
    connections = [connection for connection in reader.connections if connection.topic in topics]
    # Of no connections rosbags would give the messages of all topics.
    messages = iter(reader.messages(connections=connections) if connections else ())
    while True:
        try:
            connection, _, data = next(messages)
            message = reader.deserialize(data, connection.msgtype)
        except StopIteration:
            return
        except Exception as error:  # noqa: BLE001 - a damaged bag ends in errors of all kinds
            raise _not_a_bag(reader.paths[0], error) from error
        yield connection.topic, message


def _stamp(message: Any) -> int:
    stamp = message.header.stamp
    return stamp.sec * NANOSECONDS + stamp.nanosec


def _intrinsics(reader: AnyReader, source: BagSource) -> dict[str, float]:
    info = next((message for _, message in _messages(reader, source.info_topic)), None)
    if info is None:
        raise RecordingError(f'the bag has no message of {source.info_topic}; name another with --camera-info')
    # ROS 1 has capitals.
    P, K, D = (np.asarray(getattr(info, name if hasattr(info, name) else name.upper())) for name in ('p', 'k', 'd'))
    if D.any() and not (source.rectified or _RECTIFIED.search(source.image)):
        raise RecordingError(f'{source.info_topic} says that the images of {source.image} are distorted; name the '
                             'topic of the rectified ones, or say --rectified if they are')
    fx, fy, cx, cy = (P[0], P[5], P[2], P[6]) if P[0] > 0 else (K[0], K[4], K[2], K[5])
    if not fx > 0:
        raise RecordingError(f'{source.info_topic} has no focal length; calibrate the camera')
    return {'fx': float(fx), 'fy': float(fy), 'cx': float(cx), 'cy': float(cy), 'width': int(info.width),
            'height': int(info.height), 'depth_scale': MILLIMETRES}


# --- choosing ---------------------------------------------------------------------------------------------------------


def _choose(reader: AnyReader, source: BagSource) -> tuple[_Chosen, ImportReport]:
    """Find each image's depth and pose, and keep those that moved."""
    frames: dict[str, dict[int, str]] = {source.image: {}, source.depth: {}}
    for topic, message in _messages(reader, source.image, source.depth):
        frames[topic][_stamp(message)] = message.header.frame_id.lstrip('/')
    images, depths = frames[source.image], frames[source.depth]
    if not source.registered:
        _check_registered(source, set(images.values()), set(depths.values()))
    transforms, chains = _transforms(reader, source, set(images.values()))
    chosen, report, known = _Chosen(), ImportReport(images=len(images)), sorted(depths)
    for stamp in sorted(images):
        depth_stamp, T = _nearest(known, stamp), transforms.at(chains[images[stamp]], stamp)
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
    return chosen, report


def _check_registered(source: BagSource, image_frames: set[str], depth_frames: set[str]) -> None:
    strange = sorted(depth_frames - image_frames)
    if strange:
        raise RecordingError(f'{source.depth} is in frame {strange[0]!r}, {source.image} in '
                             f'{" and ".join(sorted(image_frames))!r}; name the depth that is registered to the colour '
                             'image (aligned_depth_to_color, say), or say --registered if this is')


def _transforms(reader: AnyReader, source: BagSource,
                cameras: set[str]) -> tuple[Transforms, dict[str, tuple[str, ...]]]:
    """Give the transforms from the map to the cameras' frames, of which alone poses are kept, and the chain of each."""
    transforms = Transforms()
    for parent, child, topic, _ in _each_transform(reader, source):
        transforms.link(parent, child, topic == source.static_tf)
    chains = {camera: transforms.chain(source.map_frame.lstrip('/'), camera) for camera in cameras}
    wanted = {frame for chain in chains.values() for frame in chain}
    for _, child, _, each in _each_transform(reader, source):
        if child not in wanted:
            continue
        shift, turn = each.transform.translation, each.transform.rotation
        numbers = np.array([shift.x, shift.y, shift.z, turn.x, turn.y, turn.z, turn.w])
        # tf2 drops those too: a filter that diverged, a message that nobody filled in.
        if np.isfinite(numbers).all() and is_unit_quaternion(numbers[3:]):
            transforms.add(child, _stamp(each), pose_from_quaternion(numbers[:3], numbers[3:]))
    return transforms, chains


def _each_transform(reader: AnyReader, source: BagSource) -> Iterator[tuple[str, str, str, Any]]:
    for topic, message in _messages(reader, source.tf, source.static_tf):
        for each in message.transforms:
            yield each.header.frame_id.lstrip('/'), each.child_frame_id.lstrip('/'), topic, each


def _nearest(known: list[int], stamp: int) -> int | None:
    at = bisect_left(known, stamp)
    return min(known[max(0, at - 1):at + 1], key=lambda other: abs(other - stamp), default=None)


def _is_near(T0: np.ndarray, T1: np.ndarray, source: BagSource) -> bool:
    way, turn = apart(T0, T1)
    return way < source.metres and np.degrees(turn) < source.degrees


# --- writing ----------------------------------------------------------------------------------------------------------


def _write_pixels(reader: AnyReader, source: BagSource, chosen: _Chosen, folder: Path,
                  intrinsics: dict[str, float]) -> set[int]:
    """Write rgb/ and depth/; give the numbers of those frames whose pixels cannot be decoded, which are left out."""
    from PIL import Image
    size = int(intrinsics['height']), int(intrinsics['width'])
    numbers: dict[str, dict[int, list[int]]] = {source.image: {}, source.depth: {}}
    for topic, stamps in ((source.image, chosen.stamps), (source.depth, chosen.depth_stamps)):
        for number, stamp in enumerate(stamps):
            numbers[topic].setdefault(stamp, []).append(number)
    for name in ('rgb', 'depth'):
        (folder / name).mkdir()
    bad: set[int] = set()
    for topic, message in _messages(reader, source.image, source.depth):
        wanted = numbers[topic].pop(_stamp(message), [])
        if not wanted:
            continue
        pixels = (_colour if topic == source.image else _millimetres)(topic, message)
        if pixels is None:
            bad.update(wanted)
            continue
        if pixels.shape[:2] != size:
            raise RecordingError(f'{topic} has images of {pixels.shape[1]}x{pixels.shape[0]}, {source.info_topic} is '
                                 f'of {size[1]}x{size[0]}; name the depth that is registered to the colour image')
        for number in wanted:
            if topic == source.image:
                Image.fromarray(pixels).save(_file(folder, 'rgb', number), quality=_JPEG_QUALITY, subsampling=0)
            else:
                Image.fromarray(pixels).save(_file(folder, 'depth', number))
    for number in bad:
        for name in ('rgb', 'depth'):
            _file(folder, name, number).unlink(missing_ok=True)
    return bad


def _file(folder: Path, name: str, number: int) -> Path:
    return folder / name / f'{number:06d}.{"jpg" if name == "rgb" else "png"}'


def _write_rest(chosen: _Chosen, bad: set[int], folder: Path, intrinsics: dict[str, float],
                metadata: dict[str, Any]) -> None:
    kept = [number for number in range(len(chosen.stamps)) if number not in bad]
    first = chosen.stamps[kept[0]]
    write_tum(folder / 'trajectory.txt', np.array([(chosen.stamps[i] - first) / NANOSECONDS for i in kept]),
              np.array([chosen.poses[i] for i in kept]))
    (folder / 'intrinsics.json').write_text(json.dumps(intrinsics, indent=2) + '\n')
    # A map's z is up (REP 103).
    (folder / 'metadata.json').write_text(json.dumps(metadata | {'up': [0, 0, 1]}, indent=2) + '\n')


def _colour(topic: str, message: Any) -> np.ndarray | None:
    pixels = _raw(topic, message, 'rgb8') if hasattr(message, 'encoding') else _decoded(read_compressed, message)
    if pixels is not None and pixels.dtype != np.uint8:
        raise RecordingError(f'{topic} holds {message.encoding}, which is no 8-bit image')
    return pixels


def _millimetres(topic: str, message: Any) -> np.ndarray | None:
    """Read depth as uint16 [H, W], 0 where it is unknown or farther than 16 bits reach; None where it is damaged."""
    if not hasattr(message, 'encoding'):
        return _compressed_depth(topic, message)
    raw = _raw(topic, message, '16UC1')
    if raw is None or raw.dtype == np.uint16:
        return raw
    if raw.dtype != np.float32:
        raise RecordingError(f'{topic} holds {message.encoding}; depth must be 16UC1 (millimetres) or 32FC1 (metres)')
    return in_millimetres(raw)


def _raw(topic: str, message: Any, instead: str) -> np.ndarray | None:
    if message.encoding not in KNOWN_ENCODINGS:
        raise RecordingError(f'{topic} holds {message.encoding}, which cannot be read here; republish it as {instead}')
    return _decoded(read_common_image, message)


def _decoded(read: Any, message: Any) -> np.ndarray | None:
    try:
        return read(message)
    except RecordingError:
        return None


def _compressed_depth(topic: str, message: Any) -> np.ndarray | None:
    import cv2
    if not message.format.startswith('16UC1'):
        raise RecordingError(f'{topic} is compressed as {message.format!r}; only 16UC1 can be read: decompress it '
                             'first (ros2 run image_transport republish compressedDepth raw)')
    # compressedDepth puts some bytes before the PNG, compressed does not.
    data = bytes(message.data)
    start = data.find(_PNG)
    raw = None if start < 0 else cv2.imdecode(np.frombuffer(data, np.uint8)[start:], cv2.IMREAD_UNCHANGED)
    return raw if raw is not None and raw.dtype == np.uint16 else None
