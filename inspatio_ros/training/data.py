# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Training clips on disk and in batches: what was seen, the render made of it, and the truth.

A clip is two blocks long (9 + 12 frames at 4 frames a latent). Its reference is either the frame aligned in time with
each frame ('aligned') or three still frames for each block ('stills'): the simulator makes use of both kinds.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from inspatio_ros.config import GeneratorConfig
from inspatio_ros.errors import ConfigurationError, RecordingError
from inspatio_ros.spatial.positions import BlockViews, TokenViews
from inspatio_ros.training.checkpoint import save_tensors

#: The images of a clip.
IMAGES = ('truth', 'filled', 'mask', 'reference')
#: Stills of the reference for each block of a clip.
STILLS = 3
#: Pixels along each side of a token, at which the depth of a clip's views is kept: the same at every size of STAR.
TOKEN = GeneratorConfig().size_multiple
#: Batches between two looks into the folder for new clips.
DRAWS_PER_REFRESH = 100


@dataclass(frozen=True)
class Clips:
    """A batch of clips. Images are uint8 [B, T, 3, H, W].

    `truth`; `filled`: the render, its holes filled; `mask` uint8 [B, T, 1, H, W], 1 known and 0 hole;
    `reference`: [B, T, ...] aligned frames, or [B, 2 * STILLS, ...] stills if `stills`; `views`: where the truth and
    the reference were seen from.
    """

    truth: Tensor
    filled: Tensor
    mask: Tensor
    reference: Tensor
    stills: bool
    views: BlockViews

    def __len__(self) -> int:
        """Count the clips."""
        return len(self.truth)

    def to(self, device: torch.device | str) -> Clips:
        """Move all of it to a device."""
        images = {name: getattr(self, name).to(device) for name in IMAGES}
        return replace(self, **images, views=self.views.to(device))


def save_clip(path: Path, clip: Clips, metadata: dict[str, Any]) -> None:
    """Write one clip."""
    tensors = {name: getattr(clip, name) for name in IMAGES} | _views_as_tensors(clip.views)
    save_tensors(path, tensors, {**metadata, 'stills': clip.stills})


class ClipSource(ABC):
    """Clips to train on or to measure with, each under a name."""

    #: Whether clips come and go while they are drawn from.
    renewed = False

    def __init__(self) -> None:
        self._clips: dict[str, Clips] = {}

    def __len__(self) -> int:
        """Count the clips."""
        return len(self._clips)

    @abstractmethod
    def description(self) -> str:
        """Say what the clips are and what they were made from, for the metadata of weights."""

    def close(self) -> None:
        """End what goes on in the background: nothing, where clips only lie there."""
        return

    def batches(self, size: int) -> Iterator[Clips]:
        """Go through all clips once, in order, each batch of one kind."""
        for stills in (False, True):
            kind = [clip for _, clip in sorted(self._clips.items()) if clip.stills == stills]
            for start in range(0, len(kind), size):
                yield stack(kind[start:start + size])

    def identities(self) -> list[tuple[str, ...]]:
        """Name the clips, each with what tells it from another one of its name: what it holds."""
        return [(name, _content(clip)) for name, clip in sorted(self._clips.items())]

    def augmented(self, generator: torch.Generator, device: torch.device | str = 'cpu') -> Iterator[Clips]:
        """Go through all clips once, one by one, augmented on a device."""
        for _, clip in sorted(self._clips.items()):
            yield augment(clip.to(device), generator)

    def draw(self, size: int, generator: torch.Generator) -> Clips:
        """Draw a batch of clips of one kind, augmented."""
        clips = [clip for _, clip in sorted(self._clips.items())]
        first = clips[integer(len(clips), generator)]
        kind = [clip for clip in clips if clip.stills == first.stills]
        return stack([augment(kind[integer(len(kind), generator)], generator) for _ in range(size)])


    def draw_frames(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw single frames of clips of any kind, augmented: truth, filled, mask, float [B, C, H, W] in [0, 1]."""
        clips, found = [clip for _, clip in sorted(self._clips.items())], []
        for _ in range(size):
            clip = clips[integer(len(clips), generator)]
            frame = integer(clip.truth.shape[1], generator)
            one = {name: getattr(clip, name)[:, frame:frame + 1] for name in ('truth', 'filled', 'mask')}
            found.append(augment(replace(clip, **one, reference=clip.reference[:, :0]), generator))
        truth, filled, mask = (torch.cat([getattr(clip, name)[:, 0] for clip in found])
                               for name in ('truth', 'filled', 'mask'))
        return unit(truth), unit(filled), mask.float()


class ClipFolder(ClipSource):
    """The clips of a folder, kept in memory as bytes; `refresh` takes up those that were written since."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.skipped: set[str] = set()
        self._drawn = 0
        self._sources: dict[str, dict[str, str]] = {}
        #: Size and time of change of the clips' files, as they were read.
        self._written: dict[str, tuple[int, int]] = {}
        self.refresh()
        if not self._clips:
            raise RecordingError(f'{folder} holds no usable clip; make some with '
                                 f'`python -m inspatio_ros.training.clips --output {folder}`')

    def description(self) -> str:
        """Say what the clips are and what they were made from, for the metadata of weights."""
        about = [self._sources[name] for name in sorted(self._clips)]
        seeds = sorted(int(each['seed']) for each in about if 'seed' in each)
        # Twins have one seed.
        parts = [f'{len(seeds)} clips of procedural scenes, seeds {ranges(sorted(set(seeds)))}'] if seeds else []
        names = [json.loads(each['recording']) for each in about if 'recording' in each]
        parts += [f'{names.count(name)} clips of the recording {name}' for name in sorted(set(names))]
        other = len(about) - len(seeds) - len(names)
        return '; '.join(parts + ([f'{other} clips of unknown origin'] if other else []))

    def identities(self) -> list[tuple[str, ...]]:
        """Name the clips, each with the size of its file and the nanosecond of its last change."""
        return [(name, *map(str, self._written[name])) for name in sorted(self._clips)]

    def check_size(self, width: int, height: int) -> None:
        """Raise a ConfigurationError that names the first clip whose images are of another size than this."""
        for name, clip in sorted(self._clips.items()):
            *_, found_height, found_width = clip.truth.shape
            if (found_width, found_height) != (width, height):
                raise ConfigurationError(
                    f'{self.folder / name} is {found_width}x{found_height}, but the images of the configuration are '
                    f'{width}x{height}; make clips of that size with `python -m inspatio_ros.training.clips --config '
                    'CONFIG` in another folder')

    def refresh(self) -> None:
        """Read the clips that are not in memory yet; damaged ones are skipped and counted."""
        for path in sorted(self.folder.glob('clip_*.safetensors')):
            if path.name in self._clips or path.name in self.skipped:
                continue
            try:
                about = path.stat()
                self._clips[path.name], self._sources[path.name] = _read_clip(path)
                self._written[path.name] = about.st_size, about.st_mtime_ns
            except Exception as error:  # noqa: BLE001  whatever is wrong with one file, the others serve
                self.skipped.add(path.name)
                print(f'{path} is skipped: {error}')

    def draw(self, size: int, generator: torch.Generator) -> Clips:
        """Draw a batch of clips of one kind, augmented; now and then takes up clips that were written meanwhile."""
        self._drawn += 1
        if self._drawn % DRAWS_PER_REFRESH == 0:
            self.refresh()
        return super().draw(size, generator)


def augment(clip: Clips, generator: torch.Generator) -> Clips:
    """Mirror, reverse in time, and change the colours of a clip; all its images alike, so it stays consistent."""
    flip, backward = (integer(2, generator) == 1 for _ in range(2))
    order = torch.randperm(3, generator=generator)
    curves = [curve.to(clip.truth.device) for curve in _curves(generator)]

    def change(image: Tensor, is_image: bool = True) -> Tensor:
        image = image.flip(-1) if flip else image
        image = image.flip(1) if backward else image
        if not is_image:
            return image
        image = image[:, :, order.to(image.device)]
        return torch.stack([curves[channel][image[:, :, channel].long()] for channel in range(3)], dim=2)

    # Time reversed: the two blocks' stills change places, which is the same as reversing their order.
    return replace(clip, truth=change(clip.truth), filled=change(clip.filled), mask=change(clip.mask, False),
                   reference=change(clip.reference), views=_changed(clip.views, flip, backward, clip.truth.shape[-1]))


def _changed(views: BlockViews, flip: bool, backward: bool, width: int) -> BlockViews:
    """Mirror views of pictures of a width from left to right, and reverse their order."""
    # A mirrored picture is one of a mirrored world, by a camera whose axis is as far from the other side.
    mirror = torch.diag(torch.tensor([-1., 1., 1., 1.], dtype=torch.float64, device=views.K.device))

    def change(part: TokenViews) -> TokenViews:
        T, inverse_depth = part.T_world_camera, part.inverse_depth
        if flip:
            T, inverse_depth = mirror @ T @ mirror, inverse_depth.flip(-1)
        return TokenViews(T.flip(1), inverse_depth.flip(1)) if backward else TokenViews(T, inverse_depth)

    K = views.K.clone()
    if flip:
        K[:, 0, 2] = width - 1 - K[:, 0, 2]
    return BlockViews(K, change(views.block), change(views.reference))


def _curves(generator: torch.Generator) -> list[Tensor]:
    """Draw one lookup table uint8 [256] a channel: a gain, a gamma and a small tint."""
    gain = 0.75 + 0.4 * torch.rand(1, generator=generator)
    gamma = 2 ** (0.6 * (torch.rand(1, generator=generator) - 0.5))
    tint = 1 + 0.2 * (torch.rand(3, generator=generator) - 0.5)
    level = torch.linspace(0, 1, 256)
    return [(gain * t * level**gamma).clamp(0, 1).mul(255).round().to(torch.uint8) for t in tint]


def unit(image: Tensor) -> Tensor:
    """Turn uint8 images into float32 in [0, 1]."""
    return image.to(torch.float32) / 255


def crop(clips: Clips, height: int, width: int, multiple: int,
         generator: torch.Generator) -> tuple[Clips, slice, slice]:
    """Cut the same window out of all frames, on the grid of `multiple`; gives the rows and columns it took."""
    rows, columns = (place(whole, part, multiple, generator)
                     for whole, part in zip(clips.truth.shape[3:], (height, width), strict=True))
    cut = {name: getattr(clips, name)[..., rows, columns] for name in IMAGES}
    return replace(clips, **cut), rows, columns


def place(whole: int, part: int, multiple: int, generator: torch.Generator) -> slice:
    """Draw where `part` of `whole` pixels (or frames) lies, beginning at a multiple of `multiple`."""
    start = integer((whole - part) // multiple + 1, generator) * multiple
    return slice(start, start + part)


def images_to_tensor(images: np.ndarray) -> Tensor:
    """Turn images [T, H, W, C] into [1, T, C, H, W]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)[None].contiguous()


def integer(count: int, generator: torch.Generator) -> int:
    """Draw a number from 0 to count - 1."""
    return int(torch.randint(count, (1,), generator=generator))


def stack(clips: Sequence[Clips]) -> Clips:
    """Make one batch of clips of one kind."""
    joined = {name: torch.cat([getattr(clip, name) for clip in clips]) for name in IMAGES}
    tensors = [_views_as_tensors(clip.views) for clip in clips]
    views = _views_of({name: torch.cat([each[name] for each in tensors]) for name in tensors[0]})
    return Clips(**joined, stills=clips[0].stills, views=views)


def _views_as_tensors(views: BlockViews) -> dict[str, Tensor]:
    return {'K': views.K, 'poses': views.block.T_world_camera, 'inverse_depth': views.block.inverse_depth,
            'reference_poses': views.reference.T_world_camera,
            'reference_inverse_depth': views.reference.inverse_depth}


def _views_of(tensors: dict[str, Tensor]) -> BlockViews:
    return BlockViews(tensors['K'], TokenViews(tensors['poses'], tensors['inverse_depth']),
                      TokenViews(tensors['reference_poses'], tensors['reference_inverse_depth']))


def _content(clip: Clips) -> str:
    """Give a checksum of all that a clip holds."""
    found = hashlib.sha256(repr(clip.stills).encode())
    for tensor in (*(getattr(clip, name) for name in IMAGES), *_views_as_tensors(clip.views).values()):
        found.update(tensor.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def ranges(numbers: list[int]) -> str:
    """Write rising numbers as ranges: 1-3, 7, 9-10."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ', '.join('-'.join(map(str, part)) for part in parts)


def _read_clip(path: Path) -> tuple[Clips, dict[str, str]]:
    """Read a clip, and what it was made from: its metadata."""
    with safe_open(path, 'pt') as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        about = file.metadata()
    images = {name: tensors[name] for name in IMAGES}
    return Clips(**images, stills=about['stills'] == 'true', views=_views_of(tensors)), about
