# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The four fixed suites: what was recorded, where the camera then goes, and what it would have seen there.

A suite is the same for every generator: its scenes come from seeds of its own, which nothing is trained on, and its
paths are given frame by frame, whatever a generator's frame rate. Frame counts are whole blocks (9, then 12 frames).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from inspatio_ros.config import GeneratorConfig
from inspatio_ros.errors import ConfigurationError
from inspatio_ros.evaluation.worlds import SceneRecording, Truth, recorded_truth
from inspatio_ros.geometry import PinholeCamera, interpolate
from inspatio_ros.reference.base import Reference
from inspatio_ros.reference.held_out import held_out_frames
from inspatio_ros.scenes.clips import FRAME_RATE, HELD_OUT_SEEDS, LEAVE_ANGLE, LEAVE_DISTANCE, random_scene
from inspatio_ros.scenes.paths import body_pose, leave, random_path
from inspatio_ros.scenes.raycast import clearance, raycast
from inspatio_ros.scenes.scene import Scene

#: The variant of a generator that gives texture to what is made up, behind the generator's name.
TEXTURE = 'texture'
#: The row of the truth itself.
TRUTH = 'truth'
#: Size that the suites are meant for.
SIZE = (192, 128)
#: Frames of STAR's first block and of the others, and the stills of a static recording that it gives a block.
FIRST_BLOCK, BLOCK = GeneratorConfig().frames_in_first_block, GeneratorConfig().frames_per_block
STILLS_OF_BLOCK = GeneratorConfig().latent_frames_per_block
#: Seeds of each suite's scenes; the held-out seeds below these serve to watch training.
FIRST_SEED = {'scenes': HELD_OUT_SEEDS[100], 'memory': HELD_OUT_SEEDS[400], 'roam': HELD_OUT_SEEDS[700]}
#: Stills of a static recording.
STILLS = 6

#: Places that are drawn to find a roomy one, directions to find a far view, and the camera that finds out.
_PLACES, _DIRECTIONS, _GLIMPSE = 200, 4, PinholeCamera(14., 14., 11.5, 7.5, 24, 16)

#: Where the answer to a hole lies in a clip of the memory suite.
ANOTHER_FRAME, BLOCK_BEFORE = 'another frame', 'block before'


@dataclass(frozen=True)
class Clip:
    """One recording and one path.

    `T_world_camera` [F, 4, 4] and `times` [F] (seconds of the recording) of the path; `look` gives the truth of a
    frame of it; `judged`, the frames that have one; `max_views`, see WorldSimulator; `answer` says what the cache holds
    and the render lacks; `revisits` are pairs of frames with the same pose, before and after leaving.
    """

    name: str
    reference: Reference
    T_world_camera: np.ndarray
    times: np.ndarray
    look: Callable[[PinholeCamera, int], Truth]
    judged: tuple[int, ...]
    max_views: int = 4
    answer: str = ''
    revisits: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        """Count the frames."""
        return len(self.T_world_camera)


@dataclass(frozen=True)
class Loop:
    """A closed path that is gone round `laps` times: the clip is one lap."""

    clip: Clip
    laps: int


@dataclass(frozen=True)
class Suite:
    """A named set of clips. `clip(index, width, height)` makes one; `loop`, if there is one, measures drift.

    `gain_fit`: colours are compared after a gain fit too; `ablations`: what is taken away from STAR beside the whole;
    `texture`: STAR is measured also with texture in what it makes up; `meant`: clips that its targets are meant for.
    """

    name: str
    about: str
    count: int
    clip: Callable[[int, int, int], Clip]
    loop: Callable[[int, int], Loop] | None = None
    gain_fit: bool = False
    ablations: tuple[str, ...] = ()
    texture: bool = False
    meant: int = 0


def open_suite(name: str, count: int | None = None, reference: Reference | None = None) -> Suite:
    """Open a suite by name.

    Args:
        name: one of SUITES.
        count: clips; the suite's own number by default.
        reference: the recording, for `office` alone.

    Raises:
        ConfigurationError: the name is unknown, or a recording is missing or not wanted.

    """
    if name not in SUITES:
        raise ConfigurationError(f'suite {name!r} is unknown; choose one of {", ".join(SUITES)}')
    if name == 'office':
        if reference is None:
            raise ConfigurationError('the suite office needs a recording; name its folder with --reference')
        return _office(reference, count)
    if reference is not None:
        raise ConfigurationError(f'the suite {name} makes its own recordings; --reference is for the suite office')
    return replace(SUITES[name](count), meant=SUITES[name](None).count)


# --- scenes -----------------------------------------------------------------------------------------------------------


def _scenes(count: int | None) -> Suite:
    return Suite('scenes', 'unseen procedural scenes; paths leave the recording by up to '
                 f'{LEAVE_DISTANCE} m and {np.degrees(LEAVE_ANGLE):.0f} degrees', count or 24, _leaving_clip,
                 texture=True)


def _leaving_clip(index: int, width: int, height: int) -> Clip:
    """Leave a recording: one that moves with the scene, or (odd clips) stills of a scene that stands still."""
    rng, scene, camera = _setting('scenes', index, width, height)
    times, frozen = _times(3), index % 2 == 1
    path = random_path(rng, scene, times)
    wanted = leave(rng, scene, path, np.zeros(len(times)) if frozen else times, LEAVE_DISTANCE, LEAVE_ANGLE)
    chosen = np.linspace(0, len(path) - 1, STILLS).astype(int) if frozen else np.arange(len(path))
    recording = SceneRecording(f'scene {index}', scene, camera, times[chosen], path[chosen], frozen)
    return _scene_clip(f'{index}: {"stills" if frozen else "moving"}', recording, wanted, times)


# --- memory -----------------------------------------------------------------------------------------------------------


def _memory(count: int | None) -> Suite:
    return Suite('memory', 'content that is not in the render but in the cache: seen by another frame, or made in the '
                 'block before; and two visits, two blocks apart, to what nobody recorded', count or 9, _memory_clip,
                 ablations=('no_reference', 'no_history'))


def _memory_clip(index: int, width: int, height: int) -> Clip:
    return (_another_frame, _block_before, _two_visits)[index % 3](index, width, height)


def _another_frame(index: int, width: int, height: int) -> Clip:
    """Look about over stills that look different ways, of which only one is rendered; the cache is given more."""
    rng, scene, camera = _setting('memory', index, width, height)
    times = _times(3)
    place, yaw, pitch = _standpoint(rng, scene)
    beside = np.array([-np.sin(yaw), np.cos(yaw), 0.])
    share = np.linspace(-1., 1., STILLS)
    stills = np.stack([body_pose(place + 0.2 * s * beside, yaw + np.radians(30.) * s, pitch) for s in share])
    share = np.sin(2 * np.pi * (np.arange(len(times)) / 40. + rng.uniform()))
    wanted = np.stack([body_pose(place + 0.1 * s * beside, yaw + np.radians(20.) * s, pitch) for s in share])
    recording = SceneRecording(f'memory {index}', scene, camera, times[:STILLS], stills)
    return _scene_clip(f'{index}: {ANOTHER_FRAME}', recording, wanted, times, max_views=1, answer=ANOTHER_FRAME)


def _block_before(index: int, width: int, height: int) -> Clip:
    """Let the recording look away, 20 degrees a second, from what the camera goes on looking at."""
    rng, scene, camera = _setting('memory', index, width, height)
    times = _times(3)
    place, yaw, pitch = _standpoint(rng, scene)
    away = rng.choice((-1., 1.)) * np.radians(20.)
    ahead = np.array([np.cos(yaw), np.sin(yaw), 0.])
    recorded = np.stack([body_pose(place, yaw + away * t, pitch) for t in times])
    wanted = np.stack([body_pose(place + 0.1 * t * ahead, yaw - 0.1 * away * t, pitch) for t in times])
    recording = SceneRecording(f'memory {index}', scene, camera, times, recorded, is_static=False)
    return _scene_clip(f'{index}: {BLOCK_BEFORE}', recording, wanted, times, answer=BLOCK_BEFORE)


def _two_visits(index: int, width: int, height: int) -> Clip:
    """Swing, one swing in two blocks, about a view of which a good part was never recorded."""
    rng, scene, camera = _setting('memory', index, width, height)
    times = _times(4)
    place, yaw, pitch = _standpoint(rng, scene)
    side, period = rng.choice((-1., 1.)), 2 * BLOCK
    stills = np.stack([body_pose(place + 0.05 * i * np.array([np.cos(yaw), np.sin(yaw), 0.]), yaw, pitch)
                       for i in range(STILLS)])
    swing = np.radians(25. + 8. * np.sin(2 * np.pi * np.arange(len(times)) / period))
    wanted = np.stack([body_pose(place, yaw + side * angle, pitch) for angle in swing])
    recording = SceneRecording(f'memory {index}', scene, camera, times[:STILLS], stills)
    visits = tuple((i, i + period) for i in range(FIRST_BLOCK, FIRST_BLOCK + BLOCK))
    return _scene_clip(f'{index}: two visits', recording, wanted, times, revisits=visits)


# --- roam -------------------------------------------------------------------------------------------------------------


def _roam(count: int | None, laps: int = 10, lap_frames: int = 100) -> Suite:
    return Suite('roam', 'turns of 90 degrees and back, full turns, and 1000 frames round and round', count or 4,
                 _turning_clip, lambda width, height: _round_and_round(width, height, laps, lap_frames))


def _turning_clip(index: int, width: int, height: int) -> Clip:
    """Stand and turn: 90 degrees to one side and back, or (every second clip) all the way round and a bit on."""
    rng, scene, camera = _setting('roam', index, width, height)
    place, yaw, pitch = _standpoint(rng, scene)
    recording = _glance(f'roam {index}', scene, camera, place, yaw, pitch)
    side = 1. if index % 4 < 2 else -1.
    if index % 2:
        frames, full = FIRST_BLOCK + 8 * BLOCK, 8 * BLOCK
        angles = side * 2 * np.pi * np.arange(frames) / full
        visits, name = tuple((i, i + full) for i in range(frames - full)), 'full turn'
    else:
        frames = FIRST_BLOCK + 4 * BLOCK
        last, half = frames - 1, (frames - 1) // 2
        angles = side * np.pi / 2 * (1 - np.abs(np.arange(frames) - half) / half)
        # Two blocks apart at least: nearer pairs say little about coming back.
        visits, name = tuple((i, last - i) for i in range(half - BLOCK + 1)), '90 degrees and back'
    wanted = np.stack([body_pose(place, yaw + angle, pitch) for angle in angles])
    return _scene_clip(f'{index}: {name}', recording, wanted, np.arange(frames) / FRAME_RATE, revisits=visits)


def _round_and_round(width: int, height: int, laps: int, lap_frames: int) -> Loop:
    """Walk a circle of 0.3 m, looking 20 degrees to either side, so that a part of the view is always made up."""
    rng, scene, camera = _setting('roam', 0, width, height)
    place, yaw, pitch = _standpoint(rng, scene)
    recording = _glance('round and round', scene, camera, place, yaw, pitch)
    phase = 2 * np.pi * np.arange(lap_frames) / lap_frames
    wanted = np.stack([body_pose(place + 0.3 * np.array([np.sin(p), np.cos(p) - 1., 0.]),
                                 yaw + np.radians(20.) * np.sin(p), pitch) for p in phase])
    times = np.arange(lap_frames) / FRAME_RATE
    return Loop(_scene_clip('round and round', recording, wanted, times), laps)


def _glance(name: str, scene: Scene, camera: PinholeCamera, place: np.ndarray, yaw: float,
            pitch: float) -> SceneRecording:
    """Record a few stills within 15 degrees of one direction."""
    share = np.linspace(-1., 1., STILLS)
    beside = np.array([-np.sin(yaw), np.cos(yaw), 0.])
    stills = np.stack([body_pose(place + 0.2 * s * beside, yaw + np.radians(15.) * s, pitch) for s in share])
    return SceneRecording(name, scene, camera, np.arange(STILLS) / FRAME_RATE, stills)


# --- office -----------------------------------------------------------------------------------------------------------


def _office(reference: Reference, count: int | None) -> Suite:
    whole = held_out_frames(len(reference))
    if count is not None and count > len(whole):
        raise ConfigurationError(f'the suite office has {len(whole)} frames of {reference.name} to measure, not '
                                 f'{count}; leave --clips out')
    held_out = whole[:count]
    without = reference.without(held_out)
    if len(without) < 2 or len(set(whole)) < len(whole):
        raise ConfigurationError(f'{reference.name} has {len(reference)} frames, too few to hold some out of')

    def clip(index: int, width: int, height: int) -> Clip:
        """Go along the recording's own path and arrive at the frame held out with the last frame of two blocks."""
        frame = held_out[index]
        times = reference.times[frame] + (np.arange(FIRST_BLOCK + BLOCK) - FIRST_BLOCK - BLOCK + 1) / FRAME_RATE
        # Before the recording began it shows its first state, from where that was seen.
        times = np.maximum(times, reference.times[0])
        path = np.stack([pose_at(reference, time) for time in times])
        return Clip(f'{index}: frame {frame}', without, path, times,
                    lambda camera, _: recorded_truth(reference, frame, camera), (len(times) - 1,))

    return Suite('office', f'frames held out of {reference.name}, compared after a gain fit', len(held_out), clip,
                 gain_fit=True, meant=len(whole))


def pose_at(reference: Reference, time: float) -> np.ndarray:
    """Give the recording camera's pose [4, 4] at a time, between frames along the screw motion; the ends stay."""
    after = int(np.clip(np.searchsorted(reference.times, time), 1, len(reference) - 1))
    before_s, after_s = reference.times[after - 1], reference.times[after]
    share = np.clip((time - before_s) / (after_s - before_s), 0., 1.)
    return interpolate(reference.T_world_camera[after - 1], reference.T_world_camera[after], float(share))


SUITES: dict[str, Callable[[int | None], Suite]] = {'scenes': _scenes, 'memory': _memory, 'roam': _roam,
                                                    'office': _office}


# --- what the suites share --------------------------------------------------------------------------------------------


def _times(blocks: int) -> np.ndarray:
    return np.arange(FIRST_BLOCK + (blocks - 1) * BLOCK) / FRAME_RATE


def _setting(suite: str, index: int, width: int, height: int) -> tuple[np.random.Generator, Scene, PinholeCamera]:
    """Give a clip's randomness, its scene, and a camera with a field of view between 53 and 84 degrees."""
    seed = FIRST_SEED[suite] + index
    rng = np.random.default_rng((seed, 3))
    focal = rng.uniform(.55, 1.) * width
    return rng, random_scene(seed), PinholeCamera(focal, focal, (width - 1) / 2, (height - 1) / 2, width, height)


def _standpoint(rng: np.random.Generator, scene: Scene) -> tuple[np.ndarray, float, float]:
    """Draw a place with room around it, a yaw in whose direction one sees far, and a pitch a little down."""
    places = rng.uniform(*scene.inside, size=(_PLACES, 3))
    places[:, 2] = places[:, 2].clip(0.9, 1.5)
    place = places[int(np.argmax(clearance(scene, places, 0.)))]
    pitch, yaws = -float(np.radians(rng.uniform(0., 12.))), rng.uniform(-np.pi, np.pi, _DIRECTIONS)
    far = [np.nanmedian(raycast(scene, _GLIMPSE, body_pose(place, yaw, pitch), 0.).z_depth) for yaw in yaws]
    return place, float(yaws[int(np.argmax(far))]), pitch


def _scene_clip(name: str, recording: SceneRecording, T_world_camera: np.ndarray, times: np.ndarray,
                **more: object) -> Clip:
    def look(camera: PinholeCamera, index: int) -> Truth:
        return recording.look(camera, T_world_camera[index], float(times[index]))

    return Clip(name, recording, T_world_camera, times, look, tuple(range(len(times))), **more)


def clips_of(suite: Suite, width: int, height: int) -> Iterator[Clip]:
    """Make all clips of a suite for images of width x height, one after the other."""
    for index in range(suite.count):
        yield suite.clip(index, width, height)
