# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The simulator: poses in, blocks out, the same every time, and never more than it should keep."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from inspatio_ros import generators
from inspatio_ros.errors import ConfigurationError
from inspatio_ros.evaluation.metrics import psnr
from inspatio_ros.geometry import PinholeCamera, make_pose, se3_exp
from inspatio_ros.reference import open_reference
from inspatio_ros.reference.base import Reference, ReferenceFrame
from inspatio_ros.simulator import WorldSimulator
from inspatio_ros.spatial.constraint import SpatialConstraint
from inspatio_ros.spatial.look_ahead import LookAhead, tensors_in
from inspatio_ros.spatial.pixels import to_uint8
from inspatio_ros.spatial.render import Condition
from inspatio_ros.star.pipeline import StarPipeline
from inspatio_ros.star.presets import TINY_GUIDED

SIZE = {'width': 96, 'height': 64}


class Wall(Reference):
    """A textured wall 2 m away, seen by a camera that moves sideways: everything about it is known."""

    def __init__(self, frames: int = 6, is_static: bool = True) -> None:
        """Draw the wall."""
        self.name, self.is_static = 'wall', is_static
        self.camera = PinholeCamera(80., 80., 47.5, 31.5, 96, 64)
        self.times = np.arange(frames) / 12.
        self.T_world_camera = np.stack([make_pose(translation=np.array([0.05 * i, 0., 0.])) for i in range(frames)])
        self.up = np.array([0., -1., 0.])

    def frame(self, index: int) -> ReferenceFrame:
        """Look at the wall: stripes along x that are smooth enough to be resampled."""
        x = (np.arange(96) - 47.5) / 80. * 2. + self.T_world_camera[index, 0, 3]
        row = np.stack([127 + 100 * np.sin(3. * x), 127 + 100 * np.cos(2. * x), 127 + 60 * np.sin(5. * x)], axis=-1)
        image = np.broadcast_to(row, (64, 96, 3)).round().astype(np.uint8)
        return ReferenceFrame(index, self.times[index], image, np.full((64, 96), 2., np.float32),
                              self.T_world_camera[index])


@pytest.fixture()
def star(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let 'nano' be a tiny instance of the real class."""
    def load(name: str, weights: object, device: str, width: int | None, height: int | None,
             speed: str, texture: bool) -> StarPipeline:
        return StarPipeline.random(replace(TINY_GUIDED, name='nano', width=width, height=height), speed=speed)
    monkeypatch.setattr(StarPipeline, 'load', load)


def poses_of(count: int, start: int = 0) -> np.ndarray:
    """Give a path along the wall that turns a little."""
    return np.stack([se3_exp(np.array([0.01 * i, 0., 0.004 * i, 0., 0.005 * i, 0.]))
                     for i in range(start, start + count)])


def test_the_recorded_pose_gives_the_recorded_frame() -> None:
    """At a pose of the recording, the picture is the recording's and nothing of it is made up."""
    wall = Wall()
    block = WorldSimulator(wall, **SIZE).step(wall.T_world_camera[2:3])
    assert block.image.shape == (1, 64, 96, 3)
    assert (block.mask == 255).all()
    assert psnr(block.image[0], wall.frame(2).image) > 45.
    np.testing.assert_allclose(block.z_depth, 2., atol=1e-3)


def test_a_step_sideways_shows_what_lies_there_and_masks_what_nobody_saw() -> None:
    """Half a metre to the left of everything recorded, the left edge is a hole and the rest moves as it must."""
    wall = Wall(frames=2)
    block = WorldSimulator(wall, fill='black', **SIZE).step(make_pose(translation=np.array([-0.5, 0., 0.]))[None])
    shift = round(80 * 0.5 / 2)
    assert (block.mask[0, :, :shift - 2] == 0).all() and (block.mask[0, :, shift + 2:] == 255).all()
    assert (block.image[0][block.mask[0] == 0] == 0).all()
    assert np.isnan(block.z_depth[0][block.mask[0] == 0]).all()
    np.testing.assert_allclose(block.image[0, 10, shift + 2:].astype(float), wall.frame(0).image[10, 2:-shift], atol=3)


@pytest.mark.parametrize('generator', ['render', 'nano'])
@pytest.mark.parametrize('is_static', [True, False])
def test_the_same_seed_gives_the_same_frames(star: None, generator: str, is_static: bool) -> None:
    """Two runs agree to the bit, before and after a reset; only STAR knows another seed."""
    first, second = (WorldSimulator(Wall(is_static=is_static), generator, seed=3, **SIZE) for _ in range(2))

    def run(simulator: WorldSimulator) -> np.ndarray:
        images, start = [], 0
        for _ in range(3):
            count = simulator.frames_in_next_block()
            images.append(simulator.step(poses_of(count, start)).image)
            start += count
        return np.concatenate(images)

    once = run(first)
    np.testing.assert_array_equal(once, run(second))
    first.reset()
    np.testing.assert_array_equal(once, run(first))
    first.reset(seed=4)
    assert (once != run(first)).any() == (generator == 'nano')


def test_blocks_of_star_have_9_frames_then_12_and_go_on_in_time(star: None) -> None:
    """Frames of a block, its index and its times."""
    simulator = WorldSimulator(Wall(), 'nano', **SIZE)
    blocks = [simulator.step(poses_of(simulator.frames_in_next_block())) for _ in range(3)]
    assert [len(block) for block in blocks] == [9, 12, 12]
    assert [block.index for block in blocks] == [0, 1, 2]
    times = np.concatenate([block.times for block in blocks])
    np.testing.assert_allclose(np.diff(times), 1. / simulator.frame_rate)
    assert {'render', 'encode', 'generate', 'decode', 'to_host', 'all'} <= set(blocks[0].timings)


def test_scene_time_runs_to_and_fro() -> None:
    """Beyond its end a recording is played backwards, and so on."""
    simulator = WorldSimulator(Wall(frames=7), **SIZE)
    np.testing.assert_allclose(simulator.scene_time(np.array([0., .25, .5, .6, .75, 1., 1.1])),
                               [0., .25, .5, .4, .25, 0., .1], atol=1e-12)


@pytest.mark.parametrize(('pause', 'cut'), [(0., False), (10., True)])
def test_a_moving_recording_seen_at_another_time_shows_nothing_of_before(star: None, pause: float, cut: bool) -> None:
    images = []
    for start in (0, 8):
        simulator = WorldSimulator(Wall(is_static=False), 'nano', **SIZE)
        simulator.step(poses_of(9, start))
        times = pause + (9 + np.arange(12)) / simulator.frame_rate
        images.append(simulator.step(poses_of(12, 9), times).image.astype(int))
    assert (np.abs(images[0] - images[1]).max() <= 1) == cut


def test_warming_up_leaves_no_trace(star: None) -> None:
    """A warm simulator gives what a cold one gives."""
    cold, warm = WorldSimulator(Wall(), 'nano', **SIZE), WorldSimulator(Wall(), 'nano', **SIZE)
    assert warm.warm_up() > 0.
    np.testing.assert_array_equal(cold.step(poses_of(9)).image, warm.step(poses_of(9)).image)


@pytest.mark.parametrize(('options', 'words'), [
    ({'generator': 'magic'}, 'render, nano, 1.3b'), ({'fill': 'magic'}, 'smooth, nearest, black'),
    ({'width': 100}, 'multiple of 16'), ({'height': -16}, 'multiple of 16'), ({'device': 'cuda:0'}, 'no GPU')])
def test_bad_options_are_refused_with_what_would_work(options: dict[str, object], words: str) -> None:
    """One sentence each."""
    import torch
    if 'device' in options and torch.cuda.is_available():
        pytest.skip('this machine has the device')
    with pytest.raises(ConfigurationError, match=words):
        WorldSimulator(Wall(), **options)


@pytest.mark.parametrize('poses', [np.eye(4), np.zeros((0, 4, 4)), np.full((4, 4, 4), np.nan),
                                   np.stack([np.diag((2., 2., 2., 1.))] * 4)])
def test_bad_poses_are_refused(poses: np.ndarray) -> None:
    """Shape, count, finiteness and rigidity."""
    with pytest.raises(ConfigurationError):
        WorldSimulator(Wall(), **SIZE).step(poses)


def test_star_refuses_a_block_of_another_length(star: None) -> None:
    """A block is what the network was trained on."""
    with pytest.raises(ConfigurationError, match='takes 9 poses, got 4'):
        WorldSimulator(Wall(), 'nano', **SIZE).step(poses_of(4))


def test_default_size_lies_within_a_camera_s_and_keeps_the_shape() -> None:
    """A small recording keeps its size, a large one is shrunk."""
    small = generators.RenderGenerator(PinholeCamera(500., 500., 269.5, 179.5, 540, 360))
    large = generators.RenderGenerator(PinholeCamera(1000., 1000., 959.5, 539.5, 1920, 1080))
    assert (small.width, small.height) == (544, 352)
    assert (large.width, large.height) == (832, 464)


def test_to_uint8_rounds_and_clamps() -> None:
    """-1 is 0, 1 is 255, and what lies beyond stays at the ends."""
    import torch
    values = torch.tensor([-2., -1., 0., 1., 2.]).view(1, 1, 1, 5).expand(1, 3, 1, 5)
    assert to_uint8(values)[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255]


# --- in parts ---------------------------------------------------------------------------------------------------------

ARRAYS = ('T_world_camera', 'times', 'image', 'condition', 'mask', 'z_depth')


@pytest.mark.parametrize('is_static', [True, False])
@pytest.mark.parametrize(('generator', 'sizes'), [('render', [[4], [4], [4]]),
                                                  ('nano', [[1, 8], [4, 8], [4, 8]])])
def test_a_stream_gives_the_frames_of_step_in_parts(star: None, generator: str, sizes: list, is_static: bool) -> None:
    """To the bit, each part a block of its own, the first of them the first latent's."""
    whole, streamed = (WorldSimulator(Wall(is_static=is_static), generator, seed=3, **SIZE) for _ in range(2))
    start = 0
    for index, wanted in enumerate(sizes):
        poses = poses_of(whole.frames_in_next_block(), start)
        start += len(poses)
        block, parts = whole.step(poses), list(streamed.stream(poses))
        assert [len(part) for part in parts] == wanted and all(part.index == block.index == index for part in parts)
        for name in ARRAYS:
            np.testing.assert_array_equal(np.concatenate([getattr(part, name) for part in parts]),
                                          getattr(block, name))
        assert list(parts[-1].timings) == list(block.timings) and parts[-1].timings['all'] > 0


def test_a_part_is_handed_over_before_the_next_is_decoded(star: None) -> None:
    """What was decoded can be shown while the rest is decoded; the whole can be had at any time."""
    simulator = WorldSimulator(Wall(), 'nano', **SIZE)
    decoded = []
    simulator._generator.autoencoder.guide.stem.register_forward_hook(lambda *_: decoded.append(1))
    stream = simulator.stream(poses_of(9))
    assert not decoded, 'nothing is generated before it is asked for'
    assert len(next(stream)) == 1 and len(decoded) == 1
    block = stream.whole()
    assert len(block) == 9 and len(decoded) == 2
    np.testing.assert_array_equal(block.image, WorldSimulator(Wall(), 'nano', **SIZE).step(poses_of(9)).image)


def test_a_block_must_be_made_to_its_end_or_forgotten(star: None) -> None:
    """The decoder goes on from where it was: a part left out would shift all that follow."""
    simulator = WorldSimulator(Wall(), 'nano', **SIZE)
    first = simulator.step(poses_of(9)).image
    next(simulator.stream(poses_of(12, 9)))
    with pytest.raises(RuntimeError, match='take all of its parts, or reset'):
        simulator.stream(poses_of(12, 21))
    simulator.reset()
    np.testing.assert_array_equal(simulator.step(poses_of(9)).image, first)


@pytest.mark.parametrize('made', [3, 5])
def test_a_generator_that_makes_another_number_of_frames_is_told(made: int) -> None:
    """Neither are frames missing without a word, nor is more written than there is room for."""
    class Miscounting(generators.RenderGenerator):
        def step(self, *given: object) -> tuple:
            images, seconds = super().step(*given)
            return images[[0] * made], seconds
    simulator = WorldSimulator(Wall(), Miscounting(Wall().camera, **SIZE))
    with pytest.raises(ValueError, match=f'render was to make 4 frames, but made {made}'):
        simulator.step(poses_of(4))


# --- one block ahead --------------------------------------------------------------------------------------------------


def path_of(simulator: WorldSimulator, blocks: int) -> Iterator[tuple[np.ndarray, None]]:
    """Give what `step` takes for block after block."""
    start = 0
    for _ in range(blocks):
        count = simulator.frames_in_next_block()
        yield poses_of(count, start), None
        start += count


@pytest.fixture()
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """Note for each render the thread that made it and where its first camera was."""
    made, render = [], SpatialConstraint.render

    def noting(self: SpatialConstraint, poses: np.ndarray, times: np.ndarray) -> Condition:
        made.append((threading.current_thread().name, float(poses[0, 0, 3])))
        return render(self, poses, times)
    monkeypatch.setattr(SpatialConstraint, 'render', noting)
    return made


@pytest.mark.parametrize('is_static', [True, False])
@pytest.mark.parametrize('generator', ['render', 'nano'])
def test_looking_ahead_changes_no_frame(star: None, rendered: list, generator: str, is_static: bool) -> None:
    """Every block but the first is rendered in the background, once, and the frames are the same."""
    runs = []
    for look_ahead in (False, True):
        simulator = WorldSimulator(Wall(is_static=is_static), generator, look_ahead=look_ahead, **SIZE)
        rendered.clear()
        runs.append(np.concatenate([block.image for block in simulator.blocks(path_of(simulator, 4))]))
        ahead = [name.startswith('inspatio_look_ahead') for name, _ in rendered]
        assert ahead == [False, look_ahead, look_ahead, look_ahead]
        simulator.close()
    np.testing.assert_array_equal(*runs)


def test_what_was_prepared_for_other_poses_is_not_used(rendered: list) -> None:
    """Neither is what was prepared for other times, nor before a reset."""
    simulator = WorldSimulator(Wall(is_static=False), look_ahead=True, **SIZE)
    expected = WorldSimulator(Wall(is_static=False), **SIZE).step(poses_of(4, 2), np.arange(4) / 12.).image
    rendered.clear()
    for prepare in (lambda: simulator.prepare(poses_of(4, 1), np.arange(4) / 12.),
                    lambda: simulator.prepare(poses_of(4, 2), np.arange(4) / 6.),
                    lambda: (simulator.prepare(poses_of(4, 2), np.arange(4) / 12.), simulator.reset())):
        prepare()
        np.testing.assert_array_equal(simulator.step(poses_of(4, 2), np.arange(4) / 12.).image, expected)
        assert rendered[-1][0] == threading.current_thread().name
    simulator.prepare(poses_of(4, 2), np.arange(4) / 12.)
    simulator.prepare(poses_of(4, 2), np.arange(4) / 12.)
    np.testing.assert_array_equal(simulator.step(poses_of(4, 2), np.arange(4) / 12.).image, expected)
    assert rendered[-1][0].startswith('inspatio_look_ahead') and len(rendered) <= 2 * 3 + 1


def test_what_goes_wrong_ahead_is_raised_by_the_step_that_wants_it() -> None:
    """A disk goes away for a while: who asks for those frames is told, who asks for others is not."""
    class Torn(Wall):
        torn = False

        def frame(self, index: int) -> ReferenceFrame:
            if self.torn:
                raise OSError('the disk is gone')
            return super().frame(index)
    reference = Torn()
    simulator = WorldSimulator(reference, look_ahead=True, **SIZE)
    reference.torn = True
    simulator.prepare(poses_of(4))
    simulator._ahead._ahead.rendered.exception()
    reference.torn = False
    with pytest.raises(OSError, match='the disk is gone'):
        simulator.step(poses_of(4))
    assert len(simulator.step(poses_of(4))) == 4
    with pytest.raises(ConfigurationError, match='pose 0 of the block is not a finite rigid transform'):
        simulator.prepare(np.full((4, 4, 4), np.nan))


def test_never_two_renders_at_once_and_none_after_the_end() -> None:
    """A render that nobody wants any more is waited for, since both use what is kept from block to block."""
    before = set(threading.enumerate())
    ahead, going = LookAhead('cpu'), threading.Event()
    running, most = [], []

    def render(poses: np.ndarray, times: np.ndarray) -> float:
        running.append(1)
        most.append(len(running))
        going.set()
        time.sleep(0.05)
        running.pop()
        return float(times[0])
    for value in range(4):
        going.clear()
        ahead.start(render, np.eye(4)[None], np.array([value + 0.5]))
        going.wait()
        assert ahead.take(render, np.eye(4)[None], np.array([float(value)])) == value
    assert max(most) == 1 and len(most) == 8
    ahead.start(render, np.eye(4)[None], np.array([9.]))
    ahead.close()
    assert not running and set(threading.enumerate()) <= before


def test_tensors_are_found_wherever_a_generator_is_given_them() -> None:
    """Each must be handed from stream to stream on a GPU."""
    import torch
    one, two, three, four = (torch.zeros(1) for _ in range(4))
    found = list(tensors_in((Condition(one, two, three), four, (0, 1), None)))
    assert all(a is b for a, b in zip(found, (one, two, three, four), strict=True))


def test_memory_does_not_grow_with_the_run(star: None) -> None:
    """No more tensors are alive after 40 blocks than after 10."""
    import torch
    simulator = WorldSimulator(Wall(), 'nano', **SIZE)

    def run(blocks: int) -> int:
        for _ in range(blocks):
            simulator.step(poses_of(simulator.frames_in_next_block()))
        gc.collect()
        return sum(x.numel() * x.element_size() for x in gc.get_objects() if issubclass(type(x), torch.Tensor))

    # Other tests' garbage may go meanwhile; nothing may come.
    after_ten = run(10)
    assert run(30) <= after_ten


def test_the_sample_opens_and_shows_itself() -> None:
    """The built-in recording at its own start."""
    sample = open_reference('sample')
    simulator = WorldSimulator(sample, width=208, height=112, max_views=1)
    block = simulator.step(sample.T_world_camera[:1], sample.times[:1])
    image, _ = sample.truth(simulator.camera, sample.T_world_camera[0], sample.times[0])
    known = block.mask[0] > 0
    assert known.mean() > 0.95
    assert psnr(block.image[0], image, known) > 24.


def test_closing_lets_go_of_the_networks_at_once() -> None:
    gc.collect()
    gc.disable()
    try:
        pipeline = StarPipeline.random(replace(TINY_GUIDED, width=48, height=32))
        simulator, network = WorldSimulator(Wall(), pipeline, device='cpu'), weakref.ref(pipeline.transformer)
        del pipeline
        assert network() is not None
        simulator.close()
        assert network() is None
    finally:
        gc.enable()
