# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Render a recording from every pose of a trajectory file, or from those of frames kept out of it.

Writes image/, mask/ (255 seen, 0 made up), depth/ (uint16 millimetres, 0 unknown), trajectory.txt (TUM, camera to
world), video.mp4 and report.json: one frame for each pose of the file, in its order.

With --hold-out N the poses are those of N frames that are kept out of the recording, evenly over it. What is rendered
there is compared with what was recorded, over the pixels that the other frames know, after the gain of each channel was
fitted: that is how well depth, poses and intrinsics of a recording fit together.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inspatio_ros.commands import options
from inspatio_ros.errors import ConfigurationError
from inspatio_ros.reference.held_out import evenly

if TYPE_CHECKING:
    from inspatio_ros.block import Block
    from inspatio_ros.geometry import PinholeCamera
    from inspatio_ros.reference.base import Reference
    from inspatio_ros.simulator import WorldSimulator
    from inspatio_ros.spatial.trajectory import Trajectory

OUTPUTS = ('image', 'mask', 'depth', 'trajectory.txt', 'video.mp4', 'report.json')

#: Poses within this of the first one of their block are rendered with it, from the same views of the recording.
NEAR_METRES, NEAR_DEGREES = 0.5, 15.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inspatio render`."""
    options.add_world(parser, generator='nano')
    poses = parser.add_mutually_exclusive_group(required=True)
    poses.add_argument('--trajectory', metavar='FILE',
                       help="TUM, 4x4 world-to-camera lines, or the release's three text lines")
    poses.add_argument('--hold-out', type=options.count, metavar='N',
                       help='render at N frames kept out of the recording, and compare')
    parser.add_argument('--output', default='out/render', metavar='DIR', help='where to write (default: out/render)')
    parser.add_argument('--force', action='store_true', help='replace an earlier result in the output folder')


def run(args: argparse.Namespace) -> int:
    """Render and write everything; nothing is left behind if it fails."""
    with options.output_folder(args.output, OUTPUTS, args.force) as folder:
        whole, held_out, simulator, trajectory = _open(args)
        report = render(simulator, trajectory, scene_times(whole, trajectory), folder, apart=bool(held_out))
        if held_out:
            report |= compare(whole, held_out, simulator.camera, folder)
        (folder / 'report.json').write_text(json.dumps(report, indent=2) + '\n')
    if held_out:
        print(describe(report))
    print(f'{report["frames"]} frames {report["width"]}x{report["height"]} by {report["generator"]} in '
          f'{report["seconds"]:.1f} s ({report["frames_per_second"]:.1f} per second), '
          f'{100 * report["seen"]:.0f} % of the pixels seen in the recording: {args.output}')
    return 0


def _open(args: argparse.Namespace) -> tuple[Reference, list[int], WorldSimulator, Trajectory]:
    """Open the whole recording, say which frames are kept out, and give what renders which poses."""
    from inspatio_ros.reference import open_reference
    from inspatio_ros.simulator import WorldSimulator
    from inspatio_ros.spatial.trajectory import Trajectory, read_trajectory
    reference = open_reference(args.reference)
    held_out = frames_to_hold_out(reference, args.hold_out) if args.hold_out else []
    if not held_out:
        # The cheap mistake is found before the weights are read: a bad line of the trajectory file.
        read_trajectory(args.trajectory, source_T_world_camera=reference.T_world_camera)
    width, height = args.size or (None, None)
    simulator = WorldSimulator(reference.without(held_out) if held_out else reference, args.generator, width, height,
                               args.seed, args.device, weights=args.weights,
                               frames_per_block=1 if held_out else None, speed=args.speed, texture=args.texture)
    if held_out:
        return reference, held_out, simulator, Trajectory(reference.times[held_out], reference.T_world_camera[held_out])
    trajectory = read_trajectory(args.trajectory, frame_rate=simulator.frame_rate,
                                 source_T_world_camera=reference.T_world_camera)
    return reference, held_out, simulator, trajectory


def frames_to_hold_out(reference: Reference, count: int) -> list[int]:
    """Choose frames evenly over a recording (reference/held_out.py)."""
    if len(reference) < count + 2:
        raise ConfigurationError(f'{reference.name} has {len(reference)} frames, too few to hold {count} out of; at '
                                 'least two must be left')
    return evenly(len(reference), count)


def compare(whole: Reference, held_out: list[int], camera: PinholeCamera, folder: Path) -> dict[str, Any]:
    """Compare the images written with the frames held out, as they look through `camera`: PSNR on known pixels."""
    import cv2

    from inspatio_ros.evaluation.metrics import for_json, gain_fit_psnr
    from inspatio_ros.spatial.densify import grid_of_target, resample_colour
    grid, figures = grid_of_target(whole.camera, camera), []
    for i, index in enumerate(held_out):
        image = cv2.imread(str(folder / 'image' / f'{i:06d}.png'))[..., ::-1]
        known = cv2.imread(str(folder / 'mask' / f'{i:06d}.png'), cv2.IMREAD_UNCHANGED) > 0
        truth = resample_colour(whole.frame(index).image, grid)
        figures.append({'frame': index, 'psnr_db': for_json(gain_fit_psnr(image, truth, known), 2),
                        'known': round(float(known.mean()), 4)})
    usable = [figure['psnr_db'] for figure in figures if figure['psnr_db'] is not None]
    return {'held_out': figures, 'held_out_median_psnr_db': round(float(np.median(usable)), 2) if usable else None}


def describe(report: dict[str, Any]) -> str:
    """Lay out how the held out frames compare, for people."""
    lines = ['held out frame   PSNR on known pixels, gain fitted   known']
    for figure in report['held_out']:
        psnr = 'nothing known' if figure['psnr_db'] is None else f'{figure["psnr_db"]:.2f} dB'
        lines.append(f'{figure["frame"]:14d}   {psnr:>33}   {100 * figure["known"]:4.0f} %')
    median = report['held_out_median_psnr_db']
    return '\n'.join([*lines, 'median ' + ('unknown' if median is None else f'{median:.2f} dB')])


def scene_times(reference: Reference, trajectory: Trajectory) -> np.ndarray:
    """Give the time in the recording's clock that each pose shows, float64 [N].

    A trajectory recorded along with the recording has its clock: their times overlap, and its first is not just zero.
    Before the recording began it shows the first state. Any other trajectory starts with the recording's first frame.
    """
    start, end = reference.times[0], reference.times[-1]
    first, last = trajectory.times[0], trajectory.times[-1]
    if start <= first <= end or (first and first < start <= last):
        return np.maximum(trajectory.times, start)
    return trajectory.times - trajectory.times[0] + start


def render(simulator: WorldSimulator, trajectory: Trajectory, times: np.ndarray, folder: Path,
           apart: bool = False) -> dict[str, Any]:
    """Render every pose of a trajectory into a folder and give the report.

    `apart`: the poses are no path. Each is rendered from a fresh start in a block of its own, so that it neither shares
    the views that a block is fused from with the others, nor follows from them.
    """
    from inspatio_ros.evaluation.video import VideoWriter
    from inspatio_ros.tum import write_tum
    for name in ('image', 'mask', 'depth'):
        (folder / name).mkdir()
    start, seen, stages = time.perf_counter(), 0., {}
    total = len(trajectory)
    with VideoWriter(folder / 'video.mp4', simulator.width, simulator.height, simulator.frame_rate) as video:
        done = 0
        for block, count in (blocks_apart if apart else blocks)(simulator, trajectory.T_world_camera, times):
            for i in range(count):
                write_frame(folder, done + i, block, i)
                video.write(block.image[i])
                seen += float((block.mask[i] > 0).mean()) / total
            for stage, seconds in block.timings.items():
                stages[stage] = stages.get(stage, 0.) + seconds
            done += count
    write_tum(folder / 'trajectory.txt', trajectory.times, trajectory.T_world_camera)
    seconds = time.perf_counter() - start
    return {'generator': simulator.name, 'reference': simulator.reference.name, 'width': simulator.width,
            'height': simulator.height, 'frame_rate': simulator.frame_rate, 'seed': simulator.seed,
            'device': simulator.device, 'frames': total, 'seconds': round(seconds, 3),
            'frames_per_second': round(total / seconds, 2), 'seen': round(seen, 4),
            'stages_s': {stage: round(value, 3) for stage, value in stages.items()}}


def blocks(simulator: WorldSimulator, T_world_camera: np.ndarray, times: np.ndarray) -> Iterator[tuple[Block, int]]:
    """Make blocks of poses [N, 4, 4] at times [N], each rendered while the one before is made; with how many count."""
    counts: deque[int] = deque()

    def path() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        done = 0
        while done < len(times):
            index, count = poses_of_next_block(simulator, T_world_camera[done:])
            counts.append(count)
            yield T_world_camera[done + index], times[done + index]
            done += count
    for block in simulator.blocks(path()):
        yield block, counts.popleft()


def blocks_apart(simulator: WorldSimulator, T_world_camera: np.ndarray,
                 times: np.ndarray) -> Iterator[tuple[Block, int]]:
    """Make a block of its own from a fresh start for each of the poses [N, 4, 4], of which its first frame counts."""
    for i in range(len(times)):
        simulator.reset()
        yield next_block(simulator, T_world_camera[i:i + 1], times[i:i + 1])


def next_block(simulator: WorldSimulator, T_world_camera: np.ndarray, times: np.ndarray) -> tuple[Block, int]:
    """Make the next block of the poses that are left [N, 4, 4]; give it and how many of its frames count."""
    index, count = poses_of_next_block(simulator, T_world_camera)
    return simulator.step(T_world_camera[index], times[index]), count


def poses_of_next_block(simulator: WorldSimulator, T_world_camera: np.ndarray) -> tuple[np.ndarray, int]:
    """Give which of the poses that are left [N, 4, 4] the next block shows [F], and how many of its frames count.

    A generator makes whole blocks, so the last one holds its last pose as often as it takes. So does, with the render
    generator, whose frames do not follow from each other, one that ends where the poses jump: a block's frames share
    the views that they are fused from, and no few views show places far apart.
    """
    wanted = simulator.frames_in_next_block()
    count = min(wanted, len(T_world_camera))
    if simulator.name == 'render':
        count = count_near(T_world_camera[:count])
    return np.minimum(np.arange(wanted), count - 1), count


def count_near(T_world_camera: np.ndarray) -> int:
    """Count the poses [N, 4, 4] up to the first that is far from where they begin."""
    start = T_world_camera[0]
    way = np.linalg.norm(T_world_camera[:, :3, 3] - start[:3, 3], axis=1)
    turn = (np.einsum('nij,ij->n', T_world_camera[:, :3, :3], start[:3, :3]) - 1.) / 2.
    far = (way > NEAR_METRES) | (turn < np.cos(np.radians(NEAR_DEGREES)))
    return int(far.argmax()) if far.any() else len(far)


def write_frame(folder: Path, number: int, block: Block, i: int) -> None:
    """Write image, mask and depth of one frame of a block."""
    from inspatio_ros.evaluation.pictures import write_png
    from inspatio_ros.reference.rgbd import in_millimetres
    name = f'{number:06d}.png'
    write_png(folder / 'image' / name, block.image[i])
    write_png(folder / 'mask' / name, block.mask[i])
    write_png(folder / 'depth' / name, in_millimetres(block.z_depth[i]))
