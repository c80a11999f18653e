# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Real data to train on: RGB-D folders with poses, and plain videos.

An RGB-D folder gives clips for the student: windows of a recording, rendered from other frames of the same recording,
are written beside the synthetic clips by

    python -m inspatio_ros.training.real_data --recording DIR --config FILE --output DATA/train

Videos, folders of images and the images of RGB-D folders give clips without geometry for the real teacher. What cannot
be used is skipped, counted and named; nothing usable at all is an error.

Frames that figures are measured on are never trained on, in any recording: see reference/held_out.py.
"""

from __future__ import annotations

import argparse
import re
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inspatio_ros.errors import RecordingError
from inspatio_ros.geometry import PinholeCamera
from inspatio_ros.reference.base import Reference
from inspatio_ros.reference.held_out import kept_from_training
from inspatio_ros.reference.order import in_sequence
from inspatio_ros.reference.rgbd import RgbdFolder
from inspatio_ros.training.assemble import assemble_clip
from inspatio_ros.training.data import STILLS, Clips, images_to_tensor, save_clip
from inspatio_ros.training.entry import run

#: Words by which a data set's own files say that it may not be used for weights that anyone may use.
FORBIDDEN = ('kitti', 'non-commercial', 'noncommercial', 'non commercial', 'by-nc')
VIDEO_ENDINGS = ('.mp4', '.mkv', '.mov', '.avi', '.webm')
IMAGE_ENDINGS = ('.png', '.jpg', '.jpeg')
#: One window in so many clip lengths of a source is kept out of training, to look at.
HELD_OUT_EVERY = 10
#: A source of fewer windows than this many clip lengths is trained on as a whole.
_SHORT = 4
#: Windows tried before a source that decodes no more is given up.
_TRIES = 20
#: The field of EXIF that says how an image is shown, and its values for those that were stored lying on their side.
_ORIENTATION, _ON_THEIR_SIDE = 0x0112, (5, 6, 7, 8)
#: Frames of a video whose times are this many times the usual step apart lack one between them.
_GAP = 1.5


def check_licence(path: Path) -> None:
    """Raise RecordingError if a data set says, by its name, licence or read-me, that it may not be trained on."""
    folder = path if path.is_dir() else path.parent
    said = {str(path.resolve()): path.resolve().name + ' ' + folder.resolve().name}
    for file in sorted(folder.glob('*')) if folder.is_dir() else ():
        if file.is_file() and file.stem.upper() in ('README', 'LICENSE', 'LICENCE', 'COPYING'):
            said[str(file)] = file.read_text(encoding='utf-8', errors='replace')
    for where, text in said.items():
        found = next((word for word in FORBIDDEN if word in text.lower()), None)
        if found:
            raise RecordingError(f'{path} is not trained on: {where} says {found!r}; use data whose licence lets the '
                                 'weights be used by anyone')


# --- sources of frames -----------------------------------------------------------------------------------------------


class FrameSource(ABC):
    """Frames in order, cut into windows of which every tenth is kept out of training."""

    name: str
    skipped: int = 0
    #: Frames a second; None where nothing says.
    rate: float | None = None

    def stride(self, frame_rate: float) -> int:
        """Say how many of its frames make one of clips at `frame_rate`; 1 where it is slower, or nothing says."""
        return 1 if self.rate is None else max(1, round(self.rate / frame_rate))

    @abstractmethod
    def windows(self, length: int, stride: int = 1) -> list[int]:
        """List the frames at which windows of `length` frames, one in `stride`, may start; no bad one is among them."""

    @abstractmethod
    def read(self, start: int, length: int, stride: int = 1) -> np.ndarray:
        """Read a window: uint8 RGB [length, H, W, 3]; RecordingError where it cannot be decoded."""


def span(length: int, stride: int) -> int:
    """Count the frames from the first to the last one of a window of `length` frames, one in `stride`."""
    return (length - 1) * stride + 1


class RgbdFrames(FrameSource):
    """The images of an RGB-D folder, less those that are held out or bad."""

    def __init__(self, path: Path) -> None:
        check_licence(path)
        self.name = str(path)
        self.reference = RgbdFolder(path, skip_bad=True)
        self.skipped = len(self.reference.skipped)
        #: Frames of `reference` that may be trained on.
        held_out = kept_from_training(self.reference.total)
        self.usable = [index for index, number in enumerate(self.reference.numbers) if number not in held_out]
        self.rate = 1. / float(np.median(np.diff(self.reference.times)))

    def windows(self, length: int, stride: int = 1) -> list[int]:
        """List starts of runs in which no frame is missing."""
        numbers = {self.reference.numbers[index]: index for index in self.usable}
        return [index for number, index in numbers.items()
                if all(following in numbers for following in range(number, number + span(length, stride)))]

    def read(self, start: int, length: int, stride: int = 1) -> np.ndarray:
        """Read the images of a window."""
        return np.stack([self.reference.frame(start + i * stride).image for i in range(length)])


class ImageFolder(FrameSource):
    """The images of a folder in the order of their names, as one video; each lies as its file says that it is shown.

    Those that cannot be opened, or are of another size than most, are skipped.
    """

    def __init__(self, path: Path) -> None:
        from PIL import Image
        check_licence(path)
        self.name = str(path)
        self._files = [file for file in sorted(path.iterdir(), key=lambda file: in_sequence(file.name))
                       if file.suffix.lower() in IMAGE_ENDINGS]
        sizes: list[tuple[int, int] | None] = []
        for file in self._files:
            try:
                with Image.open(file) as image:
                    lies = image.getexif().get(_ORIENTATION) in _ON_THEIR_SIDE
                    sizes.append(image.size[::-1] if lies else image.size)
            except (OSError, SyntaxError):
                sizes.append(None)
        opened = Counter(size for size in sizes if size)
        if not opened:
            raise RecordingError(f'{path} holds no image that can be opened; copy it anew')
        (most, _), = opened.most_common(1)
        self._usable = [size == most for size in sizes]
        self.skipped = len(self._usable) - sum(self._usable)

    def windows(self, length: int, stride: int = 1) -> list[int]:
        """List starts of runs in which no image is missing."""
        whole = span(length, stride)
        return [start for start in range(len(self._files) - whole + 1) if all(self._usable[start:start + whole])]

    def read(self, start: int, length: int, stride: int = 1) -> np.ndarray:
        """Read the images of a window."""
        from PIL import Image, ImageOps
        found = []
        for file in self._files[start:start + span(length, stride):stride]:
            try:
                with Image.open(file) as image:
                    found.append(np.array(ImageOps.exif_transpose(image).convert('RGB')))
            except (OSError, SyntaxError) as error:
                raise RecordingError(f'{file} cannot be decoded ({error}); copy it anew') from error
        return np.stack(found)


class VideoFile(FrameSource):
    """A video file: gone through once by PyAV to find its frames, then decoded window by window.

    What is damaged is skipped and counted. Frames are turned as the file says that they are shown: a telephone that is
    held upright records them lying on their side.
    """

    def __init__(self, path: Path) -> None:
        check_licence(path)
        self.name, self.path = str(path), path
        self.skipped = 0
        found = [frame.pts for frame in self._decode()]
        self._times = [time for time in found if time is not None]
        self.skipped += len(found) - len(self._times)
        if not self._times:
            raise RecordingError(f'{path} holds no frame that can be decoded; copy it anew')

    def windows(self, length: int, stride: int = 1) -> list[int]:
        """List starts of runs in which no frame is missing."""
        steps, whole = np.diff(self._times), span(length, stride)
        # Of two frames further apart than that one between them could not be decoded.
        breaks = np.concatenate([[0], np.cumsum(steps > _GAP * np.median(steps) if len(steps) else steps)])
        return [start for start in range(len(self._times) - whole + 1) if breaks[start] == breaks[start + whole - 1]]

    def read(self, start: int, length: int, stride: int = 1) -> np.ndarray:
        """Decode a window, from the key frame before it."""
        counted, passed = self.skipped, 0
        found = []
        for frame in self._decode(self._times[start]):
            if frame.pts is not None and frame.pts >= self._times[start]:
                if passed % stride == 0:
                    found.append(np.rot90(frame.to_ndarray(format='rgb24'), round(frame.rotation / 90)))
                passed += 1
            if len(found) == length:
                break
        # What is damaged was counted when the file was gone through.
        self.skipped = counted
        if len(found) < length:
            raise RecordingError(f'{self.path} gives only {len(found)} of {length} frames from frame {start}')
        return np.stack(found)

    def _decode(self, from_time: int | None = None) -> Iterator[Any]:
        import av
        try:
            container = av.open(str(self.path))
            stream = container.streams.video[0]
        except (av.error.FFmpegError, IndexError, OSError) as error:
            raise RecordingError(f'{self.path} cannot be read as a video ({error}); copy it anew') from error
        if stream.average_rate:
            self.rate = float(stream.average_rate)
        with container:
            try:
                if from_time is not None:
                    container.seek(from_time, stream=stream)
                for packet in container.demux(stream):
                    try:
                        frames = packet.decode()
                    except av.error.FFmpegError:
                        self.skipped += 1
                    else:
                        yield from frames
            except av.error.FFmpegError:
                # The file ends in the middle: what came before is whole.
                self.skipped += 1


def open_sources(paths: Sequence[Path]) -> tuple[list[FrameSource], dict[str, str]]:
    """Open RGB-D folders, videos, and folders of videos or of images: (sources, what was skipped and why)."""
    sources, skipped = [], {}
    for path in _expand(paths):
        try:
            sources.append(_open_source(path))
        except RecordingError as error:
            skipped[str(path)] = str(error)
    if not sources:
        reasons = '; '.join(skipped.values()) or 'nothing was found there'
        raise RecordingError(f'no usable real data in {", ".join(map(str, paths)) or "no path"}: {reasons}')
    return sources, skipped


def _open_source(path: Path) -> FrameSource:
    if path.suffix.lower() in VIDEO_ENDINGS:
        return VideoFile(path)
    path = whole_recording(path)
    return RgbdFrames(path) if (path / 'rgb').is_dir() or not _holds_images(path) else ImageFolder(path)


def whole_recording(path: Path) -> Path:
    """Give the RGB-D folder that a folder holds the images of, some of which are held out; any other path as it is."""
    return path.parent if path.name == 'rgb' and (path.parent / 'depth').is_dir() else path


def _holds_images(path: Path) -> bool:
    return path.is_dir() and any(file.suffix.lower() in IMAGE_ENDINGS for file in path.iterdir())


def _expand(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir() or (path / 'rgb').is_dir():
            yield path
            continue
        videos = sorted(file for file in path.rglob('*') if file.suffix.lower() in VIDEO_ENDINGS)
        # Images beside videos are their previews, or the like.
        yield from videos or [path]


def _tell(sources: Sequence[FrameSource], skipped: dict[str, str]) -> None:
    """Name on stderr what of real data is not used."""
    for path, reason in skipped.items():
        print(f'skipped {path}: {reason}', file=sys.stderr)
    for source in sources:
        if source.skipped:
            print(f'{source.name}: {source.skipped} bad frames skipped', file=sys.stderr)


# --- clips without geometry ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Window:
    source: FrameSource
    start: int
    stride: int


class RealVideo:
    """Clips of real video for the real teacher; a `VideoSource` of training/teachers.py.

    Args:
        paths: RGB-D folders, video files, or folders of video files or of images.
        width: of the clips, in pixels; frames are cut to the clips' shape about their middle and resized.
        height: of the clips.
        frames: of a clip.
        frame_rate: of a clip; of a faster source frames are left out, a slower one is taken as it is.

    Attributes: `skipped`, why each source that is not used is not; `bad_windows`, how many failed when drawn.

    """

    def __init__(self, paths: Sequence[Path], width: int, height: int, frames: int, frame_rate: float) -> None:
        self.size, self.frames, self.frame_rate = (width, height), frames, frame_rate
        self.sources, self.skipped = open_sources(paths)
        self.bad_windows = 0
        self._train, self._held_out = self._split()
        if not self._train:
            raise RecordingError(f'no source in {", ".join(map(str, paths))} has {frames} usable frames in a row')
        _tell(self.sources, self.skipped)
        used = {id(window.source) for window in self._train}
        for source in self.sources:
            if id(source) not in used:
                print(f'skipped {source.name}: it has no {frames} usable frames in a row', file=sys.stderr)

    def __len__(self) -> int:
        """Count the windows that are drawn from."""
        return len(self._train)

    def draw(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """Draw clips uint8 [B, T, 3, H, W], half of them mirrored."""
        clips = [self._draw_one(generator) for _ in range(batch_size)]
        return torch.cat([clip.flip(-1) if torch.rand(1, generator=generator) < 0.5 else clip for clip in clips])

    def held_out(self, batch_size: int) -> Tensor:
        """Give clips of windows that no drawn window shares a frame with; the same ones every time.

        Fewer than asked for, or none [0, T, 3, H, W], where there are not as many.
        """
        # Spread over all that there are.
        chosen = self._held_out[::max(1, len(self._held_out) // batch_size)][:batch_size]
        width, height = self.size
        return torch.cat([torch.empty(0, self.frames, 3, height, width, dtype=torch.uint8),
                          *(self._read(window) for window in chosen)])

    def _split(self) -> tuple[list[_Window], list[_Window]]:
        train, held_out = [], []
        for source in self.sources:
            stride = source.stride(self.frame_rate)
            starts, whole = source.windows(self.frames, stride), span(self.frames, stride)
            # A short source has nothing to spare.
            kept = starts[len(starts) // HELD_OUT_EVERY::HELD_OUT_EVERY * whole] if len(starts) > _SHORT * whole else []
            held_out += [_Window(source, start, stride) for start in kept]
            train += [_Window(source, start, stride) for start in starts
                      if all(abs(start - other) >= whole for other in kept)]
        return train, held_out

    def _draw_one(self, generator: torch.Generator) -> Tensor:
        reason = None
        for _ in range(_TRIES):
            window = self._train[int(torch.randint(len(self._train), (1,), generator=generator))]
            try:
                return self._read(window)
            except RecordingError as error:
                self.bad_windows += 1
                reason = error
        raise RecordingError(f'{_TRIES} windows one after the other could not be read; the last one: {reason}')

    def _read(self, window: _Window) -> Tensor:
        return images_to_tensor(fit(window.source.read(window.start, self.frames, window.stride), *self.size))


def fit(images: np.ndarray, width: int, height: int) -> np.ndarray:
    """Cut images uint8 [T, H, W, 3] to the shape width : height about their middle, and resize them."""
    import cv2
    rows, columns = images.shape[1:3]
    scale = max(width / columns, height / rows)
    cut_w, cut_h = min(columns, round(width / scale)), min(rows, round(height / scale))
    top, left = (rows - cut_h) // 2, (columns - cut_w) // 2
    cut = images[:, top:top + cut_h, left:left + cut_w]
    return np.stack([cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) for image in cut])


# --- clips with geometry: pairs of one recording ---------------------------------------------------------------------


class _Stills(Reference):
    """Some frames of a recording as a recording of their own."""

    def __init__(self, whole: Reference, indices: Sequence[int]) -> None:
        self._whole, self._indices = whole, list(indices)
        self.name, self.camera, self.is_static, self.up = whole.name, whole.camera, True, whole.up
        self.scale = whole.scale
        self.times, self.T_world_camera = whole.times[self._indices], whole.T_world_camera[self._indices]

    def frame(self, index: int):  # noqa: ANN201  as Reference says
        return self._whole.frame(self._indices[index])


def pair_clip(recording: RgbdFrames, rng: np.random.Generator, width: int, height: int, blocks: Sequence[int],
              frame_rate: float, stills: int = 8, reach: int = 30) -> Clips:
    """Render a window of a static recording from other frames near it, and take the window itself as the truth.

    Args:
        recording: the frames; those of the window are not among the reference's.
        rng: draws the window and the reference's frames.
        width: of the clip.
        height: of the clip.
        blocks: frames of each block.
        stills: how many reference frames are drawn.
        reach: how many of its frames before and after the window they are drawn from.
        frame_rate: of the clip; of a faster recording frames are left out, a slower one is taken as it is.

    Raises:
        RecordingError: the recording moves, or has no such window.

    """
    from inspatio_ros.spatial.densify import grid_of_target, resample_colour
    whole, count = recording.reference, sum(blocks)
    if not whole.is_static:
        raise RecordingError(f'{recording.name} moves: its frames at other times do not show what a window shows')
    stride = recording.stride(frame_rate)
    start, extent = int(rng.choice(_starts(recording, count, stride))), span(count, stride)
    window, around = range(start, start + extent, stride), reach * stride
    others = [i for i in recording.usable if i not in window and start - around <= i < start + extent + around]
    if len(others) < STILLS:
        raise RecordingError(f'{recording.name} has fewer than {STILLS} frames beside the window at {start}')
    chosen = sorted(rng.choice(others, min(stills, len(others)), replace=False))
    camera: PinholeCamera = whole.camera.fitted(width, height)
    grid = grid_of_target(whole.camera, camera)
    images = np.stack([resample_colour(whole.frame(index).image, grid) for index in window])
    truth = torch.from_numpy(images).movedim(-1, 1)[None].contiguous()
    return assemble_clip(_Stills(whole, chosen), camera, whole.T_world_camera[window], truth, blocks)


def _starts(recording: RgbdFrames, count: int, stride: int) -> list[int]:
    starts = recording.windows(count, stride)
    if not starts:
        raise RecordingError(f'{recording.name} has no {span(count, stride)} usable frames in a row')
    return starts


def write_pairs(paths: Sequence[Path], output: Path, count: int, width: int, height: int, blocks: Sequence[int],
                frame_rate: float, seed: int = 0) -> int:
    """Write `count` pair clips of RGB-D folders beside the synthetic clips, less those that are there already.

    Gives how many were skipped, because they cannot be made.
    """
    sources, skipped = open_sources(paths)
    recordings = []
    for source in sources:
        try:
            recordings.append(_with_depth(source))
        except RecordingError as error:
            skipped[source.name] = str(error)
    _tell(recordings, skipped)
    if not recordings:
        raise RecordingError(f'no RGB-D folder with poses among {", ".join(map(str, paths))}: '
                             f'{"; ".join(skipped.values())}')
    bad = 0
    for index in range(count):
        rng = np.random.default_rng((seed, index))
        recording = recordings[int(rng.integers(len(recordings)))]
        path = output / _clip_name(recording, seed, index)
        if path.exists():
            continue
        try:
            clip = pair_clip(recording, rng, width, height, blocks, frame_rate)
        except RecordingError as error:
            print(f'skipped: {error}', file=sys.stderr)
            bad += 1
            continue
        save_clip(path, clip, {'recording': Path(recording.name).name})
    if bad == count:
        raise RecordingError(f'no clip could be made of {", ".join(map(str, paths))}')
    return bad


def _clip_name(recording: RgbdFrames, seed: int, index: int) -> str:
    """Give the name of a clip: one that training/data.py looks for, apart from those of seeds and other recordings."""
    name = re.sub(r'[^A-Za-z0-9]+', '-', Path(recording.name).resolve().name)
    return f'clip_real_{name}_{seed}_{index:07d}.safetensors'


def _with_depth(source: FrameSource) -> RgbdFrames:
    """Give a source if its depth can be believed, as a clip with geometry needs it; RecordingError else."""
    if not isinstance(source, RgbdFrames):
        raise RecordingError(f'{source.name} has no depth and poses')
    source.reference.check_depth()
    return source


def main(arguments: list[str] | None = None) -> int:
    """Write pair clips from the command line."""
    from inspatio_ros.training.train import read_plan
    parser = argparse.ArgumentParser(prog='python -m inspatio_ros.training.real_data', description=main.__doc__)
    parser.add_argument('--recording', type=Path, nargs='+', required=True, help='RGB-D folders with poses')
    parser.add_argument('--output', type=Path, required=True, help='folder for clip_real_*.safetensors')
    parser.add_argument('--config', type=Path, required=True, help='configuration, for the size of clips')
    parser.add_argument('--count', type=int, default=100)
    parser.add_argument('--seed', type=int, default=0)
    options = parser.parse_args(arguments)

    def write() -> None:
        size = read_plan(options.config).generator
        bad = write_pairs(options.recording, options.output, options.count, size.width, size.height,
                          (size.frames_in_first_block, size.frames_per_block), size.frame_rate, options.seed)
        print(f'{options.count - bad} clips written to {options.output}, {bad} skipped')

    return run(write)


if __name__ == '__main__':
    sys.exit(main())
