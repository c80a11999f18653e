# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Texture of made-up regions: in holes alone, fine alone, learned beside a discriminator of holes alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_clips import views_like
from test_pipeline import condition, stills
from test_training import LOSS, TINY, make_clip
from torch.nn.functional import avg_pool2d

from inspatio_ros.config import as_trained, to_dict
from inspatio_ros.errors import ConfigurationError
from inspatio_ros.evaluation.ablation import twin
from inspatio_ros.generators import open_generator
from inspatio_ros.geometry import PinholeCamera
from inspatio_ros.star.pipeline import StarPipeline
from inspatio_ros.star.presets import TINY_GUIDED
from inspatio_ros.star.texture import COARSE, STRIDE, Texture
from inspatio_ros.training.data import ClipFolder, save_clip, unit
from inspatio_ros.training.discriminator import FRAMES_SEEN, Discriminator, in_holes
from inspatio_ros.training.distributed import ScaledTrainer
from inspatio_ros.training.networks import Networks
from inspatio_ros.training.texture import TextureStage, _variation_apart
from inspatio_ros.training.trainer import TrainerConfig

TEXTURED = replace(TINY, positions='reprojected', autoencoder=replace(TINY.autoencoder, texture_width=6))
SETTINGS = TrainerConfig(steps=50, batch_size=2, learning_rate=3e-3, warmup_steps=1, save_every=1000)
CONFIG = replace(LOSS, rolled_out=3)
PIPELINE = replace(TINY_GUIDED, width=48, height=32, positions='reprojected',
                   autoencoder=replace(TINY_GUIDED.autoencoder, texture_width=6))


def lively(seed=0):
    """A network that is not at its start, where it adds nothing."""
    net = Texture(3, 6)
    torch.nn.init.normal_(net.out.weight, std=0.3, generator=torch.Generator().manual_seed(seed))
    return net


def pictures(seed=0, size=32):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.ones(2, 1, size, size)
    mask[..., size // 2:] = 0
    return torch.rand(2, 3, size, size, generator=generator), mask, torch.randn(2, 1, size, size, generator=generator)


@pytest.fixture(scope='module')
def clips(tmp_path_factory):
    """Clips with a grain that nothing predicts."""
    folder = tmp_path_factory.mktemp('clips')
    for seed in range(4):
        clip = make_clip(seed)
        grain = torch.randint(-40, 40, clip.truth.shape, generator=torch.Generator().manual_seed(seed))
        truth = (clip.truth.int() + grain).clamp(0, 255).to(torch.uint8)
        save_clip(folder / f'clip_{seed:07d}.safetensors', replace(clip, truth=truth), {})
    return ClipFolder(folder)


def stage(clips, config=CONFIG):
    return TextureStage(Networks(TEXTURED), clips, clips, config)


def smoothed(clip):
    """Give a generated clip whose picture is what a blurred truth is."""
    image = avg_pool2d(unit(clip.truth), 9, 1, 4, count_include_pad=False)
    error = ((image - unit(clip.truth)).square() * (1 - clip.mask.float())).sum() / (1 - clip.mask.float()).sum() / 3
    return replace(clip, image=image, square=float(error))


# The network


def test_untrained_it_adds_nothing_and_the_networks_beside_it_are_those_without_it():
    image, mask, grain = pictures()
    assert torch.equal(Texture(3, 6)(image, mask, grain), image)
    with_it, without = Networks(TEXTURED), Networks(replace(TINY, positions='reprojected'))
    own = with_it.autoencoder.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in without.autoencoder.state_dict().items())
    assert all(torch.equal(value, with_it.transformer.state_dict()[name])
               for name, value in without.transformer.state_dict().items())


@torch.no_grad()
def test_it_changes_holes_alone_and_follows_the_noise():
    image, mask, grain = pictures()
    net = lively()
    made, other = net(image, mask, grain), net(image, mask, -grain)
    known = mask.expand_as(image) > 0
    assert torch.equal(made[known], image[known])
    assert float((made - image)[~known].abs().mean()) > 1e-3 and float((made - other)[~known].abs().mean()) > 1e-3


@torch.no_grad()
def test_what_it_adds_is_fine():
    image, _, grain = pictures(size=96)
    added = lively()(image, torch.zeros_like(grain), grain) - image
    inner = added[..., 24:-24, 24:-24]
    assert float(avg_pool2d(inner, COARSE * STRIDE).abs().mean()) < 0.1 * float(inner.abs().mean())


def test_texture_without_a_place_for_it_is_refused():
    with pytest.raises(ConfigurationError, match='positions = reprojected'):
        replace(TEXTURED, positions='grid')
    with pytest.raises(ConfigurationError, match='guided = true'):
        Networks(replace(TEXTURED, autoencoder=replace(TEXTURED.autoencoder, guided=False, mend_width=0)))
    with pytest.raises(ConfigurationError, match='texture_width is 0'):
        TextureStage(Networks(TINY), None, None, CONFIG)


# In a pipeline


def blocks(pipe, seed=0, count=2):
    """Make blocks of a camera that moves to the right; gives their images and masks."""
    pipe.reset(seed)
    made = []
    for block in range(count):
        given = condition(pipe.frames_in_next_block(), block)
        made.append((pipe.step(given, stills(), (0, 1, 2), views_like(len(given.image), 3))[0], given.mask))
    return made


def textured():
    return twin(StarPipeline.random(PIPELINE), texture=True)


def test_a_pipeline_gives_holes_texture_if_it_is_asked_to():
    pipe, plain = textured(), StarPipeline.random(PIPELINE)
    assert pipe.texture and not plain.texture
    rough, again, other = blocks(pipe), blocks(pipe), blocks(pipe, seed=1)
    smooth = blocks(plain)
    for (image, mask), (same, _), (flat, _) in zip(rough, again, smooth, strict=True):
        known = mask.expand_as(image) > 0
        assert torch.equal(image, same)
        assert torch.equal(image[known], flat[known]) and float((image - flat)[~known].abs().mean()) > 1e-3
    assert not torch.equal(rough[0][0], other[0][0])


def test_a_share_of_the_texture_is_what_a_pipeline_adds():
    flat, whole = StarPipeline.random(PIPELINE), textured()
    half = textured()
    half.autoencoder.config = replace(half.autoencoder.config, texture_scale=0.5)
    (without, _), (all_of_it, _), (part, _) = (blocks(pipe, count=1)[0] for pipe in (flat, whole, half))
    # Where neither is cut off at black or white.
    inside = (all_of_it > 0) & (all_of_it < 1) & (without > 0) & (without < 1)
    assert inside.float().mean() > 0.4
    torch.testing.assert_close((part - without)[inside], 0.5 * (all_of_it - without)[inside], rtol=0, atol=1e-6)
    assert float((all_of_it - without).abs().max()) > 1e-3


def test_a_share_of_texture_is_no_matter_of_training():
    changed = replace(PIPELINE.autoencoder, texture_scale=0.5)
    assert as_trained(replace(PIPELINE, autoencoder=changed)) == as_trained(PIPELINE)
    assert as_trained(changed) == as_trained(PIPELINE.autoencoder)
    assert 'texture_scale' in to_dict(changed)
    with pytest.raises(ConfigurationError, match=r'texture_scale is 1\.2; it is a share of the texture from 0 to 1'):
        replace(changed, texture_scale=1.2)


def test_parts_that_are_decoded_one_after_the_other_are_the_block():
    pipe, parts = textured(), textured()
    (whole, _), = blocks(pipe, count=1)
    given = condition(parts.frames_in_next_block(), 0)
    streamed = list(parts.stream(given, stills(), (0, 1, 2), views_like(len(given.image), 3)))
    assert len(streamed) > 1
    torch.testing.assert_close(torch.cat(streamed), whole)


def test_weights_without_texture_run_as_they_are():
    assert not twin(StarPipeline.random(replace(PIPELINE, autoencoder=TINY_GUIDED.autoencoder)), texture=True).texture


def test_texture_is_refused_where_nothing_can_give_it():
    with pytest.raises(ConfigurationError, match='choose nano'):
        open_generator('render', PinholeCamera(40., 40., 23.5, 15.5, 48, 32), texture=True)


# The discriminator


def test_the_discriminator_sees_whole_windows_of_frames_and_where_they_have_holes():
    net = Discriminator().eval()
    clip, mask = torch.rand(2, 8, 3, 32, 32), torch.ones(2, 8, 1, 32, 32)
    scores = net(clip, mask)
    assert scores.shape == (4, 1, 4, 4)
    changed = clip.clone()
    changed[:, 6:] = 0
    assert torch.equal(net(changed, mask), scores), 'the two frames that fill no window are left out'
    changed[0, 4] = 0
    assert [torch.equal(*pair) for pair in zip(net(changed, mask), scores, strict=True)] == [True, False, True, True]
    assert not torch.equal(net(clip, 0 * mask), scores)


def test_scores_count_by_the_holes_under_them():
    scores = torch.tensor([[1., 2.], [3., 4.]]).expand(1, 1, 2, 2)
    mask = torch.ones(1, 3, 1, 16, 16)
    mask[..., :8, 8:] = 0
    mask[..., 8:, :8] = 0.5
    assert float(in_holes(scores, mask)) == pytest.approx((2 + 0.5 * 3) / 1.5)


# The stage


def test_holes_become_as_rough_as_the_truth_and_everything_else_stays(clips, tmp_path):
    made = stage(clips)
    before = {part: {name: value.clone() for name, value in net.state_dict().items()}
              for part, net in made.networks.modules().items()}
    trainer = ScaledTrainer(made, SETTINGS, tmp_path)
    made.validate()
    # An untrained decoder's pictures are rough; those of a trained one are as smooth as these.
    made._pool = [smoothed(clip) for clip in made._fill_pool()]
    made._held_out = [smoothed(clip) for clip in made._held_out]
    smooth = made.validate()
    figures = [trainer.take_step()[1] for _ in range(SETTINGS.steps)]
    rough = made.validate()
    assert rough['known'] == smooth['known']
    assert rough['sharp'] > 3 * smooth['sharp'] and 0.4 < rough['sharp'] < 2., (smooth, rough)
    assert figures[-1]['variation'] < 0.3 * figures[0]['variation']
    moved = {f'{part}.{name}' for part, net in made.networks.modules().items() for name, value in
             net.state_dict().items() if not torch.equal(value, before[part][name])}
    assert moved and all(name.startswith('autoencoder.texture.') for name in moved), moved


def test_both_kinds_of_picture_show_the_same_where_it_is_known(clips):
    made = stage(clips)
    seen = []
    made.discriminator.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    generator = torch.Generator().manual_seed(0)
    made.backward(2, generator, generator, 0)
    _, _, mask, *_ = made._windows(2, FRAMES_SEEN, torch.Generator().manual_seed(0))
    known = mask.expand_as(seen[0]) > 0
    assert 0 < float(known.float().mean()) < 1
    assert torch.equal(seen[0][known], seen[1][known]) and not torch.equal(seen[0], seen[1])


def test_it_aims_at_a_share_of_the_roughness_of_the_truth():
    truth, mask = torch.rand(1, 3, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.zeros(1, 3, 1, 16, 16)
    rougher, before = 0.5 + 1.5**0.5 * (truth - 0.5), torch.zeros(1)
    apart = {share: float(_variation_apart(rougher, truth, mask, before, share)) for share in (1., 1.5)}
    assert apart[1.5] < 1e-6 * apart[1.]


def test_likeness_pulls_at_texture_alone(clips):
    found = {}
    for weight in (0., 1000.):
        made = stage(clips, replace(CONFIG, texture_likeness=weight))
        generator = torch.Generator().manual_seed(0)
        _, figures = made.backward(2, generator, generator, 0)
        assert ('unlike' in figures) == (weight > 0) and figures.get('unlike', 1.) > 0
        moved = [name for name, value in made.networks.autoencoder.named_parameters() if value.grad is not None]
        assert moved and all(name.startswith('texture.') for name in moved)
        found[weight] = made.texture.out.weight.grad
    assert not torch.allclose(found[0.], found[1000.], rtol=1e-3)


def test_the_discriminator_starts_the_same_whatever_was_drawn_before(clips):
    first = stage(clips).discriminator.state_dict()
    torch.rand(7)
    again = stage(clips).discriminator.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.items())


def test_a_run_that_was_cut_off_keeps_its_discriminator(clips, tmp_path):
    def trainer():
        return ScaledTrainer(stage(clips), SETTINGS, tmp_path)

    first = trainer()
    for _ in range(2):
        first.take_step()
    first.save()
    wanted = first.take_step()[1]
    again = trainer()
    again.resume()
    assert again.step == 2 and again.take_step()[1] == pytest.approx(wanted, rel=1e-4)
