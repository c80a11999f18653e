# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Clips without end: procedural scenes, camera paths and recordings made while training goes on, in memory.

A pool of clips is drawn from, as from a folder. With every few draws its oldest clip gives way to a new one, which a
thread makes ahead of time on the device. Which one is settled by the drawing step's own random generator: a run's clips
are the same from one time to the next, a run that goes on later sees other seeds, and so does every rank.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inspatio_ros.errors import ConfigurationError, RecordingError
from inspatio_ros.scenes.clips import HELD_OUT_SEEDS, TRAIN_SEEDS_START
from inspatio_ros.scenes.paths import PATHS
from inspatio_ros.scenes.photographs import SIZE, make_atlas
from inspatio_ros.training.clips import ClipConfig, training_clip
from inspatio_ros.training.data import Clips, ClipSource, ranges

#: What `--data` says instead of a folder.
ENDLESS = 'endless'
#: Seeds that clips are drawn from while training goes on, beyond those that the pool starts with.
_SEEDS = 2**40
#: An odd number that spreads the generators' seeds, which are consecutive, over _SEEDS.
_SPREAD = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class EndlessConfig:
    """Where `--data endless` takes its clips from; the key `endless` of a configuration file."""

    #: Clips in memory (about 5 MB each at nano's size), and draws of a batch after which one of them is replaced.
    pool: int = 64
    draws_per_clip: int = 4
    #: New clips that are made ahead: a step waits only if making them falls behind by so many.
    ahead: int = 4
    #: Held-out clips, of the first held-out seeds.
    held_out: int = 24
    #: Kinds of camera paths, drawn evenly; see scenes/paths.py.
    paths: tuple[str, ...] = tuple(PATHS)
    #: Folder of photographs, or of a recording, whose licence allows it; '' for none.
    photographs: str = ''
    #: Patches that are cut out of them, and the share of materials that show one.
    patches: int = 64
    photographed: float = .3

    def __post_init__(self) -> None:
        """Check the numbers and names."""
        for name in ('pool', 'draws_per_clip', 'ahead', 'held_out', 'patches'):
            if getattr(self, name) < 1:
                raise ConfigurationError(f'endless.{name} must be at least 1, not {getattr(self, name)}')
        if self.held_out > len(HELD_OUT_SEEDS):
            raise ConfigurationError(f'endless.held_out: there are {len(HELD_OUT_SEEDS)} held-out seeds')
        unknown = sorted(set(self.paths) - set(PATHS))
        if unknown or not self.paths:
            raise ConfigurationError(f'endless.paths: {(unknown or ["nothing"])[0]} is unknown; choose among '
                                     f'{", ".join(PATHS)}')


class SeededClips(ClipSource):
    """The clips of given seeds, made once and kept in memory."""

    def __init__(self, seeds: Iterable[int], config: ClipConfig) -> None:
        super().__init__()
        from tqdm import tqdm
        self.config = config
        for seed in tqdm(list(seeds), desc='clips', mininterval=10):
            self._clips[_name(seed)] = _make(seed, config)

    def description(self) -> str:
        """Say which seeds."""
        seeds = sorted(int(name) for name in self._clips)
        return f'{len(seeds)} clips of procedural scenes, seeds {ranges(seeds)}'


class EndlessClips(SeededClips):
    """A pool of clips that is renewed while it is drawn from. `close` ends its thread."""

    renewed = True

    def __init__(self, endless: EndlessConfig, config: ClipConfig) -> None:
        super().__init__(range(TRAIN_SEEDS_START, TRAIN_SEEDS_START + endless.pool), config)
        self._endless, self._drawn, self.made = endless, 0, 0
        self._ages = deque(self._clips)
        self._coming: deque[tuple[str, Future[Clips]]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix='clips')

    def draw(self, size: int, generator: torch.Generator) -> Clips:
        """Draw a batch of clips of one kind, augmented, and renew the pool now and then."""
        self._count_draw(generator)
        return super().draw(size, generator)

    def draw_frames(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw single frames of clips of any kind, augmented, and renew the pool now and then."""
        self._count_draw(generator)
        return super().draw_frames(size, generator)

    def description(self) -> str:
        """Say what was made so far."""
        first, last = TRAIN_SEEDS_START, TRAIN_SEEDS_START + self._endless.pool - 1
        about = f'endless procedural scenes: seeds {first}-{last}, and {self.made} drawn from {last + 1} on'
        if self.config.photographs is None:
            return about
        return f'{about}; patches of photographs of {Path(self._endless.photographs).resolve().name}'

    def close(self) -> None:
        """Stop making clips."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _count_draw(self, generator: torch.Generator) -> None:
        self._drawn += 1
        if self._drawn % self._endless.draws_per_clip == 0:
            self._renew(_seed_of(generator, self._endless.pool))

    def _renew(self, seed: int) -> None:
        """Order the clip of a seed; the one ordered `ahead` orders ago takes the oldest's place.

        A generator that is drawn from for long gives the same seed every time, whose clip is ordered once.
        """
        if _name(seed) in self._clips or any(_name(seed) == name for name, _ in self._coming):
            return
        self._coming.append((_name(seed), self._thread.submit(_make, seed, self.config)))
        if len(self._coming) <= self._endless.ahead:
            return
        name, clip = self._coming.popleft()
        self._clips[name] = clip.result()
        self._ages.append(name)
        self.made += 1
        del self._clips[self._ages.popleft()]


def open_endless(endless: EndlessConfig, width: int, height: int, frame_rate: float,
                 device: str) -> tuple[EndlessClips, SeededClips]:
    """Make the clips to train on and those held out, whose seeds, paths and depth are those of `clips --held-out`."""
    atlas = read_photographs(Path(endless.photographs), endless.patches) if endless.photographs else None
    config = ClipConfig(width, height, True, endless.paths, atlas, endless.photographed, device, frame_rate=frame_rate)
    held_out = dataclasses.replace(config, spoil=False, paths=ClipConfig.paths, photographs=None)
    watched = SeededClips(HELD_OUT_SEEDS[:endless.held_out], held_out)
    return EndlessClips(endless, config), watched


def read_photographs(path: Path, patches: int) -> np.ndarray:
    """Cut patches out of the photographs of a folder, or of the frames of a recording that may be trained on.

    Raises RecordingError where there are none, or where a licence forbids it.
    """
    from inspatio_ros.training.real_data import whole_recording
    path = whole_recording(path)
    things, read = _frames(path) if (path / 'rgb').is_dir() else _files(path)
    try:
        return make_atlas(_in_turn(things, read, patches), np.random.default_rng(0))
    except ValueError as error:
        raise RecordingError(f'{path}: {error}; name a folder of JPEG or PNG images, or an RGB-D folder') from error


def _frames(path: Path) -> tuple[Sequence[int], Callable[[int], np.ndarray]]:
    from inspatio_ros.training.real_data import RgbdFrames
    frames = RgbdFrames(path)
    return frames.usable, lambda index: frames.reference.frame(index).image


def _files(path: Path) -> tuple[Sequence[Path], Callable[[Path], np.ndarray]]:
    from inspatio_ros.training.real_data import check_licence
    check_licence(path)
    return sorted(file for file in path.rglob('*') if file.suffix.lower() in ('.jpg', '.jpeg', '.png')), _photograph


def _photograph(file: Path) -> np.ndarray:
    from PIL import Image
    with Image.open(file) as image:
        if min(image.size) < SIZE:
            raise OSError(f'{image.width} x {image.height} pixels are fewer than {SIZE} x {SIZE}')
        return np.array(image.convert('RGB'))


def _in_turn(things: Sequence, read: Callable[[Any], np.ndarray], count: int) -> Iterator[np.ndarray]:
    """Read `count` images of things that are evenly spaced, one at a time, and the same again where they are fewer."""
    left, read_so_far = [things[i] for i in np.linspace(0, len(things) - 1, min(len(things), count)).astype(int)], 0
    while left and read_so_far < count:
        thing = left[read_so_far % len(left)]
        try:
            image = read(thing)
        except (OSError, SyntaxError, RecordingError) as error:
            print(f'{thing} is skipped: {error}', file=sys.stderr)
            left.remove(thing)
            continue
        read_so_far += 1
        yield image


def _make(seed: int, config: ClipConfig) -> Clips:
    """Make the clip of a seed on the device, and keep it where clips of a folder lie: a pool may outgrow a GPU."""
    return training_clip(seed, config).to('cpu')


def _seed_of(generator: torch.Generator, pool: int) -> int:
    """Give a seed to train on that is settled by a generator's own, and is not among those the pool starts with."""
    return TRAIN_SEEDS_START + pool + generator.initial_seed() * _SPREAD % _SEEDS


def _name(seed: int) -> str:
    return f'{seed:014d}'
