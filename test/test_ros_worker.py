# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The node's worker: frames leave a block as they are decoded, none of a place that was left, and never too many."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip('rclpy')

from test_simulator import Wall  # noqa: E402

from inspatio_ros.geometry import invert, make_pose, se3_exp  # noqa: E402
from inspatio_ros.ros.drive import Drive, OdometryDrive, TwistDrive  # noqa: E402
from inspatio_ros.ros.worker import Worker, head_start  # noqa: E402
from inspatio_ros.ros.world import Frame, World  # noqa: E402
from inspatio_ros.simulator import WorldSimulator  # noqa: E402
from inspatio_ros.spatial.motion import Limits, start_frame  # noqa: E402
from inspatio_ros.star.pipeline import StarPipeline  # noqa: E402
from inspatio_ros.star.presets import TINY_GUIDED  # noqa: E402

RATE = 10.
PATIENCE = 60.


class Gate:
    """Holds the decoder back from the second latent of the next block on."""

    def __init__(self, pipeline: StarPipeline) -> None:
        self.open, self.decoded = threading.Event(), 0
        self.open.set()
        pipeline.autoencoder.guide.stem.register_forward_hook(self._pass)

    def _pass(self, *_: object) -> None:
        self.decoded += 1
        if self.decoded >= 2:
            assert self.open.wait(PATIENCE)

    def close(self) -> None:
        self.decoded = 0
        self.open.clear()


def make_world(odometry: bool = False, look_ahead: bool = False) -> World:
    """Put a robot in front of the wall, seen by a tiny STAR."""
    pipeline = StarPipeline.random(replace(TINY_GUIDED, width=48, height=32))
    wall = Wall()
    simulator = WorldSimulator(wall, pipeline, device='cpu', look_ahead=look_ahead)
    start = start_frame(wall.T_world_camera[0], wall.up)
    drive: Drive = (OdometryDrive(start.T_map_base, RATE, 'slow_down') if odometry
                    else TwistDrive(start.T_map_base, RATE, Limits(), 1e6))
    return World(simulator, start, drive, RATE, 'slow_down', lambda: 0.)


@pytest.fixture
def failures() -> list[BaseException]:
    return []


@pytest.fixture
def working(failures: list[BaseException]) -> Iterator[Callable[[World], Worker]]:
    """Start workers, and end them."""
    workers = []

    def start(world: World) -> Worker:
        worker = Worker(failures.append)
        workers.append(worker)
        worker.open(lambda: world).result(PATIENCE)
        return worker
    yield start
    assert all(worker.close(PATIENCE) for worker in workers)
    assert not failures


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def take(worker: Worker, count: int) -> list[Frame]:
    """Take frames as they come."""
    frames: list[Frame] = []
    while len(frames) < count:
        until(worker.peek)
        frames.append(worker.take())
    return frames


def images(frames: list[Frame]) -> np.ndarray:
    return np.stack([frame.block.image[frame.index] for frame in frames])


def expected(blocks: int) -> np.ndarray:
    """Give the images of a robot that stands at the start."""
    world = make_world()
    return np.concatenate([images([frame for part in world.make(True, 1) for frame in part]) for _ in range(blocks)])


def test_frames_wait_to_be_shown_as_soon_as_they_are_decoded(working) -> None:
    world = make_world()
    gate = Gate(world.simulator._generator)
    worker = working(world)
    gate.close()
    worker.run(True)
    until(lambda: worker.queued)
    assert worker.queued == 1 and worker.peek().count == 9, 'the first latent is one frame'
    assert worker.report().blocks == 0, 'the block is not made yet'
    gate.open.set()
    frames = take(worker, 21)
    np.testing.assert_array_equal(images(frames), expected(2))
    assert [frame.count for frame in frames] == [9] * 9 + [12] * 12
    assert [frame.index for frame in frames[:9]] == [0, 0, 1, 2, 3, 4, 5, 6, 7]
    assert len({frame.planned for frame in frames}) == 2
    until(lambda: worker.report().blocks >= 2)
    report = worker.report()
    assert all(0 < first < whole for first, whole in zip(report.first_latencies, report.latencies, strict=True))
    assert report.timings['all'] > report.timings['decode'] > 0


def test_no_frame_of_a_block_in_the_works_is_shown_after_a_reset(working) -> None:
    world = make_world()
    gate = Gate(world.simulator._generator)
    worker = working(world)
    world.drive.command([0.5, 0., 0., 0., 0., 0.], 0.)
    gate.close()
    worker.run(True)
    until(lambda: worker.queued)
    worker.reset()
    assert worker.queued == 0, 'at once, however long the block still takes'
    gate.open.set()
    frames = take(worker, 9)
    np.testing.assert_array_equal(images(frames), expected(1))
    assert all(np.array_equal(frame.T_map_base, world.start.T_map_base) for frame in frames)


def test_no_frame_of_a_block_in_the_works_is_shown_after_a_move(working) -> None:
    world = make_world()
    gate = Gate(world.simulator._generator)
    worker = working(world)
    gate.close()
    worker.run(True)
    until(lambda: worker.queued)
    target = make_pose(translation=np.array([0., 0.1, 0.])) @ world.start.T_map_base
    worker.move_to(target)
    assert worker.queued == 0
    gate.open.set()
    frames = take(worker, 12)
    assert frames[0].count == 12, 'the block in the works was made to its end, as the decoder needs it'
    assert all(np.array_equal(frame.T_map_base, target) for frame in frames)


def test_a_block_that_failed_in_the_middle_is_begun_anew_where_the_robot_was_seen(working, failures) -> None:
    world = make_world()
    pipeline, fails = world.simulator._generator, threading.Event()
    decoded = []

    def fail(*_: object) -> None:
        decoded.append(1)
        if fails.is_set() and len(decoded) >= 2:
            raise MemoryError('no room')
    handle = pipeline.autoencoder.guide.stem.register_forward_hook(fail)
    worker = working(world)
    world.drive.command([0.5, 0., 0., 0., 0., 0.], 0.)
    fails.set()
    worker.run(True)
    until(lambda: failures)
    handle.remove()
    shown = worker.take()
    planned = world.drive._driver.T_map_base
    assert planned[0, 3] > shown.T_map_base[0, 3]
    T_odom_base = invert(shown.T_map_odom) @ shown.T_map_base
    worker.recover((shown.T_map_base, T_odom_base))
    assert worker.queued == 0
    worker.resume()
    worker.run(True)
    again = take(worker, 9)[0]
    np.testing.assert_allclose(again.T_map_base, shown.T_map_base, atol=1e-12)
    np.testing.assert_allclose(invert(again.T_map_odom) @ again.T_map_base, T_odom_base, atol=1e-12)
    failures.clear()


def test_frames_left_out_of_odometry_are_counted_by_its_path_alone(working) -> None:
    world = make_world(odometry=True)
    world.overload = 'drop'
    worker = working(world)
    worker._latencies.extend([100.] * 3)
    worker._block_length = 12
    assert worker.report().stride == 1
    world.drive = make_world().drive
    assert worker.report().stride > 1


def test_a_pause_keeps_the_block_in_the_works_and_begins_no_other(working) -> None:
    world = make_world()
    gate = Gate(world.simulator._generator)
    worker = working(world)
    gate.close()
    worker.run(True)
    until(lambda: worker.queued)
    worker.run(False)
    gate.open.set()
    until(lambda: worker.report().blocks)
    assert worker.queued == 9
    take(worker, 9)
    time.sleep(0.1)
    assert worker.queued == 0 and worker.report().blocks == 1


def test_no_more_than_two_blocks_wait(working) -> None:
    worker = working(make_world())
    worker.run(True)
    until(lambda: worker.queued)
    blocks = -1
    while blocks != worker.report().blocks:
        blocks = worker.report().blocks
        time.sleep(0.3)
    # Nobody takes any, and it has come to a stand by itself.
    assert 9 <= worker.queued <= 24


def test_odometry_is_rendered_ahead_with_the_same_frames(working) -> None:
    """In the background, as the path is known; driven by twists the newest command decides."""
    shown, threads = [], []
    for look_ahead in (False, True):
        world = make_world(odometry=True, look_ahead=look_ahead)
        render = world.simulator._constraint.render

        def noting(*args: object, render: Callable = render) -> object:
            threads.append(threading.current_thread().name)
            return render(*args)
        world.simulator._constraint.render = noting
        for i in range(60):
            world.drive.push(i * 10**8, (0.01 * i, 0., 0.), (0., 0., 0., 1.))
        worker = working(world)
        worker.run(True)
        shown.append(images(take(worker, 9 + 4 * 12)))
        ahead = [name.startswith('inspatio_look_ahead') for name in threads]
        assert ahead == [False] + [look_ahead] * 4
        threads.clear()
    np.testing.assert_array_equal(*shown)


def test_a_block_is_begun_so_early_that_no_part_of_it_is_late() -> None:
    assert head_start([0.5], [12], 0.1) == 0.5
    # Frames come faster than they are shown: the first decides.
    assert head_start([0.3, 0.35, 0.4], [4, 4, 4], 0.1) == pytest.approx(0.3)
    # One frame is shown in no time.
    assert head_start([0.3, 0.5, 0.6], [1, 4, 4], 0.1) == pytest.approx(0.4)
    # Slower than real time.
    assert head_start([1., 2., 3.], [4, 4, 4], 0.1) == pytest.approx(2.2)


# --- cuts -------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(('away', 'cut'), [(3., True), (0.3, False)])
def test_a_robot_that_is_put_elsewhere_sees_nothing_of_where_it_was(away, cut):
    images = []
    for turned in (0., 0.4):
        world = make_world()
        world.drive.move_to(world.start.T_map_base @ se3_exp(np.array([0., 0., 0., 0., 0., turned])))
        list(world.make(True, 1))
        world.drive.move_to(world.start.T_map_base @ make_pose(translation=np.array([-away, 0., 0.])))
        parts = list(world.make(True, 1))
        images.append(np.concatenate([part[0].block.image for part in parts]).astype(int))
    # Stills that are encoded together are rounded otherwise than alone.
    assert (np.abs(images[0] - images[1]).max() <= 1) == cut
