# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Make training clips from procedural scenes: a recording, a path that leaves it, its render, and the truth.

`python -m inspatio_ros.training.clips --output DIR --count N` writes two files a seed and skips those already there.
Held-out clips (one a seed) come from seeds that no training clip has. There are three kinds: recordings of a moving
scene, rendered from the frame aligned in time; recordings that turn away from what the camera goes on looking at, so
that only the block before still holds it; and stills of a frozen scene, rendered from one to four of those that see
most, so that at times only the generator's reference holds what the render lacks.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inspatio_ros.geometry import PinholeCamera, se3_exp
from inspatio_ros.reference.base import Reference, ReferenceFrame
from inspatio_ros.scenes.clips import (
    FRAME_RATE,
    HELD_OUT_SEEDS,
    LEAVE_ANGLE,
    LEAVE_DISTANCE,
    TRAIN_SEEDS_START,
    make_clip,
    random_scene,
)
from inspatio_ros.scenes.paths import leave, random_path
from inspatio_ros.scenes.photographs import show_photographs
from inspatio_ros.scenes.scene import Scene
from inspatio_ros.training.assemble import assemble_clip
from inspatio_ros.training.batched.choose import choose_cast
from inspatio_ros.training.data import Clips, images_to_tensor, save_clip
from inspatio_ros.training.entry import run

#: Frames of a clip's blocks.
BLOCKS = (9, 12)
FRAMES = sum(BLOCKS)
#: Rays along each side of a pixel.
SAMPLES = 2
#: Shares of clips that are stills of a frozen scene, and recordings that turn away; the others' scenes move.
STILLS_SHARE, TURNING_SHARE = 0.4, 0.15
#: How far a recording turns away by the end of a clip, in degrees.
TURNING = (20., 60.)
#: Most stills that a render is made of.
MOST_VIEWS = 4
#: A recording of stills: how many, and the seconds of the path that they are taken from.
STILLS_TAKEN, STILLS_SECONDS = (4, 8), 4.
#: Share of training recordings whose depth is spoilt like a sensor's.
SPOILT = 0.4


@dataclass(frozen=True)
class ClipConfig:
    """What clips of any seed share; the defaults are those of the shipped weights."""

    width: int = 192
    height: int = 128
    #: Whether depth is spoilt at times (held-out clips have exact depth).
    spoil: bool = True
    #: Kinds of camera paths (scenes/paths.py); where there are several, a seed draws one of them.
    paths: tuple[str, ...] = ('swing',)
    #: Atlas float32 [P, G, 2 G, 3] of photographs, and the share of materials that show one (scenes/photographs.py).
    photographs: np.ndarray | None = field(default=None, compare=False)
    photographed: float = 0.
    #: Where scenes are cast and recordings rendered, and where the clips then lie.
    device: str = 'cpu'
    #: 'numba' (CPU only) or 'torch'; 'auto' takes numba on the CPU.
    kernel: str = 'auto'
    frame_rate: float = FRAME_RATE

    def scene(self, seed: int) -> Scene:
        """Make the scene of a seed."""
        scene = random_scene(seed)
        if self.photographs is None:
            return scene
        return show_photographs(scene, self.photographs, self.photographed, np.random.default_rng((seed, 5)))

    def path(self, seed: int) -> str:
        """Draw the kind of a seed's path."""
        if len(self.paths) == 1:
            return self.paths[0]
        return self.paths[int(np.random.default_rng((seed, 4)).integers(len(self.paths)))]


class _Recording(Reference):
    """The views of a clip as a recording, with their true depth or a spoilt one [N, H, W]."""

    def __init__(self, views: dict[str, np.ndarray], depths: np.ndarray, config: ClipConfig) -> None:
        K = views['K']
        self.name, self.up = 'clip', np.array([0., 0., 1.])
        self.camera = PinholeCamera(K[0, 0], K[1, 1], K[0, 2], K[1, 2], config.width, config.height)
        self.times, self.T_world_camera = views['reference_times'], views['reference_T_world_camera']
        self.is_static = bool(views.get('is_static', False))
        self._images, self._depths = views['reference_image'], depths

    def frame(self, index: int) -> ReferenceFrame:
        return ReferenceFrame(index, float(self.times[index]), self._images[index], self._depths[index],
                              self.T_world_camera[index])


def training_clip(seed: int, config: ClipConfig | None = None) -> Clips:
    """Make the clip of a seed: uint8 images [1, 21, 3, H, W], on the device of the configuration."""
    return next(training_clips(seed, config))


def training_clips(seed: int, config: ClipConfig | None = None) -> Iterator[Clips]:
    """Make the clip of a seed, and then its twin, which costs no rays: recording and path have changed places.

    The twin of a clip of stills has other stills among them, and another number of them in its render.
    """
    config = config or ClipConfig()
    rng = np.random.default_rng((seed, 3))
    kind, max_views = rng.random(), int(rng.integers(1, MOST_VIEWS + 1))
    if kind < STILLS_SHARE:
        views = _stills(seed, rng, config)
    elif kind < STILLS_SHARE + TURNING_SHARE:
        views = _turning(seed, rng, config)
    else:
        views = make_clip(seed, config.width, config.height, FRAMES, FRAMES, SAMPLES, config.frame_rate,
                          config.path(seed), config.scene(seed), choose_cast(config.device, config.kernel))
    yield _clip_of(views, rng, max_views, config)
    if 'is_static' in views:
        yield _clip_of(_fewer_stills(views, rng), rng, int(rng.integers(1, MOST_VIEWS + 1)), config)
    else:
        yield _clip_of(_exchanged(views), rng, max_views, config)


def _clip_of(views: dict[str, np.ndarray], rng: np.random.Generator, max_views: int, config: ClipConfig) -> Clips:
    depths = views['reference_z_depth']
    if config.spoil and rng.random() < SPOILT:
        depths = np.stack([_spoilt(rng, depth) for depth in depths])
    recording = _Recording(views, depths, config)
    truth = images_to_tensor(views['target_image']).to(config.device)
    return assemble_clip(recording, recording.camera, views['target_T_world_camera'], truth, BLOCKS, max_views,
                         config.device, config.kernel)


def _exchanged(views: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Let the path be the recording, and the recording the path."""
    names = ('image', 'z_depth', 'T_world_camera')
    return {**views, **{f'reference_{name}': views[f'target_{name}'] for name in names},
            **{f'target_{name}': views[f'reference_{name}'] for name in names}}


def _fewer_stills(views: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    count = len(views['reference_times'])
    kept = np.sort(rng.choice(count, int(rng.integers(2, count + 1)), replace=False))
    return {**views, **{name: value[kept] for name, value in views.items() if name.startswith('reference_')}}


def _stills(seed: int, rng: np.random.Generator, config: ClipConfig) -> dict[str, np.ndarray]:
    """Take a few stills along a path through a frozen scene, and true views from a part of it that leaves them."""
    scene, camera = config.scene(seed), _random_camera(rng, config)
    times = np.arange(0., STILLS_SECONDS, 1 / config.frame_rate)
    path = random_path(rng, scene, times, config.path(seed))
    target = leave(rng, scene, path, np.zeros(len(times)), LEAVE_DISTANCE, LEAVE_ANGLE)
    first = int(rng.integers(len(times) - FRAMES + 1))
    taken = np.sort(rng.choice(len(times), int(rng.integers(*STILLS_TAKEN)), replace=False))
    return {**_cast_frozen(scene, camera, path[taken], target[first:first + FRAMES], config),
            'reference_times': times[taken], 'is_static': np.bool_(True)}


def _turning(seed: int, rng: np.random.Generator, config: ClipConfig) -> dict[str, np.ndarray]:
    """Look along a path through a frozen scene, recorded by a camera that turns away from it, left or right."""
    scene, camera = config.scene(seed), _random_camera(rng, config)
    times = np.arange(FRAMES) / config.frame_rate
    wanted = random_path(rng, scene, times, config.path(seed))
    turn = np.radians(rng.uniform(*TURNING)) * rng.choice((-1., 1.)) * times / times[-1]
    path = np.stack([T @ se3_exp(np.array([0., 0., 0., 0., angle, 0.])) for T, angle in zip(wanted, turn, strict=True)])
    return {**_cast_frozen(scene, camera, path, wanted, config), 'reference_times': times}


def _cast_frozen(scene: Scene, camera: PinholeCamera, recorded: np.ndarray, wanted: np.ndarray,
                 config: ClipConfig) -> dict[str, np.ndarray]:
    """Cast a scene, as it is at time 0, from recorded poses [R, 4, 4] and from wanted ones [F, 4, 4]."""
    count = len(recorded)
    path = np.concatenate([recorded, wanted])
    seen = choose_cast(config.device, config.kernel)(scene, camera, path, np.zeros(len(path)), SAMPLES)
    return {'K': camera.K, 'reference_image': seen.image[:count], 'reference_z_depth': seen.z_depth[:count],
            'reference_T_world_camera': recorded, 'target_T_world_camera': wanted, 'target_image': seen.image[count:],
            'target_z_depth': seen.z_depth[count:]}


def _random_camera(rng: np.random.Generator, config: ClipConfig) -> PinholeCamera:
    focal = rng.uniform(.55, 1.) * config.width
    return PinholeCamera(focal, focal, (config.width - 1) / 2, (config.height - 1) / 2, config.width, config.height)


def _spoilt(rng: np.random.Generator, z_depth: np.ndarray) -> np.ndarray:
    """Spoil depth like a sensor: noise, thin contour gaps at steps of distance, and patches without a value."""
    height, width = z_depth.shape
    noisy = z_depth * (1 + rng.uniform(0., 0.02) * rng.normal(size=z_depth.shape))
    gap = rng.uniform(0.03, 0.12)
    noisy[np.mod(np.log(np.maximum(z_depth, 1e-3)) / gap, 1.) < rng.uniform(0.05, 0.25)] = np.nan
    y, x = np.mgrid[:height, :width]
    for _ in range(int(rng.integers(0, 5))):
        radius = rng.uniform(0.03, 0.15) * width
        inside = (x - rng.uniform(0, width))**2 + ((y - rng.uniform(0, height)) * rng.uniform(0.5, 2.))**2 < radius**2
        noisy[inside] = np.nan
    return noisy.astype(np.float32)


def write_clips(folder: Path, count: int, first_seed: int, config: ClipConfig, twins: bool = False,
                workers: int = 1) -> None:
    """Write the clips of consecutive seeds, and their twins if asked for: those that are not there yet.

    More than one of `workers` are processes with a thread each; a seed's clips are the same whoever makes them.
    """
    from tqdm import tqdm
    seeds = range(first_seed, first_seed + count)
    write = partial(_write_seed, folder, config, twins)
    progress = partial(tqdm, total=count, desc='clips', mininterval=10)
    if workers == 1:
        for seed in progress(seeds):
            write(seed)
        return
    # Spawned: a fork of a process that has used torch's threads, or a GPU, may hang.
    with ProcessPoolExecutor(workers, multiprocessing.get_context('spawn'), torch.set_num_threads, (1,)) as pool:
        try:
            for _ in progress(pool.map(write, seeds)):
                pass
        except BaseException:
            # Else all seeds would be made before the error is seen, or Ctrl-C obeyed.
            pool.shutdown(cancel_futures=True)
            raise


def _write_seed(folder: Path, config: ClipConfig, twins: bool, seed: int) -> None:
    paths = [folder / f'clip_{seed:07d}{ending}.safetensors' for ending in (('', '_twin') if twins else ('',))]
    if all(path.exists() for path in paths):
        return
    for path, clip in zip(paths, training_clips(seed, config), strict=False):
        save_clip(path, clip, {'seed': seed})


def _sizes(path: Path | None) -> dict[str, Any]:
    """Give size and frame rate of a training configuration's images; without one those of the shipped weights."""
    if path is None:
        return {}
    from inspatio_ros.training.train import read_plan
    generator = read_plan(path).generator
    return {'width': generator.width, 'height': generator.height, 'frame_rate': generator.frame_rate}


def main(arguments: list[str] | None = None) -> int:
    """Make clips from the command line."""
    parser = argparse.ArgumentParser(prog='python -m inspatio_ros.training.clips', description=__doc__)
    parser.add_argument('--output', type=Path, required=True, help='folder for clip_*.safetensors')
    parser.add_argument('--count', type=int, required=True)
    parser.add_argument('--config', type=Path, help='training configuration whose image size and frame rate the clips '
                        f'get (default: {ClipConfig.width}x{ClipConfig.height} at {FRAME_RATE:g}, those of nano)')
    parser.add_argument('--first-seed', type=int, default=0, help='counted from the first seed of its kind')
    parser.add_argument('--device', default='cpu', help='where to cast and render: by compiled kernels on a CPU, in '
                        'torch on a GPU')
    parser.add_argument('--held-out', action='store_true', help='seeds that are never trained on, exact depth')
    parser.add_argument('--workers', type=int, default=1, help='processes that share the seeds, one core each')
    options = parser.parse_args(arguments)
    if options.workers < 1:
        parser.error(f'--workers must be at least 1, not {options.workers}')
    first = options.first_seed + (HELD_OUT_SEEDS.start if options.held_out else TRAIN_SEEDS_START)
    if options.held_out and first + options.count > HELD_OUT_SEEDS.stop:
        parser.error(f'there are {len(HELD_OUT_SEEDS)} held-out seeds; ask for fewer clips')

    def write() -> None:
        config = ClipConfig(**_sizes(options.config), spoil=not options.held_out, device=options.device)
        write_clips(options.output, options.count, first, config, not options.held_out, options.workers)

    return run(write, 'stopped; the same command makes the clips that are missing')


if __name__ == '__main__':
    sys.exit(main())
