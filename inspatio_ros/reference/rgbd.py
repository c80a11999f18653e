# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Folders of RGB-D frames with poses.

    rgb/<stem>.jpg or .png     8-bit colour, all of one size
    depth/<stem>.png           16-bit, on the same grid, 0 unknown; the stems are those of rgb/
    intrinsics.json            fx, fy, cx, cy, width, height, depth_scale (units a metre; 1000 for millimetres)
    trajectory.txt             TUM: a line a frame, camera to world, OpenCV optical axes, metres
    metadata.json              optional: name, static (true), up ([x, y, z]), scale ("metric" or "relative")

Opening reads every header, so that what is wrong is said before anything starts; pixels are read when asked for.
"""

from __future__ import annotations

import json
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from inspatio_ros.errors import RecordingError, TrajectoryError
from inspatio_ros.geometry import PinholeCamera
from inspatio_ros.reference.base import Reference, ReferenceFrame, estimate_up
from inspatio_ros.reference.order import in_sequence
from inspatio_ros.tum import read_tum

#: The usual unit of depth in 16 bits, as `depth_scale`.
MILLIMETRES = 1000.
_IMAGES = ('.jpg', '.jpeg', '.png')
_INTRINSICS = ('fx', 'fy', 'cx', 'cy', 'width', 'height', 'depth_scale')
_METADATA = {'name': str, 'static': bool, 'up': list, 'scale': str}
_SCALES = ('metric', 'relative')
#: The last bytes of a whole file; one whose copy was cut short lacks them.
_ENDINGS = {'JPEG': b'\xff\xd9', 'PNG': b'IEND\xaeB`\x82'}
#: Writers may put a few bytes behind the end; cameras put more there, and then the pixels are looked at too.
_TAIL_BYTES, _LONG_TAIL_BYTES = 64, 65536
#: Frames kept in memory: enough for the views of a few blocks, whatever the length of the recording; fewer where they
#: would take more than so many bytes, but those of a block.
_FRAMES_KEPT, _BYTES_KEPT, _LEAST_KEPT = 48, 256 * 2**20, 8
#: Bytes of a pixel of a frame in memory: colour and float32 depth.
_PIXEL_BYTES = 7
#: Keys by which calibrations say that an image is distorted, beside `distortion_model`.
_DISTORTION = {'k1', 'k2', 'k3', 'k4', 'k5', 'k6', 'p1', 'p2', 'D', 'd', 'coeffs', 'dist_coeffs', 'distortion',
               'distortion_coefficients'}
#: Frames whose depth is looked at when a recording is opened, every so many pixels both ways, and the metres between
#: which its median is believed.
_DEPTHS_LOOKED_AT, _DEPTH_STRIDE = 5, 8
_BELIEVED_DEPTH = (0.02, 200.)


class RgbdFolder(Reference):
    """A recording in the layout above. `RecordingError` says what is wrong with a folder that cannot be one.

    With `skip_bad`, frames whose image or depth cannot be used are left out, named in `skipped` (file to reason), as
    training wants it, and `numbers` says which of all `total` frames each one is; without it, a bad frame is an error.
    """

    def __init__(self, path: str | Path, skip_bad: bool = False) -> None:
        """Check all of a folder but its pixels."""
        self.skipped: dict[str, str] = {}
        self.path = Path(path)
        if not self.path.exists():
            raise RecordingError(f'{self.path}: there is no such folder; name a folder of RGB-D frames or "sample"')
        if not self.path.is_dir() or not any(self.path.iterdir()):
            what = 'is empty' if self.path.is_dir() else 'is not a folder'
            raise RecordingError(f'{self.path} {what}; it should hold rgb/, depth/, intrinsics.json and trajectory.txt')
        self.camera, self._depth_scale = _read_intrinsics(self.path / 'intrinsics.json')
        self._files = _paired_files(self.path)
        self.times, self.T_world_camera = _read_poses(self.path / 'trajectory.txt', len(self._files))
        self._check_headers(skip_bad)
        self._read_metadata(self.path / 'metadata.json')
        in_bytes = _BYTES_KEPT // (_PIXEL_BYTES * self.camera.width * self.camera.height)
        self._kept = lru_cache(maxsize=min(_FRAMES_KEPT, max(_LEAST_KEPT, in_bytes)))(self._read)
        self._skip_bad = skip_bad
        if not skip_bad:
            self.check_depth()

    def frame(self, index: int) -> ReferenceFrame:
        """Read one frame; RecordingError where its pixels cannot be decoded."""
        index = int(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f'frame {index} of a recording of {len(self)} frames')
        return self._kept(index % len(self))

    def _read(self, index: int) -> ReferenceFrame:
        colour_file, depth_file = self._files[index]
        image = _decode(colour_file, 'RGB')
        raw = _decode(depth_file, None).astype(np.float32)
        with np.errstate(divide='ignore'):
            z_depth = np.where(raw > 0, raw / np.float32(self._depth_scale), np.float32(np.nan))
        return ReferenceFrame(index, float(self.times[index]), image, z_depth, self.T_world_camera[index])

    def _check_headers(self, skip_bad: bool) -> None:
        good = []
        for index, (colour_file, depth_file) in enumerate(self._files):
            try:
                self._check_header(colour_file, 'image')
                self._check_header(depth_file, 'depth')
            except RecordingError as error:
                if not skip_bad:
                    raise
                self.skipped[str(colour_file)] = str(error)
            else:
                good.append(index)
        if len(good) < 2:
            raise RecordingError(f'{self.path} holds no two usable frames; the first fault: '
                                 f'{next(iter(self.skipped.values()))}')
        self.numbers, self.total = good, len(self._files)
        self._files = [self._files[index] for index in good]
        self.times, self.T_world_camera = self.times[good], self.T_world_camera[good]

    def _check_header(self, path: Path, what: str) -> None:
        wanted = (self.camera.width, self.camera.height)
        size, mode = _header(path)
        if size != wanted:
            raise RecordingError(f'{path}: the {what} is {size[0]}x{size[1]}, but intrinsics.json says '
                                 f'{wanted[0]}x{wanted[1]}; images and depth must lie on one grid')
        if what == 'image' and mode.startswith(('I', 'F')):
            raise RecordingError(f'{path}: the image has pixels of kind {mode}; it must be 8-bit colour or grey')
        if what == 'depth' and mode not in ('I;16', 'I;16B', 'I'):
            raise RecordingError(f'{path}: depth has pixels of kind {mode}; it must be 16-bit grey')

    def check_depth(self) -> None:
        """Raise RecordingError where a few frames have no depth, or the wrong unit: such a world has no shape.

        Opening a folder does it, but for `skip_bad`: who wants its images alone has no use for depth.
        """
        chosen = np.unique(np.linspace(0, len(self) - 1, _DEPTHS_LOOKED_AT).round().astype(int))
        looked_at = [np.zeros(0)]
        for index in chosen:
            try:
                looked_at.append(_decode(self._files[index][1], None)[::_DEPTH_STRIDE, ::_DEPTH_STRIDE].ravel())
            except RecordingError:
                if not self._skip_bad:
                    raise
        raw = np.concatenate(looked_at)
        known = raw[raw > 0] / self._depth_scale
        if not len(known):
            raise RecordingError(f'{self.path / "depth"}: no pixel looked at in {len(chosen)} frames has a depth; 0 '
                                 'means unknown')
        median, (least, most) = float(np.median(known)), _BELIEVED_DEPTH
        if self.scale == 'metric' and not least < median < most:
            raise RecordingError(f'{self.path / "intrinsics.json"}: with depth_scale {self._depth_scale:g} the median '
                                 f'depth is {median:.3g} m; depth_scale is units a metre, 1000 for millimetres')

    def _read_metadata(self, path: Path) -> None:
        plain = _read_json(path) if path.exists() else {}
        for key, value in plain.items():
            if key not in _METADATA:
                raise RecordingError(f'{path}: unknown field {key!r}; it may hold {", ".join(_METADATA)}')
            if not isinstance(value, _METADATA[key]):
                raise RecordingError(f'{path}: {key} must be a {_METADATA[key].__name__}, got {value!r}')
        self.name = plain.get('name', self.path.resolve().name)
        self.is_static = plain.get('static', True)
        self.scale = plain.get('scale', 'metric')
        if self.scale not in _SCALES:
            raise RecordingError(f'{path}: scale {self.scale!r} is unknown; choose one of {", ".join(_SCALES)}')
        self.up = _direction(path, plain['up']) if 'up' in plain else self._estimated_up()

    def _estimated_up(self) -> np.ndarray:
        try:
            return estimate_up(self.T_world_camera)
        except RecordingError as error:
            raise RecordingError(f'{self.path}: {error}') from error


def in_millimetres(z_depth: np.ndarray) -> np.ndarray:
    """Turn metres float32 [H, W] into uint16 millimetres; 0 where unknown (NaN) or farther than 16 bits reach."""
    scaled = np.round(np.nan_to_num(z_depth, nan=0., posinf=0., neginf=0.) * MILLIMETRES)
    return np.where((scaled > 0) & (scaled <= np.iinfo(np.uint16).max), scaled, 0).astype(np.uint16)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        plain = json.loads(path.read_text(encoding='utf-8-sig'))
    except FileNotFoundError:
        raise RecordingError(f'{path} is missing; an RGB-D folder needs it') from None
    except (OSError, ValueError) as error:
        raise RecordingError(f'{path} cannot be read as JSON: {error}') from error
    if not isinstance(plain, dict):
        raise RecordingError(f'{path} must hold one JSON object')
    return plain


def _read_intrinsics(path: Path) -> tuple[PinholeCamera, float]:
    plain = _read_json(path)
    for name in _INTRINSICS:
        if name not in plain:
            raise RecordingError(f'{path}: the field {name!r} is missing; it needs {", ".join(_INTRINSICS)}')
    for name in _INTRINSICS:
        value = plain[name]
        usable = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not usable or (value <= 0 and name not in ('cx', 'cy')):
            kind = 'finite' if name in ('cx', 'cy') else 'positive'
            raise RecordingError(f'{path}: {name} is {value!r}; it must be a {kind} number')
    if plain.get('distortion_model', 'none') not in ('none', None, ''):
        raise RecordingError(f'{path}: distortion_model {plain["distortion_model"]!r} is not supported; undistort the '
                             'images first and say "none"')
    distorted = sorted(key for key in _DISTORTION & plain.keys() if _is_something(plain[key]))
    if distorted:
        raise RecordingError(f'{path}: {distorted[0]} says that the images are distorted, which is not supported; '
                             f'undistort them first and leave it out')
    fx, fy, cx, cy, width, height, scale = (plain[name] for name in _INTRINSICS)
    for name, value, size in (('cx', cx, width), ('cy', cy, height)):
        if not -0.5 <= value <= size - 0.5:
            raise RecordingError(f'{path}: {name} {value:g} lies outside of an image of {width:g}x{height:g}; fx, fy, '
                                 'cx and cy must be those of images of this size')
    return PinholeCamera(float(fx), float(fy), float(cx), float(cy), int(width), int(height)), float(scale)


def _is_something(value: Any) -> bool:
    """Say whether a value of distortion, or any within it, is other than zero or none."""
    if isinstance(value, (list, dict)):
        return any(map(_is_something, value.values() if isinstance(value, dict) else value))
    return value not in (0, None, '', 'none')


def _paired_files(folder: Path) -> list[tuple[Path, Path]]:
    """Match images and depth by their stems, in the order that people count in."""
    found = {}
    for name, endings in (('rgb', _IMAGES), ('depth', ('.png',))):
        inside = folder / name
        if not inside.is_dir():
            raise RecordingError(f'{inside} is missing; an RGB-D folder needs rgb/ and depth/')
        found[name] = _by_stem(inside, endings)
    alone = sorted(set(found['rgb']) ^ set(found['depth']))
    if alone:
        has, lacks = ('rgb', 'depth') if alone[0] in found['rgb'] else ('depth', 'rgb')
        raise RecordingError(f'{folder}: frame {alone[0]} is in {has}/ but not in {lacks}/; each frame needs both')
    if len(found['rgb']) < 2:
        raise RecordingError(f'{folder} holds a sequence of one frame; a recording needs at least two')
    return [(found['rgb'][stem], found['depth'][stem]) for stem in sorted(found['rgb'], key=in_sequence)]


def _by_stem(folder: Path, endings: tuple[str, ...]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        # Some systems put a hidden file beside each that they copy.
        if path.suffix.lower() not in endings or path.name.startswith('.'):
            continue
        other = found.setdefault(path.stem, path)
        if other != path:
            raise RecordingError(f'{folder} holds both {other.name} and {path.name}; keep one file for each frame')
    if not found:
        raise RecordingError(f'{folder} holds no image ({", ".join(endings)})')
    return found


def _read_poses(path: Path, frames: int) -> tuple[np.ndarray, np.ndarray]:
    try:
        times, poses = read_tum(path)
    except TrajectoryError as error:
        raise RecordingError(str(error)) from error
    if len(poses) != frames:
        raise RecordingError(f'{path} has {len(poses)} poses for {frames} frames; it needs one line for each frame')
    return times, poses


def _header(path: Path) -> tuple[tuple[int, int], str]:
    """Read size and kind of an image, and make sure that its file has its end."""
    from PIL import Image, UnidentifiedImageError
    try:
        with Image.open(path) as image:
            size, mode, kind = image.size, image.mode, image.format
        whole = kind not in _ENDINGS or _ENDINGS[kind] in _last_bytes(path, _TAIL_BYTES)
        # A picture within the picture, a preview, has an end too.
        whole = whole or (_ENDINGS[kind] in _last_bytes(path, _LONG_TAIL_BYTES) and _decodes(path))
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise RecordingError(f'{path} is not an image that can be read ({error}); copy it anew') from error
    if not whole:
        raise RecordingError(f'{path} is truncated: the end of the file is missing; copy it anew')
    return size, mode


def _last_bytes(path: Path, count: int) -> bytes:
    with path.open('rb') as file:
        file.seek(max(0, path.stat().st_size - count))
        return file.read()


def _decodes(path: Path) -> bool:
    try:
        _decode(path, None)
    except RecordingError:
        return False
    return True


def _decode(path: Path, mode: str | None) -> np.ndarray:
    from PIL import Image
    try:
        with Image.open(path) as image:
            return np.array(image.convert(mode) if mode else image)
    except (OSError, SyntaxError) as error:
        raise RecordingError(f'{path} cannot be decoded ({error}); copy it anew') from error


def _direction(path: Path, up: list[Any]) -> np.ndarray:
    numbers = [v for v in up if isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v)]
    if len(up) != 3 or len(numbers) != 3 or not any(numbers):
        raise RecordingError(f'{path}: up {up!r} is not a direction; give three numbers')
    return np.array(numbers, dtype=np.float64) / np.linalg.norm(numbers)
