# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Clips made while training: those of today stay what they are, the pool renews itself, and training runs on it."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from test_training import TINY

from inspatio_ros.config import to_dict
from inspatio_ros.errors import ConfigurationError, RecordingError
from inspatio_ros.scenes.clips import HELD_OUT_SEEDS, TRAIN_SEEDS_START, make_clip, random_scene
from inspatio_ros.scenes.paths import PATHS
from inspatio_ros.training.checkpoint import CheckpointError, load_tensors
from inspatio_ros.training.clips import ClipConfig, training_clip, write_clips
from inspatio_ros.training.clips import main as clips_main
from inspatio_ros.training.data import IMAGES, ClipFolder, Clips
from inspatio_ros.training.scenes import EndlessClips, EndlessConfig, open_endless, read_photographs
from inspatio_ros.training.train import main, read_plan

SMALL = ClipConfig(48, 32)
ENDLESS = EndlessConfig(pool=3, draws_per_clip=2, ahead=1, held_out=2)


def checksum(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:12]


def tensors(clip: Clips) -> list[torch.Tensor]:
    return [*(getattr(clip, name) for name in IMAGES), clip.views.block.inverse_depth, clip.views.K]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- clips of a seed --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(('seed', 'known'), [(0, 'fb1d00d4090b'), (5, '043b014397a2'), (1000003, '7b78d20998d8')])
def test_scenes_of_a_seed_stay_what_they_are(seed: int, known: str) -> None:
    scene = random_scene(seed)
    # Powers differ in their last bits from one kind of processor to the next.
    assert checksum(scene.shape, scene.T_world_object, scene.half_size, scene.material, scene.pattern,
                    scene.colours.round(9) + 0., scene.numbers) == known


@pytest.mark.parametrize(('seed', 'known'), [(1, '8cce58e5e295'), (1000000, '5ff69de9027b')])
def test_clips_of_a_seed_stay_what_they_are(seed: int, known: str) -> None:
    clip = make_clip(seed, 48, 32, 7, 5)
    assert checksum(*[clip[name] for name in sorted(clip)]) == known


@pytest.mark.parametrize(('seed', 'known'), [(1000000, '2757e90448b6'), (1000001, '59340ec1504e')])
def test_training_clips_of_a_seed_stay_what_they_are(seed: int, known: str) -> None:
    clip = training_clip(seed, SMALL)
    assert checksum(*[part.numpy() for part in (clip.truth, clip.filled, clip.mask, clip.reference)]) == known


def test_processes_share_the_seeds_and_write_what_one_would(tmp_path) -> None:
    for workers, folder in ((1, 'one'), (2, 'two')):
        write_clips(tmp_path / folder, 3, TRAIN_SEEDS_START, SMALL, twins=True, workers=workers)
    ours, theirs = (sorted((tmp_path / folder).iterdir()) for folder in ('one', 'two'))
    assert [path.name for path in ours] == [path.name for path in theirs] and len(ours) == 6
    for one, other in zip(ours, theirs, strict=True):
        (mine, about), (same, about_same) = load_tensors(one), load_tensors(other)
        assert about == about_same and mine.keys() == same.keys()
        assert all(torch.equal(value, same[name]) for name, value in mine.items())


def test_clips_are_made_in_the_size_of_a_configuration(tmp_path, capsys) -> None:
    config = tmp_path / 'tiny.yaml'
    config.write_text(yaml.safe_dump({'generator': to_dict(TINY)}))
    command = ['--output', str(tmp_path / 'clips'), '--count', '1', '--held-out', '--config']
    assert clips_main([*command, str(config)]) == 0
    made = ClipFolder(tmp_path / 'clips')
    made.check_size(TINY.width, TINY.height)
    assert torch.equal(next(made.batches(1)).truth,
                       training_clip(HELD_OUT_SEEDS.start, replace(SMALL, spoil=False)).truth)
    with pytest.raises(ConfigurationError, match='is 48x32, but the images of the configuration are 48x64'):
        made.check_size(48, 64)
    assert clips_main([*command, str(tmp_path / 'nowhere.yaml')]) == 1
    assert 'nowhere.yaml cannot be read' in capsys.readouterr().err


def test_seed_that_fails_in_a_process_ends_all(tmp_path) -> None:
    (tmp_path / 'clips').write_text('a file where the folder should be')
    with pytest.raises(CheckpointError, match='could not be written'):
        write_clips(tmp_path / 'clips', 4, TRAIN_SEEDS_START, SMALL, workers=2)


@pytest.mark.parametrize('seed', [1000000, 1000002, 1000004])
def test_clips_made_in_torch_are_those_of_the_kernels(seed: int) -> None:
    """Cast, render and fill in torch all the way; the two renders differ where rounding shares out a pixel."""
    ours, theirs = training_clip(seed, replace(SMALL, kernel='torch')), training_clip(seed, SMALL)
    assert ours.stills == theirs.stills
    for name, share in (('truth', .995), ('reference', .995), ('mask', .99), ('filled', .95)):
        off = (getattr(ours, name).int() - getattr(theirs, name).int()).abs()
        assert (off <= 1).float().mean() >= share, name


def test_paths_of_other_kinds_are_drawn_by_the_seed() -> None:
    config = replace(SMALL, paths=tuple(PATHS))
    drawn = [config.path(seed) for seed in range(60)]
    assert set(drawn) == set(PATHS) and drawn == [config.path(seed) for seed in range(60)]


# --- the pool ---------------------------------------------------------------------------------------------------------

@pytest.fixture
def pool():
    clips = EndlessClips(ENDLESS, SMALL)
    yield clips
    clips.close()


def test_the_pool_renews_itself_and_stays_as_large(pool: EndlessClips) -> None:
    before = set(pool._clips)
    for step in range(10):
        batch = pool.draw(2, generator(step))
        assert batch.truth.shape == (2, 21, 3, 32, 48) and batch.truth.dtype == torch.uint8
        assert len(pool) == ENDLESS.pool
    # Five clips were ordered, and all but the last have come; so none is left of the first three.
    assert pool.made == 4 and not before & set(pool._clips)
    assert all(int(name) >= TRAIN_SEEDS_START for name in (*before, *pool._clips))
    assert 'seeds 1000000-1000002, and 4 drawn from 1000003 on' in pool.description()
    assert sum(len(batch) for batch in pool.batches(2)) == ENDLESS.pool


def test_the_same_steps_see_the_same_clips_and_others_see_others(pool: EndlessClips) -> None:
    again = EndlessClips(ENDLESS, SMALL)
    for step in range(6):
        for one, other in zip(tensors(pool.draw(1, generator(step))), tensors(again.draw(1, generator(step))),
                              strict=True):
            assert torch.equal(one, other)
    assert set(pool._clips) == set(again._clips)
    for step in range(100, 106):
        again.draw(1, generator(step))
    assert not set(pool._clips) & set(again._clips)
    again.close()


def test_single_frames_renew_the_pool_too(pool: EndlessClips) -> None:
    for step in range(10):
        assert pool.draw_frames(2, generator(step))[0].shape == (2, 3, 32, 48)
        assert len(pool) == ENDLESS.pool
    assert pool.made == 4


def test_generator_that_is_drawn_from_for_long_orders_its_clip_once(pool: EndlessClips) -> None:
    lasting = generator(7)
    for _ in range(12):
        pool.draw(1, lasting)
        assert len(pool) == len(pool._ages) == ENDLESS.pool
    for step in range(100, 108):
        pool.draw(1, generator(step))
        assert len(pool) == len(pool._ages) == ENDLESS.pool
    assert pool.made == 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_clips_that_a_gpu_makes_do_not_stay_there() -> None:
    clips, held_out = open_endless(ENDLESS, 48, 32, 12., 'cuda')
    for step in range(6):
        clips.draw(1, generator(step))
    clips.close()
    for source in (clips, held_out):
        assert all(part.device.type == 'cpu' for clip in source._clips.values() for part in tensors(clip))


def test_what_goes_wrong_in_the_background_is_raised_in_front(pool: EndlessClips) -> None:
    pool.config = replace(SMALL, kernel='slate')
    with pytest.raises(Exception, match='slate'):
        for step in range(6):
            pool.draw(1, generator(step))


def test_held_out_clips_are_those_of_the_held_out_seeds() -> None:
    clips, held_out = open_endless(ENDLESS, 48, 32, 12., 'cpu')
    clips.close()
    assert [int(name) for name in held_out._clips] == list(HELD_OUT_SEEDS[:2])
    known = training_clip(HELD_OUT_SEEDS[1], replace(SMALL, spoil=False))
    assert any(torch.equal(batch.filled, known.filled) for batch in held_out.batches(1))


# --- settings ---------------------------------------------------------------------------------------------------------

def test_bad_settings_are_named() -> None:
    with pytest.raises(ConfigurationError, match=r'endless\.pool must be at least 1'):
        EndlessConfig(pool=0)
    with pytest.raises(ConfigurationError, match=r'endless\.paths: fly is unknown; choose among swing, robot'):
        EndlessConfig(paths=('fly',))
    with pytest.raises(ConfigurationError, match=r'1000 held-out seeds'):
        EndlessConfig(held_out=1001)


def test_photographs_come_from_a_folder_that_may_be_used(tmp_path, capsys) -> None:
    with pytest.raises(RecordingError, match='name a folder of JPEG or PNG images'):
        read_photographs(tmp_path, 2)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (200, 300, 3)).astype(np.uint8)).save(tmp_path / 'a.png')
    (tmp_path / 'b.jpg').write_bytes(b'not an image')
    Image.new('RGB', (500, 127)).save(tmp_path / 'c.png')
    atlas = read_photographs(tmp_path, 5)
    said = capsys.readouterr().err
    assert 'b.jpg is skipped' in said and 'c.png is skipped: 500 x 127 pixels are fewer' in said
    assert atlas.shape == (5, 128, 256, 3) and atlas.dtype == np.float32 and 0. <= atlas.min() < atlas.max() <= 1.
    shown = replace(SMALL, photographs=atlas, photographed=1.)
    assert not torch.equal(training_clip(1000000, shown).truth, training_clip(1000000, SMALL).truth)
    (tmp_path / 'LICENSE').write_text('CC BY-NC 4.0, non-commercial use only')
    with pytest.raises(RecordingError, match='not trained on'):
        read_photographs(tmp_path, 5)


def test_training_from_the_command_line(tmp_path, capsys) -> None:
    stage = {'steps': 4, 'batch_size': 1, 'precision': 'float32', 'save_every': 2}
    plan = {'generator': to_dict(TINY), 'loss': {'crop': [32, 32]},
            'stages': {'autoencoder': stage, 'initialisation': stage}, 'encoding': {'variants': 2},
            'endless': {'pool': 2, 'draws_per_clip': 1, 'ahead': 1, 'held_out': 1, 'paths': ['robot', 'orbit']}}
    config = tmp_path / 'tiny.yaml'
    config.write_text(yaml.safe_dump(plan))
    assert read_plan(config).endless.paths == ('robot', 'orbit')
    assert main(['--config', str(config), '--data', 'endless', '--output', str(tmp_path / 'run'), '--stage', 'all',
                 '--threads', '1']) == 0, capsys.readouterr().err
    assert capsys.readouterr().out.count('each batch is encoded as it is drawn') == 1
    assert not (tmp_path / 'run' / 'latents').exists()
    written = (tmp_path / 'run' / 'weights').glob('*.safetensors')
    assert any(b'endless procedural scenes: seeds 1000000-1000001' in file.read_bytes() for file in written)
