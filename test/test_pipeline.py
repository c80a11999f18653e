# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""STAR from pixels to pixels: streams like the whole clip, repeats itself under a seed, and never grows."""

from __future__ import annotations

import gc
from dataclasses import replace

import pytest
import torch

from inspatio_ros import cli
from inspatio_ros.config import ConfigurationError
from inspatio_ros.errors import WeightsError
from inspatio_ros.spatial.fill import fill
from inspatio_ros.spatial.positions import BlockViews, TokenViews
from inspatio_ros.spatial.render import Condition
from inspatio_ros.star import checkpoint, pipeline
from inspatio_ros.star.checkpoint import WEIGHTS_VARIABLE, save_config, save_tensors
from inspatio_ros.star.condition import pack_mask
from inspatio_ros.star.pipeline import KEPT_STILLS, StarPipeline, store_caption
from inspatio_ros.star.presets import RELEASED, TINY, TINY_GUIDED
from inspatio_ros.star.text import save_embedding

WIDTH, HEIGHT = 48, 32
CONFIGS = [replace(config, width=WIDTH, height=HEIGHT) for config in (TINY, TINY_GUIDED)]
FLOW, GUIDED = CONFIGS
BLOCKS = (9, 12, 12)


def condition(frames, seed=0):
    """Smooth random images with a hole that moves."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.nn.functional.interpolate(torch.rand(frames, 3, 4, 6, generator=generator) * 2 - 1, (HEIGHT, WIDTH),
                                            mode='bilinear')
    mask = torch.ones(frames, 1, HEIGHT, WIDTH)
    for i in range(frames):
        mask[i, :, 4:20, (3 * i) % 30:(3 * i) % 30 + 12] = 0
    return Condition(torch.where(mask > 0, image, -1.), mask, torch.where(mask[:, 0] > 0, 2., torch.nan))


def stills(seed=0, count=3):
    return condition(count, 100 + seed).image


def run(pipe, blocks=3, keys=(0, 1, 2), seed=0):
    return [pipe.step(condition(pipe.frames_in_next_block(), seed + block), stills(), keys)[0]
            for block in range(blocks)]


@pytest.mark.parametrize('config', CONFIGS, ids=lambda config: config.name)
def test_blocks_have_their_frames_range_and_timings(config):
    pipe = StarPipeline.random(config)
    for block, frames in enumerate(BLOCKS):
        assert pipe.frames_in_next_block() == frames
        images, timings = pipe.step(condition(frames, block), stills(), (0, 1, 2))
        assert images.shape == (frames, 3, HEIGHT, WIDTH)
        assert images.dtype == torch.float32
        assert -1. <= float(images.min()) < float(images.max()) <= 1.
        assert list(timings) == ['fill', 'encode', 'generate', 'decode']
        assert all(seconds > 0 for seconds in timings.values())


@pytest.mark.parametrize('moving', [False, True])
@pytest.mark.parametrize('config', CONFIGS, ids=lambda config: config.name)
def test_streaming_equals_the_whole_clip(config, moving):
    """Encode the whole clip, generate every block, decode the whole clip: the same frames as block by block."""
    pipe, whole = StarPipeline.random(config), StarPipeline.random(config)
    parts = [condition(frames, block) for block, frames in enumerate(BLOCKS)]
    references = [condition(frames, 50 + block).image if moving else stills(block)
                  for block, frames in enumerate(BLOCKS)]
    keys = [None if moving else tuple(range(3 * block, 3 * block + 3)) for block in range(3)]
    streamed = torch.cat([pipe.step(*given)[0] for given in zip(parts, references, keys, strict=True)])

    net, blocks = whole.autoencoder, whole.blocks
    mask = torch.cat([part.mask for part in parts])[None]
    pixels = (torch.cat([fill(part, config.condition_fill) for part in parts])[None] + 1) / 2
    with torch.inference_mode():
        render = net.encode(pixels)
        if moving:
            reference = net.encode((torch.cat(references)[None] + 1) / 2)
        else:
            reference = torch.cat([net.encode((image[None, None] + 1) / 2) for image in torch.cat(references)], dim=1)
        packed = pack_mask(mask * 2 - 1, first=True)
        state = blocks.init(1, torch.Generator().manual_seed(0))
        latent = torch.cat([blocks.step(state, reference[:, i:i + 3], render[:, i:i + 3], packed[:, i:i + 3])
                            for i in (0, 3, 6)], dim=1)
        at_once = net.decode(latent, (pixels, mask) if config.autoencoder.guided else None)[0] * 2 - 1
    torch.testing.assert_close(streamed, at_once, rtol=0, atol=1e-4)


@pytest.mark.parametrize('config', CONFIGS, ids=lambda config: config.name)
def test_a_seed_repeats_after_reset(config):
    pipe = StarPipeline.random(config, seed=5)
    first = run(pipe)
    pipe.reset(6)
    other = run(pipe)
    pipe.reset(5)
    assert all(torch.equal(a, b) for a, b in zip(first, run(pipe), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize('config', [*CONFIGS, replace(GUIDED, positions='reprojected')],
                         ids=['flow', 'guided', 'placed'])
def test_behind_a_cut_nothing_of_before_is_seen(config):
    def after(seed, forget):
        pipe = StarPipeline.random(config)
        views = views_of if config.positions == 'reprojected' else lambda frames: None
        for block in range(2):
            frames = pipe.frames_in_next_block()
            pipe.step(condition(frames, seed + block), stills(), (0, 1, 2), views(frames))
        if forget:
            pipe.forget()
        return [pipe.step(condition(12, 90 + block), stills(), (0, 1, 2), views(12))[0] for block in range(2)]

    for one, other in zip(after(0, True), after(50, True), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(after(0, False)[0], after(50, False)[0])


@pytest.mark.parametrize('moving', [False, True])
@pytest.mark.parametrize('config', CONFIGS, ids=lambda config: config.name)
def test_behind_a_cut_streams_start_as_they_were_trained_to(config, moving, monkeypatch):
    """As those of a clip whose first frame is the block's, shown once more; that one is not given out."""
    pipe = StarPipeline.random(config)
    given = (stills(), (0, 1, 2)) if not moving else (condition(12, 70).image, None)
    pipe.step(condition(9), *(given if not moving else (condition(9, 60).image, None)))
    pipe.forget(reference=moving)
    part, seen, step = condition(12, 80), [], pipe.blocks.step
    monkeypatch.setattr(pipe.blocks, 'step', lambda *a, **k: seen.append((*a, step(*a, **k))) or seen[-1][-1])
    images = pipe.step(part, *given)[0]
    [(_, reference, render, _, made)] = seen

    net = pipe.autoencoder

    def once_more(frames):
        return torch.cat([frames[:1], frames])[None]
    with torch.inference_mode():
        pixels = (once_more(fill(part, config.condition_fill)) + 1) / 2
        encoded = net.encode(pixels)
        guide = (pixels, once_more(part.mask)) if config.autoencoder.guided else None
        decoded = net.decode(torch.cat([encoded[:, :1], made], dim=1), guide)[0, 1:] * 2 - 1
        if moving:
            aligned = net.encode((once_more(given[0]) + 1) / 2)
            torch.testing.assert_close(reference, aligned[:, 1:], rtol=0, atol=1e-5)
    torch.testing.assert_close(render, encoded[:, 1:], rtol=0, atol=1e-5)
    torch.testing.assert_close(images, decoded, rtol=0, atol=1e-4)


def views_of(frames):
    """Where a block and its stills are seen from: one place."""
    at = torch.eye(4, dtype=torch.float64)
    seen = [TokenViews(at.expand(1, count, 4, 4), torch.full((1, count, HEIGHT // 16, WIDTH // 16), .5))
            for count in (frames, 3)]
    return BlockViews(torch.tensor([[[40., 0., 24.], [0., 40., 16.], [0., 0., 1.]]], dtype=torch.float64), *seen)


def test_random_pipelines_do_not_touch_the_global_seed():
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    StarPipeline.random(FLOW)
    assert torch.equal(torch.rand(1), expected)


def test_holes_are_filled_as_the_configuration_says():
    given = condition(9)
    images = [StarPipeline.random(replace(GUIDED, condition_fill=method)).step(given, stills())[0]
              for method in ('black', 'nearest', 'smooth')]
    assert (images[0] - images[1]).abs().max() > 1e-3
    assert (images[1] - images[2]).abs().max() > 1e-3


def test_every_input_counts():
    given = condition(9)
    base = StarPipeline.random(FLOW).step(given, stills())[0]
    changed = Condition(given.image, torch.zeros_like(given.mask), given.z_depth)
    for other in ((changed, stills()), (condition(9, seed=3), stills()), (given, stills(1))):
        assert (StarPipeline.random(FLOW).step(*other)[0] - base).abs().max() > 1e-2


# --- reference -------------------------------------------------------------------------------------------------------


def count_encoded(pipe):
    """Count the frames that the encoder sees."""
    seen = []
    pipe.autoencoder.encoder[0].register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    return seen


def test_stills_are_encoded_once():
    pipe = StarPipeline.random(FLOW)
    seen = count_encoded(pipe)
    pipe.step(condition(9), stills(), (4, 4, 7))
    first = sum(seen)
    pipe.step(condition(12), stills(), (7, 4, 7))
    # Nine frames and three start-up ones, two stills that are a group of four each; then twelve frames alone.
    assert (first, sum(seen) - first) == (12 + 2 * 4, 12)


def test_a_key_stands_for_its_image():
    by_key, without = StarPipeline.random(FLOW), StarPipeline.random(FLOW)
    images = stills()[[0, 1, 0]]
    found = [pipe.step(condition(9), images, keys)[0] for pipe, keys in ((by_key, (8, 3, 8)), (without, None))]
    torch.testing.assert_close(*found, rtol=0, atol=1e-5)


def test_kept_stills_are_bounded_and_forgotten_by_reset():
    pipe = StarPipeline.random(FLOW)
    for block in range(KEPT_STILLS // 3 + 3):
        pipe.step(condition(pipe.frames_in_next_block()), stills(block), tuple(range(3 * block, 3 * block + 3)))
    assert len(pipe._stills) == KEPT_STILLS
    pipe.reset()
    before = pipe.step(condition(9), stills(), (0, 1, 2))[0]
    pipe.reset()
    assert (pipe.step(condition(9), stills(5), (0, 1, 2))[0] - before).abs().max() > 1e-2


def test_moving_references_are_a_stream():
    """The same frames after others give other latents, because the encoder remembers what came before."""
    one, other = StarPipeline.random(FLOW), StarPipeline.random(FLOW)
    for pipe, seed in ((one, 1), (other, 2)):
        pipe.step(condition(9), condition(9, seed).image)
        pipe._state.previous = torch.zeros_like(pipe._state.previous)
    found = [pipe.step(condition(12), condition(12, 9).image)[0] for pipe in (one, other)]
    assert (found[0] - found[1]).abs().max() > 1e-3


@pytest.mark.parametrize('frames, images, keys, message', [
    (12, 3, None, r'condition of this block must be \(9, 3, 32, 48\), got \(12, 3, 32, 48\)'),
    (9, 4, None, r'3 stills or 9 frames of \(3, 32, 48\), got \(4, 3, 32, 48\)'),
    (9, 3, (1, 2), '2 keys for 3 reference images'),
    (9, 9, (1, 2, 3), '3 keys for 9 reference images'),
])
def test_inputs_that_do_not_fit_are_named(frames, images, keys, message):
    with pytest.raises(ValueError, match=message):
        StarPipeline.random(FLOW).step(condition(frames), stills(count=images), keys)


# --- memory ----------------------------------------------------------------------------------------------------------


def live_bytes():
    # What other tests left goes in several rounds: a graph that is freed lets go of the next one.
    while gc.collect():
        pass
    storages = {}
    for thing in gc.get_objects():
        if type(thing) in (torch.Tensor, torch.nn.Parameter):
            storage = thing.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


@pytest.mark.parametrize('config', CONFIGS, ids=lambda config: config.name)
def test_memory_is_flat_over_two_hundred_blocks(config):
    pipe = StarPipeline.random(config)
    given, more = condition(9), condition(12)
    pipe.step(given, stills(), (0, 1, 2))
    held = {}
    for block in range(1, 201):
        pipe.step(more, stills(), (block % 5, 1, 2))
        if block in (10, 200):
            held[block] = live_bytes()
    assert held[200] == held[10]


# --- folders of weights ----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Store a random pipeline as a folder of weights."""
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    monkeypatch.setattr(checkpoint, 'packaged_folder', lambda name: tmp_path / 'packaged' / name)
    return store(StarPipeline.random(GUIDED, seed=3), tmp_path / GUIDED.name)


def store(pipe, folder):
    save_config(folder, pipe.config)
    save_tensors(folder / 'transformer.safetensors', pipe.transformer.state_dict())
    save_tensors(folder / 'autoencoder.safetensors', pipe.autoencoder.state_dict())
    save_embedding(folder / 'text.safetensors', pipe.blocks.text_embedding, 'a room')
    return folder


def test_a_stored_pipeline_gives_the_same_frames(folder):
    loaded = StarPipeline.load(GUIDED.name, folder)
    assert loaded.config == GUIDED
    expected = StarPipeline.random(GUIDED, seed=3)
    expected.reset(0)
    assert all(torch.equal(a, b) for a, b in zip(run(loaded), run(expected), strict=True))


def test_another_size_than_the_trained_one_works(folder):
    loaded = StarPipeline.load(GUIDED.name, folder, width=64, height=48)
    assert (loaded.width, loaded.height) == (64, 48)
    blank = Condition(torch.zeros(9, 3, 48, 64), torch.ones(9, 1, 48, 64), torch.ones(9, 48, 64))
    assert loaded.step(blank, torch.zeros(3, 3, 48, 64))[0].shape == (9, 3, 48, 64)
    with pytest.raises(ConfigurationError, match='width 65 is not a positive multiple of'):
        StarPipeline.load(GUIDED.name, folder, width=65)


@pytest.mark.parametrize('name, what', [('transformer.safetensors', 'transformer'),
                                        ('autoencoder.safetensors', 'autoencoder'),
                                        ('text.safetensors', 'stored text embedding'), ('config.json', 'config.json')])
def test_a_missing_file_is_named(folder, name, what):
    (folder / name).unlink()
    with pytest.raises(WeightsError, match=f'{folder} holds no {what}.*{name if name != "config.json" else ""}'):
        StarPipeline.load(GUIDED.name, folder)


def test_a_truncated_file_is_named(folder):
    path = folder / 'transformer.safetensors'
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match='transformer.safetensors is truncated'):
        StarPipeline.load(GUIDED.name, folder)


def test_weights_of_another_generator_are_refused(folder):
    with pytest.raises(WeightsError, match="holds the weights of 'tiny-guided', not of 'nano'"):
        StarPipeline.load('nano', folder)


def test_a_released_folder_is_found_by_its_own_names(folder, tmp_path, monkeypatch):
    """No configuration, the released names in sub-folders, a wrapper on the transformer, a .pth autoencoder."""
    monkeypatch.setattr(pipeline, 'RELEASED', replace(FLOW, name=RELEASED.name))
    pipe = StarPipeline.random(FLOW, seed=3)
    root = tmp_path / 'checkpoints'
    save_tensors(root / 'InSpatio-World-1.3B' / 'InSpatio-World-1.3B.safetensors',
                 {f'model.{name}': value for name, value in pipe.transformer.state_dict().items()})
    # As the release's own download lays them: the 14B, and Wan's own configuration.
    (root / 'InSpatio-World').mkdir()
    (root / 'InSpatio-World' / 'InSpatio-World.safetensors').write_bytes(b'another')
    (root / 'config.json').write_text('{"_class_name": "WanModel", "dim": 1536}')
    (root / 'taehv').mkdir()
    torch.save(pipe.autoencoder.state_dict(), root / 'taehv' / 'taew2_1.pth')
    with pytest.raises(WeightsError, match=r'text\.safetensors there, or have `inspatio caption` make it'):
        StarPipeline.load(RELEASED.name, root)
    save_embedding(root / 'text.safetensors', pipe.blocks.text_embedding, 'a room')
    loaded = StarPipeline.load(RELEASED.name, root)
    pipe.reset(0)
    assert all(torch.equal(a, b) for a, b in zip(run(loaded), run(pipe), strict=True))


@pytest.mark.parametrize('name, what', [('models_t5_umt5-xxl-enc-bf16.pth', 'text encoder'),
                                        ('umt5-xxl/tokenizer.json', 'tokenizer')])
def test_a_caption_needs_the_files_of_its_encoder(folder, name, what, capsys):
    (folder / 'umt5-xxl').mkdir()
    for other in {'models_t5_umt5-xxl-enc-bf16.pth', 'umt5-xxl/tokenizer.json'} - {name}:
        (folder / other).touch()
    command = ['caption', 'a room', '--weights', str(folder)]
    assert cli.main(command) == 1 and 'text.safetensors holds a caption already' in capsys.readouterr().err
    before = (folder / 'text.safetensors').read_bytes()
    assert cli.main([*command, '--force']) == 1 and f'holds no {what}; put ' in capsys.readouterr().err
    assert (folder / 'text.safetensors').read_bytes() == before
    for call in (lambda: StarPipeline.load(GUIDED.name, folder, caption='a room'),
                 lambda: store_caption(folder, 'a room')):
        with pytest.raises(WeightsError, match=f'holds no {what}; put .*{name}'):
            call()


def test_of_two_encoders_the_one_beside_the_small_model_is_taken(tmp_path):
    for model in ('Wan2.1-I2V-14B-480P', 'Wan2.1-T2V-1.3B'):
        (tmp_path / model / 'google' / 'umt5-xxl').mkdir(parents=True)
        (tmp_path / model / 'models_t5_umt5-xxl-enc-bf16.pth').touch()
        (tmp_path / model / 'google' / 'umt5-xxl' / 'tokenizer.json').touch()
    for patterns in (pipeline.TEXT_ENCODER_FILES, pipeline.TOKENIZER_FILES):
        assert 'Wan2.1-T2V-1.3B' in checkpoint.find_file(tmp_path, patterns, 'umT5').parts
